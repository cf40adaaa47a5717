"""The nftables rules of a box between its devices `lan` and `wan`.

The kernel's own NAT does most of it. It keeps a source's port where it is free, uses the mapping of a source again for
other destinations (endpoint-independent mapping), and lets in what belongs to a connection (address- and
port-dependent filtering). What differs from that is made with two sets, which every packet from inside refreshes:
`inside` says whose an external port is, `permits` to which addresses it has sent.

What arrives and nobody asked for is dropped before it is confirmed as a connection. Otherwise the datagram of a peer
that punches earlier than we do would hold the endpoint that our own mapping needs, and the box would look symmetric.
"""

from __future__ import annotations

from typing import Final

from covey.lab.kinds import LOW_PORTS, Filtering, Kind, Ports

__all__ = ["SERVERS", "TABLE", "UPNP_CHAINS", "box", "timeouts"]

TABLE: Final = "box"
SERVERS: Final = "198.51.100.0/24"

UPNP_CHAINS: Final = {
    "upnp_forward_chain": "upnp_forward",
    "upnp_nat_chain": "upnp_prerouting",
    "upnp_nat_postrouting_chain": "upnp_postrouting",
}
"""miniupnpd's settings and the chains in which it writes."""

_ICMP: Final = 1
_ICMPV6: Final = 58
"""By number: names of protocols are in a file that a bare system lacks."""

_FIRST_PORT: Final = 20_000
_SEQUENCE: Final = 2_048
"""Ports that a sequential box goes through before it begins again: enough for any test, quick to load."""


def timeouts(kind: Kind) -> str:
    """A script: how long the kernel keeps mappings, those that were answered and those that were not."""
    names = ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream")
    return "".join(f"echo {kind.mapping_s} >/proc/sys/net/netfilter/{name}\n" for name in names)


def box(kind: Kind, wan: str) -> str:
    """The whole rule set; `wan` is the box's IPv4 address outside, "" if it has none."""
    upnp = [f"chain {name} {{}}" for name in UPNP_CHAINS.values()] if kind.upnp else []
    lasting = f"flags dynamic,timeout; timeout {kind.mapping_s}s;"
    body = [
        f"map inside {{ type inet_service : ipv4_addr . inet_service; {lasting} }}",
        f"set permits {{ type inet_service . ipv4_addr; {lasting} }}",
        *upnp,
        *_chain("type nat hook prerouting priority dstnat", _prerouting(kind, wan)),
        *_chain("type nat hook postrouting priority srcnat", _postrouting(kind, wan)),
        *_chain("type filter hook forward priority filter; policy drop", _forward(kind)),
        *_chain("type filter hook input priority filter", _input(wan)),
        *_chain("type filter hook postrouting priority srcnat + 1", _remember(kind) if wan else []),
    ]
    lines = "\n".join(body)
    return f"table inet {TABLE} {{}}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n{lines}\n}}\n"


_OUT: Final = "oifname wan meta nfproto ipv4 meta l4proto udp ct direction"
_REMEMBER: Final = [
    f"{_OUT} original update @inside {{ ct reply proto-dst : ct original ip saddr . ct original proto-src }}",
    f"{_OUT} original update @permits {{ ct reply proto-dst . ip daddr }}",
    f"{_OUT} reply update @inside {{ ct original proto-dst : ct reply ip saddr . ct reply proto-src }}",
    f"{_OUT} reply update @permits {{ ct original proto-dst . ip daddr }}",
]


def _remember(kind: Kind) -> list[str]:
    """Only where `_prerouting` asks: it is work for each packet."""
    asks = kind.hairpin or kind.filtering is not Filtering.ADDRESS_AND_PORT_DEPENDENT
    return _REMEMBER if asks else []


def _chain(hook: str, rules: list[str]) -> list[str]:
    name = hook.split()[3] + ("_last" if "+" in hook else "")
    return [f"chain {name} {{ {hook};", *rules, "}"]


def _prerouting(kind: Kind, wan: str) -> list[str]:
    to_inside = "dnat ip to udp dport map @inside"
    rules = []
    if wan and kind.filtering is Filtering.ENDPOINT_INDEPENDENT:
        rules.append(f"iifname wan meta l4proto udp {to_inside}")
    if wan and kind.filtering is Filtering.ADDRESS_DEPENDENT:
        rules.append(f"iifname wan udp dport . ip saddr @permits {to_inside}")
    if wan and kind.hairpin:
        rules.append(f"iifname lan ip daddr {wan} meta l4proto udp {to_inside}")
    if kind.upnp:
        rules.append(f"jump {UPNP_CHAINS['upnp_nat_chain']}")
    return rules


def _postrouting(kind: Kind, wan: str) -> list[str]:
    if not wan:
        return []
    rules = []
    if kind.upnp:
        rules.append(f"jump {UPNP_CHAINS['upnp_nat_postrouting_chain']}")
    if kind.hairpin:
        rules.append(f"iifname lan oifname lan ct status dnat snat ip to {wan}")
    if kind.ports is Ports.SEQUENTIAL:
        # A map, because the kernel would write the number of `numgen` with its bytes in the wrong order.
        ports = ", ".join(f"{number} : {_FIRST_PORT + number}" for number in range(_SEQUENCE))
        rules.append(f"oifname wan meta l4proto udp snat ip to {wan} : numgen inc mod {_SEQUENCE} map {{ {ports} }}")
    if kind.ports is Ports.CHANGED:
        first, last = LOW_PORTS
        rules.append(f"oifname wan meta l4proto udp snat ip to {wan} : {first}-{last}")
    how = " fully-random" if kind.ports is Ports.RANDOM else ""
    return [*rules, f"oifname wan meta nfproto ipv4 snat ip to {wan}{how}"]


def _forward(kind: Kind) -> list[str]:
    if kind.proxy:
        return []
    rules = []
    if not kind.udp:
        rules.append("meta l4proto udp drop")
    if kind.swallows_over:
        small = f"ip saddr != {SERVERS} ip daddr != {SERVERS} meta l4proto udp meta length > {kind.swallows_over}"
        rules.append(f"{small} drop")
    rules += ["ct state established,related accept", "iifname lan accept", "ct status dnat accept"]
    if kind.upnp:
        rules.append(f"jump {UPNP_CHAINS['upnp_forward_chain']}")
    return rules


def _input(wan: str) -> list[str]:
    rules = [
        "ct state established,related accept",
        f"meta l4proto {{ {_ICMP}, {_ICMPV6} }} accept",
        "iifname wan drop",
    ]
    return [*rules, f"iifname lan ip daddr {wan} drop"] if wan else rules
