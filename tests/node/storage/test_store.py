from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from covey.base.errors import StorageError
from covey.base.paths import Home
from covey.base.types import identity_text
from covey.node.storage.aside import moved_aside
from covey.node.storage.database import Database
from covey.node.storage.generation import begin_generation
from covey.node.storage.migrations import APPLICATION_ID, MIGRATIONS
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
        opened.append(Store.open(home, random, 0, durable=False))
        return opened[-1]

    yield reopen
    for store in opened:
        store.close()


def test_open_makes_private_files(home: Home, random: Callable[[int], bytes]) -> None:
    store = Store.open(home, random, 0)
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


def test_open_moves_a_damaged_database_aside_and_begins_no_other(home: Home, reopen: Open) -> None:
    store = reopen()
    store.outbox.append(ADA, mid(1), "text", b"1", 1)
    store.close()
    home.database.write_bytes(b"noise" * 5000)
    with pytest.raises(StorageError) as caught:
        reopen()
    (aside,) = moved_aside(home.database)
    assert caught.value.code == "store-corrupt"
    assert str(aside) in caught.value.message
    assert aside.read_bytes() == b"noise" * 5000
    for _ in range(2):
        with pytest.raises(StorageError) as caught:
            reopen()
        assert caught.value.code == "store-missing"
        assert str(aside) in caught.value.message
        assert not home.database.exists()
    assert f"rm {home.generation_file}" in caught.value.next_step


def test_open_after_damage_and_consent_begins_a_new_incarnation(home: Home, reopen: Open) -> None:
    store = reopen()
    incarnation = store.outbox.incarnation
    assert store.damaged is None
    store.close()
    home.database.write_bytes(b"noise" * 5000)
    with pytest.raises(StorageError):
        reopen()
    home.generation_file.unlink()
    store = reopen()
    assert store.outbox.incarnation != incarnation
    assert ([store.damaged], store.begun_anew) == (moved_aside(home.database), True)
    store = reopen()
    assert ([store.damaged], store.begun_anew) == (moved_aside(home.database), True)
    moved_aside(home.database)[0].unlink()
    assert store.damaged is None


def test_open_of_a_damaged_database_without_its_marker_needs_consent_too(home: Home, reopen: Open) -> None:
    home.database.write_bytes(b"noise" * 5000)
    for code in ("store-corrupt", "store-missing"):
        with pytest.raises(StorageError) as caught:
            reopen()
        assert caught.value.code == code


def test_open_after_restoring_over_a_database_that_was_moved_aside(home: Home, reopen: Open, tmp_path: Path) -> None:
    store = reopen()
    store.outbox.append(ADA, mid(1), "text", b"1", 1)
    incarnation = store.outbox.incarnation
    store.close()
    shutil.copy(home.database, tmp_path / "backup")
    home.database.write_bytes(b"noise" * 5000)
    with pytest.raises(StorageError):
        reopen()
    shutil.copy(tmp_path / "backup", home.database)
    store = reopen()
    assert store.restored
    assert store.outbox.incarnation != incarnation
    assert [message.id for message in store.outbox.next_batch(ADA, 0, 100)] == [mid(1)]
    assert ([store.damaged], store.begun_anew) == (moved_aside(home.database), False)


def test_open_leaves_a_newer_or_foreign_database_where_it_is(home: Home, reopen: Open) -> None:
    for owner, steps, code in (
        (APPLICATION_ID, len(MIGRATIONS) + 1, "store-too-new"),
        (APPLICATION_ID + 1, len(MIGRATIONS), "store-foreign"),
    ):
        reopen().close()
        with contextlib.closing(sqlite3.connect(home.database)) as connection:
            connection.execute(f"PRAGMA application_id = {owner}")
            connection.execute(f"PRAGMA user_version = {steps}")
        before = home.database.read_bytes()
        with pytest.raises(StorageError) as caught:
            reopen()
        assert (caught.value.code, bool(caught.value.next_step)) == (code, True)
        assert home.database.read_bytes() == before
        assert moved_aside(home.database) == []
        home.database.unlink()
        home.generation_file.unlink()


