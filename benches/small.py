#!/usr/bin/env python3
"""Measures a folder of many small files beside `cp -r` and restic, and prints Markdown.

    benches/small.py [--shard target/release/shard] [--files N] [--bytes N] [--rounds N] [--dir FOLDER] [--restic PATH]
                     [--no-fsync LIBRARY]

Nothing is removed before the end, and each round has folders of its own: ext4 gives the inode of a removed file to nobody
for minutes, and passing over a hundred thousand of them takes longer than to write the files.
"""
import argparse
import os
import random
import statistics
import subprocess
import sys

from whole import remove, run, settle


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shard", default="target/release/shard")
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--bytes", type=int, default=4096, help="length of each file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", default="small-bench", help="a folder on the disk to be measured; it is emptied")
    parser.add_argument("--restic", default="", help="path of restic")
    parser.add_argument("--no-fsync", default="", help="a library that makes syncs do nothing: no_fsync.c")
    return parser.parse_args()


def make_files(folder, count, length):
    """The same files in every run, so that what is written follows from the options."""
    os.makedirs(folder)
    chance = random.Random(1)
    for number in range(count):
        with open(os.path.join(folder, f"{number:07}.bin"), "wb") as file:
            file.write(chance.randbytes(length))


def rows(options, folder, source):
    """What is run in a round, in this order: its name, its command, and what its environment has more."""
    store, back = os.path.join(folder, "store"), lambda name: os.path.join(folder, name)
    ours = lambda *words: [options.shard, "-q", "--store", store, *words]
    yield "`cp -r`", ["cp", "-r", source, back("copy")], {}
    yield "`cp -r`, then `sync`", ["sh", "-ec", 'cp -r "$1" "$2"; sync', "sh", source, back("synced")], {}
    yield "`put` at 3/5, sealed, synced", ours("put", source, "--level", "personal"), {}
    yield "`put` again, nothing changed", ours("put", source, "--level", "personal"), {}
    yield "`list`", ours("list"), {}
    yield "`status`", ours("status"), {}
    yield "`verify`", ours("verify"), {}
    yield "`recover --all`, synced", ours("recover", "--all", "-o", back("recovered")), {}
    if options.no_fsync:
        without = {"LD_PRELOAD": options.no_fsync}
        yield "`recover --all`, no sync", ours("recover", "--all", "-o", back("unsynced")), without
    if options.restic:
        restic = {"RESTIC_PASSWORD": "x", "RESTIC_REPOSITORY": back("restic"), "RESTIC_CACHE_DIR": back("cache")}
        subprocess.run([options.restic, "init"], env=os.environ | restic, stdout=subprocess.DEVNULL, check=True)
        yield "`restic backup`", [options.restic, "backup", source], restic
        yield "`restic backup` again", [options.restic, "backup", source], restic
        yield "`restic check --read-data`", [options.restic, "check", "--read-data"], restic
        yield "`restic restore`", [options.restic, "restore", "latest", "--target", back("restored")], restic


def same(source, folder):
    """Whether what was recovered is what was put."""
    for name in ("recovered", "unsynced"):
        top = os.path.join(folder, name)
        if os.path.isdir(top):
            inner = os.path.join(top, os.path.basename(source))
            differences = subprocess.run(["diff", "-rq", source, inner if os.path.isdir(inner) else top])
            if differences.returncode != 0:
                sys.exit(f"{top} is not what was put")


def main():
    options = arguments()
    for name in ("shard", "restic", "no_fsync"):
        given = getattr(options, name)
        setattr(options, name, os.path.abspath(given) if os.sep in given else given)
    options.dir = os.path.abspath(options.dir)
    remove(options.dir)
    source = os.path.join(options.dir, "files")
    make_files(source, options.files, options.bytes)
    measured = {}
    for number in range(options.rounds):
        folder = os.path.join(options.dir, f"round-{number}")
        home = os.path.join(folder, "home")
        os.makedirs(home)
        for name, command, more in rows(options, folder, source):
            settle()
            seconds, resident = run(command, env=os.environ | {"HOME": home} | more)
            measured.setdefault(name, []).append((seconds, resident))
            print(f"round {number}: {name} {seconds:.1f} s", file=sys.stderr, flush=True)
        same(source, folder)
    print(f"{options.files} files of {options.bytes} bytes, {options.rounds} rounds\n")
    print("| | seconds, median | all | peak MiB |\n|---|---:|---|---:|")
    for name, figures in measured.items():
        seconds = [second for second, _ in figures]
        each = ", ".join(f"{second:.1f}" for second in seconds)
        print(f"| {name} | {statistics.median(seconds):.1f} | {each} | {max(peak for _, peak in figures):.0f} |")
    remove(options.dir)


if __name__ == "__main__":
    main()
