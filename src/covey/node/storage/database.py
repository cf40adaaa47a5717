"""One SQLite file, its transactions and its schema number.

The rules:

- Everything that `transaction()` committed survives a crash of the process and of the machine (WAL,
  synchronous=FULL).
- A transaction within a transaction is a savepoint: if the inner one fails, only its own writes are undone.
  So several stores' functions, each atomic by itself, share one commit, and one fsync, when the caller wraps
  them: `batch`.
- A file that is missing, damaged, another program's or from a newer Covey is an error with a next step, never
  replaced by an empty one.
- What was committed into a file that somebody has meanwhile removed or replaced is not called committed
  (``store-missing``). If only SQLite's own files beside it went, they are made again with nothing lost.
- The last trouble with the disk stays in `trouble` until a write succeeds: that is what `covey status` tells.
- One thread uses a `Database` at a time (the node's writer thread; inline in the simulator). Nothing here
  locks.

Errors are `StorageError`: ``store-missing``, ``store-corrupt``, ``store-foreign``, ``store-too-new``, ``store-busy``,
``disk-full``, ``disk-read-only``, ``disk-error``, ``storage``. After one that a commit raised nothing was promised, but
it may have happened: whoever repeats a change must repeat it under the same id.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from covey.base.errors import StorageError
from covey.node.storage.files import PRIVATE_FILE, storage_error, storage_step

__all__ = ["TROUBLES", "Database", "Migrations", "Step", "Synchronous"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

Synchronous = Literal["FULL", "NORMAL", "OFF"]
"""What a crash of the machine costs: nothing; the last transactions; the file. One of the process costs
nothing."""

Step = str | Callable[["Database"], None]
"""One statement of a migration, or a function where SQL does not do."""

Migrations = Sequence[Sequence[Step]]
"""Entry i holds the steps that lead from schema number i to i + 1. Entries are only ever added."""

BUSY_TIMEOUT_MS: Final = 5_000
"""How long to wait for another process (a backup, `sqlite3` in a shell) that holds the write lock."""

WAL_LIMIT: Final = 8 << 20
"""Bytes. A write-ahead log that had to grow beyond is cut back to this when it begins anew; it does so about every
4 MiB, SQLite's default, so it is larger only while one transaction, or a foreign reader, needs it. Ours."""

ROOM: Final = 1 << 20
"""Bytes. With less the disk counts as full still, once it was. Ours: one large message."""

SHRINK_PAGES: Final = 1024
"""Free pages (of 4096 bytes) that `shrink` leaves in the file, and those it gives back at a time. Ours: 4 MiB in about
20 ms."""

CHECK_LIMIT: Final = 32 << 20
"""Bytes. Files up to this size are checked wholly at open (about 30 ms); larger ones show damage when it is
met."""

_CODES: Final = {
    sqlite3.SQLITE_CORRUPT: "store-corrupt",
    sqlite3.SQLITE_NOTADB: "store-corrupt",
    sqlite3.SQLITE_FULL: "disk-full",
    sqlite3.SQLITE_READONLY: "disk-read-only",
    sqlite3.SQLITE_IOERR: "disk-error",
    sqlite3.SQLITE_CANTOPEN: "disk-error",
    sqlite3.SQLITE_BUSY: "store-busy",
}
"""A quota that is used up is ``disk-error`` here: SQLite tells ENOSPC apart, but not EDQUOT."""

TROUBLES: Final = frozenset(_CODES.values()) | {"store-missing"}
"""The codes that `Database.trouble` may have."""


