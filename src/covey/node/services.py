"""The services every node offers: `trust` to anybody, `message` and `sink` to those it trusts."""

from __future__ import annotations

import hashlib
from typing import Final, Protocol

from covey.base.errors import LimitError, ParseError, UnreachableError
from covey.base.types import Identity
from covey.core.trust import Admission, TrustEvent
from covey.node.book import PeerBook
from covey.node.committer import Committer
from covey.node.directory import Directory
from covey.node.storage import Inbox, Incoming, Stored
from covey.node.transport import Stream, Transport
from covey.wire import messages, trust
from covey.wire.framing import FrameReader

__all__ = ["SINK", "MessageService", "Shelf", "TrustService", "serve_sink"]

SINK: Final = "sink"
"""Swallows a stream and answers {bytes 8, SHA-256 32}: measures a path and proves that nothing was lost."""

_REMOTE: Final[dict[str, TrustEvent]] = {
    "request": "remote-request",
    "approve": "remote-approve",
    "reject": "remote-reject",
    "untrust": "remote-untrust",
}


class Shelf(Protocol):
    """What the services share with their node."""

    transport: Transport
    book: PeerBook
    committer: Committer
    directory: Directory
    inbox_store: Inbox

    def now_us(self) -> int: ...
    def arrived(self, sender: Identity, count: int) -> None:
        """So many new messages are on disk."""


class TrustService:
    """Takes one trust action of a peer and gives its receipt once it is on disk."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._admission = Admission(shelf.transport.host.now())

    async def serve(self, stream: Stream) -> None:
        shelf, peer = self._shelf, stream.peer
        reader = FrameReader(trust.FRAME_LIMIT)
        frames: list[tuple[int, bytes]] = []
        while not frames:
            data = await stream.read()
            if not data:
                raise ParseError("a trust stream without an action")
            frames = reader.feed(data)
        action = trust.TrustAction.parse(*frames[0])
        known = shelf.book.get(peer)
        wanted = known is not None and known.trust in ("requested", "trusted", "rejected")
        if not wanted and not self._admission.admit(peer, shelf.transport.host.now()):
            raise LimitError("too many trust requests", code="too-many-requests")
        if action.action == "request":
            await self._learn(peer)
        applied = await shelf.book.apply(peer, _REMOTE[action.action], action.reason)
        await stream.write(trust.encode_receipt(applied.peer.trust))

    async def _learn(self, peer: Identity) -> None:
        """Finds the asker's own record, so that its address and name can be shown. Failing that, none is shown."""
        try:
            await self._shelf.directory.refresh(peer)
        except UnreachableError:
            return


class MessageService:
    """Puts what a trusted peer sends into the inbox, and answers once it is on disk (PROTOCOL 22)."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def serve(self, stream: Stream) -> None:
        shelf, sender = self._shelf, stream.peer
        reader = FrameReader(messages.FRAME_LIMIT)
        incarnation: int | None = None
        while data := await stream.read():
            batch: list[Incoming] = []
            for kind, body in reader.feed(data):
                if incarnation is None:
                    if kind != messages.OPENING:
                        raise ParseError("a message stream that does not begin with its incarnation")
                    incarnation = messages.parse_number(body)
                    await self._resume(stream, sender, incarnation)
                elif kind == messages.MESSAGE:
                    frame = messages.MessageFrame.parse(body)
                    batch.append(Incoming(frame.number, frame.lowest_alive, frame.id, frame.type, frame.body))  # type: ignore[arg-type]
                elif kind == messages.SKIP:
                    await self._store(stream, sender, incarnation, batch)
                    batch = []
                    await self._skip(stream, sender, incarnation, *messages.parse_skip(body))
                else:
                    raise ParseError("an unknown frame on a message stream")
            if incarnation is not None:
                await self._store(stream, sender, incarnation, batch)
            if not shelf.book.trusts(sender):
                return

    async def _resume(self, stream: Stream, sender: Identity, incarnation: int) -> None:
        inbox = self._shelf.inbox_store
        watermark = await self._shelf.committer.run(lambda: inbox.watermark(sender, incarnation))
        await stream.write(messages.encode_number(messages.RESUME, watermark))

    async def _store(self, stream: Stream, sender: Identity, incarnation: int, batch: list[Incoming]) -> None:
        if not batch:
            return
        shelf, inbox = self._shelf, self._shelf.inbox_store

        def store() -> tuple[list[Stored], int]:
            results = inbox.store_many(sender, incarnation, batch, shelf.now_us())
            return results, inbox.watermark(sender, incarnation)

        results, watermark = await shelf.committer.run(store)
        for message, result in zip(batch, results, strict=True):
            if result == "inbox-full":
                await stream.write(messages.encode_refused(message.number, "inbox-full"))
        await stream.write(messages.encode_number(messages.SETTLED, watermark))
        stored = results.count("stored")
        if stored:
            shelf.arrived(sender, stored)

    async def _skip(self, stream: Stream, sender: Identity, incarnation: int, lowest: int, dead: list[int]) -> None:
        shelf, inbox = self._shelf, self._shelf.inbox_store

        def skip() -> tuple[int, int]:
            shown = inbox.skip(sender, incarnation, dead, shelf.now_us(), lowest)
            return shown, inbox.watermark(sender, incarnation)

        shown, watermark = await shelf.committer.run(skip)
        await stream.write(messages.encode_number(messages.SETTLED, watermark))
        if shown:
            shelf.arrived(sender, shown)


async def serve_sink(stream: Stream) -> None:
    digest = hashlib.sha256()
    size = 0
    while data := await stream.read():
        digest.update(data)
        size += len(data)
    await stream.write(size.to_bytes(8, "big") + digest.digest())
