"""What runs between two agents while their network is torn: requests, bulk and messages, each counted at both ends.

Requests are 64 bytes with their number, one every 10 ms whether or not the last was answered, so that a gap is as long
as nothing came back. Bulk is as much as the path takes, and hashed at both ends. Messages are numbered, ten a second.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from covey.node.node import Node
from covey.node.transport import Stream

__all__ = ["BULK", "ECHO", "Inbox", "Load", "Sink", "longest", "serve_requests"]

ECHO: Final = "paths-echo"
BULK: Final = "paths-bulk"
_REQUEST: Final = 64
_REQUEST_SECONDS: Final = 0.01
_MESSAGE_SECONDS: Final = 0.1
_PIECE: Final = bytes(range(256)) * 256
_RESULT: Final = 40
"""Bytes of the answer to bulk: SHA-256 and the count."""


async def serve_requests(stream: Stream) -> None:
    """Gives back whatever comes."""
    stream.traffic = "interactive"  # type: ignore[assignment]
    while data := await stream.read():
        await stream.write(data)


class Sink:
    """Takes bulk, and remembers when some came."""

    def __init__(self) -> None:
        self.times: list[float] = []

    async def serve(self, stream: Stream) -> None:
        """Answers the end of a stream with what it was: SHA-256 32, bytes 8."""
        digest, count, self.times = hashlib.sha256(), 0, []
        while data := await stream.read():
            digest.update(data)
            count += len(data)
            self.times.append(time.monotonic())
        await stream.write(digest.digest() + count.to_bytes(8, "big"))


def longest(times: Sequence[float], since: float) -> float:
    """Seconds between two of these times at most, from the last one before `since` on."""
    counted = [at for at in times if at < since][-1:] + [at for at in times if at >= since]
    return max((later - earlier for earlier, later in pairwise(counted)), default=0.0)


class Inbox:
    """How often each message arrived, and when the first did."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first_at: dict[str, float] = {}

    async def follow(self, node: Node) -> None:
        async for message in node.inbox():
            self.counts[str(message.body)] += 1
            self.first_at.setdefault(str(message.body), time.monotonic())


class Load:
    """Begins with `begin`, ends with `end`, which says what became of it."""

    def __init__(self, node: Node, peer: str, *, bulk_rate: float, run: str) -> None:
        self._node = node
        self._peer = peer
        self._bulk_rate = bulk_rate
        """Bytes a second; 0 for no bulk, infinity for what the path takes."""
        self._run = run
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []
        self.answers: list[float] = []
        """When each request was answered, `time.monotonic`."""
        self._sent = 0
        self._messages = 0

    async def begin(self) -> None:
        echo = await self._node.open(self._peer, ECHO, traffic="interactive")
        bulk = await self._node.open(self._peer, BULK, traffic="bulk") if self._bulk_rate else None
        spawn = asyncio.get_running_loop().create_task
        self._tasks = [spawn(self._ask(echo)), spawn(self._hear(echo)), spawn(self._tell())]
        if bulk is not None:
            self._tasks.append(spawn(self._pour(bulk)))

    async def end(self, seconds: float) -> dict[str, Any]:
        """Everything is waited for: what cannot arrive within `seconds` raises TimeoutError."""
        self._stop.set()
        async with asyncio.timeout(seconds):
            results = await asyncio.gather(*self._tasks)
        return {
            "requests": self._sent,
            "answers": len(self.answers),
            "messages": self._messages,
            "bulk": results[3] if len(results) > 3 else None,
        }

    async def give_up(self) -> None:
        """Nothing more is asked, whatever came of it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def gap(self, since: float) -> float:
        """Seconds between two answers at most, from the last one before `since` on until now."""
        return longest([*self.answers, time.monotonic()], since)

    def settled(self, since: float, seconds: float) -> bool:
        """Answers have come again for so long since then, and are not late."""
        after = [at for at in self.answers if at >= since]
        now = time.monotonic()
        if not after or now - after[-1] > 10 * _REQUEST_SECONDS:
            return False
        last = after[0]
        start = since
        for at in after:
            if at - last > 10 * _REQUEST_SECONDS:
                start = at
            last = at
        return now - start >= seconds

    async def _ask(self, echo: Stream) -> None:
        begun = time.monotonic()
        while not self._stop.is_set():
            await echo.write(self._sent.to_bytes(8, "big") + bytes(_REQUEST - 8))
            self._sent += 1
            await self._pause(begun + self._sent * _REQUEST_SECONDS)
        await echo.finish()

    async def _hear(self, echo: Stream) -> None:
        rest = b""
        while data := await echo.read():
            rest += data
            while len(rest) >= _REQUEST:
                number = int.from_bytes(rest[:8], "big")
                if number != len(self.answers):
                    raise AssertionError(f"answer {number} where {len(self.answers)} was due")
                self.answers.append(time.monotonic())
                rest = rest[_REQUEST:]
        if rest or len(self.answers) != self._sent:
            raise AssertionError(f"{self._sent} requests, {len(self.answers)} answers, {len(rest)} bytes")

    async def _tell(self) -> None:
        begun = time.monotonic()
        while not self._stop.is_set():
            await self._node.send(self._peer, f"{self._run} {self._messages}", wait=0)
            self._messages += 1
            await self._pause(begun + self._messages * _MESSAGE_SECONDS)

    async def _pour(self, bulk: Stream) -> dict[str, Any]:
        digest, count, begun = hashlib.sha256(), 0, time.monotonic()
        while not self._stop.is_set():
            await bulk.write(_PIECE)
            digest.update(_PIECE)
            count += len(_PIECE)
            await self._pause(begun + count / self._bulk_rate)
        await bulk.finish()
        answer = await bulk.read_exactly(_RESULT)
        there = int.from_bytes(answer[32:], "big")
        return {"bytes": count, "arrived": there, "same": answer[:32] == digest.digest()}

    async def _pause(self, until: float) -> None:
        left = until - time.monotonic()
        if left > 0 and not self._stop.is_set():
            try:
                async with asyncio.timeout(left):
                    await self._stop.wait()
            except TimeoutError:
                return
