"""The simulated pools: agents that take a cold start to come up, serve a fluid queue, and are paid until they are gone.

One second is one step. Requests wait in one queue (fluid: fractions of requests are served); what is ready serves
`ready speed x rate_per_agent` per second. A request is violated when it finds more than 5 s of backlog, or nobody
ready. Starting and draining agents are paid. `World` knows no policy: a pilot looks (`agents`, `sample`) and acts
(`start`, `drain`); `clock.run` moves it, second by second.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace

from covey.fleet.model import Agent, Offering, Reading
from covey.fleet.spec.types import Workload

__all__ = ["BACKLOG_LIMIT", "DRAIN", "NEVER", "Figures", "Machine", "Sample", "World"]

BACKLOG_LIMIT = 5.0
"""Seconds of ready capacity: a request that finds more before it is violated (FLEET section 4)."""
DRAIN = 5.0
"""Seconds that an agent needs to finish what it has, the same for every policy."""
NEVER = 1 << 62


class Machine(msgspec.Struct):
    """One agent, as the simulation knows it."""

    id: str
    offering: str
    started_at: float
    ready_at: float | None = None
    """None: it still starts."""
    draining_at: float | None = None
    leaving_at: float | None = None
    """Notice was given: it ends then."""
    gone: bool = False


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Means over the time since the last look."""

    at: float
    span: float
    arrivals: float
    completions: float
    backlog: float
    utilisation: float


class Figures(msgspec.Struct, kw_only=True):
    """What one run came to."""

    requests: float = 0.0
    violated: float = 0.0
    agent_seconds: float = 0.0
    cost_usd: float = 0.0
    reversals: int = 0
    moves: int = 0
    starts: int = 0
    removals: int = 0
    capacity_failures: int = 0
    preemptions: int = 0
    peak_agents: int = 0
    least_ready: int | None = None
    """Since the death of a cloud."""
    restored_after: float | None = None
    """Seconds from the death of a cloud until `min` agents were ready."""
    seconds: int = 0

    @property
    def violations(self) -> float:
        return self.violated / self.requests if self.requests else 0.0

    @property
    def replica_hours(self) -> float:
        return self.agent_seconds / 3600

    @property
    def reversals_per_hour(self) -> float:
        return self.reversals / (self.seconds / 3600) if self.seconds else 0.0


