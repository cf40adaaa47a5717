"""What outlives keys: the streams between two identities, their limits and their cursors (PROTOCOL 19).

A connection is identified by 128 random bits, 64 from each side, which every handshake between the two carries. Any
number of sessions may come and go below it. It asks its current session to send by `wake`, and a session asks it for
what to send; neither knows the other's insides.

Stream ids: bit 0 says who opened it (0: the side with the lower identity), the rest counts up from 0. They do not
depend on who started the handshake, so two handshakes that cross need no renumbering.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from covey.base.errors import LimitError, ParseError, StateError
from covey.base.path_rules import NO_RULE, PathRule
from covey.base.types import Identity
from covey.core import limits
from covey.core.events import (
    ConnectionStalled,
    DatagramsReceived,
    Event,
    StreamOffered,
    StreamReadable,
    StreamReset,
    StreamsAllowed,
    StreamWritable,
)
from covey.core.ranges import RangeSet
from covey.core.stream import Stream
from covey.core.traffic import ReadyStreams, Traffic
from covey.core.windows import Budget, grown
from covey.wire import frames

if TYPE_CHECKING:
    from covey.core.path import Path
    from covey.core.session import Session

__all__ = ["Connection"]

_RESET_ROOM: Final = 26
"""Bytes of a RESET and a STOP frame."""
_DATAGRAM_QUEUE: Final = 256
"""Datagrams waiting to leave; more are dropped, oldest first: they are unreliable and their value is in being new."""


class Connection:
    """Streams and limits of one pair of identities.

    `emit` takes events. `local_half` and `remote_half` are the two halves of its id; the remote one is None until the
    first handshake is confirmed. `session` is the one to send on, None while there are no keys. `clock` gives seconds;
    one that stands still takes every reader for fast. `budget` is the node's.
    """

    __slots__ = (
        "_budget",
        "_clock",
        "_closed_remote",
        "_consumed",
        "_control_pending",
        "_datagrams",
        "_limit_dirty",
        "_max_receive",
        "_max_send",
        "_next_stream",
        "_opened_at",
        "_parity",
        "_received",
        "_sent",
        "_streams_allowed",
        "_streams_granted",
        "_streams_seen",
        "_streams_told",
        "_window",
        "admitted",
        "closed",
        "created",
        "datagrams_dropped",
        "direct",
        "emit",
        "heard_at",
        "keepalive",
        "last_used",
        "live",
        "local",
        "local_half",
        "peer",
        "ready",
        "remote_half",
        "rule",
        "session",
        "stalled_at",
        "stream_window",
        "streams",
        "words",
    )

    def __init__(
        self,
        local: Identity,
        peer: Identity,
        half: bytes,
        emit: Callable[[Event], None],
        *,
        clock: Callable[[], float] = lambda: 0.0,
        budget: Budget | None = None,
    ) -> None:
        self._clock = clock
        self._budget = budget or Budget()
        self.local = local
        self.peer = peer
        self.local_half = half
        self.remote_half: bytes | None = None
        self.emit = emit
        self.session: Session | None = None
        self.admitted = False
        """The node lets this peer do more than ask: larger windows."""
        self.rule: PathRule = NO_RULE
        """Which ways to this peer may be used, and in which order."""
        self.direct = False
        """Candidates may be exchanged with this peer."""
        self.keepalive: float | None = None
        """Seconds between pings on an otherwise silent path; None lets an idle path go quiet."""
        self.live = False
        """A verified peer has been there at least once."""
        self.closed = False
        self.created = 0.0
        self.last_used = float("-inf")
        """When application data last came or went, seconds."""
        self.heard_at = float("-inf")
        """When application data last came, seconds."""
        self.stalled_at: float | None = None
        self.words: dict[int, bytes] = {}
        """What every session with this peer says once its keys are post-quantum: control messages by their type."""
        self.streams: dict[int, Stream] = {}
        self.stream_window = limits.STRANGER_STREAM_WINDOW
        self._parity = 0 if local < peer else 1
        self._next_stream = 0
        self._streams_allowed = limits.STRANGER_STREAMS
        self._streams_granted = limits.STRANGER_STREAMS
        self._streams_told = limits.STRANGER_STREAMS
        self._streams_seen = 0
        self._closed_remote = RangeSet()
        self.ready = ReadyStreams()
        self._datagrams: list[tuple[Stream, bytes]] = []
        self.datagrams_dropped = 0
        """Of ours, that newer ones pushed out before they could leave. Only grows."""
        # connection-level flow control, bytes
        self._max_send = limits.STRANGER_CONNECTION_WINDOW
        self._sent = 0
        self._window = limits.STRANGER_CONNECTION_WINDOW
        self._opened_at = float("-inf")
        """When the window was last opened further, seconds."""
        self._max_receive = limits.STRANGER_CONNECTION_WINDOW
        self._received = 0
        self._consumed = 0
        # control frames that must reach the peer: rebuilt from state, so losing one costs nothing but a repeat
        self._limit_dirty: dict[tuple[int, int], None] = {}
        self._control_pending = False

    # --- for the node --------------------------------------------------------------------------------------------

    def open(self, service: str, *, min_epoch: int = 1, traffic: Traffic = Traffic.DEFAULT) -> Stream:
        """Opens a stream for a service of the peer. LimitError while the peer allows no more streams."""
        if self.closed:
            raise StateError("the connection is closed", code="connection-closed")
        if self._next_stream >= self._streams_allowed:
            raise LimitError("the peer allows no more streams now", code="too-many-streams")
        raw = service.encode("ascii")
        if not 0 < len(raw) <= limits.SERVICE_LIMIT:
            raise ValueError("a service name has 1 to 128 bytes")
        number = self._next_stream << 1 | self._parity
        self._next_stream += 1
        stream = Stream(self, number, opener=True, service=service)
        stream.min_epoch = min_epoch
        stream.traffic = traffic
        self.streams[number] = stream
        stream.write(bytes([len(raw)]) + raw)
        self._widen(stream)
        return stream

    def send_datagram(self, stream: Stream, data: bytes) -> None:
        """Sends bytes that belong to a stream's service, once, unordered, perhaps never. LimitError over one packet."""
        if len(data) > limits.INITIAL_MTU - 64:
            raise LimitError("a datagram has at most 1136 bytes", code="datagram-too-large")
        if len(self._datagrams) >= _DATAGRAM_QUEUE:
            self._datagrams.pop(0)
            self.datagrams_dropped += 1
        self._datagrams.append((stream, data))
        self.wake()

    def ping(self, token: int) -> None:
        """Asks for a `Ponged` event with this 64-bit token. Unreliable: ask again after a while."""
        if self.session is not None:
            self.session.ping(token)

    def say(self, kind: int, body: bytes) -> None:
        """A control message that replaces the last one of its type, now and in every session to come."""
        if self.words.get(kind) != body:
            self.words[kind] = body
            if self.session is not None:
                self.session.say_words()

    def set_rule(self, rule: PathRule) -> None:
        """From now on."""
        if rule != self.rule:
            self.rule = rule
            if self.session is not None:
                self.session.paths.reconsider()

    def may_use(self, path: Path) -> bool:
        """Whether data of this connection may travel on a path."""
        return not path.route.circuit or self.rule.relay == "data"

    @property
    def waits_for_direct(self) -> bool:
        """There is something to send that no relay may carry."""
        return self.rule.relay != "data" and bool(self.ready)

    def in_use(self, now: float) -> bool:
        """Whether data went either way lately: what is in use is kept working."""
        return now < self.last_used + limits.ACTIVE_SECONDS

    def admit(self, *, direct: bool = True) -> None:
        """The node trusts this peer: full windows and, if `direct`, an exchange of candidates. Idempotent."""
        if direct and not self.direct:
            self.direct = True
            if self.session is not None:
                self.session.exchange_candidates()
        if self.admitted:
            return
        self.admitted = True
        self.stream_window = limits.STREAM_WINDOW
        self._window = limits.CONNECTION_WINDOW
        self._streams_granted = limits.STREAMS
        self._max_receive = self._consumed + self._window
        self._dirty(frames.MAX_DATA, 0)
        self._dirty(frames.MAX_STREAMS, 0)
        for stream in self.streams.values():
            self._widen(stream)

    # --- for streams ---------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something waits to be sent. Without keys, says so once, so that the node brings a session."""
        if self.session is not None:
            self.session.wake()
        elif self.live and not self.closed and self.stalled_at is None:
            self.stalled_at = self.last_used
            self.emit(ConnectionStalled(self))

    def queue(self, stream: Stream) -> None:
        """The stream has something to send."""
        if not stream.closed:
            self.ready.add(stream)
        self.wake()

    def queue_control(self) -> None:
        """A RESET, STOP or limit has to be (re)sent: the next packet is built from the streams' state."""
        self._control_pending = True
        self.wake()

    def credit(self, stream: Stream, size: int) -> None:
        """The program took `size` bytes: widens the windows when half of one is used up."""
        if size == 0:
            return
        stream._counted += size
        self._consumed += size
        if self._consumed + self._window - self._max_receive >= self._window // 2:
            self._grow()
            self._max_receive = self._consumed + self._window
            self._dirty(frames.MAX_DATA, 0)
        used = stream._counted + stream.window - stream.max_receive
        if stream.final_size is None and not stream.closed and used >= stream.window // 2:
            self._grow_stream(stream)
            stream.max_receive = stream._counted + stream.window
            self._dirty(frames.MAX_STREAM_DATA, stream.id)

    def count_received(self, size: int) -> None:
        """New bytes of some stream arrived. ParseError: more than the connection's window."""
        self._received += size
        if self._received > self._max_receive:
            raise ParseError("more bytes than the connection's window")

    def settle(self, stream: Stream) -> None:
        """Lets a stream go once both of its directions are done."""
        if stream.closed or not (stream.sending_done and stream.receiving_done):
            return
        self._drop(stream)

    # --- for the session -----------------------------------------------------------------------------------------

    @property
    def has_output(self) -> bool:
        return bool(self.ready or self._limit_dirty or self._control_pending or self._datagrams)

    def send_allowance(self, stream: Stream) -> int:
        """New bytes of a stream that the peer's connection window lets through; bulk leaves some for the others."""
        room = self._max_send - self._sent
        return room - limits.INTERACTIVE_ROOM if stream.bulk else room

    @property
    def only_stream(self) -> Stream | None:
        """The stream with something to send, if there is just one and nothing else of the connection waits."""
        if self._limit_dirty or self._control_pending or self._datagrams:
            return None
        stream = self.ready.only
        return None if stream is None or stream.reset_code is not None else stream

    def count_sent(self, size: int) -> None:
        self._sent += size

    def take_control(self, room: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
        """Control frames that fit `room` bytes, each with the item to give back to `on_control_lost`."""
        for key in list(self._limit_dirty):
            encoded = self._encode_limit(*key)
            if encoded is None:
                del self._limit_dirty[key]
                continue
            if len(encoded) > room:
                return
            room -= len(encoded)
            del self._limit_dirty[key]
            yield encoded, key
        if not self._control_pending:
            return
        for stream in list(self.streams.values()):
            if room < _RESET_ROOM:
                return
            if stream.reset_queued and stream.reset_code is not None:
                stream.reset_queued = False
                room -= 17
                yield (
                    frames.encode_reset(stream.id, stream.reset_code, stream.outgoing.end),
                    (frames.RESET, stream.id),
                )
            if stream.stop_queued and stream.stop_code is not None and stream.final_size is None:
                stream.stop_queued = False
                room -= 9
                yield frames.encode_stop(stream.id, stream.stop_code), (frames.STOP, stream.id)
        self._control_pending = False

    @property
    def has_control(self) -> bool:
        return bool(self._limit_dirty) or self._control_pending

    def take_datagrams(self, room: int, overhead: int, epoch: int) -> list[tuple[int, bytes]]:
        """(stream id, bytes) of the next ones: as many as fit with `overhead` each and may leave in this epoch."""
        taken = []
        seen = 0
        for stream, data in self._datagrams:
            size = overhead + len(data)
            if size > room or epoch < stream.min_epoch:
                break
            seen += 1
            if not stream.closed and stream.reset_code is None:
                taken.append((stream.id, data))
                room -= size
        del self._datagrams[:seen]
        return taken

    @property
    def has_datagrams(self) -> bool:
        return bool(self._datagrams)

    def on_control_acked(self, kind: int, number: int) -> None:
        if kind == frames.RESET:
            stream = self.streams.get(number)
            if stream is not None:
                stream.reset_acked = True
                self.settle(stream)

    def on_control_lost(self, kind: int, number: int) -> None:
        stream = self.streams.get(number)
        if kind == frames.RESET:
            if stream is not None and not stream.reset_acked:
                stream.reset_queued = True
                self.queue_control()
        elif kind == frames.STOP:
            if stream is not None and stream.final_size is None:
                stream.stop_queued = True
                self.queue_control()
        else:
            self._dirty(kind, number)

    def on_stream_acked(self, stream: Stream, offset: int, length: int, fin: bool) -> None:
        if length:
            stream.outgoing.on_acked(offset, length)
        if fin:
            stream.fin_acked = True
        if stream.write_blocked and stream.became_writable() and not stream.closed:
            self.emit(StreamWritable(stream))
        if fin or stream.fin_sent:
            self.settle(stream)

    def on_stream_lost(self, stream: Stream, offset: int, length: int, fin: bool) -> None:
        if stream.closed or stream.reset_code is not None:
            return
        stream.outgoing.on_lost(offset, length)
        if fin and not stream.fin_acked:
            stream.fin_sent = False
        if stream.has_data:
            self.queue(stream)

    def takes(self, number: int, offset: int, size: int) -> bool:
        """Whether so many bytes of a stream break no limit and end nothing, in whatever pieces they come."""
        stream = self.streams.get(number)
        if stream is None or not stream.offered or stream.final_size is not None:
            return False
        stop = offset + size
        return stop <= stream.max_receive and stop - stream.incoming.highest <= self._max_receive - self._received

    def receive_stream(
        self, number: int, offset: int, data: bytes | memoryview, fin: bool, epoch: int, now: float
    ) -> None:
        """A STREAM frame of an authenticated packet. ParseError: the peer breaks the protocol."""
        stream = self.streams.get(number)
        if stream is None:
            stream = self._incoming(number)
            if stream is None:
                return
        self.last_used = self.heard_at = now
        if epoch == 0:
            stream.early = True
        incoming = stream.incoming
        if offset == incoming.next and stream.offered and not stream.quiet and stream.final_size is None and not fin:
            # Hot path: the next bytes of a stream that is read and has not ended.
            size = len(data)
            if offset + size > stream.max_receive:
                raise ParseError("stream bytes beyond the window")
            if offset + size > incoming.highest:
                self.count_received(offset + size - incoming.highest)
            if incoming.insert(offset, data) and not stream.announced:
                stream.announced = True
                self.emit(StreamReadable(stream))
            return
        if stream.receive(offset, data, fin):
            if not stream.offered:
                if stream.take_prologue() is None:
                    if stream.arrived:
                        raise ParseError("a stream that ends before its service name")
                    return
                self.emit(StreamOffered(stream))
                if not stream.incoming.available and stream.final_size is None:
                    return
            if not stream.announced:
                stream.announced = True
                self.emit(StreamReadable(stream))
        if fin:
            self.settle(stream)

    def receive_reset(self, number: int, code: int, final: int) -> None:
        stream = self.streams.get(number) or self._incoming(number)
        if stream is None or stream.reset_received or stream.arrived:
            return
        if final < stream.incoming.highest or (stream.final_size not in (None, final)):
            raise ParseError("final size below what was sent")
        if final > stream.max_receive:
            raise ParseError("final size beyond the window")
        self.count_received(final - stream.incoming.highest)
        # What was sent and never arrives counts as taken, or the connection's window would leak.
        self.credit(stream, final - stream._counted)
        stream.incoming.discard()
        stream.incoming.next = stream.incoming.highest = stream.final_size = final
        stream.reset_received = True
        if stream.quiet:
            # The answer to our STOP. What we still write is none of its business.
            self.settle(stream)
        else:
            self._fail(stream, code)

    def receive_stop(self, number: int, code: int) -> None:
        stream = self.streams.get(number) or self._incoming(number)
        if stream is None or stream.sending_done or stream.reset_code is not None:
            return
        stream.reset_code = code
        stream.reset_queued = True
        stream.outgoing.discard()
        self.queue_control()
        if stream.failed is None and stream.offered:
            stream.failed = code
            self.emit(StreamReset(stream, code))
        self.settle(stream)

    def receive_limit(self, kind: int, number: int, limit: int) -> None:
        if kind == frames.MAX_DATA:
            self._max_send = max(self._max_send, limit)
            self.wake()
        elif kind == frames.MAX_STREAMS:
            if limit > self._streams_allowed:
                self._streams_allowed = limit
                self.emit(StreamsAllowed(self))
        else:
            stream = self.streams.get(number) or self._incoming(number)
            if stream is not None and limit > stream.max_send:
                stream.max_send = limit
                if stream.has_data:
                    self.queue(stream)

    def receive_datagrams(self, datagrams: Iterable[tuple[int, bytes]]) -> None:
        """DATAGRAM frames of one packet, (stream id, bytes). Nobody waits for those of streams that are not there."""
        last = -1
        together: list[bytes] = []
        for number, data in datagrams:
            if number != last:
                last, together = number, []
                stream = self.streams.get(number)
                if stream is not None and stream.offered:
                    self.emit(DatagramsReceived(stream, together))
            together.append(data)

    def rebind(self, session: Session) -> None:
        """Another session takes over: everything the peer must know is said again."""
        if self.session is not None and self.session is not session:
            session.paths.proving.take_over(self.session.paths.proving)
        self.session = session
        self.stalled_at = None
        if self.admitted:
            self._dirty(frames.MAX_DATA, 0)
            self._dirty(frames.MAX_STREAMS, 0)
        for stream in self.streams.values():
            if stream.max_receive > limits.STRANGER_STREAM_WINDOW:
                self._dirty(frames.MAX_STREAM_DATA, stream.id)
            if stream.has_data:
                self.queue(stream)
        session.say_words()
        self.wake()

    def lose(self, code: int) -> None:
        """Every stream ends: the other side no longer has its half of them."""
        self.closed = True
        self.session = None
        if self.admitted:
            self._budget.give(self._window - limits.CONNECTION_WINDOW)
        for stream in list(self.streams.values()):
            # What is complete stays complete: its bytes wait for their reader, and there is nothing to report.
            if not (stream.sending_done and stream.arrived):
                self._fail(stream, code)
            if not stream.closed:
                self._drop(stream)
        self._datagrams.clear()

    # --- helpers -------------------------------------------------------------------------------------------------

    def _incoming(self, number: int) -> Stream | None:
        """The stream a frame of the peer refers to for the first time, or None if it is over."""
        index = number >> 1
        if number & 1 == self._parity:
            if index >= self._next_stream:
                raise ParseError("a stream of ours that we never opened")
            return None
        if index in self._closed_remote:
            return None
        if index >= self._streams_granted:
            raise ParseError("more streams than allowed")
        stream = Stream(self, number, opener=False)
        self.streams[number] = stream
        self._streams_seen = max(self._streams_seen, index + 1)
        self._tell_streams()
        self._widen(stream)
        return stream

    def _widen(self, stream: Stream) -> None:
        """Gives a stream the connection's present window if it has less."""
        if self.stream_window > limits.STRANGER_STREAM_WINDOW and stream.final_size is None:
            stream.window = max(stream.window, self.stream_window)
            limit = stream._counted + stream.window
            if limit > stream.max_receive:
                stream.max_receive = limit
                self._dirty(frames.MAX_STREAM_DATA, stream.id)

    def _grow(self) -> None:
        """Half of the connection's window was read."""
        now = self._clock()
        if self.admitted and self.session is not None:
            elapsed, self._opened_at = now - self._opened_at, now
            more = grown(self._window, elapsed, self.session.round_trip, limits.CONNECTION_WINDOW_LIMIT) - self._window
            if more and self._budget.take(more):
                self._window += more

    def _grow_stream(self, stream: Stream) -> None:
        """Half of a stream's window was read."""
        now = self._clock()
        if self.admitted and self.session is not None:
            elapsed, stream.opened_at = now - stream.opened_at, now
            stream.window = grown(stream.window, elapsed, self.session.round_trip, limits.STREAM_WINDOW_LIMIT)

    def _dirty(self, kind: int, number: int) -> None:
        self._limit_dirty[(kind, number)] = None
        self.wake()

    def _encode_limit(self, kind: int, number: int) -> bytes | None:
        if kind == frames.MAX_DATA:
            return frames.encode_limit(kind, 0, self._max_receive)
        if kind == frames.MAX_STREAMS:
            self._streams_told = self._streams_granted
            return frames.encode_limit(kind, 0, self._streams_granted)
        stream = self.streams.get(number)
        if stream is None or stream.final_size is not None:
            return None
        return frames.encode_limit(kind, number, stream.max_receive)

    def _fail(self, stream: Stream, code: int) -> None:
        if stream.failed is None:
            stream.failed = code
            stream.outgoing.stop_growing()
            if stream.offered:
                self.emit(StreamReset(stream, code))
        self.settle(stream)

    def _drop(self, stream: Stream) -> None:
        stream.closed = True
        del self.streams[stream.id]
        if not stream.opener:
            index = stream.id >> 1
            self._closed_remote.add(index, index + 1)
            self._streams_granted += 1
            self._tell_streams()

    def _tell_streams(self) -> None:
        """Says how many streams the peer may open: before it runs out of them, not for every one that closed."""
        few = (limits.STREAMS if self.admitted else limits.STRANGER_STREAMS) // 2
        if self._streams_granted > self._streams_told and self._streams_told - self._streams_seen < few:
            self._dirty(frames.MAX_STREAMS, 0)
