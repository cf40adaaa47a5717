"""Whole nodes and rendezvous in one simulated network: start, crash, restart, look.

::

    async def scenario() -> None:
        async with World(directory, seed=7) as world:
            await world.start_rendezvous("rv")
            a, b = await world.start_node("a"), await world.start_node("b")
            await world.befriend("a", "b")
            ...
            world.nat("home", PORT_RESTRICTED)
            await world.start_node("c", behind="home")
            ...
            await world.crash("b")
            await world.restart("b")

    run(scenario(), seed=7)

A node here is the real one: its asyncio code, its SQLite files (without fsync: a crash loses the process, not the
machine). A crash cancels its tasks without letting them say anything and drops every uncommitted transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import copy_context
from pathlib import Path
from typing import Any, TypeVar

from covey.base.errors import CoveyError
from covey.base.path_rules import PathRules
from covey.base.paths import Home
from covey.node import Node
from covey.node.relays import RelayPolicy
from covey.node.storage import load_or_create, prepare
from covey.rendezvous.mailboxes import MailboxStore
from covey.rendezvous.server import Rendezvous
from covey.rendezvous.store import RendezvousStore
from covey.testing.host import SimHost
from covey.testing.link import Link
from covey.testing.loop import OWNER, SimLoop
from covey.testing.nat import Nat, NatKind
from covey.testing.network import SimNetwork
from covey.wire.relay import Relaying
from covey.wire.ticket import Ticket

__all__ = ["SimNode", "SimRendezvous", "World"]

T = TypeVar("T")

RENDEZVOUS_PORT = 4040


class _Machine:
    """What nodes and rendezvous share: a host, and tasks that die with it."""

    def __init__(self, world: World, name: str, ip: str, network: SimNetwork | None = None) -> None:
        self.world = world
        self.name = name
        self.host = SimHost(world.network if network is None else network, ip, disk_s=world.disk_s)
        self.running = False

    async def run_as(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine whose tasks belong to this machine."""
        context = copy_context()
        context.run(OWNER.set, self)
        return await asyncio.get_running_loop().create_task(coroutine, context=context)

    async def kill(self, close: Callable[[], None]) -> None:
        """The process is gone at once: nothing is sent, nothing is committed."""
        self.running = False
        self.host.crash()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        close()
        while tasks := loop.tasks_of(self):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class SimNode(_Machine):
    """One agent. `node` is the running `Node`, another object after every restart."""

    node: Node
    relaying: RelayPolicy | None = None
    """Whether it relays for its peers, and which relays it uses."""
    birthday = False
    path_rules: PathRules | None = None

    @property
    def listen(self) -> str:
        """Behind a box as everywhere else; in the open the one address, so that a test can name it."""
        return f"{self.host.ip if self.host.network is self.world.network else '0.0.0.0'}:0"  # noqa: S104

    @property
    def home(self) -> Home:
        return Home.locate(self.name, {"COVEY_HOME": str(self.world.directory)}, uid=0)

    async def start(self) -> None:
        self.node = Node(
            self.name,
            network=self.world.ticket,
            home=self.home,
            host=self.host,
            listen=self.listen,
            durable=False,
            relaying=self.relaying,
            birthday=self.birthday,
            path_rules=self.path_rules,
        )
        await self.run_as(self.node.start())
        self.running = True

    async def stop(self) -> None:
        self.running = False
        await self.run_as(self.node.close())

    async def crash(self) -> None:
        def close() -> None:
            self.node.abandon()

        await self.kill(close)


class SimRendezvous(_Machine):
    """One rendezvous at port 4040 of its host."""

    server: Rendezvous
    ticket: str
    relaying = Relaying(True)
    """What it tells its clients about relaying for them."""

    async def start(self) -> None:
        home = Home.locate(self.name, {"COVEY_HOME": str(self.world.directory)}, uid=0)
        prepare(home)
        credentials = load_or_create(home, self.host.random, self.host.wall_us())
        self.store = RendezvousStore(home.state_dir / "cache.db", synchronous="OFF")
        self.mailboxes = MailboxStore(home.state_dir / "mailboxes.db", synchronous="OFF")

        async def begin() -> str:
            self.server = Rendezvous(
                self.host,
                credentials,
                self.store,
                self.mailboxes,
                listen=(self.host.ip, RENDEZVOUS_PORT),
                advertise=None,
                relaying=self.relaying,
            )
            return str(await self.server.start())

        self.ticket = await self.run_as(begin())
        self.running = True

    async def stop(self) -> None:
        self.running = False
        await self.run_as(self.server.close(1.0))
        self._close_stores()

    async def crash(self) -> None:
        def close() -> None:
            self.server._transport.driver.close()
            self._close_stores()

        await self.kill(close)

    def _close_stores(self) -> None:
        self.store.close()
        self.mailboxes.close()


