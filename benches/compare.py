#!/usr/bin/env python3
"""Measures the codec's engines beside ISA-L, in turns, and prints medians and ratios as Markdown.

    benches/compare.py CODEC_BENCH ISA_L [ROUNDS]

CODEC_BENCH is what `cargo bench --bench codec --no-run` names, ISA_L is made of benches/isa_l.c.
A ratio is the median over the rounds of the two rates of one round, so that slow drift of the machine cancels.
"""
import collections
import json
import os
import statistics
import subprocess
import sys

OPERATIONS = ("encode", "reconstruct")


def lines(*command):
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in output.splitlines()]


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    # A path, so that it is not looked for elsewhere.
    bench, isa_l = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    rounds = int(sys.argv[3]) if len(sys.argv) == 4 else 3
    rates = collections.defaultdict(lambda: collections.defaultdict(list))
    for _ in range(rounds):
        figures = [dict(line, engine="isa-l") for line in lines(isa_l)]
        for operation in OPERATIONS:
            figures += lines(bench, "--json", operation)
        for figure in figures:
            rates[figure["id"]][figure["engine"]].append(figure["bytes"] / figure["seconds"] / 1e9)
    engines = list(dict.fromkeys(engine for by_engine in rates.values() for engine in by_engine))
    print("GB/s of original data, and the ratio to isa-l:\n")
    print("| | " + " | ".join(engines) + " |\n|---|" + "---:|" * len(engines))
    for name, by_engine in rates.items():
        cells = []
        for engine in engines:
            ratio = statistics.median(own / peer for own, peer in zip(by_engine[engine], by_engine["isa-l"]))
            median = statistics.median(by_engine[engine])
            cells.append(f"{median:.2f}" if engine == "isa-l" else f"{median:.2f} ({ratio:.2f}×)")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
