"""Our halves of connection ids: which 64 bits stand for us towards which peer (PROTOCOL 19)."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from covey.base.types import Identity
from covey.core import limits

__all__ = ["Halves"]


class Halves:
    """A half is stable until `end` says that a connection of ours with that peer is over; then it is another one.

    Halves are derived from a secret of this process, so that a half-open handshake of a stranger needs no memory and
    two handshakes that cross agree. Bounded: of too many ended connections the oldest only raise a floor under all.
    """

    __slots__ = ("_ended", "_ends", "_floor", "_secret")

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._ends = 0
        self._ended: OrderedDict[Identity, int] = OrderedDict()
        self._floor = 0

    def __len__(self) -> int:
        """How many peers are remembered by name."""
        return len(self._ended)

    def of(self, peer: Identity) -> bytes:
        """The 8 bytes that the next connection with `peer` has on our side."""
        generation = self._ended.get(peer, self._floor)
        return hashlib.sha256(self._secret + peer + generation.to_bytes(8, "big")).digest()[:8]

    def end(self, peer: Identity) -> None:
        """The half in use with `peer` is never used again."""
        self._ends += 1
        self._ended[peer] = self._ends
        self._ended.move_to_end(peer)
        if len(self._ended) > limits.LOGS_LIMIT:
            self._floor = max(self._floor, self._ended.popitem(last=False)[1])
