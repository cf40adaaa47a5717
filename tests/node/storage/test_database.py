import contextlib
import shutil
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from covey.base.errors import StorageError
from covey.node.storage.database import SHRINK_PAGES, WAL_LIMIT, Database
from covey.node.storage.migrations import MIGRATIONS

SCHEMA = (("CREATE TABLE t (x INTEGER PRIMARY KEY)",),)


@pytest.fixture
def small(tmp_path: Path) -> Database:
    return Database(tmp_path / "t.db", SCHEMA, synchronous="OFF")


def values(database: Database) -> list[int]:
    return [x for (x,) in database.rows("SELECT x FROM t ORDER BY x")]


def put(database: Database, x: int) -> None:
    database.execute("INSERT INTO t VALUES (?)", (x,))


def put_safely(database: Database, x: int) -> None:
    with database.transaction():
        put(database, x)


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


def test_open_refuses_a_database_that_belongs_to_somebody_else(tmp_path: Path) -> None:
    foreign, unmarked = tmp_path / "foreign.db", tmp_path / "unmarked.db"
    Database(foreign, SCHEMA, application_id=7).close()
    with contextlib.closing(sqlite3.connect(unmarked)) as connection:
        connection.execute("CREATE TABLE notes (x)")
    for path in (foreign, unmarked):
        before = path.read_bytes()
        with pytest.raises(StorageError) as caught:
            Database(path, SCHEMA, application_id=8)
        assert caught.value.code == "store-foreign"
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA application_id").fetchone() == (7 if path == foreign else 0,)
            assert len(connection.execute("SELECT * FROM sqlite_master").fetchall()) == 1
        assert len(path.read_bytes()) == len(before)


def test_open_marks_a_database_from_before_there_were_marks(tmp_path: Path) -> None:
    Database(tmp_path / "t.db", SCHEMA).close()
    again = Database(tmp_path / "t.db", SCHEMA, application_id=8)
    assert again.row("PRAGMA application_id") == (8,)
    again.close()


def test_migrate_keeps_a_copy_of_the_last_older_schema_only(tmp_path: Path) -> None:
    path, steps = tmp_path / "t.db", (*SCHEMA, ("DROP TABLE t", "CREATE TABLE u (y)"), ("CREATE TABLE v (z)",))
    first = Database(path, steps[:1], keep_old=True)
    put(first, 7)
    first.close()
    Database(path, steps[:2], keep_old=True).close()
    kept = tmp_path / "t.db.schema-1"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    old = Database(kept, steps[:1], must_exist=True)
    assert values(old) == [7]
    old.close()
    Database(path, steps, keep_old=True).close()
    Database(path, steps, keep_old=True).close()
    assert sorted(found.name for found in tmp_path.iterdir() if "schema" in found.name) == ["t.db.schema-2"]


def test_migrate_that_cannot_keep_a_copy_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    Database(path, SCHEMA).close()
    (tmp_path / ".t.db.schema-1.new").mkdir()
    with pytest.raises(StorageError):
        Database(path, (*SCHEMA, ("DROP TABLE t",)), keep_old=True)
    again = Database(path, SCHEMA)
    assert again.schema_version == 1
    again.close()


def test_commit_into_a_file_that_was_removed_is_no_promise(tmp_path: Path, small: Database) -> None:
    put_safely(small, 1)
    for path in tmp_path.iterdir():
        path.unlink()
    for x in (2, 3):
        with pytest.raises(StorageError) as caught:
            put_safely(small, x)
        assert caught.value.code == "store-missing"
        assert "BACKUP" in caught.value.next_step
    assert small.trouble is caught.value
    small.close()


def test_commit_into_a_file_that_was_replaced_is_no_promise(tmp_path: Path, small: Database) -> None:
    put_safely(small, 1)
    shutil.copy(tmp_path / "t.db", tmp_path / "backup")
    (tmp_path / "backup").rename(tmp_path / "t.db")
    with pytest.raises(StorageError) as caught:
        put_safely(small, 2)
    assert caught.value.code == "store-missing"
    small.close()


