"""The way down: how long what was asked for is kept.

- What the targets asked for is kept for 300 s (`policy_settings.down_window`, if that is less), what only drained a
  backlog for 120 s.
- After a rise that took back a drop the next drop waits for 600 s. So wants reverse at most twice in ten minutes while
  nobody asks for more, and under constant demand, however it is scattered.
- A workload that was overrun twice keeps longer what would have served it (`overruns`).
- A drop of 10 % or less is ignored, unless it reaches `min` or zero.
"""

from __future__ import annotations

import msgspec

from covey.fleet.demand.overruns import MEMORY_MOST, Overruns, memory
from covey.fleet.demand.windows import Samples, add_high, high
from covey.fleet.spec.types import Workload

__all__ = ["WINDOW", "Lower", "Past", "agreed_on", "lower", "remember", "stepped", "window"]

WINDOW = 300.0
"""s; HPA's. 120 s costs less by one part in a hundred on smooth days and meets work that comes every few minutes
unprepared (docs/fleet/demand.md)."""
DRAIN_WINDOW = 120.0
"""s; for what a backlog adds: it is needed once."""
PATIENCE = 600.0
"""s between a rise that took back a drop and the next drop: both and one more rise are never within 10 minutes."""
DEAD_BAND = 0.10


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of what was asked for."""

    lasting: Samples = ()
    """Without what only drained a backlog; maxima, 300 s back."""
    asked: Samples = ()
    """With it; maxima, 120 s back."""
    served: Samples = ()
    """What would just have served; maxima, an hour back."""
    agreed: Samples = ()
    """Minima of what was asked for, as their negatives, 300 s back."""
    overruns: Overruns = Overruns()
    falling: bool = False
    """The last change was a drop."""
    taken_back_at: float | None = None
    """When a rise last followed a drop."""


class Lower(msgspec.Struct, frozen=True):
    """How far down it may go now, and why not further."""

    agents: float
    rule: str
    """`down-window`, `overrun-memory`, `dead-band`, `patience`; "" when nothing but the targets decides."""
    why: str


def remember(past: Past, now: float, *, lasting: float, asked: float, served: float, overruns: Overruns) -> Past:
    """One turn's words."""
    return Past(
        lasting=add_high(past.lasting, now, lasting, WINDOW),
        asked=add_high(past.asked, now, asked, DRAIN_WINDOW),
        agreed=add_high(past.agreed, now, -asked, WINDOW),
        served=add_high(past.served, now, served, MEMORY_MOST),
        overruns=overruns,
        falling=past.falling,
        taken_back_at=past.taken_back_at,
    )


def window(workload: Workload) -> float:
    """s; how long what was asked for is kept: 300 unless the spec says less."""
    return min(WINDOW, max(0.0, workload.policy_settings.get("down_window", WINDOW)))


def agreed_on(past: Past, now: float) -> float:
    """What was asked for throughout the last 300 s."""
    return -(high(past.agreed, now, WINDOW) or 0.0)


def stepped(past: Past, now: float, before: float, after: float) -> Past:
    """What was wanted changed."""
    if after < before and not past.falling:
        return msgspec.structs.replace(past, falling=True)
    if after > before and past.falling:
        return msgspec.structs.replace(past, falling=False, taken_back_at=now)
    return past


def lower(workload: Workload, past: Past, desired: float, asked: float, now: float) -> Lower:
    """`desired` until now, fewer `asked` for."""
    longer = memory(past.overruns, now)
    if workload.replicas.min == 0 and not high(past.lasting, now, WINDOW):
        longer = 0.0  # five silent minutes: who may sleep shall
    span = window(workload)
    recent = max(high(past.lasting, now, span) or 0.0, high(past.asked, now, min(span, DRAIN_WINDOW)) or 0.0)
    kept = high(past.served, now, longer) or 0.0
    agents = min(desired, max(recent, kept))
    if (1.0 - DEAD_BAND) * desired <= agents < desired and agents > workload.replicas.min:
        return Lower(desired, "dead-band", f"{desired:g} kept: not worth {desired - agents:g} fewer")
    if agents < desired and not past.falling and past.taken_back_at is not None:
        waited = now - past.taken_back_at
        if waited < PATIENCE:
            return Lower(desired, "patience", f"{desired:g} kept: a drop was taken back {waited:.0f} s ago")
    if agents <= asked:
        return Lower(agents, "", "")
    if kept > recent:
        why = f"it was overrun, and this served the last {longer / 60:.0f} min"
        return Lower(agents, "overrun-memory", f"{agents:g} kept: {why}")
    return Lower(agents, "down-window", f"{agents:g} kept: asked for within {span:.0f} s")
