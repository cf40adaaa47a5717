"""Small fleets for tests: pools in clouds, a workload, agents, and what one look at them shows."""

from __future__ import annotations

from typing import Any

from covey.fleet.model import Agent, Offering, PoolView
from covey.fleet.spec.types import Budget, Controller, Place, Pool, Replicas, Spec, Workload

POOLS = {"east": "aws", "west": "azure", "north": "gcp"}
"""By pool, its cloud."""


def workload(name: str = "w", *, least: int = 1, most: int = 200, place: Place | None = None, **more: Any) -> Workload:
    more.setdefault("mode", "act")
    return Workload(name=name, replicas=Replicas(min=least, max=most), place=place or Place(), **more)


def spec(
    *workloads: Workload, budget: float | None = None, pools: dict[str, str] | None = None, **controller: Any
) -> Spec:
    return Spec(
        pools={
            name: Pool(name=name, provider="local", labels={"cloud": cloud})
            for name, cloud in (POOLS if pools is None else pools).items()
        },
        workloads={each.name: each for each in workloads or (workload(),)},
        budget=Budget(hourly_usd=budget) if budget is not None else None,
        controller=Controller(**controller),
    )


def offering(pool: str = "east", shape: str = "m", *, price: float | None = 0.10, **more: Any) -> Offering:
    more.setdefault("cloud", POOLS.get(pool, pool))
    return Offering(pool=pool, shape=shape, price=price, **more)


def agent(id: str, of: Offering, *, at: float = 0.0, state: str = "ready", **more: Any) -> Agent:
    more.setdefault("started_at", at - 3600.0)
    more.setdefault("workload", "w")
    more.setdefault("busy", False)
    if state != "starting":
        more.setdefault("ready_at", more["started_at"] + 60.0)
    return Agent(id=id, pool=of.pool, offering=of.key, state=state, **more)  # type: ignore[arg-type]


def agents(count: int, of: Offering, *, start: int = 0, **more: Any) -> tuple[Agent, ...]:
    return tuple(agent(f"{of.shape}{start + i}", of, **more) for i in range(count))


def views(*present: Agent, at: float = 0.0, lost: tuple[str, ...] = (), pools: Any = POOLS) -> dict[str, PoolView]:
    return {
        pool: PoolView(
            pool=pool, at=at, control=pool not in lost, agents=tuple(each for each in present if each.pool == pool)
        )
        for pool in pools
    }
