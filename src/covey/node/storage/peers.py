"""What this node knows about others, keyed by identity: reach, trust, and the highest order ever seen."""

# ruff: noqa: S608 -- statements are put together from constants of this module; values are always bound

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

from covey.base.errors import NotFoundError, ParseError, StateError
from covey.base.schema import TrustState
from covey.base.types import (
    Address,
    Endpoint,
    Identity,
    identity_text,
    parse_address,
    parse_identity,
)
from covey.core.trust import PENDING_LIMIT, Decision, TrustAction, TrustEvent, clean_reason, decide
from covey.node.storage.database import Database

__all__ = ["CANDIDATES_KEPT", "PREFIX_SIZE", "STRANGERS_LIMIT", "Applied", "Order", "Peer", "Peers", "find_peer"]

Order = tuple[int, int, int]
"""(log sequence, delegation counter, record sequence): records compare by it (PROTOCOL 3)."""

STRANGERS_LIMIT: Final = 1024
"""Peers in state `unknown` that are kept; of more, the one longest untouched goes. Ours."""

CANDIDATES_KEPT: Final = 8
"""Last working endpoints kept per peer. Ours: enough to meet again with every rendezvous down."""

PREFIX_SIZE: Final = 8
"""Fewest characters of an identity that may stand for it: 40 bits, as good as an address against
accidents."""

_ORDER: Final = struct.Struct(">QQQ")
_COLUMNS: Final = (
    "identity, address, name, pinned, trust, reason, since_us, we_asked, they_asked,"
    " action, action_number, log, record, highest, candidates, witnesses, forked"
)


@dataclass(frozen=True, slots=True)
class Peer:
    """One row. Raw bytes are as they were signed; empty means not known."""

    identity: Identity
    address: Address
    claimed_name: str
    """What its record says: a hint."""
    pinned_name: str | None
    """What trust bound it to; unique."""
    trust: TrustState
    reason: str
    """Of the trust request, theirs or ours."""
    since_us: int
    """When the trust state last changed."""
    we_asked: bool
    they_asked: bool
    action: TrustAction | None
    """What the peer must still be told, until it acknowledges `action_number`."""
    action_number: int
    """Rises with every action, and at least as fast as the wall clock in microseconds."""
    log: bytes
    record: bytes
    order: Order | None
    """The highest ever seen."""
    candidates: tuple[Endpoint, ...]
    """Endpoints that worked last, best first."""
    witnesses: int
    """How many rendezvous answered for the name at first contact."""
    forked: bool = False
    """Two valid branches of its log exist; `log` is the one seen first (PROTOCOL 4)."""

    @property
    def name(self) -> str:
        """What to show: the pinned name, else the claimed one, else ""."""
        return self.pinned_name or self.claimed_name


class Applied(NamedTuple):
    """What `Peers.apply` did."""

    decision: Decision
    peer: Peer
    changed: bool
    """The trust state is another one than before."""
    dropped: tuple[Identity, ...]
    """Strangers whose requests had to go to make room."""


