"""Server-sent events: how the streams of the local API look on the wire.

The format is that of the HTML standard (9.2): `id:`, `event:`, `data:` with one line of JSON, an empty line. A stream
begins with a comment and an `id:`, so that the reader knows it is subscribed and where; each event's `id` is what it
sends as `Last-Event-ID` to go on after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgspec

__all__ = ["KEEPALIVE_SECONDS", "Push", "lines"]

KEEPALIVE_SECONDS = 15.0
"""A comment is sent on a silent stream this often, so that a dead reader is noticed. Ours."""


class Push(NamedTuple):
    """One event; without a kind, the place in the stream alone."""

    position: str
    kind: str = ""
    data: Any = None


async def lines(source: AsyncIterator[Push]) -> AsyncIterator[bytes]:
    """The bytes of a stream whose first push is its beginning."""
    waiting = asyncio.ensure_future(anext(source, None))
    prefix = b": subscribed\n"
    try:
        while True:
            done, _ = await asyncio.wait((waiting,), timeout=KEEPALIVE_SECONDS)
            if not done:
                yield b": still here\n\n"
                continue
            push = waiting.result()
            if push is None:
                return
            yield prefix + _frame(push)
            prefix = b""
            waiting = asyncio.ensure_future(anext(source, None))
    finally:
        waiting.cancel()


def _frame(push: Push) -> bytes:
    place = b"id: %b\n" % push.position.encode()
    if not push.kind:
        return place + b"\n"
    return place + b"event: %b\ndata: %b\n\n" % (push.kind.encode(), msgspec.json.encode(push.data))
