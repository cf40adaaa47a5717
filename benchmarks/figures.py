"""First figures of one path between two processes on loopback, each beside a baseline of the same run.

    python benchmarks/figures.py [--runs 3] [--megabytes 400] [--json FILE] [--profile]

Baselines: raw TCP and asyncio's TLS on the same two cores, measured the same way (asyncio streams, one connection).
Prints a table and writes a list of {metric, value, unit, raw_tcp_ratio, asyncio_tls_ratio, runs, spread} as JSON.
`--profile` prints where the sender's time goes during the bulk run. The full benchmark (namespaces, loss, delay, other
projects' programs) is an issue of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import datetime
import ipaddress
import json
import multiprocessing
import os
import pstats
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from covey.core.handshake import Target
from covey.crypto.credentials import Credentials
from covey.net.real import RealHost
from covey.node.transport import Stream, Transport

PIECE = 256 * 1024
ROUND_TRIPS = 3000
WARM_UP = 300

Echo = Callable[[bytes], Awaitable[bytes]]
Bulk = Callable[[bytes], Awaitable[None]]


def main() -> None:
    arguments = _arguments()
    cores = sorted(os.sched_getaffinity(0))
    rows: dict[str, dict[str, list[float]]] = {}
    for run in range(arguments.runs):
        for kind in ("tcp", "tls", "covey"):
            _progress(f"run {run + 1} of {arguments.runs}: {kind}")
            together = _pair(kind, cores[0], cores[0], arguments, bulk=False)
            apart = _pair(kind, cores[0], cores[-1], arguments, bulk=True)
            for name, value in {
                "rtt64_us_p50": together["rtt_p50"],
                "rtt64_us_p99": together["rtt_p99"],
                "rtt64_two_cores_us_p50": apart["rtt_p50"],
                **{key: value for key, value in apart.items() if not key.startswith("rtt")},
            }.items():
                rows.setdefault(name, {}).setdefault(kind, []).append(value)
    results = [_result(name, kinds, arguments.runs) for name, kinds in rows.items() if "covey" in kinds]
    for result in results:
        print(_line(result))
    if arguments.json:
        Path(arguments.json).parent.mkdir(parents=True, exist_ok=True)
        Path(arguments.json).write_text(json.dumps(results, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--json", default="")
    parser.add_argument("--profile", action="store_true")
    return parser.parse_args()


def _pair(
    kind: str, server_core: int, client_core: int, arguments: argparse.Namespace, *, bulk: bool
) -> dict[str, float]:
    """Two processes, pinned: what the client measured, and the server's CPU seconds beside it."""
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    server = context.Process(target=_serve, args=(kind, server_core, there))
    server.start()
    try:
        os.sched_setaffinity(0, {client_core})
        megabytes = arguments.megabytes if bulk else 0
        measured = asyncio.run(_measure(kind, here, megabytes, arguments.profile and kind == "covey" and bulk))
        here.send("stop")
        return {**measured, **here.recv()} if bulk else measured
    finally:
        os.sched_setaffinity(0, os.sched_getaffinity(os.getppid()))
        server.join(10)
        server.kill()


# --- the server -----------------------------------------------------------------------------------------------------


def _serve(kind: str, core: int, pipe: Pipe) -> None:
    os.sched_setaffinity(0, {core})
    asyncio.run(_serve_covey(pipe) if kind == "covey" else _serve_tcp(kind, pipe))


async def _wait_stop(pipe: Pipe, received: list[float]) -> None:
    """`received`: CPU seconds per GB of each bulk stream that came in."""
    await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    pipe.send({"cpu_s_per_gb_receive": received[-1] if received else 0.0})


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

    with tempfile.TemporaryDirectory() as folder:
        server = await asyncio.start_server(
            serve, "127.0.0.1", 0, ssl=_server_tls(folder) if kind == "tls" else None, limit=PIECE
        )
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


async def _measure(kind: str, pipe: Pipe, megabytes: int, profile: bool) -> dict[str, float]:
    if kind == "covey":
        return await _measure_covey(pipe, megabytes, profile)
    address = pipe.recv()
    tls = _client_tls() if kind == "tls" else None

    async def connect(mode: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*address, ssl=tls, limit=PIECE)
        writer.write(mode)
        return reader, writer

    reader, writer = await connect(b"e")

    async def echo(data: bytes) -> bytes:
        writer.write(data)
        return await reader.readexactly(len(data))

    measured = await _round_trips(echo)
    writer.close()
    if megabytes:
        reader, writer = await connect(b"b")
        writer.write((megabytes << 20).to_bytes(8, "big"))

        async def send(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        async def done() -> None:
            await reader.readexactly(1)

        measured |= await _bulk(send, done, megabytes)
        writer.close()
    return measured


async def _measure_covey(pipe: Pipe, megabytes: int, profile: bool) -> dict[str, float]:
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

    measured = {**await _round_trips(echo), "connect_ms": connect_ms}
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


async def _round_trips(echo: Echo) -> dict[str, float]:
    data = os.urandom(64)
    times = []
    for number in range(WARM_UP + ROUND_TRIPS):
        begun = time.perf_counter_ns()
        await echo(data)
        if number >= WARM_UP:
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


# --- TLS for the baseline -------------------------------------------------------------------------------------------


def _server_tls(folder: str) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "baseline")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    path = Path(folder) / "baseline.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def _client_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # a baseline for speed on loopback
    return context


# --- results --------------------------------------------------------------------------------------------------------


def _result(name: str, kinds: dict[str, list[float]], runs: int) -> dict[str, Any]:
    values = kinds["covey"]
    value = statistics.median(values)

    def ratio(kind: str) -> float | None:
        return round(value / statistics.median(kinds[kind]), 3) if kinds.get(kind) else None

    unit = "Gbit/s" if "gbit" in name else "us" if "_us" in name else "ms" if name.endswith("_ms") else "s/GB"
    return {
        "metric": name,
        "value": round(value, 3),
        "unit": unit,
        "raw_tcp_ratio": ratio("tcp"),
        "asyncio_tls_ratio": ratio("tls"),
        "runs": runs,
        "spread": [round(min(values), 3), round(max(values), 3)],
        "peer": "covey",
    }


def _line(result: dict[str, Any]) -> str:
    low, high = result["spread"]
    return (
        f"{result['metric']:24} {result['value']:10.3f} {result['unit']:7} [{low:.3f} .. {high:.3f}]"
        f"  x raw TCP {result['raw_tcp_ratio'] or '-':>8}  x asyncio TLS {result['asyncio_tls_ratio'] or '-':>8}"
    )


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
