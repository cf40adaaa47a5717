"""Keys, packets and paths of one handshake: everything that dies with the keys.

States::

    unconfirmed --first packet opens--> confirmed --the peer's log verifies--> verified --> closed

The initiator is born confirmed. Until `verified` the session has no connection: who the peer is, is a claim. Only the
session's own frames (CRYPTO, ACK, PING, paths) count; a packet with others stays unacknowledged, so that the peer
sends them again. Frames arriving are handed to the connection, what the connection wants to send is asked for when
there is room: a session keeps no queue of application data.

Calls, all from the endpoint: `receive` for a train, `transmit` until None, `deadline` and `expire`. Anything foreign
that does not make sense ends the session with `PROTOCOL` (it was authenticated, so the peer is broken or hostile),
anything unauthentic is dropped without a trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from covey.base.errors import ParseError, VerifyError
from covey.base.types import Endpoint as Address
from covey.base.types import Identity
from covey.core import limits
from covey.core.acks import Acks
from covey.core.birthday import Runs
from covey.core.congestion import Congestion
from covey.core.crypto_stream import CryptoStream
from covey.core.events import Event, RelayingTold, RelaysTold
from covey.core.path import Path, Route
from covey.core.paths import Paths
from covey.core.quota import Quota
from covey.core.received import ReceivedCounters
from covey.core.recovery import Item, Sent
from covey.core.sender import Sender, Train
from covey.core.trains import RUN_MINIMUM, TRAIN_LIMIT, TrainOpener, TrainSealer, numbers, run_length
from covey.crypto.packet import NONCE, InvalidTag
from covey.wire import control, frames, relay
from covey.wire.birthday import Birthday
from covey.wire.datagram import HEADER, HEADER_SIZE, PACKET_OVERHEAD
from covey.wire.frames import ACK_HEAD, STREAM_HEAD

if TYPE_CHECKING:
    from covey.core.connection import Connection
    from covey.core.epochs import Epochs
    from covey.core.sessions import Sessions
    from covey.wire.handshake import HandshakePayload

__all__ = ["CloseCode", "Session", "SessionOwner"]

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


class CloseCode:
    """Why a connection or session ended: on the wire in CLOSE."""

    DONE: Final = 0
    IDLE: Final = 1
    PROTOCOL: Final = 2
    NOT_VERIFIED: Final = 3
    LOST_STATE: Final = 4
    SUPERSEDED: Final = 5
    SHUTDOWN: Final = 6


class SessionOwner(Protocol):
    """What a session asks of its endpoint."""

    scratch: bytearray
    """65,536 bytes for one plaintext at a time, shared by all sessions."""
    sealer: TrainSealer
    opener: TrainOpener
    hurried: bool
    """A session's deadline may be nearer than `MAX_ACK_DELAY`."""
    unread: bool
    """More has arrived than was received so far."""
    runs: Runs

    @property
    def sessions(self) -> Sessions:
        """Hears what becomes of a session."""

    @property
    def identity(self) -> Identity:
        """Our own."""

    def random(self, size: int) -> bytes: ...
    def new_congestion(self) -> Congestion:
        """The controller of a new path."""

    def emit(self, event: Event) -> None: ...
    def session_ready(self, session: Session) -> None:
        """It has something to send."""

    def relay_suspected(self, relay: Address) -> None:
        """Data through a relay gets no answer: perhaps it no longer knows where we are."""

    def quota(self, route: Route) -> Quota | None:
        """What the relay of a route passes on for us, if it said so."""

    def circuit_gone(self, relay: Identity, circuit: int) -> None:
        """This peer, if it relays for us, has closed a circuit."""

    def own_log(self) -> bytes: ...
    def candidates(self) -> control.Candidates: ...
    def port_families(self) -> Sequence[tuple[int, int]]:
        """(port index, 4 or 6) of every local port."""

    def close_ports(self, ports: Sequence[int]) -> None:
        """These were lent to a session (`PortsWanted`), which needs them no more."""


