"""A node with a thousand peers: what it costs in CPU and memory, beside the same node with none.

    python benchmarks/thousand.py [--peers 1000] [--seconds 60] [--json FILE]

A rendezvous, the node that is measured, and processes full of whole nodes, all on loopback; nothing is simulated. The
figures are of the node's own process: its private memory (`Private_Dirty` of smaps_rollup) and its CPU time, which
other work on the machine changes little. Columns:

============== ======================================================================================================
connected      every peer asked for trust, got it, and is connected; what that took, and the memory for each
resting        nothing is said; the sessions are there, probes have stopped (45 s after the last word)
messages       each peer sends one message, and the node sends one to each: durable at both ends
asking         64 bytes to each peer and back on streams, 32 at a time, ten times
============== ======================================================================================================
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

from covey import Node
from covey.base.errors import CoveyError
from covey.base.paths import Home

WORKERS = 4
AT_ONCE = 8
"""Peers of one worker that do something at the same time. They share the machine with the node that is measured: where
a thousand of them want to answer at once, four processes take longer for it than sessions wait (a second)."""
LISTEN = "127.0.0.1:0"
ROUNDS = 10


def main() -> int:
    options = _arguments()
    with tempfile.TemporaryDirectory(prefix="covey-") as directory:
        rendezvous, ticket = _rendezvous(Path(directory))
        try:
            figures = asyncio.run(_measure(Path(directory), ticket, options))
        finally:
            rendezvous.terminate()
            rendezvous.wait()
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--peers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long rest is watched")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _rendezvous(directory: Path) -> tuple[subprocess.Popen[str], str]:
    argv = [sys.executable, "-m", "covey.rendezvous", "--listen", LISTEN, "--home", str(directory / "rendezvous")]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


class Meter:
    """CPU time and memory of this process since the last reading."""

    def __init__(self) -> None:
        self._cpu, self._at = time.process_time(), time.monotonic()

    def read(self) -> dict[str, float]:
        cpu, at = time.process_time(), time.monotonic()
        found = {"cpu_s": round(cpu - self._cpu, 3), "wall_s": round(at - self._at, 2), "memory_mb": _memory_mb()}
        self._cpu, self._at = time.process_time(), time.monotonic()
        return found


def _memory_mb() -> float:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


async def _measure(directory: Path, ticket: str, options: argparse.Namespace) -> dict[str, Any]:
    figures: dict[str, Any] = {"peers": options.peers, "load": os.getloadavg()[0]}
    home = Home.locate("subject", {"COVEY_HOME": str(directory)}, uid=os.getuid())
    async with Node("subject", network=ticket, listen=LISTEN, home=home) as node:
        await _until(lambda: all(each.connected for each in node.view().rendezvous))
        await _rest(figures, "alone", options.seconds)
        crowd = Crowd(directory, ticket, node.identity, options.peers)
        try:
            meter = Meter()
            approving = asyncio.create_task(_approve(node, options.peers))
            await crowd.all("meet")
            await approving
            await _until(lambda: sum(peer.connected for peer in node.peers()) == options.peers)
            figures["connected"] = meter.read()
            print(f"connected: {figures}", file=sys.stderr)
            await asyncio.sleep(50)
            await _rest(figures, "resting", options.seconds)
            print(f"resting: {figures['resting']}", file=sys.stderr)
            await _messages(node, crowd, figures)
            await _asking(node, figures)
        finally:
            await crowd.stop()
    alone, there = figures["alone"]["memory_mb"], figures["connected"]["memory_mb"]
    figures["kb_for_each_peer"] = round(1024 * (there - alone) / options.peers, 1)
    return figures


async def _rest(figures: dict[str, Any], name: str, seconds: float) -> None:
    meter = Meter()
    await asyncio.sleep(seconds)
    found = figures[name] = meter.read()
    found["cpu_percent"] = round(100 * found["cpu_s"] / found["wall_s"], 2)


async def _approve(node: Node, count: int) -> None:
    told = time.monotonic()
    while (trusted := sum(peer.trust == "trusted" for peer in node.peers())) < count:
        if time.monotonic() - told > 10:
            told = time.monotonic()
            print(f"{trusted} of {count} peers are trusted", file=sys.stderr)
        for peer in node.pending():
            await node.approve(peer.identity)
        await asyncio.sleep(0.05)


async def _messages(node: Node, crowd: Crowd, figures: dict[str, Any]) -> None:
    meter = Meter()
    await crowd.all("send")
    figures["messages_in"] = meter.read()
    print(f"messages in: {figures['messages_in']}", file=sys.stderr)
    results = []

    async def send(identity: str) -> None:
        results.append(await node.send(identity, "to you", wait=120))

    await _few_at_once([peer.identity for peer in node.peers()], send, WORKERS * AT_ONCE)
    figures["messages_out"] = meter.read()
    figures["undelivered"] = sum(sent.result != "delivered" for sent in results)


async def _asking(node: Node, figures: dict[str, Any]) -> None:
    streams = [await node.open(peer.identity, "echo") for peer in node.peers()]
    meter, times = Meter(), list[float]()

    async def ask(stream: Any) -> None:
        begun = time.monotonic()
        await stream.write(bytes(64))
        await stream.read_exactly(64)
        times.append(time.monotonic() - begun)

    for _ in range(ROUNDS):
        await _few_at_once(streams, ask, WORKERS * AT_ONCE)
    figures["asking"] = meter.read()
    figures["asking"]["cpu_us_each"] = round(1e6 * figures["asking"]["cpu_s"] / len(times), 1)
    figures["asking"]["ms_p50"] = round(1000 * sorted(times)[len(times) // 2], 2)
    for stream in streams:
        await stream.reset()


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - of a whole node
        await asyncio.sleep(0.05)


class Crowd:
    """The peers: whole nodes, in a few processes that do what they are told."""

    def __init__(self, directory: Path, ticket: str, subject: str, count: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipes: list[Pipe] = []
        self._workers = []
        for number in range(WORKERS):
            ours, theirs = spawn.Pipe()
            share = [f"p{each}" for each in range(number, count, WORKERS)]
            worker = spawn.Process(target=_worker, args=(theirs, directory, ticket, subject, share), daemon=True)
            worker.start()
            self._pipes.append(ours)
            self._workers.append(worker)

    async def all(self, order: str) -> None:
        """Every peer did it."""
        for pipe in self._pipes:
            pipe.send(order)
        answers = await asyncio.gather(*(asyncio.to_thread(pipe.recv) for pipe in self._pipes))
        assert set(answers) == {"done"}, answers

    async def stop(self) -> None:
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            await asyncio.to_thread(worker.join, 10)


def _worker(pipe: Pipe, directory: Path, ticket: str, subject: str, names: list[str]) -> None:
    async def serve() -> None:
        nodes: list[Node] = []
        while True:
            order = await asyncio.to_thread(pipe.recv)
            if order == "meet":
                await _few_at_once(names, lambda name: _meet(directory, ticket, subject, name, nodes))
            else:
                await _few_at_once(nodes, lambda node: node.send(subject, "to you", wait=120))
            pipe.send("done")

    asyncio.run(serve())


async def _meet(directory: Path, ticket: str, subject: str, name: str, nodes: list[Node]) -> None:
    home = Home.locate(name, {"COVEY_HOME": str(directory)}, uid=os.getuid())
    node = Node(name, network=ticket, listen=LISTEN, home=home, durable=False)
    await node.start()
    nodes.append(node)
    while not any(peer.trust == "trusted" for peer in node.peers()):
        with contextlib.suppress(CoveyError):  # it keeps a few hundred strangers; who is displaced asks again
            await node.handshake(subject, wait=5)


async def _few_at_once(items: list[Any], work: Callable[[Any], Awaitable[Any]], count: int = AT_ONCE) -> None:
    places = asyncio.Semaphore(count)

    async def one(item: Any) -> None:
        async with places:
            await work(item)

    await asyncio.gather(*(one(item) for item in items))


if __name__ == "__main__":
    sys.exit(main())
