"""Who asked to hear when whom appears."""

from __future__ import annotations

from covey.base.errors import LimitError
from covey.base.types import Identity

__all__ = ["Watches"]


class Watches:
    """Pairs (watcher, watched), at most `limit` for one watcher and `total` for all. A watch is good for one
    appearance.
    """

    def __init__(self, limit: int, total: int) -> None:
        self._limit = limit
        self._total = total
        self._held = 0
        self._watchers: dict[Identity, dict[Identity, None]] = {}
        self._watched: dict[Identity, dict[Identity, None]] = {}

    def __len__(self) -> int:
        return self._held

    def __contains__(self, watched: Identity) -> bool:
        """Somebody waits for it."""
        return watched in self._watchers

    def add(self, watcher: Identity, watched: Identity) -> None:
        """Idempotent. `LimitError` ``too-many-watches``."""
        mine = self._watched.get(watcher, {})
        if watched in mine:
            return
        if len(mine) >= self._limit:
            raise LimitError(f"at most {self._limit} agents can be watched", code="too-many-watches")
        if self._held >= self._total:
            raise LimitError("this rendezvous watches as much as it can", code="too-many-watches")
        self._held += 1
        self._watched.setdefault(watcher, mine)[watched] = None
        self._watchers.setdefault(watched, {})[watcher] = None

    def take(self, watched: Identity) -> list[Identity]:
        """Its watchers, first come first, who are told now and are watchers no more."""
        watchers = list(self._watchers.pop(watched, ()))
        self._held -= len(watchers)
        for watcher in watchers:
            self._drop(self._watched, watcher, watched)
        return watchers

    def forget(self, watcher: Identity) -> None:
        """It can no longer be told."""
        mine = self._watched.pop(watcher, {})
        self._held -= len(mine)
        for watched in mine:
            self._drop(self._watchers, watched, watcher)

    @staticmethod
    def _drop(table: dict[Identity, dict[Identity, None]], key: Identity, entry: Identity) -> None:
        entries = table[key]
        del entries[entry]
        if not entries:
            del table[key]
