"""Bare `UdpPort` over loopback, two processes: Gbit/s and microseconds per train, before any protocol or key.

    python benchmarks/udp_micro.py [--seconds 2] [--segment 1452] [--trains 45]

Rows: with the kernel's offloads, and one datagram at a time. `us/train` is CPU time of that side for one
train of 45 (the blast is one-way and unacknowledged, so some of it may be lost: `arrived` says how much was
not). The last rows are a ping-pong of one 64-byte datagram, through `select.poll` and through asyncio and the
driver's turn. One JSON object per line goes to standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

from covey.net.host import train_limit
from covey.net.real import RealHost
from covey.net.turn import Driver
from covey.net.udp import Offload, UdpSocketPort, probe_offload

ADDRESS = ("127.0.0.1", 0)
QUIET_S = 0.3


def sink(pipe: Connection, offload: Offload, core: int | None) -> None:
    """Receive until it has been quiet for a while; report bytes, trains, seconds and CPU seconds."""
    pin(core)
    port = UdpSocketPort(ADDRESS, offload=offload)
    pipe.send(port.local)
    poll = select.poll()
    poll.register(port.fileno(), select.POLLIN)
    size = calls = 0
    first = last = 0.0
    cpu = 0.0
    while poll.poll(QUIET_S * 1000 if calls else 5000):
        if not calls:
            first, cpu = time.perf_counter(), time.process_time()
        while (train := port.receive()) is not None:
            size += len(train[0])
            calls += 1
        last = time.perf_counter()
    pipe.send((size, calls, last - first, time.process_time() - cpu))
    port.close()


def blast(offload: Offload, seconds: float, segment: int, count: int) -> dict[str, object]:
    """One sender, one receiver, one core each where there are two."""
    ours, theirs = multiprocessing.Pipe()
    cores = sorted(os.sched_getaffinity(0))
    receiver = multiprocessing.Process(target=sink, args=(theirs, offload, cores[-1]))
    receiver.start()
    remote = ours.recv()
    pin(cores[0])
    port = UdpSocketPort(ADDRESS, offload=offload)
    train = memoryview(bytes(segment * count))
    poll = select.poll()
    poll.register(port.fileno(), select.POLLOUT)
    cpu, start = time.process_time(), time.perf_counter()
    trains = 0
    while time.perf_counter() - start < seconds:
        for _ in range(16):
            if port.send(train, segment, remote):
                trains += 1
            else:
                poll.poll(100)
    took, cpu = time.perf_counter() - start, time.process_time() - cpu
    size, calls, receiving, receiver_cpu = ours.recv()
    receiver.join()
    port.close()
    return {
        "what": "blast",
        "offload": offload._asdict(),
        "segment": segment,
        "train": count,
        "sent_gbit_s": round(trains * len(train) * 8 / took / 1e9, 2),
        "received_gbit_s": round(size * 8 / receiving / 1e9, 2),
        "arrived": round(size / (trains * len(train)), 3),
        "send_us_per_train": round(cpu * 1e6 / trains, 2),
        "receive_us_per_train": round(receiver_cpu * 1e6 / (size / len(train)), 2),
        "receive_us_per_call": round(receiver_cpu * 1e6 / calls, 2),
        "datagrams_per_call": round(size / segment / calls, 1),
    }


def echo(pipe: Connection, core: int | None) -> None:
    """Send everything back until an empty-handed second passes."""
    pin(core)
    port = UdpSocketPort(ADDRESS)
    pipe.send(port.local)
    poll = select.poll()
    poll.register(port.fileno(), select.POLLIN)
    while poll.poll(1000):
        while (train := port.receive()) is not None:
            port.send(*train)
    port.close()


def ping(rounds: int, same_core: bool) -> dict[str, object]:
    """Round trips of one 64-byte datagram through select.poll, no event loop."""
    ours, theirs = multiprocessing.Pipe()
    cores = sorted(os.sched_getaffinity(0))
    other = multiprocessing.Process(target=echo, args=(theirs, cores[0] if same_core else cores[-1]))
    other.start()
    remote = ours.recv()
    pin(cores[0])
    port = UdpSocketPort(ADDRESS)
    poll = select.poll()
    poll.register(port.fileno(), select.POLLIN)
    message = memoryview(bytes(64))
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        port.send(message, 64, remote)
        poll.poll(1000)
        while port.receive() is not None:
            pass
        times.append(time.perf_counter() - start)
    other.join()
    port.close()
    return {"what": "ping", "same_core": same_core, **percentiles(times)}


@dataclass(slots=True)
class Sending:
    """A `covey.net.turn.Train`."""

    local: int
    remote: tuple[str, int]
    size: int
    segment: int


class Mirror:
    """The least endpoint: sends back what it hears, `rounds` times, and then says so."""

    def __init__(self, rounds: int) -> None:
        self.left = rounds
        self.times: list[float] = []
        self.out: list[tuple[bytes, Sending]] = []
        self.alarm: float | None = None
        self.stamp = 0.0

    def receive(self, now: float, view: memoryview, segment: int, local: int, remote: tuple[str, int]) -> None:
        self.left -= 1
        self.times.append(time.perf_counter() - self.stamp)
        self.stamp = time.perf_counter()
        if self.left > 0:
            self.out.append((bytes(view), Sending(local, remote, len(view), segment)))
            self.alarm = now + 1.0

    def transmit(self, now: float, out: memoryview) -> Sending | None:
        if not self.out:
            return None
        data, sending = self.out.pop()
        out[: sending.size] = data
        return sending

    def deadline(self) -> float | None:
        return self.alarm

    def expire(self, now: float) -> None:
        self.alarm, self.left = None, 0

    def events(self) -> tuple[str, ...]:
        return () if self.left > 0 else ("done",)


async def mirror(rounds: int, announce: Callable[[tuple[str, int]], tuple[str, int] | None]) -> Mirror:
    """Drive a mirror until it is done; `announce` tells where it listens, and returns whom to wake."""
    host, endpoint, done = RealHost(), Mirror(rounds), asyncio.Event()
    driver = Driver(host, endpoint, lambda event: done.set())
    port = host.udp(ADDRESS)
    index = driver.add_port(port)
    remote = announce(port.local)
    if remote is not None:
        endpoint.stamp = time.perf_counter()
        endpoint.out.append((bytes(64), Sending(index, remote, 64, 64)))
        driver.wake()
    await done.wait()
    driver.turn()
    driver.close()
    host.close()
    return endpoint


def mirror_process(pipe: Connection, core: int, rounds: int) -> None:
    pin(core)

    def announce(local: tuple[str, int]) -> None:
        pipe.send(local)

    asyncio.run(mirror(rounds, announce))


def turn_ping(rounds: int, same_core: bool) -> dict[str, object]:
    """Round trips of one 64-byte datagram through asyncio and `Driver` on both sides."""
    ours, theirs = multiprocessing.Pipe()
    cores = sorted(os.sched_getaffinity(0))
    other = multiprocessing.Process(target=mirror_process, args=(theirs, cores[0] if same_core else cores[-1], rounds))
    other.start()
    remote = ours.recv()
    pin(cores[0])
    cpu = time.process_time()
    endpoint = asyncio.run(mirror(rounds, lambda local: remote))
    cpu = time.process_time() - cpu
    other.join()
    return {
        "what": "turn ping",
        "same_core": same_core,
        **percentiles(endpoint.times),
        "cpu_us_per_round_and_side": round(cpu * 1e6 / rounds, 1),
    }


def percentiles(times: list[float]) -> dict[str, float]:
    times = sorted(times)
    return {
        "p50_us": round(times[len(times) // 2] * 1e6, 1),
        "p99_us": round(times[len(times) * 99 // 100] * 1e6, 1),
    }


def pin(core: int | None) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--segment", type=int, default=1452, help="bytes per datagram")
    parser.add_argument("--trains", type=int, default=0, help="datagrams per train (default: as many as fit)")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    count = options.trains or train_limit(options.segment)
    everywhere = os.sched_getaffinity(0)
    for offload in (probe_offload(), Offload(gso=False, gro=False)):
        for _ in range(options.runs):
            print(json.dumps(blast(offload, options.seconds, options.segment, count)), flush=True)
            os.sched_setaffinity(0, everywhere)
    for measure in (ping, turn_ping):
        for same_core in (True, False):
            print(json.dumps(measure(20_000, same_core)), flush=True)
            os.sched_setaffinity(0, everywhere)


if __name__ == "__main__":
    main()
