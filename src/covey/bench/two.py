"""Two processes on loopback: round trips, bulk, connect; raw TCP, asyncio TLS and Covey measured the same way."""

from __future__ import annotations

import asyncio
import cProfile
import multiprocessing
import os
import pstats
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from multiprocessing.connection import Connection as Pipe
from typing import Any, Final

from covey.bench.rows import Row, row
from covey.bench.tls import client_context, server_context
from covey.core.handshake import Target
from covey.crypto.credentials import Credentials
from covey.net.real import RealHost
from covey.node.transport import Stream, Transport

__all__ = ["two_process_rows"]

PIECE: Final = 256 * 1024
"""Bytes that a reader takes at a time."""
ROUND_TRIPS: Final = 3000
"""Round trips measured, after a tenth as many to warm up."""
KINDS: Final = ("tcp", "tls", "covey")

Echo = Callable[[bytes], Awaitable[bytes]]
Bulk = Callable[[bytes], Awaitable[None]]

_UNITS: Final = {
    "rtt64_one_core_us_p50": "us",
    "rtt64_one_core_us_p99": "us",
    "rtt64_two_cores_us_p50": "us",
    "rtt64_two_cores_us_p99": "us",
    "connect_ms": "ms",
    "bulk_gbit_s": "Gbit/s",
    "cpu_s_per_gb_send": "s/GB",
    "cpu_s_per_gb_receive": "s/GB",
    "peak_memory_receiver_mb": "MB",
}


def two_process_rows(
    runs: int,
    megabytes: int,
    progress: Callable[[str], None],
    *,
    round_trips: int = ROUND_TRIPS,
    profile: bool = False,
) -> list[Row]:
    """`runs` times each kind: both processes on one core, then a core each. Bulk is `megabytes` MiB on one stream.

    Where cores cannot be chosen (macOS), "one core" is what the system makes of it.
    """
    cores = _cores()
    figures: dict[str, dict[str, list[float]]] = {}
    for run in range(runs):
        for kind in KINDS:
            progress(f"run {run + 1} of {runs}: {kind}")
            together = _pair(kind, cores[0], cores[0], 0, round_trips, profile=False)
            apart = _pair(kind, cores[0], cores[-1], megabytes, round_trips, profile=profile and kind == "covey")
            for name, value in {
                "rtt64_one_core_us_p50": together["rtt_p50"],
                "rtt64_one_core_us_p99": together["rtt_p99"],
                "rtt64_two_cores_us_p50": apart["rtt_p50"],
                "rtt64_two_cores_us_p99": apart["rtt_p99"],
                **{key: value for key, value in apart.items() if not key.startswith("rtt")},
            }.items():
                figures.setdefault(name, {}).setdefault(kind, []).append(value)
    return [
        row(name, unit, kinds["covey"], kinds)
        for name, unit in _UNITS.items()
        if "covey" in (kinds := figures.get(name, {}))
    ]


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


def _pin(*cores: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def _pair(
    kind: str, server_core: int, client_core: int, megabytes: int, round_trips: int, *, profile: bool
) -> dict[str, float]:
    """Two processes, pinned: what the client measured, and the server's figures beside it."""
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(kind, server_core, there))
    before = _cores()
    server.start()
    try:
        _pin(client_core)
        measured = asyncio.run(_measure(kind, here, megabytes, round_trips, profile))
        here.send("stop")
        return measured | here.recv() if megabytes else measured
    finally:
        _pin(*before)
        server.join(10)
        server.kill()
        server.join()


# --- the server -----------------------------------------------------------------------------------------------------


def _serve(kind: str, core: int, pipe: Pipe) -> None:
    _pin(core)
    asyncio.run(_serve_covey(pipe) if kind == "covey" else _serve_tcp(kind, pipe))


async def _wait_stop(pipe: Pipe, received: list[float]) -> None:
    """`received`: CPU seconds per GB of each bulk stream that came in."""
    try:
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    except EOFError:  # the client's process was ended
        return
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_mb = peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    pipe.send({"cpu_s_per_gb_receive": received[-1] if received else 0.0, "peak_memory_receiver_mb": peak_mb})


