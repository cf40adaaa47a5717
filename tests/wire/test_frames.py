from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from covey.base.errors import ParseError
from covey.wire import frames
from covey.wire.frames import (
    AckFrame,
    CloseFrame,
    CryptoFrame,
    DatagramFrame,
    Frame,
    LimitFrame,
    PathFrame,
    PingFrame,
    ResetFrame,
    StopFrame,
    StreamFrame,
    parse_frames,
)

U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
DATA = st.binary(max_size=200).map(memoryview)


def encode(frame: Frame) -> bytes:
    match frame:
        case PingFrame():
            return bytes([frames.PING])
        case AckFrame(path, delay, ranges):
            return frames.encode_ack(path, delay, ranges)
        case CryptoFrame(offset, data):
            return frames.CRYPTO_HEAD.pack(frames.CRYPTO, offset, len(data)) + data
        case StreamFrame(stream, offset, data, fin):
            return frames.STREAM_HEAD.pack(frames.STREAM, int(fin), stream, offset, len(data)) + data
        case ResetFrame(stream, code, final):
            return frames.encode_reset(stream, code, final)
        case StopFrame(stream, code):
            return frames.encode_stop(stream, code)
        case LimitFrame(kind, stream, limit):
            return frames.encode_limit(kind, stream, limit)
        case DatagramFrame(stream, data):
            return frames.DATAGRAM_HEAD.pack(frames.DATAGRAM, stream, len(data)) + data
        case PathFrame(kind, data):
            return frames.encode_path(kind, data)
        case CloseFrame(code, reason):
            return frames.encode_close(code, reason)


@st.composite
def acks(draw: st.DrawFn) -> AckFrame:
    """Descending ranges with gaps of at least one between them."""
    numbers = draw(st.sets(st.integers(0, 400), min_size=1, max_size=60))
    base = draw(st.sampled_from([0, 1, 2**32, 2**63]))
    ranges: list[tuple[int, int]] = []
    for number in sorted(numbers, reverse=True):
        if ranges and ranges[-1][0] == base + number + 1:
            ranges[-1] = (base + number, ranges[-1][1])
        else:
            ranges.append((base + number, base + number))
    return AckFrame(draw(st.integers(0, 255)), draw(U16), ranges[: frames.ACK_RANGES_LIMIT])


FRAMES = st.one_of(
    st.just(PingFrame()),
    acks(),
    st.builds(CryptoFrame, U32, DATA),
    st.builds(StreamFrame, U32, U64, DATA, st.booleans()),
    st.builds(ResetFrame, U32, U32, U64),
    st.builds(StopFrame, U32, U32),
    st.builds(LimitFrame, st.just(frames.MAX_DATA), st.just(0), U64),
    st.builds(LimitFrame, st.just(frames.MAX_STREAM_DATA), U32, U64),
    st.builds(LimitFrame, st.just(frames.MAX_STREAMS), st.just(0), U32),
    st.builds(DatagramFrame, U32, DATA),
    st.builds(
        PathFrame, st.sampled_from([frames.PATH_CHALLENGE, frames.PATH_RESPONSE]), st.binary(min_size=8, max_size=8)
    ),
    st.builds(CloseFrame, U32, st.text(max_size=40)),
)


@given(st.lists(FRAMES, max_size=12), st.integers(0, 20))
def test_frames_round_trip(sent: list[Frame], padding: int) -> None:
    packet = b"".join(map(encode, sent)) + bytes(padding)
    assert list(parse_frames(packet)) == sent


@given(st.binary(max_size=400))
@example(b"\x02" + bytes(400))
@example(b"\x04" + b"\xff" * 400)
def test_frames_raise_parse_error_and_nothing_else(packet: bytes) -> None:
    try:
        found = list(parse_frames(packet))
    except ParseError:
        return
    if not any(isinstance(each, CloseFrame) and len(each.reason.encode()) > 200 for each in found):
        again = b"".join(map(encode, found))
        assert packet == again + bytes(len(packet) - len(again))


@given(
    st.lists(st.builds(DatagramFrame, U32, DATA), max_size=6),
    st.sampled_from((b"", b"", b"\0" * 9, b"\0\0\x01", bytes([frames.PING]))),
    st.integers(0, 3),
)
def test_only_datagrams_reads_what_the_parser_does_or_leaves_it(sent: list[Frame], end: bytes, cut: int) -> None:
    packet = b"".join(map(encode, sent)) + end
    packet = packet[: len(packet) - cut]
    try:
        parsed = list(parse_frames(packet))
    except ParseError:
        parsed = [PingFrame()]
    whole = all(isinstance(frame, DatagramFrame) for frame in parsed)
    expected = [(frame.stream, bytes(frame.data)) for frame in parsed if isinstance(frame, DatagramFrame)]
    assert frames.only_datagrams(packet) == (expected if whole else None)


@given(st.lists(FRAMES, min_size=1, max_size=4), st.data())
def test_frames_cut_short_are_refused_or_whole(sent: list[Frame], data: st.DataObject) -> None:
    encoded = [encode(frame) for frame in sent]
    packet = b"".join(encoded)
    cut = data.draw(st.integers(0, len(packet) - 1))
    ends = [sum(map(len, encoded[:count])) for count in range(len(encoded) + 1)]
    if cut in ends:
        assert list(parse_frames(packet[:cut])) == sent[: ends.index(cut)]
    else:
        with pytest.raises(ParseError):
            list(parse_frames(packet[:cut]))


