"""Questions to a router: one datagram, asked again until its answer is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from covey.base.errors import ParseError, UnreachableError
from covey.base.types import Endpoint
from covey.net.host import Host

__all__ = ["Asker"]

T = TypeVar("T")

_ARRIVALS: Final = 32
"""Datagrams looked at in one turn of the loop: whoever floods this port holds nothing up."""


class Asker:
    """One UDP port for questions to one router. Any number may be under way.

    `parse` turns a datagram into an answer, or raises ParseError, or returns None for one to another question; only
    what comes from the address it was asked of is shown to it. Raises as `Host.udp`.
    """

    def __init__(self, host: Host, source: str) -> None:
        self._port = host.udp((source, 0))
        self._open: list[Callable[[Endpoint, bytes], bool]] = []
        self._closed = False
        self._port.on_readable(self._readable)

    async def ask(
        self, remotes: Sequence[Endpoint], question: bytes, parse: Callable[[bytes], T | None], waits: Sequence[float]
    ) -> T:
        """The first answer that the first of `remotes` gives. The question goes to all of them, again after each of
        `waits` but the last, seconds. UnreachableError (`no-answer`)."""
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
        raise UnreachableError(f"{remotes[0][0]} does not answer", code="no-answer")

    def close(self) -> None:
        """No answer is taken any more. Closing twice is fine."""
        self._closed = True
        self._port.close()

    def _readable(self) -> None:
        for _ in range(_ARRIVALS):
            if self._closed or (arrived := self._port.receive()) is None:
                return
            train, segment, sender = arrived
            for start in range(0, len(train), segment):
                datagram = bytes(train[start : start + segment])
                for take in self._open:
                    if take(sender, datagram):
                        break
