"""Telling a database restored from a backup from the one we closed last.

At each start a random token is written to the generation file beside the database and into the database,
which also notes the inodes of both files and when the token's file was last changed (ctime, which no program
can set back). At the next start:

============================== ========================================================================
found                          means
============================== ========================================================================
all agree                      the database we closed, or a crash of it
the token differs, or no file  the database alone was restored: its token is older, or from elsewhere
another inode or ctime         files were replaced, as every backup program does, or moved to a new disk
in use, but no -wal file       whoever had it open died, and then its log, with what was committed last, was removed
neither has a token            it is new
============================== ========================================================================

The token's file also names the inode of SQLite's log, and the database holds the token without its log too (it is
checkpointed). So a log that was left behind, after a kill, beside a database that somebody restored over the old one is
told from the database's own: applied to the wrong database it would destroy it.

What no file can show, a copy written into the same inode or a rolled back disk image, a recipient can: it
knows higher numbers than we do (`Outbox.heard`). A false alarm (a container that runs `chown -R` at each
start) is cheap: what is queued is numbered anew, and an inbox that has or had one of those messages
recognises its id.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote

from covey.node.storage.aside import move_aside
from covey.node.storage.database import Database
from covey.node.storage.files import DISK, Disk, read_private, write_private
from covey.node.storage.settings import Settings

__all__ = ["begin_generation", "end_generation", "put_foreign_log_aside"]

_CURRENT: Final = "generation"
_NEXT: Final = "generation-next"
_FILE_STAMP: Final = "generation-stamp"
_DATABASE_INODE: Final = "database-inode"
_IN_USE: Final = "in-use"


def begin_generation(
    database: Database,
    path: Path,
    random: Callable[[int], bytes],
    on_restored: Callable[[], object],
    disk: Disk = DISK,
    *,
    had_log: bool = True,
) -> bool:
    """Start a new generation, its token in `path`. True if the database had been restored since the last one.

    `had_log`: SQLite's log was there before the database was opened.

    In that case `on_restored` is called first, so that a crash anywhere in here at worst calls it again at
    the next start. The database learns the token before the file does, so that a crash in between is no false
    alarm.
    """
    settings = Settings(database)
    restored = _restored(database.path, path, settings) or (not had_log and bool(settings.get_int(_IN_USE)))
    if restored:
        on_restored()
    token = random(16).hex()
    with database.transaction():
        settings.set(_NEXT, token)
        settings.set(_DATABASE_INODE, database.path.stat().st_ino)
    # Before the file says so: whoever reads the database without its log must find one of the two tokens.
    log = _log_of(database.path).stat().st_ino if database.checkpoint() else 0
    write_private(path, f"{token}\n{log}\n".encode(), disk)
    with database.transaction():
        settings.set(_CURRENT, token)
        settings.set(_FILE_STAMP, _stamp(path))
        settings.set(_NEXT, None)
        settings.set(_IN_USE, 1)
    return restored


def end_generation(database: Database) -> None:
    """Before the database is closed and SQLite removes its log by itself."""
    Settings(database).set(_IN_USE, None)


def put_foreign_log_aside(database: Path, path: Path, now_us: int, disk: Disk = DISK) -> Path | None:
    """Before the database is opened: if its log belongs to the database that was here before, move the log aside.

    `path`: the token's file. Returns where the log is now.
    """
    token, inode = _read(path)
    log = _log_of(database)
    if not (database.exists() and log.exists() and token and inode == log.stat().st_ino):
        return None
    tokens = _tokens_without_log(database)
    if not tokens or token in tokens:
        return None
    return move_aside(log, now_us, disk)


def _tokens_without_log(database: Path) -> set[str]:
    """The tokens in the database file itself; none if it cannot be read so."""
    uri = f"file:{quote(os.fspath(database))}?mode=ro&immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            rows = connection.execute("SELECT value FROM settings WHERE key IN (?, ?)", (_CURRENT, _NEXT)).fetchall()
    except (sqlite3.Error, UnicodeDecodeError):
        return set()
    return {bytes(value).decode("ascii", "replace") for (value,) in rows}


def _read(path: Path) -> tuple[str, int]:
    """The token and the log's inode; "" and 0 where there is none."""
    words = (read_private(path) or b"").decode("ascii", "replace").split()
    inode = words[1] if len(words) > 1 and words[1].isdigit() else "0"
    return words[0] if words else "", int(inode)


def _log_of(database: Path) -> Path:
    return database.with_name(f"{database.name}-wal")


def _restored(database: Path, path: Path, settings: Settings) -> bool:
    found, _ = _read(path)
    current, following = settings.get_text(_CURRENT), settings.get_text(_NEXT)
    if not current and not found:
        return False
    if settings.get_int(_DATABASE_INODE) != database.stat().st_ino:
        return True
    if found == following:
        return not found
    return found != current or settings.get_text(_FILE_STAMP) != _stamp(path)


def _stamp(path: Path) -> str:
    """Inodes are used again, often at once, so the inode alone would not do."""
    status = path.stat()
    return f"{status.st_ino} {status.st_ctime_ns}"
