# The contributor's door: `just` lists what there is.

_list:
    @just --list --unsorted

# Everything a change must pass: formatting, lints, tests, documentation
check:
    cargo fmt --check
    cargo clippy --all-targets --locked -- -D warnings
    cargo test --locked
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked

# The tests, or those whose names contain a word
test *words:
    cargo test --locked {{words}}

# Measure encoding, reconstruction and hashing
bench *words:
    cargo bench --locked {{words}}

# Measure whole commands beside cp and b3sum: `--levels 3/5 --pairs 15`
bench-whole *words:
    cargo build --release --locked
    benches/whole.py {{words}}

# See it work: a file in five shards, two of them gone, and back again
demo:
    #!/usr/bin/env bash
    set -euo pipefail
    cargo build --release --locked
    shard=$PWD/target/release/shard
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cd "$work"
    export SHARD_STORE=$work/store
    head -c 20000000 /dev/urandom >film.mkv
    set -x
    "$shard" put film.mkv --level personal
    "$shard" show film.mkv
    find "$SHARD_STORE" -name '*.shard' | head -n 2 | xargs rm
    "$shard" verify || test $? -eq 3
    "$shard" repair
    "$shard" verify
    "$shard" recover film.mkv -o back.mkv
    cmp film.mkv back.mkv

# The unsafe code of the codec under AddressSanitizer (nightly). SQLite's one file of C defines a table twice, which is no harm
sanitize:
    ASAN_OPTIONS=detect_odr_violation=0 RUSTFLAGS=-Zsanitizer=address cargo +nightly test --locked --target {{arch()}}-unknown-linux-gnu --target-dir target/sanitize --lib codec

# Which lines the tests reach, by folder and file; fails below SHARD_COVER_LINES percent (needs cargo-llvm-cov)
cover *words:
    .ci/cover {{words}}

# Which small changes of the code no test notices: `just mutants codec`, `just mutants ops/gc` (needs cargo-mutants)
mutants *words:
    .ci/mutants {{words}}

# Make the golden shards anew with the independent generator, and compare
fixtures:
    python3 fixtures/generate.py
    git diff --exit-code -- fixtures

# The harnesses that CI runs as samples, whole, or those whose names contain a word: hours; says commit, seed and counts
soak *words:
    .ci/soak {{words}}

# Fuzz every parser of what strangers send, or those named (nightly and cargo-fuzz): SHARD_FUZZ_SECONDS for each
fuzz *targets:
    .ci/fuzz {{targets}}
