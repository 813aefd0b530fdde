#!/usr/bin/env python3
"""Measures whole commands beside public tools that do the part of the work which cannot be left out, and prints Markdown.

    benches/whole.py --shard target/release/shard [--size MIB] [--pairs N] [--levels 2/3,3/5,5/9,7/15] [--rows WORD,...]
                     [--dir FOLDER] [--b3sum PATH] [--zfec PATH] [--par2 PATH] [--no-fsync LIBRARY] [--processor]

The two of a pair run one after the other, and which of them is first changes from pair to pair. A row's ratio is the
median of the ratios of its pairs, with the interval that has the true median with at least 95 %, and the peak of resident
memory is the largest of all runs. With --processor the seconds are those of the processor, of which other work on the
machine takes less away than of a clock's. The file is random and in the page cache; so are the shards.
"""
import argparse
import glob
import math
import os
import shutil
import statistics
import subprocess
import sys
import time

MIB = 1 << 20
# What `recover` and `verify` exit with when there is damage, and all can be had.
DEGRADED = 3


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shard", default="target/release/shard")
    parser.add_argument("--size", type=int, default=1024, metavar="MIB", help="length of the file")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--levels", default="2/3,3/5,5/9,7/15")
    parser.add_argument("--rows", default="", help="only rows that have one of these words in their name")
    parser.add_argument("--dir", default="whole-bench", help="a folder on the disk to be measured; it is emptied")
    parser.add_argument("--b3sum", default="b3sum")
    parser.add_argument("--no-fsync", default="", help="a library that makes syncs do nothing: no_fsync.c")
    parser.add_argument("--zfec", default="", help="path of zfec; zunfec is beside it")
    parser.add_argument("--par2", default="", help="path of par2cmdline-turbo")
    parser.add_argument("--processor", action="store_true", help="seconds of the processor, not of a clock")
    return parser.parse_args()


by_processor = False


