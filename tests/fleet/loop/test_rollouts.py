"""A new version replaces the old one pool at a time, new before old, and halts when it is not well."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from covey.fleet.loop.controller import Controller
from covey.fleet.spec.types import Place, Replicas, Rollout, Spec, Survive
from covey.testing.loop import run
from tests.fleet.loop.fleets import Fleet, pool, spec, turns, workload

COUNT = 8


def given(version: str) -> Spec:
    """Eight agents, four in each of two clouds."""
    web = workload(
        replicas=Replicas(min=COUNT, max=COUNT),
        version=version,
        rollout=Rollout(surge=0.25, healthy_for=20.0),
        place=Place(survive=Survive(clouds=1, keep=0.5)),
    )
    return spec([pool("aws"), pool("azure", "azure", price=1.1)], [web])


async def watch(fleet: Fleet, controller: Controller, seconds: float) -> list[tuple[int, int, frozenset[str]]]:
    """Each turn: how many run, how many are ready, and the pools in which the new version takes over."""
    seen = []
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        before = {name: set(ground.agents) for name, ground in fleet.grounds.items()}
        await turns(controller, 1)
        agents = [agent for ground in fleet.grounds.values() for agent in ground.look()]
        changed = frozenset(name for name, ground in fleet.grounds.items() if set(ground.agents) != before[name])
        seen.append((len(agents), sum(agent.state == "ready" for agent in agents), changed))
    return seen


def versions(fleet: Fleet) -> Counter[str]:
    return Counter(agent.version for ground in fleet.grounds.values() for agent in ground.agents.values())


async def settled(folder: Path) -> tuple[Fleet, Controller]:
    fleet = Fleet(folder, given("v1"))
    controller = await fleet.controller()
    await turns(controller, 8)
    assert versions(fleet) == {"v1": COUNT}
    return fleet, controller


def test_new_version_takes_over_one_pool_at_a_time_and_never_with_fewer_ready(tmp_path: Path) -> None:
    async def story() -> None:
        fleet, controller = await settled(tmp_path)
        fleet.apply(given("v2"))
        seen = await watch(fleet, controller, 900.0)
        assert versions(fleet) == {"v2": COUNT}
        assert max(count for count, _, _ in seen) <= COUNT + COUNT // 4
        assert min(ready for _, ready, _ in seen) >= COUNT
        order = [next(iter(changed)) for _, _, changed in seen if changed]
        assert all(len(changed) <= 1 for _, _, changed in seen)
        assert order == sorted(order), "the second pool begins when the first is done"
        await controller.close()
        fleet.store.close()

    run(story())


def test_version_that_does_not_get_ready_halts_and_rollback_takes_it_away(tmp_path: Path) -> None:
    async def story() -> None:
        fleet, controller = await settled(tmp_path)
        for ground in fleet.grounds.values():
            ground.broken = "bad"
        fleet.apply(given("bad"))
        seen = await watch(fleet, controller, 600.0)
        assert versions(fleet)["v1"] == COUNT
        assert versions(fleet)["bad"] <= COUNT // 4
        assert min(ready for _, ready, _ in seen) >= COUNT
        assert controller.turned is not None
        (decision,) = controller.turned.decisions
        assert any("halted" in note for note in decision.held), decision.held
        fleet.apply(given("v1"))
        await watch(fleet, controller, 900.0)
        assert versions(fleet) == {"v1": COUNT}
        await controller.close()
        fleet.store.close()

    run(story())
