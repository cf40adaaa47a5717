"""What a WebSocket's other end may say: to a rendezvous, to an agent, and what a proxy may answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from typing import Any

from websockets.client import ClientProtocol
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from covey.base.errors import ParseError
from covey.net.proxy import parse_connect_response
from covey.net.websocket import QUIET, RECEIVE_LIMIT, WebSocketPort
from covey.wire.websocket import DATAGRAMS_LIMIT, MESSAGE_LIMIT, PATH, SUBPROTOCOL, encode_train, parse_train

__all__ = ["REQUEST", "Connection", "frame", "server_protocol", "websocket"]

REQUEST = (
    f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
).encode()


def frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """A client's frame, masked with zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([(0x80 if fin else 0) | opcode]) + length + bytes(4) + payload


def websocket(data: bytes) -> None:
    """The first byte says who hears the rest, and in which pieces."""
    if not data:
        return
    who, rest = data[0] % 4, data[1:]
    if who == 3:
        with suppress(ParseError):
            status = parse_connect_response(rest)
            assert status is None or 0 <= status <= 999
        with suppress(ParseError):
            view, segment = parse_train(rest)
            assert encode_train(view, segment) == rest
        return
    _loop().run_until_complete(_hear(who, rest, 1 + data[0] // 4 * 40))


async def _hear(who: int, data: bytes, size: int) -> None:
    port = WebSocketPort(_client() if who == 2 else server_protocol())
    connection = Connection()
    port.connection_made(connection)
    if who == 1:
        port.data_received(REQUEST)
        assert port.is_open
    waiting = 0
    for start in range(0, len(data), size):
        if connection.closed or connection.paused:
            break
        piece = data[start : start + size]
        port.data_received(piece)
        waiting += len(piece)
    while (train := port.receive()) is not None:
        view, segment, _ = train
        assert 0 < segment <= len(view) <= segment * DATAGRAMS_LIMIT
        waiting -= len(view)
        view[:1] = b"\0"
    assert waiting >= 0
    assert connection.written <= 4096 + 4 * len(data), "it answers with more than it was asked"
    assert len(data) < RECEIVE_LIMIT
    port.connection_lost(None)
    assert not port.is_open
    assert port.opened.done()


class Connection(asyncio.Transport):
    """A connection whose other end takes everything; `waiting` bytes of it seem to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.written = self.waiting = 0
        self.limits: tuple[int | None, int | None] = (None, None)
        self.port: WebSocketPort | None = None
        self.closed = self.paused = False

    def write(self, data: Any) -> None:
        self.written += len(data)

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits = (high, low)
        if high is not None and self.waiting > high and self.port is not None:
            self.port.pause_writing()  # as asyncio does, from within

    def get_write_buffer_size(self) -> int:
        return self.waiting


def server_protocol() -> ServerProtocol:
    return ServerProtocol(subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=MESSAGE_LIMIT, logger=QUIET)


def _client() -> ClientProtocol:
    uri = WebSocketURI(secure=True, host="localhost", port=443, path=PATH, query="")
    return ClientProtocol(uri, subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=MESSAGE_LIMIT, logger=QUIET)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def seeds() -> Iterable[bytes]:
    """One of each."""
    train = frame(2, encode_train(b"aaabb", 3))
    return [
        b"\xc0" + REQUEST + train,
        b"\x01" + train + frame(9, b"ping") + frame(2, b"\0\1a", fin=False) + frame(0, b"b") + frame(8, b"\x03\xe8"),
        b"\xfd" + train * 3 + frame(1, b"text"),
        b"\xfe" + b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"\xff" + b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n",
        b"\xff" + encode_train(b"aaabb", 3),
    ]
