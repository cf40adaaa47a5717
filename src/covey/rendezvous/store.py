"""The rendezvous' cache: signed objects by identity, an index of addresses, names on lease.

Nothing here is secret and nothing is trusted: the caller has verified what it puts, and a client verifies
what it gets. Losing the file costs a few minutes until every agent has published again, so a node's care
(fsync per change, a marker for a vanished file) would be misplaced; first-come names are the one thing that
is worth keeping.

Rules:

- An identity has one entry. A lower order than the one held is stale, an equal order is the same
  record once more, or another one that comes too late.
- An address may be claimed by several identities; a look-up returns them all, the longest known first
  (PROTOCOL 6).
- A name belongs to the identity that came first, as long as it publishes: each accepted record that carries
  the name renews the lease. An identity holds one name at a time.
- An expired record stays as a hint for `HINT_LIFE_US`, unless room is needed: the longest expired goes first.
  If none is expired, a new identity is refused.

Times are wall microseconds since the epoch.
"""

# ruff: noqa: S608 -- statements are put together from constants of this module; values are always bound

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from covey.base.errors import LimitError
from covey.base.types import Address, Identity
from covey.node.storage.database import Database, Migrations, Synchronous

__all__ = [
    "CLAIMS_LIMIT",
    "HINT_LIFE_US",
    "NAME_LEASE_US",
    "RECORDS_LIMIT",
    "Entry",
    "Published",
    "RendezvousStore",
]

DAY_US: Final = 24 * 3600 * 1_000_000

NAME_LEASE_US: Final = 7 * DAY_US
"""How long a name stays reserved after it was last published."""

HINT_LIFE_US: Final = 7 * DAY_US
"""How long an expired record is kept as a locator hint (PROTOCOL 3)."""

RECORDS_LIMIT: Final = 200_000
"""Identities held. Ours: about 500 MB with indexes at the largest records, a tenth of it in practice."""

CLAIMS_LIMIT: Final = 16
"""Identities returned for one address. Ours: two are an accident, more are an attack."""

NameOutcome = Literal["none", "held", "taken"]

APPLICATION_ID: Final = 0x436F7672
"""Of a rendezvous' database, in the file's header: "Covr"."""

MIGRATIONS: Final[Migrations] = (
    (
        """CREATE TABLE records (
            identity BLOB PRIMARY KEY,
            address BLOB NOT NULL,
            priority BLOB NOT NULL,
            record BLOB NOT NULL,
            log BLOB NOT NULL,
            first_us INTEGER NOT NULL,
            updated_us INTEGER NOT NULL,
            expires_us INTEGER NOT NULL)""",
        "CREATE INDEX records_address ON records (address, first_us)",
        "CREATE INDEX records_expiry ON records (expires_us)",
        """CREATE TABLE names (
            name TEXT PRIMARY KEY, identity BLOB NOT NULL, lease_us INTEGER NOT NULL) WITHOUT ROWID""",
        "CREATE UNIQUE INDEX names_identity ON names (identity)",
        "CREATE INDEX names_lease ON names (lease_us)",
        "CREATE TABLE total (records INTEGER NOT NULL)",
        "INSERT INTO total VALUES (0)",
        """CREATE TRIGGER records_more AFTER INSERT ON records
            BEGIN UPDATE total SET records = records + 1; END""",
        """CREATE TRIGGER records_less AFTER DELETE ON records
            BEGIN
                UPDATE total SET records = records - 1;
                DELETE FROM names WHERE identity = old.identity;
            END""",
    ),
)

