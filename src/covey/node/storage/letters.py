"""What sealed letters need to remember: which actions of others were heard, and where our own ones wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from covey.base.types import IDENTITY_SIZE, Identity
from covey.node.storage.database import Database

__all__ = ["HEARD_LIMIT", "Deposit", "Letters"]

HEARD_LIMIT: Final = 16_384
"""Senders whose last number is remembered; of more, the stranger not heard of for longest goes. Ours: about 1.5 MB, and
sixteen times as many as there are pending requests. A letter lives seven days, so most could go before."""


@dataclass(frozen=True, slots=True)
class Deposit:
    """Our action for an absent peer, sealed, at its custodians."""

    recipient: Identity
    id: bytes
    """16 random bytes that stay as long as something waits for this recipient: newer words replace the older."""
    action_number: int
    delegation: bytes
    """SHA-256 of the delegation that it was signed under: a newer one ends it."""
    until_us: int
    """When the first of the copies expires."""
    custodians: tuple[Identity, ...]


class Letters:
    """Two small tables. Each method is atomic by itself; wrap several in `database.transaction()`."""

    def __init__(self, database: Database, *, heard_limit: int = HEARD_LIMIT) -> None:
        self._database = database
        self._heard_limit = heard_limit

    def heard(self, sender: bytes) -> int:
        """The highest number of an action of this peer; 0 for none."""
        row = self._database.row("SELECT number FROM heard WHERE sender = ?", (sender,))
        return 0 if row is None else int(row[0])

    def hear(self, sender: bytes, number: int, now_us: int) -> None:
        """Remember a number, unless a higher one is known."""
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO heard VALUES (?, ?, ?) ON CONFLICT (sender) DO UPDATE"
                " SET number = max(number, excluded.number), heard_us = excluded.heard_us",
                (sender, number, now_us),
            )
            self._database.execute(
                "DELETE FROM heard WHERE sender IN"
                " (SELECT sender FROM heard ORDER BY heard_us DESC LIMIT -1 OFFSET ?)"
                " AND sender NOT IN"
                " (SELECT identity FROM peers WHERE trust IN ('requested', 'trusted', 'rejected'))",
                (self._heard_limit,),
            )

    def deposits(self) -> list[Deposit]:
        """Everything of ours that waits somewhere."""
        rows = self._database.rows(
            "SELECT recipient, id, action_number, delegation, until_us, custodians FROM deposits ORDER BY recipient"
        )
        return [_deposit(row) for row in rows]

    def set_deposit(self, deposit: Deposit) -> None:
        """Remember where it waits, instead of what was known for this recipient."""
        self._database.execute(
            "INSERT OR REPLACE INTO deposits VALUES (?, ?, ?, ?, ?, ?)",
            (
                deposit.recipient,
                deposit.id,
                deposit.action_number,
                deposit.delegation,
                deposit.until_us,
                b"".join(deposit.custodians),
            ),
        )

    def forget_deposit(self, recipient: bytes) -> None:
        """Nothing waits for this recipient any more."""
        self._database.execute("DELETE FROM deposits WHERE recipient = ?", (recipient,))


def _deposit(row: tuple[Any, ...]) -> Deposit:
    recipient, deposit_id, action_number, delegation, until_us, joined = row
    custodians = tuple(
        Identity(joined[start : start + IDENTITY_SIZE]) for start in range(0, len(joined), IDENTITY_SIZE)
    )
    return Deposit(Identity(recipient), deposit_id, action_number, delegation, until_us, custodians)
