"""One client, as the rendezvous sees it: its connection, its stream of the service, its share of us."""

from __future__ import annotations

import asyncio

from covey.base.types import Identity, endpoint_text
from covey.core.connection import Connection
from covey.node.transport import Stream
from covey.rendezvous.bucket import TokenBucket
from covey.rendezvous.limits import Limits
from covey.wire import rendezvous as wire

__all__ = ["Client"]


class Client:
    """State that lasts as long as the connection. `stream` is None while the client has none open for the service."""

    __slots__ = ("bucket", "connection", "knows_store", "observed", "stream", "streamless_at", "writing")

    def __init__(self, connection: Connection, limits: Limits, now: float) -> None:
        self.connection = connection
        self.bucket = TokenBucket(limits.requests_per_second, limits.requests_burst, now)
        self.stream: Stream | None = None
        self.streamless_at = now
        self.observed = ""
        """The endpoint that was pushed last on this stream."""
        self.knows_store = False
        """The log that the cache holds of it was merged into what the endpoint knows."""
        self.writing = asyncio.Lock()

    @property
    def identity(self) -> Identity:
        return self.connection.peer

    @property
    def absent_since(self) -> float | None:
        """Since when nothing can be done for it; None if it is there."""
        if self.connection.session is None:
            return float("-inf")
        times = [self.connection.stalled_at, None if self.stream is not None else self.streamless_at]
        return min((time for time in times if time is not None), default=None)

    def endpoint(self) -> str:
        """Where its packets come from now, "" if nowhere."""
        session = self.connection.session
        return "" if session is None else endpoint_text(session.active.route.remote)

    async def send(self, stream: Stream, message: wire.Message) -> None:
        """One frame, whole, also when a push and an answer meet. Raises as `Stream.write`."""
        async with self.writing:
            await stream.write(wire.encode(message))
