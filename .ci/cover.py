#!/usr/bin/env python3
"""Prints what `cargo llvm-cov --json --summary-only` measured: by folder, in all, and the files least reached.

Usage: cover.py SUMMARY LEAST-PERCENT FILE-PERCENT; ends with 1 where less than the least percent of all lines is reached.
"""

import json
import os
import sys


def folder_of(path):
    """`src/ops/gc/mod.rs` is of `src/ops/gc`; a file at the top is its own."""
    parts = path.split("/")
    return "/".join(parts[: min(3, len(parts) - 1)]) if len(parts) > 2 else path


def percent(reached, count):
    return 100.0 * reached / count if count else 100.0


def main():
    summary, least, file_least = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    root = os.getcwd() + "/"
    with open(summary, encoding="utf-8") as file:
        files = json.load(file)["data"][0]["files"]
    lines = {f["filename"].removeprefix(root): f["summary"]["lines"] for f in files}
    lines = {path: (of["covered"], of["count"]) for path, of in lines.items() if path.startswith("src/")}
    if not lines:
        sys.exit("nothing of src/ was measured")
    folders = {}
    for path, (reached, count) in lines.items():
        before = folders.get(folder_of(path), (0, 0))
        folders[folder_of(path)] = (before[0] + reached, before[1] + count)
    print(f"{'':32}{'lines':>8}{'not':>7}{'percent':>9}")
    for name, (reached, count) in sorted(folders.items()):
        print(f"{name:32}{count:8}{count - reached:7}{percent(reached, count):9.2f}")
    reached, count = sum(r for r, _ in lines.values()), sum(c for _, c in lines.values())
    print(f"{'in all':32}{count:8}{count - reached:7}{percent(reached, count):9.2f}")
    few = [(percent(*of), path, of) for path, of in lines.items() if percent(*of) < file_least]
    print(f"--- files below {file_least:g} %: {len(few)}")
    for share, path, (file_reached, file_count) in sorted(few):
        print(f"{share:7.2f}  {path}: {file_count - file_reached} of {file_count} lines not reached")
    if percent(reached, count) < least:
        sys.exit(f"{percent(reached, count):.2f} % of the lines are reached, {least:g} % should be")


main()
