"""Two identities on one address, with addresses of 16 bits, so that they are easily found (PROTOCOL 6)."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from covey.crypto.address import address
from covey.crypto.credentials import Credentials
from covey.node import Node
from covey.node.addressing import YOUNG_US
from covey.node.storage import prepare, save
from covey.node.storage.identity import load_or_create
from covey.testing.world import SimNode, World
from tests.node.stage import Play, code_of, raw, together, trust, two_rendezvous

BITS = 16


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covey.crypto.address.ADDRESS_BITS", BITS)


def twins(now_us: int) -> tuple[Credentials, Credentials]:
    """Two identities whose first addresses are the same."""
    random, seen = Random(8492), {}
    while True:
        credentials = Credentials.create(random.randbytes, now_us)[0]
        found = seen.setdefault(address(credentials.identity, 0), credentials)
        if found is not credentials:
            return found, credentials


async def start_twins(world: World, *names: str, tickets: tuple[str, ...] = ()) -> list[Node]:
    nodes = []
    pair = twins(1_767_225_600_000_000)
    for number, (name, credentials) in enumerate(zip(names, pair, strict=True)):
        machine: SimNode = world.place(name)
        prepare(machine.home)
        load_or_create(machine.home, machine.host.random, machine.host.wall_us())
        save(machine.home, credentials)
        everybody = world.ticket
        if tickets:
            world.ticket = tickets[number]
        await machine.start()
        world.ticket = everybody
        nodes.append(machine.node)
    assert raw(nodes[0]) == pair[0].identity
    await world.until(lambda: all(node.name_view().held for node in nodes))
    return nodes


def test_lookup_of_a_shared_address_names_all_who_claim_it(play: Play) -> None:
    async def scenario(world: World) -> None:
        await two_rendezvous(world)
        x, y = await start_twins(world, "x", "y")
        asker = (await world.start_node("asker")).node
        assert x.address == y.address
        assert await code_of(asker.find(x.address)) == "ambiguous-address"
        assert (await asker.find("x")).identity == x.identity
        assert (await asker.find(y.identity)).identity == y.identity

    play(scenario)


def test_claims_known_to_one_rendezvous_each_are_joined(play: Play) -> None:
    async def scenario(world: World) -> None:
        first, second = await two_rendezvous(world)
        x, y = await start_twins(world, "x", "y", tickets=(first.ticket, second.ticket))
        asker = (await world.start_node("asker")).node
        await world.until(lambda: asker.name_view().held == 2)
        assert x.address == y.address
        assert await code_of(asker.find(x.address)) == "ambiguous-address"
        await world.crash("second")
        await asyncio.sleep(30.0)
        assert (await asker.find(x.address)).identity == x.identity, "with one witness nobody can know better"
        assert world.ticket == together(first.ticket, second.ticket)

    play(scenario)


def test_young_agents_that_nobody_trusts_move_apart_and_remember_it(play: Play) -> None:
    async def scenario(world: World) -> None:
        await two_rendezvous(world)
        x, y = await start_twins(world, "x", "y")
        asker = (await world.start_node("asker")).node
        shared = x.address
        await world.until(lambda: x.address != y.address)
        await asyncio.sleep(90.0)
        addresses = {x.address, y.address}
        assert len(addresses) == 2
        for node in (x, y):
            assert (await asker.find(node.address)).identity == node.identity
        moved = [name for name, node in (("x", x), ("y", y)) if node.address != shared]
        assert moved
        for name in moved:
            kept = world.node(name).address
            await world.crash(name)
            await world.restart(name)
            assert world.node(name).address == kept

    play(scenario)


def test_agent_that_is_trusted_never_moves_and_its_peers_reach_it_by_address(play: Play) -> None:
    async def scenario(world: World) -> None:
        await two_rendezvous(world)
        friend = (await world.start_node("friend")).node
        x, y = await start_twins(world, "x", "y")
        await world.befriend("x", "friend")
        await world.befriend("y", "friend")
        shared = x.address
        await asyncio.sleep(2 * 3600.0)
        assert (x.address, y.address) == (shared, shared)
        assert await code_of(friend.find(shared)) == "ambiguous-address", "both are pinned"
        await friend.untrust("y")
        await world.until(lambda: trust(friend, x) == "trusted")
        assert (await friend.find(shared)).identity == x.identity, "the pin chooses"
        assert (await friend.send(shared, "to the pinned one", wait=10.0)).peer == x.identity

    play(scenario, limit_s=9000.0)


def test_agent_older_than_a_day_never_moves(play: Play) -> None:
    async def scenario(world: World) -> None:
        await two_rendezvous(world)
        x, y = await start_twins(world, "x", "y")
        for node in (x, y):
            node._running.addressing._born_us -= YOUNG_US
        shared = x.address
        await asyncio.sleep(300.0)
        assert x.address == y.address == shared

    play(scenario)
