"""The lab: an internet of documentation addresses, servers in it, and agents behind boxes of every kind.

::

    with Lab() as lab:
        relay = lab.server("r1")
        alice = lab.agent("alice", nat="port-restricted")
        bob = lab.agent("bob", nat="symmetric")
        alice.run("ping", "-c1", relay.ip)
        lab.cut("alice", "bob")

Every uplink is a link of its own to one router, `internet`, which knows public addresses only and drops all others
without a word.
"""

from __future__ import annotations

from covey.base.errors import NotFoundError, UsageError
from covey.lab import faults, kinds, wiring
from covey.lab.kinds import Kind
from covey.lab.machine import Machine
from covey.lab.namespaces import ROOT, Namespaces, check_name

__all__ = ["Lab"]


class Lab:
    """Machines by name, in namespaces that end with it. A context manager."""

    def __init__(self) -> None:
        self.machines: dict[str, Machine] = {}
        self._namespaces = Namespaces()
        self.internet = Machine(self._namespaces, ROOT)
        self._faults = faults.Faults()
        self._servers = 0
        self._uplinks = 0
        self._lans = 0
        self._links = 0
        try:
            self._namespaces.build((ROOT, wiring.internet()))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends every process in the lab, and the lab."""
        self._namespaces.close()

    def __getitem__(self, name: str) -> Machine:
        if name not in self.machines:
            raise NotFoundError(f"no machine {name!r} in this lab", code="no-machine")
        return self.machines[name]

    # --- building --------------------------------------------------------------------------------------------------

    def server(self, name: str) -> Machine:
        """A host in the open internet, with IPv4 and IPv6."""
        machine = self._new(name)
        self._servers += 1
        machine.ip = f"198.51.100.{9 + self._servers}"
        machine.ip6 = f"2001:db8:ffff::{9 + self._servers:x}"
        self._stand_in_internet(machine)
        return machine

    def agent(self, name: str, nat: str | Kind = "none") -> Machine:
        """A host behind a box of its own, of the kind `nat`."""
        kind = kinds.kind(nat)
        machine = self._new(name, kind)
        if not kind.nat:
            machine.ip = self._public()
            self._stand_in_internet(machine)
            return machine
        box = machine.box = Machine(self._namespaces, f"{name}.box", kind)
        self.machines[box.name] = box
        box.device, box.ip = "wan", self._public()
        self._lans += 1
        self._link(box, ROOT)
        self._link(machine, box.name)
        lan = f"192.168.{self._lans}"
        machine.ip = f"{lan}.2"
        self._namespaces.build((ROOT, wiring.link(box) + wiring.link(machine) + wiring.route(box)))
        self._namespaces.build(
            (
                box.name,
                wiring.uplink(box) + wiring.lan(f"{lan}.1/24", [machine.link]) + wiring.nft(kinds.rules(kind, box.ip)),
            ),
            (machine.name, wiring.inside(machine, f"{lan}.1")),
        )
        return machine

    def _new(self, name: str, kind: Kind | None = None) -> Machine:
        if check_name(name) in self.machines or name == ROOT:
            raise UsageError(f"there is a machine {name!r} already", code="name-taken")
        machine = self.machines[name] = Machine(self._namespaces, name, kind)
        return machine

    def _public(self) -> str:
        self._uplinks += 1
        return f"203.0.113.{9 + self._uplinks}"

    def _link(self, machine: Machine, gateway: str) -> None:
        self._links += 1
        machine.gateway, machine.link = gateway, f"link{self._links}"

    def _stand_in_internet(self, machine: Machine) -> None:
        self._link(machine, ROOT)
        self._namespaces.build((ROOT, wiring.link(machine) + wiring.route(machine)))
        self._namespaces.build((machine.name, wiring.uplink(machine)))

    # --- breaking --------------------------------------------------------------------------------------------------

    def cut(self, one: str, other: str | None = None, *, over: int | None = None) -> None:
        """Drops what passes between two machines, or, without `other`, all that passes to and from one.

        With `over`, only IP packets larger than so many bytes. Who shares a box shares its cuts.
        """
        self._break(one, other, over or 0)

    def black_hole(self, one: str, other: str | None = None, *, over: int = kinds.SMALL) -> None:
        """As `cut`, of large packets: what is small, as pings are, passes."""
        self._break(one, other, over)

    def heal(self, one: str, other: str | None = None) -> None:
        """Ends what `cut` or `black_hole` began between these; without `other`, whatever was done to one."""
        self._faults.heal(self[one], None if other is None else self[other])
        self._apply(one, other)

    def _break(self, one: str, other: str | None, over: int) -> None:
        self._faults.cut(self[one], None if other is None else self[other], over)
        self._apply(one, other)

    def _apply(self, *names: str | None) -> None:
        touched = [self[name] for name in names if name is not None]
        self._namespaces.build(*(step for each in touched for step in self._faults.steps(each)))
