#!/usr/bin/env python3
"""Put and recover between two hosts that are far from each other, beside a plain TCP copy over the same link.

Two network namespaces, joined by a program that passes packets on late and loses some of them: kernels without `sch_netem`
need no more than /dev/net/tun. Wants root, `ip`, and a release build of shard. The copy uses the congestion control that `--tcp`
names, or the system's own, which WebSocket uses in any case: what it was is printed. With `--rate` the link is full at so much,
and what does not fit its queue is lost; how much that was is printed, too.

    benches/far.py --rtt 50 --loss 2 --size 32 --tcp cubic
    benches/far.py --rtt 50 --loss 0 --size 32 --rate 4 --queue 25
"""

import argparse
import fcntl
import hashlib
import heapq
import json
import mmap
import os
import random
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
MTU = 1500
NEAR, FAR = "10.213.7.1", "10.213.7.2"


def run(*words, **options):
    return subprocess.run(words, check=True, **options)


def tunnel(name):
    """A network device whose packets come to this program."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


def namespace(space, device, own, other):
    run("ip", "netns", "add", space)
    run("ip", "link", "set", device, "netns", space)
    inside = ("ip", "netns", "exec", space, "ip")
    run(*inside, "link", "set", "lo", "up")
    run(*inside, "addr", "add", own, "peer", other, "dev", device)
    run(*inside, "link", "set", device, "mtu", str(MTU), "up")


class Counts:
    """Packets that came, and those that did not fit the queue, told by the process that passes them on."""

    def __init__(self):
        self.shared = mmap.mmap(-1, 16)

    def add(self, came, full):
        now_came, now_full = self.read()
        self.shared[:] = struct.pack("QQ", now_came + came, now_full + full)

    def read(self):
        return struct.unpack("QQ", self.shared[:])


def pass_on(devices, options, counts):
    """Each packet is late, or lost; the order is kept. Runs until it is killed."""
    delay, loss, rate, queue = options.rtt / 2000, options.loss / 100, options.rate * 1e6, options.queue / 1000
    dice, selector, waiting, number = random.Random(options.seed), selectors.DefaultSelector(), [], 0
    free_at = {device: 0.0 for device in devices}
    for at, device in enumerate(devices):
        selector.register(device, selectors.EVENT_READ, devices[1 - at])
    while True:
        wait = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for key, _ in selector.select(wait):
            came = full = 0
            for _ in range(64):
                try:
                    packet = os.read(key.fd, 2 * MTU)
                except BlockingIOError:
                    break
                came += 1
                if dice.random() < loss:
                    continue
                leaves = now = time.monotonic()
                if rate:
                    leaves = max(now, free_at[key.fd]) + len(packet) / rate
                    if leaves - now > queue + len(packet) / rate:
                        full += 1
                        continue
                    free_at[key.fd] = leaves
                number += 1
                heapq.heappush(waiting, (leaves + delay, number, key.data, packet))
            counts.add(came, full)
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, device, packet = heapq.heappop(waiting)
            try:
                os.write(device, packet)
            except OSError:
                pass  # A queue that is full loses, too.


def in_space(space, *words):
    return ["ip", "netns", "exec", space, *words]


COPY = """
import socket, sys, time
role, host, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
if role == "take":
    listener = socket.create_server((host, 7500)); print("ready", flush=True)
    while True:
        peer, _ = listener.accept()
        left = size
        while left and (piece := peer.recv(1 << 18)): left -= len(piece)
        peer.sendall(b"k"); peer.close()
