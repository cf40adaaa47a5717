"""What we have to say to peers that are away: sealed, and deposited where they will find it (PROTOCOL 23, 24).

An action of trust goes to min(2, available) rendezvous at which the peer has a mailbox, its homes first. It stays our
own until the peer has confirmed it: the courier goes on trying, and what waits elsewhere is sealed again when it
expires, when our delegation or the action is another one, and once in every session with its custodian.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from covey.base.errors import CoveyError, StateError, UnreachableError, VerifyError
from covey.base.types import Identity
from covey.core.endpoint import Endpoint
from covey.crypto.mailbox import MAIL_LIFE_US, MailboxKey
from covey.crypto.record import NO_MAILBOX, Record
from covey.crypto.seal import Encrypt, encrypt, seal
from covey.node.book import PeerBook
from covey.node.committer import Committer
from covey.node.rendezvous_client import RendezvousClient
from covey.node.storage import Deposit, Peer, Store
from covey.wire import rendezvous as wire
from covey.wire import trust

__all__ = ["CUSTODIANS", "Deposits"]

CUSTODIANS: Final = 2
"""Rendezvous at which one letter waits, or as many as there are (PROTOCOL 24)."""

_SHORTEST_WAIT_US: Final = 3600 * 1_000_000
"""A letter that would expire sooner is not worth depositing, and one that does is sealed again."""
_ID_SIZE: Final = 16


class Deposits:
    """Call `deposit` when a peer with an action could not be reached, `settled` when it has heard it."""

    def __init__(
        self,
        endpoint: Endpoint,
        book: PeerBook,
        clients: Sequence[RendezvousClient],
        committer: Committer,
        store: Store,
        *,
        random: Callable[[int], bytes],
        now_us: Callable[[], int],
        own_name: Callable[[], str],
        encrypt: Encrypt = encrypt,
    ) -> None:
        self._endpoint = endpoint
        self._book = book
        self._clients = clients
        self._committer = committer
        self._store = store
        self._random = random
        self._now_us = now_us
        self._own_name = own_name
        self._encrypt = encrypt
        self._turns: dict[Identity, asyncio.Lock] = {}
        self._said_in: dict[tuple[Identity, Identity], object] = {}
        """The session in which a custodian (second) said that it keeps what is for a peer (first)."""
        self._held = {deposit.recipient: deposit for deposit in store.letters.deposits()}

    def of(self, peer: Peer) -> Deposit | None:
        """Where this peer's action waits; None if it waits nowhere but here."""
        held = self._held.get(peer.identity)
        if held is None or peer.action is None or not held.custodians:
            return None
        return held if held.action_number == peer.action_number and held.until_us > self._now_us() else None

    async def deposit(self, peer: Peer) -> None:
        """Sees to it that the peer's action waits where it should. Raises CoveyError if it waits nowhere then."""
        held = await self._prepare(peer)
        reached = [client for client in self._clients if client.connected]
        if not reached:
            if held.custodians:
                return
            raise UnreachableError("no rendezvous is connected", code="no-rendezvous", next_step="covey status")
        wanted = min(CUSTODIANS, len(reached))
        doubtful = [client for client in reached if self._is_doubtful(held, client)]
        if len(held.custodians) >= wanted and not doubtful:
            return
        record = Record.parse(peer.record) if peer.record else None
        if record is None or record.mailbox_key_digest == NO_MAILBOX:
            raise UnreachableError("the peer has no mailbox", code="no-mailbox")
        homes = {home.identity for home in record.homes}
        problem: CoveyError | None = None
        for client in (*doubtful, *sorted(reached, key=lambda each: (each.identity not in homes, each.silent))):
            if client not in doubtful and (client.identity in held.custodians or len(held.custodians) >= wanted):
                continue
            try:
                # One at a time: it reads us more slowly the more we ask for, and is not to be taken for silent.
                async with self._turns.setdefault(client.identity, asyncio.Lock()):
                    held = await self._deposit_at(client, peer, record, held)
            except CoveyError as error:
                problem = error
                held = await self._without(held, client)
        if problem is not None and not held.custodians:
            raise problem

    def _is_doubtful(self, held: Deposit, client: RendezvousClient) -> bool:
        """It said that it keeps the letter, in an earlier session: its disk, or its mind, may be another one by now.

        Depositing once more under the same id costs no room there.
        """
        seen = self._said_in.get((held.recipient, client.identity))
        return client.identity in held.custodians and seen is not client.attachment

    async def _without(self, held: Deposit, client: RendezvousClient) -> Deposit:
        if client.identity not in held.custodians:
            return held
        left = tuple(each for each in held.custodians if each != client.identity)
        fresh = replace(held, custodians=left)
        await self._keep(fresh)
        return fresh

    async def settled(self, identity: Identity) -> None:
        """The peer has heard what waited for it."""
        peer = self._book.get(identity)
        if (peer is None or peer.action is None) and self._held.pop(identity, None) is not None:
            for key in [key for key in self._said_in if key[0] == identity]:
                del self._said_in[key]
            await self._committer.run(lambda: self._store.letters.forget_deposit(identity))

    async def _prepare(self, peer: Peer) -> Deposit:
        """What is deposited of this action, under the present delegation; made, with no custodian, if it is new."""
        held, now_us = self._held.get(peer.identity), self._now_us()
        delegation = hashlib.sha256(self._endpoint.credentials.delegation.raw).digest()
        if (
            held is not None
            and (held.action_number, held.delegation) == (peer.action_number, delegation)
            and held.until_us - now_us > _SHORTEST_WAIT_US
        ):
            return held
        # The id stays and is on our disk before anybody has it: newer words take the place of the older ones.
        deposit_id = held.id if held is not None else self._random(_ID_SIZE)
        fresh = Deposit(peer.identity, deposit_id, peer.action_number, delegation, now_us + MAIL_LIFE_US, ())
        await self._keep(fresh)
        return fresh

    async def _deposit_at(self, client: RendezvousClient, peer: Peer, record: Record, held: Deposit) -> Deposit:
        assert peer.action is not None
        key = await self._mailbox_key(client, record)
        expires_us = min(self._now_us() + MAIL_LIFE_US, key.until_us)
        if expires_us - self._now_us() < _SHORTEST_WAIT_US:
            raise VerifyError("the peer has been away for longer than letters wait", code="expired")
        reason = peer.reason if peer.action == "request" else ""
        heard = await self._book.heard(peer.identity)
        sealed = seal(
            self._endpoint.credentials,
            key,
            expires_us=expires_us,
            incarnation=self._store.outbox.incarnation,
            number=peer.action_number,
            kind=trust.LETTER_KIND,
            body=trust.TrustLetter(peer.action, self._own_name(), reason, heard).encode(),
            encrypt=self._encrypt,
        )
        # Each custodian knows it by another id, so that none can touch what waits at the other.
        deposit_id = hashlib.sha256(held.id + client.identity).digest()[: wire.DEPOSIT_ID_SIZE]
        session = client.attachment
        await client.deposit(deposit_id, peer.identity, sealed)
        others = tuple(each for each in held.custodians if each != client.identity)
        until_us = min(held.until_us, expires_us) if others else expires_us
        fresh = replace(held, until_us=until_us, custodians=(*others, client.identity))
        await self._keep(fresh)
        self._said_in[peer.identity, client.identity] = session
        return fresh

    async def _mailbox_key(self, client: RendezvousClient, record: Record) -> MailboxKey:
        """The key that the peer's newest record names; any other is refused, also an older one of its own."""
        raw = await client.ask_box(record.identity)
        if not raw:
            raise UnreachableError("the peer has no mailbox there", code="no-mailbox")
        key = MailboxKey.parse(raw)
        if key.id != record.mailbox_key_digest:
            raise VerifyError("the rendezvous gave another mailbox key than the record names", code="other-key")
        log = self._endpoint.log_of(record.identity)
        if log is None:
            raise StateError("the peer's log is not known", code="unknown-head")
        key.verify(log, self._now_us())
        self._endpoint.keyring.admit_delegation(log, key.delegation)
        return key

    async def _keep(self, deposit: Deposit) -> None:
        await self._committer.run(lambda: self._store.letters.set_deposit(deposit))
        self._held[deposit.recipient] = deposit
