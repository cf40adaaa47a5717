"""How many standard agents one agent of an offering stands for, learned where nobody says it.

Learned from what agents complete while they are at least 90 % busy, over that share: the 90th percentile of 20 samples
or more, over the workload's `rate_per_agent`, moved by at most 5 % in ten minutes. An agent whose errors or latency
are up teaches nothing, and what is known of its offering stays as it is until it recovers: a machine that fails fast
looks fast.

Placement covers sums of these speeds and the router weighs by them, so that one number serves all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil, inf

import msgspec

from covey.fleet.model import Agent
from covey.fleet.spec.types import Workload

__all__ = ["Learned", "SpeedState", "learn"]

BUSY = 0.9
SAMPLES = 20
MOST_SAMPLES = 200
PERCENTILE = 0.9
STEP = 0.05
PERIOD = 600.0
SLOWEST, FASTEST = 0.05, 20.0
"""What lies outside is a mistake in `rate_per_agent` or in a report."""


class Learned(msgspec.Struct, frozen=True):
    """What is known of one offering."""

    speed: float = 1.0
    moved_at: float | None = None
    samples: tuple[float, ...] = ()
    """Completions per second, since `moved_at`."""


class SpeedState(msgspec.Struct, frozen=True):
    """Of one workload."""

    offerings: dict[str, Learned] = {}
    heard: float = 0.0
    """Reports up to here have been looked at: a report is one sample, however many turns see it."""

    def learned(self) -> dict[str, float]:
        """By offering key, where something was learned."""
        return {key: each.speed for key, each in self.offerings.items() if each.moved_at is not None}


def learn(
    workload: Workload, agents: Iterable[Agent], state: SpeedState, now: float, known: Mapping[str, float]
) -> SpeedState:
    """One turn; `known`: by offering, the speeds until now, where learning begins. Without a target that says what a
    standard agent serves, nothing can be learned."""
    rate = next((t.rate_per_agent for t in workload.targets if t.rate_per_agent is not None), None)
    if rate is None:
        return state
    fresh: dict[str, list[float]] = {}
    failing: set[str] = set()
    heard = state.heard
    for agent in agents:
        if agent.failing:
            failing.add(agent.offering)
        elif agent.heard_at is not None and agent.heard_at > state.heard and (done := _sample(agent)) is not None:
            fresh.setdefault(agent.offering, []).append(done)
            heard = max(heard, min(agent.heard_at, now))
    if not fresh:
        return state
    offerings = dict(state.offerings)
    for offering, samples in fresh.items():
        if offering not in failing:
            before = offerings.get(offering) or Learned(known.get(offering, 1.0))
            offerings[offering] = _moved(before, samples, rate, now)
    return SpeedState(offerings, heard)


def _sample(agent: Agent) -> float | None:
    """What it would complete if it were busy all the time. Taken as it is, one that is 91 % busy would look 9 % slow,
    get company, be less busy, and never be heard again (seen in the simulator: 6 % more agents for days)."""
    share, done = agent.busy_share, agent.completions
    if agent.state != "ready" or share is None or not share >= BUSY or done is None or not 0.0 < done < inf:
        return None
    return done / min(share, 1.0)


def _moved(learned: Learned, samples: list[float], rate: float, now: float) -> Learned:
    kept = (*learned.samples, *samples)[-MOST_SAMPLES:]
    if len(kept) < SAMPLES or (learned.moved_at is not None and now - learned.moved_at < PERIOD):
        return Learned(learned.speed, learned.moved_at, kept)
    measured = sorted(kept)[ceil(PERCENTILE * len(kept)) - 1] / rate
    speed = min(max(measured, learned.speed * (1.0 - STEP)), learned.speed * (1.0 + STEP))
    return Learned(min(max(speed, SLOWEST), FASTEST), now)
