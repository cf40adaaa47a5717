"""The two databases that a fleet's store may be in, behind the few calls that the store makes.

Statements are written once, in the words that SQLite (3.35) and PostgreSQL (12) share; `?` stands for a value.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from covey.base.errors import StorageError

__all__ = ["Database", "Row", "SqliteDatabase"]

Row = tuple[Any, ...]

_WAIT_MS: Final = 5_000
"""For a command's or the controller's transaction: they hold the file for milliseconds."""


class Database(Protocol):
    """One connection, used by one thread at a time."""

    remote: bool
    """Its calls wait for a network: not to be made on an event loop."""
    identity: str
    """How this dialect spells a number that counts up by itself and is the table's key."""

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """Raises `StorageError` and nothing else."""
        ...

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """All statements inside or none; not to be nested. It may write from its begin on: what was read in it still
        holds at its end."""
        ...

    def close(self) -> None: ...


class SqliteDatabase:
    """A file in the fleet's home: WAL, so that commands read while the controller writes; synced at each commit,
    because an intent must be on the disk before its call."""

    remote = False
    identity = "INTEGER PRIMARY KEY AUTOINCREMENT"

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._connection = sqlite3.connect(path, timeout=_WAIT_MS / 1000, isolation_level=None)
        except sqlite3.Error as error:
            raise self._error(error) from error
        for pragma in ("journal_mode = WAL", "synchronous = FULL", f"busy_timeout = {_WAIT_MS}", "foreign_keys = ON"):
            self.execute(f"PRAGMA {pragma}")
        path.chmod(0o600)

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            # Also when COMMIT itself failed: SQLite may have kept the transaction open (busy, disk full).
            if self._connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        self._connection.close()

    def _error(self, error: sqlite3.Error) -> StorageError:
        return StorageError(
            f"the fleet's store {self._path} cannot be used: {error}",
            code="fleet-store",
            next_step="look at the disk and the file's rights, then try again",
        )
