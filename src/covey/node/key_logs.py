"""Key-event logs of others: kept, told of when they change, compared among rendezvous, refused when they forked."""

from __future__ import annotations

import asyncio
from typing import Final

from covey.base.errors import RefusedError
from covey.base.events import PeerForked, PeerKeys
from covey.base.types import Identity
from covey.core.session import CloseCode
from covey.crypto.events import KeyLog
from covey.net.host import Host
from covey.node.background import Background, only_log
from covey.node.book import PeerBook
from covey.node.directory import Directory
from covey.node.news import News
from covey.node.transport import Transport

__all__ = ["Heads", "KeyLogs"]

_HEADS_SECONDS: Final = 3600.0
"""How often two rendezvous are asked for the log head of each trusted peer (PROTOCOL 3)."""
_HEADS_PAUSE: Final = 60.0


class KeyLogs:
    """What follows from a log that was learnt. The core has it already, and ends what it forbids."""

    def __init__(self, transport: Transport, book: PeerBook, news: News, background: Background) -> None:
        self._transport = transport
        self._book = book
        self._news = news
        self._background = background

    def on_learnt(self, log: KeyLog) -> None:
        """From the peer itself."""
        self._background.start(lambda: self._book.remember_log(log))
        if log.forked and self._book.get(log.identity) is not None:
            self._news.tell_of(PeerForked(), log.identity)

    def on_served(self, log: KeyLog) -> None:
        """A rendezvous had a newer log of somebody."""
        if self._book.trusts(log.identity):
            self._news.tell_of(PeerKeys(sequence=log.sequence, revoked=log.revoked), log.identity)
        self._background.start(lambda: self._book.remember_log(log))
        connection = self._transport.endpoint.connections.get(log.identity)
        if log.revoked and connection is not None:
            self._transport.close_connection(connection, CloseCode.NOT_VERIFIED, "revoked")
        self._transport.wake()

    def is_forked(self, identity: Identity) -> bool:
        """Two different rotations of this identity exist: existing trust stays with the branch seen first, new trust
        is impossible (PROTOCOL 4)."""
        log, known = self._transport.endpoint.log_of(identity), self._book.get(identity)
        return (log is not None and log.forked) or (known is not None and known.forked)

    def refuse_fork(self, identity: Identity) -> None:
        """RefusedError (`forked-identity`) if this identity may not be trusted anew."""
        if self.is_forked(identity):
            raise RefusedError(
                "two different key rotations of this identity exist, so one of its keys is in foreign hands",
                code="forked-identity",
                next_step="ask its owner for a new identity",
            )


class Heads:
    """The log head of each trusted peer, compared among rendezvous: whoever hides a rotation is noticed."""

    def __init__(self, host: Host, book: PeerBook, directory: Directory) -> None:
        self._host = host
        self._book = book
        self._directory = directory
        self._compared: dict[Identity, float] = {}
        """When the log head of a peer was asked for last, monotonic seconds."""

    async def run(self) -> None:
        """Once an hour for each trusted peer, unless a session with it was the occasion (PROTOCOL 3)."""
        while True:
            await asyncio.sleep(_HEADS_PAUSE)
            for peer in self._book.all():
                if peer.trust != "trusted":
                    self._compared.pop(peer.identity, None)
                    continue
                since = self._host.now() - self._compared.setdefault(peer.identity, self._host.now())
                if since >= _HEADS_SECONDS:
                    await only_log(lambda identity=peer.identity: self.compare(identity))  # type: ignore[misc]

    async def compare(self, identity: Identity) -> None:
        self._compared[identity] = self._host.now()
        await self._directory.compare(identity)
