"""How often somebody may: token buckets for whoever shows up, in a table of bounded size."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Hashable

from covey.base.types import Endpoint

__all__ = ["Rates", "network"]


class Rates:
    """One bucket per key: `rate` tokens a second, at most `burst`. A key that was not seen lately has a full one.

    At most `limit` keys are remembered; whoever was away longest is forgotten first.
    """

    __slots__ = ("_buckets", "_burst", "_limit", "_rate")

    def __init__(self, rate: float, burst: float, limit: int) -> None:
        self._rate = rate
        self._burst = burst
        self._limit = limit
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def fill(self, now: float, key: Hashable) -> float:
        """How full a bucket is, 0 to 1."""
        return self._tokens(now, key) / self._burst

    def take(self, now: float, key: Hashable, cost: float = 1.0) -> bool:
        """Takes `cost` tokens, if there are so many."""
        tokens = self._tokens(now, key)
        taken = tokens >= cost
        self._buckets[key] = (tokens - cost if taken else tokens, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._limit:
            self._buckets.popitem(last=False)
        return taken

    def _tokens(self, now: float, key: Hashable) -> float:
        tokens, at = self._buckets.get(key, (self._burst, now))
        return min(self._burst, tokens + (now - at) * self._rate)


def network(endpoint: Endpoint) -> bytes:
    """Whose address this probably is: an IPv4 address, or the 64-bit prefix that one IPv6 host may fill as it likes.

    What is no IPv6 address stands for itself: endpoints have one spelling.
    """
    host = endpoint[0]
    if ":" not in host:
        return host.encode()
    address = ipaddress.IPv6Address(host.partition("%")[0])
    mapped = address.ipv4_mapped
    return address.packed[:8] if mapped is None else str(mapped).encode()
