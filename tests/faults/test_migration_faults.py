"""A migration that dies or fails at any system call: the old database or the new one, whole, and a copy of the old."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from covey.base.errors import StorageError
from covey.node.storage import Store, prepare
from covey.node.storage.database import Database
from covey.node.storage.migrations import MIGRATIONS
from tests.faults.story import ADA, START_US, body, home_in, message
from tests.faults.supervisor import KILL, Call, Say, run_supervised

STRIDES = pytest.mark.parametrize("stride", [3, pytest.param(1, marks=pytest.mark.slow)])

pytestmark = pytest.mark.timeout(900)


def random(size: int) -> bytes:
    return b"r" * size


def make_old(folder: Path) -> None:
    """A database of the first schema, with messages that wait."""
    home = home_in(folder)
    prepare(home)
    old = Database(home.database, MIGRATIONS[:1])
    rows = [(ADA, n, message(n), len(body(n)), body(n)) for n in range(1, 40)]
    old.execute_many(
        "INSERT INTO outbox (recipient, number, id, type, size, body, created_us) VALUES (?, ?, ?, 'text', ?, ?, 1)",
        rows,
    )
    old.execute(
        "INSERT INTO outbox_recipients VALUES (?, 39, 39, ?), (x'', 0, 39, ?)",
        (ADA, *[sum(row[3] for row in rows)] * 2),
    )
    old.execute("INSERT INTO settings VALUES ('outbox-incarnation', x'0102030405060708')")
    old.close()


def migrate(folder: Path, say: Say) -> None:
    """As the program does at its start, which is repeated while the disk fails."""
    for _ in range(40):
        try:
            Store.open(home_in(folder), random, START_US).close()
            break
        except StorageError as error:
            say([error.code, error.next_step])
    else:
        raise AssertionError("40 failures")


def check(folder: Path, context: str) -> None:
    home = home_in(folder)
    store = Store.open(home, random, START_US)
    try:
        assert store.database.schema_version == len(MIGRATIONS), context
        assert [each.body for each in store.outbox.next_batch(ADA, 0, 1 << 30)] == [body(n) for n in range(1, 40)], (
            context
        )
        assert store.outbox.incarnation == 0x0102030405060708, context
        assert store.database.rows("PRAGMA integrity_check") == [("ok",)], context
    finally:
        store.close()
    assert check_copy(folder), context
    assert [path.name for path in home.state_dir.iterdir() if path.name.endswith(".new")] == [], context


def check_copy(folder: Path) -> bool:
    """The copy under its final name is whole, if it is there."""
    kept = home_in(folder).database.with_name("covey.db.schema-1")
    if not kept.exists():
        return False
    old = Database(kept, MIGRATIONS[:1], must_exist=True)
    assert old.schema_version == 1
    assert old.row("SELECT count(*), sum(length(body)) FROM outbox") == (39, sum(len(body(n)) for n in range(1, 40)))
    old.close()
    return True


@pytest.fixture
def template(parent: Path) -> Path:
    made = parent / "template"
    made.mkdir(mode=0o700)
    make_old(made)
    return made


@STRIDES
def test_migration_killed_before_any_call(parent: Path, template: Path, stride: int) -> None:
    for n in range(1, 10_000, stride):
        folder = parent / str(n)
        shutil.copytree(template, folder)

        def decide(call: Call, n: int = n) -> int:
            return KILL if call.index == n else 0

        report = run_supervised(lambda say, folder=folder: migrate(folder, say), folder, decide)  # type: ignore[misc]
        assert report.exit_code in (0, -9), report.words()[-1]
        check(folder, f"killed before call {n}")
        if report.exit_code == 0:
            break
    assert n > 60


@STRIDES
@pytest.mark.parametrize("row", [1, 25])
def test_migration_on_a_disk_that_fails(parent: Path, template: Path, stride: int, row: int) -> None:
    """So many calls in a row; the start is tried again."""
    for n in range(1, 10_000, stride):
        folder = parent / str(n)
        shutil.copytree(template, folder)
        hit: list[Call] = []

        def decide(call: Call, n: int = n, hit: list[Call] = hit) -> int:
            if not n <= call.index < n + row:
                return 0
            hit.append(call)
            return (errno.ENOSPC, errno.EIO, errno.EROFS)[n % 3]

        report = run_supervised(lambda say, folder=folder: migrate(folder, say), folder, decide)  # type: ignore[misc]
        assert report.exit_code == 0, report.words()[-1]
        assert all(hint for _, hint in report.words()), (n, report.words())
        check(folder, f"call {n} failed" + (f": {hit[0].name} of {hit[0].path.name}" if hit else ""))
        if not hit:
            break
    assert n > 60
