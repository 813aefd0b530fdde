#!/usr/bin/env python3
"""What the benches of one run came to beside each other: a table of medians, each with its ratio to a chosen one.

    cargo bench --bench vault && benches/ratios.py vault rusqlite redb

Every group of benches that has the first name and another is a row; a ratio above 1 means slower than the first.
"""

import json
import os
import pathlib
import sys

SCALES = [(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1, "ns")]


def target():
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "criterion"


def medians(group):
    """The median of each bench of a group, in nanoseconds, by the name that it was given."""
    found = {}
    for file in group.glob("*/new/estimates.json"):
        name = json.loads(file.with_name("benchmark.json").read_text())["function_id"]
        found[name] = json.loads(file.read_text())["median"]["point_estimate"]
    return found


def words(nanoseconds):
    scale, unit = next((pair for pair in SCALES if nanoseconds >= pair[0]), SCALES[-1])
    return f"{nanoseconds / scale:.3g} {unit}"


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    first, others = sys.argv[1], sys.argv[2:]
    rows = []
    for group in sorted(path for path in target().glob("*") if path.is_dir()):
        times = medians(group)
        if first in times and any(other in times for other in others):
            cells = [words(times[first])]
            for other in others:
                ratio = f"{words(times[other])} ({times[other] / times[first]:.2f}×)" if other in times else ""
                cells.append(ratio)
            rows.append([group.name, *cells])
    if not rows:
        sys.exit(f"{target()} has nothing to compare: run `cargo bench` first")
    print("| | " + " | ".join([first, *others]) + " |")
    print("|---|" + "---:|" * (1 + len(others)))
    for row in rows:
        print("| " + " | ".join(row) + " |")


main()
