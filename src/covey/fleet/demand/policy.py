"""What every demand policy looks like."""

from __future__ import annotations

from typing import Protocol, TypeVar

import msgspec

from covey.fleet.model import Agent, Reading, Wanted
from covey.fleet.spec.types import Workload

__all__ = ["DemandInput", "DemandPolicy"]

State = TypeVar("State", bound=msgspec.Struct)


class DemandInput(msgspec.Struct, frozen=True, kw_only=True):
    """All that a policy may look at. A policy that looks elsewhere could look into the future."""

    now: float
    workload: Workload
    readings: tuple[dict[str, Reading], ...]
    """By target of the workload, in order; then by part (a pool's name, or ""), the newest reading of each. A part
    that is missing now is simply old: `now - at` says how old."""
    agents: tuple[Agent, ...]
    """Those that count: not silent, not draining, not leaving."""
    speeds: dict[str, float] = {}
    """By offering key: standard agents of one agent; absent: 1.0."""
    tick: float = 5.0
    """How often the loop turns without an event, s."""
    cheaper_elsewhere: float = 0.0
    """For the threshold rule: how much cheaper the cheapest pool with room is than the one it runs in, 0.1 = 10 %."""


class DemandPolicy(Protocol[State]):
    """`recommend` is pure: equal arguments give equal results. `state_type` is kept in the store as JSON between
    turns."""

    state_type: type[State]
    every: float
    """How often it wants to be asked, s. Asked more often it answers with what it said last, or with better numbers;
    asked more seldom it is slower."""

    def initial(self, workload: Workload, now: float) -> State: ...

    def recommend(self, given: DemandInput, state: State) -> tuple[Wanted, State]: ...
