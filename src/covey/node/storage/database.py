"""One SQLite file, its transactions and its schema number.

The rules:

- Everything that `transaction()` committed survives a crash of the process and of the machine (WAL,
  synchronous=FULL).
- A transaction within a transaction is a savepoint: if the inner one fails, only its own writes are undone.
  So several stores' functions, each atomic by itself, share one commit, and one fsync, when the caller wraps
  them: `batch`.
- A file that is missing, damaged or from a newer Covey is an error with a next step, never replaced by an
  empty one.
- One thread uses a `Database` at a time (the node's writer thread; inline in the simulator). Nothing here
  locks.

Errors are `StorageError`: ``store-missing``, ``store-corrupt``, ``store-too-new``, ``store-busy``,
``disk-full``, ``storage``.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from covey.base.errors import StorageError
from covey.node.storage.files import PRIVATE_FILE, storage_error

__all__ = ["Database", "Migrations", "Synchronous"]

T = TypeVar("T")

Synchronous = Literal["FULL", "NORMAL", "OFF"]
"""What a crash of the machine costs: nothing; the last transactions; the file. One of the process costs
nothing."""

Migrations = Sequence[Sequence[str]]
"""Entry i holds the statements that lead from schema number i to i + 1. Entries are only ever added."""

BUSY_TIMEOUT_MS: Final = 5_000
"""How long to wait for another process (a backup, `sqlite3` in a shell) that holds the write lock."""

CHECK_LIMIT: Final = 32 << 20
"""Bytes. Files up to this size are checked wholly at open (about 30 ms); larger ones show damage when it is
met."""

_CODES: Final = {
    sqlite3.SQLITE_CORRUPT: "store-corrupt",
    sqlite3.SQLITE_NOTADB: "store-corrupt",
    sqlite3.SQLITE_FULL: "disk-full",
    sqlite3.SQLITE_BUSY: "store-busy",
}


class Database:
    """An open SQLite file at the newest schema.

    `must_exist`: the caller knows that the file was made before (a marker beside it), so a missing or empty
    one is an error. `synchronous="OFF"` is for the simulator, where a crash loses the process and not the
    machine.

    After any error the object stays usable, except after
    ``store-corrupt``.
    """

    def __init__(
        self,
        path: Path,
        migrations: Migrations,
        *,
        must_exist: bool = False,
        synchronous: Synchronous = "FULL",
    ) -> None:
        self.path = path
        self._depth = 0
        self._closed = False
        if must_exist and not path.exists():
            raise StorageError(
                f"the database {path} is missing, although it was created before",
                code="store-missing",
                next_step=f"restore it from a backup; to give up all messages and trust: rm {path.parent}/generation",
            )
        if must_exist and path.stat().st_size == 0:
            raise self._corrupt("it is empty")
        with storage_error(f"cannot create {path}"):
            # SQLite would make it with the umask's mode; its -wal and -shm files copy the mode found here.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE))
        with self._errors():
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            with self._errors():
                self._configure(synchronous)
            self._migrate(migrations, must_exist)
        except BaseException:
            self._connection.close()
            raise

    def _configure(self, synchronous: Synchronous) -> None:
        self._connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(f"PRAGMA synchronous = {synchronous}")
        self._connection.execute("PRAGMA foreign_keys = ON")
        if self.path.stat().st_size <= CHECK_LIMIT:
            found = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise self._corrupt(found)

    def _migrate(self, migrations: Migrations, must_exist: bool) -> None:
        version = self.schema_version
        if version > len(migrations):
            raise StorageError(
                f"{self.path} is from a newer Covey (schema {version}, this one knows {len(migrations)})",
                code="store-too-new",
                next_step="pip install --upgrade covey",
            )
        if version == 0 and must_exist:
            raise self._corrupt("it is empty")
        for number in range(version, len(migrations)):
            with self.transaction():
                for statement in migrations[number]:
                    self.execute(statement)
                self.execute(f"PRAGMA user_version = {number + 1}")

    @property
    def schema_version(self) -> int:
        """The file's schema number."""
        row = self.row("PRAGMA user_version")
        assert row is not None
        return int(row[0])

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def in_transaction(self) -> bool:
        return self._depth > 0

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes of the block or none. Nested: a savepoint, durable only when the outermost block
        ends."""
        depth = self._depth
        begin, commit = ("BEGIN IMMEDIATE", "COMMIT") if depth == 0 else (f"SAVEPOINT s{depth}", f"RELEASE s{depth}")
        self.execute(begin)
        self._depth += 1
        try:
            yield
            self.execute(commit)
        except BaseException:
            self._undo(depth)
            raise
        finally:
            self._depth = depth

    def _undo(self, depth: int) -> None:
        if not self._connection.in_transaction:
            return  # SQLite itself rolled everything back (disk full); the outer levels will fail too
        with contextlib.suppress(sqlite3.Error):
            if depth == 0:
                self._connection.execute("ROLLBACK")
            else:
                self._connection.execute(f"ROLLBACK TO s{depth}")
                self._connection.execute(f"RELEASE s{depth}")

    def batch(self, jobs: Iterable[Callable[[], T]]) -> list[T | Exception]:
        """Run every job in one transaction, each in its own savepoint; a job that raises is undone alone.

        Returns, per job, its result or its exception. If the common commit fails, that error is raised and no
        job has happened.
        """
        results: list[T | Exception] = []
        with self.transaction():
            for job in jobs:
                try:
                    with self.transaction():
                        results.append(job())
                except Exception as error:
                    if not self._connection.in_transaction:
                        raise  # the whole transaction is gone: earlier jobs did not happen either
                    results.append(error)
        return results

    def execute(self, sql: str, arguments: Sequence[Any] = ()) -> int:
        """Run one statement; the number of rows changed (-1 where that means nothing)."""
        with self._errors():
            return self._connection.execute(sql, arguments).rowcount

    def insert(self, sql: str, arguments: Sequence[Any] = ()) -> int:
        """Run one INSERT; the new row's number."""
        with self._errors():
            return self._connection.execute(sql, arguments).lastrowid or 0

    def execute_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each of `rows`."""
        with self._errors():
            self._connection.executemany(sql, rows)

    def row(self, sql: str, arguments: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """The first row, or None."""
        with self._errors():
            cursor = self._connection.execute(sql, arguments)
            found: tuple[Any, ...] | None = cursor.fetchone()
            cursor.close()
            return found

    def rows(self, sql: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows."""
        with self._errors():
            return self._connection.execute(sql, arguments).fetchall()

    def scan(self, sql: str, arguments: Sequence[Any] = ()) -> Generator[tuple[Any, ...], None, None]:
        """Rows one by one, for a caller that stops early. Close it (or exhaust it) before writing."""
        with self._errors():
            cursor = self._connection.execute(sql, arguments)
            try:
                yield from cursor
            finally:
                cursor.close()

    def close(self) -> None:
        """Close the file. An open transaction is lost, as in a crash. Calling it twice is fine."""
        if not self._closed:
            self._closed = True
            self._connection.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn `sqlite3.Error` into `StorageError`."""
        if self._closed:
            raise StorageError(f"{self.path} is closed", code="store-closed")
        try:
            yield
        except sqlite3.Error as error:
            number = getattr(error, "sqlite_errorcode", None)
            code = _CODES.get((number or 0) & 0xFF, "storage")  # extended codes keep the primary one in the low byte
            if code == "store-corrupt":
                raise self._corrupt(str(error)) from error
            raise StorageError(
                f"{self.path}: {error}",
                code=code,
                next_step="free some space, then try again: df -h" if code == "disk-full" else "",
            ) from error

    def _corrupt(self, found: str) -> StorageError:
        return StorageError(
            f"the database {self.path} is damaged: {found}",
            code="store-corrupt",
            next_step=f"restore it from a backup, or save what can be saved: sqlite3 {self.path} .recover",
        )