class Peers:
    """The peers table. Each method is atomic by itself; wrap several in `database.transaction()`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, identity: bytes) -> Peer | None:
        row = self._database.row(f"SELECT {_COLUMNS} FROM peers WHERE identity = ?", (identity,))
        return None if row is None else _peer(row)

    def all(self, *trust: TrustState) -> list[Peer]:
        """Every peer, or those in one of the given states; oldest state change first."""
        where = f" WHERE trust IN ({', '.join('?' * len(trust))})" if trust else ""
        rows = self._database.rows(f"SELECT {_COLUMNS} FROM peers{where} ORDER BY since_us, identity", trust)
        return [_peer(row) for row in rows]

    def identities(self) -> set[Identity]:
        """Of all of them."""
        return {Identity(bytes(identity)) for (identity,) in self._database.rows("SELECT identity FROM peers")}

    def upsert(
        self,
        identity: bytes,
        *,
        now_us: int,
        address: bytes,
        name: str,
        order: Order,
        record: bytes,
        log: bytes | None = None,
        forked: bool = False,
        witnesses: int | None = None,
    ) -> bool:
        """Remember a verified record (and log, witnesses: None leaves them; `forked`: see `set_log`). Makes the
        peer if it is new; pins the name of a trusted peer that has none yet, if it is free.

        False, and nothing changes, if `order` is lower than ever seen, or equal with another record (PROTOCOL
        3).
        """
        packed = _ORDER.pack(*order)
        with self._database.transaction():
            self._ensure(identity, now_us)
            peer = self.get(identity)
            assert peer is not None
            if peer.order is not None and (order < peer.order or (order == peer.order and record != peer.record)):
                return False
            self._database.execute(
                "UPDATE peers SET address = ?, name = ?, highest = ?, record = ?, log = coalesce(?, log),"
                " forked = max(forked, ?), witnesses = coalesce(?, witnesses),"
                " since_us = iif(trust = 'unknown', ?, since_us) WHERE identity = ?",
                (address, name, packed, record, log, forked, witnesses, now_us, identity),
            )
            if peer.trust == "trusted" and peer.pinned_name is None:
                self._pin_if_free(identity, name)
        return True

    def set_log(self, identity: bytes, log: bytes, *, forked: bool = False) -> None:
        """Replace the key-event log of a known peer by a verified, longer or superseding one.

        `forked`: another valid branch of it was seen. That stays true for ever.
        """
        self._update(identity, "log = ?, forked = max(forked, ?)", log, forked)

    def set_candidates(self, identity: bytes, candidates: Iterable[Endpoint]) -> None:
        """Replace the endpoints that worked last; best first, the first eight are kept."""
        kept = [[host, port] for host, port in candidates][:CANDIDATES_KEPT]
        self._update(identity, "candidates = ?", json.dumps(kept))

    def set_witnesses(self, identity: bytes, witnesses: int) -> None:
        self._update(identity, "witnesses = ?", witnesses)

    def apply(self, identity: bytes, event: TrustEvent, *, now_us: int, reason: str = "") -> Applied:
        """Let a trust event happen to a peer (made if it is new) and remember what it leads to, in one
        transaction.

        Entering `trusted` pins the claimed name if no other trusted peer has it; leaving it unpins. `reason`
        counts with requests only. `StateError` for a local event that makes no sense: see
        `covey.core.trust.decide`.
        """
        with self._database.transaction():
            before = self.get(identity)
            state: TrustState = "unknown" if before is None else before.trust
            decision = decide(state, event)
            if before is None and decision == Decision("unknown"):
                return Applied(decision, _stranger(identity, now_us), False, ())  # nothing to remember
            dropped = self.set_trust(
                identity,
                decision.state,
                now_us=now_us,
                reason=reason if reason or event.endswith("-request") else None,
                action=decision.action,
                asked=event,
            )
            if decision.state == "trusted" != state and before is not None:
                self._pin_if_free(identity, before.claimed_name)
            peer = self.get(identity)
            assert peer is not None
            return Applied(decision, peer, peer.trust != state, dropped)

    def set_trust(
        self,
        identity: bytes,
        state: TrustState,
        *,
        now_us: int,
        reason: str | None = None,
        action: TrustAction | None = None,
        asked: TrustEvent | None = None,
    ) -> tuple[Identity, ...]:
        """Write a trust state as it is told; `apply` decides first. Returns the pending strangers that had to
        go.

        `action` replaces the one that waits; None leaves it.
        """
        with self._database.transaction():
            self._ensure(identity, now_us)
            self._database.execute(
                "UPDATE peers SET since_us = iif(trust = ?1, since_us, ?2), trust = ?1,"
                " reason = coalesce(?3, reason), pinned = iif(?1 = 'trusted', pinned, NULL)"
                " WHERE identity = ?4",
                (state, now_us, None if reason is None else clean_reason(reason), identity),
            )
            if state == "unknown":
                self._update(identity, "we_asked = 0, they_asked = 0")
            elif asked == "local-request":
                self._update(identity, "we_asked = 1")
            elif asked == "remote-request":
                self._update(identity, "they_asked = 1")
            if action is not None:
                self._update(identity, "action = ?, action_number = max(action_number + 1, ?)", action, now_us)
            if state == "pending":
                return self._drop("pending", PENDING_LIMIT, spare=identity)
            if state == "unknown":
                self._drop("unknown", STRANGERS_LIMIT, spare=identity)
            return ()

    def actions(self) -> list[Peer]:
        """The peers that still have to be told something."""
        rows = self._database.rows(f"SELECT {_COLUMNS} FROM peers WHERE action IS NOT NULL ORDER BY since_us")
        return [_peer(row) for row in rows]

    def confirm_action(self, identity: bytes, number: int) -> bool:
        """The peer acknowledged the action with this number. False if a newer one replaced it meanwhile."""
        return (
            self._database.execute(
                "UPDATE peers SET action = NULL WHERE identity = ? AND action_number = ? AND action IS NOT NULL",
                (identity, number),
            )
            > 0
        )

    def confirm_actions(self, identity: bytes, upto: int) -> bool:
        """The peer has heard every action up to this number. False if the one that waits is newer."""
        return (
            self._database.execute(
                "UPDATE peers SET action = NULL WHERE identity = ? AND action_number <= ? AND action IS NOT NULL",
                (identity, upto),
            )
            > 0
        )

    def pin_name(self, identity: bytes, name: str) -> None:
        """Bind `name` to a trusted peer. `StateError`: ``not-trusted``, or ``name-taken`` by another trusted
        peer."""
        with self._database.transaction():
            peer = self.get(identity)
            if peer is None or peer.trust != "trusted":
                raise StateError(f"only a trusted peer's name can be pinned, and {name!r} is not", code="not-trusted")
            holder = self._database.row(
                "SELECT identity FROM peers WHERE pinned = ? AND identity <> ?", (name, identity)
            )
            if holder is not None:
                raise StateError(
                    f"the name {name!r} is pinned to another trusted peer, {identity_text(holder[0])}",
                    code="name-taken",
                    next_step=f"use the identity instead, or: covey untrust {identity_text(holder[0])}",
                )
            self._update(identity, "pinned = ?", name)

    def forget(self, identity: bytes) -> bool:
        """Remove the peer and everything known about it, also the highest order seen. False if it was not
        known."""
        return self._database.execute("DELETE FROM peers WHERE identity = ?", (identity,)) > 0

    def counts(self) -> dict[TrustState, int]:
        """Peers per trust state; a state without peers is missing."""
        rows = self._database.rows("SELECT trust, count(*) FROM peers GROUP BY trust")
        return {cast(TrustState, trust): int(count) for trust, count in rows}

    def _update(self, identity: bytes, assignment: str, *arguments: object) -> None:
        self._database.execute(f"UPDATE peers SET {assignment} WHERE identity = ?", (*arguments, identity))

    def _ensure(self, identity: bytes, now_us: int) -> None:
        made = self._database.execute(
            "INSERT INTO peers (identity, since_us) VALUES (?, ?) ON CONFLICT DO NOTHING", (identity, now_us)
        )
        if made:
            self._drop("unknown", STRANGERS_LIMIT, spare=identity)

    def _drop(self, state: TrustState, limit: int, spare: bytes = b"") -> tuple[Identity, ...]:
        rows = self._database.rows(
            "SELECT identity FROM peers WHERE trust = ? AND identity <> ?"
            " ORDER BY action IS NULL, since_us DESC, identity LIMIT -1 OFFSET ?",
            (state, spare, limit - bool(spare)),
        )
        self._database.execute_many("DELETE FROM peers WHERE identity = ?", rows)
        return tuple(Identity(bytes(identity)) for (identity,) in rows)

    def _pin_if_free(self, identity: bytes, name: str) -> None:
        if name and self._database.row("SELECT 1 FROM peers WHERE pinned = ?", (name,)) is None:
            self._update(identity, "pinned = ?", name)


def find_peer(peers: Iterable[Peer], text: str) -> Peer:
    """The peer people mean by `text`: an identity, an address, a name, or at least eight characters of an identity.

    A pinned name beats a claimed one, a trusted peer beats strangers at the same address.
    `NotFoundError`: ``unknown-peer``, or ``ambiguous-address`` / ``ambiguous-name`` with the identities among which to
    choose.
    """
    found = _matches(peers, text)
    if not found:
        raise NotFoundError(f"no peer is known as {text!r}", code="unknown-peer", next_step=f"covey handshake {text}")
    chosen = [peer for peer in found if peer.trust == "trusted"] if len(found) > 1 else found
    if len(chosen) == 1:
        return chosen[0]
    found.sort(key=lambda peer: (peer.since_us, peer.identity))
    identities = ", ".join(identity_text(peer.identity) for peer in found[:10])
    raise NotFoundError(
        f"{len(found)} peers are known as {text!r}: {identities}",
        code="ambiguous-address" if _is_address(text) else "ambiguous-name",
        next_step="repeat the command with one of these identities",
    )


def _matches(peers: Iterable[Peer], text: str) -> list[Peer]:
    peers = list(peers)
    try:
        identity = parse_identity(text)
    except ParseError:
        pass
    else:
        return [peer for peer in peers if peer.identity == identity]
    if _is_address(text):
        address = parse_address(text)
        return [peer for peer in peers if peer.address == address]
    for name in ("pinned_name", "claimed_name"):
        named = [peer for peer in peers if getattr(peer, name) == text]
        if named:
            return named
    return [peer for peer in peers if len(text) >= PREFIX_SIZE and identity_text(peer.identity).startswith(text)]


def _is_address(text: str) -> bool:
    try:
        parse_address(text)
    except ParseError:
        return False
    return True


def _stranger(identity: bytes, now_us: int) -> Peer:
    return Peer(
        Identity(identity),
        Address(b""),
        "",
        None,
        "unknown",
        "",
        now_us,
        False,
        False,
        None,
        0,
        b"",
        b"",
        None,
        (),
        0,
    )


def _peer(row: tuple[Any, ...]) -> Peer:
    (identity, address, name, pinned, trust, reason, since_us, we_asked, they_asked) = row[:9]
    (action, action_number, log, record, highest, candidates, witnesses, forked) = row[9:]
    sequence, counter, number = _ORDER.unpack(highest) if highest else (0, 0, 0)
    return Peer(
        identity=Identity(identity),
        address=Address(address),
        claimed_name=name,
        pinned_name=pinned,
        trust=trust,
        reason=reason,
        since_us=since_us,
        we_asked=bool(we_asked),
        they_asked=bool(they_asked),
        action=action,
        action_number=action_number,
        log=log,
        record=record,
        order=(sequence, counter, number) if highest else None,
        candidates=tuple((host, port) for host, port in json.loads(candidates)),
        witnesses=witnesses,
        forked=bool(forked),
    )
