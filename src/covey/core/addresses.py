"""What an address says about where it is."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Final

__all__ = ["is_local"]

_LOCAL: Final = tuple(
    map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"))
)


def is_local(host: str) -> bool:
    """Whether this is an IP literal, and of a network that is not the internet."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return any(address in network for network in _LOCAL if network.version == address.version)
