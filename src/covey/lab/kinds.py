"""The kinds of network an agent may stand in, in the words of RFC 4787, and the nftables rules that make them.

The kernel's own NAT maps by inside endpoint as long as ports are free (it uses an existing mapping of the same source
again) and lets in what belongs to a connection: address- and port-dependent filtering. What differs is made of that.
Packets that nobody asked for are dropped before they are confirmed as connections; otherwise one from a peer that
punches earlier than we do would take the port of our own mapping, and the box would look symmetric to that peer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from covey.base.errors import UsageError

__all__ = ["KINDS", "Filtering", "Kind", "Ports", "kind"]

MAPPING_SECONDS: Final = 120
"""How long a mapping lasts without use (RFC 4787, REQ-5: at least two minutes)."""
SMALL: Final = 200
"""Largest IP packet that the kind `black-hole` lets pass, bytes."""
TUNNEL_MTU: Final = 1280
SEQUENTIAL_FIRST: Final = 20_000
SEQUENTIAL_COUNT: Final = 40_000


class Ports(Enum):
    """External ports; RFC 4787, 4.2. PRESERVED maps by inside endpoint, the others anew for each remote endpoint."""

    PRESERVED = "preserved"
    RANDOM = "random"
    SEQUENTIAL = "sequential"


class Filtering(Enum):
    """Who may send to a mapping; RFC 4787, 5."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"


@dataclass(frozen=True, slots=True)
class Kind:
    """A network's kind. The default is the common home router."""

    nat: bool = True
    """False: the machine has the public address itself."""
    ports: Ports = Ports.PRESERVED
    filtering: Filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT
    hairpin: bool = False
    """Machines inside reach each other by external endpoints (RFC 4787, REQ-9)."""
    mapping_s: int = MAPPING_SECONDS
    double: bool = False
    """A carrier's box of the default kind stands behind this one."""
    udp: bool = True
    """False: no UDP passes."""
    proxy: bool = False
    """Nothing passes but what goes by way of the box's HTTP proxy."""
    ipv4: bool = True
    ipv6: bool = False
    mtu: int = 1500
    """Of the link between the box and the internet, bytes."""
    swallows_over: int = 0
    """UDP in IP packets larger than this vanishes unless a server sent it or is to have it; 0: none does."""
    upnp: bool = False
    """The box runs miniupnpd: UPnP IGD, NAT-PMP and PCP."""

    def __post_init__(self) -> None:
        if not (self.ipv4 or self.ipv6) or self.mapping_s < 1:
            raise UsageError("a network has IPv4 or IPv6, and mappings last a second at least", code="bad-kind")


KINDS: Final = {
    "none": Kind(nat=False),
    "full-cone": Kind(filtering=Filtering.ENDPOINT_INDEPENDENT),
    "port-restricted": Kind(),
    "symmetric": Kind(ports=Ports.RANDOM),
}


def kind(name: str | Kind) -> Kind:
    """Raises UsageError `bad-kind`."""
    if isinstance(name, Kind):
        return name
    if name not in KINDS:
        raise UsageError(f"no kind of network is called {name!r}; there are: {', '.join(KINDS)}", code="bad-kind")
    return KINDS[name]


def rules(what: Kind, wan_ip: str) -> str:
    """The rules of a box between the devices `lan` and `wan`."""
    return f"""
table ip box {{
  map hosts {{ type inet_service : ipv4_addr; flags dynamic,timeout; timeout {what.mapping_s}s; }}
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    {_inbound(what)}
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    {_outbound(what, wan_ip)}
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    iifname "lan" oifname "wan" meta l4proto udp update @hosts {{ udp sport : ip saddr }}
    ct state established,related accept
    iifname "lan" accept
    ct status dnat accept
  }}
  chain input {{
    type filter hook input priority filter;
    ct state established,related accept
    iifname "wan" ip protocol != icmp drop
    iifname "lan" ip daddr {wan_ip} drop
  }}
}}
"""


def _inbound(what: Kind) -> str:
    if what.filtering is Filtering.ENDPOINT_INDEPENDENT:
        return 'iifname "wan" meta l4proto udp dnat to udp dport map @hosts'
    return ""


def _outbound(what: Kind, wan_ip: str) -> str:
    if what.ports is Ports.PRESERVED:
        return f'oifname "wan" snat to {wan_ip}'
    if what.ports is Ports.RANDOM:
        return f'oifname "wan" snat to {wan_ip} fully-random'
    return (
        f'oifname "wan" meta l4proto udp snat to {wan_ip}:numgen inc mod {SEQUENTIAL_COUNT} offset {SEQUENTIAL_FIRST}\n'
        f'    oifname "wan" snat to {wan_ip}'
    )
