#!/usr/bin/env python3
"""Put and recover between two hosts that are far from each other, beside a plain TCP copy over the same link.

Two network namespaces, joined by a program that passes packets on late and loses some of them: kernels without `sch_netem`
need no more than /dev/net/tun. Wants root, `ip`, and a release build of shard.

    benches/far.py --rtt 50 --loss 2 --size 32
"""

import argparse
import fcntl
import hashlib
import heapq
import json
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


def pass_on(devices, delay, loss, seed):
    """Each packet is late by `delay` seconds, or lost; the order is kept. Runs until it is killed."""
    dice, selector, waiting, number = random.Random(seed), selectors.DefaultSelector(), [], 0
    for at, device in enumerate(devices):
        selector.register(device, selectors.EVENT_READ, devices[1 - at])
    while True:
        wait = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for key, _ in selector.select(wait):
            for _ in range(64):
                try:
                    packet = os.read(key.fd, 2 * MTU)
                except BlockingIOError:
                    break
                if dice.random() >= loss:
                    number += 1
                    heapq.heappush(waiting, (time.monotonic() + delay, number, key.data, packet))
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
peer = socket.create_connection((host, 7500)); begun = time.monotonic()
block, left = bytes(1 << 18), size
while left: piece = block[:left]; peer.sendall(piece); left -= len(piece)
peer.recv(1); print(time.monotonic() - begun)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shard", default="target/release/shard")
    parser.add_argument("--rtt", type=float, default=50, help="milliseconds there and back")
    parser.add_argument("--loss", type=float, default=2, help="percent of the packets each way")
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
        passing = os.fork()
        if passing == 0:
            pass_on(devices, options.rtt / 2000, options.loss / 100, options.seed)
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
        for name, which in (("QUIC", 0), ("WebSocket", 1)):
            environment["SHARD_STORE"] = f"{work}/store-{name}"
            command(spaces[0], "init", "--bare")
            for number, address in enumerate(addresses):
                command(spaces[0], "backend", "add", f"far-{number}", address[which], "--zone", f"z{number}")
            for round_number in range(options.rounds):
                begun = time.monotonic()
                copy = run(*in_space(spaces[0], sys.executable, "-c", COPY, "send", FAR, str(total)), capture_output=True)
                copied = float(copy.stdout)
                begun = time.monotonic()
                command(spaces[0], "put", "file", "--name", f"file-{round_number}", "--shards", options.shards)
                put = time.monotonic() - begun
                begun = time.monotonic()
                command(spaces[0], "recover", f"file-{round_number}", "-o", f"back-{name}-{round_number}")
                recovered = time.monotonic() - begun
                with open(f"{work}/file", "rb") as one, open(f"{work}/back-{name}-{round_number}", "rb") as other:
                    same = hashlib.file_digest(one, "sha256").digest() == hashlib.file_digest(other, "sha256").digest()
                assert same, "other bytes came back"
                rate = lambda seconds: f"{seconds:.1f} s, {total / 1e6 / seconds:.2f} MB/s"
                print(
                    f"{name}: put {rate(put)} of the file; recover {rate(recovered)}; one plain TCP copy of it {rate(copied)};"
                    f" put {copied / put:.2f}x, recover {copied / recovered:.2f}x",
                    flush=True,
                )
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
