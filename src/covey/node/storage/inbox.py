"""The inbox: each message once, in the order of its sender (PROTOCOL 22).

Theory. A sender numbers its messages to us 1, 2, 3... within an incarnation of its outbox. A number is
*settled* when nothing about it will change any more: its message is stored, or it is known to be dead. Per
(sender, incarnation) we keep, for ever, a watermark (every number up to it is settled) and a gap set (the
settled numbers above it, at most 4096). A number that is settled is a duplicate. A message above the next
number is stored at once, so that it may be called delivered, but it stays invisible in the gap set until the
numbers before it are settled: by arriving, by a SKIP, or because the sender's lowest number still alive is
higher. Only then it gets its place in the inbox.

Nothing stays invisible for ever: `release` lets messages in that have waited too long for a gap, and a new
incarnation of a sender ends the waiting of the old one.

Beside this, an id that is in the inbox, or was lately, is not stored again from the same sender: one that was
restored from a backup numbers anew and may repeat what we have.
"""

# ruff: noqa: S608 -- statements are put together from constants of this module; values are always bound

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from covey.base.constants import MESSAGE_LIMIT
from covey.base.errors import NotFoundError, ParseError
from covey.base.schema import MessageType
from covey.base.types import Identity
from covey.node.storage.database import Database

__all__ = ["GAP_LIMIT", "Inbox", "InboxCounts", "InboxMessage", "Incoming", "Stored"]

Stored = Literal["stored", "duplicate", "inbox-full", "too-early"]
"""`stored` and `duplicate`: acknowledge it. `inbox-full`: answer refused(inbox-full), nothing was kept, the
sender must skip the number. `too-early`: too many gaps before it; do not acknowledge, the sender repeats
it."""

GAP_LIMIT: Final = 4096
"""Settled numbers above the watermark, per sender and incarnation (PROTOCOL 22)."""

INCARNATIONS_LIMIT: Final = 1024
"""Incarnations remembered per sender; of more, the oldest is forgotten. Ours: each is a restored backup, and
a sender that makes many only weakens the protection of its own messages."""

REMOVED_LIMIT: Final = 100_000
"""Ids of removed messages that are remembered, over all senders. Ours: about 15 MB."""

MESSAGES_LIMIT: Final = 100_000
"""Messages in the inbox, the waiting ones included. Half of it for one sender. Ours."""
BYTES_LIMIT: Final = 1 << 30
"""Bytes of bodies in the inbox. Half of it for one sender. Ours."""

FORGET_LIMIT: Final = 1024
"""Messages that `forget_read` removes at a time, for either reason. Ours: more than arrive between two calls, in a few
ms, unless many were read at once."""

EVICTION: Final = 256
"""Acknowledged messages that go at once when there is no room: rarely enough, and few enough, to cost
nothing."""

_NUMBER_LIMIT: Final = 1 << 63
_SUM: Final = b""
_COLUMNS: Final = "number, id, sender, type, received_us, size, acknowledged"


class Incoming(NamedTuple):
    """A message as it came. `lowest_alive`: see `Outbox.lowest_alive`."""

    number: int
    lowest_alive: int
    id: bytes
    type: MessageType
    body: bytes


@dataclass(frozen=True, slots=True)
class InboxMessage:
    """One message of the inbox."""

    number: int
    """Its place: ascending, never reused."""
    id: bytes
    sender: Identity
    type: MessageType
    received_us: int
    size: int
    acknowledged: bool
    body: bytes = b""
    """Empty in a listing without bodies."""


class InboxCounts(NamedTuple):
    """How full the inbox is."""

    total: int
    unread: int
    """Not acknowledged."""
    waiting: int
    """Stored but not yet visible: an earlier message of the same sender is missing."""
    bytes: int


