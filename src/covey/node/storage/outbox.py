"""The outbox: a message is in it from the moment `send` returns until the recipient has it on disk (PROTOCOL
22).

Rules:

- Messages to one recipient are numbered 1, 2, 3... A number is never used twice within one incarnation.
- The caller chooses the id; the same id to the same recipient is the same message, however often it is
  appended.
- A message is `queued` until exactly one result: delivered, expired, cancelled or refused. Its body goes at
  once, the result stays a week. A result is final: after `expired` or `cancelled` a copy in flight may still
  arrive, but an acknowledgement no longer proves it, since the recipient also acknowledges what was skipped.
- An incarnation is 64 random bits. A database restored from a backup has forgotten numbers that recipients
  have seen; it must begin a new incarnation (`renumber`) before it sends, or its new messages would be taken
  for old ones.
"""

# ruff: noqa: S608 -- statements are put together from constants of this module; values are always bound

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, cast

from covey.base.constants import MESSAGE_LIMIT
from covey.base.errors import LimitError, UsageError
from covey.base.schema import MessageType, SendResult
from covey.base.types import Identity
from covey.node.storage.database import Database
from covey.node.storage.settings import INCARNATION, Settings

__all__ = ["BATCH_LIMIT", "ID_SIZE", "Draft", "Outbox", "OutboxMessage", "Outcome", "Queued"]

ID_SIZE: Final = 16
"""Bytes of a message id."""

QUEUE_MESSAGES: Final = 1_000_000
"""Messages that may wait, over all recipients. Ours."""
QUEUE_BYTES: Final = 4 << 30
"""Bytes of bodies that may wait, over all recipients. Ours."""

RESULT_LIFE_US: Final = 7 * 24 * 3600 * 1_000_000
"""How long a result is kept after it is known ..."""
RESULTS_LIMIT: Final = 200_000
"""... and how many at most, the newest. Ours: about 40 MB."""

BATCH_LIMIT: Final = 1024
"""Messages in one `next_batch`. Ours."""

SKIPS_LIMIT: Final = 4096
"""Numbers in one `skips`: what an inbox can hold open (PROTOCOL 22)."""

_SUM: Final = b""
"""The recipient under which the totals are kept."""


