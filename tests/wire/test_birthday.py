from __future__ import annotations

import pytest

from covey.base.errors import ParseError
from covey.wire.birthday import Birthday, Word


@pytest.mark.parametrize("word", Word)
@pytest.mark.parametrize("host", ["203.0.113.7", "10.0.0.1", "2001:db8::7"])
def test_message_survives_the_wire(word: Word, host: str) -> None:
    assert Birthday.parse(Birthday(word, host).encode()) == Birthday(word, host)


def test_message_has_these_bytes() -> None:
    assert Birthday(Word.ASK, "203.0.113.7").encode() == bytes.fromhex("0104cb007107")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        bytes.fromhex("0004cb007107"),
        bytes.fromhex("0404cb007107"),
        bytes.fromhex("0105cb007107"),
        bytes.fromhex("0104cb0071"),
        bytes.fromhex("0104cb00710700"),
        bytes.fromhex("010400000000"),
        bytes.fromhex("01047f000001"),
        bytes.fromhex("0104e0000001"),
        bytes.fromhex("0106cb007107"),
    ],
)
def test_other_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(ParseError):
        Birthday.parse(body)
