"""Covey's own policy: up at once and bounded, down late and agreed, bursts apart.

One turn, in this order:

1. every target says how many standard agents it asks for (`targets`); the highest wins, and a missing one holds
   whatever runs;
2. a *burst* begins when the mean of the last 6 s is at least twice what the ready agents serve at full load, and ends
   60 s after that was last true. In it the higher of the 6 s and 60 s means decides, nothing bounds the way up, and
   nothing goes down;
3. up: at once, at most to max(2b, b + 4), b being the lowest wanted of the last 15 s;
4. down: to the highest that was asked for in the last 120 s (300 s during the 30 min after a burst, longer for
   workloads that were overrun, see `overruns`), and not for a drop of 10 % or less unless it reaches `min` or zero.

After a restart, a take-over or a long pause the window is not covered: until it is, scale-in is held and nothing else.
"""

from __future__ import annotations

from math import inf

import msgspec

from covey.fleet.demand.capacity import Capacity, measure
from covey.fleet.demand.overruns import MEMORY_MOST, Overruns, memory, note
from covey.fleet.demand.policy import DemandInput
from covey.fleet.demand.targets import Asked, TargetState, judge, label
from covey.fleet.demand.windows import Samples, add_high, add_sample, high, low
from covey.fleet.model import Wanted
from covey.fleet.spec.types import Workload

__all__ = ["Covey", "CoveyState"]

UP_WINDOW = 15.0
UP_FACTOR = 2.0
UP_STEP = 4.0
"""HPA's way up: at most doubled, or 4 more, per 15 s."""
DOWN_WINDOW = 120.0
DOWN_WINDOW_AFTER_BURST = 300.0
CAREFUL_AFTER_BURST = 1800.0
"""s; how long after its end a burst makes the down window long."""
DEAD_BAND = 0.10
BURST_RATIO = 2.0
"""Times what the ready agents serve at full load: their speed x rate_per_agent."""
BURST_LASTS = 60.0
GAP = 30.0
"""s without a turn after which the windows are not covered any more."""


