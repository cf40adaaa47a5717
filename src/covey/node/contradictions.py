"""What a rendezvous said that cannot be true, or can be no longer: noticed, counted and told, never believed.

====================  ================================================================================================
kind                  it gave
====================  ================================================================================================
`invalid`             something that no honest server can hold: wrong signatures, another agent than was asked for
`rollback`            an older record or key-event log than it gave before: restored from a backup, or lying
`behind`              an older one than another rendezvous had two hours ago: it lags, or withholds
`two-records`         another record than was seen before, of the same order: the agent signed two, so a key of it is in
                      two hands or its state in two places, and somebody shows each half of the network another one
`fork`                another rotation of a key-event log than is known: PROTOCOL 4
====================  ================================================================================================

Nothing here decides what to believe: signatures and orders do (PROTOCOL 3, 4). This is so that the owner hears of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from covey.base.types import Identity
from covey.crypto.events import KeyLog
from covey.crypto.record import Record

__all__ = ["REPUBLISHED_US", "Contradiction", "Contradictions", "Kind"]

Kind = Literal["invalid", "rollback", "behind", "two-records", "fork"]

REPUBLISHED_US: Final = 2 * 3600 * 1_000_000
"""A rendezvous that an agent reaches has its newest record after this long, microseconds: two publications."""

_SHOWN_SECONDS: Final = 24 * 3600.0
"""How long a contradiction is shown after it was last repeated."""
_TOLD_SECONDS: Final = 3600.0
"""Least time between two events about the same one."""
_KEPT: Final = 256
"""Contradictions remembered; of more, the one longest not repeated goes."""
_HEARD_KEPT: Final = 4096
"""Agents of which it is remembered what each rendezvous said last."""

_Order = tuple[int, int, int]


class _Key(NamedTuple):
    rendezvous: Identity
    kind: Kind
    peer: Identity | None


@dataclass(slots=True)
class Contradiction:
    """One rendezvous, one kind, one agent (None: it was about nobody we could name)."""

    rendezvous: Identity
    kind: Kind
    peer: Identity | None
    count: int = 0
    last: float = 0.0
    """When it was repeated last, monotonic seconds."""
    told: float = float("-inf")


class Contradictions:
    """`now` gives monotonic seconds; `tell(contradiction)` is called for what is new, or goes on for an hour."""

    def __init__(self, now: Callable[[], float], tell: Callable[[Contradiction], None]) -> None:
        self._now = now
        self._tell = tell
        self._found: OrderedDict[_Key, Contradiction] = OrderedDict()
        self._totals: dict[Identity, int] = {}
        self._heard: OrderedDict[tuple[Identity, Identity], _Order] = OrderedDict()
        """The highest order of an agent's records that a rendezvous gave: (log sequence, counter, sequence)."""

    def __iter__(self) -> Iterator[Contradiction]:
        """Those that are worth showing."""
        since = self._now() - _SHOWN_SECONDS
        return (each for each in list(self._found.values()) if each.last >= since)

    def count(self, rendezvous: Identity) -> int:
        """Of this rendezvous, since we started."""
        return self._totals.get(rendezvous, 0)

    def note(self, rendezvous: Identity, kind: Kind, peer: Identity | None = None) -> None:
        key = _Key(rendezvous, kind, peer)
        found = self._found.setdefault(key, Contradiction(rendezvous, kind, peer))
        self._found.move_to_end(key)
        if len(self._found) > _KEPT:
            self._found.popitem(last=False)
        self._totals[rendezvous] = self._totals.get(rendezvous, 0) + 1
        found.count += 1
        found.last = self._now()
        if found.last - found.told >= _TOLD_SECONDS:
            found.told = found.last
            self._tell(found)

    def compare_log(self, rendezvous: Identity, log: KeyLog, known: KeyLog) -> None:
        """A valid log against what we believe after merging it."""
        if known.forked and log.digests != known.digests[: len(log.digests)]:
            self.note(rendezvous, "fork", log.identity)

    def compare_record(self, rendezvous: Identity, record: Record, seen: Record | None) -> None:
        """A valid record (under its own log) against `seen`, the newest that we know of this agent from anybody."""
        identity, order = record.identity, record.order
        before = self._heard.get((rendezvous, identity), order)
        self._heard[rendezvous, identity] = max(before, order)
        self._heard.move_to_end((rendezvous, identity))
        if len(self._heard) > _HEARD_KEPT:
            self._heard.popitem(last=False)
        if seen is not None and order == seen.order and record.raw != seen.raw:
            self.note(rendezvous, "two-records", identity)
        elif order < before:
            self.note(rendezvous, "rollback", identity)
        elif seen is not None and order < seen.order and seen.sequence - record.sequence > REPUBLISHED_US:
            self.note(rendezvous, "behind", identity)
