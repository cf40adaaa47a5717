import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from covey.base.errors import StorageError
from covey.node.storage.database import Database
from covey.node.storage.migrations import MIGRATIONS

SCHEMA = (("CREATE TABLE t (x INTEGER PRIMARY KEY)",),)


@pytest.fixture
def small(tmp_path: Path) -> Database:
    return Database(tmp_path / "t.db", SCHEMA, synchronous="OFF")


def values(database: Database) -> list[int]:
    return [x for (x,) in database.rows("SELECT x FROM t ORDER BY x")]


def put(database: Database, x: int) -> None:
    database.execute("INSERT INTO t VALUES (?)", (x,))


def put_and_fail(database: Database, x: int) -> None:
    with database.transaction():
        put(database, x + 100)
        with database.transaction():
            put(database, x)
        raise KeyError


def test_database_files_are_ours_alone(tmp_path: Path) -> None:
    database = Database(tmp_path / "t.db", SCHEMA)
    put(database, 1)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    database.close()
    assert modes == {"t.db": 0o600, "t.db-wal": 0o600, "t.db-shm": 0o600}


def test_database_is_as_durable_as_promised(tmp_path: Path) -> None:
    database = Database(tmp_path / "t.db", SCHEMA)
    found = [database.row(f"PRAGMA {name}") for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")]
    database.close()
    assert found == [("wal",), (2,), (1,), (5000,)]


def test_transaction_keeps_all_or_nothing(small: Database) -> None:
    with small.transaction():
        put(small, 1)
    with pytest.raises(KeyError):
        put_and_fail(small, 2)
    assert values(small) == [1]
    assert not small.in_transaction
    small.close()


def test_transaction_inside_another_undoes_only_itself(small: Database) -> None:
    with small.transaction():
        put(small, 1)
        with pytest.raises(KeyError):
            put_and_fail(small, 2)
        with small.transaction():
            put(small, 4)
    assert values(small) == [1, 4]
    small.close()


def test_transaction_is_lost_when_the_process_dies_in_it(tmp_path: Path, small: Database) -> None:
    with small.transaction():
        put(small, 1)
    small.execute("BEGIN IMMEDIATE")
    put(small, 2)
    small.close()
    again = Database(tmp_path / "t.db", SCHEMA)
    assert values(again) == [1]
    again.close()


def test_transaction_statement_error_is_a_storage_error(small: Database) -> None:
    put(small, 1)
    with pytest.raises(StorageError):
        put_and_fail(small, 1)
    assert values(small) == [1]
    small.close()


def test_batch_commits_what_succeeded_and_returns_what_failed(small: Database) -> None:
    def fail() -> None:
        put(small, 2)
        raise KeyError("no")

    jobs: list[Callable[[], None]] = [
        lambda: put(small, 1),
        fail,
        lambda: put(small, 3),
        lambda: put(small, 3),
    ]
    results = small.batch(jobs)
    assert results[0] is results[2] is None
    assert isinstance(results[1], KeyError)
    assert isinstance(results[3], StorageError)
    assert values(small) == [1, 3]
    small.close()


def test_batch_loses_everything_if_the_commit_fails(tmp_path: Path, small: Database) -> None:
    small.execute("PRAGMA max_page_count = 3")
    small.execute("PRAGMA cache_size = 2")
    with pytest.raises(StorageError) as caught:
        small.batch([lambda: [put(small, x) for x in range(1, 5000)], lambda: put(small, 9999)])
    assert caught.value.code == "disk-full"
    assert values(small) == []
    put(small, 1)
    assert values(small) == [1]
    small.close()


def test_migrate_from_every_older_schema(tmp_path: Path) -> None:
    steps = (*SCHEMA, ("CREATE TABLE u (y)", "INSERT INTO u SELECT x FROM t"), ("DROP TABLE t",))
    for version in range(4):
        path = tmp_path / f"{version}.db"
        old = Database(path, steps[:version])
        if version in (1, 2):
            old.execute("INSERT INTO t VALUES (7)")
        old.close()
        new = Database(path, steps)
        assert new.schema_version == 3
        assert new.rows("SELECT y FROM u") == ([(7,)] if version == 1 else [])
        new.close()


def test_migrate_that_fails_leaves_the_old_schema(tmp_path: Path) -> None:
    Database(tmp_path / "t.db", SCHEMA).close()
    with pytest.raises(StorageError):
        Database(tmp_path / "t.db", (*SCHEMA, ("CREATE TABLE u (y)", "nonsense")))
    again = Database(tmp_path / "t.db", SCHEMA)
    assert again.schema_version == 1
    assert again.rows("SELECT name FROM sqlite_master WHERE name = 'u'") == []
    again.close()


def test_open_refuses_a_newer_schema(tmp_path: Path) -> None:
    Database(tmp_path / "t.db", (*SCHEMA, ("CREATE TABLE u (y)",))).close()
    with pytest.raises(StorageError) as caught:
        Database(tmp_path / "t.db", SCHEMA)
    assert caught.value.code == "store-too-new"


def test_open_refuses_a_missing_file_that_must_exist(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        Database(tmp_path / "t.db", SCHEMA, must_exist=True)
    assert caught.value.code == "store-missing"
    assert not (tmp_path / "t.db").exists()


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 100, bytes(8192)])
def test_open_refuses_a_damaged_file_and_leaves_it_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.db").write_bytes(content)
    with pytest.raises(StorageError) as caught:
        Database(tmp_path / "t.db", SCHEMA, must_exist=True)
    assert caught.value.code == "store-corrupt"
    assert ".recover" in caught.value.next_step
    assert (tmp_path / "t.db").read_bytes() == content


def test_open_finds_damage_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    database = Database(path, MIGRATIONS)
    database.close()
    raw = bytearray(path.read_bytes())
    raw[4096 : 4096 + 64] = b"\xff" * 64
    path.write_bytes(raw)
    with pytest.raises(StorageError) as caught:
        Database(path, MIGRATIONS)
    assert caught.value.code == "store-corrupt"


def test_closed_database_says_so(small: Database) -> None:
    small.close()
    small.close()
    with pytest.raises(StorageError) as caught:
        small.row("SELECT 1")
    assert caught.value.code == "store-closed"
    assert small.closed


def test_scan_can_be_left_early(small: Database) -> None:
    small.execute_many("INSERT INTO t VALUES (?)", ((x,) for x in range(10)))
    rows = small.scan("SELECT x FROM t ORDER BY x")
    assert next(rows) == (0,)
    rows.close()
    put(small, 10)
    assert len(values(small)) == 11
    small.close()


def test_insert_returns_the_row_number(small: Database) -> None:
    assert small.insert("INSERT INTO t VALUES (5)") == 5
    small.close()


def test_migrations_make_the_same_schema_as_ever() -> None:
    """Released steps never change: add one, and add its schema number here."""
    connection = sqlite3.connect(":memory:")
    for step in MIGRATIONS:
        for statement in step:
            connection.execute(statement)
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert len(MIGRATIONS) == 1
    assert tables - {"sqlite_sequence"} == {
        "handshakes",
        "inbox",
        "inbox_gaps",
        "inbox_removed",
        "inbox_usage",
        "inbox_watermarks",
        "outbox",
        "outbox_recipients",
        "peers",
        "settings",
    }