class World:
    """Machines by name. `directory` holds their files; everything random comes from `seed`.

    `disk_s` is what each transaction takes, virtual seconds: with none, a crash never finds one half done.
    """

    def __init__(self, directory: Path, *, seed: int, link: Link | None = None, disk_s: float = 0.0) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self.directory = directory
        self.disk_s = disk_s
        self.network = SimNetwork(loop, seed)
        if link is not None:
            self.network.default = link
        self.machines: dict[str, SimNode | SimRendezvous] = {}
        self.boxes: dict[str, Nat] = {}
        self.ticket: str | None = None

    async def __aenter__(self) -> World:
        return self

    async def __aexit__(self, *_: object) -> None:
        for machine in list(self.machines.values()):
            if machine.running:
                await machine.stop()

    def node(self, name: str) -> Node:
        machine = self.machines[name]
        assert isinstance(machine, SimNode)
        return machine.node

    def nodes(self) -> list[SimNode]:
        return [machine for machine in self.machines.values() if isinstance(machine, SimNode)]

    async def start_several(self, *names: str, relaying: Sequence[Relaying] = ()) -> list[SimRendezvous]:
        """Several rendezvous, all of which the world's ticket names."""
        before = self.ticket
        terms = [*relaying, *(Relaying(True) for _ in names)]
        machines = [await self.start_rendezvous(name, relaying=each) for name, each in zip(names, terms, strict=False)]
        self.ticket = before
        for machine in machines:
            self.join(machine.ticket)
        return machines

    def join(self, ticket: str) -> None:
        """The world's ticket names these rendezvous, too."""
        mine = Ticket.parse(ticket)
        self.ticket = str(mine if self.ticket is None else Ticket.parse(self.ticket).joined(mine))

    def apart(self, first: str, second: str) -> None:
        """Nothing passes between these two machines directly, for good."""
        self.network.set_link(self.machines[first].host.ip, self.machines[second].host.ip, Link(loss=1.0))

    async def start_rendezvous(
        self,
        name: str = "rendezvous",
        *,
        relaying: Relaying = Relaying(True),  # noqa: B008 - frozen
    ) -> SimRendezvous:
        machine = SimRendezvous(self, name, f"10.0.1.{len(self.machines) + 1}")
        machine.relaying = relaying
        self.machines[name] = machine
        await machine.start()
        self.ticket = machine.ticket
        return machine

    def nat(self, name: str, kind: NatKind, *, behind: str | None = None) -> Nat:
        """A box with one external address, on the internet or behind another box."""
        number = len(self.boxes) + 1
        if behind is None:
            box = Nat(self.network, kind, _numbered("198.18", number))
        else:
            box = Nat(self.boxes[behind].inside, kind, _numbered("100.64", number))
        self.boxes[name] = box
        return box

    def place(self, name: str, *, behind: str | None = None) -> SimNode:
        """A node that is not started yet, in the open or behind a box."""
        number = len(self.machines) + 1
        if behind is None:
            machine = SimNode(self, name, _numbered("10.0", 512 + number))
        else:
            # The first host of every home has the same address, as at home.
            inside = self.boxes[behind].inside
            machine = SimNode(self, name, f"192.168.1.{2 + len(inside)}", inside)
        self.machines[name] = machine
        return machine

    async def start_node(
        self, name: str, *, behind: str | None = None, relaying: RelayPolicy | None = None, birthday: bool = False
    ) -> SimNode:
        machine = self.place(name, behind=behind)
        machine.relaying = relaying
        machine.birthday = birthday
        await machine.start()
        return machine

    def cut(self, name: str) -> None:
        """Nothing passes between this machine and any other, until `heal`."""
        host = self.machines[name].host
        host.network.partition([host.ip])

    def heal(self) -> None:
        """End every partition, also inside boxes."""
        self.network.heal()
        for box in self.boxes.values():
            box.inside.heal()

    async def suspend(self, name: str, seconds: float) -> None:
        """This machine sleeps: nothing of it runs, nothing arrives, timers stand still; its clocks go on."""
        machine = self.machines[name]
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        loop.freeze(machine)
        machine.host.asleep = True
        await asyncio.sleep(seconds)
        machine.host.asleep = False
        loop.thaw(machine)

    async def crash(self, name: str) -> None:
        await self.machines[name].crash()

    async def restart(self, name: str) -> None:
        """Starts a crashed (or stopped) machine again, with the same address and files."""
        machine = self.machines[name]
        machine.host = machine.host.restart()
        await machine.start()

    async def befriend(self, *names: str) -> None:
        """Every pair of these nodes trusts each other, by asking from both sides."""
        for first in names:
            for second in names:
                if first != second:
                    await self.patiently(lambda first=first, second=second: self.node(first).handshake(second))  # type: ignore[misc]
        for first in names:
            wanted = {self.node(second).identity for second in names if second != first}
            await self.until(lambda first=first, wanted=wanted: wanted <= self.trusted(first))  # type: ignore[misc]

    def trusted(self, name: str) -> set[str]:
        """The identities that this node trusts and is trusted by, as far as it knows."""
        return {peer.identity for peer in self.node(name).peers() if peer.trust == "trusted"}

    async def wait(self, seconds: float) -> None:
        """Virtual time passes."""
        await asyncio.sleep(seconds)

    async def until(self, condition: Callable[[], bool], *, step: float = 0.05) -> None:
        """Virtual time passes until `condition()` holds; the simulation's time limit ends a vain wait."""
        while not condition():  # noqa: ASYNC110 - a condition over whole nodes has no event, and virtual time is free
            await asyncio.sleep(step)

    async def patiently(self, action: Callable[[], Awaitable[T]], *, pause: float = 0.5) -> T:
        """Repeats a command that fails for a passing reason, as a user or a script would."""
        while True:
            try:
                return await action()
            except CoveyError:
                await asyncio.sleep(pause)


def _numbered(prefix: str, number: int) -> str:
    return f"{prefix}.{number >> 8}.{number & 255}"
