"""One ordered, reliable byte stream, both directions.

The opener's first bytes are the name of the service it wants: {length 1, name}. They are ordinary stream bytes, so
they are retransmitted, flow-controlled and ordered like everything else, and the acceptor decides before any of the
bytes behind them reach a program.

States of each direction: sending open -> finished (FIN sent) -> done (all acknowledged), or reset. Receiving
open -> final size known -> done (everything read), or reset. A stream leaves its connection when both are done.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from covey.base.errors import ParseError, StateError
from covey.core import limits
from covey.core.receive_buffer import ReceiveBuffer
from covey.core.send_buffer import SendBuffer
from covey.core.traffic import Traffic

if TYPE_CHECKING:
    from covey.core.connection import Connection

__all__ = ["Stream", "StreamCode"]

_WRITE_BUFFER: Final = 4 * 1024 * 1024
"""Bytes that were never sent above which `writable` is 0. What is on its way is bounded by the windows."""


_CREDIT_STEP: Final = 16_384
"""Bytes of small messages that a program takes between two looks at the windows: a quarter of the smallest."""


class StreamCode(IntEnum):
    """Why a stream was reset. The code is all the peer learns."""

    CANCELLED = 0
    REFUSED = 1
    """The peer does not offer this service, to us."""
    PROTOCOL = 2
    LOST_STATE = 3
    NEEDS_PQ = 4
    """The service waits for the post-quantum ratchet."""
    INTERNAL = 5
    LIMIT = 6
    NOT_VERIFIED = 7
    """The certificate that the stream was admitted under is over, and no newer one was proven."""


class Stream:
    """What `core` and `node` share of a stream.

    Calls for the program: `write`, `finish`, `reset`, `read`, `stop`; attributes `writable`, `at_end`, `failed`.
    Changes come as events (`StreamReadable`, `StreamWritable`, `StreamReset`). The rest is for the session.
    """

    __slots__ = (
        "_counted",
        "_prologue",
        "_uncredited",
        "announced",
        "bulk",
        "closed",
        "connection",
        "early",
        "failed",
        "fin_acked",
        "fin_sent",
        "final_size",
        "finished",
        "id",
        "in_queue",
        "incoming",
        "max_receive",
        "max_send",
        "min_epoch",
        "offered",
        "opened_at",
        "opener",
        "outgoing",
        "quiet",
        "reset_acked",
        "reset_code",
        "reset_queued",
        "reset_received",
        "service",
        "stop_code",
        "stop_queued",
        "traffic",
        "window",
        "write_blocked",
    )

    def __init__(self, connection: Connection, number: int, *, opener: bool, service: str = "") -> None:
        self.connection = connection
        self.id = number
        self.opener = opener
        self.service = service
        self.incoming = ReceiveBuffer()
        self.outgoing = SendBuffer()
        self.window = connection.stream_window
        self.opened_at = float("-inf")
        """When the window was last opened further, seconds."""
        self.max_send = limits.STRANGER_STREAM_WINDOW
        self.max_receive = limits.STRANGER_STREAM_WINDOW
        self.min_epoch = 1
        """Epoch from which this stream's bytes may be sent: 1 waits for the post-quantum ratchet (PROTOCOL 20)."""
        self.early = False
        """Some of its bytes arrived in epoch 0."""
        self.finished = False
        self.fin_sent = False
        self.fin_acked = False
        self.reset_code: int | None = None
        self.reset_queued = False
        self.reset_acked = False
        self.reset_received = False
        """The peer gave up its direction: what was missing never comes."""
        self.final_size: int | None = None
        self.failed: int | None = None
        """The peer's reset code, once it reset its side or asked us to stop."""
        self.stop_code: int | None = None
        self.stop_queued = False
        self.offered = opener
        """The acceptor's program has been told about it."""
        self.closed = False
        self.quiet = False
        """Nobody reads: arriving bytes are dropped and credited at once."""
        self.traffic = Traffic.DEFAULT
        self.bulk = False
        """Others go first (`traffic.py`)."""
        self.in_queue = False
        self.announced = False
        """A `StreamReadable` is out and nothing was read since."""
        self._prologue = 0 if opener else -1
        self._counted = 0
        self._uncredited = 0
        self.write_blocked = False

    # --- for the program ---------------------------------------------------------------------------------------

    @property
    def writable(self) -> int:
        """Bytes that may be written without growing the send buffer beyond its bound."""
        room = max(0, _WRITE_BUFFER - self.outgoing.end + self.outgoing.sent)
        self.write_blocked = room == 0
        return room

    @property
    def at_end(self) -> bool:
        """Everything the peer sent has been read and there will be no more. Never after a reset of the peer's."""
        return self.arrived and not self.incoming.available

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queues bytes. They leave with the next turn. StateError after `finish`, `reset` or a loss of the stream."""
        if self.finished or self.reset_code is not None or self.closed or self.failed is not None:
            raise StateError("the stream is closed for writing", code="stream-closed")
        self.outgoing.write(data)
        self.connection.queue(self)

    def finish(self) -> None:
        """No more bytes from us; those written are still delivered. Idempotent."""
        if not self.finished and self.reset_code is None and not self.closed:
            self.finished = True
            self.outgoing.stop_growing()
            self.connection.queue(self)

    def reset(self, code: int = StreamCode.CANCELLED) -> None:
        """Gives up both directions: what was not delivered is dropped, the peer learns the code. Idempotent."""
        self.stop(code)
        if self.reset_code is None and not self.sending_done and not self.closed:
            self.reset_code = code
            self.reset_queued = True
            self.outgoing.discard()
            self.connection.queue_control()
            self.connection.settle(self)

    def stop(self, code: int = StreamCode.CANCELLED) -> None:
        """We read no more: what waits is dropped and the peer is asked to stop."""
        if self.quiet or self.closed:
            return
        if self.final_size is None:
            self.stop_code = code
            self.stop_queued = True
            self.connection.queue_control()
        self.ignore()

    def ignore(self) -> None:
        """We read no more: what waits and what still comes is dropped, and the peer is told nothing."""
        if self.quiet or self.closed:
            return
        self.quiet = True
        self.connection.credit(self, self.incoming.highest - self._counted)
        self.incoming.discard()
        self.incoming.next = self.incoming.highest
        self.connection.settle(self)

    def append(self, data: bytes) -> bool:
        """`write` of a little more of what waits to leave already. False if there is more to it."""
        outgoing = self.outgoing
        return self.in_queue and outgoing.sent < outgoing.end and outgoing.extend(data)

    def read(self, limit: int = -1) -> bytes:
        """Up to `limit` bytes that arrived in order; b"" if there are none now (`at_end` tells why)."""
        incoming = self.incoming
        if not incoming.available:
            return b""
        data = incoming.read(limit)
        self._took(len(data))
        return data

    def read_piece(self) -> bytes:
        """`read` of what is at hand, a large piece as it arrived."""
        incoming = self.incoming
        if not incoming.available:
            return b""
        data = incoming.read_piece()
        self._took(len(data))
        return data

    def take(self, size: int) -> bytes | None:
        """`read` of one of many small messages that have arrived: None unless more bytes than `size` are there.

        Costs less, because the peer hears of every 16 kB of them only.
        """
        incoming = self.incoming
        if size >= incoming.available or self._uncredited + size > _CREDIT_STEP:
            return None
        self._uncredited += size
        return incoming.read(size)

    def _took(self, size: int) -> None:
        """The program has taken `size` more bytes."""
        size += self._uncredited
        self._uncredited = 0
        self.announced = False
        self.connection.credit(self, size)
        if self.final_size is not None:
            self.connection.settle(self)

    # --- for the session ---------------------------------------------------------------------------------------

    @property
    def arrived(self) -> bool:
        """Every byte of the peer's is here, up to its FIN."""
        return not self.reset_received and self.final_size is not None and self.incoming.next == self.final_size

    @property
    def sending_done(self) -> bool:
        if self.reset_code is not None:
            return self.reset_acked
        return self.fin_acked and self.outgoing.acked == self.outgoing.end

    @property
    def receiving_done(self) -> bool:
        if self.final_size is None:
            return False
        return self.quiet or self.reset_received or self.at_end

    @property
    def has_data(self) -> bool:
        """Something of this stream could leave now, as far as its own limits go."""
        outgoing = self.outgoing
        return (
            bool(outgoing.lost)
            or min(outgoing.end, self.max_send) > outgoing.sent
            or (self.finished and not self.fin_sent and outgoing.sent == outgoing.end)
        )

    def receive(self, offset: int, data: bytes | memoryview, fin: bool) -> bool:
        """Bytes from the peer. True if something became readable. ParseError: the peer breaks its limits."""
        stop = offset + len(data)
        incoming = self.incoming
        if self.final_size is not None and (stop > self.final_size or (fin and stop != self.final_size)):
            raise ParseError("stream bytes beyond the final size")
        if stop > self.max_receive:
            raise ParseError("stream bytes beyond the window")
        if fin:
            if stop < incoming.highest:
                raise ParseError("final size below what was sent")
            self.final_size = stop
        if stop > incoming.highest:
            self.connection.count_received(stop - incoming.highest)
        if self.quiet:
            if stop > incoming.highest:
                skipped = stop - incoming.highest
                incoming.next = incoming.highest = stop
                self.connection.credit(self, skipped)
            return False
        grew = incoming.insert(offset, data)
        return grew or (fin and incoming.next == stop)

    def take_prologue(self) -> str | None:
        """The service name once it has arrived whole, else None. ParseError for one that cannot be a name."""
        incoming = self.incoming
        if self._prologue < 0:
            if not incoming.available:
                return None
            self._prologue = self.read(1)[0]
            if not 0 < self._prologue <= limits.SERVICE_LIMIT:
                raise ParseError("impossible service name")
        if incoming.available < self._prologue:
            return None
        raw = self.read(self._prologue)
        try:
            self.service = raw.decode("ascii")
        except UnicodeDecodeError as error:
            raise ParseError("impossible service name") from error
        if not self.service.isprintable() or " " in self.service:
            raise ParseError("impossible service name")
        self.offered = True
        return self.service

    def became_writable(self) -> bool:
        """After an acknowledgement: True once, when a writer that found no room finds some again."""
        if self.write_blocked and self.outgoing.end - self.outgoing.sent < _WRITE_BUFFER // 2:
            self.write_blocked = False
            return True
        return False
