"""One way for packets to reach the peer."""

from __future__ import annotations

from typing import Final, NamedTuple

from covey.base.types import Endpoint
from covey.core import limits
from covey.core.addresses import is_local
from covey.core.congestion import Congestion
from covey.core.mtu import MtuSearch
from covey.core.narrow import Narrow
from covey.core.quota import Quota
from covey.core.recovery import Recovery, Sent
from covey.wire.datagram import RELAY_HEADER_SIZE

__all__ = ["WEBSOCKET_PORTS", "Path", "Route"]

WEBSOCKET_PORTS: Final = 1 << 32
"""Ports with this index or a higher one are connections, and not UDP."""

_LOSSES_OF_LARGE: Final = 3
"""Times that large datagrams were lost, and none acknowledged with them, until their size is in doubt."""


class Route(NamedTuple):
    """Where datagrams go: our port's index, the endpoint they are sent to, and the circuit if that is a relay."""

    local: int
    remote: Endpoint
    circuit: int = 0

    @property
    def relayed(self) -> bool:
        return self.circuit != 0

    @property
    def websocket(self) -> bool:
        """Over a WebSocket, as far as the relay."""
        return self.local >= WEBSOCKET_PORTS

    @property
    def outer(self) -> int:
        """Bytes of the relay header in front of every datagram."""
        return RELAY_HEADER_SIZE if self.circuit else 0


class Path:
    """A validated route with its own packet numbers, recovery, congestion and MTU.

    `id` numbers our sending direction; the peer numbers its own. Ids and counters never repeat within a session, so
    that no nonce does (PROTOCOL 16).

    Its `lane`, if it was needed, takes the same route with counters and a congestion window of its own: datagrams of
    the lane may overtake those of bulk, anywhere, and nobody takes what they overtook for lost.
    """

    __slots__ = (
        "bulk_bytes",
        "charged_bytes",
        "cost",
        "counter",
        "failures",
        "id",
        "interconnect",
        "lane",
        "large_losses",
        "last_sent",
        "local",
        "made_at",
        "mtu",
        "mtu_search",
        "narrow",
        "quota",
        "received_bytes",
        "recheck_at",
        "recovery",
        "route",
        "sent_bytes",
        "suspect",
        "suspect_since",
        "unanswered",
    )

    def __init__(self, number: int, route: Route, now: float, congestion: Congestion) -> None:
        self.id = number
        self.route = route
        self.counter = 0
        self.mtu = limits.INITIAL_MTU
        """UDP payload of a full datagram, relay header included, bytes."""
        self.recovery = Recovery(congestion)
        self.lane: Path | None = None
        self.made_at = now
        """When it was proven, monotonic seconds."""
        self.last_sent = now
        self.sent_bytes = 0
        self.bulk_bytes = 0
        """Stream bytes that left in full datagrams: what larger ones would be good for."""
        self.received_bytes = 0
        self.quota: Quota | None = None
        """What the relay of this path passes on for us, all in all; None: it has not said, or the path is direct."""
        self.charged_bytes = 0
        """Of those sent, how many the quota knows of."""
        self.suspect = False
        self.suspect_since = now
        self.failures = 0
        """How often it became suspect since data was last acknowledged on it."""
        self.recheck_at = now + limits.WARM_SECONDS
        """When it is challenged again, if it is suspect or in reserve then."""
        self.unanswered = 0
        """Challenges on it since one was answered."""
        self.large_losses = 0
        self.interconnect: str | None = None
        """Its label, if the peer declared this address to be one of a private interconnect ..."""
        self.cost = 0
        """... and what that costs, in its owner's units."""
        self.local = not route.relayed and is_local(route.remote[0])
        """The peer's address is one of a private network."""
        self.narrow: Narrow | None = None
        """What speaks for a path that carries only small datagrams, if anything does."""
        self.mtu_search = MtuSearch(6 if ":" in route.remote[0] else 4)

    def open_lane(self, now: float, congestion: Congestion) -> Path:
        """Its datagrams have the size that every path carries: what travels there is small."""
        lane = self.lane = Path(self.id | limits.LANE, self.route, now, congestion)
        lane.recovery.on_round_trip(self.recovery.rtt.smoothed)
        return lane

    def answered(self, now: float, rtt: float) -> None:
        """A challenge was answered on it, after `rtt` seconds."""
        self.unanswered = 0
        self.recheck_at = now + limits.WARM_SECONDS
        if not self.recovery.outstanding:
            self.recovery.rtt.sample(max(rtt, 1e-6), 0.0)

    def abandon(self) -> list[Sent]:
        """Everything in flight, given up, with that of the lane."""
        runs = self.recovery.abandon()
        return runs if self.lane is None else runs + self.lane.recovery.abandon()

    def next_mtu_probe(self, now: float) -> int:
        """The size of the probe that may leave now, 0 for none."""
        recovery = self.recovery
        if recovery.pto_count or self.suspect:
            return 0  # what is lost now has other reasons
        return self.mtu_search.next(now, self.bulk_bytes, recovery.congestion.window)

    def on_mtu_probe(self, size: int, *, arrived: bool) -> None:
        """The fate of a probe."""
        self.mtu_search.on_fate(size, arrived=arrived)
        self._take_mtu()

    def doubt_mtu(self) -> bool:
        """What got lost may have been too large: back to what every path carries, until a probe says more.

        False if it was no larger.
        """
        self.large_losses = 0
        doubted = self.mtu_search.doubt()
        self._take_mtu()
        return doubted

    def weigh_sizes(self, now: float, acked: list[Sent], lost: list[Sent]) -> None:
        """Something was lost although later packets arrived. Was it as small as what was acknowledged?"""
        sizes = [run.size for run in lost if not run.is_mtu_probe]
        if sizes and not any(run.size >= min(sizes) for run in acked):
            self.narrow = self.narrow or Narrow(now)
            self.narrow.lost(now, min(sizes))

    def weigh_losses(self, acked: list[Sent], lost: list[Sent]) -> None:
        """Something was lost although later packets arrived: a path that takes only small ones looks like that."""
        if self.mtu == limits.INITIAL_MTU or any(run.size > limits.INITIAL_MTU for run in acked):
            self.large_losses = 0
        elif any(run.size > limits.INITIAL_MTU and not run.is_mtu_probe for run in lost):
            self.large_losses += 1
            if self.large_losses >= _LOSSES_OF_LARGE:
                self.doubt_mtu()

    def _take_mtu(self) -> None:
        self.mtu = self.recovery.congestion.datagram = self.mtu_search.size
