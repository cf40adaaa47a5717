"""Whose work is done when there is too much of it: cookies and rates by source (PROTOCOL 15).

Without load everybody's is. Under load a source first proves that it hears what is sent to it, by the cookie that it
gets instead of an answer, and then has a rate. In this order, and not the rate first: a rate counted before the proof
could be used up in a source's name by whoever forges its address, and a proof costs two hashes.

The source is the address; behind a relay the relay's identity and the circuit, because the address is the relay's. What
is taken waits in a lane (`backlog.py`): one where trusted peers were seen lately, one for each relay of ours, so that a
relay that makes circuits up has its lane and no other, and one for everybody else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from enum import Enum
from typing import NamedTuple

from covey.base.types import Endpoint as Address
from covey.base.types import Identity
from covey.core import limits
from covey.core.path import Route
from covey.core.rates import Rates, network
from covey.crypto.cookie import CookieJar
from covey.wire.datagram import MAC_SIZE

__all__ = ["Admission", "Verdict"]

_KNOWN = "known"
_DIRECT = "direct"


class Verdict(Enum):
    """What to do with a request that could be answered."""

    TAKE = "take"
    PROVE = "prove"
    """Send the source a cookie."""
    DROP = "drop"


class _Source(NamedTuple):
    claim: bytes
    """What a cookie is made for."""
    bucket: bytes
    """What a rate is counted for: less exact, because a host has many ports and a network many addresses."""


class Admission:
    """The responder's side. `relays` says which endpoint is whose, for our own homes."""

    def __init__(self, secret: bytes, relays: Mapping[Address, Identity]) -> None:
        self._jar = CookieJar(secret)
        self._relays = relays
        self._rates = Rates(limits.SOURCE_RATE, limits.SOURCE_BURST, limits.SOURCES_LIMIT)
        self._cookies = Rates(limits.SOURCE_RATE, limits.SOURCE_BURST, limits.SOURCES_LIMIT)
        self._logs = Rates(limits.LOG_RATE, limits.LOG_BURST, limits.SOURCES_LIMIT)
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        """Entries of all tables."""
        return len(self._rates) + len(self._cookies) + len(self._logs) + len(self._known)

    def judge(self, now: float, route: Route, datagram: memoryview) -> Verdict:
        """Under load: what to do with a datagram from `route` that ends in its mac2."""
        source = self._source(route)
        if not self._jar.proves(now, source.claim, datagram[:-MAC_SIZE], datagram[-MAC_SIZE:]):
            return Verdict.PROVE if self._cookies.take(now, source.bucket) else Verdict.DROP
        return Verdict.TAKE if self._rates.take(now, source.bucket) else Verdict.DROP

    def verifies(self, now: float, route: Route, size: int) -> bool:
        """Whether a log of `size` bytes is verified for somebody at `route`, who came by himself."""
        return self._logs.take(now, self._source(route).bucket, size)

    def cookie(self, now: float, route: Route) -> bytes:
        """The cookie for whoever is at `route`."""
        return self._jar.cookie(now, self._source(route).claim)

    def know(self, route: Route) -> None:
        """A trusted peer proved that it is there."""
        bucket = self._source(route).bucket
        self._known[bucket] = None
        self._known.move_to_end(bucket)
        if len(self._known) > limits.SOURCES_LIMIT:
            self._known.popitem(last=False)

    def place(self, now: float, route: Route) -> tuple[Hashable, Hashable, float]:
        """Where work from `route` waits: the lane, the source it counts for there, and how full its bucket is."""
        bucket = self._source(route).bucket
        lane: Hashable = _DIRECT
        if bucket in self._known:
            lane = _KNOWN
        elif route.relayed:
            lane = self._relays.get(route.remote, _DIRECT)
        return lane, bucket, self._rates.fill(now, bucket)

    def _source(self, route: Route) -> _Source:
        host, port = route.remote
        if route.circuit:
            relay = self._relays.get(route.remote, b"")
            source = b"circuit" + relay + route.circuit.to_bytes(4, "big")
            return _Source(source, source)
        return _Source(f"{host} {port}".encode(), network(route.remote))
