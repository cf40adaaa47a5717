from __future__ import annotations

import itertools
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from covey.base.errors import StorageError
from covey.base.paths import Home
from covey.node.storage.database import Database
from covey.node.storage.generation import begin_generation
from covey.node.storage.migrations import MIGRATIONS
from covey.node.storage.settings import WALL_CLOCK
from covey.node.storage.store import GAP_PATIENCE_US, HANDSHAKE_LIFE_US, Store

if TYPE_CHECKING:
    from tests.node.storage.conftest import FailingDisks

ADA = b"a" * 32


def mid(n: int) -> bytes:
    return n.to_bytes(16, "big")


@pytest.fixture
def random() -> Callable[[int], bytes]:
    counter = itertools.count(1)
    return lambda size: next(counter).to_bytes(size, "big")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home.locate(None, {"COVEY_HOME": str(tmp_path / "h")}, uid=0, temporary=tmp_path)
    home.state_dir.mkdir(parents=True, mode=0o700)
    return home


Open = Callable[[], Store]


@pytest.fixture
def reopen(home: Home, random: Callable[[int], bytes]) -> Iterator[Open]:
    """Open the store; whatever was open before is closed, as in a crash."""
    opened: list[Store] = []

    def reopen() -> Store:
        for store in opened:
            store.close()
        opened.append(Store.open(home, random, durable=False))
        return opened[-1]

    yield reopen
    for store in opened:
        store.close()


def test_open_makes_private_files(home: Home, random: Callable[[int], bytes]) -> None:
    store = Store.open(home, random)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.state_dir.iterdir()}
    store.close()
    assert set(modes.values()) == {0o600}
    assert {"covey.db", "generation"} <= set(modes)


def test_open_again_is_not_a_restore(reopen: Open) -> None:
    store = reopen()
    incarnation = store.outbox.incarnation
    assert not store.restored
    for _ in range(3):
        store = reopen()
        assert (store.restored, store.outbox.incarnation) == (False, incarnation)


def test_open_refuses_a_database_that_vanished(home: Home, reopen: Open) -> None:
    reopen().close()
    home.database.unlink()
    with pytest.raises(StorageError) as caught:
        reopen()
    assert caught.value.code == "store-missing"
    assert not home.database.exists()
    assert str(home.generation_file) in caught.value.next_step
    home.generation_file.unlink()
    assert not reopen().restored


def test_open_refuses_a_database_that_was_emptied(home: Home, reopen: Open) -> None:
    reopen().close()
    home.database.write_bytes(b"")
    with pytest.raises(StorageError) as caught:
        reopen()
    assert caught.value.code == "store-corrupt"


def restored_copy_of_database(home: Home, backup: Path) -> None:
    shutil.copy(backup / home.database.name, home.database)


def restored_by_rename(home: Home, backup: Path) -> None:
    shutil.copy(backup / home.database.name, home.database.with_suffix(".tmp"))
    home.database.with_suffix(".tmp").rename(home.database)


def restored_directory(home: Home, backup: Path) -> None:
    moved = home.state_dir.with_suffix(".old")
    home.state_dir.rename(moved)
    shutil.copytree(backup, home.state_dir)


def restored_into_the_same_inode(home: Home, backup: Path) -> None:
    """The token file came back as a new file, the database was written over."""
    restored_copy_of_database(home, backup)
    shutil.copy(backup / home.generation_file.name, home.generation_file.with_suffix(".tmp"))
    home.generation_file.with_suffix(".tmp").rename(home.generation_file)


def restored_elsewhere(home: Home, backup: Path) -> None:
    home.generation_file.unlink()
    restored_copy_of_database(home, backup)


