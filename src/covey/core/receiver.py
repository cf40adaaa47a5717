"""What arrives for a session: opened, acknowledged, and each frame handed to whom it is for.

Calls, all from the endpoint: `receive_one` for the next packet alone, which says False if that is not what it is; then,
and for every train, `receive`. Frames of streams count once the peer is verified. Anything foreign that does not make
sense ends the session (`Session.break_off`), anything unauthentic is dropped without a trace.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from covey.base.errors import ParseError, VerifyError
from covey.base.types import Endpoint as Address
from covey.core import limits
from covey.core.path import Path, Route
from covey.core.received import ReceivedCounters
from covey.core.recovery import Sent
from covey.core.trains import RUN_MINIMUM, TRAIN_LIMIT, numbers, run_length
from covey.crypto.packet import NONCE, InvalidTag
from covey.wire import frames
from covey.wire.datagram import HEADER, HEADER_SIZE, PACKET_OVERHEAD
from covey.wire.frames import ACK_HEAD, STREAM_HEAD

if TYPE_CHECKING:
    from covey.core.connection import Connection
    from covey.core.session import Session, SessionOwner

__all__ = ["Receiver"]

_pack_nonce = NONCE.pack
_unpack_header = HEADER.unpack_from
_unpack_ack = ACK_HEAD.unpack_from
_unpack_stream = STREAM_HEAD.unpack_from
_ACK_HEAD_SIZE: Final = ACK_HEAD.size
_STREAM_HEAD_SIZE: Final = STREAM_HEAD.size
_STREAM_PLAIN: Final = frames.STREAM << 8
"""Type and flags of a STREAM frame that is not the last."""
_ACK_RANGES: Final = 4
"""Where an ACK frame says how many ranges follow the first."""


class Receiver:
    """See the module's text."""

    __slots__ = ("_owner", "_session")

    def __init__(self, session: Session, owner: SessionOwner) -> None:
        self._session = session
        self._owner = owner

    def receive_one(
        self, now: float, view: memoryview, path_id: int, epoch: int, counter: int, local: int, remote: Address
    ) -> bool:
        """Hot path of question and answer: the next packet, alone in `view`, on the way that we send on.

        False if it is anything else than an ACK of one range, a STREAM frame, or both: then nothing has happened, and
        all that happens here happens in `receive` too, at more length.
        """
        session = self._session
        connection, paths, epochs = session.connection, session.paths, session.epochs
        path = paths.active
        route = path.route
        if (
            connection is None
            or not session.verified
            or paths.stalled
            or epoch == epochs.unproven
            or route.remote != remote
            or route.local != local
            or route.circuit
            or paths.arrivals.get(path_id) != route
        ):
            return False
        received = session.acks.received.get(path_id)
        key = epochs.receiving.get(epoch)
        if received is None or key is None or not received.highs or counter != received.highs[-1] + 1:
            return False
        try:
            plain = key.aead.decrypt(_pack_nonce(path_id, counter), view[HEADER_SIZE:], view[:HEADER_SIZE])
        except InvalidTag:
            return True
        size = len(plain)
        at = flags = offset = 0
        if size >= _ACK_HEAD_SIZE and plain[0] == frames.ACK and plain[_ACK_RANGES] == 0:
            at = _ACK_HEAD_SIZE
        number = -1
        if at < size or not size:
            if size < at + _STREAM_HEAD_SIZE or plain[at] != frames.STREAM:
                return False
            _, flags, number, offset, length = _unpack_stream(plain, at)
            if at + _STREAM_HEAD_SIZE + length != size or flags > 1:
                return False
        path.received_bytes += len(view)
        try:
            if at:
                self._take_ack(now, plain)
            in_order = received.add(counter, now)
            if number >= 0:
                session.acks.note(now, path_id, at_once=not in_order)
                if session.retire_at is not None:
                    session.retire(now)
                connection.receive_stream(number, offset, plain[at + _STREAM_HEAD_SIZE :], flags == 1, epoch, now)
        except ParseError as error:
            session.break_off(now, error)
            return True
        if not session.in_ready and session.has_output(now):
            session.wake()
        return True

    def receive(self, now: float, view: memoryview, start: int, end: int, segment: int, route: Route) -> None:
        """The datagrams of one train that carry this session's index: [start, end) of `view`, `segment` bytes apart.

        What is made of bulk and of question and answer is taken by `_take_usual`, any other mixture of frames by
        `_receive_packet`, long runs of full datagrams by `_receive_runs`.
        """
        session = self._session
        skip = route.outer
        opened = False
        total = end - start
        if total >= RUN_MINIMUM * segment:
            start, opened = self._receive_runs(now, view, start, end, segment, route)
            if session.ended:
                return
        epochs = session.epochs
        last_path, received = -1, None
        wire_epoch, opener = -1, None
        for position in range(start, end, segment):
            stop = position + segment
            if stop > end:
                stop = end
            head = position + skip
            _, path_id, epoch, _, counter = _unpack_header(view, head)
            if path_id != last_path:
                received, last_path = session.acks.received.get(path_id), path_id
            if received is not None and not received.fresh(counter):
                continue
            if epoch != wire_epoch or opener is None:
                key = epochs.receiving.get(epoch)
                if key is None:
                    continue
                wire_epoch, opener = epoch, key.aead.decrypt
            try:
                plain = opener(_pack_nonce(path_id, counter), view[head + HEADER_SIZE : stop], view[head : head + 16])
            except InvalidTag:
                continue
            if not opened:
                opened = True
                newest = received is None or counter > received.highest
                if not session.confirmed:
                    session.confirmed = True
                    session.paths.confirmed_on(route)
                    self._owner.sessions.confirmed(session, now)
                    if session.ended:
                        return
                session.paths.arrived(now, route, path_id, total, newest=newest)
            if epoch == epochs.unproven:
                epochs.opened(epoch, now, session.paths.overlap())
                session.switched()
            if received is None:
                received = session.acks.counters(path_id)
            try:
                if not plain:
                    raise ParseError("an empty packet")
                if not self._take_usual(now, path_id, counter, plain, epoch, received):
                    self._receive_packet(now, route, path_id, counter, plain, epoch, received)
            except (ParseError, VerifyError) as error:
                session.break_off(now, error)
                return
            if session.ended:
                return

    def _receive_runs(
        self, now: float, view: memoryview, start: int, end: int, segment: int, route: Route
    ) -> tuple[int, bool]:
        """Hot path of bulk traffic: runs of new packets of a known epoch, opened together and taken in order.

        Does what `receive` does with each of them, as far as such runs go. Returns where that is, and whether anything
        was opened.
        """
        session = self._session
        opened = False
        total = end - start
        connection = session.connection
        if connection is None or not session.verified or segment - route.outer - PACKET_OVERHEAD <= _STREAM_HEAD_SIZE:
            return start, opened
        opener = self._owner.opener
        while (count := min((end - start) // segment, TRAIN_LIMIT)) >= RUN_MINIMUM:
            headers = numbers(count, segment).unpack_from(view, start + route.outer)
            count = run_length(headers, 0, 1)
            header, counter = headers[:2]
            path_id, epoch = header >> 48 & 0xFF, header >> 32 & 0xFFFF
            received, key = session.acks.received.get(path_id), session.epochs.receiving.get(epoch)
            if (
                count < RUN_MINIMUM
                or key is None
                or epoch == session.epochs.unproven
                or received is None
                or counter <= received.highest
                or path_id == limits.PROBE_PATH
            ):
                break
            run = view[start : start + count * segment]
            good = opener.open(key.aead.decrypt_into, run, count, segment, route.outer, header, counter)
            if good and not opened:
                opened = True
                session.paths.arrived(now, route, path_id, total, newest=True)
            try:
                self._take_run(now, route, path_id, counter, good, epoch, received, connection)
            except (ParseError, VerifyError) as error:
                session.break_off(now, error)
            if session.ended:
                break
            start += min(good + 1, count) * segment  # the first that does not open is nobody's
        return start, opened

    def _take_run(
        self,
        now: float,
        route: Route,
        path_id: int,
        counter: int,
        count: int,
        epoch: int,
        received: ReceivedCounters,
        connection: Connection,
    ) -> None:
        """What the opener holds of packets `counter` ...: data that goes on from one to the next is one piece."""
        session = self._session
        opener = self._owner.opener
        heads = opener.heads
        at = 0
        while at < count:
            high, low = heads[2 * at : 2 * at + 2]
            chunk = len(opener.plain[at]) - _STREAM_HEAD_SIZE
            length = 1
            if high >> 48 == _STREAM_PLAIN and low & 0xFFFF == chunk:
                length = run_length(heads, at, chunk << 16)
                number, offset = high >> 16 & 0xFFFF_FFFF, (high & 0xFFFF) << 48 | low >> 16
                if connection.takes(number, offset, length * chunk):
                    first = counter + at
                    in_order = received.add_run(first, first + length - 1, now)
                    session.acks.note(now, path_id, at_once=not in_order, count=length)
                    if session.retire_at is not None:
                        session.retire(now)
                    connection.receive_stream(number, offset, opener.data(at, length), False, epoch, now)
                    at += length
                    continue
            for each in range(at, at + length):
                plain = bytes(opener.plain[each])
                if not self._take_usual(now, path_id, counter + each, plain, epoch, received):
                    self._receive_packet(now, route, path_id, counter + each, plain, epoch, received)
                if session.ended:
                    return
            at += length

    def _take_usual(
        self, now: float, path_id: int, counter: int, plain: bytes, epoch: int, received: ReceivedCounters
    ) -> bool:
        """An ACK of one range, a STREAM frame, or both. False if a packet holds anything else: nothing has happened."""
        session = self._session
        connection = session.connection
        if connection is None or not session.verified:
            return False
        size, at = len(plain), 0
        if plain[0] == frames.ACK and size >= _ACK_HEAD_SIZE and plain[_ACK_RANGES] == 0:
            at = _ACK_HEAD_SIZE
            if at == size:
                self._take_ack(now, plain)
                received.add(counter, now)
                return True
        if size < at + _STREAM_HEAD_SIZE or plain[at] != frames.STREAM:
            return False
        _, flags, number, offset, length = _unpack_stream(plain, at)
        data = at + _STREAM_HEAD_SIZE
        if data + length != size or flags > 1:
            return False
        if at:
            self._take_ack(now, plain)
        session.acks.note(now, path_id, at_once=not received.add(counter, now))
        if session.retire_at is not None:
            session.retire(now)
        connection.receive_stream(number, offset, plain[data:], flags == 1, epoch, now)
        return True

    # --- any frame ---------------------------------------------------------------------------------------------------

    def _receive_packet(
        self, now: float, route: Route, path_id: int, counter: int, plain: bytes, epoch: int, received: ReceivedCounters
    ) -> None:
        """Everything but bulk: any mixture of frames."""
        session = self._session
        connection = session.connection
        datagrams = frames.only_datagrams(plain) if plain[0] == frames.DATAGRAM else None
        if datagrams is not None and connection is not None and session.verified:
            connection.last_used = connection.heard_at = now
            connection.receive_datagrams(datagrams)
            eliciting = 1
        else:
            parsed = list(frames.parse_frames(plain))
            eliciting = self._handle(now, route, parsed, len(plain), epoch)
            if eliciting < 0:
                return
        in_order = received.add(counter, now)
        if eliciting and session.retire_at is not None:
            session.retire(now)
        if eliciting and path_id != limits.PROBE_PATH:
            session.acks.note(now, path_id, at_once=eliciting > 1 or not in_order)

    def _handle(self, now: float, route: Route, parsed: Iterable[frames.Frame], size: int, epoch: int) -> int:
        """Acts on frames. 0: nothing to acknowledge, 1: acknowledge soon, 2: at once, -1: not at all.

        Frames of streams are for `_handle_stream_frame`, and only once the peer is verified.
        """
        session = self._session
        eliciting = 0
        left_out = challenged = False
        for frame in parsed:
            match frame:
                case frames.AckFrame(path=number, delay=delay, ranges=ranges):
                    self._on_ack(now, number, ranges, delay * frames.ACK_DELAY_UNIT)
                case frames.CryptoFrame(offset=offset, data=data):
                    eliciting = 2
                    session.control_messages.on_crypto(now, offset, data)
                case frames.PingFrame():
                    session.kept_at = now
                    eliciting = max(eliciting, 1)
                case frames.PathFrame(kind=frames.PATH_CHALLENGE) if challenged:
                    pass  # each answer is as long as this packet: one of them, or we would multiply what we get
                case frames.PathFrame(kind=kind, data=data):
                    challenged |= kind == frames.PATH_CHALLENGE
                    session.paths.on_path_frame(now, route, kind, data, size)
                case frames.CloseFrame(code=code, reason=reason):
                    self._owner.sessions.ended(session, now, code, reason, by_peer=True)
                    return 0
                case _:
                    eliciting = max(eliciting, 1)
                    if session.verified:
                        self._handle_stream_frame(now, frame, epoch)
                    else:
                        left_out = True
            if session.ended:
                return 0
        return -1 if left_out else eliciting

    def _handle_stream_frame(self, now: float, frame: frames.Frame, epoch: int) -> None:
        session = self._session
        connection = session.connection
        assert connection is not None
        match frame:
            case frames.StreamFrame(stream=number, offset=offset, data=data, fin=fin):
                connection.receive_stream(number, offset, data, fin, epoch, now)
            case frames.ResetFrame(stream=number, code=code, final=final):
                connection.receive_reset(number, code, final)
            case frames.StopFrame(stream=number, code=code):
                connection.receive_stop(number, code)
            case frames.LimitFrame(kind=kind, stream=number, limit=limit):
                connection.receive_limit(kind, number, limit)
            case frames.DatagramFrame(stream=number, data=data):
                connection.last_used = connection.heard_at = now
                connection.receive_datagrams([(number, bytes(data))])

    # --- acknowledgements --------------------------------------------------------------------------------------------

    def _take_ack(self, now: float, plain: bytes) -> None:
        """The ACK of one range that a packet begins with."""
        session = self._session
        _, number, delay, _, largest, count = _unpack_ack(plain)
        if not 0 < count <= largest + 1:
            raise ParseError("impossible ACK")
        path = session.paths.active
        if path.id == number:
            run = path.recovery.on_only_run_acked(now, largest - count + 1, largest, delay * frames.ACK_DELAY_UNIT)
            if run is not None:
                session.answered_at = now
                path.suspect = False
                path.failures = 0
                if path.narrow is not None and path.narrow.refuted((run,)):
                    path.narrow = None
                stream = run.stream
                if stream is not None:
                    stream.connection.on_stream_acked(stream, run.offset, run.length, run.fin)
                else:
                    self._acked(now, path, (run,))
                return
        self._on_ack(now, number, [(largest - count + 1, largest)], delay * frames.ACK_DELAY_UNIT)

    def _on_ack(self, now: float, number: int, ranges: list[tuple[int, int]], delay: float) -> None:
        session = self._session
        path = session.paths.by_id(number)
        if path is None:
            return
        if ranges[0][1] >= path.counter:
            raise ParseError("an acknowledgement of what was never sent")
        acked, lost = path.recovery.on_ack(now, ranges, delay)
        if acked:
            if path.narrow is not None and path.narrow.refuted(acked):
                path.narrow = None
            self._acked(now, path, acked)
        if lost:
            path.weigh_sizes(now, acked, lost)
            path.weigh_losses(acked, lost)
            session.lost(path, lost)

    def _acked(self, now: float, path: Path, runs: Iterable[Sent]) -> None:
        session = self._session
        session.answered_at = now
        path.suspect = False
        path.failures = 0
        for run in runs:
            stream = run.stream
            if stream is not None:
                stream.connection.on_stream_acked(stream, run.offset, run.length, run.fin)
            elif run.items is not None:
                for item in run.items:
                    session.item_acked(path, item)
