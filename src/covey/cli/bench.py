"""`covey bench`: how fast this machine, or the way to a peer, is."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
from functools import partial
from typing import Annotated

import msgspec
import typer

from covey.base import errors
from covey.base.errors import CoveyError
from covey.base.schema import Items, PathView, PingView, StreamView
from covey.cli import render
from covey.cli.client import Client
from covey.cli.command import Call, Outcome, command

__all__ = ["register"]

_PIECE = 256 * 1024
_PINGS = 20
_ANSWER_SIZE = 40
"""Bytes of the answer of `sink`: a count of 8 and a SHA-256."""


class BenchRow(msgspec.Struct, frozen=True):
    """One figure of this machine: median of `runs`, its range, its ratios to the baselines of the same run."""

    metric: str
    value: float
    unit: str
    raw_tcp_ratio: float | None
    asyncio_tls_ratio: float | None
    runs: int
    spread: tuple[float, float]
    peer: str
    """Who gave it: `covey`."""


class PeerBench(msgspec.Struct, frozen=True):
    """What the way to a peer gave, through both daemons. The peer confirmed count and SHA-256 of the bytes."""

    peer: str
    path: PathView
    rtt_ms_min: float
    rtt_ms_p50: float
    rtt_ms_max: float
    bytes: int
    seconds: float
    gbit_s: float


def register(app: typer.Typer) -> None:
    command(app, "bench")(bench)


def bench(
    call: Call,
    peer: Annotated[
        str | None, typer.Argument(help="A trusted peer; without one, this machine alone.", show_default=False)
    ] = None,
    megabytes: Annotated[int, typer.Option("--megabytes", min=1, max=100_000, help="MiB to move to PEER.")] = 200,
    runs: Annotated[int, typer.Option("--runs", min=1, max=100, help="Runs on this machine; medians are shown.")] = 3,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.01, max=60.0, help="Length of each transfer on this machine.")
    ] = 1.0,
) -> Outcome:
    """Measure this machine beside raw TCP and TLS, or the way to a peer.

    Without PEER two processes on loopback measure round trips, throughput, messages and handshakes; no daemon is
    needed. With PEER the daemons measure the round trip and move MEGABYTES to the peer, which counts and hashes them.
    """
    return _machine(call, runs, seconds) if peer is None else _peer(call, peer, megabytes)


def _machine(call: Call, runs: int, seconds: float) -> Outcome:
    # A process of its own: what measures needs asyncio and the whole node, and this one must not be in its way.
    try:
        ended = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", "covey.bench", "--runs", str(runs), "--seconds", str(seconds)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if call.json else None,
            timeout=call.timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise errors.TimeoutError(
            f"the benchmark did not end within {error.timeout:g} s", next_step="covey bench --runs 1"
        ) from None
    if ended.returncode:
        raise CoveyError("the benchmark failed", code="bench-failed", next_step="python -m covey.bench")
    found = msgspec.json.decode(ended.stdout, type=list[BenchRow])
    return Outcome(Items(found), partial(_show_machine, found))


def _show_machine(rows: list[BenchRow]) -> None:
    render.table(
        ("FIGURE", "MEDIAN", "UNIT", "RANGE", "x RAW TCP", "x TLS"),
        [
            (
                row.metric,
                _number(row.value),
                row.unit,
                f"{_number(row.spread[0])} to {_number(row.spread[1])}",
                _ratio(row.raw_tcp_ratio),
                _ratio(row.asyncio_tls_ratio),
            )
            for row in rows
        ],
        empty="nothing was measured",
    )


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _peer(call: Call, peer: str, megabytes: int) -> Outcome:
    with call.client() as client:
        pings = [client.post("/v1/ping", PingView, peer=peer) for _ in range(_PINGS)]
        seconds = _pour(call, client, peer, megabytes << 20)
    times = sorted(each.rtt_ms for each in pings)
    found = PeerBench(
        pings[-1].name,
        pings[-1].path,
        times[0],
        times[len(times) // 2],
        times[-1],
        megabytes << 20,
        seconds,
        (megabytes << 23) / seconds / 1e9,
    )
    return Outcome(found, partial(_show_peer, found))


def _pour(call: Call, client: Client, peer: str, size: int) -> float:
    """Writes `size` random bytes into the peer's `sink`; how long until it confirmed them, seconds."""
    offer = client.post("/v1/streams", StreamView, peer=peer, service="sink")
    piece = os.urandom(_PIECE)
    digest = hashlib.sha256()
    left = size
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(call.timeout or 60.0)
        stream.connect(offer.socket)
        stream.sendall(offer.token.encode() + b"\n")
        answers = stream.makefile("rb")
        status = answers.readline(256)
        if status != b"ok\n":
            raise errors.StateError(
                "the daemon did not take the stream", code="stream-refused", next_step="covey daemon logs"
            )
        shown = began = time.monotonic()
        try:
            while left:
                block = piece[:left]
                stream.sendall(block)
                digest.update(block)
                left -= len(block)
                if not call.json and sys.stderr.isatty() and time.monotonic() - shown > 1.0:
                    shown = time.monotonic()
                    render.note(f"{(size - left) >> 20} of {size >> 20} MiB")
            stream.shutdown(socket.SHUT_WR)
            receipt = answers.read(_ANSWER_SIZE)
        except TimeoutError:
            raise errors.TimeoutError(
                f"the transfer stood still after {(size - left) >> 20} MiB", next_step=f"covey ping {peer}"
            ) from None
        except OSError:
            receipt = b""
    if len(receipt) < _ANSWER_SIZE:
        raise errors.UnreachableError(
            "the peer went away during the transfer", code="stream-lost", next_step=f"covey ping {peer}"
        )
    if receipt != size.to_bytes(8, "big") + digest.digest():
        raise errors.VerifyError("the peer received other bytes than were sent", code="bytes-differ")
    return time.monotonic() - began


def _show_peer(found: PeerBench) -> None:
    render.line(f"{render.safe(found.peer)}  {found.path.kind} {found.path.remote}".rstrip())
    render.fields(
        [
            (
                "round trip",
                f"{found.rtt_ms_p50:.2f} ms (median of {_PINGS}; {found.rtt_ms_min:.2f} to {found.rtt_ms_max:.2f})",
            ),
            ("throughput", f"{found.gbit_s:.2f} Gbit/s ({found.bytes >> 20} MiB in {found.seconds:.2f} s)"),
            ("checked", "count and SHA-256 by the peer"),
        ]
    )
