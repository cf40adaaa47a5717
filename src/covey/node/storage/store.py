"""A node's durable state as one object: the database, opened and checked, and everything kept in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from covey.base.paths import Home
from covey.node.storage.database import Database
from covey.node.storage.files import DISK, Disk, VolatileDisk
from covey.node.storage.generation import begin_generation
from covey.node.storage.inbox import Inbox
from covey.node.storage.migrations import MIGRATIONS
from covey.node.storage.outbox import Outbox
from covey.node.storage.peers import Peers
from covey.node.storage.settings import Settings

__all__ = ["Store"]

MAINTENANCE_SECONDS: Final = 60
"""How often `maintain` is worth calling."""

GAP_PATIENCE_US: Final = 3600 * 1_000_000
"""How long a message may wait, invisible, for one before it that is missing. Ours."""

HANDSHAKE_LIFE_US: Final = 8 * 24 * 3600 * 1_000_000
"""How long a handshake timestamp is kept: a transport key lives 48 h (PROTOCOL 5); the rest is for wrong
clocks."""


class Store:
    """`database`, `settings`, `peers`, `outbox`, `inbox` of one profile, and whether it was restored from a
    backup.

    Make it with `open`, on the thread that will use it or before any other does; hold the profile's lock.
    """

    def __init__(self, database: Database, random: Callable[[int], bytes]) -> None:
        self.database = database
        self.settings = Settings(database)
        self.peers = Peers(database)
        self.outbox = Outbox(database, random)
        self.inbox = Inbox(database)
        self.restored = False

    @classmethod
    def open(cls, home: Home, random: Callable[[int], bytes], *, durable: bool = True) -> Store:
        """Open, or make, the database of `home`, whose directories exist (`paths.prepare`).

        The generation file is the marker that a database was made. `durable=False`: no fsync, for the
        simulator.
        `StorageError`: ``store-missing``, ``store-corrupt``, ``store-too-new``, ``bad-permissions``,
        ``storage``.
        """
        disk: Disk = DISK if durable else VolatileDisk()
        database = Database(
            home.database,
            MIGRATIONS,
            must_exist=home.generation_file.exists(),
            synchronous="FULL" if durable else "OFF",
        )
        try:
            store = cls(database, random)
            store.restored = begin_generation(database, home.generation_file, random, store.outbox.renumber, disk)
        except BaseException:
            database.close()
            raise
        return store

    def maintain(self, now_us: int) -> list[bytes]:
        """What time alone brings: persist the clock, expire, forget, let waiting messages in.

        Returns the ids of the messages that expired. Call it about once a minute, and at
        `outbox.next_expiry()`.
        """
        with self.database.transaction():
            now_us = self.settings.clock(now_us)
            self.inbox.release(now_us - GAP_PATIENCE_US)
            self.settings.forget_handshakes(now_us - HANDSHAKE_LIFE_US)
            return self.outbox.expire(now_us)

    def close(self) -> None:
        """Close the database; an open transaction is lost, as in a crash. Calling it twice is fine."""
        self.database.close()
