"""Waiting for what others say: a peer about trust, a custodian about our word, a rendezvous about an address."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from covey.base.types import Identity
from covey.core.connection import Connection
from covey.node.asking import ask
from covey.node.book import PeerBook
from covey.node.deposits import Deposits
from covey.node.mail import Mail
from covey.node.rendezvous_client import RendezvousClient
from covey.node.transport import Transport
from covey.node.waits import Waits

__all__ = ["Answers", "ask_where"]

_VOUCH_PAUSES: Final = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Until a rendezvous is asked again where a peer is, seconds."""


class Answers:
    """Each returns when there is an answer, or after so many seconds."""

    def __init__(self, book: PeerBook, deposits: Deposits, mail: Mail, waits: Waits) -> None:
        self._book = book
        self._deposits = deposits
        self._mail = mail
        self._waits = waits

    async def trust(self, identity: Identity, seconds: float) -> None:
        """Until the peer has answered our request, at most this long."""

        def answered() -> bool:
            peer = self._book.get(identity)
            return peer is None or peer.trust != "requested"

        await self._waits.until(identity, answered, seconds)

    async def told(self, identity: Identity, seconds: float) -> None:
        """Until it is known where our last word to this peer is: there, at a custodian, or only here."""
        known = self._book.get(identity)
        number = known.action_number if known is not None else 0

        def decided() -> bool:
            peer = self._book.get(identity)
            if peer is None or peer.action is None or peer.action_number != number:
                return True
            return self._deposits.of(peer) is not None or self._mail.tried(identity, number)

        await self._waits.until(identity, decided, seconds)


async def ask_where(
    transport: Transport, clients: Sequence[RendezvousClient], connection: Connection, host: str
) -> None:
    """Whether a rendezvous sees the peer at the address at which it says to be: we would send much there."""
    now = transport.host.now
    for pause in _VOUCH_PAUSES:
        answers = await ask(clients, lambda client: client.vouch(connection.peer, host), now=now)
        if any(seen for _, seen in answers):
            transport.endpoint.vouch(now(), connection, host)
            transport.wake()
            return
        await asyncio.sleep(pause)  # it says nothing before the peer has asked about us
