"""Private files: written whole or not at all, read only if nobody else can, and the lock on a profile.

Every operation that changes the disk goes through a `Disk`, the small object that tests replace to make the
n-th one fail. All errors are `StorageError` (the lock's: `StateError`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from covey.base.errors import StateError, StorageError
from covey.base.paths import check_private

__all__ = [
    "DISK",
    "Disk",
    "Lock",
    "VolatileDisk",
    "move_private",
    "private_directory",
    "read_private",
    "remove_file",
    "storage_error",
    "storage_step",
    "write_private",
]

PRIVATE_FILE: Final = 0o600
PRIVATE_DIRECTORY: Final = 0o700

_CODES: Final = {
    errno.ENOSPC: "disk-full",
    errno.EDQUOT: "disk-full",
    errno.EFBIG: "disk-full",
    errno.EROFS: "disk-read-only",
    errno.EIO: "disk-error",
}

READ_LIMIT: Final = 1 << 20
"""Bytes. No private file is near it; one that is, is not ours."""


class Disk:
    """The system calls that change the disk, one method each. Raises `OSError`."""

    def create(self, path: Path) -> int:
        """A new file, 0600 from its first moment, open for writing. Fails if anything has that name."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE)

    def write(self, fd: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    def sync(self, fd: int) -> None:
        os.fsync(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def sync_directory(self, path: Path) -> None:
        """Make a rename or an unlink in `path` durable."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class VolatileDisk(Disk):
    """Without waiting for the platters: for the simulator, where a crash loses the process and not the
    machine."""

    def sync(self, fd: int) -> None:
        pass

    def sync_directory(self, path: Path) -> None:
        pass


DISK: Final = Disk()
"""The real one."""


def write_private(path: Path, data: bytes, disk: Disk = DISK) -> None:
    """Put `data` into `path` (0600): afterwards, also after a crash at any point, it holds the old or the new
    bytes.

    On return the bytes are on the disk. One writer at a time (the profile's lock): the temporary name is
    fixed, so that a crash leaves at most one stray file, which the next write replaces.
    """
    temporary = path.with_name(f".{path.name}.new")
    with storage_error("write", path):
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(temporary)
        fd = disk.create(temporary)
        try:
            try:
                disk.write(fd, data)
                disk.sync(fd)
            finally:
                disk.close(fd)
            disk.rename(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                disk.unlink(temporary)
            raise
        disk.sync_directory(path.parent)


def read_private(path: Path) -> bytes | None:
    """The bytes of a secret file, None if there is none. `StorageError` ``bad-permissions`` if others may
    read it."""
    with storage_error("read", path):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise StorageError(f"{path} is not a file", next_step=f"look at it, then move it away: ls -ld {path}")
            owner = os.getuid() if status.st_uid == 0 else status.st_uid  # root can read it anyway (mounted secrets)
            check_private(path, mode=status.st_mode, owner=owner, uid=os.getuid())
            data = file.read(READ_LIMIT + 1)
    if len(data) > READ_LIMIT:
        raise StorageError(f"{path} is larger than {READ_LIMIT} bytes and cannot be what it should be")
    return data


def move_private(source: Path, target: Path, disk: Disk = DISK) -> None:
    """Rename within one directory, durably."""
    with storage_error("rename", source):
        disk.rename(source, target)
        disk.sync_directory(target.parent)


def remove_file(path: Path, disk: Disk = DISK) -> None:
    """Remove `path` durably, if it exists."""
    with storage_error("remove", path):
        try:
            disk.unlink(path)
        except FileNotFoundError:
            return
        disk.sync_directory(path.parent)


def private_directory(path: Path) -> None:
    """Make `path` (0700) and what is missing above it; raise ``bad-permissions`` if it is not ours alone."""
    with storage_error("make the directory", path):
        path.parent.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=PRIVATE_DIRECTORY)
        status = path.lstat()
        check_private(path, mode=status.st_mode, owner=status.st_uid, uid=os.getuid())
        if not stat.S_ISDIR(status.st_mode):
            raise StorageError(f"{path} is not a directory", next_step=f"look at it, then move it away: ls -l {path}")


@contextlib.contextmanager
def storage_error(action: str, path: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into a `StorageError` that says what could not be done with `path`."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        code = _CODES.get(error.errno or 0, "storage")
        raise StorageError(
            f"cannot {action} {path}: {error.strerror or error}", code=code, next_step=storage_step(code, path)
        ) from error


def storage_step(code: str, path: Path) -> str:
    """The next step after an error with this code about `path`; "" where there is none."""
    where = path.parent
    steps = {
        "disk-full": f"free some space; a running daemon then goes on by itself: df -h {where}",
        "disk-read-only": f"find out why it is read-only, then make it writable again: findmnt -T {where}; dmesg",
        "disk-error": f"look at the disk and its quota: dmesg; quota -s; ls -la {where}",
        "store-busy": f"find the program that holds the database: fuser -v {path}",
        "storage": f"look at its owner and permissions: ls -la {where}",
    }
    return steps.get(code, "")


class Lock:
    """The lock on a profile: held from `acquire` until `release` or the process' death, however it dies.

    The file holds the holder's pid, for people and for `daemon stop`; it is never removed, since removing a
    lock file races with the next holder. Usable as a context manager.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock. `StateError` ``profile-in-use`` names the process that has it."""
        if self._fd is not None:
            raise StateError(f"{self.path} is already held by this object")
        with storage_error("open", self.path):
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            with storage_error("lock", self.path):
                if not _try_lock(fd):
                    raise self._in_use()
                os.ftruncate(fd, 0)
                os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def _in_use(self) -> StateError:
        holder = self.holder()
        return StateError(
            f"this profile is already in use by {f'process {holder}' if holder else 'another process'}",
            code="profile-in-use",
            next_step="covey status, or use another profile: covey --profile NAME ...",
        )

    def release(self) -> None:
        """Let go. Calling it twice is fine."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def is_held(self) -> bool:
        """Whether somebody, this process included, holds it now. False if it cannot be looked at."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(fd)
        return False

    def holder(self) -> int | None:
        """The pid in the file: that of the holder, or of the last one. None if there is none."""
        try:
            text = self.path.read_bytes()[:20].strip()
        except OSError:
            return None
        return int(text) if text.isdigit() else None

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
