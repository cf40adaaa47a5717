"""One way for packets to reach the peer."""

from __future__ import annotations

from typing import NamedTuple

from covey.base.types import Endpoint
from covey.core import limits
from covey.core.congestion import Congestion
from covey.core.recovery import Recovery
from covey.wire.datagram import RELAY_HEADER_SIZE

__all__ = ["Path", "Route"]


class Route(NamedTuple):
    """Where datagrams go: our port's index, the endpoint they are sent to, and the circuit if that is a relay."""

    local: int
    remote: Endpoint
    circuit: int = 0

    @property
    def relayed(self) -> bool:
        return self.circuit != 0

    @property
    def outer(self) -> int:
        """Bytes of the relay header in front of every datagram."""
        return RELAY_HEADER_SIZE if self.circuit else 0


class Path:
    """A validated route with its own packet numbers, recovery, congestion and MTU.

    `id` numbers our sending direction; the peer numbers its own. Ids and counters never repeat within a session, so
    that no nonce does (PROTOCOL 16).
    """

    __slots__ = (
        "counter",
        "failures",
        "id",
        "last_sent",
        "mtu",
        "mtu_probe",
        "mtu_probe_at",
        "mtu_tries",
        "received_bytes",
        "recovery",
        "route",
        "sent_bytes",
        "suspect",
        "suspect_since",
    )

    def __init__(self, number: int, route: Route, now: float, congestion: Congestion) -> None:
        self.id = number
        self.route = route
        self.counter = 0
        self.mtu = limits.INITIAL_MTU
        """UDP payload of a full datagram, relay header included, bytes."""
        self.recovery = Recovery(congestion)
        self.last_sent = now
        self.sent_bytes = 0
        self.received_bytes = 0
        self.suspect = False
        self.suspect_since = now
        self.failures = 0
        """How often it became suspect since data was last acknowledged on it."""
        self.mtu_probe = 0
        """Size of the probe in flight, 0 for none."""
        self.mtu_probe_at = now
        self.mtu_tries = 0

    def next_mtu_probe(self) -> int | None:
        """The next size of the ladder worth trying, or None."""
        if self.mtu_tries >= 3:
            return None
        for size in limits.MTU_LADDER:
            if size > self.mtu:
                return size
        return None

    def shrink(self, now: float) -> None:
        """Back to the size every path must carry: what got lost may have been too large."""
        if self.mtu > limits.INITIAL_MTU:
            self.mtu = self.recovery.congestion.datagram = limits.INITIAL_MTU
            self.mtu_probe_at = now + limits.MTU_RETRY_SECONDS

    def on_mtu_probe(self, size: int, arrived: bool) -> None:
        """The fate of a probe: larger datagrams from now on, or one more try less."""
        self.mtu_probe = 0
        if arrived and size > self.mtu:
            self.mtu = size
            self.mtu_tries = 0
            self.recovery.congestion.datagram = size
        elif not arrived:
            self.mtu_tries += 1
