"""Names are leased first come, changed, and given up, at every rendezvous of the network."""

from __future__ import annotations

import asyncio

import pytest

from covey.base.errors import StateError
from covey.base.events import NameChanged
from covey.rendezvous.store import NAME_LEASE_US
from covey.testing.world import SimRendezvous, World
from tests.node.stage import Play, code_of, friends, network, start_odd, together, trust, two_rendezvous


def test_name_is_changed_at_runtime_and_the_old_one_is_free_for_others(play: Play) -> None:
    async def scenario(world: World) -> None:
        await two_rendezvous(world)
        a, b, c = [(await world.start_node(name)).node for name in ("a", "b", "c")]
        await world.until(lambda: a.name_view().held == b.name_view().held == c.name_view().held == 2)
        events = a.subscribe()
        view = await a.set_name("renamed")
        assert (view.name, view.chosen, view.rendezvous, view.held, view.taken) == ("renamed", True, 2, 2, 0)
        assert a.view().name == a.name == "renamed"
        while not isinstance(event := await anext(events), NameChanged):
            pass
        assert (event.name, event.before) == ("renamed", "a")
        assert (await b.find("renamed")).identity == a.identity
        assert await code_of(b.find("a")) == "unknown-peer"
        assert (await c.set_name("a")).held == 2
        assert (await b.find("a")).identity == c.identity

    play(scenario)


def test_name_of_another_is_refused_and_the_old_one_kept(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        await world.until(lambda: b.name_view().held == 1)
        with pytest.raises(StateError) as taken:
            await a.set_name("b")
        assert (taken.value.code, b.identity in taken.value.message) == ("name-taken", True)
        assert await code_of(a.set_name("No Name")) == "bad-name"
        assert a.name == "a"
        assert (await b.find("a")).identity == a.identity

    play(scenario)


def test_name_released_is_free_at_once_and_the_agent_goes_by_a_made_up_one(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        await world.until(lambda: a.name_view().held == b.name_view().held == 1)
        view = await a.release_name()
        assert (view.chosen, view.name) == (False, f"agent-{a.identity[:8]}")
        assert (await b.set_name("a")).held == 1
        assert (await a.find("a")).identity == b.identity
        assert (await b.find(view.name)).identity == a.identity

    play(scenario)


def test_name_set_is_remembered_by_the_next_start(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.start_rendezvous()
        node = await start_odd(world, "nameless", name="first")
        assert (await node.set_name("second")).name == "second"
        machine = world.machines["nameless"]
        await world.crash("nameless")
        machine.agent_name = ""  # type: ignore[union-attr]
        await world.restart("nameless")
        assert world.node("nameless").name == "second"

    play(scenario)


def test_rendezvous_that_was_away_hears_of_the_new_name_when_it_is_back(play: Play) -> None:
    async def scenario(world: World) -> None:
        await two_rendezvous(world)
        a = (await world.start_node("a")).node
        await world.until(lambda: a.name_view().held == 2)
        await world.crash("second")
        await asyncio.sleep(60.0)
        assert (await a.set_name("renamed")).held == 1
        await world.restart("second")
        await world.until(lambda: a.name_view().held == 2)

    play(scenario)


def test_name_set_without_any_rendezvous_is_claimed_when_one_comes(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await network(world, "a", "b")
        await world.until(lambda: a.name_view().held == 1)
        await world.crash("rendezvous")
        await asyncio.sleep(60.0)
        assert (await a.set_name("renamed")).held == 0
        await world.restart("rendezvous")
        await world.until(lambda: a.name_view().held == 1)
        assert (await world.node("b").find("renamed")).identity == a.identity

    play(scenario)


def test_lease_runs_out_without_its_agent_and_somebody_else_may_take_the_name(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        rendezvous = world.machines["rendezvous"]
        assert isinstance(rendezvous, SimRendezvous)
        await world.until(lambda: a.name_view().held == 1)
        await world.crash("a")
        assert await code_of(b.set_name("a")) == "name-taken"
        store = rendezvous.store.database  # seven days later, without seven days of keepalives
        store.execute("UPDATE names SET lease_us = lease_us - ? WHERE name = 'a'", (NAME_LEASE_US,))
        assert (await b.set_name("a")).held == 1
        await world.restart("a")
        await world.until(lambda: world.node("a").name_view().taken == 1)
        assert any(each.code == "name-taken" for each in world.node("a").view().findings)

    play(scenario)


def test_two_who_take_a_name_at_two_rendezvous_at_once_both_hear_of_it(play: Play) -> None:
    """First come per rendezvous: nobody can order the two. Each sees one that holds the name for the other."""

    async def scenario(world: World) -> None:
        first, second = await two_rendezvous(world)
        one = await start_odd(world, "one", name="same", ticket=first.ticket)
        two = await start_odd(world, "two", name="same", ticket=second.ticket)
        await world.until(lambda: one.name_view().held == two.name_view().held == 1)
        for name in ("one", "two"):
            await world.crash(name)
            world.machines[name].ticket = together(first.ticket, second.ticket)  # type: ignore[union-attr]
            await world.restart(name)
        one, two = world.node("one"), world.node("two")
        await world.until(lambda: [(v.held, v.taken) for v in (one.name_view(), two.name_view())] == [(1, 1), (1, 1)])
        asker = (await world.start_node("asker")).node
        assert await code_of(asker.find("same")) == "name-disputed"

    play(scenario)


def test_trusted_peers_keep_the_name_they_know(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        await b.set_name("renamed")
        await a.find(b.identity)
        assert (await a.send("b", "by its old name")).peer == b.identity
        assert trust(a, "b") == "trusted"

    play(scenario)
