"""The lab: an internet of documentation addresses, servers in it, and agents behind boxes of every kind.

::

    with Lab() as lab:
        server = lab.server("r1")
        alice = lab.agent("alice", nat="port-restricted")
        lab.agent("bob", nat="symmetric")
        alice.python("program", server.ip)
        lab.cut("alice", "bob")

Every uplink is a link of its own to one router, `internet`, which knows public addresses only and drops all others
without a word.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from covey.base.errors import LimitError, NotFoundError, UsageError
from covey.lab import forget, kinds, rules, services, wiring
from covey.lab.faults import Faults
from covey.lab.kinds import Kind
from covey.lab.machine import Machine
from covey.lab.namespaces import ROOT, Namespaces, check_name
from covey.lab.picture import picture

__all__ = ["Lab"]

_SERVERS: Final = "198.51.100"
_AGENTS: Final = "203.0.113"
_UPNP: Final = "11.0.0"
"""miniupnpd serves no box that has a documentation address outside. Nothing leaves the lab."""
_FIRST: Final = 10
_MOST: Final = 240
"""Machines of one sort."""


class Lab:
    """Machines by name, in namespaces that end with it. A context manager.

    Raises StateError `lab-unavailable` where the system has no namespaces for us, or not the programs we need.
    """

    def __init__(
        self, namespaces: Namespaces | None = None, directory: Path | None = None, *, built: bool = False
    ) -> None:
        """As a context manager it takes no arguments. `covey lab` gives it namespaces that outlive the process, which
        are `built` if a lab was made of them before.
        """
        self.machines: dict[str, Machine] = {}
        """Agents, servers and boxes, in the order in which they were made."""
        self.faults = Faults()
        self.counts: Counter[str] = Counter()
        """What was ever made of each sort: no address is used again."""
        self._stack = ExitStack()
        self.namespaces = namespaces or self._stack.enter_context(Namespaces.make("nft"))
        self._directory = directory
        self.internet = Machine(self.namespaces, ROOT)
        if not built:
            try:
                self.namespaces.build((ROOT, wiring.internet()))
            except BaseException:
                self._stack.close()
                raise

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends every process in the lab, and the lab."""
        self._stack.close()
        for machine in self.machines.values():
            for program in machine.programs:
                program.wait()

    def __getitem__(self, name: str) -> Machine:
        if name not in self.machines:
            raise NotFoundError(f"there is no machine {name!r} in this lab", code="no-machine")
        return self.machines[name]

    @property
    def directory(self) -> Path:
        """For the files of what runs on boxes; made when it is needed."""
        if self._directory is None:
            self._directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="covey-lab-")))
        return self._directory

    def text(self) -> str:
        """The topology, drawn."""
        return picture(self.machines.values(), self.faults)

    # --- building --------------------------------------------------------------------------------------------------

    def server(self, name: str) -> Machine:
        """A host in the open internet, with IPv4 and IPv6."""
        plan = wiring.Plan()
        machine = self._new(name)
        number = self._count("servers")
        machine.ip, machine.ip6 = f"{_SERVERS}.{number}", f"2001:db8:ffff::{number:x}"
        self._stand_in_internet(machine, plan, new=True)
        self._carry_out(plan)
        return machine

    def agent(self, name: str, nat: str | Kind = "none", *, beside: str | None = None) -> Machine:
        """A host behind a box of its own, of the kind `nat`; or behind the same box as the agent `beside`."""
        plan = wiring.Plan()
        if beside is None:
            kind, box = kinds.kind(nat), None
        else:
            box = self[beside].box
            if box is None or box.kind is None:
                raise UsageError(f"{beside} stands behind no box", code="bad-kind")
            kind = box.kind
        machine = self._new(name, kind)
        if box is None and kind.box:
            box = self._box(f"{name}.box", kind, plan)
        self._connect(machine, box, plan, new=True)
        self._carry_out(plan)
        if box is not None and beside is None:
            self._serve(box)
        return machine

    def change_uplink(self, name: str, nat: str | Kind | None = None) -> None:
        """The machine leaves its network for another, of the same kind unless told: new link, addresses and box.

        All is ready before the old link goes, so that the machine is without one for a moment only.
        """
        machine = self[name]
        old = machine.box
        kind = kinds.kind(machine.kind or "none" if nat is None else nat)
        number = self._count("moves")
        plan = wiring.Plan()
        box = self._box(f"{name}.box{number}", kind, plan) if kind.box else None
        if box is not None:
            self._carry_out(plan)
            self._serve(box)
        plan = wiring.Plan()
        plan.then(name, wiring.unplug(machine))
        machine.kind, machine.device = kind, f"eth{number}"
        self._connect(machine, box, plan, new=False)
        self._carry_out(plan)
        self._remove_unused(old)
        self._apply(*self.faults.names())

    def redial(self, name: str) -> None:
        """The machine's box gets another address outside and forgets its mappings; inside nothing changes.

        A machine without a box gets another address on the same device.
        """
        machine = self[name]
        box = self._outermost(machine)
        if box.ip6 or box.lan6:
            raise UsageError(f"{name} has IPv6; only IPv4 addresses are dialled anew", code="bad-kind")
        plan = wiring.Plan()
        plan.first(wiring.unroute(box))
        plan.then(box.name, wiring.forget_addresses(box))
        self._give_public_addresses(box)
        plan.first(wiring.route(box))
        plan.then(box.name, wiring.uplink(box))
        self._carry_out(plan)
        if box is not machine:
            self.forget(name)
        self._apply(*self.faults.names())

    def forget(self, name: str) -> None:
        """The machine's boxes forget their mappings, as in a restart; those that were asked for as well."""
        box = self[name].box
        if box is None:
            raise UsageError(f"{name} stands behind no box", code="bad-kind")
        while box is not None:
            self._restart(box)
            box = box.box

    def _restart(self, box: Machine) -> None:
        assert box.kind is not None
        if box.kind.upnp:
            self.namespaces.kill(box.name)
        self.namespaces.build((box.name, wiring.nft(rules.box(box.kind, box.ip))))
        box.run(*_FORGET)
        if box.kind.upnp:
            self._serve(box)

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
        touched = self.faults.heal(self[one], None if other is None else self[other])
        self._apply(*touched)

    def _break(self, one: str, other: str | None, over: int) -> None:
        self.faults.cut(self[one], None if other is None else self[other], over)
        self._apply(*(each for each in (one, other) if each is not None))

    def _apply(self, *names: str) -> None:
        self.namespaces.build(*(step for name in names for step in self.faults.steps(self[name])))

    # --- parts -----------------------------------------------------------------------------------------------------

    def _new(self, name: str, kind: Kind | None = None, *, box: bool = False) -> Machine:
        if not box:
            check_name(name)
        if name in self.machines or name == ROOT:
            raise UsageError(f"there is a machine {name!r} already", code="name-taken")
        machine = self.machines[name] = Machine(self.namespaces, name, kind)
        return machine

    def _box(self, name: str, kind: Kind, plan: wiring.Plan) -> Machine:
        """A box, and the carrier's before it if the kind says so."""
        outer = self._box(f"{name}.carrier", kinds.CARRIER, plan) if kind.double else None
        box = self._new(name, kind, box=True)
        box.device, box.mtu = "wan", kind.mtu
        number = self._count("lans")
        if kind.ipv4:
            box.lan = f"192.168.{number}" if kind is not kinds.CARRIER else f"100.64.{number}"
        if kind.ipv6:
            box.lan6 = f"2001:db8:{number:x}:"
        self._connect(box, outer, plan, new=True)
        plan.then(box.name, wiring.lan(box) + rules.timeouts(kind) + wiring.nft(rules.box(kind, box.ip)))
        return box

    def _connect(self, machine: Machine, box: Machine | None, plan: wiring.Plan, *, new: bool) -> None:
        """Gives a machine its link and addresses, behind a box or in the internet."""
        machine.box = box
        if box is None:
            machine.environment = {}
            self._give_public_addresses(machine)
            self._stand_in_internet(machine, plan, new=new)
            return
        machine.link = f"link{self._count('links')}"
        box.hosts += 1
        machine.environment = {"HTTPS_PROXY": services.proxy_url(box)} if box.kind and box.kind.proxy else {}
        machine.ip = f"{box.lan}.{1 + box.hosts}" if box.lan else ""
        machine.ip6 = f"{box.lan6}:{1 + box.hosts:x}" if box.lan6 else ""
        plan.first(wiring.link(machine, new=new))
        plan.then(box.name, wiring.port(machine))
        plan.then(machine.name, wiring.inside(machine))

    def _stand_in_internet(self, machine: Machine, plan: wiring.Plan, *, new: bool) -> None:
        machine.link = f"link{self._count('links')}"
        plan.first(wiring.link(machine, new=new) + wiring.route(machine))
        plan.then(machine.name, wiring.uplink(machine))

    def _serve(self, box: Machine) -> None:
        assert box.kind is not None
        if box.kind.proxy or box.kind.upnp:
            services.start(box, self.directory)

    def _carry_out(self, plan: wiring.Plan) -> None:
        for steps in plan.steps():
            self.namespaces.build(*steps)

    def _give_public_addresses(self, machine: Machine) -> None:
        kind = machine.kind or kinds.CARRIER
        number = self._count("agents")
        machine.ip = f"{_UPNP if kind.upnp else _AGENTS}.{number}" if kind.ipv4 else ""
        machine.ip6 = f"2001:db8:fffe::{number:x}" if kind.ipv6 else ""

    def _count(self, what: str) -> int:
        number = self.counts[what] + 1
        if what in ("servers", "agents", "lans"):
            number = max(number, _FIRST)
            if number > _FIRST + _MOST:
                raise LimitError(f"a lab has addresses for {_MOST} {what}", code="lab-full")
        self.counts[what] = number
        return number

    @staticmethod
    def _outermost(machine: Machine) -> Machine:
        while machine.box is not None:
            machine = machine.box
        return machine

    def _remove_unused(self, box: Machine | None) -> None:
        """A box that nobody stands behind any more, and those before it."""
        if box is None or any(each.box is box for each in self.machines.values()):
            return
        del self.machines[box.name]
        self.namespaces.remove(box.name)
        for program in box.programs:
            program.wait()
        self._remove_unused(box.box)


_FORGET: Final = (sys.executable, "-I", "-S", str(Path(forget.__file__).resolve()))
