"""The very same turn that the controller runs, flown over simulated pools.

This plays the controller's part around `loop.turn`: looks (every pool answers at once, unless its cloud is dead),
numbers what is ordered, carries it out, and hands back what became of it. A call takes no time and refuses only for
lack of room; slow, lying and failing calls are the business of `make fleet-chaos`.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from covey.fleet.loop.turn import Seen, Turned, TurnState, turn
from covey.fleet.model import Agent, Decision, InFlight, LaunchFailure, Offering, PoolView, Reading, Step
from covey.fleet.simulate.market import Market
from covey.fleet.simulate.world import DRAIN, World
from covey.fleet.spec.types import Pool, Spec, Workload

__all__ = ["TurnPilot", "market_spec"]

MOVES = ("saving", "fail-back")
"""Causes of steps that are moves; scale-out, scale-in and repair are none (FLEET section 2, Filter)."""


def market_spec(market: Market, workload: Workload) -> Spec:
    """A spec with a pool for each of the market's."""
    pools: dict[str, Pool] = {}
    for offering in market.offerings:
        labels = {"cloud": offering.cloud, "region": offering.region, "jurisdiction": offering.jurisdiction}
        pools[offering.pool] = Pool(
            name=offering.pool, provider="kubernetes", labels={key: value for key, value in labels.items() if value}
        )
    return Spec(pools=pools, workloads={workload.name: workload})


class TurnPilot:
    """Flies one workload of a spec. `told` gets every decision, for reports."""

    def __init__(self, spec: Spec, workload: Workload, told: Callable[[Decision], None] | None = None) -> None:
        self.spec = spec
        self.workload = workload
        self.every = max(1, round(spec.controller.tick))
        self.state = TurnState()
        self.told = told
        self.in_flight: dict[int, InFlight] = {}
        self.ordered = 0
        self.last = 0.0
        """Utilisation as last sampled."""
        self.priced = -1
        self.offered: dict[str, dict[str, tuple[Offering, ...]]] = {}
        self.sampled = 0
        self.readings: tuple[dict[str, Reading], ...] = ()

    def turn(self, world: World) -> None:
        now = float(world.now)
        if world.now - self.sampled >= 1:
            self.sampled = world.now
            sample = world.sample()
            self.last = sample.utilisation
            self.readings = world.readings(sample, self.workload)
        if not now:
            return  # nothing was measured yet, as for every policy
        seen = Seen(
            views=self._views(world, now),
            readings={self.workload.name: self.readings},
            in_flight=tuple(self.in_flight.values()),
        )
        turned = turn(self.state, seen, self.spec, now)
        self.state = turned.state
        self._journal(turned)
        balance = 0
        for number in turned.again:
            if number in self.in_flight:
                self._carry_out(world, self.in_flight[number], now)
        for step in turned.steps:
            self.ordered += 1
            order = InFlight(intent=self.ordered, plan=f"1-{turned.state.turn}", step=step, at=now, changed_at=now)
            before = world.size
            self._carry_out(world, order, now)
            if step.cause == "demand":
                balance += world.size - before
            elif step.cause in MOVES and step.kind == "drain":
                world.figures.moves += len(step.ids)
        world.lean(balance)

    def _views(self, world: World, now: float) -> dict[str, PoolView]:
        offered = self._offered(world)
        every = world.agents(self.last)
        by_pool: dict[str, list[Agent]] = {pool: [] for pool in offered}
        if len(by_pool) > 1:
            for agent in every:
                by_pool[agent.pool].append(agent)
        views = {}
        for pool, offerings in offered.items():
            dead = world.dark.get(pool)
            agents = tuple(by_pool[pool]) if len(by_pool) > 1 else every
            views[pool] = PoolView(
                pool=pool,
                at=now,
                control=dead is None,
                problem="" if dead is None else "its cloud is down",
                agents=agents if dead is None else dead,
                offerings=offerings,
            )
        return views

    def _offered(self, world: World) -> dict[str, dict[str, tuple[Offering, ...]]]:
        """By pool, by workload; made anew when a price changed."""
        if self.priced != world.priced:
            self.priced = world.priced
            by_pool: dict[str, list[Offering]] = {}
            for offering in world.offerings.values():
                by_pool.setdefault(offering.pool, []).append(offering)
            self.offered = {pool: {self.workload.name: tuple(several)} for pool, several in by_pool.items()}
        return self.offered

    def _journal(self, turned: Turned) -> None:
        for settled in turned.settled:
            self.in_flight.pop(settled.intent, None)
        if self.told is not None:
            for decision in turned.decisions:
                self.told(decision)

    def _carry_out(self, world: World, order: InFlight, now: float) -> None:
        step = order.step
        refused: LaunchFailure | None = None
        if step.kind == "scale":
            refused = self._scale(world, step, now)
        elif step.kind == "drain":
            world.drain(step.ids, remove=False)
        else:
            idle = [name for name in step.ids if _idle(world, name, step.grace)]
            world.remove(idle)
            if not idle:
                self.in_flight.pop(order.intent, None)  # all still busy: the next turn decides about them
                return
            step = replace(step, ids=tuple(idle))
        self.in_flight[order.intent] = replace(
            order, step=step, accepted=refused is None, refused=refused, tries=order.tries + 1, changed_at=now
        )

    def _scale(self, world: World, step: Step, now: float) -> LaunchFailure | None:
        offering = world.offerings[step.offering]
        if offering.pool in world.dark:
            return LaunchFailure(scope=offering.scope, shape="", at=now, reason="its cloud is down")
        there = sum(1 for m in world.machines.values() if m.offering == step.offering and m.draining_at is None)
        missing = step.size - there
        if missing <= 0 or world.start(step.offering, missing) == missing:
            return None
        return LaunchFailure(
            scope=offering.scope, shape=offering.shape, at=now, reason="no room", workload=self.workload.name
        )


def _idle(world: World, name: str, grace: float) -> bool:
    """Nothing left to finish: it never was ready, or was drained long enough ago. An agent that is not drained is as
    busy as all others."""
    machine = world.machines.get(name)
    if machine is None or machine.ready_at is None:
        return True
    return machine.draining_at is not None and world.now >= machine.draining_at + min(DRAIN, grace)
