"""Who may act: one controller at a time.

With SQLite the lock is a file lock in the fleet's home, which the system lets go when its holder dies. Whoever gets it
takes a new epoch in the store; from then on nothing that an earlier one writes is accepted (`Deposed`).
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Protocol

from covey.base.errors import StorageError

__all__ = ["FileLock", "Lock"]


class Lock(Protocol):
    """Held by at most one controller."""

    def try_acquire(self) -> bool:
        """At once. True: it is ours until `release` or our death. Raises `StorageError`."""
        ...

    def held(self) -> bool:
        """False once it was lost (a server that went away)."""
        ...

    def release(self) -> None: ...


class FileLock:
    """`flock` on a file of this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def try_acquire(self) -> bool:
        if self._file is not None:
            return True
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"{self._path}: {error.strerror}", code="fleet-store") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        except BaseException:
            os.close(file)
            raise
        self._file = file
        return True

    def held(self) -> bool:
        return self._file is not None

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
