"""The BIRTHDAY message of the CRYPTO stream: two agents agree on a birthday run (`core/guessing.py`).

Body: {word 1, family 1 (4 or 6), IP 4 or 16}. The address is that of the side that asked, whose ports are to be tried;
an answer repeats it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from covey.base.codec import Reader, Writer
from covey.base.errors import ParseError

__all__ = ["Birthday", "Word"]


class Word(IntEnum):
    """What one side says to the other."""

    ASK = 1
    """Try random ports of my address; once you say go I open many of them."""
    GO = 2
    """I begin."""
    LATER = 3
    """Not now: another run is under way, or the last one was in vain."""


_WORDS: Final = frozenset(map(int, Word))


@dataclass(frozen=True, slots=True)
class Birthday:
    """The body of the message."""

    word: Word
    host: str
    """An IP literal."""

    def encode(self) -> bytes:
        address = ipaddress.ip_address(self.host)
        return Writer().u8(self.word).u8(address.version).raw(address.packed).bytes()

    @classmethod
    def parse(cls, body: bytes) -> Birthday:
        """Raises `ParseError`, also for addresses that no NAT can have."""
        reader = Reader(body)
        word, family = reader.u8(), reader.u8()
        if word not in _WORDS or family not in (4, 6):
            raise ParseError("no BIRTHDAY message")
        address = ipaddress.ip_address(reader.take(4 if family == 4 else 16))
        reader.done()
        if address.is_unspecified or address.is_multicast or address.is_loopback:
            raise ParseError("an address nobody can be reached at")
        return cls(Word(word), str(address))
