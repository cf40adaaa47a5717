"""Whether this machine is somewhere else is judged by what it depends on; a sleep shows in the clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from covey.base.types import Endpoint
from covey.node.roaming import Roaming
from covey.testing import SimHost, run
from covey.testing.loop import SimLoop
from covey.testing.network import SimNetwork

REMOTE: Endpoint = ("10.0.9.9", 4040)


@asynccontextmanager
async def watched(*, tells: bool = True) -> AsyncIterator[tuple[SimHost, list[float]]]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    host = SimHost(SimNetwork(loop, 1), "10.0.0.1")
    host.tells_changes = tells
    changes: list[float] = []
    roaming = Roaming(host, lambda: [REMOTE], lambda: changes.append(loop.time()))
    task = loop.create_task(roaming.run())
    await asyncio.sleep(1.0)
    try:
        yield host, changes
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert not host._watches


def test_new_address_is_noticed_at_once_where_the_system_tells() -> None:
    async def scenario() -> None:
        async with watched() as (host, changes):
            host.move(host.network, "10.0.0.2")
            await asyncio.sleep(0.1)
            assert len(changes) == 1
            host.move(host.network, "10.0.0.2", "fd00::1")  # nothing that we depend on
            await asyncio.sleep(60.0)
            assert len(changes) == 1

    run(scenario(), limit_virtual_s=100)


def test_new_address_is_noticed_soon_where_the_system_does_not_tell() -> None:
    async def scenario() -> None:
        async with watched(tells=False) as (host, changes):
            host.move(host.network, "10.0.0.2")
            await asyncio.sleep(6.0)
            assert len(changes) == 1

    run(scenario(), limit_virtual_s=100)


def test_sleep_is_noticed() -> None:
    async def scenario() -> None:
        async with watched() as (host, changes):
            host._base += 3600.0  # the clock that counts suspend went on, the loop did not
            await asyncio.sleep(20.0)
            assert len(changes) == 1

    run(scenario(), limit_virtual_s=100)
