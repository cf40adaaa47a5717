"""Messages of this node, both ways: the outbox and who waits for its results, the inbox and who follows it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from covey.base.constants import MESSAGE_LIMIT
from covey.base.errors import LimitError, UsageError
from covey.base.events import MessageDelivered, MessageExpired, MessageReceived, MessageRefused, PeerEvent
from covey.base.schema import MessageType, MessageView, SendView
from covey.base.types import Identity
from covey.node import views
from covey.node.book import PeerBook
from covey.node.committer import Committer
from covey.node.connector import Connector
from covey.node.courier import Courier
from covey.node.deposits import Deposits
from covey.node.storage import Draft, InboxMessage, Peer, Store
from covey.node.storage.outbox import ID_SIZE
from covey.node.transport import Transport

__all__ = ["Mail", "Publish", "encode_body"]

_PAGE: Final = 16
"""Messages a follower of the inbox takes at a time: 16 MiB of the largest."""
_TTL_LIMIT: Final = 10 * 365 * 24 * 3600.0
"""Longest time to live of a message, seconds. Ours; without one it waits for ever."""
_RENUMBER_SECONDS: Final = 3600.0
"""One recipient makes us number the outbox anew at most so often."""
_NUMBER_LIMIT: Final = (1 << 63) - 1
"""Highest number that the database can hold; no message has it."""


class _Place(NamedTuple):
    """A position in the inbox: of the messages after number `after`, those up to `unread_until` count only if they
    are unread, all above do. A follower begins with the unread ones, and afterwards misses nothing, also not what
    somebody else acknowledges first."""

    after: int
    unread_until: int

    @property
    def text(self) -> str:
        return str(self.after) if self.after >= self.unread_until else f"{self.after}:{self.unread_until}"


class Publish(Protocol):
    """Tells the node's followers about an event that concerns a peer."""

    def __call__(self, event: PeerEvent, peer: Identity) -> None: ...


