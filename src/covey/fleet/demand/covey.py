"""Covey's own policy: up at once and bounded, down late and agreed, bursts apart.

One turn, in this order:

1. every target says how many standard agents it asks for (`targets`); the highest wins, and a missing one holds
   whatever runs;
2. a *burst* begins when the mean of the last 6 s is at least twice what the ready agents serve at full load, and ends
   60 s after that was last true. In it the higher of the 6 s and 60 s means decides, nothing bounds the way up, and
   nothing goes down;
3. up: at once, at most to max(2b, b + 4), b being the lowest wanted of the last 15 s; a rise of 10 % or less (less
   where `utilisation` leaves little room) waits until it was asked for throughout 300 s;
4. down: late, by the rules of `descent`: to the highest that was asked for in the last 300 s, and not for a drop of
   10 % or less;
5. a forecast is told, and where the spec lets it act it adds half of what is asked for at most. It leaves no trace in
   the windows: when it ends, what it added ends.

After a restart, a take-over or a long pause the window is not covered: until it is, scale-in is held and nothing else.
"""

from __future__ import annotations

import msgspec

from covey.fleet.demand.capacity import Capacity, measure
from covey.fleet.demand.descent import WINDOW, Past, agreed_on, lower, remember, stepped, window
from covey.fleet.demand.forecast import ForecastState, predict
from covey.fleet.demand.overruns import Overruns, note
from covey.fleet.demand.policy import DemandInput
from covey.fleet.demand.targets import Asked, TargetState, judge, label, whole
from covey.fleet.demand.windows import Samples, add_sample, low
from covey.fleet.model import Wanted
from covey.fleet.spec.types import Workload

__all__ = ["Covey", "CoveyState"]

UP_WINDOW = 15.0
UP_FACTOR = 2.0
UP_STEP = 4.0
"""HPA's way up: at most doubled, or 4 more, per 15 s."""
BURST_RATIO = 2.0
"""Times what the ready agents serve at full load: their speed x rate_per_agent."""
BURST_LASTS = 60.0
FORECAST_ADDS = 0.5
"""A forecast adds this part of what is asked for at most."""
FORECAST_TICKS = 2.0
"""The horizon is a cold start and so many ticks: one until the turn, one until the agent is seen."""
GAP = 30.0
"""s without a turn after which the windows are not covered any more."""