# One row per frame type: the prose of the module's table, in bytes.
LAYOUTS = {
    "PING": ("01", PingFrame()),
    "ACK of one range": ("02 07 0003 00 0000000000000009 00000004", AckFrame(7, 3, [(6, 9)])),
    "ACK of two ranges": (
        "02 00 0000 01 0000000000000009 00000001 00000002 00000003",
        AckFrame(0, 0, [(9, 9), (4, 6)]),
    ),
    "ACK of everything": ("02 00 0000 00 0000000000000009 0000000a", AckFrame(0, 0, [(0, 9)])),
    "CRYPTO": ("03 00000005 0002 6162", CryptoFrame(5, memoryview(b"ab"))),
    "STREAM": ("04 00 00000003 0000000000000005 0002 6162", StreamFrame(3, 5, memoryview(b"ab"), False)),
    "STREAM with the end": ("04 01 00000003 0000000000000005 0000", StreamFrame(3, 5, memoryview(b""), True)),
    "RESET": ("05 00000003 00000001 0000000000000005", ResetFrame(3, 1, 5)),
    "STOP": ("06 00000003 00000001", StopFrame(3, 1)),
    "MAX_DATA": ("07 0000000000000005", LimitFrame(frames.MAX_DATA, 0, 5)),
    "MAX_STREAM_DATA": ("08 00000003 0000000000000005", LimitFrame(frames.MAX_STREAM_DATA, 3, 5)),
    "MAX_STREAMS": ("09 00000005", LimitFrame(frames.MAX_STREAMS, 0, 5)),
    "DATAGRAM": ("0a 00000003 0002 6162", DatagramFrame(3, memoryview(b"ab"))),
    "PATH_CHALLENGE": ("0b 0102030405060708", PathFrame(frames.PATH_CHALLENGE, bytes(range(1, 9)))),
    "PATH_RESPONSE": ("0c 0102030405060708", PathFrame(frames.PATH_RESPONSE, bytes(range(1, 9)))),
    "CLOSE": ("0d 00000002 03 627965", CloseFrame(2, "bye")),
}


@pytest.mark.parametrize(("layout", "frame"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_frame_has_its_documented_layout(layout: str, frame: Frame) -> None:
    assert encode(frame).hex() == layout.replace(" ", "")
    assert list(parse_frames(bytes.fromhex(layout))) == [frame]


def test_every_frame_type_is_documented() -> None:
    kinds = {name: value for name, value in vars(frames).items() if f" {name} " in (frames.__doc__ or "")}
    assert sorted(kinds.values()) == list(range(14))
    documented = [line.split()[:2] for line in (frames.__doc__ or "").splitlines() if line.startswith("0x")]
    assert {name: int(number, 16) for number, name in documented} == kinds


MALFORMED = {
    "unknown type": "0e",
    "high type": "ff",
    "padding with something behind it": "00 01",
    "ACK of nothing": "02 00 0000 00 0000000000000009 00000000",
    "ACK below zero": "02 00 0000 00 0000000000000009 0000000b",
    "ACK with a second range below zero": "02 00 0000 01 0000000000000009 00000001 00000008 00000002",
    "ACK with ranges that touch": "02 00 0000 01 0000000000000009 00000001 00000000 00000001",
    "ACK with an empty range": "02 00 0000 01 0000000000000009 00000001 00000001 00000000",
    "ACK with more ranges than bytes": "02 00 0000 02 0000000000000009 00000001 00000001 00000001",
    "ACK with too many ranges": "02 00 0000 20 0000000000000fff 00000001" + "00000001 00000001" * 32,
    "STREAM with an unknown flag": "04 02 00000003 0000000000000005 0000",
    "STREAM longer than its packet": "04 00 00000003 0000000000000005 0003 6162",
    "CRYPTO longer than its packet": "03 00000005 0003 6162",
    "DATAGRAM longer than its packet": "0a 00000003 0003 6162",
    "CLOSE longer than its packet": "0d 00000002 04 627965",
    "CLOSE that is not UTF-8": "0d 00000002 01 ff",
}


@pytest.mark.parametrize("packet", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_frame_is_refused(packet: str) -> None:
    with pytest.raises(ParseError):
        list(parse_frames(bytes.fromhex(packet)))


def test_frames_before_the_malformed_one_are_given() -> None:
    found = parse_frames(b"\x01\xff")
    assert next(found) == PingFrame()
    with pytest.raises(ParseError):
        next(found)


def test_encode_ack_writes_the_newest_ranges() -> None:
    ranges = [(2 * number, 2 * number) for number in range(100, 0, -1)]
    (frame,) = parse_frames(frames.encode_ack(0, 10**9, ranges))
    assert frame == AckFrame(0, 0xFFFF, ranges[: frames.ACK_RANGES_LIMIT])


@given(st.text(max_size=300))
def test_encode_close_cuts_the_reason_between_characters(reason: str) -> None:
    (frame,) = parse_frames(frames.encode_close(0, reason))
    assert isinstance(frame, CloseFrame)
    assert reason.startswith(frame.reason)
    assert len(frame.reason.encode()) > min(len(reason.encode()), 196) - 1
