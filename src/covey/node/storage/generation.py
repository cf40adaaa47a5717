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

What no file can show, a copy written into the same inode or a rolled back disk image, a recipient can: it
knows higher numbers than we do (`Outbox.heard`). A false alarm (a container that runs `chown -R` at each
start) is cheap: what is queued is numbered anew, and an inbox that has or had one of those messages
recognises its id.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from covey.node.storage.database import Database
from covey.node.storage.files import DISK, Disk, read_private, write_private
from covey.node.storage.settings import Settings

__all__ = ["begin_generation", "end_generation"]

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
    write_private(path, f"{token}\n".encode(), disk)
    with database.transaction():
        settings.set(_CURRENT, token)
        settings.set(_FILE_STAMP, _stamp(path))
        settings.set(_NEXT, None)
        settings.set(_IN_USE, 1)
    return restored


def end_generation(database: Database) -> None:
    """Before the database is closed and SQLite removes its log by itself."""
    Settings(database).set(_IN_USE, None)


def _restored(database: Path, path: Path, settings: Settings) -> bool:
    found = (read_private(path) or b"").decode("ascii", "replace").strip()
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
