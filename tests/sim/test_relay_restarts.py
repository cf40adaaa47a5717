"""A rendezvous that relays is stopped and started again: streams over it wait, and lose nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from covey.testing import Link, run
from covey.testing.nat import SYMMETRIC
from covey.testing.world import World
from tests.sim.streams import gap
from tests.sim.test_member_relays import relay_of

WAN: Final = Link(latency_s=0.02)


async def start(world: World, *rendezvous: str) -> None:
    await world.start_several(*rendezvous)
    for name in ("a", "b"):
        world.nat(name, SYMMETRIC)
        await world.start_node(name, behind=name)
    await world.befriend("a", "b")
    await world.wait(2.0)


@pytest.mark.parametrize("away_s", [0.0, pytest.param(5.0, marks=pytest.mark.slow)])
def test_the_only_relay_restarts(away_s: float, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await start(world, "rv")

            async def restart() -> None:
                await world.machines["rv"].stop()
                await world.wait(away_s)
                await world.restart("rv")

            assert await gap(world, restart) < away_s + 0.7

    run(scenario(), limit_virtual_s=300)


def test_relay_that_restarts_beside_another(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await start(world, "one", "two")
            used = next(name for name in ("one", "two") if world.machines[name].host.ip == relay_of(world, "a", "b"))

            async def restart() -> None:
                await world.machines[used].stop()
                await world.wait(1.0)
                await world.restart(used)

            assert await gap(world, restart) < 0.05, "all went over to the other before it stopped"

    run(scenario(), limit_virtual_s=300)


@pytest.mark.parametrize("use", ["steady", pytest.param("seldom", marks=pytest.mark.slow)])
def test_reserve_does_not_go_stale(use: str, tmp_path: Path) -> None:
    """Half an hour over one relay. Then it dies, and the other, that carried nothing meanwhile, takes over."""

    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await start(world, "one", "two")
            for _ in range(60 if use == "steady" else 3):
                await world.wait(30.0 if use == "steady" else 600.0)
                assert (await world.node("a").send("b", "hello", wait=10)).result == "delivered"
            await world.wait(1.0)
            used = next(name for name in ("one", "two") if world.machines[name].host.ip == relay_of(world, "a", "b"))

            async def die() -> None:
                await world.crash(used)

            assert await gap(world, die) < 0.5

    run(scenario(), limit_virtual_s=3600)
