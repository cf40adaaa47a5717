"""A lab's topology in text."""

from __future__ import annotations

from collections.abc import Iterable

from covey.lab.faults import Fault
from covey.lab.kinds import KINDS
from covey.lab.machine import Machine

__all__ = ["kind_name", "picture"]


def picture(machines: Iterable[Machine], faults: Iterable[Fault]) -> str:
    """A tree that begins at the internet, and what is broken."""
    everyone = list(machines)
    lines = ["internet", *_below(None, everyone, "")]
    broken = [_fault(each) for each in faults]
    return "\n".join([*lines, *(["", *broken] if broken else [])])


def kind_name(machine: Machine) -> str:
    """A name of KINDS, or "custom"; "server" for what has no kind."""
    if machine.kind is None:
        return "server"
    return next((name for name, kind in KINDS.items() if kind == machine.kind), "custom")


def _below(box: Machine | None, everyone: list[Machine], indent: str) -> list[str]:
    here = [each for each in everyone if each.box is box]
    lines = []
    for number, machine in enumerate(here, 1):
        last = number == len(here)
        lines.append(f"{indent}{'`-- ' if last else '|-- '}{_line(machine)}")
        lines += _below(machine, everyone, indent + ("    " if last else "|   "))
    return lines


def _line(machine: Machine) -> str:
    addresses = " ".join(each for each in (machine.ip, machine.ip6) if each)
    what = f" ({kind_name(machine)})" if machine.box is None or machine.lan or machine.lan6 else ""
    return f"{machine.name}{what} {addresses}"


def _fault(fault: Fault) -> str:
    other = "everybody" if fault.other is None else fault.other.name
    what = f"IP packets over {fault.over} bytes vanish" if fault.over else "nothing passes"
    return f"{fault.one.name} x {other}: {what}"
