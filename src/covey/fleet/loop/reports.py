"""What agents say of themselves: the newest report of each, and the rates between its counters.

A report is foreign: it is bounded when it is read, numbers that are none (NaN, negative, beyond any count) are dropped,
and it changes nothing but what is known of the agent that it names. Whoever sends it speaks for the agents of one
workload in one pool (`tokens`): what it says of others is kept apart and never looked up. Only agents that a look has
shown are kept for long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import Final

from msgspec.structs import replace

from covey.base.errors import LimitError
from covey.fleet.health import MISSED_PROBES
from covey.fleet.loop.tokens import Speaker
from covey.fleet.model import Agent, PoolView, Reading
from covey.fleet.reporting import Report

__all__ = ["Reports"]

STRANGERS: Final = 10_000
"""Agents of which reports are kept although no look has shown them. Who was seen always has room."""
MOST: Final = 1e15
"""Of any number in a report: differences, sums and rates of such numbers stay finite."""
FRESH: Final = 15.0
"""s after which a report's numbers are no longer what its agent does; that it was heard then stays true."""
LONGEST_EVERY: Final = 30.0
"""s; agents that report more seldom have no interval."""
FAILING_SHARE: Final = 0.05
"""Of what it finished since the last report: more errors than that, and it teaches nothing about speed."""
FAILING_LATENCY: Final = 2.0
"""Times its own usual latency."""
_JUST_AFTER: Final = 0.001
"""s. At the very moment of the third report it is not missing yet."""
USUAL: Final = 0.1
"""Weight of the newest report in an agent's usual latency and busy share."""


class _Known:
    """One agent's reports."""

    __slots__ = (
        "arrivals",
        "at",
        "busy_share",
        "completions",
        "errors",
        "every",
        "failing",
        "first_at",
        "latency",
        "report",
    )

    def __init__(self, report: Report, now: float) -> None:
        self.report = report
        self.first_at = self.at = now
        self.every: float | None = None
        self.arrivals: float | None = None
        self.completions: float | None = None
        self.errors: float | None = None
        self.busy_share = 1.0 if report.busy else 0.0
        self.latency = report.latency_ms
        self.failing = False

    def next(self, report: Report, now: float) -> None:
        passed = now - self.at
        if passed <= 0.0:
            self.report = report
            return
        old = self.report
        self.every = passed if self.every is None else self.every + (passed - self.every) * 0.3
        done = _grown(old.completions, report.completions)
        failed = _grown(old.errors, report.errors)
        self.completions = done / passed
        self.errors = failed / passed
        self.arrivals = (
            None if report.arrivals is None or old.arrivals is None else _grown(old.arrivals, report.arrivals) / passed
        )
        slow = False
        if report.latency_ms is not None:
            slow = self.latency is not None and report.latency_ms > FAILING_LATENCY * self.latency
            usual = report.latency_ms if self.latency is None else self.latency
            self.latency = usual + (report.latency_ms - usual) * USUAL
        self.failing = slow or failed > FAILING_SHARE * max(done, 1.0)
        self.busy_share += ((1.0 if report.busy else 0.0) - self.busy_share) * USUAL
        self.report, self.at = report, now


