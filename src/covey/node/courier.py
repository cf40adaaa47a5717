"""Brings one peer what it must get: the trust action that waits, then the messages, in order, until it has them.

Nothing here is remembered in memory only: after a crash a courier starts from the database and repeats what was not
confirmed. Both trust actions and messages may be repeated without harm.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from covey.base.errors import CoveyError, ParseError, RefusedError, StateError, UnreachableError
from covey.base.types import Identity
from covey.core.connection import Connection
from covey.node.connector import patience
from covey.node.retry import Retry
from covey.node.storage import OutboxMessage, Peer
from covey.node.transport import Stream
from covey.wire import messages, trust
from covey.wire.framing import FrameReader

if TYPE_CHECKING:
    from covey.node.mail import Mail

__all__ = ["Courier"]

_BATCH_BYTES: Final = 256 * 1024
_UNSETTLED_BYTES: Final = 8 * 1024 * 1024
"""Bytes of messages on their way that the recipient has not settled yet."""
_RECEIPT_SECONDS: Final = 10.0
_IDLE_SECONDS: Final = 60.0
"""How long the message stream stays open with nothing to send."""


class Courier:
    """`wake()` when there may be work; `hope()` when the peer may be reachable again. Run `run()` as a task."""

    def __init__(self, mail: Mail, identity: Identity) -> None:
        self._mail = mail
        self._identity = identity
        self._work = asyncio.Event()
        self._work.set()
        self._retry = Retry(mail.transport.host.random)
        self._delivery: _Delivery | None = None
        self.problem: CoveyError | None = None
        """Why the last try failed; None after a success."""
        self.undeposited: CoveyError | None = None
        """Why the action of an absent peer waits nowhere but here; None if it does, or never had to."""
        self._trying = 0
        self.tried = 0
        """The number of the last action that could not be brought when we tried."""

    def wake(self) -> None:
        self._work.set()
        if self._delivery is not None:
            self._delivery.wake()

    def hope(self) -> None:
        self._retry.hope()

    async def run(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                await self._round()
                self._retry.reset()
                self.problem = None
            except CoveyError as error:
                self.problem = error
                self.tried = self._trying
                self._mail.on_told(self._identity)
                self._work.set()
                await self._retry.pause(patience(error))

    async def _round(self) -> None:
        """Until nothing waits. Raises what stood in the way."""
        mail = self._mail
        while (peer := mail.book.get(self._identity)) is not None:
            if peer.trust != "trusted":
                await mail.refuse_all(self._identity)  # again: the program may have died when trust was taken back
            if peer.action is not None:
                self._trying = peer.action_number
                await self._tell(await self._reach(), peer)
            elif peer.trust == "trusted":
                queued = await mail.committer.run(lambda: mail.outbox.counts(self._identity).messages)
                if not queued:
                    return
                connection = await mail.connector.connect(self._identity)
                delivery = self._delivery = _Delivery(mail, connection)
                try:
                    await delivery.run()
                except RefusedError as error:
                    await self._distrusted(error)
                finally:
                    self._delivery = None
            else:
                return

    async def _reach(self) -> Connection:
        """For a trust action. While the peer is away it waits, sealed, where the peer will look first."""
        mail = self._mail
        try:
            return await mail.connector.connect(self._identity)
        except UnreachableError:
            peer = mail.book.get(self._identity)
            if peer is not None and peer.action is not None:
                try:
                    await mail.deposits.deposit(peer)
                    self.undeposited = None
                except CoveyError as error:
                    self.undeposited = error
            raise

    async def _tell(self, connection: Connection, peer: Peer) -> None:
        """One trust action, until its receipt is here."""
        assert peer.action is not None
        mail = self._mail
        stream = await mail.transport.open(connection, trust.SERVICE)
        try:
            async with asyncio.timeout(_RECEIPT_SECONDS):
                reason = peer.reason if peer.action == "request" else ""
                await stream.write(trust.TrustAction(peer.action, peer.action_number, mail.own_name(), reason).encode())
                await stream.finish()
                reader = FrameReader(trust.FRAME_LIMIT)
                frames: list[tuple[int, bytes]] = []
                while not frames:
                    data = await stream.read()
                    if not data:
                        raise UnreachableError("the peer gave no receipt", code="no-receipt")
                    frames = reader.feed(data)
                trust.parse_receipt(*frames[0])
        except TimeoutError:
            raise UnreachableError("the peer gave no receipt", code="no-receipt") from None
        finally:
            stream.abort()
        if await mail.book.confirm_action(self._identity, peer.action_number):
            await mail.deposits.settled(self._identity)
        mail.on_told(self._identity)
        told = mail.book.get(self._identity)
        if told is None or told.trust == "unknown":
            # It knows that we said no: with the connection go the windows and addresses that only a trusted peer gets.
            mail.transport.close_connection(connection)

    async def _distrusted(self, error: RefusedError) -> None:
        """A peer we trust refuses our messages: it took its trust back, or lost its state (core.trust)."""
        peer = self._mail.book.get(self._identity)
        if peer is not None and peer.trust == "trusted" and peer.action is None and error.code == "refused":
            await self._mail.book.apply(self._identity, "remote-untrust")
        else:
            raise error


class _Delivery:
    """One message stream, from its opening until nothing waits (and a while longer)."""

    def __init__(self, mail: Mail, connection: Connection) -> None:
        self._mail = mail
        self._connection = connection
        self._recipient = connection.peer
        self._work = asyncio.Event()
        self._incarnation = 0
        """Of the outbox, when this stream began: all numbers on it are of this one."""
        self._named = 0
        """Highest number that the recipient has heard of on this stream."""
        self._settled = 0
        """Highest number the recipient settled."""
        self._sizes: dict[int, int] = {}
        self._unsettled = 0
        self._told_lowest = 0
        """The highest `lowest alive` of a SKIP on this stream ..."""
        self._told_dead: set[int] = set()
        """... and the numbers above it that were given up in one."""

    def wake(self) -> None:
        self._work.set()

    async def run(self) -> None:
        """Returns when the outbox has nothing for the recipient. Raises CoveyError when the stream ends."""
        mail = self._mail
        stream = await mail.transport.open(self._connection, messages.SERVICE)
        try:
            reader = FrameReader(messages.FRAME_LIMIT)
            self._incarnation = await mail.committer.run(lambda: mail.outbox.incarnation)
            await stream.write(messages.encode_number(messages.OPENING, self._incarnation))
            await self._resume(stream, reader)
            replies = asyncio.ensure_future(self._read_replies(stream, reader))
            feeding = asyncio.ensure_future(self._feed(stream))
            try:
                await asyncio.wait((replies, feeding), return_when=asyncio.FIRST_COMPLETED)
                for task in (replies, feeding):
                    if task.done():
                        await task
            finally:
                for task in (replies, feeding):
                    task.cancel()
                await asyncio.gather(replies, feeding, return_exceptions=True)
            await stream.finish()
        finally:
            stream.abort()

    def _check_incarnation(self) -> None:
        """On the writer thread, before numbers of this stream mean anything to the outbox.

        Another recipient may have proved, or pretended, that numbers were forgotten: then they are other messages' now.
        """
        if self._mail.outbox.incarnation != self._incarnation:
            raise StateError("the outbox was numbered anew", code="outbox-renumbered")

    async def _resume(self, stream: Stream, reader: FrameReader) -> None:
        """The recipient's first frame says what it has settled already."""
        mail = self._mail
        frames: list[tuple[int, bytes]] = []
        while not frames:
            data = await stream.read()
            if not data:
                raise UnreachableError("the peer closed the message stream", code="stream-ended")
            frames = reader.feed(data)
        kind, body = frames[0]
        if kind != messages.RESUME or len(frames) != 1:
            raise ParseError("the peer did not say where to resume")
        watermark = messages.parse_number(body)
        may_renumber = mail.may_renumber(self._recipient)

        def settle() -> tuple[bool, list[bytes]]:
            self._check_incarnation()
            if not may_renumber and mail.outbox.knows_more(self._recipient, watermark):
                raise ParseError("the peer claims once more to have messages that were never sent")
            if mail.outbox.heard(self._recipient, self._incarnation, watermark):
                return True, []
            return False, mail.outbox.mark_delivered(self._recipient, now_us=mail.now_us(), upto=watermark)

        forgot, ids = await mail.committer.run(settle)
        if forgot:
            mail.renumbered(self._recipient)
            raise StateError("the outbox was restored from a backup and numbered anew", code="outbox-renumbered")
        self._settled = self._named = watermark
        mail.settled(self._recipient, ids)

    async def _feed(self, stream: Stream) -> None:
        """Writes what is queued, in order; ends when it has been idle for a minute with nothing unsettled."""
        mail, recipient = self._mail, self._recipient
        sent = self._settled
        while True:
            self._work.clear()

            def take(after: int = sent) -> tuple[list[OutboxMessage], int, list[int]]:
                self._check_incarnation()
                return (
                    mail.outbox.next_batch(recipient, after, _BATCH_BYTES),
                    mail.outbox.lowest_alive(recipient),
                    mail.outbox.skips(recipient),
                )

            batch, lowest, skips = await mail.committer.run(take)
            peer = mail.book.get(recipient)
            if peer is None or peer.trust != "trusted" or peer.action is not None:
                return
            dead = [number for number in skips if number not in self._told_dead]
            self._named = max(self._named, lowest - 1, *dead)
            if dead or lowest > max(self._settled + 1, self._told_lowest):
                await stream.write(messages.encode_skip(lowest, dead))
                self._told_lowest = lowest
                self._told_dead = set(skips)
            for message in batch:
                frame = messages.MessageFrame(
                    message.number, lowest, message.id, message.type, message.expires_us or 0, message.body
                )
                size = len(message.body) + 64
                self._sizes[message.number] = size
                self._unsettled += size
                self._named = max(self._named, message.number)
                await stream.write(frame.encode())
                sent = message.number
            while self._unsettled > _UNSETTLED_BYTES or (not batch and not self._work.is_set()):
                if batch or self._unsettled:
                    await self._work.wait()
                else:
                    try:
                        async with asyncio.timeout(_IDLE_SECONDS):
                            await self._work.wait()
                    except TimeoutError:
                        return
                if self._unsettled > _UNSETTLED_BYTES:
                    self._work.clear()

    async def _read_replies(self, stream: Stream, reader: FrameReader) -> None:
        while data := await stream.read():
            settled = 0
            for kind, body in reader.feed(data):
                if kind == messages.SETTLED:
                    settled = max(settled, self._heard_of(messages.parse_number(body)))
                elif kind == messages.REFUSED:
                    number, reason = messages.parse_refused(body)
                    await self._refuse(self._heard_of(number), reason)
                else:
                    raise ParseError("an unknown answer on a message stream")
            if settled > self._settled:
                # Shielded: once it is on disk, whoever waits for it hears of it, also if this stream ends meanwhile.
                await asyncio.shield(self._settle(settled))
        raise UnreachableError("the peer closed the message stream", code="stream-ended")

    def _heard_of(self, number: int) -> int:
        if number > self._named:
            raise ParseError("an answer to a message that was not sent")
        return number

    async def _settle(self, upto: int) -> None:
        mail = self._mail

        def settle() -> list[bytes]:
            self._check_incarnation()
            return mail.outbox.mark_delivered(self._recipient, now_us=mail.now_us(), upto=upto)

        ids = await mail.committer.run(settle)
        self._settled = upto
        self._forget(upto)
        mail.settled(self._recipient, ids)

    async def _refuse(self, number: int, reason: str) -> None:
        mail = self._mail

        def refuse() -> bytes | None:
            self._check_incarnation()
            return mail.outbox.mark_refused(self._recipient, number, reason, mail.now_us())

        refused = await mail.committer.run(refuse)
        self._unsettled -= self._sizes.pop(number, 0)
        self._work.set()
        if refused is not None:
            mail.refused(self._recipient, [refused], reason)

    def _forget(self, upto: int) -> None:
        while self._sizes and (number := next(iter(self._sizes))) <= upto:
            self._unsettled -= self._sizes.pop(number)
        self._work.set()
