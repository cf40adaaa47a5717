"""What every way to have a port mapped looks like, and what it gives: used by `portmap.py`, which chooses one."""

from __future__ import annotations

import ipaddress
from typing import Final, Literal, NamedTuple, Protocol

from covey.base.errors import RefusedError
from covey.base.types import Endpoint

__all__ = ["LEASE_SECONDS", "Lease", "MappingMethod", "MethodName", "check_external", "is_loopback", "is_reachable"]

MethodName = Literal["pcp", "nat-pmp", "upnp"]

LEASE_SECONDS: Final = 1200
"""How long a mapping is asked for. Ours: short (RFC 6886 proposes 7200), because the hole that a killed process leaves
in a firewall may be another program's tomorrow, and because it is at a renewal that a router which restarted in
silence is found out."""

_UNREACHABLE: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # between a provider's NAT and its customers (RFC 6598)
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.168.0.0/16",
        "224.0.0.0/3",
        "::/8",
        "fc00::/7",
        "fe80::/10",
        "ff00::/8",
    )
)


class Lease(NamedTuple):
    """A router lets UDP packets to `external` through to `internal`, until it is over or was given back."""

    method: MethodName
    internal: Endpoint
    external: Endpoint
    seconds: float
    """From the moment it was granted; 0: until it is given back."""


class MappingMethod(Protocol):
    """One protocol that a router may speak, towards one router. Errors are UnreachableError (it does not answer) and
    RefusedError (it answered no)."""

    @property
    def name(self) -> MethodName: ...

    async def probe(self) -> None:
        """Returns when the router speaks it. Changes nothing there."""
        ...

    async def map(self, internal: Endpoint, wanted: Endpoint | None) -> Lease:
        """Makes or renews a mapping; `wanted` is what we had, if we had one."""
        ...

    async def unmap(self, lease: Lease) -> None:
        """Gives it back, with one short try."""
        ...


def check_external(external: Endpoint) -> Endpoint:
    """RefusedError (`double-nat`) for one that nobody outside the router's own network can reach."""
    if not is_reachable(external[0]):
        raise RefusedError(f"the router itself is behind a NAT: it maps {external[0]}", code="double-nat")
    return external


def is_reachable(host: str) -> bool:
    """Whether an IP literal could be one of the internet. Those of documentation are: labs use them."""
    address = ipaddress.ip_address(host)
    return not any(address in network for network in _UNREACHABLE if network.version == address.version)


def is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback
