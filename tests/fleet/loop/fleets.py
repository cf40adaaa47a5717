"""A whole fleet for tests: grounds, a store in a file, controllers that come and go, on the simulator's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from covey.base.errors import UsageError
from covey.fleet.loop.controller import Controller
from covey.fleet.loop.database import SqliteDatabase
from covey.fleet.loop.leader import FileLock
from covey.fleet.loop.store import Store
from covey.fleet.spec.types import Pool, Replicas, Spec, Target, Workload
from tests.fleet.loop.pools import Ground, GroundProvider

EPOCH = 1_800_000_000.0
"""When virtual time begins."""


def clock() -> float:
    return EPOCH + asyncio.get_running_loop().time()


def pool(name: str, cloud: str = "aws", **given: object) -> Pool:
    return Pool(name=name, provider="local", labels={"cloud": cloud}, **given)  # type: ignore[arg-type]


def workload(name: str = "web", **given: object) -> Workload:
    given = {"mode": "act", "replicas": Replicas(min=2, max=10), "cold_start": 10.0, "version": "v1"} | given
    return Workload(name=name, **given)  # type: ignore[arg-type]


def spec(pools: list[Pool], workloads: list[Workload]) -> Spec:
    return Spec(pools={each.name: each for each in pools}, workloads={each.name: each for each in workloads})


def unsynced(path: Path) -> SqliteDatabase:
    """These tests let processes die, not machines, and write thousands of times."""
    database = SqliteDatabase(path)
    database.execute("PRAGMA synchronous = OFF")
    return database


class Fleet:
    """Grounds by pool and one store; `controller()` is a new one over them."""

    def __init__(self, folder: Path, first: Spec) -> None:
        self.folder = folder
        self.grounds = {name: Ground(name, clock) for name in first.pools}
        self.fault: Callable[[str, str, str], Awaitable[None]] | None = None
        self.store = self.open_store()
        self.lock = FileLock(folder / "leader.lock")
        self.apply(first)

    def open_store(self) -> Store:
        return Store(unsynced(self.folder / "fleet.db"))

    def apply(self, new: Spec) -> None:
        self.store.add_spec(new, text="", name="fleet.toml", at=clock())
        for name in new.pools:
            self.grounds.setdefault(name, Ground(name, clock))

    def make_provider(self, pool: Pool) -> GroundProvider:
        async def fault(when: str, verb: str) -> None:
            if self.fault is not None:
                await self.fault(pool.name, when, verb)

        return GroundProvider(pool, self.grounds[pool.name], price=pool.price or 1.0, fault=fault)

    def make_source(self, workload: Workload, target: Target) -> object:
        raise UsageError("no sources here")

    async def controller(self, store: Store | None = None, holder: str = "one") -> Controller:
        """One that leads."""
        self.lock = FileLock(self.folder / "leader.lock")
        controller = Controller(
            store or self.store,
            self.lock,
            clock=clock,
            holder=holder,
            make_provider=self.make_provider,
            make_source=self.make_source,  # type: ignore[arg-type]
        )
        assert await controller.lead()
        return controller

    def running(self) -> dict[str, int]:
        return {name: len(ground.agents) for name, ground in self.grounds.items()}


async def turns(controller: Controller, count: int, every: float = 5.0) -> None:
    """So many turns, each with all its calls answered, a tick apart."""
    for _ in range(count):
        await controller.turn()
        await controller.settle()
        await asyncio.sleep(every)
