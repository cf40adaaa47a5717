from __future__ import annotations

import random

import pytest

from covey.base.constants import LOG_LIMIT
from covey.base.errors import ParseError
from covey.core import limits
from covey.core.crypto_stream import CryptoStream
from covey.wire import control
from covey.wire.frames import CryptoFrame, parse_frames


def frames(stream: CryptoStream, capacity: int = 1000) -> list[CryptoFrame]:
    scratch = bytearray(2000)
    end = stream.compose(scratch, 0, capacity, [])
    assert end <= capacity
    return [frame for frame in parse_frames(bytes(scratch[:end])) if isinstance(frame, CryptoFrame)]


def everything(stream: CryptoStream) -> list[CryptoFrame]:
    """All that may leave before something is acknowledged."""
    found = []
    while stream.has_data:
        found += frames(stream)
    return found


def test_messages_arrive_in_order_whatever_the_network_does() -> None:
    sender, receiver, source = CryptoStream(), CryptoStream(), random.Random(1)
    sent = [(source.randrange(1, 7), source.randbytes(source.randrange(600))) for _ in range(20)]
    for kind, body in sent:
        sender.send(kind, body)
    packets = everything(sender) * 2
    source.shuffle(packets)
    got = [message for packet in packets for message in receiver.receive(packet.offset, packet.data)]
    assert got == sent


def test_lost_bytes_are_sent_again() -> None:
    sender, receiver = CryptoStream(), CryptoStream()
    sender.send(control.OFFER, bytes(3000))
    first, *rest = everything(sender)
    for packet in rest:
        assert receiver.receive(packet.offset, packet.data) == []
    sender.on_lost(first.offset, len(first.data))
    assert sender.has_data
    (again,) = frames(sender)
    assert (again.offset, bytes(again.data)) == (first.offset, bytes(first.data))
    assert receiver.receive(again.offset, again.data) == [(control.OFFER, bytes(3000))]


def test_sender_never_has_more_under_way_than_the_peer_must_keep() -> None:
    sender = CryptoStream()
    for _ in range(10):
        sender.send(control.LOG, bytes(4000))
    packets = everything(sender)
    assert sum(len(packet.data) for packet in packets) == limits.CRYPTO_BUFFER
    assert not sender.has_data
    sender.on_acked(0, 1000)
    assert sum(len(packet.data) for packet in everything(sender)) == 1000


def test_receiver_keeps_so_much_and_no_more() -> None:
    receiver = CryptoStream()
    assert receiver.receive(limits.CRYPTO_BUFFER - 1, memoryview(b"x")) == []
    with pytest.raises(ParseError):
        receiver.receive(limits.CRYPTO_BUFFER, memoryview(b"x"))


def test_compose_leaves_room_alone_that_holds_no_byte() -> None:
    sender = CryptoStream()
    sender.send(control.WANT_REKEY)
    assert frames(sender, 7) == []
    assert len(frames(sender, 8)) == 1


@pytest.mark.parametrize(
    "size", [1, control.LOG_PIECE - 1, control.LOG_PIECE, control.LOG_PIECE + 1, 3 * control.LOG_PIECE]
)
def test_log_arrives_whole(size: int) -> None:
    sender, receiver = CryptoStream(), CryptoStream()
    raw = random.Random(size).randbytes(size)
    sender.send_log(raw)
    receiver.log_wanted = True
    logs = [
        receiver.take_log(body)
        for packet in everything(sender)
        for _, body in receiver.receive(packet.offset, packet.data)
    ]
    assert [log for log in logs if log is not None] == [raw]
    assert logs[-1] == raw
    assert not receiver.log_wanted


@pytest.mark.parametrize("body", [b"", b"\x02log"])
def test_malformed_piece_of_log_is_refused(body: bytes) -> None:
    receiver = CryptoStream()
    receiver.log_wanted = True
    with pytest.raises(ParseError):
        receiver.take_log(body)


def test_log_that_nobody_asked_for_is_refused() -> None:
    receiver = CryptoStream()
    with pytest.raises(ParseError):
        receiver.take_log(b"\x01log")
    receiver.log_wanted = True
    receiver.take_log(b"\x01log")
    with pytest.raises(ParseError):
        receiver.take_log(b"\x01log")


def test_log_is_bounded() -> None:
    receiver = CryptoStream()
    receiver.log_wanted = True
    with pytest.raises(ParseError):
        for _ in range(LOG_LIMIT // control.LOG_PIECE + 1):
            receiver.take_log(b"\x00" + bytes(control.LOG_PIECE))
