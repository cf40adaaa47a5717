"""The kinds of network an agent may stand in, in the words of RFC 4787."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from covey.base.errors import UsageError

__all__ = ["CARRIER", "KINDS", "LOW_PORTS", "SMALL", "Filtering", "Kind", "Ports", "kind"]

MAPPING_SECONDS: Final = 120
"""How long a mapping lasts without use (REQ-5: two minutes at least)."""

LOW_PORTS: Final = (1024, 4095)
"""What CHANGED takes ports from: none that a socket gets by itself."""

SMALL: Final = 200
"""Largest IP packet that a black hole lets pass, bytes."""

LEAST_MTU: Final = 1280
"""What IPv6 asks of any link, bytes (RFC 8200, 5); tunnels are down there."""


class Ports(Enum):
    """External ports; RFC 4787, 4.2.

    PRESERVED and CHANGED map by inside endpoint (endpoint-independent mapping), the others anew for each remote one.
    """

    PRESERVED = "preserved"
    CHANGED = "changed"
    """A random one, for inside ports that are not in `LOW_PORTS` themselves."""
    RANDOM = "random"
    SEQUENTIAL = "sequential"


class Filtering(Enum):
    """Who may send to a mapping; RFC 4787, 5."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"


@dataclass(frozen=True, slots=True)
class Kind:
    """How a network is. The default is the common home router, without IPv6."""

    box: bool = True
    """False: a machine has the public address itself, and nothing stands before it."""
    ports: Ports = Ports.PRESERVED
    filtering: Filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT
    hairpin: bool = False
    """Machines inside reach each other by external endpoints (REQ-9). The filter does not apply to them."""
    mapping_s: int = MAPPING_SECONDS
    double: bool = False
    """The box stands behind a carrier's, which is port-restricted."""
    udp: bool = True
    """False: no UDP passes."""
    proxy: bool = False
    """Nothing passes but what goes by way of the box's HTTP proxy."""
    ipv4: bool = True
    ipv6: bool = False
    """Routed, behind a filter that lets in what was asked for."""
    mtu: int = 1500
    """Of the link between the box and the internet, bytes."""
    swallows_over: int = 0
    """UDP in IP packets larger than this vanishes unless a server sent it or is to have it; 0: none does."""
    upnp: bool = False
    """The box runs miniupnpd: UPnP IGD, NAT-PMP and PCP."""

    def __post_init__(self) -> None:
        if not (self.ipv4 or self.ipv6) or self.mapping_s < 1 or not LEAST_MTU <= self.mtu <= 65_535:
            raise UsageError(
                f"a network has IPv4 or IPv6, an MTU of {LEAST_MTU} to 65535, and mappings last a second at least",
                code="bad-kind",
            )


KINDS: Final = {
    "none": Kind(box=False),
    "full-cone": Kind(filtering=Filtering.ENDPOINT_INDEPENDENT),
    "address-restricted": Kind(filtering=Filtering.ADDRESS_DEPENDENT),
    "port-restricted": Kind(),
    "port-changing": Kind(ports=Ports.CHANGED),
    "symmetric": Kind(ports=Ports.RANDOM),
    "sequential": Kind(ports=Ports.SEQUENTIAL),
    "double": Kind(double=True),
    "hairpin": Kind(hairpin=True),
    "udp-blocked": Kind(udp=False),
    "proxy-only": Kind(proxy=True),
    "ipv6-only": Kind(ipv4=False, ipv6=True),
    "dual-stack": Kind(ipv6=True),
    "mtu-1280": Kind(mtu=LEAST_MTU),
    "black-hole": Kind(swallows_over=SMALL),
    "forgetful": Kind(mapping_s=20),
    "upnp": Kind(upnp=True),
}

CARRIER: Final = Kind()
"""Of the outer box of two."""


def kind(name: str | Kind) -> Kind:
    """Raises UsageError `bad-kind`."""
    if isinstance(name, Kind):
        return name
    if name not in KINDS:
        raise UsageError(f"no kind of network is called {name!r}; there are: {', '.join(KINDS)}", code="bad-kind")
    return KINDS[name]
