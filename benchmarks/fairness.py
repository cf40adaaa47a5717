"""Who gets how much of a line that two share: Covey beside Covey, and beside TCP of this kernel.

    python -m benchmarks.fairness [--seconds N] [--mbit N] [--rtt-ms N] [--queue BDPS] [PAIR...]

Two network namespaces, between them a user-space link (`benchmarks.link`) with a rate, a delay and a queue in bytes
that drops its tail. A PAIR is two senders such as `covey-cubic/tcp-cubic`; `tcp-cubic+paced` is a socket that the
kernel paces. They begin a second apart. Prints the rate of each over the time of measuring, Jain's index and the use
of the line (payload alone). A busy machine slows the link too, and both senders with it: shares are what this is for.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, get_args

from benchmarks.beside import running
from benchmarks.sites import delayed
from covey.base.types import CongestionControl, Identity
from covey.core.connection import Connection
from covey.core.handshake import Target
from covey.crypto.credentials import Credentials
from covey.net.real import RealHost
from covey.node.transport import Stream, Transport
from covey.testing.bottleneck import jain

__all__ = ["main"]

_PIECE = 65_536
_SERVICE = "take"
_WARM_SECONDS = 8.0
_SO_MAX_PACING_RATE = 47
_NO_LIMIT = 1_000_000_000
"""Bytes per second."""
_PAIRS = (
    "covey-cubic/tcp-cubic",
    "covey-cubic/tcp-cubic+paced",
    "covey-bbr/tcp-cubic",
    "covey-cubic/tcp-bbr",
    "covey-cubic/covey-cubic",
    "covey-bbr/covey-bbr",
    "covey-cubic/covey-bbr",
    "tcp-cubic/tcp-cubic",
)


def main() -> int:
    arguments = _arguments()
    if arguments.receive:
        asyncio.run(_receive(arguments.receive))
        return 0
    if arguments.send:
        sender, facts = arguments.send[0], json.loads(arguments.send[1])
        kind, control = sender.split("-")
        asyncio.run((_send_tcp if kind == "tcp" else _send_covey)(control, facts))
        return 0
    bdp = int(arguments.mbit * 1e6 / 8 * arguments.rtt_ms / 1e3)
    print(f"{arguments.mbit:g} Mbit/s x {arguments.rtt_ms:g} ms, queue of {arguments.queue:g} such products")
    for pair in arguments.pairs or _PAIRS:
        rates = asyncio.run(_measure(pair.split("/"), arguments, int(bdp * arguments.queue)))
        shares = ", ".join(f"{rate:5.2f}" for rate in rates)
        use = sum(rates) / arguments.mbit
        print(f"{pair:28} {shares} Mbit/s   Jain {jain(rates):.3f}   use {use:.2f}", flush=True)
    return 0


async def _measure(senders: list[str], arguments: argparse.Namespace, queue: int) -> list[float]:
    python = [sys.executable, "-m", "benchmarks.fairness"]
    site = delayed(int(arguments.rtt_ms * 500), mbit=arguments.mbit, queue=queue)
    with site as lab, ExitStack() as stack:
        argv = lab.command("server", [*python, "--receive", lab.address("server")])
        server = stack.enter_context(_program(argv))
        facts = _ask(server)
        for number, sender in enumerate(senders):
            stack.enter_context(
                running(lab, "client", [*python, "--send", sender, json.dumps(facts | {"number": number})])
            )
            await asyncio.sleep(1.0)
        await asyncio.sleep(_WARM_SECONDS)
        begun, before = time.monotonic(), _ask(server)
        await asyncio.sleep(arguments.seconds)
        elapsed, after = time.monotonic() - begun, _ask(server)
        server.communicate()
    counts = [after["got"][number] - before["got"][number] for number in range(len(senders))]
    return [8 * count / elapsed / 1e6 for count in counts]


def _program(argv: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _ask(server: subprocess.Popen[str]) -> dict[str, Any]:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write("\n")
    server.stdin.flush()
    answer: dict[str, Any] = json.loads(server.stdout.readline())
    return answer


# --- the receiving end -----------------------------------------------------------------------------------------------


async def _receive(address: str) -> None:
    """Each flow begins with a byte that is its number. A line of input is answered by what came so far."""
    got = [0] * 256

    async def take(read: Callable[[], Awaitable[bytes]]) -> None:
        number = (data := await read())[0]
        while data:
            got[number] += len(data)
            data = await read()

    async def take_tcp(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError):  # at the end; asyncio would print it
            await take(partial(reader.read, _PIECE))

    async def take_covey(stream: Stream) -> None:
        await take(partial(stream.read, _PIECE))

    server = await asyncio.start_server(take_tcp, address, 0)
    transport = _transport("cubic")
    port = transport.bind((address, 0)).local[1]
    transport.serve(_SERVICE, take_covey)
    peer = transport.endpoint.credentials
    facts = {
        "address": address,
        "tcp": server.sockets[0].getsockname()[1],
        "covey": port,
        "identity": peer.identity.hex(),
        "key": peer.current.key.public.hex(),
    }
    asked = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    while await asked.readline():
        print(json.dumps(facts | {"got": got}), flush=True)


def _transport(congestion: CongestionControl) -> Transport:
    host = RealHost()
    credentials, _ = Credentials.create(host.random, host.wall_us())

    def allow(connection: Connection, _: str) -> bool:
        connection.admit()
        return True

    return Transport(host, credentials, allow=allow, on_event=lambda _: None, congestion=congestion)


# --- the sending ends ------------------------------------------------------------------------------------------------


async def _send_tcp(control: str, facts: dict[str, Any]) -> None:
    connection = socket.socket()
    control, _, paced = control.partition("+")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, control.encode())
    if paced:
        # Any limit has the kernel pace the socket by itself, also without the fq scheduler (socket(7)).
        connection.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, _NO_LIMIT)
    connection.connect((facts["address"], facts["tcp"]))
    _, writer = await asyncio.open_connection(sock=connection)
    print("ready", flush=True)
    while True:
        writer.write(bytes([facts["number"]]) * _PIECE)
        await writer.drain()


async def _send_covey(control: str, facts: dict[str, Any]) -> None:
    transport = _transport(next(each for each in get_args(CongestionControl) if each == control))
    transport.bind(("0.0.0.0", 0))
    route = transport.route((facts["address"], facts["covey"]))
    assert route is not None
    peer = Identity(bytes.fromhex(facts["identity"]))
    transport.connect(Target(peer, bytes.fromhex(facts["key"])), [route])
    connection = await transport.wait_live(peer)
    connection.admit()
    stream = await transport.open(connection, _SERVICE)
    print("ready", flush=True)
    while True:
        await stream.write(bytes([facts["number"]]) * _PIECE)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=__doc__)
    parser.add_argument("pairs", nargs="*", metavar="PAIR", help=f"instead of {', '.join(_PAIRS)}")
    parser.add_argument("--seconds", type=float, default=20.0, help=f"of measuring, after {_WARM_SECONDS:g}")
    parser.add_argument("--mbit", type=float, default=20.0)
    parser.add_argument("--rtt-ms", type=float, default=40.0)
    parser.add_argument("--queue", type=float, default=1.0, help="in bandwidth-delay products")
    parser.add_argument("--receive", default="", help=argparse.SUPPRESS)
    parser.add_argument("--send", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