def test_open_migrates_from_every_older_schema(home: Home, reopen: Open) -> None:
    forked = b"f" * 32
    for version in range(1, len(MIGRATIONS)):
        old = Database(home.database, MIGRATIONS[:version])
        old.execute(
            "INSERT INTO peers (identity, since_us, trust) VALUES (?, 1, 'trusted'), (?, 1, 'trusted')", (ADA, forked)
        )
        if version == 1:
            for identity in (forked, b"x" * 32):
                old.execute("INSERT INTO settings VALUES (?, x'31')", (f"forked/{identity_text(identity)}",))
            old.execute("INSERT INTO settings VALUES ('forked/nonsense', x'31')")
        else:
            old.execute("UPDATE peers SET forked = 1 WHERE identity = ?", (forked,))
        old.execute("INSERT INTO settings VALUES ('outbox-incarnation', x'0102030405060708')")
        old.execute("INSERT INTO outbox_recipients VALUES (?, 1, 1, 4), (x'', 0, 1, 4)", (ADA,))
        old.execute(
            "INSERT INTO outbox (recipient, number, id, type, size, body, created_us)"
            " VALUES (?, 1, ?, 'text', 4, ?, 1)",
            (ADA, mid(1), b"body"),
        )
        old.execute("INSERT INTO inbox_watermarks VALUES (?, x'0000000000000001', 9, 1)", (ADA,))
        old.close()
        store = reopen()
        assert store.database.schema_version == len(MIGRATIONS)
        assert {peer.identity: peer.forked for peer in store.peers.all("trusted")} == {ADA: False, forked: True}
        assert store.settings.get_text("forked/nonsense") == ""
        assert store.database.row("SELECT count(*) FROM settings WHERE key LIKE 'forked/%'") == (0,)
        assert [message.body for message in store.outbox.next_batch(ADA, 0, 100)] == [b"body"]
        assert store.outbox.incarnation == 0x0102030405060708
        assert store.inbox.watermark(ADA, 1) == 9
        kept = Database(home.database.with_name(f"covey.db.schema-{version}"), MIGRATIONS[:version], must_exist=True)
        assert kept.row("SELECT body FROM outbox") == (b"body",)
        kept.close()
        store.close()
        home.database.unlink()
        home.generation_file.unlink()


def test_open_notices_that_the_log_was_removed_after_a_crash(home: Home, reopen: Open, tmp_path: Path) -> None:
    for lost, noticed in (("-shm", False), ("-wal", True)):
        store = reopen()
        store.database.row("PRAGMA wal_checkpoint(TRUNCATE)")
        store.outbox.append(ADA, mid(1), "text", b"1", 1)
        crashed = tmp_path / f"crashed{lost}"
        shutil.copytree(home.state_dir, crashed)
        store.close()
        for path in home.state_dir.glob("covey.db*"):
            with path.open("r+b") as file:  # the same inodes, as they were before the end
                file.write((crashed / path.name).read_bytes())
        for suffix in ("-wal", "-shm"):
            if suffix != lost:
                shutil.copy(crashed / f"covey.db{suffix}", home.state_dir)
        store = reopen()
        assert store.restored is noticed
        assert not reopen().restored


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
    assert store.maintain(100, 90) == [mid(1)]
    assert store.settings.get_int(WALL_CLOCK) == 90
    assert store.inbox.counts().waiting == 1
    assert store.maintain(GAP_PATIENCE_US + 51, 100) == []
    assert store.inbox.counts()[:3] == (1, 1, 0)
    assert store.settings.handshake_timestamp(ADA, b"k") == 60
    store.maintain(HANDSHAKE_LIFE_US + 61, 100)
    assert store.settings.handshake_timestamp(ADA, b"k") == 60, "a clock that is ahead makes us forget no replay"
    store.maintain(HANDSHAKE_LIFE_US + 61, HANDSHAKE_LIFE_US + 61)
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


@pytest.mark.parametrize("restore", [restored_copy_of_database, restored_by_rename])
def test_open_does_not_apply_the_log_of_another_database(
    home: Home, reopen: Open, random: Callable[[int], bytes], tmp_path: Path, restore: Callable[[Home, Path], None]
) -> None:
    """A kill leaves a log behind; a backup is copied over the database, and nobody thinks of the log."""
    store = reopen()
    for n in range(50):
        store.outbox.append(ADA, mid(n), "text", b"1" * 999, 1)
    store.close()
    shutil.copytree(home.state_dir, tmp_path / "backup")
    pid = os.fork()
    if pid == 0:
        killed = Store.open(home, random, 1)
        killed.outbox.mark_delivered(ADA, upto=40, now_us=2)
        for n in range(50, 60):
            killed.outbox.append(ADA, mid(n), "text", b"2" * 3000, 2)
        os._exit(0)
    os.waitpid(pid, 0)
    log = home.database.with_name("covey.db-wal")
    left = log.read_bytes()
    assert left
    restore(home, tmp_path / "backup")
    store = reopen()
    assert store.restored
    assert [message.id for message in store.outbox.next_batch(ADA, 0, 1 << 20)] == [mid(n) for n in range(50)]
    assert store.database.rows("PRAGMA integrity_check") == [("ok",)]
    (aside,) = home.state_dir.glob("covey.db-wal.damaged-*")
    assert aside.read_bytes() == left


def test_open_applies_the_log_that_was_restored_with_its_database(
    home: Home, reopen: Open, random: Callable[[int], bytes], tmp_path: Path
) -> None:
    pid = os.fork()
    if pid == 0:
        Store.open(home, random, 1).outbox.append(ADA, mid(1), "text", b"1", 1)
        os._exit(0)
    os.waitpid(pid, 0)
    shutil.copytree(home.state_dir, tmp_path / "backup")
    reopen().close()
    reopen().database.execute("DELETE FROM outbox")
    reopen().close()
    for path in (tmp_path / "backup").iterdir():
        shutil.copy(path, home.state_dir)
    assert [message.id for message in reopen().outbox.next_batch(ADA, 0, 100)] == [mid(1)]
