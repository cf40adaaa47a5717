"""The peers of this node, in memory and on disk at once.

Reads are answered from memory; every change goes through the database first. The memory holds what is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from covey.base.path_rules import NO_RULE, PathRule, PathRules
from covey.base.types import Endpoint, Identity
from covey.core.trust import TrustEvent
from covey.crypto.events import KeyLog
from covey.crypto.record import Record
from covey.node.committer import Committer
from covey.node.storage import Applied, Peer, Store, find_peer

__all__ = ["PeerBook"]

T = TypeVar("T")


class PeerBook:
    """`now_us` gives wall microseconds; `on_trust(applied)` is called after every committed trust event."""

    def __init__(
        self,
        store: Store,
        committer: Committer,
        now_us: Callable[[], int],
        on_trust: Callable[[Applied], None],
        path_rules: PathRules | None = None,
    ) -> None:
        self._peers = store.peers
        self._letters = store.letters
        self._committer = committer
        self._now_us = now_us
        self._on_trust = on_trust
        self._path_rules = path_rules or {}
        self._known: dict[Identity, Peer] = {peer.identity: peer for peer in store.peers.all()}

    def get(self, identity: Identity) -> Peer | None:
        return self._known.get(identity)

    def all(self) -> list[Peer]:
        return list(self._known.values())

    def trusts(self, identity: Identity) -> bool:
        peer = self._known.get(identity)
        return peer is not None and peer.trust == "trusted"

    def path_rule(self, identity: Identity) -> PathRule:
        """Which ways to a trusted peer may be used: the rule for its pinned name, else the one for all."""
        peer = self._known.get(identity)
        if peer is None or peer.trust != "trusted":
            return NO_RULE
        return self._path_rules.get(peer.name) or self._path_rules.get("*") or NO_RULE

    def find(self, text: str) -> Peer:
        """See `find_peer`: identity, address, name, or the beginning of an identity. NotFoundError."""
        return find_peer(self._known.values(), text)

    async def remember(self, record: Record, log: KeyLog, *, name: str, witnesses: int | None = None) -> bool:
        """Keeps a verified record and the name to show. False if a newer one was seen before (PROTOCOL 3)."""
        return await self._change(
            record.identity,
            lambda: self._peers.upsert(
                record.identity,
                now_us=self._now_us(),
                address=record.address(),
                name=name,
                order=record.order,
                record=record.raw,
                log=log.raw,
                forked=log.forked,
                witnesses=witnesses,
            ),
        )

    async def remember_log(self, log: KeyLog) -> None:
        """The log of a known peer and whether it forked, at once."""
        known = self._known.get(log.identity)
        if known is not None and (known.log != log.raw or log.forked > known.forked):
            await self._change(log.identity, lambda: self._peers.set_log(log.identity, log.raw, forked=log.forked))

    async def remember_candidates(self, identity: Identity, endpoints: Iterable[Endpoint]) -> None:
        known, kept = self._known.get(identity), tuple(endpoints)
        if known is not None and known.candidates != kept:
            await self._change(identity, lambda: self._peers.set_candidates(identity, kept))

    async def apply(self, identity: Identity, event: TrustEvent, reason: str = "") -> Applied:
        """A trust event happens. StateError for a local one that makes no sense now."""
        applied = await self._change(
            identity, lambda: self._peers.apply(identity, event, now_us=self._now_us(), reason=reason)
        )
        return self._enact(applied)

    async def hear(self, identity: Identity, event: TrustEvent, reason: str, number: int) -> Applied:
        """As `apply`, for an action that a peer said itself, just now: later than all that still waits somewhere."""

        def hear() -> Applied:
            self._letters.hear(identity, number, self._now_us())
            return self._peers.apply(identity, event, now_us=self._now_us(), reason=reason)

        return self._enact(await self._change(identity, hear))

    async def hear_letter(self, identity: Identity, event: TrustEvent, reason: str, number: int, heard: int) -> bool:
        """As `apply`, for an action from a sealed letter that says that its sender `heard` ours up to this number.

        False: the peer's later words, or these, have been heard before.
        """

        def hear() -> Applied | None:
            if number <= self._letters.heard(identity):
                return None
            self._letters.hear(identity, number, self._now_us())
            self._peers.confirm_actions(identity, heard)
            return self._peers.apply(identity, event, now_us=self._now_us(), reason=reason)

        applied = await self._change(identity, hear)
        if applied is None:
            return False
        self._enact(applied)
        return True

    async def heard(self, identity: Identity) -> int:
        """The highest number of an action that we have of this peer; 0 for none."""
        return await self._committer.run(lambda: self._letters.heard(identity))

    async def confirm_action(self, identity: Identity, number: int) -> bool:
        return await self._change(identity, lambda: self._peers.confirm_action(identity, number))

    def _enact(self, applied: Applied) -> Applied:
        for dropped in applied.dropped:
            self._known.pop(dropped, None)
        self._on_trust(applied)
        return applied

    async def _change(self, identity: Identity, job: Callable[[], T]) -> T:
        is_new = identity not in self._known

        def both() -> tuple[T, Peer | None, set[Identity] | None]:
            return job(), self._peers.get(identity), self._peers.identities() if is_new else None

        result, peer, kept = await self._committer.run(both)
        if kept is not None:
            # A new one may have taken the place of strangers.
            for gone in self._known.keys() - kept:
                del self._known[gone]
        if peer is None:
            self._known.pop(identity, None)
        else:
            self._known[identity] = peer
        return result