_ORDER: Final = struct.Struct(">QQQ")
_COLUMNS: Final = (
    "r.identity, r.address, coalesce(n.name, ''), r.priority, r.record, r.log, r.first_us, r.updated_us, r.expires_us"
)
_SOURCE: Final = "records r LEFT JOIN names n ON n.identity = r.identity"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is held of one identity."""

    identity: Identity
    address: Address
    name: str
    """The name it holds here, "" if none: not necessarily the one its record claims."""
    order: tuple[int, int, int]
    record: bytes
    log: bytes
    first_us: int
    """When it was first published here."""
    updated_us: int
    expires_us: int
    """Of the record: past that, it is a hint."""


class Published(NamedTuple):
    """What `put` did."""

    stored: bool
    """The record is the one held now (also if it was before). False: a newer one is held."""
    name: NameOutcome
    """`held`: the claimed name is this identity's. `taken`: another holds it, the record was stored
    without."""


class RendezvousStore:
    """The cache in one SQLite file at `path`. Each method is a transaction of its own unless the caller holds
    one.

    By default (`NORMAL`) a crash of the process costs nothing and one of the machine the last seconds.
    Errors: `StorageError`, see `covey.node.storage.database`.
    """

    def __init__(self, path: Path, *, synchronous: Synchronous = "NORMAL", records_limit: int = RECORDS_LIMIT) -> None:
        self.database = Database(path, MIGRATIONS, application_id=APPLICATION_ID, synchronous=synchronous)
        self._records_limit = records_limit

    def put(
        self,
        identity: bytes,
        *,
        address: bytes,
        name: str,
        order: tuple[int, int, int],
        record: bytes,
        log: bytes | None,
        expires_us: int,
        now_us: int,
    ) -> Published:
        """Hold a verified record (and log; None keeps the one held). "" claims no name.

        `LimitError` ``rendezvous-full`` for a new identity when nothing can go.
        """
        priority = _ORDER.pack(*order)
        with self.database.transaction():
            held = self.database.row("SELECT priority, record FROM records WHERE identity = ?", (identity,))
            if held is not None and (priority < held[0] or (priority == held[0] and record != held[1])):
                return Published(False, self._outcome(identity, name, now_us))
            if held is None:
                self._make_room(now_us)
            self.database.execute(
                "INSERT INTO records VALUES (?, ?, ?, ?, coalesce(?, x''), ?, ?, ?)"
                " ON CONFLICT (identity) DO UPDATE SET address = excluded.address,"
                " priority = excluded.priority, record = excluded.record,"
                " log = iif(excluded.log = x'', log, excluded.log),"
                " updated_us = excluded.updated_us, expires_us = excluded.expires_us",
                (identity, address, priority, record, log, now_us, now_us, expires_us),
            )
            return Published(True, self._claim(identity, name, now_us))

    def put_log(self, identity: bytes, log: bytes, *, revoked: bool) -> None:
        """Replace the log of an identity that has an entry; a revoked one holds no name any more."""
        with self.database.transaction():
            self.database.execute("UPDATE records SET log = ? WHERE identity = ?", (log, identity))
            if revoked:
                self.database.execute("DELETE FROM names WHERE identity = ?", (identity,))

    def by_identity(self, identity: bytes) -> Entry | None:
        """The entry of this identity. It may have expired: look at `expires_us`."""
        row = self.database.row(f"SELECT {_COLUMNS} FROM {_SOURCE} WHERE r.identity = ?", (identity,))
        return None if row is None else _entry(row)

    def by_address(self, address: bytes) -> list[Entry]:
        """Every claim to this address, the longest known first, at most 16."""
        rows = self.database.rows(
            f"SELECT {_COLUMNS} FROM {_SOURCE} WHERE r.address = ? ORDER BY r.first_us, r.identity LIMIT ?",
            (address, CLAIMS_LIMIT),
        )
        return [_entry(row) for row in rows]

    def by_name(self, name: str, now_us: int) -> Entry | None:
        """The entry of the identity that holds this name now."""
        row = self.database.row(
            f"SELECT {_COLUMNS} FROM names n JOIN records r ON r.identity = n.identity"
            " WHERE n.name = ? AND n.lease_us > ?",
            (name, now_us),
        )
        return None if row is None else _entry(row)

    def expire(self, now_us: int) -> int:
        """Forget leases that are over and records past their use as a hint. How many records went."""
        with self.database.transaction():
            self.database.execute("DELETE FROM names WHERE lease_us <= ?", (now_us,))
            return self.database.execute("DELETE FROM records WHERE expires_us <= ?", (now_us - HINT_LIFE_US,))

    def counts(self) -> tuple[int, int]:
        """Records and names held."""
        row = self.database.row("SELECT (SELECT records FROM total), (SELECT count(*) FROM names)")
        assert row is not None
        return int(row[0]), int(row[1])

    def close(self) -> None:
        self.database.close()

    def _make_room(self, now_us: int) -> None:
        row = self.database.row("SELECT records FROM total")
        assert row is not None
        if row[0] < self._records_limit:
            return
        gone = self.database.execute(
            "DELETE FROM records WHERE identity IN"
            " (SELECT identity FROM records WHERE expires_us <= ? ORDER BY expires_us LIMIT ?)",
            (now_us, row[0] - self._records_limit + 1),
        )
        if not gone:
            raise LimitError(
                f"this rendezvous holds {row[0]} agents and takes no more",
                code="rendezvous-full",
                next_step="use another rendezvous",
            )

    def _outcome(self, identity: bytes, name: str, now_us: int) -> NameOutcome:
        if not name:
            return "none"
        holder = self.database.row("SELECT identity FROM names WHERE name = ? AND lease_us > ?", (name, now_us))
        return "held" if holder is not None and holder[0] == identity else "taken"

    def _claim(self, identity: bytes, name: str, now_us: int) -> NameOutcome:
        """Take or renew the lease on `name`, and give up any other name the identity holds."""
        self.database.execute("DELETE FROM names WHERE identity = ? AND name <> ?", (identity, name))
        if not name:
            return "none"
        self.database.execute(
            "INSERT INTO names VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE"
            " SET identity = ?2, lease_us = ?3 WHERE identity = ?2 OR lease_us <= ?4",
            (name, identity, now_us + NAME_LEASE_US, now_us),
        )
        return self._outcome(identity, name, now_us)


def _entry(row: tuple[Any, ...]) -> Entry:
    identity, address, name, priority, *rest = row
    sequence, counter, number = _ORDER.unpack(priority)
    return Entry(Identity(identity), Address(address), name, (sequence, counter, number), *rest)
