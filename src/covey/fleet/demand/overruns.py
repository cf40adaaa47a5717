"""What a workload's own history teaches about how far down is too far.

An *overrun* is a moment with more backlog than `OVERRUN_BACKLOG` seconds of ready capacity, and more than noise
explains: agents could not be started as fast as requests came. Once is an accident, and nothing follows. Twice within
two hours is a pattern: what would just have served the highest 15 s is kept 1.5 times as long as lay between the two,
an hour at most, so that the next one finds it running. A workload that is never overrun pays nothing for this.

KPA forgets after 60 s and HPA after 300 s whatever happened; bursts that come every ten minutes meet both unprepared
each time. `docs/fleet/demand.md` has the figures.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec

__all__ = ["MEMORY_MOST", "Overruns", "memory", "note"]

OVERRUN_BACKLOG = 2.0
"""s of ready capacity; 5 s count as a violation (FLEET section 4), and then it is too late to learn."""
APART = 120.0
"""s without an overrun after which the next one is another: a cold start, and a down window."""
CAREFUL = 7200.0
"""s; how long an overrun is remembered, and the longest distance of two that belong together."""
MEMORY_FACTOR = 1.5
MEMORY_MOST = 3600.0
KEPT = 3


class Overruns(msgspec.Struct, frozen=True):
    """When they were."""

    last: float | None = None
    began: tuple[float, ...] = ()
    """The beginnings of the last three."""


def note(overruns: Overruns, now: float, backlog: float, capacity: float, chance: float = 0.0) -> Overruns:
    """`capacity`: requests per second of what is ready. Nobody ready is no overrun: starting from zero is a choice.
    `chance`: what noise alone may leave waiting; no history says when it comes again."""
    if capacity <= 0.0 or backlog <= max(OVERRUN_BACKLOG * capacity, chance):
        return overruns
    again = overruns.last is None or now - overruns.last > APART
    return Overruns(now, (*overruns.began[1 - KEPT :], now) if again else overruns.began)


def memory(overruns: Overruns, now: float) -> float:
    """How long what would have served is kept, s; 0 without a pattern."""
    if overruns.last is None or now - overruns.last > CAREFUL:
        return 0.0
    gaps = [after - before for before, after in pairwise(overruns.began) if after - before <= CAREFUL]
    return min(MEMORY_MOST, MEMORY_FACTOR * max(gaps, default=0.0))