class Session:
    """See the module's text."""

    __slots__ = (
        "_answered_at",
        "_heard",
        "_kept_at",
        "_log_served",
        "_owner",
        "_rekey_asked",
        "_rekey_wanted",
        "_said",
        "acks",
        "certified_key",
        "claims_verified",
        "confirmed",
        "connection",
        "created",
        "crypto",
        "ended",
        "epochs",
        "in_ready",
        "initiator",
        "local_half",
        "local_index",
        "own_certificate",
        "paths",
        "payload",
        "peer_index",
        "retire_at",
        "scheduled",
        "sender",
        "verified",
    )

    def __init__(
        self,
        owner: SessionOwner,
        *,
        initiator: bool,
        local_index: int,
        peer_index: int,
        epochs: Epochs,
        payload: HandshakePayload,
        local_half: bytes,
        certified_key: bytes,
        own_certificate: bytes,
        claims_verified: bool,
        route: Route,
        now: float,
    ) -> None:
        self._owner = owner
        self.initiator = initiator
        self.local_index = local_index
        self.peer_index = peer_index
        self.epochs = epochs
        self.payload = payload
        """What the peer said of itself in the handshake."""
        self.local_half = local_half
        self.certified_key = certified_key
        """The transport key that the peer proved to hold."""
        self.own_certificate = own_certificate
        """What we proved ourselves by: if we have another certificate by now, the peer should see that one."""
        self.claims_verified = claims_verified
        """The handshake found the peer's log at hand and its chain complete."""
        self.created = now
        self.confirmed = initiator
        self.verified = False
        self.ended = False
        self.connection: Connection | None = None
        self.retire_at: float | None = None
        """A newer session carries the connection; this one opens packets until then."""
        self.in_ready = False
        self.scheduled: float | None = None
        """The deadline the endpoint's heap holds for this session."""
        self.acks = Acks()
        self.crypto = CryptoStream()
        self.paths = Paths(self, owner, route, now)
        self.sender = Sender(self, owner.scratch, owner.sealer)
        self._log_served = False
        self._rekey_wanted = False
        self._rekey_asked = -1
        self._said: dict[int, bytes] = {}
        """Of the connection's words, those that were said in this session."""
        self._heard: dict[int, relay.Relaying | dict[bytes, int]] = {}
        """The peer's, until it is verified."""
        self._answered_at = now
        """When the peer last acknowledged anything, seconds."""
        self._kept_at = now

    @property
    def in_hurry(self) -> bool:
        """Its next deadline may well be nearer than `MAX_ACK_DELAY`: pacing, or a loss that time will tell."""
        return self.sender.ready_at is not None or self.paths.active.recovery.judging

    @property
    def active(self) -> Path:
        """The path that carries the data."""
        return self.paths.active

    @property
    def round_trip(self) -> float:
        """The shortest that was seen on the active path, seconds."""
        return self.active.recovery.rtt.minimum

    @property
    def peer(self) -> Identity:
        return self.payload.identity

    # --- commands ------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        if not self.in_ready and not self.ended:
            self._owner.session_ready(self)

    def hurry(self) -> None:
        """Its next deadline may be nearer than those of ordinary traffic."""
        self._owner.hurried = True

    def start_ratchet(self) -> None:
        """The initiator offers the next epoch's keys."""
        self._rekey_wanted = False
        self.send_control(control.OFFER, self.epochs.offer())

    def consider_rekey(self, now: float) -> None:
        """When this key sealed enough, the initiator starts the ratchet; the responder asks for it, once an epoch."""
        if not self.epochs.due(now):
            return
        if self.initiator:
            self.start_ratchet()
        elif self._rekey_asked != self.epochs.epoch and self.epochs.worn:
            self._rekey_asked = self.epochs.epoch
            self.send_control(control.WANT_REKEY)

    def request_log(self) -> None:
        """Asks for the peer's key-event log, once."""
        if not self.crypto.log_wanted:
            self.crypto.log_wanted = True
            self.send_control(control.LOG_REQUEST)

    def send_control(self, kind: int, body: bytes = b"") -> None:
        self.crypto.send(kind, body)
        self.wake()

    def say_words(self) -> None:
        """Says what the connection has to say and this session has not said yet, if it may be said by now."""
        connection = self.connection
        if connection is None or connection.session is not self or not self.verified or self.epochs.epoch == 0:
            return
        for kind, body in connection.words.items():
            if self._said.get(kind) != body:
                self._said[kind] = body
                self.send_control(kind, body)

    def set_verified(self) -> None:
        """The peer's identity is proven: streams flow."""
        self.verified = True
        self.paths.exchange()
        self.say_words()
        for kind in list(self._heard):
            self._tell(kind)
        self.wake()

    def exchange_candidates(self) -> None:
        """Ours changed, or the node allows direct paths now."""
        self.paths.exchange()

    def ping(self, token: int) -> None:
        """Challenges the active path; the answer is a `Ponged` event."""
        self.sender.ping(token, self.active.route)

    def keep_alive(self) -> None:
        """Asks the peer for an acknowledgement now."""
        self.sender.ping_due = True
        self.wake()

    def rest(self, now: float) -> None:
        """Nothing is due: a session that has been silent keeps only what cannot be made again."""
        if now >= self.active.last_sent + limits.REST_SECONDS:
            self.epochs.rest()

    def retire(self, now: float) -> None:
        """Another session carries the connection: this one ends once the peer has stopped using it for three PTOs."""
        self.retire_at = now + max(self.paths.overlap(), 1.0)

    def abandon(self) -> None:
        """Gives everything in flight back to the connection."""
        for path in self.paths:
            self.lost(path, path.abandon())

    def end_idle(self, now: float, reason: str) -> None:
        """The session is over, the connection is not."""
        self._owner.sessions.ended(self, now, CloseCode.IDLE, reason, by_peer=False)

    def close(self, code: int, reason: str) -> bytes:
        """Ends the session. Returns one sealed datagram (without relay header) to send on `active.route`."""
        frame = frames.encode_close(code, reason)
        path = self.active
        out = bytearray(PACKET_OVERHEAD + len(frame))
        self.sender.seal(memoryview(out), 0, path.id, path.counter, memoryview(frame))
        path.counter += 1
        self.ended = True
        return bytes(out)

    # --- receiving -----------------------------------------------------------------------------------------------

    def receive_one(
        self, now: float, view: memoryview, path_id: int, epoch: int, counter: int, local: int, remote: Address
    ) -> bool:
        """Hot path of question and answer: the next packet, alone in `view`, on the way that we send on.

        False if it is anything else than an ACK of one range, a STREAM frame, or both: then nothing has happened, and
        all that happens here happens in `receive` too, at more length.
        """
        connection, paths, epochs = self.connection, self.paths, self.epochs
        path = paths.active
        route = path.route
        if (
            connection is None
            or not self.verified
            or paths.stalled
            or epoch == epochs.unproven
            or route.remote != remote
            or route.local != local
            or route.circuit
            or paths.arrivals.get(path_id) != route
        ):
            return False
        received = self.acks.received.get(path_id)
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
                self.acks.note(now, path_id, at_once=not in_order)
                if self.retire_at is not None:
                    self.retire(now)
                connection.receive_stream(number, offset, plain[at + _STREAM_HEAD_SIZE :], flags == 1, epoch, now)
        except ParseError as error:
            self._owner.sessions.ended(self, now, CloseCode.PROTOCOL, str(error), by_peer=False)
            return True
        if not self.in_ready and self.has_output(now):
            self.wake()
        return True

    def receive(self, now: float, view: memoryview, start: int, end: int, segment: int, route: Route) -> None:
        """The datagrams of one train that carry this session's index: [start, end) of `view`, `segment` bytes apart.

        What is made of bulk and of question and answer is taken by `_take_usual`, any other mixture of frames by
        `_receive_packet`, long runs of full datagrams by `_receive_runs`.
        """
        skip = route.outer
        opened = False
        total = end - start
        if total >= RUN_MINIMUM * segment:
            start, opened = self._receive_runs(now, view, start, end, segment, route)
            if self.ended:
                return
        epochs = self.epochs
        last_path, received = -1, None
        wire_epoch, opener = -1, None
        for position in range(start, end, segment):
            stop = position + segment
            if stop > end:
                stop = end
            head = position + skip
            _, path_id, epoch, _, counter = _unpack_header(view, head)
            if path_id != last_path:
                received, last_path = self.acks.received.get(path_id), path_id
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
                if not self.confirmed:
                    self.confirmed = True
                    self.paths.confirmed_on(route)
                    self._owner.sessions.confirmed(self, now)
                    if self.ended:
                        return
                self.paths.arrived(now, route, path_id, total, newest=newest)
            if epoch == epochs.unproven:
                epochs.opened(epoch, now, self.paths.overlap())
                self._switched()
            if received is None:
                received = self.acks.counters(path_id)
            try:
                if not plain:
                    raise ParseError("an empty packet")
                if not self._take_usual(now, path_id, counter, plain, epoch, received):
                    self._receive_packet(now, route, path_id, counter, plain, epoch, received)
            except ParseError as error:
                self._owner.sessions.ended(self, now, CloseCode.PROTOCOL, str(error), by_peer=False)
                return
            except VerifyError as error:
                self._owner.sessions.ended(self, now, CloseCode.NOT_VERIFIED, error.code, by_peer=False)
                return
            if self.ended:
                return

    def _receive_runs(
        self, now: float, view: memoryview, start: int, end: int, segment: int, route: Route
    ) -> tuple[int, bool]:
        """Hot path of bulk traffic: runs of new packets of a known epoch, opened together and taken in order.

        Does what `receive` does with each of them, as far as such runs go. Returns where that is, and whether anything
        was opened.
        """
        opened = False
        total = end - start
        connection = self.connection
        if connection is None or not self.verified or segment - route.outer - PACKET_OVERHEAD <= _STREAM_HEAD_SIZE:
            return start, opened
        opener = self._owner.opener
        while (count := min((end - start) // segment, TRAIN_LIMIT)) >= RUN_MINIMUM:
            headers = numbers(count, segment).unpack_from(view, start + route.outer)
            count = run_length(headers, 0, 1)
            header, counter = headers[:2]
            path_id, epoch = header >> 48 & 0xFF, header >> 32 & 0xFFFF
            received, key = self.acks.received.get(path_id), self.epochs.receiving.get(epoch)
            if (
                count < RUN_MINIMUM
                or key is None
                or epoch == self.epochs.unproven
                or received is None
                or counter <= received.highest
                or path_id == limits.PROBE_PATH
            ):
                break
            run = view[start : start + count * segment]
            good = opener.open(key.aead.decrypt_into, run, count, segment, route.outer, header, counter)
            if good and not opened:
                opened = True
                self.paths.arrived(now, route, path_id, total, newest=True)
            try:
                self._take_run(now, route, path_id, counter, good, epoch, received, connection)
            except ParseError as error:
                self._owner.sessions.ended(self, now, CloseCode.PROTOCOL, str(error), by_peer=False)
            except VerifyError as error:
                self._owner.sessions.ended(self, now, CloseCode.NOT_VERIFIED, error.code, by_peer=False)
            if self.ended:
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
                    self.acks.note(now, path_id, at_once=not in_order, count=length)
                    if self.retire_at is not None:
                        self.retire(now)
                    connection.receive_stream(number, offset, opener.data(at, length), False, epoch, now)
                    at += length
                    continue
            for each in range(at, at + length):
                plain = bytes(opener.plain[each])
                if not self._take_usual(now, path_id, counter + each, plain, epoch, received):
                    self._receive_packet(now, route, path_id, counter + each, plain, epoch, received)
                if self.ended:
                    return
            at += length

    def _take_usual(
        self, now: float, path_id: int, counter: int, plain: bytes, epoch: int, received: ReceivedCounters
    ) -> bool:
        """An ACK of one range, a STREAM frame, or both. False if a packet holds anything else: nothing has happened."""
        connection = self.connection
        if connection is None or not self.verified:
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
        self.acks.note(now, path_id, at_once=not received.add(counter, now))
        if self.retire_at is not None:
            self.retire(now)
        connection.receive_stream(number, offset, plain[data:], flags == 1, epoch, now)
        return True

    def _receive_packet(
        self, now: float, route: Route, path_id: int, counter: int, plain: bytes, epoch: int, received: ReceivedCounters
    ) -> None:
        """Everything but bulk: any mixture of frames."""
        connection = self.connection
        datagrams = frames.only_datagrams(plain) if plain[0] == frames.DATAGRAM else None
        if datagrams is not None and connection is not None and self.verified:
            connection.last_used = connection.heard_at = now
            connection.receive_datagrams(datagrams)
            eliciting = 1
        else:
            parsed = list(frames.parse_frames(plain))
            eliciting = self._handle(now, route, parsed, len(plain), epoch)
            if eliciting < 0:
                return
        in_order = received.add(counter, now)
        if eliciting and self.retire_at is not None:
            self.retire(now)
        if eliciting and path_id != limits.PROBE_PATH:
            self.acks.note(now, path_id, at_once=eliciting > 1 or not in_order)

    def _handle(self, now: float, route: Route, parsed: Iterable[frames.Frame], size: int, epoch: int) -> int:
        """Acts on frames. 0: nothing to acknowledge, 1: acknowledge soon, 2: at once, -1: not at all.

        Frames of streams are for `_handle_stream_frame`, and only once the peer is verified.
        """
        eliciting = 0
        left_out = challenged = False
        for frame in parsed:
            match frame:
                case frames.AckFrame(path=number, delay=delay, ranges=ranges):
                    self._on_ack(now, number, ranges, delay * frames.ACK_DELAY_UNIT)
                case frames.CryptoFrame(offset=offset, data=data):
                    eliciting = 2
                    self._on_crypto(now, offset, data)
                case frames.PingFrame():
                    self._kept_at = now
                    eliciting = max(eliciting, 1)
                case frames.PathFrame(kind=frames.PATH_CHALLENGE) if challenged:
                    pass  # each answer is as long as this packet: one of them, or we would multiply what we get
                case frames.PathFrame(kind=kind, data=data):
                    challenged |= kind == frames.PATH_CHALLENGE
                    self.paths.on_path_frame(now, route, kind, data, size)
                case frames.CloseFrame(code=code, reason=reason):
                    self._owner.sessions.ended(self, now, code, reason, by_peer=True)
                    return 0
                case _:
                    eliciting = max(eliciting, 1)
                    if self.verified:
                        self._handle_stream_frame(now, frame, epoch)
                    else:
                        left_out = True
            if self.ended:
                return 0
        return -1 if left_out else eliciting

    def _handle_stream_frame(self, now: float, frame: frames.Frame, epoch: int) -> None:
        connection = self.connection
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

    def _take_ack(self, now: float, plain: bytes) -> None:
        """The ACK of one range that a packet begins with."""
        _, number, delay, _, largest, count = _unpack_ack(plain)
        if not 0 < count <= largest + 1:
            raise ParseError("impossible ACK")
        path = self.paths.active
        if path.id == number:
            run = path.recovery.on_only_run_acked(now, largest - count + 1, largest, delay * frames.ACK_DELAY_UNIT)
            if run is not None:
                self._answered_at = now
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
        path = self.paths.by_id(number)
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
            self.lost(path, lost)

    def _acked(self, now: float, path: Path, runs: Iterable[Sent]) -> None:
        self._answered_at = now
        path.suspect = False
        path.failures = 0
        for run in runs:
            stream = run.stream
            if stream is not None:
                stream.connection.on_stream_acked(stream, run.offset, run.length, run.fin)
            elif run.items is not None:
                for item in run.items:
                    self._item_acked(path, item)

    def _item_acked(self, path: Path, item: Item) -> None:
        match item:
            case ("stream", stream, offset, length, fin):
                stream.connection.on_stream_acked(stream, offset, length, fin)
            case ("crypto", offset, length):
                self.crypto.on_acked(offset, length)
            case ("control", kind, number):
                if self.connection is not None:
                    self.connection.on_control_acked(kind, number)
            case ("mtu", size):
                path.on_mtu_probe(size, arrived=True)
                self.wake()

    def lost(self, path: Path, runs: list[Sent]) -> None:
        """What was in flight on `path` and must be sent again; each item goes back to where it came from."""
        for run in runs:
            if run.stream is not None:
                run.stream.connection.on_stream_lost(run.stream, run.offset, run.length, run.fin)
                continue
            for item in run.items or ():
                match item:
                    case ("stream", stream, offset, length, fin):
                        stream.connection.on_stream_lost(stream, offset, length, fin)
                    case ("crypto", offset, length):
                        self.crypto.on_lost(offset, length)
                    case ("control", kind, number):
                        if self.connection is not None:
                            self.connection.on_control_lost(kind, number)
                    case ("mtu", size):
                        path.on_mtu_probe(size, arrived=False)
                        self.wake()

    # --- control messages ------------------------------------------------------------------------------------------

    def _on_crypto(self, now: float, offset: int, data: memoryview) -> None:
        for kind, body in self.crypto.receive(offset, data):
            self._on_control(now, kind, body)
            if self.ended:
                return

    def _on_control(self, now: float, kind: int, body: bytes) -> None:
        if kind == control.OFFER:
            self.send_control(control.ANSWER, self.epochs.on_offer(body, now))
        elif kind == control.ANSWER:
            self.epochs.on_answer(body, now)
            self._switched()
        elif kind == control.WANT_REKEY:
            # One that crossed our offer is met by it.
            self._rekey_wanted = self.initiator and not self.epochs.offered
        elif kind == control.LOG_REQUEST:
            if not self._log_served:
                self._log_served = True
                self.crypto.send_log(self._owner.own_log())
                self.wake()
        elif kind == control.LOG:
            raw = self.crypto.take_log(body)
            if raw is not None:
                self._owner.sessions.log_received(self, raw, now)
        elif kind == control.CANDIDATES:
            self.paths.on_candidates(now, control.Candidates.parse(body))
        elif kind == control.SEEN:
            self.paths.on_seen(control.parse_seen(body))
        elif kind == control.BIRTHDAY:
            message, connection = Birthday.parse(body), self.connection
            current = connection.session if connection is not None else None
            (current or self).paths.proving.guessing.on_message(now, message)
        elif kind in (control.RELAYING, control.RELAYS, control.GONE):
            self._on_relay_control(kind, body)
        else:
            raise ParseError("unknown control message")

    def _on_relay_control(self, kind: int, body: bytes) -> None:
        if kind == control.GONE:
            circuit = relay.parse_gone(body)
            if self.verified:
                self._owner.circuit_gone(self.peer, circuit)
            return
        self._heard[kind] = relay.Relaying.parse(body) if kind == control.RELAYING else relay.parse_relays(body)
        self._tell(kind)

    def _tell(self, kind: int) -> None:
        """What the peer said about relays, once it is known who it is."""
        if self.verified and self.connection is not None:
            heard = self._heard.pop(kind)
            told = RelayingTold if isinstance(heard, relay.Relaying) else RelaysTold
            self._owner.emit(told(self.connection, heard))  # type: ignore[arg-type]

    def _switched(self) -> None:
        """We send in the next epoch from now on. What waited for the first, post-quantum one may go."""
        if self.epochs.epoch == 1:
            self.paths.exchange()
            self.say_words()
        if self.epochs.epoch >= self.epochs.lifetimes.epochs:
            self._owner.sessions.worn(self)
        self.wake()

    def has_output(self, now: float) -> bool:
        """Whether `transmit` is worth calling: something is due, or waits for room that there may be now."""
        ack_at = self.acks.at
        if (ack_at is not None and ack_at <= now) or self.crypto.has_data or self.sender.has_output:
            return True
        connection = self.connection
        return connection is not None and connection.session is self and connection.has_output

    # --- sending ---------------------------------------------------------------------------------------------------

    def transmit(self, now: float, out: memoryview) -> Train | None:
        """The next train of this session, written into `out`; None if nothing may leave now."""
        if self.confirmed and self.epochs.exhausted(now):
            self.end_idle(now, "keys used up")
            return None
        return self.sender.transmit(now, out)

    # --- time ------------------------------------------------------------------------------------------------------

    def deadline(self) -> float | None:
        """When `expire` is due, seconds."""
        due = self.paths.deadline()
        if not self.in_ready:
            # Who waits for its turn to send needs no reminder: asked at every turn, many would cost their square.
            for at in (self.acks.at, self.sender.ready_at):
                if at is not None and at < due:
                    due = at
        for at in (self.retire_at, self.epochs.deadline()):
            if at is not None and at < due:
                due = at
        connection, epochs = self.connection, self.epochs
        if connection is not None and connection.session is self:
            at = self._keepalive_at(connection)
            if at is not None and at < due:
                due = at
            if connection.keepalive is None:
                due = min(due, self._idle_at(connection))
            if connection.last_used >= epochs.since:
                epochs.use(connection.last_used)
            if self.initiator and epochs.due(epochs.rekey_at):
                due = min(due, epochs.since + limits.REKEY_GAP_SECONDS if self._rekey_wanted else epochs.rekey_at)
        if self.confirmed:
            due = min(due, epochs.hard_at)
            if not self.verified:
                due = min(due, self.created + limits.VERIFY_SECONDS)
        return due if due < float("inf") else None

    def expire(self, now: float) -> None:
        """Acts on every deadline that has passed."""
        self.epochs.expire(now)
        if self._end_is_due(now):
            return
        self.paths.expire(now)
        connection = self.connection
        if self.ended or connection is None or connection.session is not self:
            self.wake()
            return
        at = self._keepalive_at(connection)
        if at is not None and now >= at:
            self.sender.ping_due = True
        if connection.keepalive is None and now >= self._idle_at(connection):
            self.end_idle(now, "idle")
            return
        wanted = self._rekey_wanted and now >= self.epochs.since + limits.REKEY_GAP_SECONDS
        if self.initiator and self.epochs.due(self.epochs.rekey_at if wanted else now):
            self.start_ratchet()
        self.wake()

    def _end_is_due(self, now: float) -> bool:
        """Ends the session if its time is over, for whatever reason."""
        if self.confirmed and self.epochs.exhausted(now):
            self.end_idle(now, "keys used up")
        elif self.confirmed and not self.verified and now >= self.created + limits.VERIFY_SECONDS:
            # Not the peer's fault as far as we know: its connection lives on, and it may try again.
            self.end_idle(now, "no log")
        elif self.retire_at is not None and now >= self.retire_at:
            self._owner.sessions.ended(self, now, CloseCode.SUPERSEDED, "", by_peer=False)
        return self.ended

    def _idle_at(self, connection: Connection) -> float:
        """A PING of the peer counts: it may want the session kept although we do not."""
        return max(connection.last_used, self._kept_at) + limits.IDLE_SECONDS

    def _keepalive_at(self, connection: Connection) -> float | None:
        """When the active path has been silent for long enough to need a PING."""
        path = self.active
        if self.sender.ping_due or path.recovery.outstanding:
            return None
        if connection.keepalive is not None:
            return path.last_sent + connection.keepalive
        at = path.last_sent + limits.PATH_KEEPALIVE_SECONDS
        if connection.streams:
            # Who only receives cannot tell a pause from a NAT that moved, and only it can show the peer where it is
            # now: it asks each time the silence has doubled since the peer last acknowledged something, or asked.
            heard = connection.heard_at
            met = max(self._answered_at, self._kept_at)
            at = min(at, max(heard + limits.QUIET_SECONDS, 2 * met - heard))
        return at if at <= connection.last_used + limits.ACTIVE_SECONDS else None
