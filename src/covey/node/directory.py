"""Who is who: asks every rendezvous, believes none of them, and remembers what it could verify."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, NamedTuple

from covey.base.errors import CoveyError, NotFoundError, ParseError, UnreachableError, UsageError, VerifyError
from covey.base.types import Address, Identity, check_name, identity_text, parse_address, parse_identity
from covey.core.endpoint import Endpoint
from covey.core.events import RecordReceived
from covey.crypto.events import KeyLog
from covey.crypto.record import Record
from covey.net.host import Host
from covey.node.asking import LINGER_SECONDS, READ_FROM, ask
from covey.node.book import PeerBook
from covey.node.contradictions import Contradictions
from covey.node.rendezvous_client import RendezvousClient
from covey.node.storage import Peer
from covey.wire import rendezvous as wire

__all__ = ["Directory"]

_OUR_CLOCK: Final = frozenset({"from-the-future", "not-yet-valid", "expired"})
"""What may be wrong with a claim without anybody's fault but a clock's."""
_NEWEST_KEPT: Final = 1024
"""Agents of which the newest record seen is kept in memory. Ours; of trusted ones the database keeps it for ever."""
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
        contradictions: Contradictions,
        on_log: Callable[[KeyLog], None],
    ) -> None:
        """`on_log` hears of every log that became another one by what a rendezvous said."""
        self._host = host
        self._settled_at = host.now() + _SETTLING_SECONDS
        self._endpoint = endpoint
        self._book = book
        self._clients = clients
        self._now_us = now_us
        self._contradictions = contradictions
        self._on_log = on_log
        self._newest: OrderedDict[Identity, Record] = OrderedDict()
        """The newest record seen of an agent, also of those who are not in the book."""

    async def find(self, text: str) -> Peer:
        """The one agent that the rendezvous say `text` means, remembered.

        Raises NotFoundError (`unknown-peer`, `ambiguous-address`, and `name-disputed` if the rendezvous disagree:
        PROTOCOL 7), UsageError for what is no name, address or identity, UnreachableError without any rendezvous.
        """
        by, key = _kind(text)
        linger = LINGER_SECONDS if by == wire.BY_IDENTITY else None
        while True:
            answers = await self._ask(by, key, linger=linger)
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
        answers = await self._ask(wire.BY_IDENTITY, identity, READ_FROM, LINGER_SECONDS)
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

    async def compare(self, identity: Identity) -> None:
        """Asks two rendezvous for the log head and record of an agent, patiently, to learn what is new and to notice if
        they contradict each other or themselves (PROTOCOL 3)."""
        try:
            answers = await self._ask(wire.BY_IDENTITY, identity, READ_FROM)
        except UnreachableError:
            return
        await self._remember(identity, answers, None, confirm_name=False)

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

    def reached(self) -> bool:
        """Some rendezvous can be asked, and those that cannot are known to be away."""
        return any(client.connected for client in self._clients) and all(
            client.connected or client.tried for client in self._clients
        )

    async def sharers(self, address: Address) -> set[Identity]:
        """The other agents that claim this address, as any rendezvous knows; none without a rendezvous."""
        try:
            answers = await self._ask(wire.BY_ADDRESS, address)
        except UnreachableError:
            return set()
        return {identity for answer in answers for identity in answer.claims}

    async def names(self, identity: Identity, name: str) -> bool:
        """Whether every rendezvous that answers says that `name` is this agent's."""
        try:
            answers = await self._ask(wire.BY_NAME, check_name(name).encode())
        except (UsageError, UnreachableError):
            return False
        return bool(answers) and all(identity in answer.claims for answer in answers)

    async def _ask(self, by: int, key: bytes, enough: int | None = None, linger: float | None = None) -> list[_Answer]:
        """What each rendezvous that answers says, as `ask`. UnreachableError if none does."""
        if not self._clients:
            raise UnreachableError(
                "this agent belongs to no network",
                code="no-network",
                next_step="covey daemon stop && covey up --network TICKET  (as `covey rendezvous` prints it)",
            )
        await self._first_contact(enough)

        async def look_up(client: RendezvousClient) -> _Answer:
            return _Answer(self._verified(client, by, key, await client.lookup(by, key)))

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

    def _verified(
        self, client: RendezvousClient, by: int, key: bytes, claims: Sequence[wire.Signed]
    ) -> dict[Identity, tuple[Record, KeyLog]]:
        found = {}
        if by != wire.BY_ADDRESS and len(claims) > 1:
            # An identity is one agent's, and so is a name at one rendezvous. A dozen logs would take half a second.
            self._contradictions.note(client.identity, "invalid")
            return {}
        for claim in claims:
            checked = self._check(client, by, key, claim)
            if checked is not None:
                found[checked[0].identity] = checked
        return found

    def _check(self, client: RendezvousClient, by: int, key: bytes, claim: wire.Signed) -> tuple[Record, KeyLog] | None:
        """A claim whose record holds under the log that we believe. What cannot be is held against the rendezvous."""
        now_us = self._now_us()
        try:
            record = Record.parse(claim.record)
            if not _answers(record, by, key):  # before its log, which may take 50 ms, and there may be sixteen
                raise VerifyError("the record of somebody else", code="other-identity")
            known = self._endpoint.log_of(record.identity)
            log = known if known is not None and known.raw == claim.log else KeyLog.parse(claim.log)
            if record.identity != log.identity:
                raise VerifyError("the log of somebody else", code="other-identity")
            if not log.revoked:  # after that no record is valid, and the log is what counts
                record.verify(log, now_us)
        except CoveyError as error:
            if error.code not in _OUR_CLOCK:
                self._contradictions.note(client.identity, "invalid")
            return None
        if record.identity == self._endpoint.credentials.identity:
            return None
        log = self._learn_log(client, log)
        if record.head_digest in log.digests:  # else it is of the branch that lost, and was told as such
            self._compare(client, record)
        try:
            record.verify(log, now_us)
        except VerifyError:
            return None
        self._endpoint.saw_delegation(record.identity, record.head_sequence, record.delegation.counter)
        return record, log

    def _learn_log(self, client: RendezvousClient, log: KeyLog) -> KeyLog:
        """What is believed of this log from now on. A rotation or revocation that is new takes effect at once."""
        before = self._endpoint.log_of(log.identity)
        self._endpoint.add_log(log)
        after = self._endpoint.log_of(log.identity) or log
        self._contradictions.compare_log(client.identity, log, after)
        if before is not None and before.raw != after.raw:
            self._on_log(after)
        return after

    def _compare(self, client: RendezvousClient, record: Record) -> None:
        peer = self._book.get(record.identity)
        kept = Record.parse(peer.record) if peer is not None and peer.record else None
        seen = max(
            (each for each in (kept, self._newest.get(record.identity)) if each is not None),
            key=lambda each: each.order,
            default=None,
        )
        self._contradictions.compare_record(client.identity, record, seen)
        if seen is None or record.order > seen.order:
            self._newest[record.identity] = record
            self._newest.move_to_end(record.identity)
            if len(self._newest) > _NEWEST_KEPT:
                self._newest.popitem(last=False)

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


def _answers(record: Record, by: int, key: bytes) -> bool:
    if by == wire.BY_IDENTITY:
        return record.identity == key
    return (record.address() if by == wire.BY_ADDRESS else record.name.encode()) == key


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
