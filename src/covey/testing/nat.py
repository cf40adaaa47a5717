"""NAT boxes, in the words of RFC 4787: how they map, how they filter, and when they forget.

::

    home = Nat(internet, PORT_RESTRICTED, "203.0.113.7")
    host = SimHost(home.inside, "192.168.1.2")
    carrier = Nat(internet, SYMMETRIC, "203.0.113.9")             # and one behind another
    flat = Nat(carrier.inside, FULL_CONE, "100.64.0.2")

A box is the gateway of the network inside it, and stands on the network outside under its external addresses. Between
the two it forgets like the real ones: on its own clock, at its own limits, or all at once in `reboot`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from random import Random
from typing import Final

from covey.testing.link import Link
from covey.testing.network import Endpoint, SimNetwork

__all__ = [
    "ADDRESS_RESTRICTED",
    "FULL_CONE",
    "PORT_COUNT",
    "PORT_RESTRICTED",
    "SYMMETRIC",
    "SYMMETRIC_SEQUENTIAL",
    "UDP_BLOCKED",
    "Dependence",
    "Nat",
    "NatKind",
    "Ports",
]

LAN: Final = Link(latency_s=0.0005)
"""The line between two hosts behind one box. To the box itself it takes no time: the line outside does."""

FIRST_PORT: Final = 1024
PORT_COUNT: Final = 65_536 - FIRST_PORT
"""External ports of one address: all but the well-known (RFC 4787, REQ-3 a)."""


class Dependence(IntEnum):
    """What of the remote endpoint (address, port) a mapping or a filter depends on; RFC 4787, 4.1 and 5.

    The value is how many of the two count.
    """

    ENDPOINT_INDEPENDENT = 0
    ADDRESS_DEPENDENT = 1
    ADDRESS_AND_PORT_DEPENDENT = 2


class Ports(Enum):
    """How a new mapping gets its external port; RFC 4787, 4.2."""

    PRESERVED = "preserved"
    """The one inside if it is free, otherwise a random one."""
    SEQUENTIAL = "sequential"
    """The next free one: a mapping can be guessed from the last."""
    RANDOM = "random"
    """Any free one (RFC 6056, asked for by RFC 7857, 9)."""


@dataclass(frozen=True, slots=True)
class NatKind:
    """How a box behaves. The default is the common home router: endpoint-independent mapping, strict filtering."""

    mapping: Dependence = Dependence.ENDPOINT_INDEPENDENT
    filtering: Dependence = Dependence.ADDRESS_AND_PORT_DEPENDENT
    ports: Ports = Ports.PRESERVED
    hairpin: bool = True
    """Hosts inside reach each other by external endpoints (RFC 4787, REQ-9)."""
    paired: bool = True
    """With several external addresses, a host keeps the one it got first (RFC 4787, REQ-2)."""
    timeout_s: float = 120.0
    """A mapping, or a permission to come in, ends after so long without use, seconds.

    REQ-5 asks for 120 and more; boxes with 30 exist.
    """
    refresh_inbound: bool = False
    """Inbound packets are use as well; outbound ones always are (RFC 4787, REQ-6)."""
    capacity: int = PORT_COUNT
    """Mappings at a time, per external address: small at a carrier that shares addresses."""
    evicts: bool = False
    """With no port left, the mapping that was idle longest goes; otherwise what asked for a new one is lost."""
    udp: bool = True
    """False: nothing passes."""
    mtu: int = 65_507
    """Largest datagram, bytes of UDP payload; larger ones vanish without a word."""

    def __post_init__(self) -> None:
        if self.timeout_s <= 0 or self.mtu < 1 or not 1 <= self.capacity <= PORT_COUNT:
            raise ValueError(f"a time-out and an MTU are positive, a capacity is 1 to {PORT_COUNT}")


FULL_CONE: Final = NatKind(filtering=Dependence.ENDPOINT_INDEPENDENT)
ADDRESS_RESTRICTED: Final = NatKind(filtering=Dependence.ADDRESS_DEPENDENT)
PORT_RESTRICTED: Final = NatKind()
SYMMETRIC: Final = NatKind(mapping=Dependence.ADDRESS_AND_PORT_DEPENDENT, ports=Ports.RANDOM)
SYMMETRIC_SEQUENTIAL: Final = NatKind(mapping=Dependence.ADDRESS_AND_PORT_DEPENDENT, ports=Ports.SEQUENTIAL)
UDP_BLOCKED: Final = NatKind(udp=False)


class _Mapping:
    __slots__ = ("external", "inner", "key", "permits", "used")

    def __init__(self, key: tuple[object, ...], inner: Endpoint, external: Endpoint, now: float) -> None:
        self.key = key
        self.inner = inner
        self.external = external
        self.used = now
        self.permits: dict[tuple[object, ...], float] = {}
        """What of a remote endpoint the filter looks at -> when it was last used."""


class Nat:
    """One box between `inside`, a network it makes, and `outside`, where it has the `external` addresses.

    `kind` may be replaced at any time; mappings stay. What it does not pass is counted in `lost` by reason: `unmapped`,
    `filtered`, `ports`, `hairpin`, `udp`, `mtu`. IPv6 is not translated: `route` makes it a stateful firewall for an
    address, with the same filter and time-out (RFC 6092).
    """

    def __init__(self, outside: SimNetwork, kind: NatKind, *external: str, lan: Link = LAN) -> None:
        if not external:
            raise ValueError("a box needs an external address")
        self.outside = outside
        self.kind = kind
        self.external: tuple[str, ...] = external
        self.inside = SimNetwork(outside.loop, f"{outside.seed}/{external[0]}", trace=outside.trace)
        self.inside.default = lan
        self.inside.names = outside.names
        self.inside.gateway = _InnerSide(self)
        self.lost: Counter[str] = Counter()
        self._random = Random(f"nat/{outside.seed}/{external[0]}")
        self._routed: set[str] = set()
        self._mappings: dict[tuple[object, ...], _Mapping] = {}
        self._by_external: dict[Endpoint, _Mapping] = {}
        self._pairs: dict[str, str] = {}
        self._next_port = self._random.randrange(PORT_COUNT)
        for ip in external:
            outside.attach(ip, self)

    def __len__(self) -> int:
        """Mappings, those included that have ended and were not looked at since."""
        return len(self._mappings)

    def reboot(self, *external: str) -> None:
        """All mappings are lost; with arguments, the external addresses are others from now on."""
        self._mappings.clear()
        self._by_external.clear()
        self._pairs.clear()
        if external:
            for ip in self.external:
                self.outside.detach(ip)
            self.external = external
            for ip in external:
                self.outside.attach(ip, self)

    def route(self, ip: str) -> None:
        """This address inside (IPv6) is also its own outside."""
        self._routed.add(ip)
        self.outside.attach(ip, self)

    def external_of(self, inner: Endpoint, remote: Endpoint) -> Endpoint | None:
        """What `remote` sees when `inner` sends to it; None if there is no such mapping now."""
        mapping = self._mappings.get(self._key(inner, remote))
        return None if mapping is None or self._ended(mapping.used) else mapping.external

    def inbound(self, source: Endpoint, target: Endpoint, payloads: Sequence[bytes]) -> None:
        """From outside, to one of the external addresses. See `network.Receiver`."""
        passing = self._passing(payloads)
        inner = self._admit(source, target, passing)
        if inner is not None:
            self.inside.deliver(source, inner, passing)

    def leave(self, source: Endpoint, target: Endpoint, payloads: Sequence[bytes]) -> None:
        """From inside, to an address that is not inside."""
        passing = self._passing(payloads)
        if not passing:
            return
        mapping = self._mapping(source, target)
        if mapping is None:
            self._lose("ports", source, target, passing)
            return
        mapping.used = mapping.permits[target[: self.kind.filtering]] = self.outside.loop.time()
        if target[0] not in self.external:
            self.outside.outbound(mapping.external, target, passing)
        elif not self.kind.hairpin:
            self._lose("hairpin", source, target, passing)
        else:
            inner = self._admit(mapping.external, target, passing)
            if inner is not None:
                self.inside.outbound(mapping.external, inner, passing)

    def _admit(self, source: Endpoint, target: Endpoint, passing: Sequence[bytes]) -> Endpoint | None:
        """Whom inside these are for; None if they may not enter."""
        if not passing:
            return None
        mapping = self._by_external.get(target)
        if mapping is None or self._ended(mapping.used):
            self._lose("unmapped", source, target, passing)
            return None
        permit = source[: self.kind.filtering]
        if permit and self._ended(mapping.permits.get(permit, float("-inf"))):
            self._lose("filtered", source, target, passing)
            return None
        if self.kind.refresh_inbound:
            mapping.used = mapping.permits[permit] = self.outside.loop.time()
        return mapping.inner

    def _passing(self, payloads: Sequence[bytes]) -> Sequence[bytes]:
        if not self.kind.udp:
            self.lost["udp"] += len(payloads)
            return ()
        passing = [payload for payload in payloads if len(payload) <= self.kind.mtu]
        if len(passing) < len(payloads):
            self.lost["mtu"] += len(payloads) - len(passing)
        return passing

    def _key(self, inner: Endpoint, remote: Endpoint) -> tuple[object, ...]:
        return (inner, *remote[: self.kind.mapping])

    def _ended(self, used: float) -> bool:
        return self.outside.loop.time() - used > self.kind.timeout_s

    def _mapping(self, inner: Endpoint, remote: Endpoint) -> _Mapping | None:
        key = self._key(inner, remote)
        mapping = self._mappings.get(key)
        if mapping is not None:
            if not self._ended(mapping.used):
                return mapping
            self._forget(mapping)
        external = inner if inner[0] in self._routed else self._choose(inner)
        if external is None:
            return None
        mapping = _Mapping(key, inner, external, self.outside.loop.time())
        self._mappings[key] = self._by_external[external] = mapping
        return mapping

    def _choose(self, inner: Endpoint) -> Endpoint | None:
        """A free external endpoint for a new mapping."""
        ip = self.external[0]
        if len(self.external) > 1:
            ip = self._random.choice(self.external)
            if self.kind.paired:
                ip = self._pairs.setdefault(inner[0], ip)
        if len(self._mappings) >= self.kind.capacity:
            self._make_room(ip)
            if sum(external[0] == ip for external in self._by_external) >= self.kind.capacity:
                return None
        if self.kind.ports is Ports.PRESERVED and inner[1] >= FIRST_PORT and self._free(ip, inner[1]):
            return ip, inner[1]
        while True:
            if self.kind.ports is Ports.SEQUENTIAL:
                self._next_port = (self._next_port + 1) % PORT_COUNT
                port = self._next_port
            else:
                port = self._random.randrange(PORT_COUNT)
            if self._free(ip, FIRST_PORT + port):
                return ip, FIRST_PORT + port

    def _free(self, ip: str, port: int) -> bool:
        mapping = self._by_external.get((ip, port))
        if mapping is not None and self._ended(mapping.used):
            self._forget(mapping)
            return True
        return mapping is None

    def _make_room(self, ip: str) -> None:
        """Forgets what has ended on one address and, if that is not enough and this kind does so, the most idle."""
        used = [mapping for external, mapping in self._by_external.items() if external[0] == ip]
        live = [mapping for mapping in used if not self._ended(mapping.used)]
        for mapping in used:
            if self._ended(mapping.used):
                self._forget(mapping)
        if len(live) >= self.kind.capacity and self.kind.evicts:
            self._forget(min(live, key=lambda mapping: mapping.used))

    def _forget(self, mapping: _Mapping) -> None:
        del self._mappings[mapping.key]
        del self._by_external[mapping.external]

    def _lose(self, reason: str, source: Endpoint, target: Endpoint, payloads: Sequence[bytes]) -> None:
        self.lost[reason] += len(payloads)
        if self.outside.trace is not None:
            self.outside.trace.record(f"lost {reason}", *source, *target, len(payloads), *map(len, payloads))


class _InnerSide:
    """The face that a box shows to the network inside it."""

    def __init__(self, nat: Nat) -> None:
        self._nat = nat

    def inbound(self, source: Endpoint, target: Endpoint, payloads: Sequence[bytes]) -> None:
        self._nat.leave(source, target, payloads)
