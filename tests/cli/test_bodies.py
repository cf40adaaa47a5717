from __future__ import annotations

import io
from pathlib import Path

import pytest

from covey.base.constants import MESSAGE_LIMIT
from covey.base.errors import CoveyError, StorageError
from covey.base.schema import MessageType
from covey.cli import bodies


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "text"),
        ("h\u00e9llo".encode(), "text"),
        (b'{"a": [1, 2.5, null, "\\u00e9"]}', "json"),
        (b"3", "json"),
        (b"\xff\x00", "binary"),
        (b"x" * MESSAGE_LIMIT, "text"),
    ],
)
def test_check_body_accepts(body: bytes, kind: MessageType) -> None:
    bodies.check_body(body, kind)


@pytest.mark.parametrize(
    ("body", "kind", "code", "message"),
    [
        (b"x" * (MESSAGE_LIMIT + 1), "binary", "message-too-large", "larger than 1,048,576 bytes"),
        (b"\xff", "text", "bad-text", "byte 0"),
        (b"ab\xff", "json", "bad-text", "byte 2"),
        (b"", "json", "bad-json", "line 1, column 1"),
        (b'{"a": 1,\n "b": }', "json", "bad-json", "line 2, column 7"),
        (b"{} {}", "json", "bad-json", "Extra data at line 1, column 4"),
        (b"NaN", "json", "bad-json", "NaN is not a JSON number"),
        (b"[" * 100_000, "json", "bad-json", "nested too deeply"),
        (b"1" * 5000, "json", "bad-json", "is not JSON"),
    ],
)
def test_check_body_refuses(body: bytes, kind: MessageType, code: str, message: str) -> None:
    with pytest.raises(CoveyError) as caught:
        bodies.check_body(body, kind)
    assert caught.value.code == code
    assert message in caught.value.message


def test_argument_keeps_bytes_that_are_not_text() -> None:
    assert bodies.from_argument("a\udcffb") == b"a\xffb"


def test_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"\x00\n\xff")
    assert bodies.from_file(str(path)) == b"\x00\n\xff"


def test_file_is_read_no_further_than_needed(tmp_path: Path) -> None:
    path = tmp_path / "body"
    with path.open("wb") as file:
        file.truncate(1 << 32)
    assert len(bodies.from_file(str(path))) == MESSAGE_LIMIT + 1


@pytest.mark.parametrize("name", ["missing", "."])
def test_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    with pytest.raises(StorageError) as caught:
        bodies.from_file(path)
    assert caught.value.code == "bad-file"
    assert path in caught.value.message


def test_standard_input_is_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b"\x00from stdin"))
    monkeypatch.setattr("sys.stdin", stdin)
    assert bodies.from_file("-") == b"\x00from stdin"
    assert not stdin.buffer.closed


def test_lines_are_numbered_and_empty_ones_skipped() -> None:
    file = io.BytesIO(b"one\n\r\n\n  \ntwo\r\nlast")
    assert list(bodies.read_lines(file)) == [(1, b"one"), (4, b"  "), (5, b"two"), (6, b"last")]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_line_of_the_largest_size_is_whole(end: bytes) -> None:
    line = b"x" * MESSAGE_LIMIT
    assert list(bodies.read_lines(io.BytesIO(line + end))) == [(1, line)]


def test_base64_round_trip() -> None:
    assert bodies.from_base64(bodies.to_base64(b"\x00\xff")) == b"\x00\xff"