class Reports:
    """All that was reported lately. `clock` is the controller's."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[tuple[Speaker, str], _Known] = {}
        self._speakers: dict[tuple[str, str], Speaker] = {}
        """By pool and agent: who speaks for it, of those that the newest looks show."""
        self._strangers: set[tuple[Speaker, str]] = set()

    def take(self, report: Report, speaker: Speaker) -> None:
        """One more. Raises `LimitError` when there is no room for one more agent that nobody has seen."""
        now = self._clock()
        report = _sane(report)
        key = (speaker, report.agent)
        known = self._known.get(key)
        if known is not None:
            known.next(report, now)
            return
        if self._speakers.get((speaker.pool, report.agent)) != speaker:
            if len(self._strangers) >= STRANGERS:
                raise LimitError(f"{STRANGERS} agents that nobody has seen report already, and this is one more")
            self._strangers.add(key)
        self._known[key] = _Known(report, now)

    def busy(self, pool: str, agent: str) -> bool | None:
        """What it last said; None: nothing, or too long ago."""
        speaker = self._speakers.get((pool, agent))
        known = self._known.get((speaker, agent)) if speaker is not None else None
        return None if known is None or self._clock() - known.at > FRESH else known.report.busy

    def next_silence(self, after: float) -> float:
        """When the next agent will have missed its reports, unless it speaks before; those that had missed them at
        `after` are known. `inf`: nobody is expected to speak."""
        moments = (
            known.at + MISSED_PROBES * known.every + _JUST_AFTER
            for known in self._known.values()
            if known.every is not None and known.every <= LONGEST_EVERY
        )
        return min((each for each in moments if each > after), default=inf)

    def onto(self, view: PoolView) -> PoolView:
        """The view, with what its agents say of themselves."""
        if not self._known:
            return view
        return replace(view, agents=tuple(self._onto(agent) for agent in view.agents))

    def _onto(self, agent: Agent) -> Agent:
        known = self._known.get(_key(agent))
        if known is None:
            return agent
        heard = known.at if agent.heard_at is None else max(agent.heard_at, known.at)
        every = agent.heard_every if known.every is None or known.every > LONGEST_EVERY else known.every
        if self._clock() - known.at > FRESH:
            return replace(agent, heard_at=heard, heard_every=every)
        report = known.report
        return replace(
            agent,
            heard_at=heard,
            heard_every=every,
            state="unready" if agent.state == "ready" and not report.ready else agent.state,
            busy=report.busy if report.busy is not None else agent.busy,
            in_flight=report.in_flight,
            completions=known.completions,
            errors=known.errors,
            busy_share=known.busy_share,
            failing=known.failing,
        )

    def readings(self, agents: Iterable[Agent]) -> dict[str, Reading]:
        """The signal `agents`, by pool: the sums of what these report. A pool none of whose agents was heard lately is
        left out, and its last part ages."""
        now = self._clock()
        parts: dict[str, list[_Known]] = {}
        for agent in agents:
            known = self._known.get(_key(agent))
            if known is not None and now - known.at <= FRESH and known.every is not None:
                parts.setdefault(agent.pool, []).append(known)
        return {pool: _sum(each) for pool, each in parts.items()}

    def keep(self, views: Iterable[PoolView]) -> None:
        """Forget whoever is in no view and was silent for a while."""
        present = {_key(agent) for view in views for agent in view.agents}
        self._speakers = {(speaker.pool, agent): speaker for speaker, agent in present}
        oldest = self._clock() - 10 * FRESH
        for key in [key for key, known in self._known.items() if key not in present and known.at < oldest]:
            del self._known[key]
        self._strangers = self._known.keys() - present


def _key(agent: Agent) -> tuple[Speaker, str]:
    return Speaker(agent.pool, agent.workload), agent.id


def _sum(parts: list[_Known]) -> Reading:
    arrivals = [known.arrivals for known in parts if known.arrivals is not None]
    backlogs = [known.report.backlog for known in parts if known.report.backlog is not None]
    return Reading(
        at=max(known.at for known in parts),
        arrivals=sum(arrivals) if arrivals else None,
        completions=sum(known.completions or 0.0 for known in parts),
        backlog=sum(backlogs) if backlogs else None,
        ongoing=float(sum(known.report.in_flight for known in parts)),
        interval=max(known.every or 0.0 for known in parts),
    )


def _grown(old: float, new: float) -> float:
    """Of a counter; one that is smaller began anew."""
    return new - old if new >= old else new


def _sane(report: Report) -> Report:
    return replace(
        report,
        in_flight=min(max(report.in_flight, 0), 1_000_000),
        completions=_number(report.completions) or 0.0,
        errors=_number(report.errors) or 0.0,
        latency_ms=_number(report.latency_ms),
        arrivals=_number(report.arrivals),
        backlog=_number(report.backlog),
    )


def _number(value: float | None) -> float | None:
    return value if value is not None and 0.0 <= value <= MOST else None