class Mail:
    """Made when a node starts. `Courier` and `MessageService` use it too."""

    def __init__(
        self,
        *,
        own_name: Callable[[], str],
        transport: Transport,
        book: PeerBook,
        connector: Connector,
        deposits: Deposits,
        committer: Committer,
        store: Store,
        now_us: Any,
        publish: Publish,
        on_told: Callable[[Identity], None],
    ) -> None:
        """`on_told(identity)`: there is news about what this peer has to be told."""
        self.own_name = own_name
        self.transport = transport
        self.book = book
        self.connector = connector
        self.deposits = deposits
        self.committer = committer
        self.outbox = store.outbox
        self.inbox = store.inbox
        self.now_us = now_us
        self.on_told = on_told
        self._store = store
        self._publish = publish
        self._couriers: dict[Identity, tuple[Courier, asyncio.Task[None]]] = {}
        self._waiting: dict[tuple[Identity, bytes], list[asyncio.Future[str]]] = {}
        self._believed_again: dict[Identity, float] = {}
        """From when on a recipient may make us number the outbox anew once more, monotonic seconds."""
        self._followers: set[asyncio.Event] = set()
        self._closed = False
        self.expires_sooner = asyncio.Event()
        """A message expires before the time that `next_expiry` last gave."""
        self._next_expiry: int | None = None
        self.unread = store.inbox.counts().unread
        self.queued: dict[Identity, int] = {
            identity: store.outbox.counts(identity).messages for identity in store.outbox.recipients()
        }
        """Messages that wait, per recipient; only those for whom something waits or waited."""

    def start(self) -> None:
        """Goes on with what waited when the node stopped."""
        told = (peer.identity for peer in self.book.all() if peer.action is not None)
        for identity in dict.fromkeys((*self.queued, *told)):
            self.courier(identity)

    def close(self) -> None:
        """Ends the followers, and the waiting for results: what is queued stays so until the next start."""
        self._closed = True
        for event in self._followers:
            event.set()
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_result("queued ")

    # --- out -------------------------------------------------------------------------------------------------------

    async def send(
        self,
        peer: Peer,
        bodies: Sequence[bytes],
        type: MessageType,
        ids: Sequence[str] | None,
        ttl: float | None,
        wait: float,
    ) -> list[SendView]:
        """Queues messages in this order, all or none, and waits up to `wait` seconds for their results."""
        begun = self.transport.host.now()
        for body in bodies:
            _check_body(body, type)
        if ttl is not None and not 0 < ttl <= _TTL_LIMIT:
            raise UsageError(f"a time to live is more than 0 and at most {_TTL_LIMIT:.0f} seconds", code="bad-ttl")
        if ids is not None and len(ids) != len(bodies):
            raise UsageError(f"{len(ids)} ids for {len(bodies)} messages")
        raw_ids = [parse_id(text) for text in ids] if ids else [self.transport.host.random(ID_SIZE) for _ in bodies]
        recipient = peer.identity
        futures = [self._await_result(recipient, raw_id) for raw_id in raw_ids]
        try:
            # Shielded: what is on disk is on its way, also if the caller's time is over before it hears of it.
            results = await asyncio.shield(self._append(recipient, raw_ids, bodies, type, ttl))
            unknown = [future for future, result in zip(futures, results, strict=True) if result is None]
            if unknown and wait > 0:
                await asyncio.wait(unknown, timeout=wait)
        finally:
            for raw_id, future in zip(raw_ids, futures, strict=True):
                self._forget_result(recipient, raw_id, future)
        elapsed_ms = round((self.transport.host.now() - begun) * 1000, 3)
        return [
            views.send_view(raw_id, peer, result or (future.result() if future.done() else "queued "), elapsed_ms)
            for raw_id, future, result in zip(raw_ids, futures, results, strict=True)
        ]

    async def _append(
        self, recipient: Identity, ids: Sequence[bytes], bodies: Sequence[bytes], type: MessageType, ttl: float | None
    ) -> list[str | None]:
        """Puts them on disk and wakes their courier.

        The result of each that was sent before under the same id, None for the others.
        """
        now_us = self.now_us()
        expires_us = None if ttl is None else now_us + int(ttl * 1e6)
        drafts = [Draft(raw_id, type, body, expires_us) for raw_id, body in zip(ids, bodies, strict=True)]
        outbox = self.outbox
        if expires_us is not None and (self._next_expiry is None or expires_us < self._next_expiry):
            self.expires_sooner.set()

        def append() -> tuple[int, list[str | None]]:
            outbox.append_many(recipient, drafts, now_us)
            states = [outbox.state(draft.id, recipient) for draft in drafts]
            known = [
                f"{state.result} {state.reason}" if state is not None and state.result != "queued" else None
                for state in states
            ]
            return outbox.counts(recipient).messages, known

        self.queued[recipient], results = await self.committer.run(append)
        if not self.book.trusts(recipient):
            await self.refuse_all(recipient)  # trust was taken back while this was under way
        if not self._closed:
            self.courier(recipient).wake()
        return results

    def courier(self, identity: Identity) -> Courier:
        """Whoever brings this peer what it must get."""
        courier, task = self._couriers.get(identity, (None, None))
        if courier is None or task is None or task.done():  # done: it failed by a bug, which was reported; go on
            courier = Courier(self, identity)
            self._couriers[identity] = courier, self.transport.spawn(courier.run(), "courier")
        return courier

    def tried(self, identity: Identity, number: int) -> bool:
        """We have tried to bring this peer the action with this number, and failed."""
        courier, _ = self._couriers.get(identity, (None, None))
        return courier is not None and courier.tried >= number

    def may_renumber(self, recipient: Identity) -> bool:
        """Whether this recipient is believed if it proves that the outbox forgot numbers. That concerns the messages to
        everybody, and what is true is so once: whoever says it again and again lies.
        """
        return self.transport.host.now() >= self._believed_again.get(recipient, float("-inf"))

    def renumbered(self, recipient: Identity) -> None:
        """This recipient was believed."""
        self._believed_again[recipient] = self.transport.host.now() + _RENUMBER_SECONDS

    def problem(self, identity: Identity) -> str:
        """Why what waits for this peer waits, "" if there is no reason yet."""
        courier, _ = self._couriers.get(identity, (None, None))
        error = (courier.undeposited or courier.problem) if courier is not None else None
        return error.message if error is not None else ""

    def hope(self, identity: Identity | None = None) -> None:
        """This peer (or anybody) may be reachable again."""
        for known, (courier, _) in self._couriers.items():
            if identity is None or known == identity:
                courier.hope()

    def settled(self, recipient: Identity, ids: list[bytes]) -> None:
        self._finish(recipient, ids, "delivered ")
        for each in ids:
            self._publish(MessageDelivered(message=each.hex()), recipient)

    def refused(self, recipient: Identity, ids: list[bytes], reason: str) -> None:
        self._finish(recipient, ids, f"refused {reason}")
        for each in ids:
            self._publish(MessageRefused(message=each.hex(), reason=reason), recipient)

    async def refuse_all(self, recipient: Identity) -> None:
        """Nothing queued for this recipient will ever be sent: it is not trusted (any more)."""
        if not self.queued.get(recipient):
            return
        outbox, reason = self.outbox, "not-trusted"

        def refuse() -> list[bytes]:
            ids = []
            while batch := outbox.next_batch(recipient, 0, 1 << 20):
                for message in batch:
                    refused = outbox.mark_refused(recipient, message.number, reason, self.now_us())
                    ids += [refused] if refused is not None else []
            return ids

        self.refused(recipient, await self.committer.run(refuse), reason)

    async def next_expiry(self) -> int | None:
        """When `expire` has something to do, wall microseconds; None for never."""
        self.expires_sooner.clear()
        self._next_expiry = await self.committer.run(self.outbox.next_expiry)
        return self._next_expiry

    async def maintain(self, now_us: int, certain_us: int) -> None:
        """Ends what has expired, and what else only time brings (`Store.maintain`)."""
        expired = set(await self.committer.run(lambda: self._store.maintain(now_us, certain_us)))
        if not expired:
            return
        for identity in [identity for identity, count in self.queued.items() if count]:
            self.queued[identity] = await self.committer.run(
                lambda identity=identity: self.outbox.counts(identity).messages  # type: ignore[misc]
            )
            self.courier(identity).wake()
        await self._tell_expired([key for key in self._waiting if key[1] in expired])
        for state in await self.committer.run(lambda: [self.outbox.state(each) for each in expired]):
            if state is not None and state.result == "expired":
                self._publish(MessageExpired(message=state.id.hex()), state.recipient)

    async def _tell_expired(self, waiting: list[tuple[Identity, bytes]]) -> None:
        """Those of these messages that did expire: an id may be that of several messages, to several recipients."""
        states = await self.committer.run(
            lambda: [self.outbox.state(raw_id, recipient) for recipient, raw_id in waiting]
        )
        for key, state in zip(waiting, states, strict=True):
            for future in self._waiting.get(key, ()):
                if state is not None and state.result == "expired" and not future.done():
                    future.set_result("expired ")

    def _await_result(self, recipient: Identity, id: bytes) -> asyncio.Future[str]:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault((recipient, id), []).append(future)
        return future

    def _forget_result(self, recipient: Identity, id: bytes, future: asyncio.Future[str]) -> None:
        waiting = self._waiting.get((recipient, id), [])
        if future in waiting:
            waiting.remove(future)
        if not waiting:
            self._waiting.pop((recipient, id), None)

    def _finish(self, recipient: Identity, ids: list[bytes], result: str) -> None:
        self.queued[recipient] = max(0, self.queued.get(recipient, 0) - len(ids))
        for message_id in ids:
            for future in self._waiting.get((recipient, message_id), ()):
                if not future.done():
                    future.set_result(result)

    # --- in --------------------------------------------------------------------------------------------------------

    def arrived(self, sender: Identity, count: int) -> None:
        """So many messages of this sender became visible in the inbox."""
        self.unread += count
        for event in self._followers:
            event.set()
        self._publish(MessageReceived(count=count), sender)

    async def follow(self, acknowledge: bool) -> AsyncIterator[MessageView]:
        """The unread messages, then every new one, until the node closes."""
        after = 0
        arrival = asyncio.Event()
        self._followers.add(arrival)
        try:
            while not self._is_closed():
                arrival.clear()
                page = await self.listing(all=False, limit=_PAGE, after=after, bodies=True)
                for message in page:
                    yield message
                    after = message.number
                    if self._is_closed():
                        return
                    if acknowledge:
                        await self.acknowledge([message.number])
                if not page:
                    await arrival.wait()
        finally:
            self._followers.discard(arrival)

    async def follow_from(self, position: str | None) -> AsyncIterator[tuple[str, MessageView | None]]:
        """See `Node.inbox_follow`."""
        place = None if position is None else _parse_place(position)
        last = await self.committer.run(self.inbox.last)
        if place is not None and max(place) > last:
            raise UsageError(
                f"there is no message {max(place)} yet, the last one is {last}; if there was, this inbox was restored "
                "from a backup",
                code="bad-position",
                next_step="covey inbox --follow",
            )
        return self._follow_from(place or _Place(0, last))

    async def _follow_from(self, place: _Place) -> AsyncIterator[tuple[str, MessageView | None]]:
        arrival = asyncio.Event()
        self._followers.add(arrival)
        try:
            yield place.text, None
            while not self._is_closed():
                arrival.clear()
                catching_up = place.after < place.unread_until
                page = await self.listing(all=not catching_up, limit=_PAGE, after=place.after, bodies=True)
                for message in page:
                    if catching_up and message.number > place.unread_until:
                        break
                    place = _Place(message.number, place.unread_until)
                    yield place.text, message
                    if self._is_closed():
                        return
                else:
                    if len(page) == _PAGE:
                        continue
                if catching_up:
                    place = _Place(place.unread_until, place.unread_until)
                elif not page:
                    await arrival.wait()
        finally:
            self._followers.discard(arrival)

    def _is_closed(self) -> bool:
        return self._closed

    async def listing(self, *, all: bool, limit: int, after: int, bodies: bool) -> list[MessageView]:
        after, limit = min(after, _NUMBER_LIMIT), min(limit, _NUMBER_LIMIT)
        rows = await self.committer.run(
            lambda: self.inbox.listing(unread=not all, limit=limit, after=after, bodies=bodies)
        )
        return [self._view(row) for row in rows]

    async def get(self, number_or_id: str) -> MessageView:
        if number_or_id.isascii() and number_or_id.isdigit() and len(number_or_id) < 2 * ID_SIZE:
            number = min(int(number_or_id), _NUMBER_LIMIT)
            return self._view(await self.committer.run(lambda: self.inbox.get(number)))
        wanted = parse_id(number_or_id)
        return self._view(await self.committer.run(lambda: self.inbox.by_id(wanted)))

    async def acknowledge(self, numbers: list[int]) -> int:
        known = [number for number in numbers if 0 < number < _NUMBER_LIMIT]

        def acknowledge() -> tuple[int, int]:
            return self.inbox.acknowledge(known), self.inbox.counts().unread

        count, self.unread = await self.committer.run(acknowledge)
        return count

    async def clear(self, *, all: bool) -> int:
        def clear() -> tuple[int, int]:
            return self.inbox.clear(everything=all), self.inbox.counts().unread

        count, self.unread = await self.committer.run(clear)
        return count

    def _view(self, row: InboxMessage) -> MessageView:
        sender = self.book.get(row.sender)
        return views.message_view(row, sender.name if sender is not None else "")