class Draft(NamedTuple):
    """A message to append."""

    id: bytes
    """16 bytes."""
    type: MessageType
    body: bytes
    expires_us: int | None = None


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """A queued message, to be sent."""

    number: int
    id: bytes
    type: MessageType
    body: bytes
    created_us: int
    expires_us: int | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known about one message."""

    id: bytes
    recipient: Identity
    number: int
    """0 for a result from before the present incarnation."""
    result: SendResult
    reason: str
    created_us: int
    finished_us: int | None
    """None while queued."""


class Queued(NamedTuple):
    """How much waits."""

    messages: int
    bytes: int


class Outbox:
    """The outbox tables. Each method is atomic by itself; wrap several in `database.transaction()`.

    `random(8)` is drawn for the first incarnation and by `renumber`.
    """

    def __init__(self, database: Database, random: Callable[[int], bytes]) -> None:
        self._database = database
        self._settings = Settings(database)
        self._random = random
        if self._settings.get(INCARNATION) is None:
            self._settings.set(INCARNATION, random(8))

    @property
    def incarnation(self) -> int:
        """64 bits, unsigned."""
        return int.from_bytes(self._settings.get(INCARNATION) or b"", "big")

    def renumber(self) -> int:
        """Begin a new incarnation: what is queued is numbered from 1 again, in its order. Returns the
        incarnation.

        For a database restored from a backup, and when a recipient knows more of our numbers than we do: see
        `heard`.
        """
        with self._database.transaction():
            fresh = self._random(8)
            self._settings.set(INCARNATION, fresh)
            self._database.execute("UPDATE outbox SET number = NULL WHERE result <> 'queued'")
            for recipient in self.recipients():
                rows = self._database.rows(
                    "SELECT row FROM outbox WHERE recipient = ? AND result = 'queued' ORDER BY number",
                    (recipient,),
                )
                # New numbers never exceed the old ones, so in ascending order none is taken when it is given.
                self._database.execute_many(
                    "UPDATE outbox SET number = ? WHERE row = ?",
                    ((number, row) for number, (row,) in enumerate(rows, 1)),
                )
            self._database.execute("UPDATE outbox_recipients SET last = queued WHERE recipient <> ?", (_SUM,))
        return int.from_bytes(fresh, "big")

    def heard(self, recipient: bytes, incarnation: int, number: int) -> bool:
        """A recipient says it has settled `number` of `incarnation`. True if that proves that we forgot
        numbers.

        Then a new incarnation has begun: read `incarnation` and send everything from `next_batch` anew.
        """
        with self._database.transaction():
            if incarnation != self.incarnation or not self.knows_more(recipient, number):
                return False
            self.renumber()
            return True

    def knows_more(self, recipient: bytes, number: int) -> bool:
        """Whether we have not given this number yet, in the present incarnation."""
        return number > self._last(recipient)

    def append(
        self,
        recipient: bytes,
        id: bytes,
        type: MessageType,
        body: bytes,
        now_us: int,
        expires_us: int | None = None,
    ) -> int:
        """Queue one message; its number. See `append_many`."""
        return self.append_many(recipient, [Draft(id, type, body, expires_us)], now_us)[0]

    def append_many(self, recipient: bytes, drafts: Sequence[Draft], now_us: int) -> list[int]:
        """Queue messages in order, all or none; their numbers. Once the transaction is committed they are
        safe.

        An id that this recipient was sent before is that message: its number is returned (0 if it has none
        any more) and nothing is added; ask `state` for what became of it. `UsageError` ``id-reused`` if it
        was another message. `LimitError`: ``message-too-large``, ``outbox-full``.
        """
        numbers: list[int] = []
        with self._database.transaction():
            number = first_free = self._last(recipient) + 1
            size = 0
            for draft in drafts:
                known = self._known(recipient, draft)
                if known is not None:
                    numbers.append(known)
                    continue
                _check(draft)
                self._database.execute(
                    "INSERT INTO outbox (recipient, number, id, type, size, body, created_us, expires_us)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        recipient,
                        number,
                        draft.id,
                        draft.type,
                        len(draft.body),
                        draft.body,
                        now_us,
                        draft.expires_us,
                    ),
                )
                numbers.append(number)
                number += 1
                size += len(draft.body)
            if number > first_free:
                self._account(recipient, number - first_free, size, number - 1)
                self._check_room()
        return numbers

    def next_batch(self, recipient: bytes, after_number: int, max_bytes: int) -> list[OutboxMessage]:
        """The queued messages after `after_number`, in order, with bodies of at most `max_bytes` together.

        One that is larger comes alone; an empty list means there is none.
        """
        batch: list[OutboxMessage] = []
        size = 0
        rows = self._database.scan(
            "SELECT number, id, type, body, created_us, expires_us FROM outbox"
            " WHERE recipient = ? AND result = 'queued' AND number > ? ORDER BY number LIMIT ?",
            (recipient, after_number, BATCH_LIMIT),
        )
        for row in rows:
            size += len(row[3])
            if batch and size > max_bytes:
                break
            batch.append(OutboxMessage(*row))
        rows.close()
        return batch

    def lowest_alive(self, recipient: bytes) -> int:
        """The lowest number still queued; the next number to be given if there is none. Sent with each
        message."""
        row = self._database.row(
            "SELECT min(number) FROM outbox WHERE recipient = ? AND result = 'queued'", (recipient,)
        )
        lowest = row[0] if row else None
        return int(lowest) if lowest is not None else self._last(recipient) + 1

    def skips(self, recipient: bytes) -> list[int]:
        """The dead numbers above `lowest_alive`: what a SKIP must name so that nothing waits for them.

        At most 4096, the lowest. A SKIP with `lowest_alive` alone is due when the last messages died.
        """
        rows = self._database.rows(
            "SELECT number FROM outbox WHERE recipient = ? AND number > ?"
            " AND result IN ('expired', 'cancelled', 'refused') ORDER BY number LIMIT ?",
            (recipient, self.lowest_alive(recipient), SKIPS_LIMIT),
        )
        return [int(number) for (number,) in rows]

    def mark_delivered(
        self, recipient: bytes, numbers: Iterable[int] = (), *, now_us: int, upto: int = 0
    ) -> list[bytes]:
        """The recipient has these numbers, and all up to `upto`, on disk. Returns the ids for which that is
        news.

        Numbers are those of the present incarnation: drop acknowledgements that name another.
        """
        ids: list[bytes] = []
        with self._database.transaction():
            ranges = [(1, upto)] if upto else []
            for low, high in ranges + _ranges(numbers):
                ids += self._finish(
                    "recipient = ? AND number BETWEEN ? AND ? AND result = 'queued'",
                    (recipient, low, high),
                    "delivered",
                    "",
                    now_us,
                )
        return ids

    def mark_refused(self, recipient: bytes, number: int, reason: str, now_us: int) -> bytes | None:
        """The recipient will never take this number. Returns its id, None if it is not queued (any more)."""
        ids = self._finish(
            "recipient = ? AND number = ? AND result = 'queued'",
            (recipient, number),
            "refused",
            reason,
            now_us,
        )
        return ids[0] if ids else None

    def cancel(self, id: bytes, now_us: int, recipient: bytes | None = None) -> bool:
        """Give up a queued message (to this recipient only, if given). False if none was queued."""
        where = "id = ? AND result = 'queued'" + ("" if recipient is None else " AND recipient = ?")
        arguments = (id,) if recipient is None else (id, recipient)
        return bool(self._finish(where, arguments, "cancelled", "", now_us))

    def expire(self, now_us: int) -> list[bytes]:
        """End what is due, forget results that are old or too many. Returns the ids that expired now."""
        with self._database.transaction():
            ids = self._finish(
                "result = 'queued' AND expires_us IS NOT NULL AND expires_us <= ?",
                (now_us,),
                "expired",
                "",
                now_us,
            )
            self._database.execute("DELETE FROM outbox WHERE finished_us < ?", (now_us - RESULT_LIFE_US,))
            self._database.execute(
                "DELETE FROM outbox WHERE row IN (SELECT row FROM outbox WHERE finished_us IS NOT NULL"
                " ORDER BY finished_us DESC, row DESC LIMIT -1 OFFSET ?)",
                (RESULTS_LIMIT,),
            )
        return ids

    def next_expiry(self) -> int | None:
        """When `expire` next has something to end, microseconds; None: never, as things are."""
        row = self._database.row(
            "SELECT min(expires_us) FROM outbox WHERE result = 'queued' AND expires_us IS NOT NULL"
        )
        return None if row is None or row[0] is None else int(row[0])

    def state(self, id: bytes, recipient: bytes | None = None) -> Outcome | None:
        """What became of a message; the newest with this id if no recipient is given. None: unknown, or
        forgotten."""
        where = "id = ?" + ("" if recipient is None else " AND recipient = ?")
        row = self._database.row(
            "SELECT id, recipient, coalesce(number, 0), result, reason, created_us, finished_us FROM outbox"
            f" WHERE {where} ORDER BY row DESC LIMIT 1",
            (id,) if recipient is None else (id, recipient),
        )
        return None if row is None else Outcome(*row)

    def counts(self, recipient: bytes | None = None) -> Queued:
        """How much waits, for one recipient or for all."""
        row = self._database.row(
            "SELECT queued, bytes FROM outbox_recipients WHERE recipient = ?",
            (_SUM if recipient is None else recipient,),
        )
        return Queued(0, 0) if row is None else Queued(*row)

    def recipients(self) -> list[Identity]:
        """Those for whom something is queued."""
        rows = self._database.rows(
            "SELECT recipient FROM outbox_recipients WHERE queued > 0 AND recipient <> ? ORDER BY recipient",
            (_SUM,),
        )
        return [Identity(recipient) for (recipient,) in rows]

    def _last(self, recipient: bytes) -> int:
        row = self._database.row("SELECT last FROM outbox_recipients WHERE recipient = ?", (recipient,))
        return 0 if row is None else int(row[0])

    def _known(self, recipient: bytes, draft: Draft) -> int | None:
        """The number of the message with this id, None if there is none."""
        row = self._database.row(
            "SELECT coalesce(number, 0), type, size, body FROM outbox WHERE id = ? AND recipient = ?",
            (draft.id, recipient),
        )
        if row is None:
            return None
        number, kind, size, body = row
        if kind != draft.type or size != len(draft.body) or body not in (None, draft.body):
            raise UsageError(
                f"message id {draft.id.hex()} was used before, for another message",
                code="id-reused",
                next_step="send it with a new id",
            )
        return cast(int, number)

    def _finish(
        self, where: str, arguments: tuple[object, ...], result: SendResult, reason: str, now_us: int
    ) -> list[bytes]:
        """Give every message that matches its result; their ids."""
        with self._database.transaction():
            rows = self._database.rows(f"SELECT row, id, recipient, size, result FROM outbox WHERE {where}", arguments)
            self._database.execute_many(
                "UPDATE outbox SET result = ?, reason = ?, finished_us = ?, body = NULL WHERE row = ?",
                ((result, reason, now_us, row[0]) for row in rows),
            )
            freed: dict[bytes, list[int]] = {}
            for _, _, recipient, size, before in rows:
                if before == "queued":
                    freed.setdefault(recipient, []).append(size)
            for recipient, sizes in freed.items():
                self._account(recipient, -len(sizes), -sum(sizes))
        return [bytes(row[1]) for row in rows]

    def _account(self, recipient: bytes, messages: int, size: int, last: int = 0) -> None:
        for key, number in ((recipient, last), (_SUM, 0)):
            self._database.execute(
                "INSERT INTO outbox_recipients VALUES (?, ?, ?, ?) ON CONFLICT (recipient) DO UPDATE SET"
                " last = max(last, excluded.last), queued = queued + excluded.queued,"
                " bytes = bytes + excluded.bytes",
                (key, number, messages, size),
            )

    def _check_room(self) -> None:
        queued = self.counts()
        if queued.messages > QUEUE_MESSAGES or queued.bytes > QUEUE_BYTES:
            raise LimitError(
                f"the outbox is full: {queued.messages} messages, {queued.bytes} bytes would wait",
                code="outbox-full",
                next_step="covey peers shows for whom messages wait",
            )


def _check(draft: Draft) -> None:
    if len(draft.id) != ID_SIZE:
        raise UsageError(f"a message id has {ID_SIZE} bytes, not {len(draft.id)}", code="bad-id")
    if len(draft.body) > MESSAGE_LIMIT:
        raise LimitError(
            f"the message has {len(draft.body)} bytes, at most {MESSAGE_LIMIT} are allowed",
            code="message-too-large",
            next_step="send it as a stream or in parts",
        )


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending closed ranges that cover `numbers`."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges
