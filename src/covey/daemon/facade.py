"""What the daemon needs from a node and its streams, as types.

The daemon is written against these protocols, so that its tests can put an in-memory node behind the sockets;
the real one is `covey.node.Node`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from covey.base.schema import MessageType, MessageView, NodeView, PeerView, PingView, SendView

__all__ = ["NodeFacade", "StreamFacade"]


class StreamFacade(Protocol):
    """One reliable, ordered stream with a half-close."""

    async def read(self, limit: int = -1, /) -> bytes:
        """At most `limit` bytes, b"" after the peer finished. Raises `CoveyError` after a reset."""

    async def write(self, data: bytes, /) -> None:
        """Take all of `data`; waits while the peer's window is full: that is the back-pressure."""

    async def finish(self) -> None:
        """Nothing more will be written."""

    async def reset(self) -> None:
        """Give the stream up in both directions."""


class NodeFacade(Protocol):
    """One agent's node; every result is a structure of `covey.base.schema`."""

    def view(self) -> NodeView: ...

    def peers(self) -> list[PeerView]: ...

    def pending(self) -> list[PeerView]: ...

    async def find(self, peer: str) -> PeerView: ...

    async def handshake(self, peer: str, reason: str = "", wait: float = 0) -> PeerView: ...

    async def approve(self, peer: str) -> PeerView: ...

    async def reject(self, peer: str, reason: str = "") -> PeerView: ...

    async def untrust(self, peer: str) -> PeerView: ...

    async def ping(self, peer: str) -> PingView: ...

    async def send(
        self,
        peer: str,
        body: bytes,
        type: MessageType = "text",
        *,
        id: str | None = None,
        ttl: float | None = None,
        wait: float = 5.0,
    ) -> SendView: ...

    async def send_many(
        self,
        peer: str,
        bodies: list[bytes],
        type: MessageType = "text",
        ids: list[str] | None = None,
        ttl: float | None = None,
        wait: float = 5.0,
    ) -> list[SendView]: ...

    async def inbox_list(
        self, *, all: bool = False, limit: int = 100, after: int = 0, bodies: bool = True
    ) -> list[MessageView]: ...

    async def inbox_get(self, number_or_id: str) -> MessageView: ...

    async def inbox_acknowledge(self, numbers: list[int]) -> int: ...

    async def inbox_clear(self, *, all: bool = False) -> int: ...

    async def open(self, peer: str, service: str) -> StreamFacade: ...

    def subscribe(self) -> AsyncIterator[dict[str, Any]]: ...

    async def start(self) -> None: ...

    async def close(self) -> None: ...
