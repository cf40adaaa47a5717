"""The services every node offers: `trust` to anybody; `message`, `sink` and `echo` to those it trusts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from covey.base.errors import LimitError, ParseError, RefusedError, UnreachableError
from covey.base.types import Identity
from covey.core.rates import Rates
from covey.core.trust import Admission, TrustEvent
from covey.node.book import PeerBook
from covey.node.directory import Directory
from covey.node.mail import Mail
from covey.node.storage import Incoming, Stored
from covey.node.storage.peers import STRANGERS_LIMIT
from covey.node.transport import Stream, Transport
from covey.wire import messages, trust
from covey.wire.framing import FrameReader

__all__ = ["ECHO", "SINK", "MessageService", "TrustService", "serve_echo", "serve_sink"]

SINK: Final = "sink"
"""Swallows a stream and answers {bytes 8, SHA-256 32}: measures a path and proves that nothing was lost."""
ECHO: Final = "echo"
"""Says what it hears: measures the way there and back, through every program that is in between."""

_KNOWN_RATE: Final = 0.5
_KNOWN_BURST: Final = 20.0
"""Actions a second, and at once, of a peer that we asked or trust: each is written down and told."""

_REMOTE: Final[dict[str, TrustEvent]] = {
    "request": "remote-request",
    "approve": "remote-approve",
    "reject": "remote-reject",
    "untrust": "remote-untrust",
}


class TrustService:
    """Takes the trust actions of others: one from a stream, with a receipt once it is on disk, or one from a letter."""

    def __init__(
        self,
        transport: Transport,
        book: PeerBook,
        directory: Directory,
        is_forked: Callable[[Identity], bool],
    ) -> None:
        self._is_forked = is_forked
        self._host = transport.host
        self._book = book
        self._directory = directory
        self._admission = Admission(transport.host.now())
        self._known = Rates(_KNOWN_RATE, _KNOWN_BURST, STRANGERS_LIMIT)

    async def serve(self, stream: Stream) -> None:
        book, peer = self._book, stream.peer
        reader = FrameReader(trust.FRAME_LIMIT)
        frames: list[tuple[int, bytes]] = []
        while not frames:
            data = await stream.read()
            if not data:
                raise ParseError("a trust stream without an action")
            frames = reader.feed(data)
        action = trust.TrustAction.parse(*frames[0])
        known = book.get(peer)
        wanted = known is not None and known.trust in ("requested", "trusted", "rejected")
        now = self._host.now()
        if not (self._known.take(now, peer) if wanted else self._admission.admit(peer, now)):
            raise LimitError("too many trust requests", code="too-many-requests")
        if action.action == "request":
            await self._learn(peer)
            self._refuse_fork(peer)
        applied = await book.hear(peer, _REMOTE[action.action], action.reason, action.number)
        await stream.write(trust.encode_receipt(applied.peer.trust))

    async def take(self, sender: Identity, letter: trust.TrustLetter, number: int) -> None:
        """An action that waited, sealed, from a verified sender whose record was just asked for.

        Returns when it is on the disk, or was overtaken by a later one. RefusedError (`forked-identity`).
        """
        if letter.action == "request":
            self._refuse_fork(sender)
        await self._book.hear_letter(sender, _REMOTE[letter.action], letter.reason, number, letter.heard)

    def _refuse_fork(self, peer: Identity) -> None:
        if self._is_forked(peer) and not self._book.trusts(peer):
            raise RefusedError("the identity has forked", code="forked-identity")

    async def _learn(self, peer: Identity) -> None:
        """Finds the asker's own record, so that its address and name can be shown. Failing that, none is shown."""
        try:
            await self._directory.refresh(peer)
        except UnreachableError:
            return


class MessageService:
    """Puts what a trusted peer sends into the inbox, and answers once it is on disk (PROTOCOL 22)."""

    def __init__(self, mail: Mail) -> None:
        self._mail = mail
        self._streams: dict[Identity, Stream] = {}

    async def serve(self, stream: Stream) -> None:
        """A newer stream takes the place of a sender's older one: each may hold most of a message in memory."""
        sender = stream.peer
        older, self._streams[sender] = self._streams.get(sender), stream
        if older is not None:
            older.abort()
        try:
            await self._take_all(stream, sender)
        finally:
            if self._streams.get(sender) is stream:
                del self._streams[sender]

    async def _take_all(self, stream: Stream, sender: Identity) -> None:
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
            if not self._mail.book.trusts(sender):
                return

    async def _resume(self, stream: Stream, sender: Identity, incarnation: int) -> None:
        inbox = self._mail.inbox
        watermark = await self._mail.committer.run(lambda: inbox.watermark(sender, incarnation))
        await stream.write(messages.encode_number(messages.RESUME, watermark))

    async def _store(self, stream: Stream, sender: Identity, incarnation: int, batch: list[Incoming]) -> None:
        if not batch:
            return
        mail, inbox = self._mail, self._mail.inbox

        def store() -> tuple[list[Stored], int]:
            results = inbox.store_many(sender, incarnation, batch, mail.now_us())
            return results, inbox.watermark(sender, incarnation)

        results, watermark = await mail.committer.run(store)
        for message, result in zip(batch, results, strict=True):
            if result == "inbox-full":
                await stream.write(messages.encode_refused(message.number, "inbox-full"))
        await stream.write(messages.encode_number(messages.SETTLED, watermark))
        stored = results.count("stored")
        if stored:
            mail.arrived(sender, stored)

    async def _skip(self, stream: Stream, sender: Identity, incarnation: int, lowest: int, dead: list[int]) -> None:
        mail, inbox = self._mail, self._mail.inbox

        def skip() -> tuple[int, int]:
            shown = inbox.skip(sender, incarnation, dead, mail.now_us(), lowest)
            return shown, inbox.watermark(sender, incarnation)

        shown, watermark = await mail.committer.run(skip)
        await stream.write(messages.encode_number(messages.SETTLED, watermark))
        if shown:
            mail.arrived(sender, shown)


async def serve_sink(stream: Stream) -> None:
    digest = hashlib.sha256()
    size = 0
    while data := await stream.read():
        digest.update(data)
        size += len(data)
    await stream.write(size.to_bytes(8, "big") + digest.digest())


async def serve_echo(stream: Stream) -> None:
    while data := await stream.read():
        await stream.write(data)
