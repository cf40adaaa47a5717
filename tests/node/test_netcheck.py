"""What `covey netcheck` finds out behind boxes of every kind, and what it says when it cannot."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from covey.base.schema import NetcheckView
from covey.node.netcheck import LIMIT_SECONDS, measure
from covey.node.prospects import CODES, netcheck_view, proxies
from covey.testing import Link, run
from covey.testing.nat import FULL_CONE, PORT_RESTRICTED, SYMMETRIC, SYMMETRIC_SEQUENTIAL, UDP_BLOCKED, NatKind
from covey.testing.world import World
from covey.wire.ticket import Ticket, TicketEntry

OPERATIONS: Final = Path(__file__).parents[2] / "docs" / "operations.md"

KINDS: Final[dict[str, tuple[NatKind | None, str]]] = {
    "none": (None, "direct"),
    "full-cone": (FULL_CONE, "direct"),
    "port-restricted": (PORT_RESTRICTED, "direct"),
    "sequential": (SYMMETRIC_SEQUENTIAL, "hard-hard"),
    "symmetric": (SYMMETRIC, "hard-hard"),
}
"""The box by the name that people give it, and what it means for a peer behind a symmetric one."""


def play(directory: Path, scenario: Callable[[World], Awaitable[None]]) -> None:
    async def begin() -> None:
        async with World(directory, seed=1, link=Link(latency_s=0.02)) as world:
            await scenario(world)

    run(begin(), limit_virtual_s=120)


async def look(world: World, kind: NatKind | None, ticket: Ticket | None) -> NetcheckView:
    """From a machine behind such a box on which no node runs."""
    if kind is not None:
        world.nat("box", kind)
    machine = world.place("a", behind=None if kind is None else "box")
    found = await machine.run_as(measure(machine.host, ticket))
    return netcheck_view(found, {})


def codes(view: NetcheckView) -> set[str]:
    return {each.code for each in view.findings}


@pytest.mark.parametrize("name", KINDS)
def test_box_is_recognised_and_what_it_means_is_told(name: str, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ticket = Ticket.parse((await world.start_rendezvous()).ticket)
        ticket = ticket.joined(Ticket.parse((await world.start_rendezvous("another")).ticket))
        kind, symmetric = KINDS[name]
        view = await look(world, kind, ticket)
        assert view.nat == name
        assert {each.nat: each.why for each in view.foretold}["symmetric"].replace("birthday", "direct") == symmetric
        assert (view.network.udp, len(view.network.public), len(view.rendezvous)) == (True, 1, 2)
        assert all(each.udp_ms is not None and 40 <= each.udp_ms < 200 for each in view.rendezvous)
        assert codes(view) <= {"hard-nat"}
        assert view.elapsed_ms < 1000 * LIMIT_SECONDS

    play(tmp_path, scenario)


def test_silence_has_an_end_and_names_the_likely_cause(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ticket = Ticket.parse((await world.start_rendezvous()).ticket)
        view = await look(world, UDP_BLOCKED, ticket)
        assert codes(view) == {"nobody-answers"}
        assert (view.nat, view.network.udp, view.foretold) == ("unknown", False, [])
        assert view.unmeasured
        assert view.elapsed_ms <= 1000 * LIMIT_SECONDS + 1

    play(tmp_path, scenario)


def test_one_silent_rendezvous_of_two_is_named(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ticket = Ticket.parse((await world.start_rendezvous()).ticket)
        other = await world.start_rendezvous("another")
        ticket = ticket.joined(Ticket.parse(other.ticket))
        await other.stop()
        view = await look(world, PORT_RESTRICTED, ticket)
        assert codes(view) == {"rendezvous-silent"}
        assert view.nat in ("port-restricted", "address-restricted")

    play(tmp_path, scenario)


def test_names_that_nobody_knows_are_the_cause(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        known = Ticket.parse((await world.start_rendezvous()).ticket).entries[0]
        ticket = Ticket((TicketEntry(known.identity, ("rendezvous.invalid:4040",)),))
        view = await look(world, None, ticket)
        assert codes(view) == {"names-not-found"}
        assert "rendezvous.invalid" in view.findings[0].what

    play(tmp_path, scenario)


def test_without_a_network_there_is_nobody_to_ask(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        assert codes(await look(world, None, None)) == {"no-network"}

    play(tmp_path, scenario)


def test_running_node_says_how_each_peer_could_be_reached_and_is(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.start_several("one", "two")
        for name, kind in (("a", SYMMETRIC), ("b", SYMMETRIC), ("c", None), ("d", FULL_CONE)):
            if kind is not None:
                world.nat(f"{name}'s box", kind)
            await world.start_node(name, behind=None if kind is None else f"{name}'s box")
        await world.befriend("a", "b", "c", "d")
        await world.wait(15.0)
        await world.machines["d"].stop()
        await world.wait(1.0)
        view = await world.node("a").netcheck()
        assert (view.daemon, view.nat) == (True, "symmetric")
        said = {each.name: (each.nat, each.expected, each.path, each.why) for each in view.peers}
        assert said["b"] == ("symmetric", "hard-hard", "relay", "hard-hard")
        assert said["c"] == ("none", "direct", "direct", "direct")
        assert said["d"] == ("unknown", "", "", "peer-offline")
        assert all(each.change for each in view.peers if each.path != "direct")

    play(tmp_path, scenario)


def test_proxies_are_shown_without_their_credentials() -> None:
    environment = {
        "HTTPS_PROXY": "http://user:p@ss@proxy.example:3128",
        "all_proxy": "user:secret@proxy.example:80",
        "https_proxy": "http://user:p://ss@proxy.example",
        "ALL_PROXY": "user:p://ss@proxy.example",
        "NO_PROXY": "localhost",
        "HTTP_PROXY": "http://not-ours:1",
    }
    assert proxies(environment) == [
        "https_proxy=http://proxy.example",
        "HTTPS_PROXY=http://proxy.example:3128",
        "all_proxy=proxy.example:80",
        "ALL_PROXY=proxy.example",
        "NO_PROXY=localhost",
    ]


def test_operations_page_explains_every_code() -> None:
    section = OPERATIONS.read_text().partition("| `covey netcheck` says |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE)) == set(CODES)
