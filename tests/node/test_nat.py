"""What a node knows of its own network, and what it tells the peers that it trusts."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from covey.base.declared import Declared
from covey.base.schema import CandidateView
from covey.base.types import Identity
from covey.core.path import Route
from covey.core.paths import Paths
from covey.testing import Link, SimHost, run
from covey.testing.nat import PORT_RESTRICTED, SYMMETRIC, SYMMETRIC_SEQUENTIAL, UDP_BLOCKED, NatKind
from covey.testing.world import World
from covey.wire.control import Candidate, Mapping, Ports

WAN: Final = Link(latency_s=0.02)


async def behind(world: World, name: str, kind: NatKind) -> None:
    world.nat(f"{name}'s box", kind)
    await world.start_node(name, behind=f"{name}'s box")


def paths(world: World, name: str, peer: str) -> Paths:
    """Of the session of these two."""
    endpoint = world.node(name)._running.transport.endpoint
    session = endpoint.connections[world.node(peer)._running.credentials.identity].session
    assert session is not None
    return session.paths


def test_view_tells_what_was_measured_and_by_whom(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await world.start_several("r1", "r2")
            await behind(world, "a", SYMMETRIC)
            assert world.node("a").network_view().udp is None
            await world.until(lambda: world.node("a").network_view().measured is not None)
            await world.until(lambda: sum(r.connected for r in world.node("a").view().rendezvous) == 2)
            found = world.node("a").network_view()
            hard = "address-and-port-dependent"
            assert (found.mapping, found.filtering, found.ports, found.step) == (hard, hard, "random", 0)
            assert (found.udp, found.hairpin, found.ipv6) == (True, None, False)
            assert found.public == [world.boxes["a's box"].external[0]]
            assert [each.kind for each in found.observers] == ["rendezvous", "rendezvous", "second-port", "second-port"]
            assert {each.kind for each in found.candidates} == {"host", "reflexive"}

    run(scenario(), limit_virtual_s=60)


def test_peers_know_the_traits_before_they_look_for_a_direct_path(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await world.start_rendezvous()
            await behind(world, "a", SYMMETRIC_SEQUENTIAL)
            await behind(world, "b", PORT_RESTRICTED)
            await world.befriend("a", "b")
            await world.until(lambda: bool(paths(world, "b", "a").remote_candidates))
            traits = paths(world, "b", "a").remote_traits
            assert (traits.mapping, traits.ports, traits.step) == (
                Mapping.ADDRESS_AND_PORT_DEPENDENT,
                Ports.SEQUENTIAL,
                1,
            )
            await world.until(lambda: bool(paths(world, "a", "b").remote_candidates))
            assert paths(world, "a", "b").remote_traits.mapping is Mapping.ENDPOINT_INDEPENDENT

    run(scenario(), limit_virtual_s=60)


def test_classification_keeps_up_when_the_box_or_the_network_changes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await world.start_several("r1", "r2")
            await behind(world, "a", PORT_RESTRICTED)
            view = world.node("a").network_view
            await world.until(lambda: view().measured is not None)
            await world.until(lambda: sum(r.observed != "" for r in world.node("a").view().rendezvous) == 2)
            assert view().mapping == "endpoint-independent"
            box = world.boxes["a's box"]
            box.kind = SYMMETRIC
            box.reboot()  # what every session is seen at changes
            await world.until(lambda: view().mapping == "address-and-port-dependent")
            home = world.nat("another box", PORT_RESTRICTED)
            world.machines["a"].host.move(home.inside, "192.168.1.7")
            await world.until(lambda: view().mapping == "endpoint-independent")
            assert home.external[0] in view().public

    run(scenario(), limit_virtual_s=300)


def test_nobody_answers_and_then_somebody_does(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await world.start_rendezvous()
            await behind(world, "a", UDP_BLOCKED)
            view = world.node("a").network_view
            await world.until(lambda: view().udp is False)
            assert (view().mapping, view().public) == ("unknown", [])
            world.boxes["a's box"].kind = PORT_RESTRICTED
            await world.until(lambda: view().mapping == "endpoint-independent")

    run(scenario(), limit_virtual_s=120)


def test_what_the_operator_declares_is_told_to_peers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await world.start_rendezvous()
            await world.start_node("a")
            announcement = world.node("a")._running.announcement
            announcement.declared = (
                Declared("203.0.113.9", 0),
                Declared("10.8.0.4", 4040, "vpn", 20),
                Declared("::1", 0),
            )
            announcement.refresh_candidates()
            own = world.node("a").view().listen[0].rpartition(":")[2]
            found = [
                each for each in world.node("a").network_view().candidates if each.kind in ("declared", "interconnect")
            ]
            assert found == [
                CandidateView("declared", f"203.0.113.9:{own}"),
                CandidateView("interconnect", "10.8.0.4:4040", 20, "vpn"),
            ]

    run(scenario(), limit_virtual_s=60)


def test_a_counting_nat_is_asked_again_when_a_peer_comes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await world.start_rendezvous()
            await behind(world, "a", SYMMETRIC_SEQUENTIAL)
            await world.start_node("c")
            await world.until(lambda: world.node("a").network_view().measured is not None)
            box = world.boxes["a's box"]
            other = SimHost(box.inside, "192.168.1.9")
            for port in (other.udp(("0.0.0.0", 0)) for _ in range(100)):
                port.send(memoryview(bytearray(b"x")), 1, ("10.9.9.9", 9))  # somebody else behind the same box
            await world.wait(11.0)
            await world.befriend("a", "c")
            await world.until(lambda: bool(paths(world, "c", "a").remote_candidates))
            await world.wait(1.0)
            told = [
                each.endpoint[1]
                for each in paths(world, "c", "a").remote_candidates
                if each.endpoint[0] in box.external
            ]
            now = max(port for _, port in box._by_external)
            assert 0 <= now - max(told) < 10

    run(scenario(), limit_virtual_s=60)


def test_every_address_family_is_seen_by_somebody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await world.start_rendezvous()
            box = world.nat("box", PORT_RESTRICTED)
            place = world.place("a", behind="box")
            place.host.move(box.inside, "192.168.1.2", "2001:db8::2")
            await place.start()
            view = world.node("a").network_view
            await world.until(lambda: view().measured is not None and bool(view().public))
            assert len(world.node("a").view().listen) == 2
            network = world.node("a")._running.network
            # As if the session were on IPv6: nobody but the mirror sees the IPv4 port.
            world.node("a")._running.clients[0].observed = None
            network.changed()
            await world.until(lambda: any(each.kind == "reflexive" for each in view().candidates))
            [seen] = [each.endpoint for each in view().candidates if each.kind == "reflexive"]
            assert seen.rpartition(":")[0] == box.external[0]

    run(scenario(), limit_virtual_s=60)


def test_peers_tell_where_they_see_us_and_count_where_no_rendezvous_does(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await world.start_rendezvous()
            await behind(world, "a", PORT_RESTRICTED)
            await world.start_node("b")
            await world.befriend("a", "b")
            outside = world.boxes["a's box"].external[0]
            view = world.node("a").network_view
            await world.until(lambda: [each for each in view().observers if each.kind == "peer"] != [])
            [peer] = [each for each in view().observers if each.kind == "peer"]
            assert peer.seen.rpartition(":")[0] == outside
            await world.crash("rendezvous")
            world.node("a")._running.clients[0].observed = None
            world.node("a")._running.network.look()
            assert [each.endpoint for each in view().candidates if each.kind == "reflexive"] == [peer.seen]

    run(scenario(), limit_virtual_s=60)


def test_a_peer_that_sees_us_everywhere_does_not_make_us_speak_with_everybody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await world.start_node("a")
            network = world.node("a")._running.network
            told: set[tuple[Candidate, ...]] = set()
            for number in range(1000):
                peer = Identity(number.to_bytes(32, "big"))
                network.on_seen(peer, Route(0, ("10.0.2.9", 1)), ("10.9.9.9", 1 + number))
                told.add(world.node("a")._running.transport.endpoint.candidates().items)
            assert len(told) == 1
            assert len([each for each in network.view().observers if each.kind == "peer"]) == 16

    run(scenario(), limit_virtual_s=60)