class World:
    """Agents of one workload on simulated offerings, and its queue."""

    def __init__(
        self,
        offerings: Sequence[Offering],
        *,
        rate_per_agent: float,
        cold_start: float,
        workload: str,
        least: int = 0,
    ) -> None:
        self.offerings = {offering.key: offering for offering in offerings}
        self.rate_per_agent = rate_per_agent
        self.cold_start = cold_start
        self.workload = workload
        self.least = least
        """The workload's `min`, to see when it holds again."""
        self.priced = 0
        """How often a price changed."""
        self.now = 0
        self.machines: dict[str, Machine] = {}
        self.figures = Figures()
        self.backlog = 0.0
        self.capacity = 0.0
        """Requests per second that the ready agents serve."""
        self.arrived = 0.0
        self.served = 0.0
        self.offered = 0.0
        """Capacity summed over time: `served / offered` is utilisation."""
        self.paid = 0
        """Agents paid now."""
        self.size = 0
        """Agents that start or are ready: those that count."""
        self.usd_per_hour = 0.0
        self._paid_until = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ids = itertools.count(1)
        self._last_target: int | None = None
        self._direction = 0
        self._mark = (0.0, 0.0, 0.0, 0.0)
        self.room: dict[str, int] = {}
        """By pool or offering: how many agents it holds at most."""
        self.dry: dict[str, float] = {}
        """By offering: until when it gives none."""
        self.dark: dict[str, tuple[Agent, ...]] = {}
        """By pool that is dead: its agents as they were last seen."""
        self.woken = False
        """Something happened that the controller is told at once."""
        self._killed_at: float | None = None

    # -- what a pilot sees -------------------------------------------------------------------------------------------

    @property
    def ready(self) -> int:
        return sum(1 for m in self.machines.values() if m.ready_at is not None and m.draining_at is None)

    def sample(self) -> Sample:
        """Means since the last call."""
        at, arrived, served, offered = self._mark
        span = max(self.now - at, 1e-9)
        self._mark = (float(self.now), self.arrived, self.served, self.offered)
        capacity = self.offered - offered
        return Sample(
            at=float(self.now),
            span=span,
            arrivals=(self.arrived - arrived) / span,
            completions=(self.served - served) / span,
            backlog=self.backlog,
            utilisation=min(1.0, (self.served - served) / capacity) if capacity > 0 else 0.0,
        )

    def agents(self, utilisation: float) -> tuple[Agent, ...]:
        """All agents, as a perfect observer reports them: every ready one is equally loaded."""
        now = float(self.now)
        share = self.rate_per_agent * utilisation
        offerings = self.offerings
        agents = []
        for machine in self.machines.values():
            offering = offerings[machine.offering]
            if machine.ready_at is None:
                agents.append(
                    Agent(
                        id=machine.id,
                        workload=self.workload,
                        pool=offering.pool,
                        offering=machine.offering,
                        state="starting",
                        started_at=machine.started_at,
                        busy=False,
                        leaving_at=machine.leaving_at,
                    )
                )
                continue
            draining = machine.draining_at is not None
            agents.append(
                Agent(
                    id=machine.id,
                    workload=self.workload,
                    pool=offering.pool,
                    offering=machine.offering,
                    state="draining" if draining else "ready",
                    started_at=machine.started_at,
                    ready_at=machine.ready_at,
                    heard_at=now,
                    busy=now < machine.draining_at + DRAIN if machine.draining_at is not None else utilisation > 0,
                    cpu=utilisation,
                    completions=share * offering.speed,
                    busy_share=utilisation,
                    leaving_at=machine.leaving_at,
                )
            )
        return tuple(agents)

    def readings(self, sample: Sample, workload: Workload) -> tuple[dict[str, Reading], ...]:
        """What each target of the workload reads, in order.

        A request in service lasts a second: an agent's concurrency at full load equals its rate (the field notes'
        approximation). Sampled every second and handed over as the mean since the last look: no request is missed."""
        read = []
        for target in workload.targets:
            if target.signal == "cpu":
                read.append({"": Reading(at=sample.at, value=sample.utilisation, interval=1.0)})
            else:
                read.append(
                    {
                        "": Reading(
                            at=sample.at,
                            arrivals=sample.arrivals,
                            completions=sample.completions,
                            backlog=sample.backlog,
                            ongoing=sample.completions + sample.backlog,
                            interval=1.0,
                        )
                    }
                )
        return tuple(read)

    # -- what a pilot does -------------------------------------------------------------------------------------------

    def start(self, offering: str, count: int, *, ready: bool = False) -> int:
        """Start agents; how many there was room for. `ready`: they were there before the story begins."""
        count = max(0, min(count, self._space(offering, count)))
        for _ in range(count):
            machine = Machine(f"a{next(self._ids)}", offering, float(self.now))
            self.machines[machine.id] = machine
            if ready:
                machine.ready_at = float(self.now)
            else:
                self.figures.starts += 1
                self.at(self.now + self.cold_start, lambda m=machine: self._ready(m))  # type: ignore[misc]
        self._changed()
        return count

    def _space(self, key: str, count: int) -> int:
        """How many of `count` fit."""
        pool, space = self.offerings[key].pool, count
        if pool in self.dark or self.dry.get(key, 0.0) > self.now:
            space = 0
        for name in (key, pool) if self.room else ():
            if name in self.room:
                there = sum(1 for m in self.machines.values() if name in (m.offering, self.offerings[m.offering].pool))
                space = min(space, self.room[name] - there)
        if space < count:
            self.figures.capacity_failures += 1
        return space

    def drain(self, ids: Sequence[str], *, remove: bool = True) -> None:
        """Take no new work; a starting agent ends at once. `remove`: gone when it has finished, as engines do."""
        for name in ids:
            machine = self.machines.get(name)
            if machine is None or machine.draining_at is not None:
                continue
            machine.draining_at = float(self.now)
            if machine.ready_at is None:
                self._gone(machine)
            elif remove:
                self.at(self.now + DRAIN, lambda m=machine: self._gone(m))  # type: ignore[misc]
        self._changed()

    def remove(self, ids: Sequence[str]) -> None:
        """End these now."""
        for name in ids:
            if name in self.machines:
                self._gone(self.machines[name])
        self._changed()

    def aim(self, target: int) -> None:
        """The size that is wanted from now on: changes of its direction are reversals."""
        last, self._last_target = self._last_target, target
        if last is not None:
            self.lean(target - last)

    def lean(self, change: int) -> None:
        """More or fewer agents were ordered for demand's sake."""
        if not change:
            return
        direction = 1 if change > 0 else -1
        if self._direction and direction != self._direction:
            self.figures.reversals += 1
        self._direction = direction

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Something that happens by itself: an agent comes up, a cloud goes down."""
        heapq.heappush(self._events, (when, next(self._order), action))

    # -- what happens to it ------------------------------------------------------------------------------------------

    def price(self, key: str, price: float) -> None:
        """A price changed."""
        self.offerings[key] = replace(self.offerings[key], price=price)
        self.priced += 1
        self._changed()

    def strike(self, pool: str, zone: str, notice: float, drought: float) -> None:
        """Every spot agent of a zone is taken back, with notice, and the zone gives none for a while."""
        struck = {o.key for o in self.offerings.values() if o.spot and (o.pool, o.zone) == (pool, zone)}
        for key in struck:
            self.dry[key] = self.now + drought
        for machine in self.machines.values():
            if machine.offering in struck and machine.leaving_at is None:
                machine.leaving_at = self.now + notice
                self.figures.preemptions += 1
                self.at(machine.leaving_at, lambda m=machine: self._gone(m))  # type: ignore[misc]
                self.woken = True

    def kill(self, pools: Sequence[str]) -> None:
        """A cloud dies: its agents serve nothing from now on, are not paid, and nobody can see that they are gone."""
        seen = self.agents(1.0)
        for pool in pools:
            self.dark[pool] = tuple(agent for agent in seen if agent.pool == pool)
        for machine in [m for m in self.machines.values() if self.offerings[m.offering].pool in pools]:
            machine.gone = True
            del self.machines[machine.id]
        self._killed_at = float(self.now)
        self.figures.restored_after = None
        self._changed()

    def revive(self, pools: Sequence[str]) -> None:
        """Its control answers again, and nothing of what ran is left."""
        for pool in pools:
            self.dark.pop(pool, None)
        self.woken = True

    # -- time --------------------------------------------------------------------------------------------------------

    @property
    def next_event(self) -> float:
        return self._events[0][0] if self._events else NEVER

    def happen(self) -> None:
        """All events that are due."""
        while self._events and self._events[0][0] <= self.now:
            heapq.heappop(self._events)[2]()

    def pay(self) -> None:
        """Settle up to now."""
        span = self.now - self._paid_until
        self.figures.agent_seconds += self.paid * span
        self.figures.cost_usd += self.usd_per_hour * span / 3600
        self._paid_until = float(self.now)

    def _ready(self, machine: Machine) -> None:
        if not machine.gone and machine.draining_at is None:
            machine.ready_at = float(self.now)
            self._changed()

    def _gone(self, machine: Machine) -> None:
        if not machine.gone:
            machine.gone = True
            self.figures.removals += 1
            del self.machines[machine.id]
            self._changed()

    def _changed(self) -> None:
        """Counts, capacity and what is paid per hour, after agents came or went."""
        self.pay()
        speed, usd, ready, size, offerings = 0.0, 0.0, 0, 0, self.offerings
        for machine in self.machines.values():
            offering = offerings[machine.offering]
            usd += (offering.price or 0.0) + (offering.egress or 0.0)
            if machine.draining_at is None:
                size += 1
                if machine.ready_at is not None:
                    speed += offering.speed
                    ready += 1
        self.paid = len(self.machines)
        self.size = size
        self.usd_per_hour = usd
        self.capacity = speed * self.rate_per_agent
        figures = self.figures
        figures.peak_agents = max(figures.peak_agents, self.paid)
        if self._killed_at is not None:
            figures.least_ready = ready if figures.least_ready is None else min(ready, figures.least_ready)
            if figures.restored_after is None and ready >= self.least:
                figures.restored_after = self.now - self._killed_at
