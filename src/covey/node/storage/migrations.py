"""The schema of a node's database, as the steps that lead to it. Add steps; never change one that was
released.

Conventions: identities, ids and keys are BLOBs; times are wall microseconds since the epoch; a 64-bit
unsigned value (an incarnation) is 8 bytes big-endian, since SQLite's integers are signed; an order is three
of them, whose byte order is their numeric order.
"""

from __future__ import annotations

from typing import Final

from covey.base.errors import ParseError
from covey.base.types import parse_identity
from covey.node.storage.database import Database, Migrations

__all__ = ["APPLICATION_ID", "MIGRATIONS"]

APPLICATION_ID: Final = 0x436F7679
"""Of a node's database, in the file's header: "Covy"."""

_FIRST: Final = (
    "CREATE TABLE settings (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    # The newest handshake timestamp seen per pinned identity and transport key: replay state (PROTOCOL 11).
    """CREATE TABLE handshakes (
        identity BLOB NOT NULL, transport_key BLOB NOT NULL, timestamp_us INTEGER NOT NULL,
        PRIMARY KEY (identity, transport_key)) WITHOUT ROWID""",
    """CREATE TABLE peers (
        identity BLOB PRIMARY KEY,
        address BLOB NOT NULL DEFAULT x'',
        name TEXT NOT NULL DEFAULT '',          -- what its record says: a hint
        pinned TEXT,                            -- what trust bound: unique
        trust TEXT NOT NULL DEFAULT 'unknown',
        reason TEXT NOT NULL DEFAULT '',
        since_us INTEGER NOT NULL,
        we_asked INTEGER NOT NULL DEFAULT 0,
        they_asked INTEGER NOT NULL DEFAULT 0,
        action TEXT,                            -- still to be acknowledged by the peer
        action_number INTEGER NOT NULL DEFAULT 0,
        log BLOB NOT NULL DEFAULT x'',
        record BLOB NOT NULL DEFAULT x'',
        highest BLOB NOT NULL DEFAULT x'',      -- the highest order ever seen, 24 bytes
        candidates TEXT NOT NULL DEFAULT '[]',
        witnesses INTEGER NOT NULL DEFAULT 0)""",
    "CREATE UNIQUE INDEX peers_pinned ON peers (pinned) WHERE pinned IS NOT NULL",
    "CREATE INDEX peers_address ON peers (address)",
    "CREATE INDEX peers_name ON peers (name)",
    "CREATE INDEX peers_trust ON peers (trust, since_us)",
    """CREATE TABLE outbox_recipients (
        recipient BLOB PRIMARY KEY,             -- x'' is the sum
        last INTEGER NOT NULL,                  -- the last number given
        queued INTEGER NOT NULL,                -- messages still alive ...
        bytes INTEGER NOT NULL)                 -- ... and their bodies' size
        WITHOUT ROWID""",
    """CREATE TABLE outbox (
        row INTEGER PRIMARY KEY,
        recipient BLOB NOT NULL,
        number INTEGER,                         -- NULL: a result from before a new incarnation
        id BLOB NOT NULL,
        type TEXT NOT NULL,
        size INTEGER NOT NULL,
        body BLOB,                              -- NULL once there is a result
        created_us INTEGER NOT NULL,
        expires_us INTEGER,
        result TEXT NOT NULL DEFAULT 'queued',
        reason TEXT NOT NULL DEFAULT '',
        finished_us INTEGER)""",
    "CREATE UNIQUE INDEX outbox_number ON outbox (recipient, number)",
    "CREATE UNIQUE INDEX outbox_id ON outbox (id, recipient)",
    "CREATE INDEX outbox_queued ON outbox (recipient, number) WHERE result = 'queued'",
    "CREATE INDEX outbox_expiry ON outbox (expires_us) WHERE result = 'queued' AND expires_us IS NOT NULL",
    "CREATE INDEX outbox_finished ON outbox (finished_us) WHERE finished_us IS NOT NULL",
    """CREATE TABLE inbox (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        sender BLOB NOT NULL,
        id BLOB NOT NULL,
        type TEXT NOT NULL,
        size INTEGER NOT NULL,
        body BLOB NOT NULL,
        received_us INTEGER NOT NULL,
        acknowledged INTEGER NOT NULL DEFAULT 0)""",
    "CREATE INDEX inbox_id ON inbox (id, sender)",
    "CREATE INDEX inbox_unread ON inbox (number) WHERE acknowledged = 0",
    "CREATE INDEX inbox_old ON inbox (sender, number) WHERE acknowledged = 1",
    # The deduplication, kept for ever (PROTOCOL 22): every number up to `watermark` is settled, and so is
    # every number in `inbox_gaps`.
    """CREATE TABLE inbox_watermarks (
        sender BLOB NOT NULL, incarnation BLOB NOT NULL, watermark INTEGER NOT NULL, opened_us INTEGER NOT
        NULL, PRIMARY KEY (sender, incarnation)) WITHOUT ROWID""",
    # Settled above the watermark: with a body, a message that waits for its turn; without, a skipped number.
    """CREATE TABLE inbox_gaps (
        sender BLOB NOT NULL, incarnation BLOB NOT NULL, number INTEGER NOT NULL,
        id BLOB, type TEXT, body BLOB, received_us INTEGER,
        PRIMARY KEY (sender, incarnation, number))""",
    "CREATE INDEX inbox_gaps_waiting ON inbox_gaps (received_us) WHERE id IS NOT NULL",
    "CREATE INDEX inbox_gaps_id ON inbox_gaps (id, sender) WHERE id IS NOT NULL",
    # What was in the inbox lately: recognised if a sender restored from a backup repeats it under a new
    # number.
    "CREATE TABLE inbox_removed (row INTEGER PRIMARY KEY, sender BLOB NOT NULL, id BLOB NOT NULL)",
    "CREATE INDEX inbox_removed_id ON inbox_removed (id, sender)",
    """CREATE TABLE inbox_usage (
        sender BLOB PRIMARY KEY,                -- x'' is the sum
        messages INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID""",
)


