from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.errors import ParseError
from covey.core.receive_buffer import _MERGE, _RUNS_LIMIT, ReceiveBuffer

WHOLE = bytes(range(256)) * 8
PIECES = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 60)), max_size=60)


@given(PIECES, st.lists(st.integers(-1, 50), min_size=1))
def test_receive_buffer_gives_every_byte_once_and_in_order(pieces: list[tuple[int, int]], reads: list[int]) -> None:
    buffer, arrived, got = ReceiveBuffer(), set(), b""
    for number, (offset, size) in enumerate(pieces):
        before = buffer.available
        grew = buffer.insert(offset, memoryview(WHOLE)[offset : offset + size])
        arrived |= set(range(offset, offset + size))
        first = next(value for value in range(400) if value not in arrived)
        assert grew == (buffer.available > before)
        assert buffer.next == first
        assert buffer.highest == max([buffer.highest, *arrived])
        assert buffer.available == first - len(got)
        if number % 3 == 0:
            limit = reads[number % len(reads)]
            data = buffer.read(limit)
            assert len(data) == (buffer.next - len(got) if limit < 0 else min(limit, buffer.next - len(got)))
            got += data
    got += buffer.read()
    assert got == WHOLE[: buffer.next]
    assert buffer.read() == b""


@given(st.lists(st.sampled_from((1, 7, 1000, 40_000, 70_000)), max_size=12), st.lists(st.integers(-2, 90_000)))
def test_receive_buffer_is_read_in_any_pieces(arrivals: list[int], reads: list[int]) -> None:
    """`read` with and without a limit and `read_piece` in any order: the bytes as they came."""
    buffer, whole, got = ReceiveBuffer(), b"", b""
    for number, size in enumerate(arrivals):
        data = bytes([number]) * size
        whole += data
        buffer.insert(buffer.next, data)
        for limit in reads[number : number + 2]:
            data = buffer.read_piece() if limit == -2 else buffer.read(limit)
            assert limit < 0 or len(data) <= limit
            assert data or not limit or len(got) == len(whole)
            got += data
            assert buffer.available == len(whole) - len(got)
    got += buffer.read()
    assert got == whole


def test_receive_buffer_hands_a_large_piece_on_as_it_came() -> None:
    buffer, large = ReceiveBuffer(), bytes(60_000)
    for data in (b"few", b"more", large, large, b"end"):
        buffer.insert(buffer.next, data)
    assert len(buffer.read_piece()) == 65_536, "little things together, and no more than it takes"
    assert buffer.read(54_471) == bytes(54_471)
    assert buffer.read_piece() == b"end"
    buffer.insert(buffer.next, large)
    buffer.insert(buffer.next, large)
    assert buffer.read_piece() is large
    assert buffer.available == 60_000


@given(PIECES)
def test_receive_buffer_keeps_each_byte_once(pieces: list[tuple[int, int]]) -> None:
    buffer, arrived = ReceiveBuffer(), set()
    for offset, size in pieces:
        buffer.insert(offset, WHOLE[offset : offset + size])
        arrived |= set(range(offset, offset + size))
        assert [stop - start for start, stop in zip(buffer._starts, buffer._stops, strict=True)] == [
            sum(map(len, run)) for run in buffer._runs
        ]
        assert all(stop < start for stop, start in zip(buffer._stops, buffer._starts[1:], strict=False))
        kept = sum(len(piece) for run in buffer._runs for piece in run) + buffer.available
        assert kept == len(arrived)


def test_receive_buffer_does_not_pin_a_packet_for_a_byte() -> None:
    buffer = ReceiveBuffer()
    buffer.insert(10, memoryview(WHOLE)[10:11])
    assert isinstance(buffer._runs[0][0], bytes)


def test_receive_buffer_joins_small_early_pieces() -> None:
    buffer = ReceiveBuffer()
    for offset in range(1, 3001):
        buffer.insert(offset, b"x")
    assert list(map(len, buffer._runs)) == [1]
    buffer.insert(0, b"x")
    assert buffer.read() == b"x" * 3001


def test_receive_buffer_refuses_more_pieces_than_an_honest_sender_makes() -> None:
    buffer = ReceiveBuffer()
    for number in range(_RUNS_LIMIT):
        buffer.insert(2 * number + 1, b"x")
    with pytest.raises(ParseError):
        buffer.insert(2 * _RUNS_LIMIT + 1, b"x")


def test_receive_buffer_counts_pieces_that_end_in_others() -> None:
    """From the back, two bytes at a time of which one is known: were each byte a piece, they would be millions."""
    buffer, top = ReceiveBuffer(), 4 * _RUNS_LIMIT
    buffer.insert(top, b"xx")
    for offset in range(top - 1, 0, -1):
        buffer.insert(offset, b"xx")
    assert len(buffer._runs) == 1
    assert len(buffer._runs[0]) <= 2 * (top // _MERGE) + 2


def test_receive_buffer_takes_a_whole_window_behind_one_gap() -> None:
    """One datagram lost on a long fat path: 16 MB arrive before it does."""
    buffer, datagram = ReceiveBuffer(), bytes(1400)
    for number in range(1, 12_000):
        buffer.insert(number * 1400, datagram)
    assert buffer.insert(0, datagram)
    assert buffer.available == 12_000 * 1400


def test_receive_buffer_discards() -> None:
    buffer = ReceiveBuffer()
    buffer.insert(0, b"abc")
    buffer.insert(10, b"x")
    buffer.discard()
    assert (buffer.available, buffer.read()) == (0, b"")
    assert not buffer._runs


@pytest.mark.parametrize("seed", range(3))
def test_receive_buffer_puts_a_shuffled_stream_in_order(seed: int) -> None:
    source = random.Random(seed)
    data = source.randbytes(200_000)
    pieces = [(offset, data[offset : offset + 1400]) for offset in range(0, len(data), 1400)] * 2
    source.shuffle(pieces)
    buffer = ReceiveBuffer()
    for offset, piece in pieces:
        buffer.insert(offset, piece)
    assert buffer.read() == data
