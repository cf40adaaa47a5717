"""Whole nodes over hours, days and weeks: sleep, wrong clocks, rotating keys, and what being idle costs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from covey.crypto.credentials import load_secrets
from covey.node import Node
from covey.node.transport import Stream
from covey.testing import run
from covey.testing.world import World

HOUR, DAY, YEAR = 3600.0, 86_400.0, 365 * 86_400.0
Scenario = Callable[[World], Awaitable[None]]


def play(scenario: Scenario, directory: Path, *, seed: int = 1, limit_s: float = 8 * DAY) -> None:
    async def main() -> None:
        async with World(directory, seed=seed) as world:
            await scenario(world)

    run(main(), seed=seed, limit_virtual_s=limit_s)


async def echo(stream: Stream) -> None:
    while data := await stream.read():
        await stream.write(data)


async def friends(world: World, *names: str, rendezvous: int = 1) -> list[Node]:
    await world.start_several(*(f"rendezvous{number}" for number in range(rendezvous)))
    for name in names:
        await world.start_node(name)
        world.node(name).serve("echo", echo)
    await world.befriend(*names)
    return [world.node(name) for name in names]


async def bounce(stream: Stream, data: bytes) -> None:
    await stream.write(data)
    assert await stream.read_exactly(len(data)) == data


async def bodies(node: Node) -> list[str]:
    return [message.body for message in await node.inbox_list(all=True, limit=100_000)]


# --- sleep ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sleeper", ["a", "b", "rendezvous0", "all"])
@pytest.mark.parametrize("seconds", [200.0, HOUR, 3 * HOUR])
def test_streams_and_messages_survive_sleep(sleeper: str, seconds: float, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        stream = await a.open("b", "echo")
        await bounce(stream, b"before")
        sleepers = list(world.machines) if sleeper == "all" else [sleeper]
        sleeping = [asyncio.ensure_future(world.suspend(name, seconds)) for name in sleepers]
        await asyncio.sleep(1.0)
        sent = []
        if sleeper == "b":
            assert (await a.send("b", "while you slept", wait=0)).result == "queued"
            sent.append("while you slept")
            await stream.write(b"while you slept")
        await asyncio.gather(*sleeping)
        if sleeper == "b":
            assert await stream.read_exactly(15) == b"while you slept"
        async with asyncio.timeout(30.0):
            await bounce(stream, b"after")
            assert (await a.send("b", "after", wait=30.0)).result == "delivered"
            assert (await b.send("a", "after", wait=30.0)).result == "delivered"
        assert await bodies(b) == [*sent, "after"]
        assert await bodies(a) == ["after"]
        await world.until(lambda: all(not node.view().degraded for node in (a, b)))

    play(scenario, tmp_path)


def test_sleep_that_outlasts_every_key_costs_streams_and_no_message(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        stream = await a.open("b", "echo")
        await bounce(stream, b"before")
        sleeping = asyncio.ensure_future(world.suspend("b", 50 * HOUR))
        await asyncio.sleep(1.0)
        assert (await a.send("b", "x", wait=0)).result == "queued"
        await sleeping
        await world.until(lambda: a.view().outbox_queued == 0)
        assert await bodies(b) == ["x"]
        async with asyncio.timeout(30.0):
            await bounce(await b.open("a", "echo"), b"again")

    play(scenario, tmp_path)


# --- clocks ---------------------------------------------------------------------------------------------------------

JUMPS = {"1h": HOUR, "1d": DAY, "1y": YEAR, "24y": 24 * YEAR}


def turn(world: World, name: str, seconds: float) -> None:
    world.machines[name].host.clock_offset_us += round(seconds * 1e6)


@pytest.mark.parametrize("direction", [1, -1], ids=["ahead", "back"])
@pytest.mark.parametrize("who", ["a", "rendezvous0"])
@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS.keys())
def test_clock_jumps_and_comes_back(jump: float, direction: int, who: str, tmp_path: Path) -> None:
    """On one machine. What is open goes on; when the clock is right again everything is as it was."""

    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        stream = await a.open("b", "echo")
        await bounce(stream, b"before")
        turn(world, who, direction * jump)
        for minute in range(40):
            await bounce(stream, b"during %d" % minute)
            assert (await a.send("b", f"a {minute}", wait=5.0)).result == "delivered"
            assert (await b.send("a", f"b {minute}", wait=5.0)).result == "delivered"
            await asyncio.sleep(60.0)
        if who == "a":
            wanted = "clock-ahead" if direction > 0 else "clock-behind"
            assert wanted in [finding.code for finding in a.view().findings]
        turn(world, who, -direction * jump)
        await asyncio.sleep(400.0)
        await bounce(stream, b"after")
        for name in ("a", "b"):
            await world.crash(name)
            await world.restart(name)
        a, b = world.node("a"), world.node("b")
        assert (await a.send("b", "last", wait=30.0)).result == "delivered"
        assert (await b.send("a", "last", wait=30.0)).result == "delivered"
        assert await bodies(b) == [*(f"a {minute}" for minute in range(40)), "last"]
        assert await bodies(a) == [*(f"b {minute}" for minute in range(40)), "last"]
        await world.until(lambda: not a.view().degraded and not b.view().degraded)

    play(scenario, tmp_path)


def test_agent_started_while_its_clock_was_wrong_recovers(tmp_path: Path) -> None:
    """It makes its identity in 2050, is restarted there twice, and comes home: no trace but a new key."""

    async def scenario(world: World) -> None:
        await world.start_several("rendezvous0")
        machine = world.place("a")
        turn(world, "a", 24 * YEAR)
        await machine.start()
        await world.start_node("b")
        for _ in range(2):
            await asyncio.sleep(HOUR)
            await world.crash("a")
            await world.restart("a")
        assert world.node("b").peers() == []
        turn(world, "a", -24 * YEAR)
        async with asyncio.timeout(600.0):
            await world.befriend("a", "b")
            assert (await world.node("a").send("b", "x", wait=60.0)).result == "delivered"
            assert (await world.node("b").send("a", "y", wait=60.0)).result == "delivered"

    play(scenario, tmp_path)


def test_certificate_that_is_over_is_refused_although_its_owners_clock_says_it_is_not(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        await world.crash("b")
        await asyncio.sleep(49 * HOUR)
        turn(world, "b", -49 * HOUR)
        await world.restart("b")
        b = world.node("b")
        assert (await b.send("a", "from the past", wait=120.0)).result == "queued"
        assert await bodies(a) == []
        assert not [peer for peer in a.peers() if peer.connected]
        turn(world, "b", 49 * HOUR)
        await world.until(lambda: b.view().outbox_queued == 0)
        assert await bodies(a) == ["from the past"]

    play(scenario, tmp_path)


def test_clock_set_back_revives_nothing(tmp_path: Path) -> None:
    """The attacker who holds b's old keys also sets a's clock back, also over a restart: a knows how late it was."""

    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        await world.crash("b")
        await asyncio.sleep(49 * HOUR)
        for name in ("a", "b", "rendezvous0"):
            turn(world, name, -49 * HOUR)
        await world.restart("b")
        await world.crash("a")
        await world.restart("a")
        a, b = world.node("a"), world.node("b")
        assert "clock-behind" in [finding.code for finding in a.view().findings]
        assert (await b.send("a", "from the past", wait=120.0)).result == "queued"
        assert (await a.send("b", "to the past", wait=120.0)).result == "queued"
        assert await bodies(a) == await bodies(b) == []

    play(scenario, tmp_path)


# --- keys -----------------------------------------------------------------------------------------------------------


@dataclass
class Week:
    """Every agent sends to the next ones now and then, and keeps a stream open to its neighbour."""

    names: list[str]
    days: float
    pause_s: float
    sent: dict[str, list[str]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    transport_keys: dict[str, set[bytes]] = field(default_factory=dict)
    delegations: dict[str, set[int]] = field(default_factory=dict)
    most_keys: int = 0

    async def run(self, world: World) -> None:
        await friends(world, *self.names)
        loop = asyncio.get_running_loop()
        streams = [
            await world.node(name).open(other, "echo")
            for name, other in zip(self.names, self.names[1:] + self.names[:1], strict=True)
        ]
        end, number = loop.time() + self.days * DAY, 0
        while loop.time() < end:
            await asyncio.sleep(self.pause_s)
            number += 1
            for place, name in enumerate(self.names):
                other = self.names[(place + 1 + number % (len(self.names) - 1)) % len(self.names)]
                body = f"{name} {number}"
                result = await world.node(name).send(other, body, wait=20.0)
                self.sent.setdefault(other, []).append(body)
                if result.result != "delivered":
                    self.refused.append(f"{loop.time() / HOUR:.2f} h: {name} to {other}: {result.result}")
            if number % 6 == 0:
                for stream in streams:
                    await bounce(stream, body.encode())
            self.look(world)

    def look(self, world: World) -> None:
        for name in self.names:
            credentials = world.node(name)._running.credentials
            keys = [pair.key.public for pair in credentials.transport_keys]
            self.transport_keys.setdefault(name, set()).update(keys)
            self.delegations.setdefault(name, set()).add(credentials.delegation.counter)
            self.most_keys = max(self.most_keys, len(keys))
            wall_us = world.machines[name].host.wall_us()
            oldest_us = min(pair.certificate.from_us for pair in credentials.transport_keys)
            assert wall_us - oldest_us <= (48 * HOUR + 120) * 1e6, "a private key outlived its 48 hours"
            stored = load_secrets(world.machines[name].home.identity_file.read_bytes())  # type: ignore[union-attr]
            assert [pair.key.public for pair in stored.transport_keys] == keys, "the disk knows other keys"

    async def check(self, world: World) -> None:
        assert not self.refused, self.refused
        for name in self.names:
            assert sorted(await bodies(world.node(name))) == sorted(self.sent[name])
            rotations = len(self.transport_keys[name]) - 1
            assert 24 * self.days / 16 - 1 <= rotations <= 24 * self.days / 15 + 1
        assert self.most_keys <= 4


def long_run(directory: Path, week: Week) -> None:
    async def scenario(world: World) -> None:
        await week.run(world)
        await week.check(world)

    play(scenario, directory, limit_s=(week.days + 1) * DAY)


@pytest.mark.timeout(600)
def test_two_agents_talk_while_their_keys_rotate(tmp_path: Path) -> None:
    """Three days: the first keys of both, and of the rendezvous, have come and gone for good."""
    long_run(tmp_path, Week(["a", "b"], days=3.0, pause_s=600.0))


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("count", [2, 10])
def test_agents_talk_for_a_week_while_their_keys_rotate(count: int, tmp_path: Path) -> None:
    long_run(tmp_path, Week([f"n{number}" for number in range(count)], days=7.0, pause_s=300.0))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_operational_keys_rotate_twice_in_two_months(tmp_path: Path) -> None:
    week = Week(["a", "b"], days=45.0, pause_s=6 * HOUR)
    long_run(tmp_path, week)
    assert all(len(counters) == 3 for counters in week.delegations.values())


# --- idle -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("homes", [1, 2])
def test_idle_agent_costs_at_most_a_megabyte_a_day(
    homes: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """With trusted peers, who are as idle. UDP payload of both directions; the IP headers come on top."""

    async def scenario(world: World) -> None:
        a, b, _ = await friends(world, "a", "b", "c", rendezvous=homes)
        assert (await a.send("b", "x", wait=30.0)).result == "delivered"
        await bounce(await b.open("a", "echo"), b"open, and silent")
        await asyncio.sleep(HOUR)
        before = replace(world.machines["a"].host.traffic)
        await asyncio.sleep(HOUR)
        after = world.machines["a"].host.traffic
        datagrams = after.sent - before.sent + after.received - before.received
        size = after.bytes - before.bytes
        record_property("datagrams", datagrams)
        record_property("bytes", size)
        print(f"idle, {homes} homes: {datagrams} datagrams, {size} bytes an hour, {24 * size / 1e6:.2f} MB a day")  # noqa: T201 - figures
        assert not [peer for peer in a.peers() if peer.connected], "the tunnels are free"
        assert 24 * size <= 500_000 * homes
        assert datagrams <= 350 * homes
        assert (await b.send("a", "the first packet wakes it", wait=5.0)).result == "delivered"

    play(scenario, tmp_path)
