"""What tests of whole nodes share: a network with friends in it, and words for what happens to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from covey.base.errors import CoveyError
from covey.base.paths import Home
from covey.base.schema import MessageView, PeerView
from covey.base.types import Identity, parse_identity
from covey.core.connection import Connection
from covey.node import Node
from covey.node.storage.check import check_store
from covey.node.transport import Stream
from covey.testing import HostCrashed, Link
from covey.testing.world import SimNode, SimRendezvous, World
from covey.wire.ticket import Ticket

T = TypeVar("T")

Scenario = Callable[[World], Awaitable[T]]


class Play(Protocol):
    def __call__(
        self, scenario: Scenario[T], *, seed: int = 1, link: Link | None = None, limit_s: float = 1800.0
    ) -> T: ...


async def network(world: World, *names: str) -> list[Node]:
    """A rendezvous and these nodes, all started."""
    await world.start_rendezvous()
    return [(await world.start_node(name)).node for name in names]


async def friends(world: World, *names: str) -> list[Node]:
    """A rendezvous and these nodes, who all trust each other."""
    nodes = await network(world, *names)
    await world.befriend(*names)
    return nodes


class Odd(SimNode):
    """A node whose name, network or clock are not what its place in the world says."""

    def __init__(self, world: World, profile: str, *, name: str, ticket: str | None) -> None:
        super().__init__(world, profile, f"10.0.2.{len(world.machines) + 1}")
        self.agent_name = name
        self.ticket = ticket

    async def start(self) -> None:
        self.node = Node(
            self.agent_name,
            network=self.ticket,
            home=self.home,
            host=self.host,
            listen=self.listen,
            durable=False,
        )
        await self.run_as(self.node.start())
        self.running = True


async def start_odd(world: World, profile: str, *, name: str = "", ticket: str = "", clock_s: float = 0.0) -> Node:
    """Starts a node with another name than its profile's, another ticket than the world's, or a wrong clock."""
    machine = Odd(world, profile, name=name or profile, ticket=ticket or world.ticket)
    machine.host.clock_offset_us = int(clock_s * 1e6)
    world.machines[profile] = machine
    await machine.start()
    return machine.node


def together(*tickets: str) -> str:
    """One network of several rendezvous."""
    first, *others = map(Ticket.parse, tickets)
    for other in others:
        first = first.joined(other)
    return str(first)


async def two_rendezvous(world: World) -> tuple[SimRendezvous, SimRendezvous]:
    first, second = await world.start_several("first", "second")
    return first, second


def raw(node: Node) -> Identity:
    return parse_identity(node.identity)


def about(node: Node, other: Node | str) -> PeerView:
    """What `node` knows of another, by name or identity, without asking the network."""
    wanted = other if isinstance(other, str) else other.identity
    agent = node._running
    for peer in agent.book.all():
        view = node._peer_view(peer)
        if wanted in (view.name, view.identity):
            return view
    raise AssertionError(f"{node.name} does not know {wanted}")


def trust(node: Node, other: Node | str) -> str:
    wanted = other if isinstance(other, str) else other.identity
    return next(
        (view.trust for view in node.peers() if wanted in (view.identity, view.name)),
        "unknown",
    )


async def connection(node: Node, other: Node) -> Connection:
    """A live connection, whether they trust each other or not."""
    await node.find(other.name)
    return await node._running.connector.connect(raw(other))


async def knock(node: Node, other: Node, service: str) -> Stream:
    """Opens a stream without asking our own node whether it makes sense."""
    return await node._running.transport.open(await connection(node, other), service)


async def bodies(node: Node, **options: Any) -> list[str]:
    return [message.body for message in await node.inbox_list(**options)]


async def take(node: Node, count: int, *, acknowledge: bool = True) -> list[MessageView]:
    """So many messages from the follower of the inbox, which is then closed."""
    following = node.inbox(acknowledge=acknowledge)
    taken = [await anext(following) for _ in range(count)]
    await following.aclose()  # type: ignore[attr-defined]
    return taken


async def code_of(action: Awaitable[object]) -> str:
    """The code of the CoveyError that it raises; "" if it succeeds."""
    try:
        await action
    except CoveyError as error:
        return error.code
    return ""


def user(world: World, name: str, action: Coroutine[Any, Any, T]) -> asyncio.Task[T | None]:
    """Something a user of this node does, who dies with it; None if the node failed or died under it."""
    return asyncio.ensure_future(_perhaps(world.machines[name].run_as(action)))


async def _perhaps(action: Coroutine[Any, Any, T]) -> T | None:
    task = asyncio.ensure_future(action)
    await asyncio.wait((task,))
    if task.cancelled():
        return None
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, CoveyError | HostCrashed):
        return None
    raise error


async def steps(count: int) -> None:
    """So many rounds of the loop: finer than any clock."""
    for _ in range(count):
        await asyncio.sleep(0)


def broken(world: World) -> list[str]:
    """What the nodes that were stopped or crashed keep and should not: see `storage.check`."""
    bad = ("store-inconsistent", "store-corrupt", "peer-damaged")
    return [
        f"{machine.name}: {finding.what}"
        for machine in world.nodes()
        for finding in check_store(Home.locate(machine.name, {"COVEY_HOME": str(world.directory)}, uid=0), 0)
        if finding.code in bad
    ]
