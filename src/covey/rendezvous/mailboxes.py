"""Sealed letters for agents that are away, and the mailbox keys they are sealed to (PROTOCOL 23).

Of a letter the file holds the recipient, its size, when it expires, and the deposit id: random bytes that are the
depositor's handle to replace it. Not who deposited it, nor when. A file of its own, because the cache may be thrown
away and this may not: what was called stored is on the disk, with fsync.

Times are wall microseconds since the epoch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from covey.node.storage.database import Database, Migrations, Synchronous

__all__ = ["MailboxStore", "Waiting"]

APPLICATION_ID: Final = 0x436F766D
"""In the file's header: "Covm"."""

MIGRATIONS: Final[Migrations] = (
    (
        """CREATE TABLE boxes (
            recipient BLOB PRIMARY KEY, key BLOB NOT NULL, until_us INTEGER NOT NULL) WITHOUT ROWID""",
        "CREATE INDEX boxes_until ON boxes (until_us)",
        # AUTOINCREMENT: a number that was collected is never another letter's.
        """CREATE TABLE letters (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            recipient BLOB NOT NULL,
            deposit BLOB NOT NULL,
            size INTEGER NOT NULL,
            expires_us INTEGER NOT NULL,
            sealed BLOB NOT NULL)""",
        "CREATE UNIQUE INDEX letters_deposit ON letters (recipient, deposit)",
        "CREATE INDEX letters_recipient ON letters (recipient, number, size)",
        "CREATE INDEX letters_expiry ON letters (expires_us)",
        "CREATE TABLE total (boxes INTEGER NOT NULL, letters INTEGER NOT NULL, bytes INTEGER NOT NULL)",
        "INSERT INTO total VALUES (0, 0, 0)",
        "CREATE TRIGGER boxes_more AFTER INSERT ON boxes BEGIN UPDATE total SET boxes = boxes + 1; END",
        "CREATE TRIGGER boxes_less AFTER DELETE ON boxes BEGIN UPDATE total SET boxes = boxes - 1; END",
        """CREATE TRIGGER letters_more AFTER INSERT ON letters
            BEGIN UPDATE total SET letters = letters + 1, bytes = bytes + new.size; END""",
        """CREATE TRIGGER letters_less AFTER DELETE ON letters
            BEGIN UPDATE total SET letters = letters - 1, bytes = bytes - old.size; END""",
    ),
)


class Waiting(NamedTuple):
    """One letter, without its bytes."""

    number: int
    deposit: bytes
    size: int


class MailboxStore:
    """Boxes and letters in one SQLite file at `path`. Each method is a transaction of its own unless the caller
    holds one.

    Errors: `StorageError`, see `covey.node.storage.database`.
    """

    def __init__(self, path: Path, *, synchronous: Synchronous = "FULL") -> None:
        self.database = Database(path, MIGRATIONS, application_id=APPLICATION_ID, synchronous=synchronous)

    def open_box(self, recipient: bytes, key: bytes, until_us: int) -> None:
        """From now on letters for `recipient` are taken, until the key's life ends; it replaces the key before."""
        self.database.execute(
            "INSERT INTO boxes VALUES (?, ?, ?) ON CONFLICT (recipient) DO UPDATE"
            " SET key = excluded.key, until_us = excluded.until_us",
            (recipient, key, until_us),
        )

    def key(self, recipient: bytes, now_us: int) -> bytes | None:
        """The mailbox key of an agent that has a box here."""
        row = self.database.row("SELECT key FROM boxes WHERE recipient = ? AND until_us > ?", (recipient, now_us))
        return None if row is None else bytes(row[0])

    def put(self, recipient: bytes, deposit: bytes, sealed: bytes, expires_us: int) -> int:
        """Hold a letter, instead of an earlier one with the same deposit id. Its number, higher than any before."""
        with self.database.transaction():
            self.database.execute("DELETE FROM letters WHERE recipient = ? AND deposit = ?", (recipient, deposit))
            return self.database.insert(
                "INSERT INTO letters (recipient, deposit, size, expires_us, sealed) VALUES (?, ?, ?, ?, ?)",
                (recipient, deposit, len(sealed), expires_us, sealed),
            )

    def waiting(self, recipient: bytes) -> list[Waiting]:
        """What the box holds, oldest first."""
        rows = self.database.rows(
            "SELECT number, deposit, size FROM letters WHERE recipient = ? ORDER BY number", (recipient,)
        )
        return [Waiting(int(number), bytes(deposit), int(size)) for number, deposit, size in rows]

    def collect(self, recipient: bytes, after: int, count: int, room: int, now_us: int) -> list[tuple[int, bytes]]:
        """The letters above a number, at most `count` and, but for the first, as many as fit `room` bytes."""
        found: list[tuple[int, bytes]] = []
        scan = self.database.scan(
            "SELECT number, sealed FROM letters WHERE recipient = ? AND number > ? AND expires_us > ?"
            " ORDER BY number LIMIT ?",
            (recipient, after, now_us, count),
        )
        with contextlib.closing(scan):
            for number, sealed in scan:
                room -= len(sealed)
                if found and room < 0:
                    break
                found.append((int(number), bytes(sealed)))
        return found

    def holds(self, recipient: bytes, after: int, now_us: int) -> bool:
        """There is a letter above this number."""
        sql = "SELECT 1 FROM letters WHERE recipient = ? AND number > ? AND expires_us > ?"
        return self.database.row(sql, (recipient, after, now_us)) is not None

    def clear(self, recipient: bytes, numbers: Sequence[int]) -> None:
        """Forget letters of this recipient; numbers of others, and unknown ones, are passed over."""
        self.database.execute_many(
            "DELETE FROM letters WHERE recipient = ? AND number = ?", [(recipient, number) for number in numbers]
        )

    def expire(self, now_us: int) -> None:
        """Forget what nobody can open any more."""
        with self.database.transaction():
            self.database.execute("DELETE FROM letters WHERE expires_us <= ?", (now_us,))
            self.database.execute("DELETE FROM boxes WHERE until_us <= ?", (now_us,))

    def known(self, numbers: Iterable[int]) -> set[int]:
        """Those of these letters that are still held."""
        return {number for number in numbers if self.database.row("SELECT 1 FROM letters WHERE number = ?", (number,))}

    def counts(self) -> tuple[int, int, int]:
        """Boxes, letters, and the bytes of all letters."""
        row = self.database.row("SELECT boxes, letters, bytes FROM total")
        assert row is not None
        return int(row[0]), int(row[1]), int(row[2])

    def close(self) -> None:
        self.database.close()
