"""What is fuzzed: one function per face that foreign bytes reach, each holding the code to its contract.

A target takes any bytes and returns. It raises for whatever would be a bug: another exception than the documented one,
an accepted value that does not encode to the bytes it came from, work or memory out of proportion (`bounded`).
`python -m tests.fuzz` lets libFuzzer choose the bytes; `test_targets.py` plays the corpus and changes of it.
"""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
import zlib
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request

from covey.base.codec import Reader
from covey.base.config import bad_config, parse_config
from covey.base.errors import CoveyError, ParseError, UsageError, VerifyError
from covey.base.types import check_name, endpoint_text, parse_address, parse_endpoint, parse_identity
from covey.crypto.certificates import Delegation, TransportCertificate
from covey.crypto.credentials import load_recovery, load_secrets
from covey.crypto.events import KeyLog
from covey.crypto.mailbox import MailboxKey, MailboxKeys
from covey.crypto.one_time_code import parse_code
from covey.crypto.record import Record
from covey.crypto.seal import open_sealed
from covey.daemon.api import ROUTES
from covey.daemon.http import _read_request
from covey.daemon.options import parse_options
from covey.daemon.streams import REQUEST_LIMIT, StreamOffers, _Connection
from covey.net.gateways import parse_ipv4_routes, parse_ipv6_routes
from covey.net.mapping import is_reachable
from covey.node.mail import parse_id
from covey.wire import control, frames, introduction, messages, nat_pmp, pcp, relay, rendezvous, ssdp, trust
from covey.wire.birthday import Birthday
from covey.wire.datagram import (
    CookieReply,
    Initiation,
    MirrorRequest,
    MirrorResponse,
    RecordRequest,
    RecordResponse,
    Response,
)
from covey.wire.framing import FrameReader, encode_frame
from covey.wire.handshake import HandshakePayload
from covey.wire.ticket import Ticket
from tests.core.mallory import credentials
from tests.core.pair import WALL_START
from tests.fuzz.sessions import peer, stranger
from tests.fuzz.websocket import websocket

__all__ = ["TARGETS", "bounded"]

Target = Callable[[bytes], None]

FIXED_BYTES: Final = 2_000_000
BYTES_PER_BYTE: Final = 200
"""What a parser may allocate at its peak, for an input of so many bytes. An object for two bytes costs about 100."""


