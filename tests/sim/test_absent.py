"""Two agents that are up and down as they like: what they say to each other about trust arrives, and nothing else."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from covey.base.errors import CoveyError
from covey.node import Node
from covey.testing import run
from covey.testing.world import World
from tests.node.stage import trust

SEEDS = range(12)
STEPS = 14
YES, NO = ("handshake", "approve"), ("reject", "untrust")


async def act(node: Node, other: str, choice: Random) -> str:
    """One thing that a user does about trust; "" if it made no sense just then."""
    verb = choice.choice((*YES, *NO))
    try:
        await getattr(node, verb)(other)
    except CoveyError:
        return ""
    return verb


@pytest.mark.parametrize("seed", SEEDS)
def test_two_agents_agree_about_trust_whenever_they_were_up(seed: int, tmp_path: Path) -> None:
    """Stops, crashes, a rendezvous that dies; each side's last yes or no decides, and both come to know it."""

    async def scenario() -> None:
        choice = Random(seed)
        async with World(tmp_path, seed=seed) as world:
            await world.start_rendezvous()
            for name in ("a", "b"):
                await world.start_node(name)
            for name, other in (("a", "b"), ("b", "a")):
                await world.patiently(lambda name=name, other=other: world.node(name).find(other))  # type: ignore[misc]
            await world.wait(3.0)
            said_no = {"a": True, "b": True}
            for _ in range(STEPS):
                name, other = choice.choice((("a", "b"), ("b", "a")))
                machine = world.machines[name]
                what = choice.random()
                if what < 0.45:
                    if machine.running:
                        verb = await act(world.node(name), other, choice)
                        said_no[name] = verb in NO if verb else said_no[name]
                elif what < 0.85:
                    if machine.running:
                        await (world.crash(name) if choice.random() < 0.3 else machine.stop())
                    else:
                        await world.restart(name)
                elif world.machines["rendezvous"].running:
                    await world.crash("rendezvous")
                    await world.restart("rendezvous")
                await world.wait(choice.choice((0.05, 2.0, 30.0, 3600.0)))
                for each in ("a", "b"):
                    # Nobody is made to trust: not by a letter, however late or often it comes.
                    if world.machines[each].running and said_no[each]:
                        assert trust(world.node(each), "b" if each == "a" else "a") != "trusted"
            for name in ("a", "b"):
                if not world.machines[name].running:
                    await world.restart(name)
            a, b = world.node("a"), world.node("b")
            await world.until(lambda: all(peer.action is None for n in (a, b) for peer in n._running.book.all()))
            await world.wait(5.0)
            assert (trust(a, "b") == "trusted") == (trust(b, "a") == "trusted")

    run(scenario(), seed=seed, limit_virtual_s=10 * 86_400)
