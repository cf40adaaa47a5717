"""What the network does to packets on purpose: cuts, and black holes that let only small packets pass.

Each rule stands where packets come off a link, at both ends of the machine's own: what it sends is dropped by its box
or the internet, and never refused at home, where a program would see the error.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from covey.lab import wiring
from covey.lab.machine import Machine

__all__ = ["Fault", "Faults"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One of them."""

    one: Machine
    other: Machine | None
    """None: everybody."""
    over: int
    """Largest IP packet that passes, bytes; 0: none does."""


class Faults:
    """The faults of a lab, and the scripts that put them in force."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def cut(self, one: Machine, other: Machine | None, over: int) -> None:
        self._forget(one, other)
        self._faults.append(Fault(one, other, over))

    def heal(self, one: Machine, other: Machine | None) -> set[str]:
        """The names of those whose rules change."""
        ended = [
            each
            for each in self._faults
            if (one in (each.one, each.other) if other is None else {each.one, each.other} == {one, other})
        ]
        self._faults = [each for each in self._faults if each not in ended]
        return {each.name for fault in ended for each in (fault.one, fault.other) if each is not None}

    def _forget(self, one: Machine, other: Machine | None) -> None:
        pair = {one, other}
        self._faults = [each for each in self._faults if {each.one, each.other} != pair]

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults)

    def names(self) -> set[str]:
        """Of the machines that have some."""
        return {each.name for fault in self._faults for each in (fault.one, fault.other) if each is not None}

    def steps(self, machine: Machine) -> list[tuple[str, str]]:
        """What brings the rules at a machine's link up to date."""
        leaving, arriving = self._rules(machine, "daddr"), self._rules(machine, "saddr")
        return [
            (machine.gateway, wiring.nft(_table(machine.link, machine.link, leaving))),
            (machine.name, wiring.nft(_table("lab", machine.device, arriving))),
        ]

    def _rules(self, machine: Machine, field: str) -> list[str]:
        rules = []
        for fault in self._faults:
            if machine not in (fault.one, fault.other):
                continue
            size = f"meta length > {fault.over} " if fault.over else ""
            other = fault.other if machine is fault.one else fault.one
            if other is None:
                rules.append(f"meta protocol {{ ip, ip6 }} {size}drop")
            else:
                rules += [f"{_protocol(each)} {field} {each} {size}drop" for each in other.addresses()]
        return rules


def _table(name: str, device: str, rules: list[str]) -> str:
    lines = "\n".join(rules)
    return (
        f"table netdev {name} {{}}\ndelete table netdev {name}\ntable netdev {name} {{\n"
        f"chain ingress {{ type filter hook ingress device {device} priority 0;\n{lines}\n}}\n}}\n"
    )


def _protocol(address: str) -> str:
    return "ip6" if ipaddress.ip_address(address).version == 6 else "ip"