peer = socket.create_connection((host, 7500))
if sys.argv[4]: peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, sys.argv[4].encode())
begun = time.monotonic()
block, left = bytes(1 << 18), size
while left: piece = block[:left]; peer.sendall(piece); left -= len(piece)
peer.recv(1); print(time.monotonic() - begun)
print(peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\\0").decode())
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shard", default="target/release/shard")
    parser.add_argument("--rtt", type=float, default=50, help="milliseconds there and back")
    parser.add_argument("--loss", type=float, default=2, help="percent of the packets each way")
    parser.add_argument("--rate", type=float, default=0, help="MB/s that the link carries each way; 0 for no limit")
    parser.add_argument("--queue", type=float, default=25, help="milliseconds of its rate that wait before the link")
    parser.add_argument("--tcp", default="", help="congestion control of the copy, such as cubic or bbr")
    parser.add_argument("--size", type=int, default=32, help="MiB of the file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shards", default="1/2")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    shard, total = os.path.abspath(options.shard), options.size << 20
    spaces, processes = [f"shard-near-{os.getpid()}", f"shard-far-{os.getpid()}"], []
    work = tempfile.mkdtemp(prefix="shard-far-")
    passing = None
    try:
        devices = [tunnel("shardtun0"), tunnel("shardtun1")]
        namespace(spaces[0], "shardtun0", NEAR, FAR)
        namespace(spaces[1], "shardtun1", FAR, NEAR)
        counts = Counts()
        passing = os.fork()
        if passing == 0:
            pass_on(devices, options, counts)
        environment = {"PATH": os.environ["PATH"], "HOME": work, "SHARD_STORE": f"{work}/store"}

        def command(space, *words, **more):
            out = run(*in_space(space, shard, *words), env=environment, cwd=work, capture_output=True, **more)
            return out.stdout

        # Two nodes that are far, of which a shard each makes the file.
        addresses = []
        for number in (1, 2):
            node = f"{work}/node-{number}"
            command(spaces[1], "node", "init", "--data", node)
            seed = ["new", "-o", "seed.txt"] if number == 1 else ["add", "seed.txt"]
            command(spaces[1], "node", "seed", "--data", node, *seed)
            words = ["node", "serve", "--json", "--data", node, "--reserve", "0", "--listen", f"{FAR}:{7440 + number}"]
            words += ["--ws-listen", f"{FAR}:{7450 + number}"]
            served = subprocess.Popen(
                in_space(spaces[1], shard, *words), env=environment, cwd=work, stdout=subprocess.PIPE
            )
            processes.append(served)
            json.loads(served.stdout.readline())
            addresses.append((f"node://{FAR}:{7440 + number}", f"node+ws://{FAR}:{7450 + number}"))
        environment["SHARD_SEED_FILE"] = f"{work}/seed.txt"
        copying = subprocess.Popen(
            in_space(spaces[1], sys.executable, "-c", COPY, "take", FAR, str(total)), stdout=subprocess.PIPE
        )
        processes.append(copying)
        copying.stdout.readline()
        with open(f"{work}/file", "wb") as file:
            file.write(os.urandom(total))
        print(f"{options.size} MiB at {options.shards}, {options.rtt:g} ms there and back, {options.loss:g} % lost each way")
        if options.rate:
            print(f"{options.rate:g} MB/s each way, {options.queue:g} ms of it in the queue")

        def timed(work):
            """What it gives, how long it took, and which part of the packets did not fit the queue meanwhile."""
            (came, full), begun = counts.read(), time.monotonic()
            result = work()
            seconds, (came_then, full_then) = time.monotonic() - begun, counts.read()
            return result, seconds, (full_then - full) / max(1, came_then - came)

        for name, which in (("QUIC", 0), ("WebSocket", 1)):
            environment["SHARD_STORE"] = f"{work}/store-{name}"
            command(spaces[0], "init", "--bare")
            for number, address in enumerate(addresses):
                command(spaces[0], "backend", "add", f"far-{number}", address[which], "--zone", f"z{number}")
            for round_number in range(options.rounds):
                sending = in_space(spaces[0], sys.executable, "-c", COPY, "send", FAR, str(total), options.tcp)
                copy, _, copy_lost = timed(lambda: run(*sending, capture_output=True))
                copied, control = copy.stdout.decode().split()
                copied, name_there = float(copied), f"file-{round_number}"
                put_words = ("put", "file", "--name", name_there, "--shards", options.shards)
                _, put, put_lost = timed(lambda: command(spaces[0], *put_words))
                recover_words = ("recover", name_there, "-o", f"back-{name}-{round_number}")
                _, recovered, recover_lost = timed(lambda: command(spaces[0], *recover_words))
                with open(f"{work}/file", "rb") as one, open(f"{work}/back-{name}-{round_number}", "rb") as other:
                    same = hashlib.file_digest(one, "sha256").digest() == hashlib.file_digest(other, "sha256").digest()
                assert same, "other bytes came back"
                rate = lambda seconds: f"{seconds:.1f} s, {total / 1e6 / seconds:.2f} MB/s"
                print(
                    f"{name}: put {rate(put)} of the file; recover {rate(recovered)}; one plain TCP copy of it ({control})"
                    f" {rate(copied)}; put {copied / put:.2f}x, recover {copied / recovered:.2f}x",
                    flush=True,
                )
                if options.rate:
                    lost = ", ".join(f"{name} {100 * part:.1f} %" for name, part in
                                     (("put", put_lost), ("recover", recover_lost), ("copy", copy_lost)))
                    print(f"    did not fit the queue: {lost}", flush=True)
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait()
        if passing:
            os.kill(passing, signal.SIGKILL)
            os.waitpid(passing, 0)
        for space in spaces:
            subprocess.run(["ip", "netns", "del", space], stderr=subprocess.DEVNULL)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