class Inbox:
    """The inbox tables. Each method is atomic by itself; wrap several in `database.transaction()`."""

    def __init__(
        self,
        database: Database,
        *,
        messages_limit: int = MESSAGES_LIMIT,
        bytes_limit: int = BYTES_LIMIT,
        removed_limit: int = REMOVED_LIMIT,
    ) -> None:
        self._database = database
        self._messages_limit = messages_limit
        self._bytes_limit = bytes_limit
        self._removed_limit = removed_limit

    def store(
        self,
        sender: bytes,
        incarnation: int,
        number: int,
        lowest_alive: int,
        id: bytes,
        type: MessageType,
        body: bytes,
        now_us: int,
    ) -> Stored:
        """Keep one message. Acknowledge it only after the transaction is committed. See `store_many`."""
        return self.store_many(sender, incarnation, [Incoming(number, lowest_alive, id, type, body)], now_us)[0]

    def store_many(self, sender: bytes, incarnation: int, messages: Sequence[Incoming], now_us: int) -> list[Stored]:
        """Keep messages of one sender; what happened to each. What became visible is found by
        `listing(after=...)`.

        `ParseError` for a number outside 1 to 2^63 - 1 or a body over the limit: nothing of the call is kept.
        """
        for message in messages:
            _check(message)
        with self._database.transaction():
            cursor = _Cursor(self._database, sender, incarnation)
            if not cursor.known:
                self._open(cursor, now_us)
            results = [self._store(cursor, message, now_us) for message in messages]
            cursor.save()
        return results

    def skip(self, sender: bytes, incarnation: int, numbers: Iterable[int], now_us: int, lowest_alive: int = 1) -> int:
        """The sender gave these numbers up, and all below `lowest_alive`. How many waiting messages became
        visible."""
        with self._database.transaction():
            cursor = _Cursor(self._database, sender, incarnation)
            if not cursor.known:
                self._open(cursor, now_us)
            before = cursor.released
            cursor.advance(min(lowest_alive, _NUMBER_LIMIT) - 1)
            for number in sorted(set(numbers)):
                if cursor.watermark < number < _NUMBER_LIMIT:
                    if number == cursor.watermark + 1:
                        cursor.advance(number)
                    elif cursor.gaps() < GAP_LIMIT:
                        cursor.settle_above(number)
            cursor.save()
            return cursor.released - before

    def watermark(self, sender: bytes, incarnation: int) -> int:
        """Every number up to this one is settled; 0 if nothing is known. What to tell a sender that
        reconnects."""
        return _Cursor(self._database, sender, incarnation).watermark

    def release(self, received_before_us: int) -> int:
        """Show the messages that wait for a gap since before that time, in order. How many there were.

        Their numbers stay settled, and the missing ones may still arrive, late.
        """
        with self._database.transaction():
            return _show_waiting(self._database, "received_us < ?", (received_before_us,))

    def listing(
        self, *, unread: bool = False, limit: int = 100, after: int = 0, bodies: bool = True
    ) -> list[InboxMessage]:
        """Messages in order, from the first with a number above `after`; `unread`: only the
        unacknowledged."""
        rows = self._database.rows(
            f"SELECT {_COLUMNS}{', body' if bodies else ''} FROM inbox WHERE number > ?"
            f"{' AND acknowledged = 0' if unread else ''} ORDER BY number LIMIT ?",
            (after, limit),
        )
        return [_message(row) for row in rows]

    def get(self, number: int) -> InboxMessage:
        """One message with its body. `NotFoundError` ``no-such-message``."""
        row = self._database.row(f"SELECT {_COLUMNS}, body FROM inbox WHERE number = ?", (number,))
        if row is None:
            raise NotFoundError(f"there is no message {number}", code="no-such-message", next_step="covey inbox")
        return _message(row)

    def by_id(self, id: bytes) -> InboxMessage:
        """The newest message with this sender's id, with its body. `NotFoundError` ``no-such-message``."""
        row = self._database.row(f"SELECT {_COLUMNS}, body FROM inbox WHERE id = ? ORDER BY number DESC LIMIT 1", (id,))
        if row is None:
            raise NotFoundError(f"there is no message {id.hex()}", code="no-such-message", next_step="covey inbox")
        return _message(row)

    def last(self) -> int:
        """The highest number ever given, 0 if none: where a follower of new messages starts."""
        row = self._database.row("SELECT seq FROM sqlite_sequence WHERE name = 'inbox'")
        return 0 if row is None else int(row[0])

    def acknowledge(self, numbers: Iterable[int]) -> int:
        """Mark messages as dealt with; how many were not before. Unknown numbers are ignored."""
        with self._database.transaction():
            return sum(
                self._database.execute(
                    "UPDATE inbox SET acknowledged = 1 WHERE number = ? AND acknowledged = 0", (number,)
                )
                for number in numbers
            )

    def clear(self, everything: bool = False) -> int:
        """Remove the acknowledged messages, or all visible ones; how many. What was removed never comes
        back."""
        with self._database.transaction():
            return self._remove("acknowledged = 1" if not everything else "1", ())

    def forget_read(self, received_before_us: int, keep: int) -> int:
        """Remove acknowledged messages received before that time, and all but the newest `keep`; how many went.

        At most `FORGET_LIMIT` of each at a time. Like `clear`: what was removed never comes back.
        """
        read = "SELECT number FROM inbox WHERE acknowledged = 1"
        with self._database.transaction():
            return self._remove(
                f"number IN ({read} AND received_us < ? ORDER BY number LIMIT {FORGET_LIMIT})", (received_before_us,)
            ) + self._remove(
                f"number IN ({read} AND number <= ({read} ORDER BY number DESC LIMIT 1 OFFSET ?)"
                f" ORDER BY number LIMIT {FORGET_LIMIT})",
                (keep,),
            )

    def counts(self) -> InboxCounts:
        """How full the inbox is. Costs about 10 us per thousand unread messages."""
        row = self._database.row(
            "SELECT (SELECT count(*) FROM inbox WHERE acknowledged = 0),"
            " (SELECT count(*) FROM inbox_gaps WHERE id IS NOT NULL),"
            " coalesce((SELECT messages FROM inbox_usage WHERE sender = ?1), 0),"
            " coalesce((SELECT bytes FROM inbox_usage WHERE sender = ?1), 0)",
            (_SUM,),
        )
        assert row is not None
        unread, waiting, messages, size = row
        return InboxCounts(messages - waiting, unread, waiting, size)

    def _open(self, cursor: _Cursor, now_us: int) -> None:
        """Begin a new incarnation of a sender: nothing will fill the gaps of the old ones any more."""
        _show_waiting(self._database, "sender = ?", (cursor.sender,))
        known = "FROM inbox_watermarks WHERE sender = ? ORDER BY opened_us DESC, incarnation LIMIT -1 OFFSET ?"
        for (incarnation,) in self._database.rows(
            f"SELECT incarnation {known}", (cursor.sender, INCARNATIONS_LIMIT - 1)
        ):
            for table in ("inbox_watermarks", "inbox_gaps"):
                self._database.execute(
                    f"DELETE FROM {table} WHERE sender = ? AND incarnation = ?", (cursor.sender, incarnation)
                )
        cursor.create(now_us)

    def _store(self, cursor: _Cursor, message: Incoming, now_us: int) -> Stored:
        cursor.advance(min(message.lowest_alive, message.number) - 1)
        if cursor.settled(message.number):
            return "duplicate"
        next_in_line = message.number == cursor.watermark + 1
        if not next_in_line and cursor.gaps() >= GAP_LIMIT:
            return "too-early"
        if cursor.has_id(message.id):
            if next_in_line:
                cursor.advance(message.number)
            else:
                cursor.settle_above(message.number)
            return "duplicate"
        if not self._make_room(cursor.sender, len(message.body)):
            return "inbox-full"
        if next_in_line:
            cursor.show(message, now_us)
            cursor.advance(message.number)
        else:
            cursor.wait(message, now_us)
        _account(self._database, cursor.sender, 1, len(message.body))
        return "stored"

    def _make_room(self, sender: bytes, size: int) -> bool:
        """Whether one more message fits, after acknowledged ones were removed if need be."""
        for key, share in ((sender, 2), (_SUM, 1)):
            while not self._fits(key, share, size):
                where = "acknowledged = 1" + (" AND sender = ?" if key else "")
                if not self._remove(
                    f"number IN (SELECT number FROM inbox WHERE {where} ORDER BY number LIMIT {EVICTION})",
                    (key,) if key else (),
                ):
                    return False
        return True

    def _fits(self, key: bytes, share: int, size: int) -> bool:
        row = self._database.row("SELECT messages, bytes FROM inbox_usage WHERE sender = ?", (key,))
        messages, used = (0, 0) if row is None else (int(row[0]), int(row[1]))
        return messages < self._messages_limit // share and used + size <= self._bytes_limit // share

    def _remove(self, where: str, arguments: tuple[object, ...]) -> int:
        rows = self._database.rows(
            f"SELECT sender, count(*), sum(size) FROM inbox WHERE {where} GROUP BY sender", arguments
        )
        if not rows:
            return 0
        self._database.execute(
            f"INSERT INTO inbox_removed (sender, id) SELECT sender, id FROM inbox WHERE {where} ORDER BY number",
            arguments,
        )
        self._database.execute(
            "DELETE FROM inbox_removed WHERE row <= (SELECT max(row) FROM inbox_removed) - ?",
            (self._removed_limit,),
        )
        self._database.execute(f"DELETE FROM inbox WHERE {where}", arguments)
        for sender, count, size in rows:
            _account(self._database, sender, -count, -size)
        return sum(row[1] for row in rows)


