"""A token bucket that says how long to wait instead of no."""

from __future__ import annotations

__all__ = ["TokenBucket"]


class TokenBucket:
    """`rate` tokens a second, at most `burst` at once. `take` may leave a debt, and says when it is paid."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float, cost: float = 1.0) -> float:
        """Takes `cost` tokens. Seconds to wait before doing what they were taken for; 0.0: do it now."""
        self._tokens = min(self._burst, self._tokens + max(now - self._at, 0.0) * self._rate) - cost
        self._at = now
        return max(-self._tokens / self._rate, 0.0)
