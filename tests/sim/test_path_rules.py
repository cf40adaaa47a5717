"""Nodes with rules about paths: no data over relays, though trust is agreed over one."""

from __future__ import annotations

from pathlib import Path

import pytest

from covey.base.errors import UnreachableError
from covey.base.path_rules import parse_path_rules
from covey.testing import run
from covey.testing.nat import PORT_RESTRICTED, SYMMETRIC
from covey.testing.world import World


def test_peers_that_take_no_data_over_relays_trust_each_other_and_wait_for_a_direct_path(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1) as world:
            await world.start_rendezvous()
            for name, kind in (("a", PORT_RESTRICTED), ("b", PORT_RESTRICTED), ("c", SYMMETRIC)):
                world.nat(name, kind)
                machine = world.place(name, behind=name)
                machine.path_rules = parse_path_rules("* direct-only")
                await machine.start()
            await world.befriend("a", "b", "c")
            assert (await world.node("a").send("b", "hello", wait=20)).result == "delivered"
            assert (await world.node("a").send("c", "hello", wait=20)).result == "queued"
            [peer] = [peer for peer in world.node("a").peers() if peer.name == "c"]
            assert [path.reason for path in peer.paths if path.active] == ["direct-only"]

    run(scenario(), limit_virtual_s=300)


def test_peer_that_no_relay_may_introduce_is_not_reached_over_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1) as world:
            await world.start_rendezvous()
            for name in ("a", "b"):
                world.nat(name, SYMMETRIC)
                await world.start_node(name, behind=name)
            await world.befriend("a", "b")
            machine = world.nodes()[0]
            await machine.stop()
            machine.path_rules = parse_path_rules("b no-relay")
            await machine.start()
            with pytest.raises(UnreachableError) as caught:
                await world.node("a").open("b", "echo")
            assert caught.value.code in ("policy", "no-answer")

    run(scenario(), limit_virtual_s=300)