def test_commit_into_a_directory_that_was_removed_is_no_promise(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    database = Database(tmp_path / "state" / "t.db", SCHEMA)
    shutil.rmtree(tmp_path / "state")
    with pytest.raises(StorageError) as caught:
        put_safely(database, 1)
    assert caught.value.code == "store-missing"
    database.close()


@pytest.mark.parametrize("lost", [("-wal",), ("-shm",), ("-wal", "-shm")])
def test_commit_survives_the_loss_of_the_files_beside_the_database(tmp_path: Path, lost: tuple[str, ...]) -> None:
    path = tmp_path / "t.db"
    database = Database(path, SCHEMA)
    put_safely(database, 1)
    for suffix in lost:
        (tmp_path / f"t.db{suffix}").unlink()
    put_safely(database, 2)
    put_safely(database, 3)
    assert database.trouble is None
    # What another program sees now is what a start after a kill would see.
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT x FROM t ORDER BY x").fetchall() == [(1,), (2,), (3,)]
    database.close()


def test_trouble_lasts_until_a_write_succeeds(small: Database) -> None:
    small.execute("PRAGMA query_only = 1")
    with pytest.raises(StorageError) as caught:
        put_safely(small, 1)
    assert (caught.value.code, small.trouble) == ("disk-read-only", caught.value)
    assert "findmnt" in caught.value.next_step
    assert values(small) == []
    small.execute("PRAGMA query_only = 0")
    with small.transaction():
        values(small)
    assert small.trouble is caught.value
    put_safely(small, 1)
    assert small.trouble is None
    small.close()


def test_trouble_is_not_what_a_job_did_wrong(small: Database) -> None:
    put_safely(small, 1)
    with pytest.raises(StorageError):
        put_safely(small, 1)
    assert small.trouble is None
    small.close()


def test_trouble_of_a_damaged_file_lasts(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    database = Database(path, (*SCHEMA, ("CREATE TABLE u (y)",)))
    with database.transaction():
        database.execute_many("INSERT INTO t VALUES (?)", ((x,) for x in range(5000)))
    database.close()
    database = Database(path, (*SCHEMA, ("CREATE TABLE u (y)",)))
    with path.open("r+b") as file:
        file.seek(8 * 4096)
        file.write(b"\xff" * 4096 * 2)
    database.execute("PRAGMA cache_size = 0")
    database.execute("PRAGMA shrink_memory")
    with pytest.raises(StorageError) as caught:
        values(database)
    assert caught.value.code == "store-corrupt"
    with database.transaction():
        database.execute("INSERT INTO u VALUES (1)")
    assert database.trouble is caught.value
    database.close()


def test_shrink_gives_space_back(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    database = Database(path, (("CREATE TABLE t (x)",),), synchronous="OFF")
    with database.transaction():
        database.execute_many("INSERT INTO t VALUES (?)", ((bytes(4000),) for _ in range(3000)))
    database.execute("DELETE FROM t")
    database.row("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.stat().st_size
    for _ in range(5):
        with database.transaction():
            database.shrink()
    database.row("PRAGMA wal_checkpoint(TRUNCATE)")
    after = path.stat().st_size
    database.close()
    assert before > 12_000_000
    assert after <= (SHRINK_PAGES + 16) * 4096


def test_log_that_had_to_grow_is_cut_back(tmp_path: Path) -> None:
    database = Database(tmp_path / "t.db", (("CREATE TABLE t (x)",),), synchronous="OFF")
    log = tmp_path / "t.db-wal"
    with database.transaction():
        database.execute_many("INSERT INTO t VALUES (?)", ((bytes(4000),) for _ in range(6000)))
    assert log.stat().st_size > 2 * WAL_LIMIT
    for x in range(3):
        with database.transaction():
            database.execute("INSERT INTO t VALUES (?)", (x,))
    size = log.stat().st_size
    database.close()
    assert size <= WAL_LIMIT


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
            if isinstance(statement, str):
                connection.execute(statement)
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert len(MIGRATIONS) == 4
    assert tables - {"sqlite_sequence"} == {
        "deposits",
        "handshakes",
        "heard",
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
