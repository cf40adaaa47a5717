"""Noticing that a path carries only small datagrams: larger ones get lost again and again; small answers hide it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from covey.core import limits

if TYPE_CHECKING:
    from covey.core.recovery import Sent

__all__ = ["Narrow"]

_LOSSES: Final = 3
"""Losses that make a suspicion; fewer are bad luck."""
_MEMORY_SECONDS: Final = 2.0
"""Losses so far apart have nothing to do with each other."""


class Narrow:
    """Losses of one path since a datagram as large as the smallest of them was acknowledged.

    Calls: `lost` for each loss; `refuted` for what is acknowledged, as long as there is one of these.
    """

    __slots__ = ("_last", "losses", "since", "size")

    def __init__(self, now: float) -> None:
        self.since = self._last = now
        self.losses = 0
        self.size = limits.INITIAL_MTU
        """Bytes of the smallest datagram that was lost; every path must carry those of the initial size."""

    def lost(self, now: float, size: int) -> None:
        if now > self._last + _MEMORY_SECONDS:
            self.losses = 0
            self.since = now
            self.size = limits.INITIAL_MTU
        self._last = now
        self.losses += 1
        self.size = min(self.size, size)

    def refuted(self, acked: Iterable[Sent]) -> bool:
        """Whether one of these was large enough."""
        return any(run.size >= self.size for run in acked)

    @property
    def suspicious(self) -> bool:
        return self.losses >= _LOSSES
