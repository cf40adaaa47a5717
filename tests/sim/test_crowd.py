"""Many nodes in one world: all come up behind boxes of their own, meet through two rendezvous, and talk."""

from __future__ import annotations

import asyncio
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from covey.testing import Link, run
from covey.testing.nat import ADDRESS_RESTRICTED, FULL_CONE, PORT_RESTRICTED, SYMMETRIC
from covey.testing.world import World

KINDS = [None, None, FULL_CONE, ADDRESS_RESTRICTED, PORT_RESTRICTED, PORT_RESTRICTED, SYMMETRIC]
NEIGHBOURS = (1, 7)
"""Each trusts those that come so many places after it."""
MESSAGES = 3
"""From each to each of these, and back."""


@dataclass
class Figures:
    """What a crowd cost. Times in seconds, of the simulation and of this machine's CPU."""

    nodes: int
    started_s: float
    trusted_s: float
    delivered_s: float
    cpu_s: float
    bytes_per_node: int

    def __str__(self) -> str:
        return (
            f"{self.nodes} nodes: up after {self.started_s:.1f} s, trusting after {self.trusted_s:.1f} s more, all "
            f"delivered after {self.delivered_s:.1f} s more of virtual time; {self.cpu_s:.0f} s of CPU, "
            f"{self.bytes_per_node / 1024:.0f} kB of memory for each node"
        )


def memory() -> int:
    """Most bytes that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def crowd(directory: Path, count: int, seed: int) -> Figures:
    random = Random(seed)
    cpu, held = time.process_time(), memory()
    async with World(directory, seed=seed, link=Link(latency_s=0.02, jitter_s=0.005, loss=0.01)) as world:
        loop = world.network.loop
        await world.start_several("r1", "r2")
        for number in range(max(1, count // 3)):
            kind = random.choice(KINDS)
            if kind is not None:
                world.nat(f"box{number}", kind)
        names = [f"n{number}" for number in range(count)]
        machines = [world.place(name, behind=random.choice([None, *world.boxes])) for name in names]
        await asyncio.gather(*(machine.start() for machine in machines))
        await world.until(lambda: all(len(connected(world, name)) == 2 for name in names))
        started = loop.time()

        pairs = [(names[at], names[(at + step) % count]) for at in range(count) for step in NEIGHBOURS]
        await asyncio.gather(*(world.befriend(*pair) for pair in pairs))
        trusted = loop.time()

        talks = [(a, b) for pair in pairs for a, b in (pair, pair[::-1])]
        sends = [world.node(a).send(b, f"{a} {number}", wait=60) for a, b in talks for number in range(MESSAGES)]
        results = await asyncio.gather(*sends)
        delivered = loop.time()
        assert {sent.result for sent in results} == {"delivered"}

        for name in names:
            bodies = sorted(message.body for message in await world.node(name).inbox_list(all=True, limit=1000))
            assert bodies == sorted(f"{a} {number}" for a, b in talks if b == name for number in range(MESSAGES))
        held = (memory() - held) // count
        return Figures(count, started, trusted - started, delivered - trusted, time.process_time() - cpu, held)


def connected(world: World, name: str) -> list[str]:
    return [each.endpoint for each in world.node(name).view().rendezvous if each.connected]


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(100, marks=pytest.mark.timeout(300)),
        pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(7200)]),
    ],
)
def test_crowd_meets_and_delivers_everything(count: int, tmp_path: Path) -> None:
    figures = run(crowd(tmp_path, count, seed=1), seed=1, limit_virtual_s=600)
    print(figures)  # noqa: T201 - `make sim-long` shows it
    assert figures.started_s < 10.0
    assert figures.trusted_s < 30.0
    assert figures.delivered_s < 30.0
    assert figures.bytes_per_node < 4 * 1024 * 1024
