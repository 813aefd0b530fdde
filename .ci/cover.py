#!/usr/bin/env python3
"""Prints what an lcov file of `cargo llvm-cov` says of the code that is shipped: by folder, in all, and the files least
reached. Test modules of src/ are not counted: their lines are reached by being tests.

Usage: cover.py LCOV LEAST-PERCENT FILE-PERCENT; ends with 1 where less than the least percent of all lines is reached.
"""

import os
import re
import sys

TEST_MODULE = re.compile(r"#\[cfg\((?:all\()?test\b.*\)\]\n(?:#\[.*\]\n)*(?:pub(?:\(.*?\))? )?mod (\w+)( \{)?")


def test_lines(path, text):
    """The lines of the test modules that stand in a file, and the files of those that do not."""
    inside, files = set(), set()
    for found in TEST_MODULE.finditer(text):
        if found[2]:
            # rustfmt ends a module of the file with a brace in the first column.
            end = text.find("\n}", found.end())
            inside.update(range(text.count("\n", 0, found.start()) + 1, text.count("\n", 0, end) + 3))
        else:
            folder, name = os.path.split(path)
            base = folder if name in ("mod.rs", "lib.rs", "main.rs") else os.path.join(folder, name[: -len(".rs")])
            files.add(os.path.join(base, found[1]))
    return inside, files


def counted(lcov, root):
    """For each file of src/ that is shipped the lines that are reached, and all that could be."""
    reached, current = {}, None
    with open(lcov, encoding="utf-8") as file:
        for line in file:
            if line.startswith("SF:"):
                path = line[3:].strip().removeprefix(root)
                current = reached.setdefault(path, {}) if path.startswith("src/") else None
            elif line.startswith("DA:") and current is not None:
                number, count = line[3:].split(",")[:2]
                current[int(number)] = current.get(int(number), 0) + int(count)
    modules = set()
    for folder, _, names in os.walk("src"):
        for path in (os.path.join(folder, name) for name in names if name.endswith(".rs")):
            with open(path, encoding="utf-8") as file:
                inside, files = test_lines(path, file.read())
            modules |= files
            for number in inside:
                reached.get(path, {}).pop(number, None)
    is_test = lambda path: any(path == module + ".rs" or path.startswith(module + "/") for module in modules)
    return {path: lines for path, lines in reached.items() if lines and not is_test(path)}


def folder_of(path):
    """`src/ops/gc/mod.rs` is of `src/ops/gc`; a file at the top is its own."""
    parts = path.split("/")
    return "/".join(parts[: min(3, len(parts) - 1)]) if len(parts) > 2 else path


def percent(reached, count):
    return 100.0 * reached / count if count else 100.0


def runs(numbers):
    """`3-5 9` for 3, 4, 5 and 9."""
    found = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def main():
    lcov, least, file_least = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    files = counted(lcov, os.getcwd() + "/")
    if not files:
        sys.exit("nothing of src/ was measured")
    missed = {path: [number for number, count in lines.items() if not count] for path, lines in files.items()}
    sums = {path: (len(lines) - len(missed[path]), len(lines)) for path, lines in files.items()}
    folders = {}
    for path, (reached, count) in sums.items():
        before = folders.get(folder_of(path), (0, 0))
        folders[folder_of(path)] = (before[0] + reached, before[1] + count)
    print(f"{'':32}{'lines':>8}{'not':>7}{'percent':>9}")
    for name, (reached, count) in sorted(folders.items()):
        print(f"{name:32}{count:8}{count - reached:7}{percent(reached, count):9.2f}")
    reached, count = sum(r for r, _ in sums.values()), sum(c for _, c in sums.values())
    print(f"{'in all':32}{count:8}{count - reached:7}{percent(reached, count):9.2f}")
    few = sorted((percent(*of), path) for path, of in sums.items() if percent(*of) < file_least)
    print(f"--- files below {file_least:g} %: {len(few)}")
    for share, path in few:
        print(f"{share:7.2f}  {path}, not reached: {runs(missed[path])}")
    if percent(reached, count) < least:
        sys.exit(f"{percent(reached, count):.2f} % of the lines are reached, {least:g} % should be")


main()