class _Cursor:
    """The settled numbers of one (sender, incarnation), within one transaction. `save` writes the watermark
    back."""

    def __init__(self, database: Database, sender: bytes, incarnation: int) -> None:
        self._database = database
        self.sender = sender
        self._key = (sender, incarnation.to_bytes(8, "big"))
        row = database.row("SELECT watermark FROM inbox_watermarks WHERE sender = ? AND incarnation = ?", self._key)
        self.known = row is not None
        self.watermark = self._saved = 0 if row is None else int(row[0])
        self.released = 0
        self._gaps: set[int] | None = None

    def create(self, now_us: int) -> None:
        self._database.execute("INSERT INTO inbox_watermarks VALUES (?, ?, 0, ?)", (*self._key, now_us))

    def save(self) -> None:
        if self.watermark != self._saved:
            self._database.execute(
                "UPDATE inbox_watermarks SET watermark = ? WHERE sender = ? AND incarnation = ?",
                (self.watermark, *self._key),
            )
            self._saved = self.watermark

    def gaps(self) -> int:
        return len(self._above())

    def settled(self, number: int) -> bool:
        return number <= self.watermark or number in self._above()

    def has_id(self, id: bytes) -> bool:
        for table in ("inbox", "inbox_gaps", "inbox_removed"):
            if self._database.row(f"SELECT 1 FROM {table} WHERE sender = ? AND id = ?", (self.sender, id)):
                return True
        return False

    def show(self, message: Incoming, now_us: int) -> None:
        """Give a message its place in the inbox."""
        self._database.execute(
            "INSERT INTO inbox (sender, id, type, size, body, received_us) VALUES (?, ?, ?, ?, ?, ?)",
            (self.sender, message.id, message.type, len(message.body), message.body, now_us),
        )

    def wait(self, message: Incoming, now_us: int) -> None:
        """Keep a message above the next number."""
        self._database.execute(
            "INSERT INTO inbox_gaps VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*self._key, message.number, message.id, message.type, message.body, now_us),
        )
        self._above().add(message.number)

    def settle_above(self, number: int) -> None:
        """Settle a number above the next one without a message."""
        if number not in self._above():
            self._database.execute(
                "INSERT INTO inbox_gaps (sender, incarnation, number) VALUES (?, ?, ?)", (*self._key, number)
            )
            self._above().add(number)

    def advance(self, to: int) -> None:
        """Settle every number up to `to`, and show what waited for that, in order."""
        if to <= self.watermark:
            return
        self.watermark = to
        above = self._above()
        if not above:
            return
        while self.watermark + 1 in above:
            self.watermark += 1
        passed = {number for number in above if number <= self.watermark}
        if not passed:
            return
        within = "sender = ? AND incarnation = ? AND number <= ?"
        self.released += _show_waiting(self._database, within, (*self._key, self.watermark))
        self._database.execute(f"DELETE FROM inbox_gaps WHERE {within}", (*self._key, self.watermark))
        above -= passed

    def _above(self) -> set[int]:
        if self._gaps is None:
            rows = self._database.rows("SELECT number FROM inbox_gaps WHERE sender = ? AND incarnation = ?", self._key)
            self._gaps = {number for (number,) in rows}
        return self._gaps


