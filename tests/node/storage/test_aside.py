from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from covey.base.errors import StorageError
from covey.node.storage.aside import finish_move, move_aside, moved_aside

if TYPE_CHECKING:
    from tests.node.storage.conftest import FailingDisks

NOON_US = 1_767_268_800_000_000  # 2026-01-01 12:00:00 UTC


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    path = tmp_path / "covey.db"
    path.write_text("database")
    path.with_name("covey.db-wal").write_text("log")
    return path


def test_move_aside_keeps_a_database_and_its_log_together(damaged: Path, tmp_path: Path) -> None:
    target = move_aside(damaged, NOON_US)
    assert target == tmp_path / "covey.db.damaged-20260101T120000Z"
    assert contents(tmp_path) == {target.name: "database", f"{target.name}-wal": "log"}
    assert moved_aside(damaged) == [target]


def test_move_aside_never_replaces_what_was_moved_before(damaged: Path, tmp_path: Path) -> None:
    first = move_aside(damaged, NOON_US)
    damaged.write_text("second")
    second = move_aside(damaged, NOON_US)
    assert (first.read_text(), second.read_text()) == ("database", "second")
    assert moved_aside(damaged) == [first, second]


def test_move_aside_that_dies_is_finished_by_the_next_start(damaged: Path, failing_disk: FailingDisks) -> None:
    for n in range(1, 10):
        disk = failing_disk(n, True)
        try:
            target = move_aside(damaged, NOON_US, disk)
        except StorageError:
            finish_move(damaged)
            found = contents(damaged.parent)
            target = damaged.with_name("covey.db.damaged-20260101T120000Z")
            kept = damaged if damaged.exists() else target
            assert found == {kept.name: "database", f"{kept.name}-wal": "log"}, f"call {n}"
        if target.exists():
            target.rename(damaged)
            target.with_name(f"{target.name}-wal").rename(damaged.with_name("covey.db-wal"))
        if disk.calls < n:
            break
    assert n == 4


def test_finish_move_leaves_a_database_and_its_log_alone(damaged: Path) -> None:
    before = contents(damaged.parent)
    finish_move(damaged)
    assert contents(damaged.parent) == before


def test_finish_move_puts_a_log_without_a_database_away(damaged: Path) -> None:
    damaged.unlink()
    finish_move(damaged)
    assert contents(damaged.parent) == {"covey.db.damaged-unknown-wal": "log"}