def run(command, allowed=(0,), **more):
    """Seconds and peak resident MiB of one command; an exit code that is not allowed ends everything."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **more)
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = usage.ru_utime + usage.ru_stime if by_processor else time.perf_counter() - begun
    if process.returncode not in allowed:
        sys.exit(f"{command} exited with {process.returncode}:\n{said.decode()}")
    return seconds, usage.ru_maxrss / 1024


def shell(script, *words):
    return run(["sh", "-ec", script, "sh", *words])


def remove(*paths):
    for path in paths:
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.remove(path)


def settle():
    """What was written or removed before must not be written while something is measured."""
    os.sync()


def interval(ratios):
    """Order statistics that enclose the true median with at least 95 %, whatever the distribution; the largest and the
    smallest where there are too few."""
    count, lower, outside = len(ratios), 0, 0.0
    while lower < count // 2:
        outside += 2 * math.comb(count, lower) / 2**count
        if outside > 0.05:
            break
        lower += 1
    ordered = sorted(ratios)
    at = max(lower - 1, 0)
    return ordered[at], ordered[count - 1 - at]


class Row:
    """One of ours beside one of theirs: each a function that does all of it and gives seconds and MiB."""

    def __init__(self, name, peer_name, ours, theirs):
        self.name, self.peer_name, self.ours, self.theirs = name, peer_name, ours, theirs

    def measure(self, pairs):
        own, peer, peak = [], [], 0.0
        for number in range(pairs):
            order = (True, False) if number % 2 == 0 else (False, True)
            for is_own in order:
                seconds, resident = (self.ours if is_own else self.theirs)()
                (own if is_own else peer).append(seconds)
                peak = max(peak, resident) if is_own else peak
        ratios = [a / b for a, b in zip(own, peer)]
        low, high = interval(ratios)
        return (f"| {self.name} | {self.peer_name} | {statistics.median(own):.2f} | {statistics.median(peer):.2f} "
                f"| {statistics.median(ratios):.2f}× | {low:.2f}–{high:.2f} | {peak:.1f} |")


class Level:
    """One level's store, with as many places as it has shards, and its rows."""

    def __init__(self, options, data, total):
        self.options, self.data, self.total = options, data, total
        self.folder = os.path.join(options.dir, f"{data}-{total}")
        self.file = os.path.join(options.dir, "file")
        self.store = os.path.join(self.folder, "store")
        self.number = 0
        os.makedirs(self.folder)
        self.shard("init", "--bare")
        for place in range(total):
            self.shard("backend", "add", f"place-{place}", os.path.join(self.folder, f"places/{place}"), "--zone", f"z{place}")
        self.shard("put", self.file, "--name", "kept", "--shards", f"{data}/{total}")
        self.has_open = False
        self.shards = sorted(glob.glob(os.path.join(self.folder, "places/*/objects/*/*.shard")), key=shard_index)
        if len(self.shards) != total:
            sys.exit(f"{len(self.shards)} shards of one object, not {total}: the size is over what one object takes")

    def shard(self, *words, allowed=(0,), synced=True):
        without = {} if synced else {"LD_PRELOAD": self.options.no_fsync}
        return run([self.options.shard, "-q", "--store", self.store, *words], allowed, env=os.environ | without)

    # -- ours

    def put(self, *flags, synced=True):
        self.number += 1
        name = f"run-{self.number}"
        settle()
        words = ("put", self.file, "--name", name, "--shards", f"{self.data}/{self.total}", *flags)
        measured = self.shard(*words, synced=synced)
        self.shard("remove", name)
        return measured

    def verify(self):
        settle()
        return self.shard("verify", "kept")

    def recover_open(self):
        """The same file, stored with nothing sealed; that is done once."""
        if not self.has_open:
            self.shard("put", self.file, "--name", "open", "--shards", f"{self.data}/{self.total}", "--seal", "none")
            self.has_open = True
        return self.recover(name="open")

    def recover(self, allowed=(0,), synced=True, name="kept"):
        output = os.path.join(self.folder, "out")
        remove(output)
        settle()
        measured = self.shard("recover", name, "-o", output, allowed=allowed, synced=synced)
        subprocess.run(["cmp", output, self.file], check=True)
        remove(output)
        return measured

    def recover_without(self, synced=True):
        """As many data shards are missing as may be."""
        lost = self.shards[: self.lost()]
        for path in lost:
            os.rename(path, path + ".away")
        measured = self.recover((DEGRADED,), synced)
        for path in lost:
            os.rename(path + ".away", path)
        return measured

    # -- theirs

    def copy_shards(self, synced=True):
        """The same number of files of the same length, durable unless that is not wanted."""
        copies = os.path.join(self.folder, "copies")
        remove(copies)
        os.makedirs(copies)
        settle()
        sync = '; sync "$to"/* "$to"' if synced else ""
        measured = shell(f'to=$1; shift; cp "$@" "$to"{sync}', copies, *self.shards)
        remove(copies)
        return measured

    def hash_shards(self, *flags):
        settle()
        return run([self.options.b3sum, *flags, *self.shards])

    def copy_file(self):
        copy = os.path.join(self.folder, "copy")
        remove(copy)
        settle()
        measured = shell('cp "$1" "$2"; sync "$2" "$3"', self.file, copy, self.folder)
        remove(copy)
        return measured

    def copy_file_unsynced(self):
        copy = os.path.join(self.folder, "copy")
        remove(copy)
        settle()
        measured = shell('cp "$1" "$2"', self.file, copy)
        remove(copy)
        return measured

    def zfec(self):
        """Encodes and nothing else: no seal, no hash, no fsync."""
        folder = os.path.join(self.folder, "zfec")
        remove(folder)
        os.makedirs(folder)
        settle()
        measured = run(self.zfec_into(folder))
        remove(folder)
        return measured

    def zfec_into(self, folder):
        """A prefix of their own keeps the shares in that folder: else they lie beside a file with an absolute path."""
        counts = ["-k", str(self.data), "-m", str(self.total)]
        return [self.options.zfec, "-q", "-f", *counts, "-d", folder, "-p", "share", self.file]

    def par2(self):
        """The file cut in k files, a block each; n - k blocks of parity, in as many files."""
        folder = os.path.join(self.folder, "par2")
        remove(folder)
        os.makedirs(folder)
        subprocess.run(["split", "-n", str(self.data), self.file, os.path.join(folder, "part.")], check=True)
        settle()
        counts = [f"-b{self.data}", f"-c{self.total - self.data}", f"-n{self.total - self.data}"]
        parts = sorted(glob.glob(os.path.join(folder, "part.*")))
        measured = run([self.options.par2, "create", "-q", *counts, os.path.join(folder, "set"), *parts])
        remove(folder)
        return measured

    def lost(self):
        """As many pieces as may be missing, beginning with those of data."""
        return min(self.data, self.total - self.data)

    def zunfec(self):
        """Decodes from the last k shares, which are parity as far as there is any; the shares are made once."""
        folder = os.path.join(self.folder, "shares")
        if not os.path.isdir(folder):
            os.makedirs(folder)
            run(self.zfec_into(folder))
        shares = sorted(glob.glob(os.path.join(folder, "*.fec")))[-self.data :]
        output = os.path.join(self.folder, "decoded")
        remove(output)
        settle()
        zunfec = os.path.join(os.path.dirname(self.options.zfec), "zunfec")
        measured = run([zunfec, "-f", "-o", output, *shares])
        subprocess.run(["cmp", output, self.file], check=True)
        remove(output)
        return measured

    def par2_set(self):
        """Parts and parity files, made once: the parts, and the file to name to par2."""
        folder = os.path.join(self.folder, "set")
        parts = lambda: sorted(glob.glob(os.path.join(folder, "part.??")))
        index = os.path.join(folder, "set.par2")
        if not os.path.isdir(folder):
            os.makedirs(folder)
            subprocess.run(["split", "-n", str(self.data), self.file, os.path.join(folder, "part.")], check=True)
            counts = [f"-b{self.data}", f"-c{self.total - self.data}", f"-n{self.total - self.data}"]
            run([self.options.par2, "create", "-q", *counts, index, *parts()])
        return parts(), index

    def par2_verify(self):
        _, index = self.par2_set()
        settle()
        return run([self.options.par2, "verify", "-q", index])

    def par2_repair(self):
        """Makes the missing parts anew, and leaves the set as it was."""
        parts, index = self.par2_set()
        remove(*parts[: self.lost()])
        settle()
        measured = run([self.options.par2, "repair", "-q", index])
        with subprocess.Popen(["cat", *parts], stdout=subprocess.PIPE) as whole:
            subprocess.run(["cmp", "-", self.file], stdin=whole.stdout, check=True)
        return measured

    def rows(self):
        name = lambda what: f"{self.data}/{self.total} {what}"
        lost = self.lost()
        of_shards = f"cp of {self.total} shard files + sync"
        yield Row(name("put"), of_shards, lambda: self.put("--check", "parity"), self.copy_shards)
        yield Row(name("put --check full"), of_shards, lambda: self.put("--check", "full"), self.copy_shards)
        yield Row(name("verify"), "b3sum --no-mmap of the shards", self.verify, lambda: self.hash_shards("--no-mmap"))
        yield Row(name("verify, all cores"), "b3sum of the shards (mmap)", self.verify, self.hash_shards)
        yield Row(name("recover"), "cp of the file + sync", self.recover, self.copy_file)
        yield Row(name(f"recover, {lost} data shards missing"), "cp of the file + sync", self.recover_without, self.copy_file)
        yield Row(name("recover, sync on our side alone"), "cp of the file", self.recover, self.copy_file_unsynced)
        unsealed = lambda: self.put("--check", "parity", "--seal", "none")
        yield Row(name("put, sealed or not"), "put --seal none", lambda: self.put("--check", "parity"), unsealed)
        yield Row(name("recover, sealed or not"), "recover of what is not sealed", self.recover, self.recover_open)
        if self.options.no_fsync:
            unsynced = lambda: self.put("--check", "parity", synced=False)
            yield Row(name("put, no sync"), f"cp of {self.total} shard files", unsynced, lambda: self.copy_shards(False))
            recover = lambda: self.recover(synced=False)
            yield Row(name("recover, no sync"), "cp of the file", recover, self.copy_file_unsynced)
            without = lambda: self.recover_without(synced=False)
            yield Row(name(f"recover, {lost} data shards missing, no sync"), "cp of the file", without, self.copy_file_unsynced)
        if self.options.zfec:
            yield Row(name("put beside zfec"), "zfec", lambda: self.put("--check", "parity"), self.zfec)
            yield Row(name(f"recover beside zunfec, {lost} missing"), "zunfec", self.recover_without, self.zunfec)
        if self.options.par2:
            yield Row(name("put beside par2"), "par2cmdline-turbo create", lambda: self.put("--check", "parity"), self.par2)
            yield Row(name("verify beside par2"), "par2cmdline-turbo verify", self.verify, self.par2_verify)
            yield Row(name(f"recover beside par2, {lost} missing"), "par2cmdline-turbo repair", self.recover_without, self.par2_repair)


