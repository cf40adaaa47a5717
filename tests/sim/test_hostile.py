"""Whole nodes on a hostile network: nothing lost, nothing twice, nothing to the wrong identity, in order per sender."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import pytest

from covey.base.errors import CoveyError
from covey.testing import HostCrashed, Link, NatKind, SimHost, run
from covey.testing.nat import (
    ADDRESS_RESTRICTED,
    FULL_CONE,
    PORT_COUNT,
    PORT_RESTRICTED,
    SYMMETRIC,
    SYMMETRIC_SEQUENTIAL,
)
from covey.testing.world import World
from tests.node.stage import broken

STORM_SECONDS = 15.0
MESSAGES_PER_NODE = 12


@dataclass
class Ledger:
    """What was sent, and what was said about it."""

    sent: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """(sender, recipient) -> bodies in the order of the calls that returned or failed."""
    promised: set[str] = field(default_factory=set)
    """Bodies that `send` called delivered or queued."""

    def check(self, recipient: str, received: list[tuple[str, str]]) -> None:
        """`received`: (sender's identity name, body) of one inbox, in its order."""
        for sender in {sender for sender, _ in self.sent}:
            bodies = [body for source, body in received if source == sender]
            wanted = self.sent.get((sender, recipient), [])
            assert len(bodies) == len(set(bodies)), f"{recipient} has something of {sender} twice: {bodies}"
            unknown = [body for body in bodies if body not in wanted]
            assert not unknown, f"{recipient} has what {sender} never sent to it: {unknown}"
            lost = [body for body in wanted if body in self.promised and body not in bodies]
            assert not lost, f"{recipient} never got {lost} of {sender}"
            order = [body for body in wanted if body in bodies]
            assert order == bodies, f"{recipient} has the messages of {sender} in another order"


KINDS = [FULL_CONE, ADDRESS_RESTRICTED, PORT_RESTRICTED, PORT_RESTRICTED, SYMMETRIC, SYMMETRIC_SEQUENTIAL]
SKEW_S = 280.0
"""How wrong a clock may be, seconds, without any effect: between any two, less than ten minutes."""
WRONG_S = 20 * 3600.0
"""How wrong it is at most during the storm: not so much that what is queued expires."""
DRIFT = 0.01


def some_kind(random: Random) -> NatKind:
    """A box as somebody might have it at home, at work or at a carrier."""
    return replace(
        random.choice(KINDS),
        hairpin=random.random() < 0.5,
        timeout_s=random.choice([30.0, 60.0, 120.0, 300.0]),
        refresh_inbound=random.random() < 0.5,
        capacity=random.choice([PORT_COUNT, PORT_COUNT, 32]),
        evicts=random.random() < 0.5,
        mtu=random.choice([65_507, 1472, 1252]),
    )


async def inhabit(world: World, random: Random, names: list[str]) -> None:
    """Boxes, some behind a carrier's, and the nodes in them or in the open, each with a clock of its own."""
    world.nat("carrier", some_kind(random))
    for number in range(1 + len(names) // 2):
        world.nat(f"box{number}", some_kind(random), behind=random.choice([None, None, None, "carrier"]))
    for name in names:
        machine = world.place(name, behind=random.choice([None, *world.boxes, *world.boxes]))
        set_clock(machine.host, random)
        await machine.start()


def set_clock(host: SimHost, random: Random, wrong_s: float = SKEW_S) -> None:
    host.clock_offset_us = round(random.uniform(-wrong_s, wrong_s) * 1e6)
    host.clock_drift = random.uniform(-DRIFT, DRIFT)


async def storm(directory: Path, seed: int) -> Ledger:
    random = Random(seed)
    count = 3 + seed % 4
    names = [f"n{number}" for number in range(count)]
    rendezvous = ["rv0", "rv1", "rv2"][: 1 + seed % 3]
    link = Link(latency_s=0.005 + 0.03 * random.random(), jitter_s=0.03, loss=0.2, duplicate=0.1, corrupt=0.01)
    ledger = Ledger()
    async with World(directory, seed=seed, disk_s=0.02 * random.random()) as world:
        await world.start_several(*rendezvous)
        await inhabit(world, random, names)
        friends = {(a, b) for a in names for b in random.sample([n for n in names if n != a], 2)}
        for a, b in sorted(friends):
            await world.befriend(a, b)
        world.network.default = link
        chaos = asyncio.create_task(unrest(world, random, [*names, *rendezvous]))
        await asyncio.gather(*(talk(world, Random(f"{seed}/{name}"), name, friends, ledger) for name in names))
        await chaos
        world.heal()
        for name, machine in world.machines.items():
            set_clock(machine.host, random)
            if not machine.running:
                await world.restart(name)
        await world.until(lambda: all(machine.node.view().outbox_queued == 0 for machine in world.nodes()))
        identities = {world.node(name).identity: name for name in names}
        for name in names:
            listing = await world.node(name).inbox_list(all=True, limit=100_000)
            ledger.check(name, [(identities[message.sender], message.body) for message in listing])
    assert broken(world) == []
    return ledger


async def talk(world: World, random: Random, name: str, friends: set[tuple[str, str]], ledger: Ledger) -> None:
    """One node's user: sends to its friends at random moments, and notes what it was told."""
    mine = sorted({b for a, b in friends if a == name} | {a for a, b in friends if b == name})
    for number in range(MESSAGES_PER_NODE):
        await asyncio.sleep(random.random() * 2 * STORM_SECONDS / MESSAGES_PER_NODE)
        if not world.machines[name].running:
            continue
        recipient = random.choice(mine)
        body = f"{name} to {recipient} number {number} " + "x" * random.choice([0, 0, 0, 3000, 30_000])
        ledger.sent.setdefault((name, recipient), []).append(body)
        result = await outcome(world.node(name).send(recipient, body, wait=random.choice([0.0, 0.2, 3.0])))
        if result in ("delivered", "queued"):
            ledger.promised.add(body)


async def outcome(sending: Awaitable[object]) -> str:
    """The result of a send, or "unknown" where the node died under it."""
    task = asyncio.ensure_future(sending)
    await asyncio.wait((task,))
    if task.cancelled() or isinstance(task.exception(), HostCrashed | CoveyError):
        return "unknown"
    return str(task.result().result)  # type: ignore[attr-defined]


FAULTS = ["crash", "crash", "partition", "restart", "box", "move", "clock"]


async def unrest(world: World, random: Random, names: list[str]) -> None:
    """Crashes, restarts, partitions, boxes that forget, hosts that move and clocks that jump, for a while."""
    loop = asyncio.get_running_loop()
    end = loop.time() + STORM_SECONDS
    number = 0
    while loop.time() < end:
        await asyncio.sleep(random.expovariate(0.7))
        victim = random.choice(names)
        machine = world.machines[victim]
        box = world.boxes[random.choice(sorted(world.boxes))]
        number += 1
        match random.choice(FAULTS):
            case "crash" if machine.running:
                await world.crash(victim)
                await asyncio.sleep(random.random() * 3)
                await world.restart(victim)
            case "restart" if machine.running:
                await machine.stop()
                await world.restart(victim)
            case "partition":
                world.cut(victim)
                await asyncio.sleep(random.random() * 6)
                world.heal()
            case "box":
                box.reboot(*random.choice([(), (f"198.19.0.{number}",)]))
            case "move" if machine.host.network is not world.network:
                machine.host.move(box.inside, f"192.168.1.{100 + number}")
            case "clock":
                set_clock(machine.host, random, random.choice([SKEW_S, WRONG_S]))


@pytest.mark.timeout(300)  # seconds of a machine that does other things, too
@pytest.mark.sim_seeds(200)
def test_hostile_network_loses_nothing_repeats_nothing_and_keeps_order(sim_seed: int, tmp_path: Path) -> None:
    ledger = run(storm(tmp_path, sim_seed), seed=sim_seed, limit_virtual_s=1800.0)
    assert ledger.promised
