"""The controller dies at its n-th statement to the store or call of a provider, before or after it takes effect, for
n = 1, 2, 3... A new one then ends the story, and nothing was done twice and nothing forgotten.

The default tier takes a few n, `-m slow` all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from covey.base.errors import StorageError
from covey.fleet.errors import Temporary
from covey.fleet.loop.controller import Controller
from covey.fleet.loop.database import Row, SqliteDatabase
from covey.fleet.loop.store import Store
from covey.testing.loop import run
from tests.fleet.loop.fleets import Fleet, clock, pool, spec, workload

LONG = 3600.0
"""Nobody waits so long."""
TURNS = 46


class CrashError(BaseException):
    """The end of one controller's process. Not an Exception, so that nobody handles it."""


class Death:
    """Counts what one process does and ends it at the n-th; from then on it does nothing any more."""

    def __init__(self, at: int, *, fails: bool = False) -> None:
        self.count = 0
        self.at = at
        self.fails = fails
        """The n-th only fails, and the process lives on."""
        self.dead = asyncio.Event()

    def step(self) -> None:
        """A statement of the store, which cannot wait."""
        self.count += 1
        if self.fails:
            if self.count == self.at:
                raise StorageError("the disk is full")
            return
        if self.dead.is_set() or self.count == self.at:
            self.dead.set()
            raise CrashError

    async def call(self) -> None:
        """A provider's call, which hangs for ever in a process that is dead."""
        self.count += 1
        if self.fails:
            if self.count == self.at:
                raise Temporary("throttled", after=7.0)
            return
        if self.count == self.at:
            self.dead.set()
        if self.dead.is_set():
            await asyncio.sleep(LONG)


class MortalDatabase(SqliteDatabase):
    def __init__(self, path: Path, death: Death) -> None:
        self.death: Death | None = None
        super().__init__(path)
        self.execute("PRAGMA synchronous = OFF")
        self.death = death

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        if self.death is None or statement == "BEGIN IMMEDIATE":
            return super().execute(statement, values)
        self.death.step()
        rows = super().execute(statement, values)
        if statement == "COMMIT":
            self.death.step()
        return rows


async def live(fleet: Fleet, death: Death, first_turn: int, holder: str) -> int:
    """One process' life, from its turn `first_turn` on; the turn in which it died, or TURNS."""
    database = MortalDatabase(fleet.folder / "fleet.db", death)

    async def fault(_pool: str, _when: str, verb: str) -> None:
        if verb != "observe":
            await death.call()

    fleet.fault = fault
    controller = None
    number = first_turn
    try:
        controller = await fleet.controller(Store(database), holder)
        for number in range(first_turn, TURNS):
            orders(fleet, number)
            if not await turned(controller, death):
                return number
            await asyncio.sleep(5.0)
    except CrashError:
        return number
    else:
        return TURNS
    finally:
        await bury(controller, fleet, database)


async def turned(controller: Controller, death: Death) -> bool:
    """One turn and all its calls; False if the process died. A turn that the store refused is not made up for."""
    with contextlib.suppress(StorageError):
        await controller.turn()
    workers = [task for task in asyncio.all_tasks() if task.get_name().startswith("act on")]
    calls = asyncio.create_task(controller.settle())
    end = asyncio.create_task(death.dead.wait())
    await asyncio.wait([calls, end], return_when=asyncio.FIRST_COMPLETED)
    for task in (calls, end):
        task.cancel()
    await asyncio.gather(calls, end, return_exceptions=True)
    if death.dead.is_set():
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return not death.dead.is_set()


async def bury(controller: Controller | None, fleet: Fleet, database: MortalDatabase) -> None:
    fleet.fault = None
    tasks = [task for task in asyncio.all_tasks() if task.get_name().startswith(("act on", "look at"))]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if controller is not None:
        await controller.close()
    fleet.lock.release()
    database.close()


def orders(fleet: Fleet, turn: int) -> None:
    """The story: six are wanted, then a pool is emptied, then three are enough."""
    store = fleet.store
    if turn == 3:
        store.add_order("pin", "web", at=clock(), value=6)
    if turn == 10:
        store.add_order("drain-pool", "aws", at=clock())
    if turn == 30:
        store.add_order("pin", "web", at=clock(), value=3)


def begin(folder: Path) -> Fleet:
    folder.mkdir()
    return Fleet(folder, spec([pool("aws"), pool("azure", "azure", price=1.1)], [workload()]))


def told(fleet: Fleet) -> dict[str, Any]:
    return {
        "running": fleet.running(),
        "started": {name: ground.started for name, ground in fleet.grounds.items()},
        "ended": {name: sorted(ground.ended) for name, ground in fleet.grounds.items()},
        "open": [intent.step for intent in fleet.store.intents()],
    }


async def whole(folder: Path) -> tuple[dict[str, Any], int]:
    """The story without a crash, and how many steps it has."""
    fleet = begin(folder)
    death = Death(at=-1)
    assert await live(fleet, death, 0, "only") == TURNS
    fleet.store.close()
    return told_closed(fleet), death.count


def told_closed(fleet: Fleet) -> dict[str, Any]:
    fleet.store = fleet.open_store()
    try:
        return told(fleet)
    finally:
        fleet.store.close()


async def crashed(folder: Path, n: int) -> dict[str, Any]:
    fleet = begin(folder)
    turn = await live(fleet, Death(at=n), 0, "first")
    if turn < TURNS:
        # The next one comes 5 s later, and lives the turn in which the first died once more.
        await asyncio.sleep(5.0)
        assert await live(fleet, Death(at=-1), turn, "second") == TURNS
    fleet.store.close()
    return told_closed(fleet)


def test_story_without_a_crash_starts_and_ends_what_it_must(tmp_path: Path) -> None:
    found, _ = run(whole(tmp_path / "whole"))
    assert found["started"] == {"aws": 6, "azure": 6}
    assert found["running"] == {"aws": 0, "azure": 3}
    assert found["open"] == []


STRIDES = pytest.mark.parametrize("stride", [97, pytest.param(1, marks=pytest.mark.slow)])


async def failed(folder: Path, n: int) -> dict[str, Any]:
    fleet = begin(folder)
    with contextlib.suppress(StorageError):  # it could not even begin
        await live(fleet, Death(at=n, fails=True), 0, "one")
        fleet.store.close()
        return told_closed(fleet)
    assert await live(fleet, Death(at=-1), 0, "two") == TURNS
    fleet.store.close()
    return told_closed(fleet)


@pytest.mark.timeout(1200)
@STRIDES
def test_call_or_statement_that_fails_anywhere_is_made_up_for_once(tmp_path: Path, stride: int) -> None:
    expected, steps = run(whole(tmp_path / "whole"))
    for n in range(1, steps + 1, stride):
        found = run(failed(tmp_path / str(n), n))
        for about in ("running", "started", "open"):
            assert found[about] == expected[about], f"n = {n} of {steps}: {about}"


@pytest.mark.timeout(1200)
@STRIDES
def test_controller_that_dies_anywhere_leaves_nothing_twice_and_nothing_undone(tmp_path: Path, stride: int) -> None:
    expected, steps = run(whole(tmp_path / "whole"))
    assert steps > 200
    for n in range(1, steps + 1, stride):
        found = run(crashed(tmp_path / str(n), n))
        for about in ("running", "started", "open"):
            assert found[about] == expected[about], f"n = {n} of {steps}: {about}"
