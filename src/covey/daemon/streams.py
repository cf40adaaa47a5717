"""`stream.sock`: a peer's stream as raw bytes on a Unix socket.

A client opens a stream with `POST /v1/streams` and gets a token, good for one connection and `OFFER_SECONDS`.
On `stream.sock` it sends the token and a newline and reads one status line, `ok` or `error CODE MESSAGE`;
from then on bytes pass unchanged in both directions. Shutting down the writing side is a half-close, both
ways. The other way a connection ends early (it is dropped, or the peer resets) is a reset, both ways.

Back-pressure: at most `BUFFER_SIZE` bytes are held in each direction; then the socket, or the stream, is not
read.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from dataclasses import dataclass

from covey.base.errors import CoveyError
from covey.base.schema import StreamView
from covey.daemon.logs import get_logger
from covey.daemon.peercred import is_own_user
from covey.node import Stream

__all__ = ["StreamOffers", "StreamServer"]

OFFER_SECONDS = 30.0
"""An opened stream that nobody attaches to is reset after this long. Ours."""

BUFFER_SIZE = 256 * 1024
"""Bytes copied at a time (DESIGN 5)."""

REQUEST_LIMIT = 128
"""Longest request line, bytes: a token is 43."""

REQUEST_SECONDS = 10.0
"""A connection that has not sent its request line by then is closed. Ours."""

_log = get_logger("covey.daemon.streams")


@dataclass
class _Offer:
    stream: Stream
    expiry: asyncio.TimerHandle


class StreamOffers:
    """Open streams that wait for their local program, by one-time token."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._offers: dict[str, _Offer] = {}
        self._resets: set[asyncio.Task[None]] = set()

    def offer(self, stream: Stream) -> StreamView:
        token = secrets.token_urlsafe(32)
        expiry = asyncio.get_running_loop().call_later(OFFER_SECONDS, self._expire, token)
        self._offers[token] = _Offer(stream, expiry)
        return StreamView(token, self._socket_path, OFFER_SECONDS)

    def take(self, token: str) -> Stream | None:
        """The stream of a token, once."""
        offer = self._offers.pop(token, None)
        if offer is None:
            return None
        offer.expiry.cancel()
        return offer.stream

    async def close(self) -> None:
        for token in list(self._offers):
            self._expire(token)
        await asyncio.gather(*self._resets)

    def _expire(self, token: str) -> None:
        stream = self.take(token)
        if stream is not None:
            task = asyncio.get_running_loop().create_task(_reset(stream))
            self._resets.add(task)
            task.add_done_callback(self._resets.discard)


class StreamServer:
    """The listener of `stream.sock` and its connections."""

    def __init__(self, offers: StreamOffers) -> None:
        self._offers = offers
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()

    async def start(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self._offers, self._connections), sock=listener)

    def stop_accepting(self) -> None:
        if self._server is not None:
            self._server.close()

    async def close(self) -> None:
        """Drop what is still attached (their streams are reset) and what nobody came for."""
        self.stop_accepting()
        copies = [connection.abort() for connection in list(self._connections)]
        await asyncio.gather(*(copy for copy in copies if copy is not None), return_exceptions=True)
        await self._offers.close()


class _Connection(asyncio.BufferedProtocol):
    """One local program: request line, status line, then two copying tasks.

    States: *asking* (no stream yet, what arrives is the request line, and possibly the first bytes after it),
    *copying*, *over*. Bytes from the socket land in `_buffer` and go straight on if the stream has room. Otherwise
    they are handed to the outward task as one `bytes`; while it has not taken them the socket is not read.
    """

    def __init__(self, offers: StreamOffers, connections: set[_Connection]) -> None:
        self._offers = offers
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray(BUFFER_SIZE)
        self._view = memoryview(self._buffer)
        self._request = b""
        self._stream: Stream | None = None
        self._copy: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._chunk = b""
        self._ended = False
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport

    def abort(self) -> asyncio.Task[None] | None:
        """Drop the connection; the task, if any, ends once the stream is reset."""
        self._transport.abort()
        if self._copy is not None:
            self._copy.cancel()
        return self._copy

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if not is_own_user(transport):
            _log.warning("connection from another user refused", socket="stream")
            transport.abort()
            return
        self._connections.add(self)
        self._deadline = self._loop.call_later(REQUEST_SECONDS, transport.abort)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._view[:nbytes])
        if self._stream is not None:
            self._deliver(data)
            return
        self._request += data
        line, newline, rest = self._request.partition(b"\n")
        if newline and len(line) <= REQUEST_LIMIT:
            self._attach(line, rest)
        elif len(self._request) > REQUEST_LIMIT:
            self._refuse("usage the first line must be a token")

    def eof_received(self) -> bool:
        if self._stream is None:
            return False
        self._ended = True
        self._arrived.set()
        return True

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()
        if self._copy is not None:
            self._copy.cancel()

    # ours

    def _attach(self, line: bytes, rest: bytes) -> None:
        stream = self._offers.take(line.decode("ascii", "replace").strip())
        if stream is None:
            self._refuse("bad-token this token was used, is too old, or was never given")
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._stream = stream
        self._request = b""
        self._transport.write(b"ok\n")
        if rest:
            self._deliver(rest)
        self._copy = self._loop.create_task(self._copy_both(stream))

    def _refuse(self, reason: str) -> None:
        self._transport.write(f"error {reason}\n".encode())
        self._transport.close()

    def _deliver(self, data: bytes) -> None:
        # The task writes what has to wait for room, and keeps the order: until it is done nothing more is read.
        if not self._chunk and self._stream is not None and self._stream.write_now(data):
            return
        self._chunk += data
        self._transport.pause_reading()
        self._arrived.set()

    async def _copy_both(self, stream: Stream) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._copy_outward(stream))
                tasks.create_task(self._copy_inward(stream))
        except* (CoveyError, OSError) as group:
            _log.info("stream ended early", reasons=[str(error) for error in group.exceptions])
            self._transport.abort()
            await _reset(stream)
        except* asyncio.CancelledError:
            await _reset(stream)
        else:
            self._transport.close()

    async def _copy_outward(self, stream: Stream) -> None:
        """Socket to stream, until the program shuts down its writing side."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            chunk, self._chunk = self._chunk, b""
            if chunk:
                await stream.write(chunk)
                self._transport.resume_reading()
            if self._ended and not self._chunk:
                await stream.finish()
                return

    async def _copy_inward(self, stream: Stream) -> None:
        """Stream to socket, until the peer finishes."""
        while data := await stream.read(BUFFER_SIZE):
            self._transport.write(data)
            await self._writable.wait()
        self._transport.write_eof()


async def _reset(stream: Stream) -> None:
    try:
        await stream.reset()
    except CoveyError:
        _log.debug("stream was already over")
