"""How a trusted peer fares while strangers flood a node with handshakes, beside the idle figures of the same run.

    python benchmarks/floods.py [--connects 40] [--json FILE]

Three processes on loopback: the node, the flood, and here two trusted peers. One connects again and again from a fresh
port; the other has a connection that lives all the time, sends 64 bytes on it and waits for their echo. Every attacker
but the first knows the node's transport key, as whoever has its record.

============== ======================================================================================================
idle           nobody else
rubbish        1144 random bytes, 20,000 a second: mac1 is wrong
one source     mac1 is right, nothing else; one socket, 3000 a second
many sources   the same from 250 addresses that do not listen, 5000 a second
proven         200 hosts that answer cookies and send handshakes that can be completed, 25 a second each
============== ======================================================================================================

Loopback has 2^24 addresses of its own, which is how one machine can be many hosts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import select
import socket
import sys
import time
from collections.abc import Iterator
from itertools import cycle
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from covey.base.errors import CoveyError
from covey.core.handshake import Attempt, Target
from covey.core.path import Route
from covey.crypto.cookie import cookie_key, mac2, open_cookie
from covey.crypto.credentials import Credentials
from covey.crypto.events import KeyLog
from covey.crypto.keys import TransportKey
from covey.crypto.mac import MAC_SIZE, mac1, mac1_key
from covey.net.real import RealHost
from covey.node.transport import Stream, Transport
from covey.wire.datagram import COOKIE_REPLY, INITIATION_SIZE, CookieReply, Initiation

NODE = ("127.0.0.1", 0)
RATES = {"rubbish": 20_000, "one source": 3000, "many sources": 5000, "proven": 5000}
"""Datagrams a second."""
SETTLE_SECONDS = 1.5
"""From the start of a flood to the first measurement: it has to prepare, and load has to be noticed."""
ECHO_PAUSE_SECONDS = 0.01
GIVE_UP_SECONDS = 15.0

Address = tuple[str, int]


def main() -> int:
    options = _arguments()
    context = multiprocessing.get_context("spawn")
    own = Credentials.create(os.urandom, time.time_ns() // 1000)[0]
    friends = [Credentials.create(os.urandom, time.time_ns() // 1000)[0] for _ in range(2)]
    ours, theirs = context.Pipe()
    node = context.Process(target=_node, args=(theirs, own.dump_secrets(), [each.log.raw for each in friends]))
    node.start()
    try:
        address: Address = ours.recv()
        rows = asyncio.run(_measure(context, own, friends, address, options.connects))
    finally:
        ours.send("stop")
        node.join()
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


async def _measure(
    context: multiprocessing.context.SpawnContext,
    own: Credentials,
    friends: list[Credentials],
    address: Address,
    connects: int,
) -> list[dict[str, object]]:
    rows = []
    target = Target(own.identity, own.current.key.public)
    for flood in ("idle", *RATES):
        print(f"{flood} ...", file=sys.stderr, flush=True)
        attacker = None
        if flood != "idle":
            attacker = context.Process(target=_attack, args=(flood, own.identity, target.transport_key, address))
            attacker.start()
            await asyncio.sleep(SETTLE_SECONDS + (2.0 if flood == "proven" else 0.0))
        try:
            rows.append({"flood": flood, **await _fares(own.log, friends, target, address, connects)})
            print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
        finally:
            if attacker is not None:
                attacker.kill()
                attacker.join()
    return rows


async def _fares(
    log: KeyLog, friends: list[Credentials], target: Target, address: Address, connects: int
) -> dict[str, object]:
    """How the two trusted peers fare now."""
    steady = _transport(friends[0], log)
    connection = steady.connect(target, [Route(0, address)])
    await asyncio.wait_for(steady.wait_live(target.identity), GIVE_UP_SECONDS)
    stream = await steady.open(connection, "echo")
    stop = asyncio.Event()
    echoes = asyncio.create_task(_echoes(stream, stop))
    seconds: list[float] = []
    failed = 0
    for _ in range(connects):
        fresh = _transport(friends[1], log)
        began = time.perf_counter()
        fresh.connect(target, [Route(0, address)])
        try:
            await asyncio.wait_for(fresh.wait_live(target.identity), GIVE_UP_SECONDS)
            seconds.append(time.perf_counter() - began)
        except (CoveyError, TimeoutError):
            failed += 1
        await fresh.close()
    stop.set()
    trips = await echoes
    await steady.close()
    return {
        "connect_ms_p50": _milliseconds(seconds, 0.5),
        "connect_ms_p95": _milliseconds(seconds, 0.95),
        "failed": failed,
        "echo_ms_p50": _milliseconds(trips, 0.5),
        "echo_ms_p99": _milliseconds(trips, 0.99),
    }


async def _echoes(stream: Stream, stop: asyncio.Event) -> list[float]:
    trips = []
    while not stop.is_set():
        began = time.perf_counter()
        await stream.write(bytes(64))
        await stream.read_exactly(64)
        trips.append(time.perf_counter() - began)
        await asyncio.sleep(ECHO_PAUSE_SECONDS)
    return trips


def _transport(credentials: Credentials, log: KeyLog) -> Transport:
    transport = Transport(RealHost(), credentials, allow=lambda *_: True, on_event=lambda _: None)
    transport.bind(NODE)
    transport.endpoint.add_log(log)
    return transport


def _milliseconds(seconds: list[float], share: float) -> float:
    ordered = sorted(seconds)
    return round(1000 * ordered[int(share * (len(ordered) - 1))], 2) if ordered else 0.0


# --- the node -------------------------------------------------------------------------------------------------------


def _node(pipe: Pipe, secrets: bytes, logs: list[bytes]) -> None:
    asyncio.run(_serve(pipe, Credentials.load_secrets(secrets), [KeyLog.parse(log) for log in logs]))


async def _serve(pipe: Pipe, credentials: Credentials, logs: list[KeyLog]) -> None:
    transport = Transport(RealHost(), credentials, allow=lambda *_: True, on_event=lambda _: None)
    port = transport.bind(NODE)
    for log in logs:
        transport.endpoint.pin(log.identity)
        transport.endpoint.add_log(log)

    async def echo(stream: Stream) -> None:
        while data := await stream.read():
            await stream.write(data)

    transport.serve("echo", echo)
    pipe.send(port.local)
    await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    await transport.close()


# --- the flood ------------------------------------------------------------------------------------------------------


def _attack(flood: str, identity: bytes, transport_key: bytes, address: Address) -> None:
    """Until it is killed."""
    if flood == "proven":
        _proven(identity, transport_key, address)
        return
    hosts = 250 if flood == "many sources" else 1
    sockets = [_socket(number) for number in range(hosts)]
    pool = [_junk(transport_key) if flood != "rubbish" else os.urandom(INITIATION_SIZE) for _ in range(2000)]
    pace = _Pace(RATES[flood])
    for sender, datagram in zip(cycle(sockets), cycle(pool), strict=False):
        _send(sender, datagram, address)
        pace.keep()


def _proven(identity: bytes, transport_key: bytes, address: Address) -> None:
    sockets = [_socket(number) for number in range(200)]
    made = list(_initiations(identity, transport_key, 3000))
    by_reference = {raw[4:12]: raw[-2 * MAC_SIZE : -MAC_SIZE] for raw in made}
    cookies: dict[socket.socket, bytes] = {}
    poll = select.poll()
    by_number = {each.fileno(): each for each in sockets}
    for number in by_number:
        poll.register(number, select.POLLIN)
    pace = _Pace(RATES["proven"])
    for sender, raw in zip(cycle(sockets), cycle(made), strict=False):
        cookie = cookies.get(sender)
        datagram = raw if cookie is None else Initiation.finish(raw[:-MAC_SIZE], mac2(cookie, raw[:-MAC_SIZE]))
        _send(sender, datagram, address)
        if not pace.keep():
            continue
        for number, _ in poll.poll(0):
            reply = by_number[number].recv(2048)
            if reply[0] == COOKIE_REPLY:
                parsed = CookieReply.parse(reply)
                tag = by_reference[parsed.reference]
                key = cookie_key(transport_key)
                cookies[by_number[number]] = open_cookie(key, parsed.nonce, parsed.sealed, tag)


class _Pace:
    """Holds a loop to so many rounds a second."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._began = time.perf_counter()
        self._rounds = 0

    def keep(self) -> bool:
        """Waits if it is too early. True for every tenth round."""
        self._rounds += 1
        if self._rounds % 10:
            return False
        wait = self._began + self._rounds / self._per_second - time.perf_counter()
        if wait > 0:
            select.select((), (), (), wait)
        return True


def _initiations(identity: bytes, transport_key: bytes, count: int) -> Iterator[bytes]:
    credentials = Credentials.create(os.urandom, time.time_ns() // 1000)[0]
    for _ in range(count):
        attempt = Attempt(Target(identity, transport_key), bytes(8), [], 0.0, 0.0)  # type: ignore[arg-type]
        index = int.from_bytes(os.urandom(4), "big")
        attempt.initiate(0.0, credentials, TransportKey(os.urandom(32)), index, time.time_ns() // 1000)
        yield attempt.datagram(0.0, Route(0, NODE))


def _junk(transport_key: bytes) -> bytes:
    prefix = Initiation.prefix(int.from_bytes(os.urandom(4), "big"), bytes(8), os.urandom(1096))
    return Initiation.finish(prefix + mac1(mac1_key(transport_key), prefix))


def _socket(number: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((f"127.66.{number // 250}.{number % 250 + 1}", 0))
    made.setblocking(False)
    return made


def _send(sender: socket.socket, datagram: bytes, address: Address) -> None:
    try:
        sender.sendto(datagram, address)
    except BlockingIOError:
        return


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="a trusted peer beside a flood")
    parser.add_argument("--connects", type=int, default=40, help="per flood (40)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
