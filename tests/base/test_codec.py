"""The cursor codec: one encoding per value, `ParseError` and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.codec import Reader, Writer
from covey.base.errors import ParseError

VALUES: dict[str, tuple[Any, bytes]] = {  # method -> value, its encoding
    "u8": (0xA1, b"\xa1"),
    "u16": (0xA1B2, b"\xa1\xb2"),
    "u32": (0xA1B2C3D4, b"\xa1\xb2\xc3\xd4"),
    "u64": (0xA1B2C3D4E5F60718, b"\xa1\xb2\xc3\xd4\xe5\xf6\x07\x18"),
    "block8": (b"xyz", b"\3xyz"),
    "block16": (b"xyz", b"\0\3xyz"),
    "text8": ("grüß", b"\6gr\xc3\xbc\xc3\x9f"),
    "text16": ("grüß", b"\0\6gr\xc3\xbc\xc3\x9f"),
}

FIELDS = {
    "u8": st.integers(0, 2**8 - 1),
    "u16": st.integers(0, 2**16 - 1),
    "u32": st.integers(0, 2**32 - 1),
    "u64": st.integers(0, 2**64 - 1),
    "block8": st.binary(max_size=255),
    "block16": st.binary(max_size=300),
    "text8": st.text(max_size=60),
    "text16": st.text(max_size=60),
}


def read(reader: Reader, method: str) -> Any:
    return getattr(reader, method)()


@pytest.mark.parametrize("method", VALUES)
def test_writer_and_reader_agree_on(method: str) -> None:
    value, encoding = VALUES[method]
    assert getattr(Writer(), method)(value).bytes() == encoding
    reader = Reader(encoding)
    assert read(reader, method) == value
    reader.done()


@pytest.mark.parametrize("method", VALUES)
def test_reader_refuses_every_shorter_input_for(method: str) -> None:
    encoding = VALUES[method][1]
    for size in range(len(encoding)):
        with pytest.raises(ParseError):
            read(Reader(encoding[:size]), method)


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("u8", 256), ("u8", -1),
        ("u16", 65_536), ("u16", -1),
        ("u32", 2**32), ("u32", -1),
        ("u64", 2**64), ("u64", -1),
        ("block8", bytes(256)), ("text8", "x" * 256),
        ("block16", bytes(65_536)), ("text16", "x" * 65_536),
    ],
)  # fmt: skip
def test_writer_refuses_what_does_not_fit(method: str, value: Any) -> None:
    with pytest.raises(ValueError):
        getattr(Writer(), method)(value)


def test_block32_needs_a_limit() -> None:
    raw = Writer().block32(b"body").bytes()
    assert raw == b"\0\0\0\4body"
    assert Reader(raw).block32(4) == b"body"
    with pytest.raises(ParseError):
        Reader(raw).block32(3)


@pytest.mark.parametrize(("method", "raw"), [("block8", b"\3xyz"), ("block16", b"\0\3xyz"), ("text8", b"\3xyz")])
def test_limit_is_inclusive(method: str, raw: bytes) -> None:
    assert len(getattr(Reader(raw), method)(3)) == 3
    with pytest.raises(ParseError):
        getattr(Reader(raw), method)(2)


def test_huge_block_is_refused_before_anything_is_allocated() -> None:
    with pytest.raises(ParseError):
        Reader(b"\xff\xff\xff\xff").block32(2**32)


@pytest.mark.parametrize("raw", [b"\1\xff", b"\2\xc0\x80", b"\3\xed\xa0\x80", b"\1\x80"])
def test_text_that_is_not_utf_8_is_refused(raw: bytes) -> None:
    # Also overlong forms and surrogates: they would be second encodings (RFC 3629, sections 3 and 4).
    with pytest.raises(ParseError):
        Reader(raw).text8()


def test_position_and_remaining_count_bytes() -> None:
    reader = Reader(bytes(range(10)))
    assert (reader.position, reader.remaining) == (0, 10)
    assert reader.take(3) == b"\0\1\2"
    assert bytes(reader.view(2)) == b"\3\4"
    assert (reader.position, reader.remaining) == (5, 5)
    assert reader.rest() == b"\5\6\7\x08\x09"
    assert (reader.position, reader.remaining) == (10, 0)
    assert reader.rest() == b""


def test_failed_read_moves_nothing() -> None:
    reader = Reader(b"\1\2\3")
    with pytest.raises(ParseError):
        reader.u32()
    assert reader.position == 0
    assert reader.u16() == 0x0102


def test_done_refuses_trailing_bytes() -> None:
    reader = Reader(b"\1\2")
    reader.u8()
    with pytest.raises(ParseError, match="1 bytes too many"):
        reader.done()
    reader.u8()
    reader.done()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_reader_takes_any_buffer(kind: Callable[[bytes], Any]) -> None:
    reader = Reader(kind(b"\0\1abc"))
    assert reader.u16() == 1
    assert type(reader.take(1)) is bytes
    assert isinstance(reader.view(1), memoryview)
    assert reader.rest() == b"c"


def test_take_copies_and_view_does_not() -> None:
    buffer = bytearray(b"abcd")
    reader = Reader(buffer)
    copied, seen = reader.take(2), reader.view(2)
    buffer[:] = b"WXYZ"
    assert (copied, bytes(seen)) == (b"ab", b"YZ")


def test_writer_raw_has_no_length() -> None:
    assert Writer().u8(1).raw(b"ab").raw(bytearray(b"c")).raw(memoryview(b"d")).bytes() == b"\1abcd"


@given(st.data())
def test_any_sequence_of_fields_survives(data: st.DataObject) -> None:
    methods = data.draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=8))
    values = [data.draw(FIELDS[method]) for method in methods]
    writer = Writer()
    for method, value in zip(methods, values, strict=True):
        getattr(writer, method)(value)
    reader = Reader(writer.bytes())
    assert [read(reader, method) for method in methods] == values
    reader.done()


@given(st.binary(max_size=64), st.lists(st.sampled_from(sorted(FIELDS)), max_size=8))
def test_reader_raises_only_parse_errors(raw: bytes, methods: list[str]) -> None:
    reader = Reader(raw)
    with suppress(ParseError):
        for method in methods:
            read(reader, method)
        reader.done()
    assert 0 <= reader.position <= len(raw)