async def _serve_tcp(kind: str, pipe: Pipe) -> None:
    received: list[float] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(1) == b"e":
            while data := await reader.read(PIECE):
                writer.write(data)
        else:
            left = size = int.from_bytes(await reader.readexactly(8), "big")
            before = time.process_time()
            while left:
                left -= len(await reader.read(min(PIECE, left)))
            received.append((time.process_time() - before) / size * 1e9)
            writer.write(b"!")
        writer.close()

    tls = server_context() if kind == "tls" else None
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, limit=PIECE)
    pipe.send(server.sockets[0].getsockname())
    await _wait_stop(pipe, received)
    server.close()


async def _serve_covey(pipe: Pipe) -> None:
    received: list[float] = []

    async def echo(stream: Stream) -> None:
        while data := await stream.read():
            await stream.write(data)

    async def sink(stream: Stream) -> None:
        size, before = 0, time.process_time()
        while data := await stream.read():
            size += len(data)
        received.append((time.process_time() - before) / size * 1e9)
        await stream.write(b"!")

    transport = _transport(lambda connection, _: connection.admit() or True)
    transport.serve("echo", echo)
    transport.serve("sink", sink)
    port = transport.bind(("127.0.0.1", 0))
    credentials = transport.endpoint.credentials
    pipe.send((credentials.identity, credentials.current.key.public, port.local))
    await _wait_stop(pipe, received)
    await transport.close()


def _transport(allow: Any) -> Transport:
    host = RealHost()
    credentials, _ = Credentials.create(host.random, host.wall_us())
    return Transport(host, credentials, allow=allow, on_event=lambda _: None)


# --- the client -----------------------------------------------------------------------------------------------------


async def _measure(kind: str, pipe: Pipe, megabytes: int, round_trips: int, profile: bool) -> dict[str, float]:
    if kind == "covey":
        return await _measure_covey(pipe, megabytes, round_trips, profile)
    address = pipe.recv()
    tls = client_context() if kind == "tls" else None

    async def connect(mode: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*address, ssl=tls, limit=PIECE)
        writer.write(mode)
        return reader, writer

    reader, writer = await connect(b"e")

    async def echo(data: bytes) -> bytes:
        writer.write(data)
        return await reader.readexactly(len(data))

    measured = await _round_trips(echo, round_trips)
    await _closed(writer)
    if megabytes:
        reader, writer = await connect(b"b")
        writer.write((megabytes << 20).to_bytes(8, "big"))

        async def send(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        async def done() -> None:
            await reader.readexactly(1)

        measured |= await _bulk(send, done, megabytes)
        await _closed(writer)
    return measured


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):  # the other side may have been first
        await writer.wait_closed()


async def _measure_covey(pipe: Pipe, megabytes: int, round_trips: int, profile: bool) -> dict[str, float]:
    identity, key, address = pipe.recv()
    transport = _transport(lambda *_: False)
    transport.bind(("127.0.0.1", 0))
    route = transport.route(address)
    assert route is not None
    begun = time.perf_counter()
    transport.connect(Target(identity, key), [route])
    connection = await transport.wait_live(identity)
    connect_ms = (time.perf_counter() - begun) * 1e3
    connection.admit()
    stream = await transport.open(connection, "echo")

    async def echo(data: bytes) -> bytes:
        await stream.write(data)
        return await stream.read_exactly(len(data))

    measured = {**await _round_trips(echo, round_trips), "connect_ms": connect_ms}
    if megabytes:
        sink = await transport.open(connection, "sink")

        async def done() -> None:
            await sink.finish()
            await sink.read_exactly(1)

        profiler = cProfile.Profile()
        if profile:
            profiler.enable()
        measured |= await _bulk(sink.write, done, megabytes)
        if profile:
            profiler.disable()
            pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(20)
    await transport.close()
    return measured


async def _round_trips(echo: Echo, count: int) -> dict[str, float]:
    data = os.urandom(64)
    times = []
    for number in range(-count // 10, count):
        begun = time.perf_counter_ns()
        await echo(data)
        if number >= 0:
            times.append((time.perf_counter_ns() - begun) / 1e3)
    times.sort()
    return {"rtt_p50": times[len(times) // 2], "rtt_p99": times[len(times) * 99 // 100]}


async def _bulk(send: Bulk, done: Callable[[], Awaitable[None]], megabytes: int) -> dict[str, float]:
    piece = os.urandom(1 << 20)
    begun, cpu = time.perf_counter(), time.process_time()
    for _ in range(megabytes):
        await send(piece)
    await done()
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    size = megabytes << 20
    return {"bulk_gbit_s": size * 8 / seconds / 1e9, "cpu_s_per_gb_send": cpu / (size / 1e9)}
