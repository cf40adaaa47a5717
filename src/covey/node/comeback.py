"""When to try a rendezvous again that we are not connected with, and how long a try may take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["Comeback"]

_PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Waits between attempts to reach it, seconds; the last repeats."""
_STEADY_SECONDS: Final = 10.0
"""A session that lasted so long makes the next attempt the first again; after a shorter one the pause grows."""
_RESTART_PAUSE: Final = 0.25
_RESTART_TRY: Final = 1.0
"""While it restarts: between attempts, and for one. An attempt asks at 0, 0.25 and 0.75 s, and then ever more rarely:
a new one finds a rendezvous sooner that is back."""
AFTER_LIMIT: Final = 60.0
FOR_LIMIT: Final = 300.0
"""Seconds: what a rendezvous may say at most about its restart."""


class Comeback:
    """`begin` an attempt, which has at most `patience`; `pause` before the next. `restarting` says when it will be
    back."""

    def __init__(self, now: Callable[[], float], random: Callable[[int], bytes]) -> None:
        self._now = now
        self._random = random
        self._tries = 0
        self._begun = now()
        self._after: float | None = None
        self._for = 0.0
        self._until = float("-inf")

    def begin(self) -> None:
        self._begun = self._now()

    def restarting(self, after: float, lasting: float) -> None:
        """Once our session ends it is worth trying `after` so many seconds, and again and again for so many more."""
        self._after = min(after, AFTER_LIMIT)
        self._for = min(lasting, FOR_LIMIT)

    @property
    def patience(self) -> float | None:
        """How long the attempt that begins now may take, seconds; None: as long as it likes."""
        return _RESTART_TRY if self._now() < self._until else None

    def pause(self) -> float:
        """Seconds until the next attempt. Call it once when one has ended, or the session that it led to."""
        now = self._now()
        if self._after is None and now < self._until:
            return _RESTART_PAUSE
        if now - self._begun > _STEADY_SECONDS:
            self._tries = 0
        pause = _PAUSES[min(self._tries, len(_PAUSES) - 1)] * (0.5 + self._random(1)[0] / 256)
        self._tries += 1
        if self._after is not None:
            pause, self._after = max(pause, self._after), None  # who restarts again and again is asked more rarely
            self._until = now + pause + self._for
        return pause

    def connected(self) -> None:
        """It is back."""
        self._until = float("-inf")