class Database:
    """An open SQLite file at the newest schema.

    `must_exist`: the caller knows that the file was made before (a marker beside it), so a missing or empty
    one is an error. `application_id` marks whose file it is; 0 takes any. `keep_old`: a copy of a database of an
    older schema is kept beside it, as NAME.schema-N, before it is migrated. `synchronous="OFF"` is for the
    simulator, where a crash loses the process and not the machine.

    After any error the object stays usable, except after ``store-corrupt`` and ``store-missing``.
    """

    def __init__(
        self,
        path: Path,
        migrations: Migrations,
        *,
        must_exist: bool = False,
        application_id: int = 0,
        keep_old: bool = False,
        synchronous: Synchronous = "FULL",
    ) -> None:
        self.path = path
        self.trouble: StorageError | None = None
        """Why the last write that failed did, if the disk or the file was to blame; None once one succeeded again."""
        self.created = False
        """There was nothing in the file."""
        self._synchronous = synchronous
        self._depth = 0
        self._closed = False
        if must_exist and not path.exists():
            raise StorageError(
                f"the database {path} is missing, although it was created before",
                code="store-missing",
                next_step=f"restore it from a backup: cp BACKUP {path}",
            )
        if must_exist and path.stat().st_size == 0:
            raise self.corrupt("it is empty")
        with storage_error("open", path):
            # SQLite would make it with the umask's mode; its -wal and -shm files copy the mode found here.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE))
        self._connection = self._connect()
        self._found = self._look()
        try:
            with self._errors():
                self._check()
            self._migrate(migrations, must_exist, application_id, keep_old)
        except BaseException:
            self._connection.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        with self._errors():
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            with storage_error("open", self.path), self._errors():
                connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
                if self.path.stat().st_size == 0:
                    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # later it would need the file written anew
                mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                if mode != "wal":  # SQLite goes on without a word
                    raise StorageError(
                        f"{self.path} cannot have its log and its index beside it",
                        code="disk-error",
                        next_step=storage_step("disk-error", self.path),
                    )
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")
                connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
                connection.execute("PRAGMA foreign_keys = ON")
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # makes the files beside it
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self) -> None:
        if self.path.stat().st_size <= CHECK_LIMIT:
            found = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise self.corrupt(found)

    def _migrate(self, migrations: Migrations, must_exist: bool, application_id: int, keep_old: bool) -> None:
        version = self.schema_version
        self.created = version == 0
        owner = self._number("PRAGMA application_id")
        if application_id and owner != application_id:
            tables = self._number("SELECT count(*) FROM sqlite_master")
            if owner or (tables and version == 0):
                raise StorageError(
                    f"{self.path} is a database, but not the one that belongs here",
                    code="store-foreign",
                    next_step=f"move it away, then restore the right one from a backup: ls -l {self.path}",
                )
        if version > len(migrations):
            raise StorageError(
                f"{self.path} is from a newer Covey (schema {version}, this one knows {len(migrations)})",
                code="store-too-new",
                next_step="pip install --upgrade covey",
            )
        if version == 0 and must_exist:
            raise self.corrupt("it is empty")
        if keep_old and 0 < version < len(migrations):
            self._keep(version)
        if version < len(migrations):
            with self.transaction():
                for step in (step for steps in migrations[version:] for step in steps):
                    if isinstance(step, str):
                        self.execute(step)
                    else:
                        step(self)
                self.execute(f"PRAGMA user_version = {len(migrations)}")
        if owner != application_id != 0:
            self.execute(f"PRAGMA application_id = {application_id}")

    def _keep(self, version: int) -> None:
        """A copy as of before the migration, whole and on the disk before anything is changed. Older ones go."""
        kept = self.path.with_name(f"{self.path.name}.schema-{version}")
        temporary = kept.with_name(f".{kept.name}.new")
        with storage_error("keep a copy of the database as", kept):
            temporary.unlink(missing_ok=True)
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE))
            try:
                self.execute("VACUUM INTO ?", (os.fspath(temporary),))
                _sync(temporary)
                temporary.rename(kept)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            _sync(kept.parent)
            for old in self.path.parent.glob(f"{self.path.name}.schema-*"):
                if old != kept:
                    old.unlink()

    @property
    def schema_version(self) -> int:
        """The file's schema number."""
        return self._number("PRAGMA user_version")

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
        if depth == 0:
            self.confirm()
        trouble, changes = self.trouble, self._connection.total_changes
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
        if depth == 0 and self._connection.total_changes != changes:
            self.confirm()
            if trouble is not None and self.trouble is trouble and self._is_over(trouble):
                self.trouble = None

    def _is_over(self, trouble: StorageError) -> bool:
        """Something was written since. On a full disk that alone proves little: the log has room of its own."""
        if trouble.code != "disk-full":
            return trouble.code != "store-corrupt"
        room = os.statvfs(self.path)
        return room.f_bavail * room.f_frsize >= ROOM

    def confirm(self) -> None:
        """What is committed goes into files that the next start will find, or it is an error.

        Asked after a commit, before anybody hears of it, and before the next transaction: what was committed, but
        not confirmed, must not be read and told either.
        """
        found = self._look()
        if found == self._found:
            return
        if found[0] != self._found[0]:
            self.trouble = StorageError(
                f"the database {self.path} was removed or replaced while it was in use",
                code="store-missing",
                next_step=f"covey daemon stop, restore it from a backup (cp BACKUP {self.path}), covey up",
            )
            raise self.trouble
        _log.warning("SQLite's files beside %s were removed or replaced while they were in use", self.path)
        if not self.checkpoint():
            raise StorageError(f"{self.path} is in use by another process", code="store-busy")
        # All is in the database itself now, and durably so: begin anew with files that others can see.
        self._connection.close()
        self._connection = self._connect()
        self._found = self._look()

    def _look(self) -> tuple[tuple[int, int] | None, ...]:
        """Device and inode of the database and of SQLite's two files beside it, None for one that is not there."""
        return tuple(_inode(f"{self.path}{suffix}") for suffix in ("", "-wal", "-shm"))

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

    def checkpoint(self) -> bool:
        """Bring everything from the log into the database file, durably. False if another reader stands in the way."""
        row = self.row("PRAGMA wal_checkpoint(TRUNCATE)")
        return row is not None and row[0] == 0

    def shrink(self) -> None:
        """Give some of the pages that hold nothing back to the file system; call it now and then."""
        free = self._number("PRAGMA freelist_count") - SHRINK_PAGES
        for _ in range(min(free, SHRINK_PAGES)):
            # One by one: the statement frees a page at each step and has no rows, so Python's module steps it once.
            self.execute("PRAGMA incremental_vacuum(1)")

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
        except UnicodeDecodeError as error:  # in the schema, or in what SQLite says about it
            raise self.corrupt("text that is none") from error
        except sqlite3.Error as error:
            number = getattr(error, "sqlite_errorcode", None)
            if number is None and "decode" in str(error):  # Python's own, about a column
                raise self.corrupt(str(error)) from error
            code = _CODES.get((number or 0) & 0xFF, "storage")  # extended codes keep the primary one in the low byte
            if code == "store-corrupt":
                raise self.corrupt(str(error)) from error
            if code == "disk-error" and self._is_read_only():
                code = "disk-read-only"
            translated = StorageError(f"{self.path}: {error}", code=code, next_step=storage_step(code, self.path))
            if code in TROUBLES:
                self.trouble = translated
            raise translated from error

    def _is_read_only(self) -> bool:
        """The file system is, perhaps since a moment ago; SQLite calls that an I/O error."""
        try:
            return bool(os.statvfs(self.path).f_flag & os.ST_RDONLY)
        except OSError:
            return False

    def corrupt(self, found: str) -> StorageError:
        """The error for damage that was found; `trouble` from now on."""
        self.trouble = StorageError(
            f"the database {self.path} is damaged: {found}",
            code="store-corrupt",
            next_step=f"restore it from a backup, or save what can be saved: sqlite3 {self.path} .recover",
        )
        return self.trouble

    def _number(self, sql: str) -> int:
        row = self.row(sql)
        assert row is not None
        return int(row[0])


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
