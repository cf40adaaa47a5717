"""Agents that fail too often get no requests for a while (FLEET 2 "Route"; the numbers are Envoy's outlier detection).

::

    serving --5 failures in a row, or a success rate 1.9 sigma below the others'--> ejected
    ejected --30 s x times ejected, at most 300 s--> serving; each interval without cause takes back one of its times

At most half of a workload's agents are ejected at once; the worst come first. Whoever routes requests counts them
(`count`); the controller counts what agents report of themselves (`eject`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import sqrt
from typing import Final

import msgspec

from covey.fleet.health import Standing

__all__ = ["EjectionState", "Ejector", "Tally", "eject"]

CONSECUTIVE: Final = 5
"""Failures in a row (Envoy's consecutive_5xx)."""

INTERVAL: Final = 10.0
"""s over which success rates are compared."""

BASE: Final = 30.0
LONGEST: Final = 300.0
"""s of an ejection: BASE for each time, at most LONGEST."""

SIGMAS: Final = 1.9
"""Below the mean of the success rates (Envoy's success_rate_stdev_factor 1900)."""

LEAST_AGENTS: Final = 5
LEAST_REQUESTS: Final = 100
"""A rate is compared from so many requests in the interval on, among so many agents that have them."""

MOST_EJECTED: Final = 0.5
"""Of a workload's agents at once (FLEET 2; Envoy's default of 10 % leaves most of a dead zone in)."""


LONGEST_COUNT: Final = 30.0
"""s for which one report may stand; a controller that was away learns nothing from the time between."""


class Tally(msgspec.Struct, frozen=True):
    """What is known of one agent."""

    good: float = 0.0
    bad: float = 0.0
    in_a_row: float = 0.0
    """Failures since the last success."""
    times: int = 0
    until: float | None = None
    """Ejected until then."""
    back_at: float | None = None
    """When its last ejection ended."""


class EjectionState(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept between sweeps."""

    since: float | None = None
    """When the present interval began."""
    agents: dict[str, Tally] = {}


class Ejector:
    """The agents of one workload: `count` what happened, `sweep` now and then, `state` to keep."""

    def __init__(self, state: EjectionState | None = None) -> None:
        self._since = state.since if state is not None else None
        self._agents: dict[str, Tally] = dict(state.agents) if state is not None else {}

    def count(self, agent: str, *, good: float = 0.0, bad: float = 0.0) -> None:
        """So many requests to this agent went well and so many failed since the last count."""
        if not good and not bad:
            return
        known = self._agents.get(agent, _NEW)
        # Where a success stood among the failures of one count is not known: they are not called in a row.
        in_a_row = 0.0 if good else known.in_a_row + bad
        self._agents[agent] = Tally(
            known.good + good, known.bad + bad, in_a_row, known.times, known.until, known.back_at
        )

    def sweep(self, members: Collection[str], now: float) -> frozenset[str]:
        """The ejected ones of `members`, which are all agents there are; others are forgotten."""
        for agent in [agent for agent in self._agents if agent not in members]:
            del self._agents[agent]
        if self._since is None:
            self._since = now
        for agent, tally in self._agents.items():
            if tally.until is not None and now >= tally.until:
                self._agents[agent] = Tally(times=tally.times, back_at=now)
        ejected = {agent for agent, tally in self._agents.items() if tally.until is not None}
        guilty = [agent for agent, tally in self._agents.items() if tally.in_a_row >= CONSECUTIVE]
        over = now - self._since >= INTERVAL
        if over:
            guilty += [agent for agent in _outliers(self._agents) if agent not in guilty]
        most = int(MOST_EJECTED * len(members))
        for agent in sorted(guilty, key=lambda agent: (_rate(self._agents[agent]), agent)):
            tally = self._agents[agent]
            if tally.until is None and len(ejected) < most:
                times = tally.times + 1
                until = now + min(BASE * times, LONGEST)
                self._agents[agent] = Tally(times=times, until=until)
                ejected.add(agent)
        if over:
            self._begin(now)
        return frozenset(ejected)

    def _begin(self, now: float) -> None:
        """A new interval; who served through the last one without cause is forgiven one time."""
        self._since = now
        for agent, tally in list(self._agents.items()):
            if tally.until is not None:
                continue
            whole = tally.back_at is None or now - tally.back_at >= INTERVAL
            times = max(0, tally.times - 1) if whole else tally.times
            if times or tally.in_a_row:
                self._agents[agent] = Tally(in_a_row=tally.in_a_row, times=times, back_at=tally.back_at)
            else:
                del self._agents[agent]

    @property
    def at_rest(self) -> bool:
        """Nobody has failed lately, nobody is ejected, nobody has to be forgiven."""
        return not any(tally.bad or tally.times or tally.in_a_row for tally in self._agents.values())

    def state(self) -> EjectionState:
        return EjectionState(since=self._since, agents=dict(self._agents))


def eject(
    standing: Standing, state: EjectionState | None, passed: float, now: float
) -> tuple[frozenset[str], EjectionState | None]:
    """`POOL/ID` of the agents of one workload that get no requests, by what they report; `passed`: s since the last
    call. None is kept while nobody fails."""
    agents = standing.counting
    if state is None and not any(agent.errors for agent in agents):
        return frozenset(), None
    passed = min(max(passed, 0.0), LONGEST_COUNT)
    ejector = Ejector(state)
    members = set()
    for agent in agents:
        if agent.state != "ready":
            continue
        name = f"{agent.pool}/{agent.id}"
        members.add(name)
        bad = agent.errors or 0.0
        # Whether failed requests are among the completed ones is the agent's choice.
        good = max(0.0, (agent.completions or 0.0) - bad)
        ejector.count(name, good=good * passed, bad=bad * passed)
    ejected = ejector.sweep(members, now)
    return ejected, None if ejector.at_rest else ejector.state()


_NEW: Final = Tally()


def _rate(tally: Tally) -> float:
    total = tally.good + tally.bad
    return tally.good / total if total else 0.0


def _outliers(agents: Mapping[str, Tally]) -> list[str]:
    rates = {
        agent: _rate(tally)
        for agent, tally in agents.items()
        if tally.until is None and tally.good + tally.bad >= LEAST_REQUESTS
    }
    if len(rates) < LEAST_AGENTS:
        return []
    mean = sum(rates.values()) / len(rates)
    sigma = sqrt(sum((rate - mean) ** 2 for rate in rates.values()) / len(rates))
    return [agent for agent, rate in rates.items() if rate < mean - SIGMAS * sigma]