def shard_index(path):
    """`<object>.<index>.shard`"""
    return int(path.rsplit(".", 2)[1])


def make_file(path, mebibytes):
    with open(path, "wb") as file:
        for _ in range(mebibytes):
            file.write(os.urandom(MIB))


def main():
    global by_processor
    options = arguments()
    by_processor = options.processor
    for name in ("shard", "b3sum", "zfec", "par2", "no_fsync"):
        given = getattr(options, name)
        setattr(options, name, os.path.abspath(given) if os.sep in given else given)
    options.dir = os.path.abspath(options.dir)
    remove(options.dir)
    os.makedirs(options.dir)
    make_file(os.path.join(options.dir, "file"), options.size)
    print(f"{options.size} MiB, {options.pairs} pairs\n")
    print("| | beside | seconds | its seconds | ratio | 95 % | peak MiB |\n|---|---|---:|---:|---:|---:|---:|")
    words = [word for word in options.rows.split(",") if word]
    for level in options.levels.split(","):
        data, total = map(int, level.split("/"))
        measured = Level(options, data, total)
        for row in measured.rows():
            if not words or any(word in row.name for word in words):
                print(row.measure(options.pairs), flush=True)
        remove(measured.folder)
    remove(options.dir)


if __name__ == "__main__":
    main()
