"""The placement problem, the same for every solver.

For each workload i and offering j an integer n[i,j]. Order when constraints fight: jurisdiction and affinity > `min`
> budget > `survive` > demand (by priority, then largest relative shortfall) > cost.
"""

from __future__ import annotations

import msgspec

from covey.fleet.model import Offering
from covey.fleet.spec.types import Budget, Workload

__all__ = ["Item", "Problem"]


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One workload in the problem."""

    workload: Workload
    demand: float
    """Standard agents to cover, between what `min` and `max` admit."""
    offerings: tuple[Offering, ...]
    """All, also those that may not be used: the solver says why it rejects each."""
    running: dict[str, int] = {}
    """By offering: agents that run or start now (not silent, not draining). Moving away from them costs."""
    ready: dict[str, int] = {}
    """Part of `running` that is ready, for `survive`."""
    held: dict[str, int] = {}
    """Part of `running` that cannot go now: busy within grace, held by a disruption budget or by missing signals. A
    lower bound that overrides cost, not jurisdiction."""
    floor: int = 0
    """At least this many agents in all, because nothing may be removed now (burst, windows, missing signals); 0:
    none."""
    labels: dict[str, dict[str, str]] = {}
    """By pool: its labels, for affinity."""
    move_cost: float = 0.0
    """USD, one-off, of starting one agent elsewhere instead of keeping one."""
    horizon: float = 4.0
    """Hours over which a one-off cost is spread: min(4 h, expected life)."""
    changed: bool = True
    """False: nothing about it changed since the last placement, keep `running` (a tick solves only what changed). It
    gets no candidates; it is solved all the same when a changed one falls short of what it holds."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a solver may know."""

    now: float
    items: tuple[Item, ...]
    budget: Budget | None = None
    suspended: frozenset[str] = frozenset()
    """Clouds that are down: their offerings take nothing and `survive` does not ask for another loss (`degraded`)."""
    frozen: frozenset[str] = frozenset()
    """Pools that neither gain nor lose agents now (control lost, drained by order: no gain; see `closing`)."""
    closing: frozenset[str] = frozenset()
    """Pools that are to be emptied (`covey fleet drain POOL`)."""
    blocked: dict[tuple[str, str], str] = {}
    """By (scope, shape), why: capacity failed there lately. Shape "" blocks the whole scope."""
    room: dict[str, int] = {}
    """By scope: how many more agents it takes in all, over all workloads; absent: unknown, not limited."""
    pool_room: dict[str, int] = {}
    """By pool: how many more agents it takes in all, over all workloads (its `max_agents`); absent: not limited."""
    stale_prices: frozenset[str] = frozenset()
    """Offerings whose price is too old to justify a move."""
