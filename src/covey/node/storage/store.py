"""A node's durable state as one object: the database, opened and checked, and everything kept in it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from covey.base.errors import StorageError
from covey.base.paths import Home
from covey.node.storage.aside import finish_move, move_aside, moved_aside
from covey.node.storage.database import Database
from covey.node.storage.files import DISK, Disk, VolatileDisk, storage_error, write_private
from covey.node.storage.generation import begin_generation, end_generation, put_foreign_log_aside
from covey.node.storage.inbox import Inbox
from covey.node.storage.letters import Letters
from covey.node.storage.migrations import APPLICATION_ID, MIGRATIONS
from covey.node.storage.outbox import Outbox
from covey.node.storage.peers import Peers
from covey.node.storage.retention import DEFAULT_RETENTION, Retention
from covey.node.storage.settings import Settings

__all__ = ["Store"]

MAINTENANCE_SECONDS: Final = 60
"""How often `maintain` is worth calling."""

GAP_PATIENCE_US: Final = 3600 * 1_000_000
"""How long a message may wait, invisible, for one before it that is missing. Ours."""

_BEGUN_AFTER: Final = "begun-after"
"""The setting that holds the name of the damaged database in whose place this one was begun."""

DAY_US: Final = 24 * 3600 * 1_000_000

HANDSHAKE_LIFE_US: Final = 8 * 24 * 3600 * 1_000_000
"""How long a handshake timestamp is kept: a transport key lives 48 h (PROTOCOL 5); the rest is for wrong
clocks."""


class Store:
    """`database`, `settings`, `peers`, `outbox`, `inbox`, `letters` of one profile, and whether it was restored from a
    backup.

    Make it with `open`, on the thread that will use it or before any other does; hold the profile's lock.
    """

    def __init__(
        self, database: Database, random: Callable[[int], bytes], retention: Retention = DEFAULT_RETENTION
    ) -> None:
        self.database = database
        self.settings = Settings(database)
        self.peers = Peers(database)
        self.outbox = Outbox(database, random)
        self.inbox = Inbox(database)
        self.retention = retention
        self.letters = Letters(database)
        self.restored = False
        """What was committed last may be missing: the database was restored, or lost its log, since it was in use."""
        self.begun_anew = False
        """The database took the place of the one in `damaged`; False: that of one which was restored since."""
        self._damaged: Path | None = None

    @property
    def damaged(self) -> Path | None:
        """The database that was damaged and moved aside last, as long as it is kept. Reads no database."""
        return self._damaged if self._damaged is not None and self._damaged.exists() else None

    @classmethod
    def open(
        cls,
        home: Home,
        random: Callable[[int], bytes],
        now_us: int,
        *,
        durable: bool = True,
        retention: Retention = DEFAULT_RETENTION,
    ) -> Store:
        """Open, or make, the database of `home`, whose directories exist (`paths.prepare`).

        The generation file is the marker that a database was made. A damaged database is moved aside, and nothing
        takes its place until somebody restores one or removes the marker. `now_us`: wall time, microseconds.
        `durable=False`: no fsync, for the simulator.
        `StorageError`: ``store-missing``, ``store-corrupt``, ``store-foreign``, ``store-too-new``,
        ``bad-permissions``, and those of the disk.
        """
        disk: Disk = DISK if durable else VolatileDisk()
        finish_move(home.database, disk)
        put_foreign_log_aside(home.database, home.generation_file, now_us, disk)
        had_log = home.database.with_name(f"{home.database.name}-wal").exists()
        try:
            return cls._open(home, random, disk, had_log, retention)
        except StorageError as error:
            if error.code == "store-missing":
                raise _missing(home) from error
            if error.code == "store-corrupt":
                raise _damaged(home, error, random, now_us, disk) from error
            raise

    @classmethod
    def _open(
        cls, home: Home, random: Callable[[int], bytes], disk: Disk, had_log: bool, retention: Retention
    ) -> Store:
        database = Database(
            home.database,
            MIGRATIONS,
            must_exist=home.generation_file.exists(),
            application_id=APPLICATION_ID,
            keep_old=True,
            synchronous="OFF" if isinstance(disk, VolatileDisk) else "FULL",
        )
        try:
            store = cls(database, random, retention)
            with storage_error("look at", home.database):
                store.restored = begin_generation(
                    database, home.generation_file, random, store.outbox.renumber, disk, had_log=had_log
                )
            store._remember_damaged(moved_aside(home.database))
        except BaseException:
            database.close()
            raise
        return store

    def _remember_damaged(self, moved: Sequence[Path]) -> None:
        if moved:
            self._damaged = moved[-1]
            if self.database.created:
                self.settings.set(_BEGUN_AFTER, self._damaged.name)
            self.begun_anew = self.settings.get_text(_BEGUN_AFTER) == self._damaged.name

    def maintain(self, now_us: int, certain_us: int) -> list[bytes]:
        """What time alone brings: persist what is certain of the clock, expire, forget, let waiting messages in.

        Returns the ids of the messages that expired. Call it about once a minute, and at
        `outbox.next_expiry()`.
        """
        with self.database.transaction():
            self.settings.raise_clock(certain_us)
            self.inbox.release(now_us - GAP_PATIENCE_US)
            self.settings.forget_handshakes(certain_us - HANDSHAKE_LIFE_US)
            self.inbox.forget_read(certain_us - self.retention.read_days * DAY_US, self.retention.read_messages)
            self.database.shrink()
            return self.outbox.expire(now_us)

    def close(self) -> None:
        """Close the database; an open transaction is lost, as in a crash. Calling it twice is fine."""
        if not (self.database.closed or self.database.in_transaction):
            for _ in range(2):
                # If it cannot be written the next start takes the database for a restored one, which costs little.
                with contextlib.suppress(StorageError):
                    end_generation(self.database)
                    break
        self.database.close()


def _damaged(home: Home, error: StorageError, random: Callable[[int], bytes], now_us: int, disk: Disk) -> StorageError:
    """Move the database aside. That there was one is remembered, whatever else is missing."""
    if not home.generation_file.exists():
        write_private(home.generation_file, random(16).hex().encode() + b"\n", disk)
    aside = move_aside(home.database, now_us, disk)
    return StorageError(
        f"{error.message}; it was moved aside to {aside}", code="store-corrupt", next_step=_restore(home, aside)
    )


def _missing(home: Home) -> StorageError:
    moved = moved_aside(home.database)
    what = f"was damaged and is now {moved[-1]}" if moved else "is missing, although it was created before"
    return StorageError(
        f"the database {home.database} {what}",
        code="store-missing",
        next_step=_restore(home, moved[-1] if moved else None),
    )


def _restore(home: Home, aside: Path | None) -> str:
    salvage = f", or save what can be saved: sqlite3 {aside} .recover | sqlite3 {home.database}" if aside else ""
    return (
        f"restore a backup: cp BACKUP {home.database}{salvage}; to begin with an empty one, without messages, trust "
        f"and the memory of what was received (it may come again): rm {home.generation_file}"
    )
