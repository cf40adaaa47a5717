"""What each target of a workload asks for: readings in, standard agents out.

A signal is a sum of parts, one per pool. A part that is missing keeps its last value for `PART_KEPT`, then the target's
fallback holds. A rate is arrivals, or completions plus the growth of the backlog, and never completions alone: an
overloaded workload completes as much as it can, which hides how far behind it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil, exp, sqrt

import msgspec

from covey.fleet.demand.capacity import Capacity
from covey.fleet.demand.readings import sane
from covey.fleet.demand.windows import Samples, add_sample, mean
from covey.fleet.model import Agent, Reading
from covey.fleet.spec.types import Target, Workload

__all__ = ["BURST_WINDOW", "RATE_WINDOW", "Asked", "Part", "TargetState", "judge", "label", "whole"]

RATE_WINDOW = 60.0
"""s; the mean that decides outside a burst (KPA's stable window)."""
BURST_WINDOW = 6.0
"""s; the mean that begins a burst (KPA's panic window)."""
SURGE_WINDOW = 15.0
"""s; a mean over this decides when it is more than chance and 20 % above the mean of 60 s."""
SURGE_SIGMAS = 3.0
"""Chance: what arrivals as noisy as those of late would show once in a thousand windows."""
NOISE_MEMORY = 600.0
"""s; the noise seen is forgotten by a factor e in so long."""
NOISE_CLIP = 2.0
"""Sigmas; a deviation counts as this much at most. In noise that takes off a tenth; a real surge teaches little."""
NOISE_MOST = 1e6
TOLERATED_ROOM = 0.25
"""A rise by this part of the room that `utilisation` leaves may wait, ..."""
TOLERATED_MOST = 0.1
"""... and never more than HPA's tolerance."""
SURGE_LEAST = 0.2
SERVED_UTILISATION = 0.9
"""What would just have served: no queue, little room."""
PART_KEPT = 300.0
"""s; how long a missing part keeps its last value."""
FRESH_INTERVALS = 3.0
FRESH_AT_LEAST = 15.0
"""A reading is missing when it is older than 3 of its intervals and 15 s: one lost sample or a slow turn is no gap."""
FAST_INTERVAL = 2.0
"""s; only signals sampled this often or more may begin a burst: in slower ones a burst is one sample."""
MOST_AGENTS = 1e6
"""What one target may ask for at most, whatever its source says; `max` bounds it further."""
TOLERANCE = 0.1
"""HPA's: a ratio this close to 1 changes nothing."""


class Part(msgspec.Struct, frozen=True):
    """The last that is known of one part."""

    at: float
    interval: float
    rate: float | None = None
    backlog: float | None = None
    value: float | None = None


class TargetState(msgspec.Struct, frozen=True):
    """What one target remembers between turns."""

    of: str = ""
    """Which target: when the spec changes, memories do not pass from one to another."""
    parts: dict[str, Part] = {}
    rates: Samples = ()
    noise: float = 1.0
    """The variance of 15 s means around the 60 s mean, over what independent arrivals would have (1)."""


class Asked(msgspec.Struct, frozen=True):
    """What one target asks for now, in standard agents, whole."""

    agents: float
    detail: str
    lasting: float
    """Without what only drains a backlog."""
    missing: bool = False
    """No part of it is fresh: it may raise by what it last said, and nothing may go down."""
    burst_agents: float = 0.0
    """In a burst."""
    served: float = 0.0
    """What would just have served the last 15 s."""
    rate: float | None = None
    """Requests per second, the mean that decided."""
    fast_rate: float | None = None
    """The mean of the last 6 s, where the signal is fast enough to begin a burst."""
    backlog: float = 0.0
    chance: float = 0.0
    """Requests that noise alone may bring in excess within 15 s."""
    tolerance: float = 0.0
    """A rise of what is wanted by this part of it can wait."""


def _plain(agents: float, detail: str, *, missing: bool = False) -> Asked:
    return Asked(agents, detail, agents, missing=missing)


def whole(agents: float) -> float:
    """The next whole number, deaf to the last bits of a division."""
    return float(ceil(min(agents, MOST_AGENTS) - 1e-9))


def label(workload: Workload, index: int) -> str:
    """The name of a target in the journal: its signal, numbered where several targets read the same."""
    signal = workload.targets[index].signal
    alike = [i for i, target in enumerate(workload.targets) if target.signal == signal]
    return signal if len(alike) == 1 else f"{signal}[{alike.index(index) + 1}]"


def judge(
    target: Target,
    readings: Mapping[str, Reading],
    agents: tuple[Agent, ...],
    capacity: Capacity,
    state: TargetState,
    *,
    now: float,
    tick: float,
    cold_start: float,
    desired: float,
    least: int,
) -> tuple[Asked, TargetState]:
    """One target's word. `desired` is what was wanted until now, `least` the workload's `min`."""
    of = f"{target.signal} {target.source}{target.query} {target.rate_per_agent} {target.queue_length} {target.value}"
    if state.of != of:
        state = TargetState(of)
    parts = _merge(target, readings, state.parts, now)
    kept = {name: part for name, part in parts.items() if now - part.at <= PART_KEPT}
    rates, noise = state.rates, state.noise
    fresh = any(_fresh(part, now) for part in kept.values())
    asked: Asked | None = None
    if target.rate_per_agent is not None:
        known = [part for part in kept.values() if part.rate is not None]
        if known and fresh:
            rates = add_sample(rates, max(part.at for part in known), _sum(part.rate for part in known), RATE_WINDOW)
        if known and rates:
            asked = _by_rate(target, target.rate_per_agent, kept, rates, noise, tick)
        if rates and state.rates and rates is not state.rates:
            noise = _noise(noise, rates, rates[-1][0] - state.rates[-1][0])
    elif target.queue_length is not None:
        asked = _by_queue(target.queue_length, kept)
    elif target.value is not None:
        asked, own = _by_ratio(target.value, kept, agents, capacity, now, cold_start, desired)
        fresh = fresh or own
    else:
        raise ValueError(f"a target on {target.signal} says neither value, rate_per_agent nor queue_length")
    if len(kept) < len(parts):
        lost = sorted(name for name in parts if name not in kept)
        asked = _fall_back(target, lost, asked, fresh, desired, least)
    elif asked is None:
        asked = _plain(0.0, "not known yet" if parts else "never seen", missing=True)
    elif not fresh:
        asked = msgspec.structs.replace(asked, missing=True, detail=f"{asked.detail}, last seen")
    return asked, TargetState(of, parts, rates, noise)


def _sum(numbers: Iterable[float | None]) -> float:
    return sum(number or 0.0 for number in numbers)


def _merge(target: Target, readings: Mapping[str, Reading], before: Mapping[str, Part], now: float) -> dict[str, Part]:
    """The parts as known now. One that the caller no longer names is kept while it is young, then forgotten: its pool
    has left the workload."""
    parts: dict[str, Part] = {}
    for name, reading in readings.items():
        old = before.get(name)
        parts[name] = old if old is not None and old.at >= reading.at else _read(target, reading, old, now)
    for name, old in before.items():
        if name not in parts and (now - old.at <= PART_KEPT or not readings):
            parts[name] = old
    return parts


def _read(target: Target, reading: Reading, old: Part | None, now: float) -> Part:
    at = min(reading.at, now)  # a clock ahead of ours must not keep a dead signal fresh
    value, backlog, rate = sane(reading.value), sane(reading.backlog), sane(reading.arrivals)
    done = sane(reading.completions)
    if target.rate_per_agent is not None and rate is None:
        if done is None:
            rate = value  # a query that is a rate itself
        elif backlog is not None and old is not None and old.backlog is not None and at > old.at:
            rate = max(0.0, done + (backlog - old.backlog) / (at - old.at))
    if target.queue_length is not None and backlog is None:
        backlog = value
    return Part(at, min(reading.interval, PART_KEPT), rate, backlog, value)


def _fresh(part: Part, now: float) -> bool:
    return now - part.at <= max(FRESH_AT_LEAST, FRESH_INTERVALS * part.interval)


def _noise(before: float, rates: Samples, passed: float) -> float:
    """The noise seen until now, `passed` seconds after it was `before`."""
    rate = mean(rates, rates[-1][0], RATE_WINDOW) or 0.0
    # The 60 s hold the 15 s, so of independent arrivals the difference varies by this.
    chance = rate * (1.0 / SURGE_WINDOW - 1.0 / RATE_WINDOW)
    if chance <= 0.0 or passed <= 0.0:
        return before
    apart = (mean(rates, rates[-1][0], SURGE_WINDOW) or 0.0) - rate
    seen = min(NOISE_CLIP**2 * before, apart * apart / chance)
    return min(NOISE_MOST, max(1.0, before + (1.0 - exp(-passed / NOISE_MEMORY)) * (seen - before)))


def _by_rate(
    target: Target, per_agent: float, parts: Mapping[str, Part], rates: Samples, noise: float, tick: float
) -> Asked:
    now = rates[-1][0]
    rate = mean(rates, now, RATE_WINDOW) or 0.0
    surge = mean(rates, now, SURGE_WINDOW) or 0.0
    chance = SURGE_SIGMAS * sqrt(noise * rate / SURGE_WINDOW)
    if surge > rate * (1.0 + SURGE_LEAST) and surge > rate + chance:
        rate = surge
    fast: float | None = None
    for part in parts.values():
        if part.interval <= FAST_INTERVAL:
            fast = mean(rates, now, BURST_WINDOW) or 0.0
            break
    backlog = _sum(part.backlog for part in parts.values())
    drain = backlog / max(target.drain_within, tick)
    each = target.utilisation * per_agent
    return Asked(
        whole((rate + drain) / each),
        f"{rate:.4g}/s and a backlog of {backlog:.4g} at {target.utilisation:g} x {per_agent:.4g}/s per agent",
        lasting=whole(rate / each),
        burst_agents=whole((max(rate, fast or 0.0) + drain) / each),
        served=whole(surge / (SERVED_UTILISATION * per_agent)),
        rate=rate,
        fast_rate=fast,
        backlog=backlog,
        chance=chance * SURGE_WINDOW,
        tolerance=min(TOLERATED_MOST, TOLERATED_ROOM * max(0.0, 1.0 - target.utilisation) / target.utilisation),
    )


def _by_queue(length: float, parts: Mapping[str, Part]) -> Asked | None:
    known = [part.backlog for part in parts.values() if part.backlog is not None]
    if not known:
        return None
    backlog = sum(known)
    return _plain(whole(backlog / length), f"a backlog of {backlog:.4g} at {length:.4g} per agent")


def _by_ratio(
    value: float,
    parts: Mapping[str, Part],
    agents: tuple[Agent, ...],
    capacity: Capacity,
    now: float,
    cold_start: float,
    desired: float,
) -> tuple[Asked | None, bool]:
    """HPA's ratio. The second value says whether the agents' own reports gave it."""
    used, weight, own = 0.0, 0.0, False
    for name, part in parts.items():
        if part.value is not None:
            share = capacity.ready if name == "" else capacity.ready_by_pool.get(name, 0.0)
            used += part.value * share
            weight += share
    if not weight:
        for agent in agents:
            cpu = sane(agent.cpu)
            if agent.state == "ready" and cpu is not None and now - agent.started_at >= cold_start:
                used += cpu
                weight += 1.0
                own = True
    if not weight:
        return None, False
    ratio = used / weight / value
    detail = f"{used / weight:.3g} on {capacity.ready:g} ready, {value:g} wanted"
    if abs(ratio - 1.0) <= TOLERANCE:
        return _plain(desired, f"{detail}: within {TOLERANCE:.0%}"), own
    return _plain(whole(ratio * capacity.ready), detail), own


def _fall_back(target: Target, lost: list[str], asked: Asked | None, fresh: bool, desired: float, least: int) -> Asked:
    """What holds when parts are gone for good; `asked` is what the others still say."""
    said = asked.agents if asked is not None else 0.0
    rule = target.fallback
    names = ", ".join(name or "all of it" for name in lost)
    detail = f"{names} missing for {PART_KEPT / 60:.0f} min, so {rule if isinstance(rule, str) else f'{rule} agents'}"
    if rule == "none":
        return _plain(said, detail)
    if rule == "current-if-higher":
        return _plain(max(said, desired), detail, missing=not fresh)
    return _plain(desired if rule == "current" else float(least if rule == "min" else rule), detail)