def _move_fork_marks(database: Database) -> None:
    """From settings of their own, one for every identity that ever forked, to the peer whose log they are about."""
    for (key,) in database.rows("SELECT key FROM settings WHERE key LIKE 'forked/%'"):
        try:
            identity = parse_identity(key.partition("/")[2])
        except ParseError:
            continue
        database.execute("UPDATE peers SET forked = 1 WHERE identity = ?", (identity,))
    database.execute("DELETE FROM settings WHERE key LIKE 'forked/%'")


_FORKED: Final = (
    # Two valid branches of its log exist (PROTOCOL 4). Kept with the log, so that neither is ever without the other.
    "ALTER TABLE peers ADD COLUMN forked INTEGER NOT NULL DEFAULT 0",
    _move_fork_marks,
)

_RETENTION: Final = ("CREATE INDEX inbox_read ON inbox (number) WHERE acknowledged = 1",)

_SEALED: Final = (
    # The highest number of a trust action heard of each peer (PROTOCOL 23): a letter that was held back counts no more.
    """CREATE TABLE heard (
        sender BLOB PRIMARY KEY, number INTEGER NOT NULL, heard_us INTEGER NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX heard_us ON heard (heard_us)",
    # Where our own action waits for an absent peer.
    """CREATE TABLE deposits (
        recipient BLOB PRIMARY KEY,
        id BLOB NOT NULL,                       -- random: what the custodians' ids of it are made from
        action_number INTEGER NOT NULL,
        delegation BLOB NOT NULL,               -- the digest of the one it was sealed under
        until_us INTEGER NOT NULL,
        custodians BLOB NOT NULL)               -- their identities, one after the other
        WITHOUT ROWID""",
)

MIGRATIONS: Final[Migrations] = (_FIRST, _FORKED, _RETENTION, _SEALED)
