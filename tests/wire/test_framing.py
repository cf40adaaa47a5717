from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.errors import ParseError
from covey.wire.framing import FrameReader, encode_frame


@given(
    st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300)), max_size=8),
    st.lists(st.integers(1, 50), min_size=1),
)
def test_frames_are_found_however_the_stream_is_cut(messages: list[tuple[int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(encode_frame(kind, body) for kind, body in messages)
    reader, found, at = FrameReader(300), [], 0
    while at < len(stream):
        size = cuts[at % len(cuts)]
        found += reader.feed(stream[at : at + size])
        at += size
    assert found == messages
    assert reader.empty


def test_frame_has_its_documented_layout() -> None:
    assert encode_frame(7, b"ab").hex() == "00000003076162"
    assert encode_frame(7).hex() == "0000000107"


def test_reader_says_whether_a_part_waits() -> None:
    reader = FrameReader(10)
    assert reader.empty
    assert reader.feed(encode_frame(1, b"ab")[:-1]) == []
    assert not reader.empty
    assert reader.feed(b"b") == [(1, b"ab")]
    assert reader.empty


@pytest.mark.parametrize(("length", "fits"), [(0, False), (1, True), (11, True), (12, False), (2**32 - 1, False)])
def test_length_is_bounded_before_its_frame_arrives(length: int, fits: bool) -> None:
    head = length.to_bytes(4, "big") + b"\x01"
    if fits:
        FrameReader(10).feed(head)
    else:
        with pytest.raises(ParseError):
            FrameReader(10).feed(head)
