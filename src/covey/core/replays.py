"""Which initiations of trusted peers were answered already (PROTOCOL 11)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from covey.base.types import Identity

__all__ = ["Replays"]

_KEYS: Final = 8
"""Transport keys remembered of one peer: it has four at a time. What is older has no certificate that still holds."""


class Replays:
    """The newest confirmed timestamp per (identity, transport key), microseconds.

    Bounded by the peers that are trusted: of each the keys that were confirmed last.
    """

    def __init__(self) -> None:
        self._newest: dict[Identity, OrderedDict[bytes, int]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._newest.values()))

    def newest(self, identity: Identity, key: bytes) -> int:
        """-1 for none."""
        keys = self._newest.get(identity)
        return -1 if keys is None else keys.get(key, -1)

    def confirm(self, identity: Identity, key: bytes, timestamp: int) -> int:
        """A handshake with this timestamp was verified; the newest one there was."""
        keys = self._newest.setdefault(identity, OrderedDict())
        keys[key] = newest = max(timestamp, keys.get(key, -1))
        keys.move_to_end(key)
        if len(keys) > _KEYS:
            keys.popitem(last=False)
        return newest

    def forget(self, identity: Identity) -> None:
        """Not trusted any more."""
        self._newest.pop(identity, None)