class CoveyState(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered between turns."""

    since: float
    """From here on the windows are covered without a gap."""
    at: float | None = None
    desired: float = 0.0
    """Without what a forecast adds."""
    lately: Samples = ()
    """What was wanted until each turn, 15 s back."""
    past: Past = Past()
    targets: tuple[TargetState, ...] = ()
    burst_at: float | None = None
    """When the condition of a burst was last true."""
    forecast: ForecastState = ForecastState()


class _Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What the targets said in one turn, and what follows from it."""

    asked: list[Asked]
    targets: tuple[TargetState, ...]
    burst_at: float | None
    burst: bool
    overruns: Overruns
    raw: float
    binding: str
    detail: str
    tolerance: float


class Covey:
    """The default policy."""

    state_type = CoveyState
    every = 5.0

    def initial(self, workload: Workload, now: float) -> CoveyState:
        return CoveyState(since=now)

    def recommend(self, given: DemandInput, state: CoveyState) -> tuple[Wanted, CoveyState]:
        now, workload = given.now, given.workload
        if state.at is not None and state.at - now > GAP:  # the clock was set back: as after a restart
            state = CoveyState(since=now, at=now, desired=state.desired)
        capacity = measure(given.agents, given.speeds)
        desired = capacity.standing if state.at is None else state.desired
        since = now if state.at is None or now - state.at > GAP else state.since
        heard = _hear(given, state, capacity, desired)
        past = remember(
            state.past,
            now,
            lasting=max((said.lasting for said in heard.asked), default=0.0),
            asked=heard.raw,
            served=max((said.served for said in heard.asked), default=0.0),
            overruns=heard.overruns,
        )
        lately = add_sample(state.lately, now, desired, UP_WINDOW)
        hold = _hold(workload, heard, now - since)
        wanted, binding, rule = desired, heard.binding, ""
        if heard.raw > desired:
            agreed = agreed_on(past, now) if now - since >= WINDOW else 0.0
            wanted, binding, rule = _up(workload, heard, desired, lately, now, agreed)
        elif heard.raw < desired and hold:
            binding, rule = "burst" if heard.burst else "hold", f"{desired:g} kept: {hold}"
        elif heard.raw < desired:
            down = lower(workload, past, desired, heard.raw, now)
            wanted, binding, rule = down.agents, down.rule or binding, down.why
        ahead, told, forecast = _ahead(given, heard, state.forecast)
        agents = wanted
        if ahead > wanted:
            agents, binding, rule = ahead, "forecast", f"{told:g} forecast"
        return (
            Wanted(
                agents=agents,
                binding=binding,
                reason=f"{heard.detail}: {heard.raw:g} asked{', ' if rule else ''}{rule}",
                raw=heard.raw,
                burst=heard.burst,
                hold_down=bool(hold),
                forecast=told,
            ),
            CoveyState(
                since=since,
                at=now,
                desired=wanted,
                lately=lately,
                past=stepped(past, now, desired, wanted),
                targets=heard.targets,
                burst_at=heard.burst_at,
                forecast=forecast,
            ),
        )


def _hear(given: DemandInput, state: CoveyState, capacity: Capacity, desired: float) -> _Heard:
    """Every target's word, whether this is a burst or an overrun, and the highest word."""
    now, workload = given.now, given.workload
    burst_at, overruns = state.burst_at, state.past.overruns
    asked: list[Asked] = []
    targets: list[TargetState] = []
    for index, target in enumerate(workload.targets):
        before = state.targets[index] if index < len(state.targets) else TargetState()
        said, after = judge(
            target,
            given.readings[index] if index < len(given.readings) else {},
            given.agents,
            capacity,
            before,
            now=now,
            tick=given.tick,
            cold_start=workload.cold_start,
            desired=desired,
            least=workload.replicas.min,
        )
        if target.rate_per_agent is not None and not said.missing:
            full = capacity.ready * target.rate_per_agent
            overruns = note(overruns, now, said.backlog, full, said.chance)
            if said.fast_rate and said.fast_rate >= BURST_RATIO * full:
                burst_at = now
        asked.append(said)
        targets.append(after)
    burst = burst_at is not None and now - burst_at < BURST_LASTS
    raw, binding, detail, tolerance = _highest(workload, asked, burst)
    return _Heard(
        asked=asked,
        targets=tuple(targets),
        burst_at=burst_at,
        burst=burst,
        overruns=overruns,
        raw=raw,
        binding=binding,
        detail=detail,
        tolerance=tolerance,
    )


def _highest(workload: Workload, asked: list[Asked], burst: bool) -> tuple[float, str, str, float]:
    """The highest word, whose it is, its numbers and its tolerance."""
    if not asked:
        return 0.0, "min", "no targets", 0.0
    words = [max(said.agents, said.burst_agents) if burst else said.agents for said in asked]
    index = max(range(len(words)), key=words.__getitem__)
    name = label(workload, index)
    return words[index], name, f"{name}: {asked[index].detail}", asked[index].tolerance


def _up(
    workload: Workload, heard: _Heard, desired: float, lately: Samples, now: float, agreed: float
) -> tuple[float, str, str]:
    """What is wanted when more is asked for, what decided it, and why in words. `agreed`: what was asked for throughout
    the window."""
    if heard.burst:
        return heard.raw, "burst", ""
    if heard.raw <= (1.0 + heard.tolerance) * desired:
        if agreed <= desired:
            return desired, "dead-band", f"{desired:g} kept: {heard.raw - desired:g} more can wait"
        return agreed, heard.binding, f"{agreed:g} throughout {WINDOW:.0f} s"
    base = max(low(lately, now, UP_WINDOW, desired), float(workload.replicas.min))
    wanted = max(desired, min(heard.raw, max(UP_FACTOR * base, base + UP_STEP)))
    if wanted < heard.raw:
        return wanted, "up-limit", f"{wanted:g} allowed for now"
    return wanted, heard.binding, ""


def _hold(workload: Workload, heard: _Heard, known: float) -> str:
    """Why nothing may go down at all; "" when it may."""
    if heard.burst:
        return "a burst"
    missing = [label(workload, index) for index, said in enumerate(heard.asked) if said.missing]
    if missing:
        return f"{', '.join(missing)} missing"
    span = window(workload)
    if heard.asked and known < span:
        return f"only {known:.0f} s of the {span:.0f} s window are known"
    return ""


def _ahead(given: DemandInput, heard: _Heard, state: ForecastState) -> tuple[float, float | None, ForecastState]:
    """What a forecast may make of this turn, what it says, and its state; nothing without one in the spec."""
    workload = given.workload
    spec = workload.forecast
    if spec.method == "none":
        return 0.0, None, state
    for target, said in zip(workload.targets, heard.asked, strict=True):
        if target.rate_per_agent is None or said.rate is None or said.missing:
            continue
        horizon = workload.cold_start + FORECAST_TICKS * given.tick
        predicted, state = predict(spec, said.rate, given.now, horizon, state)
        if predicted is None:
            break
        told = whole(predicted.rate / (target.utilisation * target.rate_per_agent))
        if spec.mode == "forecast-only" or predicted.suspended:
            return 0.0, told, state
        return min(told, whole((1.0 + FORECAST_ADDS) * heard.raw)), told, state
    return 0.0, None, state