@pytest.mark.parametrize(
    "restore",
    [
        restored_copy_of_database,
        restored_by_rename,
        restored_directory,
        restored_into_the_same_inode,
        restored_elsewhere,
    ],
)
def test_open_after_a_restore_begins_a_new_incarnation(
    home: Home, reopen: Open, tmp_path: Path, restore: Callable[[Home, Path], None]
) -> None:
    store = reopen()
    store.outbox.append(ADA, mid(1), "text", b"1", 1)
    store.outbox.append(ADA, mid(2), "text", b"2", 1)
    incarnation = store.outbox.incarnation
    store.close()
    shutil.copytree(home.state_dir, tmp_path / "backup")
    store = reopen()
    store.outbox.mark_delivered(ADA, [1, 2], now_us=2)
    store.outbox.append(ADA, mid(3), "text", b"3", 2)
    store.close()
    restore(home, tmp_path / "backup")

    store = reopen()
    assert store.restored
    assert store.outbox.incarnation != incarnation
    assert [m.number for m in store.outbox.next_batch(ADA, 0, 100)] == [1, 2]
    incarnation = store.outbox.incarnation
    store = reopen()
    assert (store.restored, store.outbox.incarnation) == (False, incarnation)


def test_open_after_restoring_a_backup_made_while_running(home: Home, reopen: Open, tmp_path: Path) -> None:
    """Same token on both sides, no start in between: only the database's inode tells."""
    store = reopen()
    store.database.execute("VACUUM INTO ?", (str(tmp_path / "hot.db"),))
    store.outbox.append(ADA, mid(1), "text", b"1", 1)
    store.close()
    for suffix in ("-wal", "-shm"):
        home.database.with_name(home.database.name + suffix).unlink(missing_ok=True)
    (tmp_path / "hot.db").rename(home.database)
    assert reopen().restored


def test_begin_generation_gives_no_false_alarm_whichever_call_fails(
    tmp_path: Path, failing_disk: FailingDisks, random: Callable[[int], bytes]
) -> None:
    database = Database(tmp_path / "t.db", MIGRATIONS, synchronous="OFF")
    path = tmp_path / "generation"
    for n in range(1, 30):
        disk = failing_disk(n, True)
        alarms: list[int] = []
        try:
            begin_generation(database, path, random, lambda: alarms.append(1), disk)  # noqa: B023
        except StorageError:
            assert not begin_generation(database, path, random, lambda: alarms.append(2))  # noqa: B023
        assert alarms == []
        if disk.calls < n:
            break
    database.close()
    assert 5 < n < 29


def test_begin_generation_repeats_the_alarm_until_it_was_heard(
    tmp_path: Path, failing_disk: FailingDisks, random: Callable[[int], bytes]
) -> None:
    database = Database(tmp_path / "t.db", MIGRATIONS, synchronous="OFF")
    path = tmp_path / "generation"
    begin_generation(database, path, random, lambda: None)
    path.write_text("0123\n")

    def crash() -> None:
        raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            begin_generation(database, path, random, crash)
    assert begin_generation(database, path, random, lambda: None)
    assert not begin_generation(database, path, random, lambda: None)
    database.close()


def test_maintain_does_what_time_brings(reopen: Open) -> None:
    store = reopen()
    store.outbox.append(ADA, mid(1), "text", b"", 0, expires_us=100)
    store.inbox.store(ADA, 1, 2, 1, mid(2), "text", b"late", 50)
    store.settings.set_handshake_timestamp(ADA, b"k", 60)
    assert store.maintain(100) == [mid(1)]
    assert store.settings.get_int(WALL_CLOCK) == 100
    assert store.inbox.counts().waiting == 1
    assert store.maintain(GAP_PATIENCE_US + 51) == []
    assert store.inbox.counts()[:3] == (1, 1, 0)
    assert store.settings.handshake_timestamp(ADA, b"k") == 60
    store.maintain(HANDSHAKE_LIFE_US + 61)
    assert store.settings.handshake_timestamp(ADA, b"k") == 0


def test_stores_share_one_transaction(reopen: Open) -> None:
    store = reopen()
    store.database.batch(
        [
            lambda: store.outbox.append(ADA, mid(1), "text", b"", 0),
            lambda: store.inbox.store(ADA, 1, 1, 1, mid(1), "text", b"", 0),
            lambda: store.settings.set("x", 1),
        ]
    )
    store = reopen()
    assert (store.outbox.counts().messages, store.inbox.counts().total, store.settings.get_int("x")) == (
        1,
        1,
        1,
    )
