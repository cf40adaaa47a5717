"""How long until a path that is there is challenged again, because it is in reserve or in doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from covey.core.path import Path

__all__ = ["ANSWERS_MISSED", "pause"]

ANSWERS_MISSED: Final = 4
"""Challenges in a row without an answer after which a path in reserve is dead."""
_DOUBT_SECONDS: Final = 0.1
_DOUBT_LIMIT_SECONDS: Final = 2.0
"""Pauses between challenges of a suspect path: at first, and at most. One that lives again should be used at once."""
_RESERVE_SECONDS: Final = 0.5
"""The same for a path in reserve that left one unanswered; or three round trips, if that is more."""


def pause(path: Path) -> float:
    """Seconds from the last challenge of `path` to the next, while none is answered."""
    doublings = min(max(path.unanswered - 1, 0), 5)
    if path.suspect:
        return float(min(_DOUBT_SECONDS * (1 << doublings), _DOUBT_LIMIT_SECONDS))
    return max(_RESERVE_SECONDS, 3 * path.recovery.rtt.smoothed)
