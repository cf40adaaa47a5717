"""Followers hear which way a peer's data goes, and why, whenever either changes."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from covey.base.events import NetworkChanged, PeerPath
from covey.base.path_rules import parse_path_rules
from covey.base.reasons import reason
from covey.node.relays import RelayPolicy
from covey.testing import Link, run
from covey.testing.nat import PORT_RESTRICTED, SYMMETRIC
from covey.testing.world import World


def paths(world: World, name: str) -> list[PeerPath]:
    return [each for each in world.node(name).recent_events(["peer.path"]).items if isinstance(each, PeerPath)]


def test_way_and_reason_are_told_once_for_each_change(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=Link(latency_s=0.02)) as world:
            await world.start_rendezvous()
            for name in ("a", "b"):
                world.nat(f"{name}'s box", PORT_RESTRICTED)
                await world.start_node(name, behind=f"{name}'s box")
            await world.befriend("a", "b")
            await world.until(lambda: any(each.direct for each in paths(world, "a")))
            await world.wait(15.0)
            told = paths(world, "a")
            assert (told[-1].direct, told[-1].reason, told[-1].name) == (True, "direct", "b")
            assert told[-1].paths >= 2
            assert not told[0].direct
            keys = [(each.direct, each.remote, each.reason, each.paths) for each in told]
            assert all(one != two for one, two in itertools.pairwise(keys))

    run(scenario(), limit_virtual_s=120)


def test_end_of_the_search_is_told_with_what_stands_in_the_way(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=Link(latency_s=0.02)) as world:
            await world.start_rendezvous()
            for name in ("a", "b"):
                world.nat(f"{name}'s box", SYMMETRIC)
                await world.start_node(name, behind=f"{name}'s box")
            await world.befriend("a", "b")
            await world.wait(15.0)
            last = paths(world, "a")[-1]
            assert not last.direct
            assert reason(last.reason).standing == "limit"

    run(scenario(), limit_virtual_s=120)


def test_another_network_is_told_with_the_kind_of_its_nat(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=Link(latency_s=0.02)) as world:
            await world.start_several("one", "two")
            world.nat("a's box", SYMMETRIC)
            await world.start_node("a", behind="a's box")
            await world.wait(10.0)
            told = world.node("a").recent_events(["network.changed"]).items
            assert [(each.nat, each.before, each.udp) for each in told if isinstance(each, NetworkChanged)] == [
                ("symmetric", "", True)
            ]

    run(scenario(), limit_virtual_s=120)


def test_relay_of_a_path_is_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=Link(latency_s=0.05)) as world:
            await world.start_rendezvous()
            for name in ("a", "b"):
                world.nat(name, SYMMETRIC)
                await world.start_node(name, behind=name)
            await world.start_node("r", relaying=RelayPolicy(serves="trusted"))
            for name in ("a", "b"):
                near = Link(latency_s=0.005)
                world.network.set_link(world.boxes[name].external[0], world.machines["r"].host.ip, near)
            await world.befriend("a", "b", "r")
            await world.wait(10.0)
            [peer] = [each for each in world.node("a").peers() if each.name == "b"]
            assert {(path.active, path.relay) for path in peer.paths} >= {(True, "r"), (False, "rendezvous")}
            assert [each.relay for each in paths(world, "a") if each.name == "b"][-1] == "r"

    run(scenario(), limit_virtual_s=120)


@pytest.mark.parametrize(("rules", "code"), [("b primary relay", "relay-only"), ("b primary ipv6,relay", "policy")])
def test_rule_that_puts_relays_first_is_the_reason(rules: str, code: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=Link(latency_s=0.02)) as world:
            await world.start_rendezvous()
            machine = world.place("a")
            machine.path_rules = parse_path_rules(rules)
            await machine.start()
            await world.start_node("b")
            await world.befriend("a", "b")
            await world.wait(10.0)
            [peer] = world.node("a").peers()
            assert (peer.why, {path.kind: path.reason for path in peer.paths}) == (
                code,
                {"relay": code, "direct": "standby"},
            )
            assert "config show" in peer.change

    run(scenario(), limit_virtual_s=120)
