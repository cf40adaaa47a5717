"""A workload under a load that tests write down, and a policy that follows it: no queue, no cold start."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from covey.fleet.demand import POLICIES, DemandInput
from covey.fleet.model import Agent, Reading, Wanted
from covey.fleet.spec.types import Replicas, Target, Workload

RATE = Target(signal="queue", rate_per_agent=10.0, utilisation=0.7, drain_within=30.0)
"""7 requests per second for each agent."""


def workload(*targets: Target, least: int = 1, most: int = 200, **fields: Any) -> Workload:
    return Workload(name="w", targets=targets or (RATE,), replicas=Replicas(min=least, max=most), **fields)


def agents(count: int, *, state: str = "ready", pool: str = "p", offering: str = "p/s/on-demand") -> tuple[Agent, ...]:
    return tuple(
        Agent(
            id=f"{pool}-{state}-{i}",
            workload="w",
            pool=pool,
            offering=offering,
            state=state,  # type: ignore[arg-type]
            started_at=-1000.0,
            ready_at=-900.0,
        )
        for i in range(count)
    )


class Driver:
    """Asks one policy turn by turn; what it wants runs at once, unless `agents` are given."""

    def __init__(self, policy: str, of: Workload, running: int, now: float = 0.0) -> None:
        self.policy = POLICIES[policy]
        self.of = of
        self.now = now
        self.running = agents(running)
        self.state: Any = self.policy.initial(of, now)
        self.follow = True

    def turn(self, *readings: dict[str, Reading], after: float = 5.0, **given: Any) -> Wanted:
        self.now += after
        seen = DemandInput(now=self.now, workload=self.of, readings=readings, agents=self.running, **given)
        wanted, self.state = self.policy.recommend(seen, self.state)
        if self.follow:
            least, most = self.of.replicas.min, self.of.replicas.max
            self.running = agents(int(min(most, max(least, wanted.agents))))
        return wanted

    def rate(self, arrivals: float, backlog: float = 0.0, *, interval: float = 1.0, after: float = 5.0) -> Wanted:
        at = self.now + after
        return self.turn({"p": Reading(at=at, arrivals=arrivals, backlog=backlog, interval=interval)}, after=after)

    def rates(self, arrivals: Iterable[float], **kind: Any) -> list[float]:
        return [self.rate(rate, **kind).agents for rate in arrivals]
