"""The service `trust`: one action per stream, and its receipt.

The actor writes one frame {kind = action, body = name text8, reason text16}; the other side answers one frame
{kind = 0x81, state 1} once the action is on its disk, and both finish. `name` is what the actor calls itself: a hint
(PROTOCOL 7).
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
    "REASON_LIMIT",
    "RECEIPT",
    "SERVICE",
    "STATES",
    "TrustAction",
    "encode_receipt",
    "parse_receipt",
]

SERVICE: Final = "trust"
REASON_LIMIT: Final = 256
"""Characters of a reason."""
FRAME_LIMIT: Final = 2048
RECEIPT: Final = 0x81

ACTIONS: Final = {"request": 1, "approve": 2, "reject": 3, "untrust": 4}
STATES: Final = ("unknown", "requested", "pending", "trusted", "rejected")
"""What the receiver's state is after the action, as seen by the receiver; the index is on the wire."""


@dataclass(frozen=True, slots=True)
class TrustAction:
    action: str
    name: str
    reason: str

    def encode(self) -> bytes:
        return encode_frame(ACTIONS[self.action], Writer().text8(self.name).text16(self.reason).bytes())

    @classmethod
    def parse(cls, kind: int, body: bytes) -> TrustAction:
        """Raises `ParseError`. The name is not checked to be one: see `base.types.check_name`."""
        action = next((action for action, number in ACTIONS.items() if number == kind), None)
        if action is None:
            raise ParseError("unknown trust action")
        reader = Reader(body)
        name, reason = reader.text8(63), reader.text16(4 * REASON_LIMIT)
        reader.done()
        if len(reason) > REASON_LIMIT:
            raise ParseError("reason too long")
        return cls(action, name, reason)


def encode_receipt(state: str) -> bytes:
    return encode_frame(RECEIPT, bytes([STATES.index(state)]))


def parse_receipt(kind: int, body: bytes) -> str:
    """The state on the other side. Raises `ParseError`."""
    if kind != RECEIPT or len(body) != 1 or body[0] >= len(STATES):
        raise ParseError("not a receipt")
    return STATES[body[0]]
