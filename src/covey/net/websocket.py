"""A WebSocket as a port: trains travel as messages of a TLS connection (DESIGN 6, tier B).

`WebSocketPort` is both an asyncio protocol below TLS' plain side and a `UdpPort`: one remote, nothing lost on the way,
nothing reordered. The bytes are `websockets`' sans-IO machine's; here are its queues, and they are short: what waits
in a long one is late. Before the opening handshake is over a port receives and sends nothing.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from covey.base.errors import ParseError
from covey.wire.websocket import PATH, encode_train, parse_train

__all__ = ["CONGESTED_BYTES", "QUIET", "WebSocketPort"]

QUIET: Final = logging.getLogger("covey.net.websocket")
"""For the library, which tells of every connection that comes and goes."""
QUIET.setLevel(logging.WARNING)

CONGESTED_BYTES: Final = 256 * 1024
"""What may wait to be written until the port says that it is congested: four full trains. As much again may wait in the
kernel, where it supports TCP_NOTSENT_LOWAT."""
CONGESTED_SECONDS: Final = 0.05
LEAST_BYTES: Final = 16 * 1024
"""On a slow line, what leaves in so much time, but so many bytes at least. A quarter of it still waits when the port
says that it is not congested any more."""
SEND_LIMIT: Final = 512 * 1024
"""More than this never waits: who goes on sending to a congested port is told nothing, as on a wire ..."""
SEND_SECONDS: Final = 0.25
"""... nor what would wait for longer; 64 KiB at least."""
_FADES: Final = 0.5
"""A line is taken for so much slower at most from one measure to the next: perhaps it was us who were slow."""
RECEIVE_LIMIT: Final = 256 * 1024
"""Bytes received that nobody has taken yet, then the connection is not read: its other end waits."""
PING_SECONDS: Final = 15.0
"""Between two looks: silence of one is answered by a ping, of two is the end. Proxies and NATs forget after 30 s or
more; a network that went away does not say so."""
_SMALLEST: Final = 256
"""Bytes that the smallest message costs us, while it waits."""
_HANDSHAKE_LIMIT: Final = 16 * 1024
"""Bytes of the opening handshake: no request and no answer of ours is longer than 1 KiB, proxies add some."""
_PARTS_LIMIT: Final = 64
"""Frames of one message. We send one; what is on the way may cut it."""
_TCP_NOTSENT_LOWAT: Final = {"linux": 25, "darwin": 0x201}.get(sys.platform)


class WebSocketPort(asyncio.Protocol):
    """One connection, client's or server's side. See `net.host.UdpPort` for what every port does.

    `opened` is done when the opening handshake is over: "" or why it failed. `on_congestion(full)` tells when `send`
    should wait and when it may go on; what is sent in spite of it is kept up to `send_limit`, then lost. `on_closed()`
    is called once, when the connection is gone after it was open.
    """

    def __init__(self, protocol: ClientProtocol | ServerProtocol) -> None:
        self.local: tuple[str, int] = ("", 0)
        self.remote: tuple[str, int] = ("", 0)
        """Who is at the other end: for a client as its ticket says, for a server as its socket does."""
        self.lower: asyncio.Transport | None = None
        """What carries it, or will."""
        self.dropped = 0
        self.send_limit = SEND_LIMIT
        self._limit = SEND_LIMIT
        self.congested = False
        self.problem = ""
        """Why it is closed."""
        self.sent_bytes = 0
        self.received_bytes = 0
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[str] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._open = False
        self._inbox: deque[tuple[memoryview, int]] = deque()
        self._waiting = 0
        self._reading = True
        self._held = False
        self._parts: list[bytes | bytearray] = []
        self._heard = True
        self._silences = 0
        self._handshake_bytes = 0
        self._rate = float("inf")
        """Bytes a second that leave while the port is congested."""
        self._congested_at = 0.0
        self._to_leave = 0
        """What waited when it became congested, and what came since."""
        self._tick: asyncio.TimerHandle | None = None
        self._readable: Callable[[], None] | None = None
        self._congestion: Callable[[bool], None] | None = None
        self._closed: Callable[[], None] | None = None

    # --- UdpPort ---------------------------------------------------------------------------------------------------

    def receive(self) -> tuple[memoryview, int, tuple[str, int]] | None:
        if not self._inbox or self._held:
            return None
        view, segment = self._inbox.popleft()
        self._waiting -= max(len(view), _SMALLEST)
        self._read_or_not()
        return view, segment, self.remote

    def send(self, train: memoryview, segment: int, remote: tuple[str, int]) -> bool:
        """Always True: there is one connection, and whoever can wait is told by `on_congestion`."""
        transport = self._transport
        if (
            not self._open
            or transport is None
            or not len(train)
            or (self.congested and transport.get_write_buffer_size() + len(train) > min(self._limit, self.send_limit))
        ):
            self.dropped += 1
        else:
            self.sent_bytes += len(train)
            self._to_leave += len(train)
            self._protocol.send_binary(encode_train(train, segment))
            self._write()
        return True

    def on_readable(self, callback: Callable[[], None]) -> None:
        self._readable = callback

    def on_writable(self, callback: Callable[[], None]) -> None:
        """Never: `send` never returns False."""

    def close(self) -> None:
        """Says goodbye; what waits to be written still leaves if it can."""
        self._readable = self._congestion = self._closed = None
        self._finish("closed")
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(CloseCode.GOING_AWAY)
            self._write()
        self._inbox.clear()
        if self._transport is not None:
            self._transport.close()

    # --- and what else a connection has ------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self._open

    def hold(self) -> None:
        self._held = True
        self._read_or_not()

    def release(self) -> None:
        self._held = False
        self._read_or_not()
        if self._inbox and self._readable is not None:
            # Not from within whatever call released it: a turn of the driver, perhaps.
            self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        if self._readable is not None:
            self._readable()

    def on_congestion(self, callback: Callable[[bool], None]) -> None:
        self._congestion = callback

    def on_closed(self, callback: Callable[[], None]) -> None:
        if self.opened.done() and not self._open:
            self._loop.call_soon(callback)  # it was wrong from the start: nobody else would ever say so
        else:
            self._closed = callback

    def abort(self) -> None:
        """Ends it now, without a word."""
        if self.lower is not None:
            self.lower.abort()

    # --- asyncio -----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        if sock is not None:
            self.local = sock.getsockname()[:2]
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._set_limits()
        if isinstance(self._protocol, ClientProtocol):
            self._protocol.send_request(self._protocol.connect())
            self._write()

    def data_received(self, data: bytes) -> None:
        self._heard = True
        self._protocol.receive_data(data)
        arrived = len(self._inbox)
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._on_frame(event)
            elif isinstance(event, Request):
                self._on_request(event)
            elif isinstance(event, Response):
                self._on_response()
        self._write()
        self._judge(len(data))
        if len(self._inbox) > arrived and self._readable is not None:
            self._readable()

    def _judge(self, size: int) -> None:
        """Whether this connection may go on after `size` bytes more."""
        transport = self._transport
        if transport is None:
            return
        if self.congested and transport.get_write_buffer_size() > self._limit + CONGESTED_BYTES:
            self._finish("it asks and does not listen")  # each ping has its pong
            transport.abort()
        elif self._protocol.close_expected():
            self._finish("the other side closed the WebSocket")
            transport.close()
        elif not self.opened.done():
            self._handshake_bytes += size
            if self._protocol.handshake_exc is not None:
                self._opened(_why(self._protocol.handshake_exc))
            elif self._handshake_bytes > _HANDSHAKE_LIMIT:
                self._finish("its opening handshake is too long")
                transport.abort()

    def eof_received(self) -> None:
        self._protocol.receive_eof()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._finish(str(error) if error is not None else "the connection ended")

    def pause_writing(self) -> None:
        self._congested_at = self._loop.time()
        self._to_leave = 0 if self._transport is None else self._transport.get_write_buffer_size()
        self._congest(full=True)

    def resume_writing(self) -> None:
        self._congest(full=False)
        transport = self._transport
        if transport is not None:
            passed = max(self._loop.time() - self._congested_at, 1e-6)
            rate = max(self._to_leave - transport.get_write_buffer_size(), 0) / passed
            self._rate = rate if self._rate == float("inf") else max(rate, _FADES * self._rate)
            self._set_limits()  # which may find at once that it is congested

    def _set_limits(self) -> None:
        """As much as leaves soon: what waits behind more is late."""
        assert self._transport is not None
        most = int(min(max(self._rate * CONGESTED_SECONDS, LEAST_BYTES), CONGESTED_BYTES))
        self._limit = int(min(max(self._rate * SEND_SECONDS, 4 * LEAST_BYTES), SEND_LIMIT))
        self._transport.set_write_buffer_limits(most, most // 4)
        sock = self._transport.get_extra_info("socket")
        if sock is not None and _TCP_NOTSENT_LOWAT is not None:
            with suppress(OSError):  # it may be closed by now
                sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, most)

    # --- the WebSocket -----------------------------------------------------------------------------------------------

    def _on_request(self, request: Request) -> None:
        protocol = self._protocol
        assert isinstance(protocol, ServerProtocol)
        if protocol.close_expected():  # what came behind the request was wrong already
            self._opened("it is no WebSocket of Covey")
            return
        if request.path == PATH:
            protocol.send_response(protocol.accept(request))
        else:
            protocol.send_response(protocol.reject(404, "not found\n"))
        self._on_response()

    def _on_response(self) -> None:
        problem = self._protocol.handshake_exc
        if problem is None and self._protocol.state is State.OPEN:
            if self._protocol.subprotocol is None:
                self._fail(CloseCode.POLICY_VIOLATION, "it speaks another protocol")
                self._opened("it speaks another protocol")
                return
            self._open = True
            self._tick = self._loop.call_later(PING_SECONDS, self._look)
            self._opened("")
        else:
            self._opened(_why(problem) if problem is not None else "it is no WebSocket of Covey")

    def _opened(self, problem: str) -> None:
        if not self.opened.done():
            self.problem = problem
            self.opened.set_result(problem)

    def _on_frame(self, frame: Frame) -> None:
        if frame.opcode not in (Opcode.BINARY, Opcode.CONT):
            if frame.opcode is Opcode.TEXT:
                self._fail(CloseCode.UNSUPPORTED_DATA, "text")
            return
        message: bytes | bytearray = frame.data if isinstance(frame.data, bytes | bytearray) else bytes(frame.data)
        if not frame.fin or self._parts:
            self._parts.append(message)
            if len(self._parts) > _PARTS_LIMIT:
                self._fail(CloseCode.POLICY_VIOLATION, "too many parts")
            if not frame.fin:
                return
            message = b"".join(self._parts)
            self._parts.clear()
        self._take_untrusted(message)

    def _take_untrusted(self, message: bytes | bytearray) -> None:
        if not self._open:
            return
        try:
            view, segment = parse_train(bytearray(message))  # writable: what is sealed is opened in place
        except ParseError as error:
            self._fail(CloseCode.INVALID_DATA, error.message)
            return
        self.received_bytes += len(view)
        self._inbox.append((view, segment))
        self._waiting += max(len(view), _SMALLEST)
        self._read_or_not()

    def _read_or_not(self) -> None:
        """Reads the connection, or lets its other end wait: there is a band between the two."""
        if self._transport is None:
            return
        if self._reading and (self._held or self._waiting > RECEIVE_LIMIT):
            self._reading = False
            self._transport.pause_reading()
        elif not self._reading and not self._held and self._waiting <= RECEIVE_LIMIT // 2:
            self._reading = True
            self._transport.resume_reading()

    def _fail(self, code: CloseCode, why: str) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.fail(code, why)
        self._finish(why)

    def _write(self) -> None:
        transport = self._transport
        for data in self._protocol.data_to_send():
            if transport is None or transport.is_closing():
                return
            if data:
                transport.write(data)
            else:
                transport.close()

    def _congest(self, *, full: bool) -> None:
        self.congested = full
        if self._congestion is not None:
            self._congestion(full)

    def _look(self) -> None:
        """Every `PING_SECONDS`."""
        self._silences = 0 if self._heard or not self._reading else self._silences + 1
        if self._silences > 1:
            self._finish("nothing came for 30 seconds")
            self.abort()
            return
        if not self._heard and self._open:
            self._protocol.send_ping(b"")
            self._write()
        self._heard = False
        self._tick = self._loop.call_later(PING_SECONDS, self._look)

    def _finish(self, why: str) -> None:
        """Nothing travels any more."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        self._opened(why)
        if self._open:
            self._open = False
            self.problem = why
            closed, self._closed = self._closed, None
            if closed is not None:
                # Not from within whatever call noticed it: a turn of the driver, perhaps.
                self._loop.call_soon(closed)


def _why(error: Exception) -> str:
    if isinstance(error, InvalidStatus):
        return f"it answers with HTTP status {error.response.status_code}"
    return f"it answers with something else than a WebSocket ({type(error).__name__})"