def encode_body(body: Any, type: MessageType | None) -> tuple[MessageType, bytes]:
    """`bytes` are `binary`, `str` is `text`, anything else `json`, unless `type` says otherwise. UsageError."""
    if isinstance(body, bytes | bytearray | memoryview):
        return type or "binary", bytes(body)
    if isinstance(body, str):
        try:
            return type or "text", body.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"this is not text that can be sent: {error}", code="bad-text") from error
    if type not in (None, "json"):
        raise UsageError(f"{body.__class__.__name__} can be sent as json only", code="bad-body")
    try:
        return "json", msgspec.json.encode(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"this cannot be sent as json: {error}", code="bad-json") from error


def _parse_place(text: str) -> _Place:
    match = re.fullmatch(r"([0-9]{1,18})(?::([0-9]{1,18}))?", text)
    if match is None:
        raise UsageError(f"{text[:40]!r} is not a position in the inbox", code="bad-position")
    return _Place(int(match[1]), int(match[2] or 0))


def parse_id(text: str) -> bytes:
    """A message id from its 32 hexadecimal digits. UsageError."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != ID_SIZE:
        raise UsageError("a message id has 32 hexadecimal digits", code="bad-id")
    return raw


def _check_body(body: bytes, type: MessageType) -> None:
    if len(body) > MESSAGE_LIMIT:
        raise LimitError(
            f"a message has at most {MESSAGE_LIMIT} bytes, this one has {len(body)}",
            code="message-too-large",
            next_step="send it as a stream, or in parts",
        )
    try:
        if type == "json":
            msgspec.json.decode(body)
        elif type == "text":
            body.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"the body is not {type}: {error}", code=f"bad-{type}") from error
