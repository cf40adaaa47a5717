"""One direction of one line between two addresses: what it does to a datagram.

Order of harm, as on a real line: too large -> queue full -> lost -> corrupted -> late -> twice. Each
direction has a random source of its own, so that a change to one line leaves the others' luck alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import Final

__all__ = ["LOOPBACK", "PERFECT", "Link", "LinkState"]

ROUNDING: Final = 1e-6
"""Share of a batch by which sums of floats may be off."""


@dataclass(frozen=True, slots=True)
class Link:
    """The properties of a line. All may be combined; the default is a fast, faithful network."""

    latency_s: float = 0.001
    """One way, seconds."""
    jitter_s: float = 0.0
    """Up to this many seconds more for each datagram, uniformly: datagrams overtake each other."""
    ordered: bool = False
    """Jitter delays, but nothing overtakes."""
    loss: float = 0.0
    """Share of datagrams lost, 0 to 1."""
    duplicate: float = 0.0
    """Share of datagrams that arrive twice, the second with a jitter of its own."""
    corrupt: float = 0.0
    """Share of datagrams in which one bit is turned."""
    rate_bits_s: float | None = None
    """Bandwidth in bits of UDP payload per second; None: no limit."""
    queue_bytes: int = 256 * 1024
    """What may wait for the bandwidth, bytes; more is lost (drop-tail)."""
    mtu: int = 65_507
    """Largest datagram, bytes of UDP payload; larger ones vanish without a word."""
    batch_s: float = 0.0
    """Interrupt moderation: arrivals wait for the next multiple of this, so that datagrams come together."""

    def __post_init__(self) -> None:
        shares = (self.loss, self.duplicate, self.corrupt)
        if not all(0.0 <= share <= 1.0 for share in shares):
            raise ValueError(f"loss, duplicate and corrupt are shares from 0 to 1, not {shares}")
        if min(self.latency_s, self.jitter_s, self.batch_s) < 0 or min(self.queue_bytes, self.mtu) < 1:
            raise ValueError("times are not negative, queue and MTU at least one byte")
        if self.rate_bits_s is not None and self.rate_bits_s <= 0:
            raise ValueError("a rate is positive; for a dead line use loss=1.0")


PERFECT: Final = Link()
LOOPBACK: Final = Link(latency_s=20e-6)
"""Within one host, whatever the network does."""


class LinkState:
    """One direction at work: its luck, its queue, the last arrival. `link` may be replaced at any time."""

    __slots__ = ("_free_at", "_last", "_random", "link")

    def __init__(self, link: Link, random: Random) -> None:
        self.link = link
        self._random = random
        self._free_at = 0.0
        self._last = 0.0

    def carry(self, now: float, payload: bytes) -> tuple[str, list[tuple[float, bytes]]]:
        """Send one datagram at `now`: (why it was lost or "", arrivals as (time, bytes))."""
        link = self.link
        if len(payload) > link.mtu:
            return "mtu", []
        departs = now
        if link.rate_bits_s is not None:
            byte_s = 8.0 / link.rate_bits_s
            start = max(now, self._free_at)
            if round((start - now) / byte_s) + len(payload) > link.queue_bytes:
                return "queue", []
            departs = self._free_at = start + len(payload) * byte_s
        if link.loss and self._random.random() < link.loss:
            return "loss", []
        if link.corrupt and self._random.random() < link.corrupt:
            payload = self._flip(payload)
        arrivals = [(self._arrival(departs), payload)]
        if link.duplicate and self._random.random() < link.duplicate:
            arrivals.append((self._arrival(departs), payload))
        return "", arrivals

    def _arrival(self, departs: float) -> float:
        link = self.link
        arrives = departs + link.latency_s
        if link.jitter_s:
            arrives += self._random.random() * link.jitter_s
        if link.ordered:
            arrives = self._last = max(arrives, self._last)
        if link.batch_s:
            arrives = math.ceil(arrives / link.batch_s - ROUNDING) * link.batch_s
        return arrives

    def _flip(self, payload: bytes) -> bytes:
        if not payload:
            return payload
        damaged = bytearray(payload)
        damaged[self._random.randrange(len(damaged))] ^= 1 << self._random.randrange(8)
        return bytes(damaged)
