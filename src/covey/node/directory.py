"""Who is who: asks every rendezvous, believes none of them, and remembers what it could verify."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, NamedTuple

from covey.base.errors import CoveyError, NotFoundError, ParseError, UnreachableError, UsageError, VerifyError
from covey.base.types import Identity, check_name, identity_text, parse_address, parse_identity
from covey.core.endpoint import Endpoint
from covey.core.events import RecordReceived
from covey.crypto.events import KeyLog
from covey.crypto.record import Record
from covey.net.host import Host
from covey.node.asking import LINGER_SECONDS, READ_FROM, ask
from covey.node.book import PeerBook
from covey.node.rendezvous_client import RendezvousClient
from covey.node.storage import Peer
from covey.wire import rendezvous as wire

__all__ = ["Directory"]

_FIRST_CONTACT_SECONDS: Final = 5.0
"""How long a look-up waits for a first rendezvous after a start."""


_SETTLING_SECONDS: Final = 3.0
"""After a start, a name nobody knows is asked for again until then ..."""
_SETTLING_PAUSE: Final = 0.2
"""... this often, seconds."""


class _Answer(NamedTuple):
    claims: dict[Identity, tuple[Record, KeyLog]]
    """Verified claims of one rendezvous."""


class Directory:
    """Look-ups by name, address or identity over all rendezvous of the network."""

    def __init__(
        self,
        host: Host,
        endpoint: Endpoint,
        book: PeerBook,
        clients: Sequence[RendezvousClient],
        now_us: Callable[[], int],
    ) -> None:
        self._host = host
        self._settled_at = host.now() + _SETTLING_SECONDS
        self._endpoint = endpoint
        self._book = book
        self._clients = clients
        self._now_us = now_us

    async def find(self, text: str) -> Peer:
        """The one agent that the rendezvous say `text` means, remembered.

        Raises NotFoundError (`unknown-peer`, `ambiguous-address`, and `name-disputed` if the rendezvous disagree:
        PROTOCOL 7), UsageError for what is no name, address or identity, UnreachableError without any rendezvous.
        """
        by, key = _kind(text)
        while True:
            answers = await self._ask(by, key)
            identities = {identity for answer in answers for identity in answer.claims}
            if identities or self._host.now() > self._settled_at:
                break
            # We have only just started; whoever is looked for may have, too, and be about to publish.
            await asyncio.sleep(_SETTLING_PAUSE)
        if not identities:
            raise _unknown(text)
        if len(identities) > 1:
            listed = ", ".join(identity_text(identity) for identity in sorted(identities))
            raise NotFoundError(
                f"more than one agent is claimed to be {text!r}: {listed}",
                code="name-disputed" if by == wire.BY_NAME else "ambiguous-address",
                next_step="repeat the command with the identity you were told by the other side",
            )
        identity = identities.pop()
        witnesses = sum(identity in answer.claims for answer in answers) if by == wire.BY_NAME else None
        await self._remember(identity, answers, witnesses)
        return self._book.find(identity_text(identity))

    async def refresh(self, identity: Identity, *, confirm_name: bool = True) -> Record | None:
        """The newest record of an agent that two rendezvous have, remembered; None if they have none.

        A name that we did not know it by is remembered only if every rendezvous confirms it, which may take a second
        longer; without `confirm_name` it is not.
        """
        answers = await self._ask(wire.BY_IDENTITY, identity, READ_FROM)
        return await self._remember(identity, answers, None, confirm_name=confirm_name)

    async def learn(self, event: RecordReceived) -> bool:
        """Keeps a record that a peer gave us of itself; whether it was one. Its name stays what it was here."""
        known = self._book.get(event.identity)
        try:
            if event.log:
                self._endpoint.add_log(KeyLog.parse(event.log))
            record, log = Record.parse(event.record), self._endpoint.log_of(event.identity)
            if known is None or log is None or record.identity != event.identity:
                return False
            record.verify(log, self._now_us())
        except (ParseError, VerifyError):
            return False
        return await self._book.remember(record, log, name=known.claimed_name)

    async def holders(self, name: str) -> set[Identity]:
        """The other agents that a connected rendezvous says have this name; none without a rendezvous."""
        if not any(client.connected for client in self._clients):
            return set()
        try:
            answers = await self._ask(wire.BY_NAME, name.encode())
        except UnreachableError:
            return set()
        return {identity for answer in answers for identity in answer.claims}

    async def claimants(self, text: str) -> list[Identity]:
        """Everybody of whom any rendezvous says that `text` means them, remembered by nobody: hints where to knock.

        Raises as `find`, but for disputes.
        """
        by, key = _kind(text)
        answers = await self._ask(by, key)
        found = sorted({identity for answer in answers for identity in answer.claims})
        if not found:
            raise _unknown(text)
        return found

    async def names(self, identity: Identity, name: str) -> bool:
        """Whether every rendezvous that answers says that `name` is this agent's."""
        try:
            answers = await self._ask(wire.BY_NAME, check_name(name).encode())
        except (UsageError, UnreachableError):
            return False
        return bool(answers) and all(identity in answer.claims for answer in answers)

    async def _ask(self, by: int, key: bytes, enough: int | None = None) -> list[_Answer]:
        """What each rendezvous that answers says, `enough` of them or all. UnreachableError if none does."""
        if not self._clients:
            raise UnreachableError(
                "this agent belongs to no network",
                code="no-network",
                next_step="covey daemon stop && covey up --network TICKET  (as `covey rendezvous` prints it)",
            )
        await self._first_contact(enough)

        async def look_up(client: RendezvousClient) -> _Answer:
            return _Answer(self._verified(by, key, await client.lookup(by, key)))

        linger = LINGER_SECONDS if by == wire.BY_IDENTITY else None
        answers = await ask(self._clients, look_up, now=self._host.now, enough=enough, linger=linger)
        if not answers:
            problems = "; ".join(sorted({client.problem for client in self._clients if client.problem}))
            raise UnreachableError(
                f"no rendezvous answers{': ' + problems if problems else ''}",
                code="no-rendezvous",
                next_step="covey status",
            )
        return [answer for _, answer in answers]

    async def _first_contact(self, enough: int | None) -> None:
        """After a start: until one rendezvous is connected, and if all are asked, until it is known which can be."""
        if not any(client.connected for client in self._clients):
            waits = [client.wait_connected() for client in self._clients]
            await _wait(waits, _FIRST_CONTACT_SECONDS, asyncio.FIRST_COMPLETED)
        settling = self._settled_at - self._host.now()
        if enough is None and settling > 0:
            await _wait([client.wait_tried() for client in self._clients], settling, asyncio.ALL_COMPLETED)

    def _verified(self, by: int, key: bytes, claims: Sequence[wire.Signed]) -> dict[Identity, tuple[Record, KeyLog]]:
        found = {}
        for claim in claims:
            try:
                record, log = Record.parse(claim.record), KeyLog.parse(claim.log)
                self._endpoint.add_log(log)
                known = self._endpoint.log_of(log.identity)
                record.verify(known if known is not None else log, self._now_us())
                self._endpoint.saw_delegation(record.identity, record.head_sequence, record.delegation.counter)
            except CoveyError:
                continue
            answers = {
                wire.BY_IDENTITY: record.identity == key,
                wire.BY_ADDRESS: record.address() == key,
                wire.BY_NAME: record.name.encode() == key,
            }
            if answers[by] and record.identity != self._endpoint.credentials.identity:
                found[record.identity] = (record, log)
        return found

    async def _remember(
        self, identity: Identity, answers: Sequence[_Answer], witnesses: int | None, *, confirm_name: bool = True
    ) -> Record | None:
        newest: tuple[Record, KeyLog] | None = None
        for answer in answers:
            claim = answer.claims.get(identity)
            if claim is not None and (newest is None or claim[0].order > newest[0].order):
                newest = claim
        if newest is None:
            return None
        record, _ = newest
        log = self._endpoint.log_of(identity) or newest[1]
        name = record.name
        if name and witnesses is None:
            known = self._book.get(identity)
            unknown = known is None or known.claimed_name != name
            if unknown and not (confirm_name and await self.names(identity, name)):
                # It calls itself by a name that the network gave to somebody else: the user must not see it.
                name = ""
        if not await self._book.remember(record, log, name=name, witnesses=witnesses):
            # Older than what we have seen: a rendezvous that rolls back, or lags. Ours is better.
            peer = self._book.get(identity)
            return Record.parse(peer.record) if peer is not None and peer.record else None
        return record


async def _wait(waits: Sequence[Coroutine[Any, Any, None]], seconds: float, until: str) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=until)
    finally:
        for task in tasks:
            task.cancel()


def _unknown(text: str) -> NotFoundError:
    return NotFoundError(
        f"nobody on this network is known as {text!r}",
        code="unknown-peer",
        next_step="check the spelling, and that the other side is up: covey status",
    )


def _kind(text: str) -> tuple[int, bytes]:
    try:
        return wire.BY_IDENTITY, parse_identity(text)
    except ParseError:
        pass
    try:
        return wire.BY_ADDRESS, parse_address(text)
    except ParseError:
        return wire.BY_NAME, check_name(text).encode()
