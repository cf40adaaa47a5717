from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from covey.fleet.model import PoolView
from covey.fleet.providers.base import Fence
from covey.fleet.providers.local import LocalPool
from covey.fleet.providers.registry import Surroundings
from covey.fleet.spec.types import Pool, Probe, Resources, Workload

pytestmark = pytest.mark.xdist_group("processes")

SERVER = Workload(
    name="web",
    command=("sh", "-c", "exec python3 -m http.server --bind 127.0.0.1 $PORT"),
    probe=Probe(http="/", every=0.05),
    resources=Resources(cpu=0.05),
    grace=5.0,
)


class Bench:
    """A real pool, and what a controller would know."""

    def __init__(self, home: Path, settings: Pool) -> None:
        self.busy: dict[str, bool] = {}
        self.happened = asyncio.Event()
        self.now = 1000.0
        surroundings = Surroundings(home=home, busy=self.busy.get, changed=self.happened.set, wall=lambda: self.now)
        self.pool = LocalPool(settings, surroundings)

    async def scale(self, size: int, workload: Workload = SERVER, epoch: int = 1) -> None:
        (offering,) = await self.pool.offerings(workload)
        await self.pool.scale(workload, offering, size, Fence(plan="plan", epoch=epoch))

    async def until(self, true: Callable[[PoolView], bool], workload: Workload = SERVER) -> PoolView:
        """Looks again when something happened, and ten times a second since supervisord tells nobody what it does."""
        async with asyncio.timeout(20):
            while True:
                self.happened.clear()
                view = await self.pool.observe([workload], self.now)
                if true(view):
                    return view
                try:
                    await asyncio.wait_for(self.happened.wait(), 0.1)
                except TimeoutError:
                    continue


@asynccontextmanager
async def bench(home: Path, **settings: object) -> AsyncIterator[Bench]:
    made = Bench(home, Pool(name="here", provider="local", **settings))
    try:
        yield made
    finally:
        await made.pool.close()
        pid = await made.pool._keeper.pid()
        if pid:
            await made.pool._keeper.shut_down()


def states(view: PoolView) -> dict[str, str]:
    return {agent.id: agent.state for agent in view.agents}


def test_scale_starts_real_processes_that_answer(short_path: Path) -> None:
    async def story() -> None:
        async with bench(short_path) as given:
            await given.scale(3)
            view = await given.until(lambda view: list(states(view).values()) == ["ready"] * 3)
            assert list(states(view)) == ["web-000001", "web-000002", "web-000003"]
            assert len({agent.endpoint for agent in view.agents}) == 3
            for agent in view.agents:
                _, writer = await asyncio.open_connection("127.0.0.1", int(agent.endpoint.rpartition(":")[2]))
                writer.close()
                await writer.wait_closed()

    asyncio.run(story())
