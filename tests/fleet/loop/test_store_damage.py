"""A store that somebody else wrote into, or that is no store."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from covey.base.errors import StorageError
from covey.fleet.loop.controller import Controller
from covey.fleet.loop.database import SqliteDatabase
from covey.fleet.loop.store import Store
from covey.testing.loop import run
from tests.fleet.loop.fleets import Fleet, pool, spec, workload


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE fleet_specs SET spec = '{\"pools\": 1}'",
        "UPDATE fleet_specs SET spec = '['",
        "UPDATE fleet_intents SET step = '{}', status = 'accepted'",
        "UPDATE fleet_orders SET value = '{}'",
        "DROP TABLE fleet_orders",
    ],
    ids=["spec", "json", "step", "order", "table"],
)
def test_store_that_cannot_be_read_ends_no_controller(tmp_path: Path, damage: str) -> None:
    async def story() -> None:
        fleet = Fleet(tmp_path, spec([pool("home")], [workload()]))
        fleet.store.add_order("pin", "web", at=0.0, value=3)
        controller = await fleet.controller()
        await controller.turn()
        await controller.settle()
        with sqlite3.connect(tmp_path / "fleet.db") as hand:
            hand.execute(damage)
        controller._spec = None
        with pytest.raises(StorageError) as told:
            await controller.turn()
        assert (told.value.code, bool(told.value.next_step)) in [
            ("fleet-store", True),
            ("fleet-store-unreadable", True),
        ]
        await controller.close()
        fleet.store.close()

    run(story())


def test_store_explains_the_decisions_that_it_can_read(tmp_path: Path) -> None:
    async def story() -> None:
        fleet = Fleet(tmp_path, spec([pool("home")], [workload()]))
        controller = await fleet.controller()
        await controller.turn()
        await controller.settle()
        with sqlite3.connect(tmp_path / "fleet.db") as hand:
            hand.execute(
                "INSERT INTO fleet_decisions (at, turn, workload, record) VALUES (9e9, 9, 'web', '{\"at\":null}')"
            )
        assert [each.turn for each in fleet.store.decisions("web")] == [1]
        await controller.close()
        fleet.store.close()

    run(story())


@pytest.mark.parametrize(
    "content",
    [b"not a database, but long enough to be one " * 200, b"SQLite format 3\0" + bytes(5000)],
    ids=["text", "header"],
)
def test_store_that_is_no_store_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "fleet.db").write_bytes(content)
    with pytest.raises(StorageError):
        Store(SqliteDatabase(tmp_path / "fleet.db"))


def test_store_of_another_version_is_told(tmp_path: Path) -> None:
    Store(SqliteDatabase(tmp_path / "fleet.db")).close()
    with sqlite3.connect(tmp_path / "fleet.db") as hand:
        hand.execute("UPDATE fleet_meta SET value = '99' WHERE name = 'version'")
    with pytest.raises(StorageError, match="version 99"):
        Store(SqliteDatabase(tmp_path / "fleet.db"))


def test_controller_says_once_that_its_disk_is_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        fleet = Fleet(tmp_path, spec([pool("home")], [workload()]))
        controller = await fleet.controller()
        fleet.store._database.execute("PRAGMA max_page_count = 1")  # what a full disk answers: SQLITE_FULL
        fleet.store._database.execute("PRAGMA query_only = ON")
        running = asyncio.create_task(controller.run())
        await asyncio.sleep(30.0)
        assert "fleet.db" in controller.troubles["the last turn"]
        assert [record.message[:7] for record in caplog.records] == ["no turn"]
        fleet.store._database.execute("PRAGMA query_only = OFF")
        fleet.store._database.execute("PRAGMA max_page_count = 100000")
        await asyncio.sleep(30.0)
        assert (controller.turned is not None, controller.troubles) == (True, {})
        controller.stop()
        await running
        await controller.close()
        fleet.store.close()

    run(story())


def test_controller_survives_a_turn_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        fleet = Fleet(tmp_path, spec([pool("home")], [workload()]))
        controller = await fleet.controller()
        turn, failures = Controller.turn, [ZeroDivisionError("of ours")]

        async def sometimes(self: Controller) -> object:
            if failures:
                raise failures.pop()
            assert "ZeroDivisionError" in " ".join(self.problems.values())
            self.stop()
            return await turn(self)

        monkeypatch.setattr(Controller, "turn", sometimes)
        await asyncio.wait_for(controller.run(), 60.0)
        assert (controller.turned is not None, controller.problems) == (True, {})
        await controller.close()
        fleet.store.close()

    run(story())