def bounded(target: Target, data: bytes) -> None:
    """The target, with its memory watched."""
    tracemalloc.start()
    try:
        target(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= FIXED_BYTES + BYTES_PER_BYTE * len(data), f"{peak} bytes for an input of {len(data)}"


def sampled(target: Target) -> Target:
    """The target, with its memory watched for every 16th input: the same ones each time."""

    def run(data: bytes) -> None:
        if zlib.crc32(data) % 16 == 0:
            bounded(target, data)
        else:
            target(data)

    return run


def _chunks(data: bytes) -> Iterable[bytes]:
    """Cut where the first byte says: readers are fed in pieces."""
    size = max(1, data[0]) if data else 1
    for start in range(1, len(data), size):
        yield data[start : start + size]


# --- datagrams, frames, control ---------------------------------------------------------------------------------------


def datagram(data: bytes) -> None:
    kinds = (Initiation, Response, CookieReply, RecordRequest, RecordResponse, MirrorRequest, MirrorResponse)
    introductions = (introduction.Greeting, introduction.Reply, introduction.Proof, introduction.Confirmation)
    for kind in kinds + introductions:
        with suppress(ParseError):
            parsed = kind.parse(data)
            if isinstance(parsed, Initiation):
                assert parsed.authenticated + parsed.mac1 + parsed.mac2 == data
            elif isinstance(parsed, MirrorRequest):
                assert parsed.prefix(parsed.nonce, elsewhere=parsed.elsewhere, port=parsed.port) + parsed.mac1 == data
            elif isinstance(parsed, introduction.Reply | introduction.Proof | MirrorResponse):
                assert parsed.encode() == data
    with suppress(ParseError):
        introduction.decode_record(data)


def packet(data: bytes) -> None:
    """The frames of one opened packet; what was understood is written as it was read, where one spelling exists."""
    with suppress(ParseError):
        at = 0
        for frame in frames.parse_frames(data):
            written = _frame(frame)
            if written is None:
                return
            assert data[at : at + len(written)] == written
            at += len(written)
        assert not any(data[at:])


def _frame(frame: frames.Frame) -> bytes | None:
    match frame:
        case frames.PingFrame():
            return bytes([frames.PING])
        case frames.AckFrame(path=path, delay=delay, ranges=ranges):
            return frames.encode_ack(path, delay, ranges)
        case frames.CryptoFrame(offset=offset, data=data):
            return frames.CRYPTO_HEAD.pack(frames.CRYPTO, offset, len(data)) + data
        case frames.StreamFrame(stream=stream, offset=offset, data=data, fin=fin):
            return frames.STREAM_HEAD.pack(frames.STREAM, fin, stream, offset, len(data)) + data
        case frames.ResetFrame(stream=stream, code=code, final=final):
            return frames.encode_reset(stream, code, final)
        case frames.StopFrame(stream=stream, code=code):
            return frames.encode_stop(stream, code)
        case frames.LimitFrame(kind=kind, stream=stream, limit=limit):
            return frames.encode_limit(kind, stream, limit)
        case frames.DatagramFrame(stream=stream, data=data):
            return frames.DATAGRAM_HEAD.pack(frames.DATAGRAM, stream, len(data)) + data
        case frames.PathFrame(kind=kind, data=data):
            return frames.encode_path(kind, data)
        case frames.CloseFrame(code=code, reason=reason):
            written = frames.encode_close(code, reason)
            return written if len(reason.encode()) <= 200 else None


def handshake_payload(data: bytes) -> None:
    with suppress(ParseError):
        assert HandshakePayload.parse(data).encode(len(data)) == data


def control_messages(data: bytes) -> None:
    reader = control.ControlReader()
    with suppress(ParseError):
        for piece in _chunks(data):
            for kind, body in reader.feed(piece):
                if kind == control.CANDIDATES:
                    assert control.Candidates.parse(body).encode() == body
                if kind == control.SEEN:
                    assert control.encode_seen(control.parse_seen(body)) == body
                elif kind == control.RELAYING:
                    assert relay.Relaying.parse(body).encode() == body
                elif kind == control.RELAYS:
                    assert relay.encode_relays(relay.parse_relays(body)) == body
                elif kind == control.GONE:
                    assert relay.encode_gone(relay.parse_gone(body)) == body
                elif kind == control.BIRTHDAY:
                    assert Birthday.parse(body).encode() == body


def router(data: bytes) -> None:
    """What a router, or somebody in its place, says to whoever asks it for a port; and the routes that name it."""
    with suppress(ParseError):
        answer = pcp.PcpAnswer.parse(data)
        if answer.external is not None:
            is_reachable(answer.external[0])
    with suppress(ParseError):
        is_reachable(nat_pmp.PmpAnswer.parse(data).address or "0.0.0.0")
    with suppress(ParseError):
        assert urlsplit(ssdp.parse_answer(data, "192.168.1.1")).hostname == "192.168.1.1"
    lines = data.decode("ascii", "replace").splitlines()
    for parse in (parse_ipv4_routes, parse_ipv6_routes):
        with suppress(ParseError):
            parse(lines)


# --- what services say ------------------------------------------------------------------------------------------------


def relay_frames(data: bytes) -> None:
    reader = FrameReader(relay.FRAME_LIMIT)
    with suppress(ParseError):
        for piece in _chunks(data):
            for kind, body in reader.feed(piece):
                for parse, encode in ((relay.parse_open, relay.encode_open), (relay.parse_opened, relay.encode_opened)):
                    with suppress(ParseError):
                        assert encode(parse(kind, body)) == encode_frame(kind, body)  # type: ignore[operator]


def trust_frames(data: bytes) -> None:
    reader = FrameReader(4096)
    with suppress(ParseError):
        for piece in _chunks(data):
            for kind, body in reader.feed(piece):
                for parse in (trust.TrustAction.parse, trust.parse_receipt):
                    with suppress(ParseError):
                        parsed = parse(kind, body)
                        if isinstance(parsed, trust.TrustAction):
                            assert parsed.encode() == encode_frame(kind, body)
                with suppress(ParseError):
                    assert trust.TrustLetter.parse(body).encode() == body


def message_frames(data: bytes) -> None:
    reader = FrameReader(messages.FRAME_LIMIT)
    with suppress(ParseError):
        for piece in _chunks(data):
            for kind, body in reader.feed(piece):
                with suppress(ParseError):
                    assert messages.MessageFrame.parse(body).encode()[5:] == body
                with suppress(ParseError):
                    assert messages.encode_skip(*messages.parse_skip(body))[5:] == body
                with suppress(ParseError):
                    assert messages.encode_number(kind, messages.parse_number(body)) == encode_frame(kind, body)
                with suppress(ParseError):
                    messages.parse_refused(body)


def rendezvous_frames(data: bytes) -> None:
    reader = FrameReader(rendezvous.FRAME_LIMIT)
    with suppress(ParseError):
        for piece in _chunks(data):
            for kind, body in reader.feed(piece):
                with suppress(ParseError):
                    assert rendezvous.encode(rendezvous.parse(kind, body)) == encode_frame(kind, body)


def rendezvous_body(data: bytes) -> None:
    """Without the frame around it, so that lengths need not fit."""
    if data:
        with suppress(ParseError):
            parsed = rendezvous.parse(data[0], data[1:])
            assert rendezvous.encode(parsed) == encode_frame(data[0], data[1:])


# --- signed things ----------------------------------------------------------------------------------------------------


def key_log(data: bytes) -> None:
    with suppress(ParseError, VerifyError):
        assert KeyLog.parse(data).raw == data


def signed(data: bytes) -> None:
    for kind in (Delegation, TransportCertificate, Record, MailboxKey):
        with suppress(ParseError):
            assert kind.parse(data).raw == data  # type: ignore[attr-defined]


def private_files(data: bytes) -> None:
    """Files that somebody else may have damaged."""
    for load in (load_secrets, load_recovery):
        with suppress(ParseError, VerifyError):
            load(data)
    with suppress(ParseError, VerifyError):
        MailboxKeys.load(data, credentials("one").identity)


def letter(data: bytes) -> None:
    with suppress(CoveyError):
        open_sealed(data, credentials("one").identity, _mailbox(), WALL_START)


@cache
def _mailbox() -> MailboxKeys:
    return MailboxKeys().rotated(credentials("one"), bytes(32), WALL_START)


# --- text -------------------------------------------------------------------------------------------------------------


def texts(data: bytes) -> None:
    """What people type, or programs hand on."""
    text = data.decode("utf-8", "surrogateescape")
    for parse in (parse_identity, parse_address, parse_code, parse_id, check_name):
        with suppress(CoveyError):
            parse(text)
    with suppress(CoveyError):
        endpoint = parse_endpoint(text)
        assert parse_endpoint(endpoint_text(endpoint)) == endpoint
    with suppress(ParseError):
        ticket = Ticket.parse(text)
        assert Ticket.parse(str(ticket)) == ticket


def config(data: bytes) -> None:
    found = parse_config(data, "config.toml")
    bad_config(found)
    with suppress(UsageError):
        parse_options([data.decode("utf-8", "surrogateescape")])


def codec(data: bytes) -> None:
    """The cursor, driven by the first half of the bytes over the second."""
    half = len(data) // 2
    reader = Reader(data[half:])
    with suppress(ParseError):
        for each in data[:half]:
            left = reader.remaining
            match each % 9:
                case 0:
                    reader.u8()
                case 1:
                    reader.u16()
                case 2:
                    reader.u32()
                case 3:
                    reader.u64()
                case 4:
                    assert len(reader.take(each)) == each
                case 5:
                    reader.block16(each * 64)
                case 6:
                    reader.text8(each)
                case 7:
                    reader.text16(each * 64)
                case _:
                    reader.done()
            assert 0 <= reader.remaining <= left
            assert reader.position + reader.remaining == len(data) - half


# --- the daemon's sockets ---------------------------------------------------------------------------------------------


def api(data: bytes) -> None:
    """A request of the local API: the route by the first byte, then path, query or body."""
    if not data:
        return
    route = ROUTES[data[0] % len(ROUTES)]
    body = data[1:]
    scope: dict[str, Any] = {
        "type": "http",
        "method": route.method,
        "headers": [(b"last-event-id", body[:8])] if route.method == "GET" and data[0] & 0x80 else [],
        "query_string": body if route.method == "GET" else b"",
        "path_params": {},
    }
    delivered = False

    async def receive() -> dict[str, Any]:
        nonlocal delivered
        assert not delivered, "the body is read twice"
        delivered = True
        return {"type": "http.request", "body": body, "more_body": False}

    with suppress(CoveyError):
        request = _at_once(_read_request(Request(scope, receive), route))
        assert isinstance(request, route.request)
        assert msgspec.convert(msgspec.to_builtins(request), route.request, strict=False) == request


def _at_once(call: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        call.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


def stream_request(data: bytes) -> None:
    """The request line on `stream.sock`, in pieces, over a real socket pair: an error line, always, or silence."""
    answer = _loop().run_until_complete(_ask_stream(list(_chunks(data[:600]))))
    line = data[1:600].partition(b"\n")
    if line[1] and len(line[0]) <= REQUEST_LIMIT:
        assert answer.startswith(b"error bad-token "), answer
    elif len(data[1:600]) > REQUEST_LIMIT:
        assert answer.startswith(b"error "), answer
    else:
        assert not answer


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


async def _ask_stream(pieces: list[bytes]) -> bytes:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours:
        ours.setblocking(False)
        transport, _ = await loop.connect_accepted_socket(lambda: _Connection(StreamOffers("s"), set()), theirs)
        with suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                await loop.sock_sendall(ours, piece)
                await asyncio.sleep(0)
            ours.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionResetError):
            while more := await loop.sock_recv(ours, 4096):
                answer += more
        transport.abort()
        return answer


TARGETS: Final[dict[str, Target]] = {
    "datagram": datagram,
    "packet": packet,
    "handshake-payload": handshake_payload,
    "control": control_messages,
    "relay": relay_frames,
    "router": router,
    "trust": trust_frames,
    "messages": message_frames,
    "rendezvous": rendezvous_frames,
    "rendezvous-body": rendezvous_body,
    "key-log": key_log,
    "signed": signed,
    "private-files": private_files,
    "letter": letter,
    "texts": texts,
    "config": config,
    "codec": codec,
    "api": api,
    "stream-request": stream_request,
    "stranger": stranger,
    "peer": peer,
    "websocket": websocket,
}
