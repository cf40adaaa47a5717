"""New keys while bulk flows: how long a reader waits because of a ratchet, beside how long it waits anyway.

Both ends in one process, over loopback, so that the work of both is in the wait. The limits of the keys are set so low
that they change up to fifty times; the bytes are checked. Waits are also told in CPU time: what they would be if the
machine had nothing else to do.
"""

from __future__ import annotations

import asyncio
import os
import time
import zlib
from typing import Any, Final

from covey.core.handshake import Target
from covey.core.limits import Lifetimes
from covey.core.session import Session
from covey.crypto.credentials import Credentials
from covey.net.real import RealHost
from covey.node.transport import Stream, Transport

__all__ = ["rekey_stalls"]

_RATCHETS: Final = 50
_PIECE: Final = 1 << 20
_READ: Final = 256 * 1024


def rekey_stalls(megabytes: int) -> dict[str, float]:
    """Moves so many MiB. `ratchets` there were; milliseconds between two reads: `stall` if keys changed in between,
    `gap` if not, `cpu` without what other programs took.
    """
    return asyncio.run(_Run(megabytes).measure())


class _Run:
    def __init__(self, megabytes: int) -> None:
        self._pieces = megabytes
        self._lifetimes = Lifetimes(rekey_bytes=max(megabytes // _RATCHETS, 1) * _PIECE)
        self._piece = os.urandom(_PIECE)
        self._ratcheting: list[tuple[float, float]] = []
        self._plain: list[tuple[float, float]] = []
        """Of each wait: milliseconds of the clock, and of CPU."""
        self._checksum = 0
        self._sessions: tuple[Session, Session] | None = None

    async def measure(self) -> dict[str, float]:
        server, client = self._transport(self._admit), self._transport(lambda *_: False)
        server.serve("sink", self._sink)
        port = server.bind(("127.0.0.1", 0))
        client.bind(("127.0.0.1", 0))
        route = client.route(port.local)
        assert route is not None
        credentials = server.endpoint.credentials
        client.connect(Target(credentials.identity, credentials.current.key.public), [route])
        ours, theirs = await asyncio.gather(
            client.wait_live(credentials.identity), server.wait_live(client.endpoint.credentials.identity)
        )
        ours.admit()
        assert ours.session is not None
        assert theirs.session is not None
        self._sessions = ours.session, theirs.session
        before = ours.session.epochs.epoch
        stream = await client.open(ours, "sink")
        for _ in range(self._pieces):
            await stream.write(self._piece)
        await stream.finish()
        await stream.read_exactly(1)
        ratchets = ours.session.epochs.epoch - before
        await client.close()
        await server.close()
        expected = 0
        for _ in range(self._pieces):
            expected = zlib.crc32(self._piece, expected)
        if expected != self._checksum:
            raise AssertionError("other bytes arrived than were sent")
        return {
            "ratchets": ratchets,
            **_summary("stall", self._ratcheting),
            **_summary("gap", self._plain),
        }

    def _transport(self, allow: Any) -> Transport:
        host = RealHost()
        credentials, _ = Credentials.create(host.random, host.wall_us())
        return Transport(host, credentials, allow=allow, on_event=lambda _: None, lifetimes=self._lifetimes)

    @staticmethod
    def _admit(connection: Any, _: str) -> bool:
        connection.admit()
        return True

    async def _sink(self, stream: Stream) -> None:
        keys, last = self._keys(), _clocks()
        while data := await stream.read(_READ):
            now, changed = _clocks(), self._keys()
            (self._plain if changed == keys else self._ratcheting).append((now[0] - last[0], now[1] - last[1]))
            self._checksum = zlib.crc32(data, self._checksum)
            keys, last = changed, now
        await stream.write(b"!")

    def _keys(self) -> list[tuple[int, int, bool]]:
        """What differs before and after every step of a ratchet, at either end."""
        return [
            (each.epochs.epoch, each.epochs.unproven, each.epochs.offered)
            for each in self._sessions or ()
            if not each.ended
        ]


def _clocks() -> tuple[float, float]:
    """Milliseconds of the clock, and of CPU."""
    return time.perf_counter() * 1e3, time.process_time() * 1e3


def _summary(name: str, waits: list[tuple[float, float]]) -> dict[str, float]:
    found = {}
    for kind, values in (("", [wait for wait, _ in waits]), ("cpu_", [cpu for _, cpu in waits])):
        found[f"{name}_{kind}p99"] = sorted(values)[int(len(values) * 0.99)] if values else 0.0
        found[f"{name}_{kind}max"] = max(values, default=0.0)
    return found
