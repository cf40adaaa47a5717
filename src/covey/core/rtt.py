"""Round-trip estimation after RFC 9002 section 5."""

from __future__ import annotations

from typing import Final

__all__ = ["INITIAL_RTT", "MAX_ACK_DELAY", "Rtt"]

INITIAL_RTT: Final = 0.333
"""Seconds, before the first sample (RFC 9002, 6.2.2)."""
GRANULARITY: Final = 0.001
"""Seconds: asyncio's timers are not finer (RFC 9002's kGranularity)."""
MAX_ACK_DELAY: Final = 0.005
"""Seconds a receiver may hold an acknowledgement back."""
PTO_LIMIT: Final = 2.0
"""Seconds: the longest probe timeout, however often it backed off."""


class Rtt:
    """Smoothed, variance and minimum, in seconds."""

    __slots__ = ("latest", "minimum", "sampled", "smoothed", "variance")

    def __init__(self) -> None:
        self.latest = INITIAL_RTT
        self.smoothed = INITIAL_RTT
        self.variance = INITIAL_RTT / 2
        self.minimum = INITIAL_RTT
        self.sampled = False

    def sample(self, rtt: float, ack_delay: float) -> None:
        """Feeds one measurement; the peer's own delay counts only as far as it is plausible (RFC 9002, 5.3)."""
        self.latest = rtt
        if not self.sampled:
            self.sampled = True
            self.minimum = self.smoothed = rtt
            self.variance = rtt / 2
            return
        # Comparisons, not min() and abs(): this runs for every acknowledgement.
        if rtt < self.minimum:
            self.minimum = rtt
        if ack_delay > MAX_ACK_DELAY:
            ack_delay = MAX_ACK_DELAY
        if rtt >= self.minimum + ack_delay:
            rtt -= ack_delay
        error = rtt - self.smoothed
        self.variance += ((error if error > 0 else -error) - self.variance) / 4
        self.smoothed += error / 8

    def pto(self) -> float:
        """Probe timeout without back-off, seconds (RFC 9002, 6.2.1)."""
        return min(PTO_LIMIT, self.smoothed + max(4 * self.variance, GRANULARITY) + MAX_ACK_DELAY)

    def loss_delay(self, patience: float = 1.125) -> float:
        """How long after it was sent a packet counts as lost if a later one arrived (RFC 9002, 6.1.2: 9/8)."""
        return max(patience * max(self.latest, self.smoothed), GRANULARITY)
