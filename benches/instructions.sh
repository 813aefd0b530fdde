#!/usr/bin/env bash
# How many instructions one encoding of a stripe with blocks of 64 KiB takes, by level, as callgrind counts them: a figure
# that another load on the machine does not change. callgrind knows AVX2 and neither AVX-512 nor GFNI.
#
#     benches/instructions.sh CODEC_BENCH [ENGINE]
#
# CODEC_BENCH is what `cargo bench --bench codec --no-run` names; the engine is avx2, ssse3 or portable.
set -euo pipefail
bench=${1:?what "cargo bench --bench codec --no-run" names} engine=${2:-avx2}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Instructions of the whole process that encodes so many times.
count() {
    valgrind --tool=callgrind --callgrind-out-file="$work/out" "$bench" --encode-only "$engine" "$1" "$2" 2>"$work/said" ||
        { cat "$work/said" >&2; exit 1; }
    sed -n 's/^summary: \([0-9]*\).*/\1/p' "$work/out"
}

for level in minimal:2 personal:3 federation:5 paranoid:7; do
    name=${level%:*} data_bytes=$((${level#*:} * 65536))
    # What is not encoding is in both.
    once=$(count "$name" 1)
    more=$(count "$name" 11)
    instructions=$(((more - once) / 10))
    printf '%-10s %9d instructions, %s a byte of data\n' "$name" "$instructions" \
        "$(python3 -c "print(f'{$instructions / $data_bytes:.3f}')")"
done
