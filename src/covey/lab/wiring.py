"""Shell scripts that lay links and addresses, for `Namespaces.build`.

No link carries super-packets (`gso_max_segs 1`): a rule that looks at packets must see each of them (PROTOCOL 38).
"""

from __future__ import annotations

from typing import Final

from covey.lab.machine import Machine
from covey.lab.namespaces import ROOT

__all__ = [
    "Plan",
    "forget_addresses",
    "inside",
    "internet",
    "ip",
    "lan",
    "link",
    "nft",
    "port",
    "route",
    "unplug",
    "unroute",
    "uplink",
]

_GATEWAY: Final = "203.0.113.1"
_GATEWAY6: Final = "fe80::1"
"""Every end of a link with IPv6 has such an address: the kernel asks for neighbours with no other when it forwards."""
_LINK: Final = "gso_max_segs 1"
_FORWARD: Final = "echo 1 >/proc/sys/net/ipv4/ip_forward\necho 1 >/proc/sys/net/ipv6/conf/all/forwarding\n"

_ROUTED: Final = "for each in /proc/sys/net/bridge/bridge-nf-call-ip*tables; do [ -w $each ] && echo 0 >$each; done\n"
"""NAT happens where the box routes, as on real ones, and not in its bridge, which sends nothing back where it came
from: not even what a machine sends to itself by way of the box' external address."""


class Plan:
    """Scripts for many namespaces: first what makes them, in order, then everything inside them at the same time."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._inside: dict[str, list[str]] = {}

    def first(self, script: str) -> None:
        self._first.append(script)

    def then(self, name: str, script: str) -> None:
        self._inside.setdefault(name, []).append(script)

    def steps(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """For two calls of `Namespaces.build`."""
        return [(ROOT, "".join(self._first))], [(name, "".join(each)) for name, each in self._inside.items()]


def internet() -> str:
    """The router of public addresses. What it has no route for vanishes."""
    return _FORWARD + ip(f"address add {_GATEWAY}/32 dev lo", "route add blackhole default", "route add blackhole ::/0")


def link(machine: Machine, *, new: bool) -> str:
    """The link between a machine and its box or the internet; run in the latter. `new`: makes the machine as well."""
    where = "" if machine.box is None else f"netns {machine.gateway} "
    near = f"name {machine.link} mtu {machine.mtu} {_LINK} {where}"
    far = f"name {machine.device} mtu {machine.mtu} {_LINK} netns {machine.name}"
    return ip(*([f"netns add {machine.name}"] if new else []), f"link add {near} type veth peer {far}")


def route(machine: Machine) -> str:
    """The way from the internet to a machine, and to the IPv6 network inside it."""
    lines = [f"link set {machine.link} addrgenmode none up"]
    if machine.ip:
        lines.append(f"route add {machine.ip}/32 dev {machine.link}")
    if machine.ip6:
        lines += [
            f"address add {_GATEWAY6}/64 dev {machine.link} nodad",
            f"route add {machine.ip6}/128 dev {machine.link}",
        ]
    if machine.lan6:
        lines.append(f"route add {machine.lan6}:/64 via {machine.ip6} dev {machine.link} onlink")
    return ip(*lines)


def unroute(machine: Machine) -> str:
    """The opposite."""
    return ip(f"route flush dev {machine.link}")


def unplug(machine: Machine) -> str:
    """Removes a machine's link, both ends."""
    return ip(f"link del {machine.device}")


def forget_addresses(machine: Machine) -> str:
    """Before `uplink` gives others."""
    return ip(f"address flush dev {machine.device}")


def uplink(machine: Machine) -> str:
    """Addresses and the way out of a machine that stands in the internet."""
    lines = ["link set lo up", f"link set {machine.device} addrgenmode none up"]
    if machine.ip:
        lines += [
            f"address add {machine.ip}/32 dev {machine.device}",
            f"route replace default via {_GATEWAY} dev {machine.device} onlink",
        ]
    if machine.ip6:
        lines += [
            f"address replace fe80::2/64 dev {machine.device} nodad",
            f"address replace {machine.ip6}/128 dev {machine.device} nodad",
            f"route replace ::/0 via {_GATEWAY6} dev {machine.device} onlink",
        ]
    return ip(*lines)


def lan(box: Machine) -> str:
    """The inner side of a box: a bridge."""
    lines = ["link add name lan type bridge", "link set lan addrgenmode none up"]
    if box.lan:
        lines.append(f"address add {box.lan}.1/24 dev lan")
    if box.lan6:
        lines += ["address replace fe80::1/64 dev lan nodad", f"address add {box.lan6}:1/64 dev lan nodad"]
    return _FORWARD + _ROUTED + ip(*lines)


def port(machine: Machine) -> str:
    """A machine's link becomes part of its box' inner side."""
    return ip(f"link set {machine.link} master lan addrgenmode none up")


def inside(machine: Machine) -> str:
    """Addresses and the way out of a machine behind a box."""
    assert machine.box is not None
    lines = ["link set lo up", f"link set {machine.device} addrgenmode none up"]
    if machine.ip:
        lines += [
            f"address add {machine.ip}/24 dev {machine.device}",
            f"route add default via {machine.box.lan}.1 dev {machine.device}",
        ]
    if machine.ip6:
        lines += [
            f"address add fe80::{machine.ip6.rpartition(':')[2]}/64 dev {machine.device} nodad",
            f"address add {machine.ip6}/64 dev {machine.device} nodad",
            f"route add ::/0 via {machine.box.lan6}:1 dev {machine.device}",
        ]
    return ip(*lines)


def ip(*lines: str) -> str:
    """A script of one `ip -batch`."""
    return "ip -batch - <<'END'\n" + "\n".join(lines) + "\nEND\n"


def nft(rules: str) -> str:
    """A script of one `nft -f`."""
    return f"nft -f - <<'END'\n{rules}\nEND\n"
