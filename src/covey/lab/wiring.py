"""Shell scripts that lay links and addresses, for `Namespaces.build`.

No link carries super-packets (`gso_max_segs 1`): a rule that looks at packets must see each of them (PROTOCOL 38).
"""

from __future__ import annotations

from typing import Final

from covey.lab.machine import Machine

__all__ = ["inside", "internet", "ip", "lan", "link", "nft", "route", "uplink"]

_GATEWAY: Final = "203.0.113.1"
_GATEWAY6: Final = "fe80::1"
_LINK: Final = "gso_max_segs 1"
_FORWARD: Final = "echo 1 >/proc/sys/net/ipv4/ip_forward\necho 1 >/proc/sys/net/ipv6/conf/all/forwarding\n"


def internet() -> str:
    """The router of public addresses. What it has no route for vanishes."""
    return _FORWARD + ip(f"address add {_GATEWAY}/32 dev lo", "route add blackhole default", "route add blackhole ::/0")


def link(machine: Machine) -> str:
    """Makes a machine and the link to its gateway; run in the first namespace."""
    near = f"netns {machine.gateway} " if machine.gateway_is_named else ""
    return ip(
        f"netns add {machine.name}",
        f"link add name {machine.link} mtu {machine.mtu} {_LINK} {near}"
        f"type veth peer name {machine.device} mtu {machine.mtu} {_LINK} netns {machine.name}",
    )


def route(machine: Machine) -> str:
    """The way from the internet to a machine."""
    lines = [f"link set {machine.link} addrgenmode none up"]
    if machine.ip:
        lines.append(f"route add {machine.ip}/32 dev {machine.link}")
    if machine.ip6:
        lines += [
            f"address add {_GATEWAY6}/64 dev {machine.link} nodad",
            f"route add {machine.ip6}/128 dev {machine.link}",
        ]
    return ip(*lines)


def uplink(machine: Machine) -> str:
    """Addresses and the way out of a machine that stands in the internet."""
    lines = ["link set lo up", f"link set {machine.device} addrgenmode none up"]
    if machine.ip:
        lines += [
            f"address add {machine.ip}/32 dev {machine.device}",
            f"route add default via {_GATEWAY} dev {machine.device} onlink",
        ]
    if machine.ip6:
        lines += [
            f"address add {machine.ip6}/128 dev {machine.device} nodad",
            f"route add ::/0 via {_GATEWAY6} dev {machine.device} onlink",
        ]
    return ip(*lines)


def lan(address: str, ports: list[str]) -> str:
    """The inner side of a box: a bridge."""
    return _FORWARD + ip(
        "link add name lan type bridge",
        "link set lan addrgenmode none up",
        f"address add {address} dev lan",
        *(f"link set {port} master lan addrgenmode none up" for port in ports),
    )


def inside(machine: Machine, gateway: str) -> str:
    """Addresses and the way out of a machine behind a box."""
    return ip(
        "link set lo up",
        f"link set {machine.device} addrgenmode none up",
        f"address add {machine.ip}/24 dev {machine.device}",
        f"route add default via {gateway}",
    )


def ip(*lines: str) -> str:
    """A script of one `ip -batch`."""
    return "ip -batch - <<'END'\n" + "\n".join(lines) + "\nEND\n"


def nft(rules: str) -> str:
    """A script of one `nft -f`."""
    return f"nft -f - <<'END'\n{rules}\nEND\n"