class CoveyState(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered between turns."""

    since: float
    """From here on the windows are covered without a gap."""
    at: float | None = None
    desired: float = 0.0
    lately: Samples = ()
    """What was wanted until each turn, 15 s back."""
    highs: Samples = ()
    """What the targets asked for, as maxima, an hour back."""
    targets: tuple[TargetState, ...] = ()
    burst_at: float | None = None
    """When the condition of a burst was last true."""
    overruns: Overruns = Overruns()


class Covey:
    """The default policy."""

    state_type = CoveyState
    every = 5.0

    def initial(self, workload: Workload, now: float) -> CoveyState:
        return CoveyState(since=now)

    def recommend(self, given: DemandInput, state: CoveyState) -> tuple[Wanted, CoveyState]:
        now, workload = given.now, given.workload
        capacity = measure(given.agents, given.speeds)
        desired = capacity.standing if state.at is None else state.desired
        since = now if state.at is None or now - state.at > GAP else state.since
        asked, targets, burst_at = self._ask(given, state, capacity, desired)
        overruns = state.overruns
        for target, said in zip(workload.targets, asked, strict=True):
            if target.rate_per_agent is not None and not said.missing:
                overruns = note(overruns, now, said.backlog, capacity.ready * target.rate_per_agent)
        burst = burst_at is not None and now - burst_at < BURST_LASTS
        raw, binding, detail = _highest(workload, asked, burst)
        highs = add_high(state.highs, now, raw, MEMORY_MOST)
        careful = burst_at is not None and now - burst_at < BURST_LASTS + CAREFUL_AFTER_BURST
        window = DOWN_WINDOW_AFTER_BURST if careful else DOWN_WINDOW
        kept = max(window, memory(overruns, now, DOWN_WINDOW_AFTER_BURST))
        if kept > window and workload.replicas.min == 0 and not high(highs, now, DOWN_WINDOW_AFTER_BURST):
            kept = window  # five silent minutes: who may sleep shall
        missing = [label(workload, i) for i, said in enumerate(asked) if said.missing]
        hold = ""
        if missing:
            hold = f"{', '.join(missing)} missing"
        elif asked and now - since < window and not burst:
            hold = f"only {now - since:.0f} s of the {window:.0f} s window are known"
        lately = add_sample(state.lately, now, desired, UP_WINDOW)
        wanted, rule = desired, ""
        if raw > desired:
            base = max(low(lately, now, UP_WINDOW, desired), float(workload.replicas.min))
            limit = inf if burst else max(UP_FACTOR * base, base + UP_STEP)
            wanted = max(desired, min(raw, limit))
            if burst:
                binding = "burst"
            elif wanted < raw:
                rule = f", {wanted:g} allowed for now"
                binding = "up-limit"
        elif raw < desired:
            wanted, binding, rule = self._down(workload, raw, desired, highs, now, kept, burst, hold, binding)
        return (
            Wanted(
                agents=wanted,
                binding=binding,
                reason=f"{detail}: {raw:g} asked{rule}",
                raw=raw,
                burst=burst,
                hold_down=bool(hold) or burst,
            ),
            CoveyState(
                since=since,
                at=now,
                desired=wanted,
                lately=lately,
                highs=highs,
                targets=targets,
                burst_at=burst_at,
                overruns=overruns,
            ),
        )

    def _ask(
        self, given: DemandInput, state: CoveyState, capacity: Capacity, desired: float
    ) -> tuple[list[Asked], tuple[TargetState, ...], float | None]:
        """Every target's word, and when the condition of a burst was last true."""
        now, workload = given.now, given.workload
        burst_at = state.burst_at
        asked: list[Asked] = []
        states: list[TargetState] = []
        for index, target in enumerate(workload.targets):
            before = state.targets[index] if index < len(state.targets) else TargetState()
            readings = given.readings[index] if index < len(given.readings) else {}
            said, after = judge(
                target,
                readings,
                given.agents,
                capacity,
                before,
                now=now,
                tick=given.tick,
                cold_start=workload.cold_start,
                desired=desired,
                least=workload.replicas.min,
            )
            if said.fast_rate and not said.missing:
                full = capacity.ready * (target.rate_per_agent or 0.0)
                burst_at = now if said.fast_rate >= BURST_RATIO * full else burst_at
            asked.append(said)
            states.append(after)
        return asked, tuple(states), burst_at

    def _down(
        self,
        workload: Workload,
        raw: float,
        desired: float,
        highs: Samples,
        now: float,
        window: float,
        burst: bool,
        hold: str,
        binding: str,
    ) -> tuple[float, str, str]:
        """What is wanted when less is asked for, what decided it, and why in words."""
        if burst:
            return desired, "burst", f", {desired:g} kept in a burst"
        if hold:
            return desired, "hold", f", {desired:g} kept: {hold}"
        peak = high(highs, now, window)
        lower = min(desired, raw if peak is None else peak)
        if lower >= desired:
            return desired, "down-window", f", {desired:g} kept: asked for within {window:.0f} s"
        if lower >= (1.0 - DEAD_BAND) * desired and lower > workload.replicas.min:
            return desired, "dead-band", f", {desired:g} kept: not worth {desired - lower:g} fewer"
        if lower > raw:
            return lower, "down-window", f", {lower:g} was asked for within {window:.0f} s"
        return lower, binding, ""


def _highest(workload: Workload, asked: list[Asked], burst: bool) -> tuple[float, str, str]:
    """The highest word, whose it is, and its numbers."""
    if not asked:
        return 0.0, "min", "no targets"
    words = [max(said.agents, said.burst_agents) if burst else said.agents for said in asked]
    index = max(range(len(words)), key=words.__getitem__)
    name = label(workload, index)
    return words[index], name, f"{name}: {asked[index].detail}"
