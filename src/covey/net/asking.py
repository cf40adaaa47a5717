"""Questions to a router: one datagram, asked again until its answer is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from covey.base.errors import ParseError, UnreachableError
from covey.base.types import Endpoint
from covey.net.host import Host, UdpPort

__all__ = ["Asker"]

T = TypeVar("T")

_ARRIVALS: Final = 32
"""Datagrams looked at in one turn of the loop: whoever floods this port holds nothing up."""


class Asker:
    """Questions to one router from our address `source`. Any number may be under way.

    There is a port only while one is: nothing is kept for the minutes between two renewals, and an answer is awaited at
    another number each time.
    """

    def __init__(self, host: Host, source: str) -> None:
        self._host = host
        self._source = source
        self._port: UdpPort | None = None
        self._open: list[Callable[[Endpoint, bytes], bool]] = []

    async def ask(
        self, remotes: Sequence[Endpoint], question: bytes, parse: Callable[[bytes], T | None], waits: Sequence[float]
    ) -> T:
        """The first answer of the first of `remotes`. The question goes to all of them, again after each of `waits`
        but the last, seconds.

        `parse` turns a datagram into an answer, or raises ParseError, or returns None for one to another question; only
        what comes from the address that was asked is shown to it. UnreachableError (`no-answer`), and as `Host.udp`.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def take(sender: Endpoint, datagram: bytes) -> bool:
            if sender[0] != remotes[0][0] or answer.done():
                return False
            try:
                found = parse(datagram)
            except ParseError:
                return False
            if found is None:
                return False
            answer.set_result(found)
            return True

        if self._port is None:
            self._port = self._host.udp((self._source, 0))
            self._port.on_readable(self._readable)
        self._open.append(take)
        try:
            for wait in waits:
                for remote in remotes:
                    self._port.send(memoryview(question), len(question), remote)
                done, _ = await asyncio.wait((answer,), timeout=wait)
                if done:
                    return answer.result()
        finally:
            self._open.remove(take)
            if not self._open:
                self._port.close()
                self._port = None
        raise UnreachableError(f"{remotes[0][0]} does not answer", code="no-answer")

    def _readable(self) -> None:
        for _ in range(_ARRIVALS):
            if self._port is None or (arrived := self._port.receive()) is None:
                return
            train, segment, sender = arrived
            for start in range(0, len(train), segment):
                datagram = bytes(train[start : start + segment])
                for take in self._open:
                    if take(sender, datagram):
                        break