def _show_waiting(database: Database, where: str, arguments: tuple[object, ...]) -> int:
    """Move the waiting messages that match into the inbox, oldest number first; their numbers stay
    settled."""
    shown = database.execute(
        "INSERT INTO inbox (sender, id, type, size, body, received_us)"
        " SELECT sender, id, type, length(body), body, received_us FROM inbox_gaps"
        f" WHERE id IS NOT NULL AND {where} ORDER BY sender, incarnation, number",
        arguments,
    )
    if shown:
        database.execute(
            "UPDATE inbox_gaps SET id = NULL, type = NULL, body = NULL, received_us = NULL"
            f" WHERE id IS NOT NULL AND {where}",
            arguments,
        )
    return shown


def _account(database: Database, sender: bytes, messages: int, size: int) -> None:
    for key in (sender, _SUM):
        database.execute(
            "INSERT INTO inbox_usage VALUES (?, ?, ?) ON CONFLICT (sender) DO UPDATE SET"
            " messages = messages + excluded.messages, bytes = bytes + excluded.bytes",
            (key, messages, size),
        )


def _check(message: Incoming) -> None:
    if not 0 < message.number < _NUMBER_LIMIT:
        raise ParseError(f"message number {message.number} is out of range")
    if len(message.body) > MESSAGE_LIMIT:
        raise ParseError(f"a message of {len(message.body)} bytes, at most {MESSAGE_LIMIT} allowed")


def _message(row: tuple[Any, ...]) -> InboxMessage:
    number, identifier, sender, kind, received_us, size, acknowledged = row[:7]
    body = row[7] if len(row) > 7 else b""
    return InboxMessage(number, identifier, sender, kind, received_us, size, bool(acknowledged), body)
