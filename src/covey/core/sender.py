"""What leaves a session: trains of packets, filled with whatever is due in order of urgency.

A train is equal datagrams for one route in one buffer; the last may be shorter. Its first datagram may mix frames of
all kinds; bulk data follows in full datagrams with one STREAM frame each, written by a `TrainSealer` without an object
per datagram. Nothing is queued here but single probes: the sender asks for data when there is room for it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from covey.base.types import Endpoint as Address
from covey.core import limits
from covey.core.acks import ACK_ROOM
from covey.core.path import Path, Route
from covey.core.recovery import Item, Sent
from covey.core.traffic import Only
from covey.core.trains import TrainSealer
from covey.crypto.packet import NONCE
from covey.wire import frames
from covey.wire.datagram import (
    HEADER,
    HEADER_SIZE,
    PACKET,
    PACKET_OVERHEAD,
    RELAY_HEADER,
    RELAY_HEADER_SIZE,
    RELAYED,
    TAG_SIZE,
)
from covey.wire.frames import DATAGRAM_HEAD, STREAM_HEAD

if TYPE_CHECKING:
    from covey.core.connection import Connection
    from covey.core.session import Session

__all__ = ["Sender", "Train"]

_pack_nonce = NONCE.pack
_new_train = tuple.__new__
_pack_header = HEADER.pack_into
_pack_stream = STREAM_HEAD.pack_into
_pack_datagram = DATAGRAM_HEAD.pack
_STREAM_HEAD_SIZE: Final = STREAM_HEAD.size
_DATAGRAM_HEAD_SIZE: Final = DATAGRAM_HEAD.size
_SMALL_ROOM: Final = PACKET_OVERHEAD + ACK_ROOM + STREAM_HEAD.size
"""Bytes of a datagram that are not stream data, at most, if it carries one ACK and one STREAM frame."""
_TOKEN: Final = struct.Struct(">Q")
_PROBE_QUEUE: Final = 64
_PINGS_LIMIT: Final = 64


class Train(NamedTuple):
    """What `transmit` wrote into the buffer it was lent (PROTOCOL 26)."""

    local: int
    remote: Address
    size: int
    segment: int


class Sender:
    """The sending half of one session. `scratch` (65,536 bytes, for one plaintext at a time) and `sealer` are shared by
    all."""

    __slots__ = (
        "_awaited",
        "_only",
        "_pings",
        "_probe_counter",
        "_probes",
        "_scratch",
        "_sealer",
        "_session",
        "drained",
        "ping_due",
        "ready_at",
    )

    def __init__(self, session: Session, scratch: bytearray, sealer: TrainSealer) -> None:
        self.ping_due = False
        """A PING must leave, if nothing else that is acknowledged does."""
        self.ready_at: float | None = None
        """When pacing lets the next train go, if that is what held it back."""
        self.drained = False
        """The last train took everything there was: asking for another now would be in vain."""
        self._awaited = 0
        """Credit that is worth waiting for, if pacing (not the window) lets less than a train go; else 0."""
        self._session = session
        self._scratch = scratch
        self._sealer = sealer
        self._probes: list[tuple[Route, bytes, int]] = []
        self._probe_counter = 0
        self._pings: dict[int, float] = {}
        self._only: Only = ""
        """The streams that the path which is being filled is for; "" for all."""

    # --- probes: single packets on their own route, in the number space of path 255 --------------------------------

    def probe(self, route: Route, frame: bytes, size: int) -> None:
        """Queues a path frame for a route, padded to a datagram of `size` bytes. Dropped if too many wait."""
        if len(self._probes) < _PROBE_QUEUE:
            self._probes.append((route, frame, size))
            self._session.wake()

    def ping(self, token: int, route: Route) -> None:
        """A challenge whose answer is only timed."""
        self._pings[token] = -1.0
        if len(self._pings) > _PINGS_LIMIT:
            self._pings.pop(next(iter(self._pings)))
        self.probe(route, frames.encode_path(frames.PATH_CHALLENGE, _TOKEN.pack(token)), 0)

    def answered_ping(self, data: bytes) -> tuple[int, float] | None:
        """(token, when it was sent) if `data` answers a ping of ours that has left."""
        token = _TOKEN.unpack(data)[0]
        sent = self._pings.pop(token, None)
        return (token, sent) if sent is not None and sent >= 0 else None

    @property
    def has_output(self) -> bool:
        """A probe, a PING or what a probe timeout repeats waits to leave."""
        paths = self._session.paths
        if self.ping_due or self._probes or paths.active.recovery.probes:
            return True
        return paths.bulk is not None and paths.bulk.recovery.probes > 0

    # --- trains ----------------------------------------------------------------------------------------------------

    def transmit(self, now: float, out: memoryview) -> Train | None:
        """The next train, written into `out`; None if nothing may leave now."""
        session = self._session
        self.ready_at = None
        self.drained = False
        if self._probes:
            return self._transmit_probe(now, out)
        if not session.confirmed:
            return None
        path = session.paths.active
        recovery = path.recovery
        connection = session.connection
        bulk = session.paths.bulk
        if bulk is not None or path.route.circuit or self._only:
            train = None if bulk is None else self._transmit_bulk(now, out, bulk)
            if train is not None:
                return train
            self._only = "" if bulk is None else "interactive"
            if connection is not None and not connection.may_use(path):
                self._only = "exempt"
        if connection is not None and (connection.ready.bulk or recovery.congestion.in_flight > limits.STANDING_BYTES):
            train = self._transmit_lane(now, out, path)
            if train is not None:
                return train
        if not recovery.probes and recovery.has_room(path.mtu) and (path.quota is None or self._quota(now, path) > 0):
            train = self._transmit_small(now, out, path)
            if train is not None:
                return train
        budget = self._budget(now, path)
        if recovery.probes:
            train = self._fill_probe(now, out, path, max(budget, path.mtu))
        else:
            if now >= path.mtu_search.due and session.verified:
                train = self._transmit_mtu_probe(now, out, path)
                if train is not None:
                    return train
            train = self._fill(now, out, path, budget)
        if train is not None:
            path.last_sent = now
            path.sent_bytes += train.size
            self.drained = not session.has_output(now)
        return train

    def _transmit_bulk(self, now: float, out: memoryview, path: Path) -> Train | None:
        """Bulk on the path that a rule gives it. None if there is none, or no room for it."""
        connection, recovery = self._session.connection, path.recovery
        if connection is None or connection.session is not self._session:
            return None
        if not connection.ready.bulk and not recovery.probes:
            return None
        self._only = "bulk"
        train = None
        if now >= path.mtu_search.due and not recovery.probes:
            train = self._transmit_mtu_probe(now, out, path)
        if train is None:
            budget = self._budget(now, path)
            if recovery.probes:
                train = self._fill_probe(now, out, path, max(budget, path.mtu))
            elif budget > 0:
                train = self._fill(now, out, path, budget)
        if train is not None:
            path.last_sent = now
            path.sent_bytes += train.size
        return train

    def seal(self, out: memoryview, head: int, path_id: int, counter: int, plain: memoryview) -> int:
        """Writes one packet at `out[head:]`; its size."""
        epochs = self._session.epochs
        body = head + HEADER_SIZE
        end = body + len(plain) + TAG_SIZE
        _pack_header(out, head, PACKET, path_id, epochs.wire_epoch, self._session.peer_index, counter)
        epochs.key.aead.encrypt_into(_pack_nonce(path_id, counter), plain, out[head:body], out[body:end])
        return end - head

    def _budget(self, now: float, path: Path) -> int:
        """Bytes that congestion control and pacing let go now; 0 unless it is a whole datagram."""
        recovery, segment = path.recovery, path.mtu
        congestion = recovery.congestion
        window = congestion.window - congestion.in_flight
        credit = recovery.pacer.credit(now, congestion.rate, segment)
        self._awaited = 0
        if path.quota is not None and (quota := self._quota(now, path)) < min(credit, window):
            # No sign of what the path carries: the window stays as it is.
            recovery.limited = False
            if quota >= segment:
                return quota
            if window >= segment:
                self.ready_at = path.quota.ready_at(now, min(limits.TRAIN_BYTES, path.quota.rate // 1000))
                self._session.hurry()
            return 0
        if credit < window and credit < limits.TRAIN_BYTES and window >= segment:
            enough = min(window, recovery.pacer.worthwhile(limits.TRAIN_BYTES))
            if credit < segment:
                self._hold(now, path, enough)
            elif credit < enough:
                self._awaited = enough
        budget = min(window, credit)
        recovery.limited = budget < segment
        if not recovery.limited:
            return budget
        # One datagram may always be on its way: the window may be smaller than that since datagrams have grown.
        return segment if window < segment <= credit and congestion.in_flight <= 0 else 0

    def _quota(self, now: float, path: Path) -> int:
        """Bytes that the relay of this path still passes on for us."""
        quota = path.quota
        assert quota is not None
        quota.spend(path.sent_bytes - path.charged_bytes)
        path.charged_bytes = path.sent_bytes
        return quota.refill(now)

    def _hold(self, now: float, path: Path, size: int) -> None:
        """Pacing keeps `size` bytes back for a moment."""
        recovery = path.recovery
        recovery.limited = True
        ready_at = recovery.pacer.ready_at(now, size)
        self.ready_at = ready_at if self.ready_at is None else min(self.ready_at, ready_at)
        self._session.hurry()

    def _fill_probe(self, now: float, out: memoryview, path: Path, budget: int) -> Train | None:
        """After a probe timeout: the oldest data again or, if that cannot be, a PING. Something eliciting must go."""
        recovery = path.recovery
        recovery.probes -= 1
        oldest = recovery.oldest()
        if oldest is not None and not oldest.is_mtu_probe:
            self._session.lost(path, [oldest])
        before = recovery.congestion.in_flight
        train = self._fill(now, out, path, budget)
        if recovery.congestion.in_flight == before:
            self.ping_due = True
            train = train or self._fill(now, out, path, budget)
        return train

    def _fill(self, now: float, out: memoryview, path: Path, budget: int) -> Train | None:
        """Datagrams of one size until the budget, the train or the data ends."""
        session = self._session
        # Streams only for the session that the connection sends on.
        connection = session.connection
        if connection is not None and connection.session is not session:
            connection = None
        segment = path.mtu
        capacity = segment - path.route.outer - PACKET_OVERHEAD
        room = min(limits.TRAIN_DATAGRAMS, limits.TRAIN_BYTES // segment)
        first = path.counter
        position = 0
        mixed = self._is_mixed(now, budget > 0, connection)
        while room > 0:
            if not mixed and not (connection is not None and connection.has_control):
                if connection is None or not connection.ready or budget < segment:
                    break
                count = self._bulk(now, out, position, path, connection, capacity, room, budget // segment)
                if count < 0:
                    self._hold(now, path, self._awaited)
                    break
                if count:
                    position += count * segment
                    budget -= count * segment
                    room -= count
                    continue
            size = self._compose(now, out, position, path, connection, capacity, budget)
            if mixed and size == 0:
                mixed = False  # what wanted to go first may not: the peer's window
                continue
            position += size
            budget -= size
            room -= 1
            if size < segment:
                break
            mixed = connection is not None and connection.has_datagrams and budget >= segment
        if position == 0:
            return None
        session.epochs.packets += path.counter - first
        session.epochs.bytes += position
        session.consider_rekey(now)
        return Train(path.route.local, path.route.remote, position, min(segment, position))

    def _transmit_lane(self, now: float, out: memoryview, path: Path) -> Train | None:
        """What is interactive, past the bulk that is on its way. None if there is none, or the lane is full."""
        session = self._session
        connection = session.connection
        if connection is None or connection.session is not session or path.suspect or not connection.may_use(path):
            return None
        if not (connection.has_datagrams or connection.ready.interactive_due(session.epochs.epoch)):
            return None
        lane = session.paths.lane(now, path)
        budget = 0 if lane is None else self._budget(now, lane)
        if not budget or lane is None:
            return None
        before, self._only = self._only, "interactive"
        train = self._fill(now, out, lane, budget)
        self._only = before
        if train is not None:
            path.last_sent = now
            path.sent_bytes += train.size
        return train

    def _transmit_small(self, now: float, out: memoryview, path: Path) -> Train | None:
        """Hot path of question and answer: an acknowledgement and all that one stream has to say, in one datagram.

        None if there is more to it, or less. Everything that happens here happens in `_fill` too, at more length.
        """
        session, scratch = self._session, self._scratch
        connection = session.connection
        if connection is None or connection.session is not session or self.ping_due or session.crypto.has_data:
            return None
        stream = connection.only_stream
        if stream is None or stream.min_epoch > session.epochs.epoch or (self._only and stream.bulk):
            return None
        outgoing, route, recovery = stream.outgoing, path.route, path.recovery
        outer = RELAY_HEADER_SIZE if route.circuit else 0
        if outer and not connection.may_use(path):
            return None
        offset, end = outgoing.sent, outgoing.end
        length = end - offset
        if (
            not 0 < length <= path.mtu - outer - _SMALL_ROOM
            or length > connection.send_allowance(stream)
            or end > stream.max_send
            or outgoing.lost.starts
            or (data := outgoing.tail(offset)) is None
        ):
            return None
        recovery.limited = False
        at = session.acks.compose(now, scratch, 0, ACK_ROOM)
        fin = stream.finished
        _pack_stream(scratch, at, frames.STREAM, fin, stream.id, offset, length)
        at += _STREAM_HEAD_SIZE
        scratch[at : at + length] = data
        at += length
        size = outer + at + PACKET_OVERHEAD
        counter, epochs = path.counter, session.epochs
        if outer:
            RELAY_HEADER.pack_into(out, 0, RELAYED, 0, 0, route.circuit)
        body = outer + HEADER_SIZE
        _pack_header(out, outer, PACKET, path.id, epochs.epoch & 0xFFFF, session.peer_index, counter)
        nonce = _pack_nonce(path.id, counter)
        epochs.key.aead.encrypt_into(nonce, memoryview(scratch)[:at], out[outer:body], out[body:size])
        connection.count_sent(length)
        connection.last_used = path.last_sent = now
        connection.ready.remove(stream)
        outgoing.sent = end
        stream.fin_sent = fin
        recovery.pacer.left -= size
        recovery.on_sent(Sent(counter, 1, now, size, size, None, stream, offset, length, length, fin))
        path.counter = counter + 1
        path.sent_bytes += size
        epochs.packets += 1
        epochs.bytes += size
        if epochs.worn or now >= epochs.rekey_at:
            session.consider_rekey(now)
        self.drained = not session.crypto.has_data
        return _new_train(Train, (route.local, route.remote, size, size))

    def _is_mixed(self, now: float, may_send: bool, connection: Connection | None) -> bool:
        """Whether something other than bulk wants the first datagram of a train.

        An acknowledgement that may still wait comes along with data, but does not travel alone.
        """
        ack_at = self._session.acks.at
        if self._session.crypto.has_data or self.ping_due or (ack_at is not None and now >= ack_at):
            return True
        return connection is not None and (
            connection.has_datagrams
            or (may_send and ack_at is not None and bool(connection.ready))
            or (may_send and connection.ready.interactive_due(self._session.epochs.epoch))
        )

    def _bulk(
        self,
        now: float,
        out: memoryview,
        position: int,
        path: Path,
        connection: Connection,
        capacity: int,
        room: int,
        allowed: int,
    ) -> int:
        """Full datagrams of one stream, one STREAM frame each. How many were written; one `Sent` for all of them.

        There is `room` for so many, of which so many are `allowed` now. -1 if it is better to wait until more are.
        """
        session = self._session
        chunk = capacity - _STREAM_HEAD_SIZE
        for stream in connection.ready.in_turn(session.epochs.epoch, self._only):
            outgoing = stream.outgoing
            repeat = bool(outgoing.lost)
            offset, size = outgoing.next_range(stream.max_send)
            if not repeat:
                size = min(size, connection.send_allowance(stream))
            count = min(room, size // chunk)
            if count <= 0:
                continue
            if count > allowed:
                if self._awaited:
                    return -1
                count = allowed
            length = count * chunk
            path.bulk_bytes += length
            if not repeat:
                connection.count_sent(length)
                connection.last_used = now
            epochs, segment = session.epochs, path.mtu
            header = PACKET << 56 | path.id << 48 | epochs.wire_epoch << 32 | session.peer_index
            frame = frames.STREAM << 120 | stream.id << 80 | offset << 16 | chunk
            self._sealer.seal(
                epochs.key.aead.encrypt_into,
                out,
                position // segment,
                count,
                segment,
                path.route.circuit,
                header,
                path.counter,
                frame,
                outgoing.pieces(offset, length),
            )
            outgoing.on_sent(offset, length)
            run = Sent(
                path.counter, count, now, segment, segment, stream=stream, offset=offset, chunk=chunk, length=length
            )
            path.recovery.pacer.spend(count * segment)
            path.recovery.on_sent(run)
            path.counter += count
            if not stream.has_data:
                connection.ready.remove(stream)
            return count
        return 0

    def _compose(
        self,
        now: float,
        out: memoryview,
        position: int,
        path: Path,
        connection: Connection | None,
        capacity: int,
        budget: int,
    ) -> int:
        """One datagram of whatever is due, in order of urgency. Its size on the wire, 0 if nothing is due."""
        scratch = self._scratch
        items: list[Item] = []
        at = self._session.acks.compose(now, scratch, 0, capacity)
        if self._session.crypto.has_data:
            at = self._session.crypto.compose(scratch, at, capacity, items)
        if self.ping_due and at < capacity:
            self.ping_due = False
            scratch[at] = frames.PING
            at += 1
            items.append(("ping",))
        if connection is not None:
            for encoded, (kind, number) in connection.take_control(capacity - at):
                scratch[at : at + len(encoded)] = encoded
                at += len(encoded)
                items.append(("control", kind, number))
            if budget > 0:
                at = self._compose_datagrams(scratch, at, capacity, connection, items)
                at = self._compose_streams(now, scratch, at, capacity, connection, items)
        if at == 0:
            return 0
        if (
            items
            and connection is not None
            and (
                (connection.has_datagrams and at > capacity // 2)
                or (connection.ready and capacity - at <= _STREAM_HEAD_SIZE)
            )
        ):
            # So full that only padding fits: make it a whole datagram, so that the train can go on.
            scratch[at:capacity] = bytes(capacity - at)
            at = capacity
        size = self._seal_on(out, position, path.route, path.id, path.counter, at)
        if items:
            path.recovery.pacer.spend(size)
            path.recovery.on_sent(Sent(path.counter, 1, now, size, size, items=items))
        path.counter += 1
        return size

    def _compose_datagrams(
        self, scratch: bytearray, at: int, capacity: int, connection: Connection, items: list[Item]
    ) -> int:
        if not connection.has_datagrams or self._only == "exempt":
            return at
        parts = []
        for number, data in connection.take_datagrams(capacity - at, _DATAGRAM_HEAD_SIZE, self._session.epochs.epoch):
            parts.append(_pack_datagram(frames.DATAGRAM, number, len(data)))
            parts.append(data)
        if parts:
            items.append(("datagram",))
        encoded = b"".join(parts)
        scratch[at : at + len(encoded)] = encoded
        return at + len(encoded)

    def _compose_streams(
        self, now: float, scratch: bytearray, at: int, capacity: int, connection: Connection, items: list[Item]
    ) -> int:
        """Packs pieces of as many streams as fit: small messages share a datagram."""
        for stream in connection.ready.in_turn(self._session.epochs.epoch, self._only):
            outgoing = stream.outgoing
            while True:
                room = capacity - at - _STREAM_HEAD_SIZE
                repeat = bool(outgoing.lost)
                offset, size = outgoing.next_range(stream.max_send)
                if not repeat:
                    size = min(size, connection.send_allowance(stream))
                size = max(min(size, room), 0)
                fin = stream.finished and stream.reset_code is None and offset + size == outgoing.end
                if room < 0 or (size == 0 and not (fin and not stream.fin_sent)):
                    break
                _pack_stream(scratch, at, frames.STREAM, frames.STREAM_FIN if fin else 0, stream.id, offset, size)
                at += _STREAM_HEAD_SIZE
                outgoing.copy_into(scratch, at, offset, size)
                at += size
                if not repeat:
                    connection.count_sent(size)
                    connection.last_used = now
                outgoing.on_sent(offset, size)
                if fin:
                    stream.fin_sent = True
                items.append(("stream", stream, offset, size, fin))
            if not stream.has_data:
                connection.ready.remove(stream)
            if capacity - at <= _STREAM_HEAD_SIZE:
                break
        return at

    def _transmit_probe(self, now: float, out: memoryview) -> Train:
        route, frame, size = self._probes.pop(0)
        if frame[0] == frames.PATH_CHALLENGE:
            token = _TOKEN.unpack_from(frame, 1)[0]
            if token in self._pings:
                self._pings[token] = now
        length = max(len(frame), size - PACKET_OVERHEAD - route.outer)
        self._scratch[:length] = frame.ljust(length, b"\0")
        counter, self._probe_counter = self._probe_counter, self._probe_counter + 1
        size = self._seal_on(out, 0, route, limits.PROBE_PATH, counter, length)
        self._session.epochs.packets += 1
        return Train(route.local, route.remote, size, size)

    def _transmit_mtu_probe(self, now: float, out: memoryview, path: Path) -> Train | None:
        """A padded PING. Pacing and window count it and do not hold it back: it is one datagram in a round trip."""
        size = path.next_mtu_probe(now)
        if size == 0:
            return None
        length = size - path.route.outer - PACKET_OVERHEAD
        self._scratch[:length] = bytes([frames.PING]).ljust(length, b"\0")
        self._seal_on(out, 0, path.route, path.id, path.counter, length)
        path.recovery.on_sent(Sent(path.counter, 1, now, size, size, items=[("mtu", size)]))
        path.recovery.pacer.spend(size)
        path.counter += 1
        path.last_sent = now
        path.sent_bytes += size
        self._session.epochs.packets += 1
        self._session.epochs.bytes += size
        return Train(path.route.local, path.route.remote, size, size)

    def _seal_on(self, out: memoryview, position: int, route: Route, path_id: int, counter: int, length: int) -> int:
        """Seals `scratch[:length]` at `out[position:]`, with the relay's header if the route has one; the size."""
        if route.circuit:
            RELAY_HEADER.pack_into(out, position, RELAYED, 0, 0, route.circuit)
        outer = route.outer
        return outer + self.seal(out, position + outer, path_id, counter, memoryview(self._scratch)[:length])
