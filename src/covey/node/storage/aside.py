"""Damaged files are moved aside, never deleted and never silently replaced.

`covey.db` becomes `covey.db.damaged-20260131T235959Z`, and SQLite's log beside it `...Z-wal`, so that the two still
belong together for whoever saves what can be saved.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from covey.node.storage.files import DISK, Disk, storage_error

__all__ = ["finish_move", "move_aside", "moved_aside"]

_MARK: Final = ".damaged-"
_LOG: Final = "-wal"


def move_aside(path: Path, now_us: int, disk: Disk = DISK) -> Path:
    """Give `path` (and its `-wal`) a name with the time `now_us`, durably. Returns the new name.

    The database goes first. If the process dies in between, `path` is missing at the next start, which is an error,
    and not a database that lost its log, which nobody would notice.
    """
    seconds = time.gmtime(now_us // 1_000_000)
    target = path.with_name(f"{path.name}{_MARK}{time.strftime('%Y%m%dT%H%M%SZ', seconds)}")
    with storage_error("move aside", path):
        while target.exists():
            target = target.with_name(f"{target.name}+")
        disk.rename(path, target)
        _move_log(path, target, disk)
        disk.sync_directory(path.parent)
    return target


def finish_move(path: Path, disk: Disk = DISK) -> None:
    """After a crash of `move_aside`: a log whose database is gone follows it, lest it be taken for that of another."""
    if path.exists() or not _log_of(path).exists():
        return
    moved = moved_aside(path)
    with storage_error("move aside", _log_of(path)):
        _move_log(path, moved[-1] if moved else path.with_name(f"{path.name}{_MARK}unknown"), disk)
        disk.sync_directory(path.parent)


def moved_aside(path: Path) -> list[Path]:
    """What was moved aside of `path` and is still there, oldest first."""
    return sorted(found for found in path.parent.glob(f"{path.name}{_MARK}*") if not found.name.endswith(_LOG))


def _move_log(path: Path, target: Path, disk: Disk) -> None:
    if _log_of(path).exists():
        disk.rename(_log_of(path), target.with_name(f"{target.name}{_LOG}"))


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}{_LOG}")
