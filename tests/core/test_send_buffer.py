from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from covey.core.send_buffer import SendBuffer

PATTERN = bytes(range(251)) * 300


class SendBufferMachine(RuleBasedStateMachine):
    """A send buffer beside a model: the bytes written, and the state of each."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = SendBuffer()
        self.data = bytearray()
        self.acked: set[int] = set()
        self.lost: set[int] = set()
        self.sent = 0
        self.flying: list[tuple[int, int]] = []

    @rule(
        size=st.sampled_from([0, 1, 2, 10, 1000, 16_383, 16_384, 20_000]),
        kind=st.sampled_from([bytes, bytearray, memoryview]),
    )
    def write(self, size: int, kind: type) -> None:
        start = len(self.data) % 251
        data = PATTERN[start : start + size]
        self.buffer.write(kind(data))
        self.data += data

    @precondition(lambda self: self.sent < len(self.data) or self.lost)
    @rule(limit=st.integers(1, 30_000), piece=st.integers(1, 5000))
    def send(self, limit: int, piece: int) -> None:
        offset, size = self.buffer.next_range(limit)
        if self.lost:
            assert offset == min(self.lost)
        size = min(size, piece)
        if size <= 0:
            assert limit <= self.sent
            assert not self.lost
            return
        out = bytearray(size + 2)
        self.buffer.copy_into(out, 1, offset, size)
        assert out[1:-1] == self.data[offset : offset + size]
        self.buffer.on_sent(offset, size)
        self.lost -= set(range(offset, offset + size))
        self.sent = max(self.sent, offset + size)
        self.flying.append((offset, size))

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), again=st.booleans())
    def acknowledge(self, data: st.DataObject, again: bool) -> None:
        at = data.draw(st.integers(0, len(self.flying) - 1))
        offset, size = self.flying[at] if again else self.flying.pop(at)
        self.buffer.on_acked(offset, size)
        self.acked |= set(range(offset, offset + size))
        self.lost -= self.acked

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), again=st.booleans())
    def lose(self, data: st.DataObject, again: bool) -> None:
        at = data.draw(st.integers(0, len(self.flying) - 1))
        offset, size = self.flying[at] if again else self.flying.pop(at)
        self.buffer.on_lost(offset, size)
        self.lost |= set(range(offset, offset + size)) - self.acked

    @rule()
    def discard(self) -> None:
        self.buffer.discard()
        assert self.buffer.held == 0
        assert self.buffer.end == self.sent
        self.__init__()  # type: ignore[misc]

    @invariant()
    def agrees_with_the_model(self) -> None:
        buffer = self.buffer
        first = next((value for value in range(len(self.acked) + 1) if value not in self.acked), 0)
        assert buffer.acked == first
        assert (buffer.sent, buffer.end, buffer.held) == (self.sent, len(self.data), len(self.data) - first)
        assert {value for start, stop in buffer.lost for value in range(start, stop)} == self.lost

    @invariant()
    def holds_little_more_than_what_is_not_acknowledged(self) -> None:
        assert sum(map(len, self.buffer._chunks)) <= self.buffer.held + 20_000


TestSendBuffer = SendBufferMachine.TestCase
TestSendBuffer.settings = hypothesis_settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_send_buffer_keeps_large_bytes_by_reference() -> None:
    buffer, data = SendBuffer(), bytes(20_000)
    buffer.write(data)
    piece = buffer.piece(5, 10)
    assert isinstance(piece, memoryview)
    assert piece.obj is data


@pytest.mark.parametrize("size", [10, 20_000])
def test_send_buffer_does_not_follow_a_buffer_that_changes(size: int) -> None:
    buffer, data = SendBuffer(), bytearray(size)
    buffer.write(data)
    data[0] = 1
    assert bytes(buffer.piece(0, 1)) == b"\0"


def test_send_buffer_joins_small_writes() -> None:
    buffer = SendBuffer()
    for _ in range(10_000):
        buffer.write(b"x")
    assert len(buffer._chunks) == 1


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=20), st.data())
def test_send_buffer_pieces_are_what_was_written(writes: list[bytes], data: st.DataObject) -> None:
    buffer = SendBuffer()
    for write in writes:
        buffer.write(write)
    whole = b"".join(writes)
    offset = data.draw(st.integers(0, len(whole) - 1))
    piece = bytes(buffer.piece(offset, 7))
    assert piece
    assert whole[offset:].startswith(piece)


@pytest.mark.parametrize("kind", ["bytes", "view of bytes", "bytearray", "view of bytearray"])
def test_write_keeps_what_cannot_change_and_copies_what_can(kind: str) -> None:
    source = bytes(range(256)) * 256
    changing = bytearray(source)
    data = {
        "bytes": source,
        "view of bytes": memoryview(source)[100:],
        "bytearray": changing,
        "view of bytearray": memoryview(changing)[100:],
    }[kind]
    wanted = bytes(data)
    buffer = SendBuffer()
    buffer.write(data)
    changing[:] = bytes(len(changing))
    piece = buffer.piece(0, len(wanted))
    assert bytes(piece) == wanted
    assert isinstance(piece, memoryview)
    assert (piece.obj is source) == kind.endswith("bytes")


def test_extend_goes_on_where_a_small_write_left_off() -> None:
    buffer = SendBuffer()
    assert not buffer.extend(b"x"), "nothing was begun"
    buffer.write(b"one")
    assert buffer.extend(b"two")
    assert not buffer.extend(bytes(16_384)), "the chunk is full"
    buffer.write(bytes(20_000))
    assert not buffer.extend(b"x"), "kept by reference"
    buffer.write(b"three")
    assert buffer.extend(b"four")
    buffer.stop_growing()
    assert not buffer.extend(b"x")
    assert buffer.end == 6 + 20_000 + 9
    assert b"".join(buffer.pieces(0, buffer.end)) == b"onetwo" + bytes(20_000) + b"threefour"
    buffer.sent = buffer.end
    buffer.on_acked(0, buffer.end)
    assert not buffer.extend(b"x"), "what was acknowledged is gone"
