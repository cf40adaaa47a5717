"""The system refuses the n-th send, for every n until the story ends before it: nothing is lost or comes twice."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

import pytest

from covey.testing import run
from covey.testing.world import World

MACHINES = ("rendezvous", "a", "b")

MESSAGES = [f"message {number}" for number in range(3)]


async def story(directory: Path, who: str, refused: Container[int]) -> tuple[int, float]:
    """Two agents come up, trust each other and talk. How many sends `who` made, and how long it took."""
    async with World(directory, seed=1) as world:
        await world.start_rendezvous()
        for name in ("a", "b"):
            world.place(name)
        for machine in world.machines.values():
            machine.host.full_share = 0.0
        host = world.machines[who].host
        host.sends, host.refused = 0, refused
        for name in ("a", "b"):
            await world.machines[name].start()
        await world.befriend("a", "b")
        for sender, recipient in (("a", "b"), ("b", "a")):
            for body in MESSAGES:
                assert (await world.node(sender).send(recipient, body, wait=60)).result == "delivered"
        took = world.network.loop.time()
        for name in ("a", "b"):
            assert [message.body for message in await world.node(name).inbox_list(all=True)] == MESSAGES
        return host.sends, took


def play(directory: Path, who: str, refused: Container[int]) -> tuple[int, float]:
    directory.mkdir()
    return run(story(directory, who, refused), limit_virtual_s=300)


@pytest.mark.parametrize("who", MACHINES)
def test_send_refused_at_any_moment_costs_time_and_nothing_else(who: str, tmp_path: Path) -> None:
    sends, took = play(tmp_path / "none", who, ())
    number = 0
    while number < sends:
        number += 1
        sends, longer = play(tmp_path / f"{number}", who, {number})
        assert longer < took + 2.0, f"send {number} of {who}"


@pytest.mark.parametrize("who", MACHINES)
def test_sends_refused_for_a_while_cost_time_and_nothing_else(who: str, tmp_path: Path) -> None:
    """As a link that is down for a moment, or a firewall that learns: twelve in a row."""
    sends, _ = play(tmp_path / "none", who, ())
    for number in range(1, sends, 12):
        _, longer = play(tmp_path / f"{number}", who, range(number, number + 12))
        assert longer < 20.0, f"sends from {number} of {who}"
