"""The service `trust`: one action per stream, and its receipt.

The actor writes one frame {kind = action, body = number 8, name text8, reason text16}; the other side answers one frame
{kind = 0x81, state 1} once the action is on its disk, and both finish. `name` is what the actor calls itself: a hint
(PROTOCOL 7). `number` rises with every action towards one peer, at least as fast as the actor's wall clock in
microseconds: it tells which of two actions is the newer one if one of them waited somewhere, sealed.

Sealed for an absent peer, a letter of kind 1 with that number holds {action 1, name text8, reason text16, heard 8}:
`heard` is the highest number that the actor has of the recipient, who then knows that it arrived.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from covey.base.codec import Reader, Writer
from covey.base.errors import ParseError
from covey.wire.framing import encode_frame

__all__ = [
    "ACTIONS",
    "FRAME_LIMIT",
    "LETTER_KIND",
    "NUMBER_LIMIT",
    "REASON_LIMIT",
    "RECEIPT",
    "SERVICE",
    "STATES",
    "TrustAction",
    "TrustLetter",
    "encode_receipt",
    "parse_receipt",
]

SERVICE: Final = "trust"
REASON_LIMIT: Final = 256
"""Characters of a reason."""
NUMBER_LIMIT: Final = (1 << 63) - 1
"""Highest number of an action: a clock gives it in 292,000 years, and every database can hold it."""
FRAME_LIMIT: Final = 2048
RECEIPT: Final = 0x81
LETTER_KIND: Final = 1
"""Of sealed letters, those of this service."""

ACTIONS: Final = {"request": 1, "approve": 2, "reject": 3, "untrust": 4}
STATES: Final = ("unknown", "requested", "pending", "trusted", "rejected")
"""What the receiver's state is after the action, as seen by the receiver; the index is on the wire."""


@dataclass(frozen=True, slots=True)
class TrustAction:
    action: str
    number: int
    name: str
    reason: str

    def encode(self) -> bytes:
        body = Writer().u64(self.number).text8(self.name).text16(self.reason)
        return encode_frame(ACTIONS[self.action], body.bytes())

    @classmethod
    def parse(cls, kind: int, body: bytes) -> TrustAction:
        """Raises `ParseError`. The name is not checked to be one: see `base.types.check_name`."""
        action = _action(kind)
        reader = Reader(body)
        number, name, reason = _number(reader), reader.text8(63), _reason(reader)
        reader.done()
        return cls(action, number, name, reason)


@dataclass(frozen=True, slots=True)
class TrustLetter:
    """An action as the body of a sealed letter, whose number is the action's."""

    action: str
    name: str
    reason: str
    heard: int
    """The highest number of an action that the sender has from the recipient; 0 for none."""

    def encode(self) -> bytes:
        writer = Writer().u8(ACTIONS[self.action]).text8(self.name).text16(self.reason)
        return writer.u64(self.heard).bytes()

    @classmethod
    def parse(cls, body: bytes) -> TrustLetter:
        """Raises `ParseError`."""
        reader = Reader(body)
        action, name, reason = _action(reader.u8()), reader.text8(63), _reason(reader)
        heard = _number(reader)
        reader.done()
        return cls(action, name, reason, heard)


def _action(number: int) -> str:
    action = next((action for action, known in ACTIONS.items() if known == number), None)
    if action is None:
        raise ParseError("unknown trust action")
    return action


def _number(reader: Reader) -> int:
    number = reader.u64()
    if number > NUMBER_LIMIT:
        raise ParseError("impossible number of an action")
    return number


def _reason(reader: Reader) -> str:
    reason = reader.text16(4 * REASON_LIMIT)
    if len(reason) > REASON_LIMIT:
        raise ParseError("reason too long")
    return reason


def encode_receipt(state: str) -> bytes:
    return encode_frame(RECEIPT, bytes([STATES.index(state)]))


def parse_receipt(kind: int, body: bytes) -> str:
    """The state on the other side. Raises `ParseError`."""
    if kind != RECEIPT or len(body) != 1 or body[0] >= len(STATES):
        raise ParseError("not a receipt")
    return STATES[body[0]]
