"""Two rendezvous and more: any may die, fall silent, answer late or stop, and nobody waits for it."""

from __future__ import annotations

import asyncio

import pytest

from covey.node import Node, Stream
from covey.testing import Link
from covey.testing.world import SimRendezvous, World
from tests.node.stage import Play, about, bodies, code_of, raw, two_rendezvous

HARM = ("dies", "falls silent")
BOTH = ("first", "second")


def now() -> float:
    return asyncio.get_running_loop().time()


async def echo(stream: Stream) -> None:
    while data := await stream.read():
        await stream.write(data)


async def harm(world: World, name: str, how: str) -> None:
    """`falls silent` is a process that hangs: what comes is lost to it, and it says nothing."""
    if how == "dies":
        await world.crash(name)
    else:
        world.cut(name)


async def mend(world: World, name: str, how: str) -> None:
    if how == "dies":
        await world.restart(name)
    else:
        world.heal()


async def all_connected(world: World, count: int = 2) -> None:
    await world.until(
        lambda: all(
            sum(view.connected and view.name == "held" for view in machine.node.view().rendezvous) == count
            for machine in world.nodes()
        )
    )


async def network(world: World, *names: str) -> list[Node]:
    """Two rendezvous, `first` and `second`, and these nodes, connected to both."""
    await two_rendezvous(world)
    nodes = [(await world.start_node(name)).node for name in names]
    await all_connected(world)
    return nodes


async def relayed_friends(world: World) -> tuple[Node, Node]:
    """Two who trust each other and can only be relayed."""
    a, b = await network(world, "a", "b")
    world.apart("a", "b")
    await world.befriend("a", "b")
    await a.ping("b")
    await asyncio.sleep(1.0)
    return a, b


def relay_of(world: World, node: Node, peer: str) -> str:
    """The name of the rendezvous that relays for them now."""
    (remote,) = [path.remote for path in about(node, peer).paths if path.active]
    (name,) = [name for name in BOTH if remote.startswith(world.machines[name].host.ip + ":")]
    return name


async def longest_gap(stream: Stream, seconds: float) -> float:
    """Sends and awaits its echo all the time; the longest that one took."""
    longest, end = 0.0, now() + seconds
    while now() < end:
        begun = now()
        await stream.write(b"x")
        assert await stream.read() == b"x"
        longest = max(longest, now() - begun)
        await asyncio.sleep(0.02)
    return longest


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HARM)
def test_relayed_stream_goes_on_over_the_other_rendezvous_within_a_second(how: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await relayed_friends(world)
        b.serve("echo", echo)
        async with await a.open("b", "echo") as stream:
            talking = asyncio.ensure_future(longest_gap(stream, 10.0))
            await asyncio.sleep(1.0)
            relay = relay_of(world, a, "b")
            await harm(world, relay, how)
            assert await talking < 0.6, "the other circuit was in reserve"
            assert relay_of(world, a, "b") != relay
            await mend(world, relay, how)
            await all_connected(world)
            talking = asyncio.ensure_future(longest_gap(stream, 10.0))
            await asyncio.sleep(1.0)
            await harm(world, relay_of(world, a, "b"), how)
            assert await talking < 3.0, "and back, without a reserve"

    play(scenario)


def test_relayed_stream_notices_nothing_of_a_rendezvous_that_stops(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await relayed_friends(world)
        b.serve("echo", echo)
        async with await a.open("b", "echo") as stream:
            for _ in range(3):
                talking = asyncio.ensure_future(longest_gap(stream, 5.0))
                await asyncio.sleep(1.0)
                relay = relay_of(world, a, "b")
                machine = world.machines[relay]
                assert isinstance(machine, SimRendezvous)
                begun = now()
                await machine.stop()
                assert now() - begun < 0.9, "its clients left, it need not wait out its drain"
                assert relay_of(world, a, "b") != relay
                assert await talking < 0.05
                await world.restart(relay)
                await all_connected(world)

    play(scenario)


def test_rendezvous_that_stops_relays_to_the_end_for_who_has_no_other(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.start_rendezvous()
        a, b = [(await world.start_node(name)).node for name in ("a", "b")]
        await all_connected(world, 1)
        world.apart("a", "b")
        await world.befriend("a", "b")
        b.serve("echo", echo)
        machine = world.machines["rendezvous"]
        assert isinstance(machine, SimRendezvous)
        async with await a.open("b", "echo") as stream:
            talking = asyncio.ensure_future(longest_gap(stream, 20.0))
            await asyncio.sleep(1.0)
            begun = now()
            await machine.stop()
            assert now() - begun == pytest.approx(1.0, abs=0.2)
            await world.restart("rendezvous")
            assert await talking < 15.0, "the stream outlives the restart"

    play(scenario)


# --- messages and connects --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HARM)
@pytest.mark.parametrize("name", BOTH)
def test_message_arrives_while_either_rendezvous_is_away(name: str, how: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await network(world, "a", "b")
        world.apart("a", "b")
        await world.befriend("a", "b")
        await harm(world, name, how)
        sent = await a.send("b", "one", wait=10.0)
        assert sent.result == "delivered"
        assert sent.elapsed_ms < 3000
        await world.crash("b")
        await world.restart("b")
        sent = await a.send("b", "two", wait=10.0)
        assert sent.result == "delivered"
        assert sent.elapsed_ms < 5000
        assert await bodies(world.node("b")) == ["one", "two"]

    play(scenario)


@pytest.mark.parametrize("how", HARM)
@pytest.mark.parametrize("name", BOTH)
def test_stranger_is_reached_while_either_rendezvous_is_away(name: str, how: str, play: Play) -> None:
    """Nobody knows yet that it is: the first question finds out."""

    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        await harm(world, name, how)
        begun = now()
        assert (await a.handshake("b")).witnesses == 1
        await world.until(lambda: bool(b.pending()))
        assert now() - begun < 2.5
        assert "only one" in a.peers()[0].warning

    play(scenario)


def test_rendezvous_may_die_at_any_moment_of_a_connect(play: Play) -> None:
    async def scenario(world: World) -> None:
        world.network.default = Link(latency_s=0.02)
        a, _ = await network(world, "a", "b")
        world.apart("a", "b")
        await world.befriend("a", "b")
        for number in range(16):
            await world.crash("b")
            await world.restart("b")
            sending = asyncio.ensure_future(a.send("b", str(number), wait=15.0))
            await asyncio.sleep(0.02 * number)
            name = BOTH[number % 2]
            await world.crash(name)
            sent = await sending
            assert (number, sent.result) == (number, "delivered")
            assert sent.elapsed_ms < 10_000, "both crashed at once"
            await world.restart(name)
            await world.until(lambda: all(view.connected for view in a.view().rendezvous))
        assert await bodies(world.node("b")) == [str(number) for number in range(16)]

    play(scenario)


# --- looking up -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HARM)
def test_silent_rendezvous_is_noticed_by_the_first_question_and_no_longer_waited_for(how: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        for name in BOTH:
            await asyncio.sleep(5.0)  # of the 25 s until the next keepalive
            await harm(world, name, how)
            begun = now()
            assert (await a.find(b.identity)).identity == b.identity
            assert now() - begun < 2.5
            begun = now()
            for text in (b.identity, "b", b.address):
                assert (await a.find(text)).identity == b.identity
            assert now() - begun < 1.2
            await world.until(lambda: any(view.problem for view in a.view().rendezvous))
            assert now() - begun < 1.5
            await mend(world, name, how)
            await world.until(lambda: all(view.connected and not view.problem for view in a.view().rendezvous))
            await all_connected(world)

    play(scenario)


def test_reading_an_identity_asks_two_and_waits_for_no_third(play: Play) -> None:
    async def scenario(world: World) -> None:
        machines = await world.start_several("one", "two", "three")
        a, b = [(await world.start_node(name)).node for name in ("a", "b")]
        await all_connected(world, 3)
        before = [(await machine.server.counts()).requests for machine in machines]
        await a._running.directory.refresh(raw(b))
        after = [(await machine.server.counts()).requests for machine in machines]
        asked = [count - earlier for count, earlier in zip(after, before, strict=True)]
        assert sorted(asked) == [1, 2, 2], "two are read from; then all are asked whether its name is its own"
        world.cut("one")
        begun = now()
        for _ in range(5):
            assert await a._running.directory.refresh(raw(b)) is not None
        assert now() - begun < 1.5

    play(scenario)


def test_slow_rendezvous_is_not_waited_for(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        slow = world.machines["first"].host.ip
        world.network.set_link(slow, world.machines["a"].host.ip, Link(latency_s=0.8))
        await asyncio.sleep(30.0)
        begun = now()
        assert (await a.handshake(b.identity)).identity == b.identity
        await world.until(lambda: bool(b.pending()))
        assert now() - begun < 2.5
        begun = now()
        assert (await a.find("b")).identity == b.identity
        assert now() - begun < 2.2
        assert {finding.code for finding in a.view().findings} <= {"rendezvous-silent"}

    play(scenario)


@pytest.mark.parametrize("how", HARM)
def test_start_finds_what_there_is_and_the_rest_when_it_comes(how: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        (b,) = await network(world, "b")
        await harm(world, "first", how)
        begun = now()
        a = (await world.start_node("a")).node
        assert (await a.find("b")).identity == b.identity
        assert now() - begun < 3.5, "a first contact asks every rendezvous, unless it takes too long"
        await mend(world, "first", how)
        await all_connected(world)
        assert now() - begun < 40.0

    play(scenario)


def test_first_contact_by_name_waits_for_every_rendezvous_to_be_connected(play: Play) -> None:
    """Just after its start: the answer of the nearer one alone could be a lie."""

    async def scenario(world: World) -> None:
        await network(world, "b")
        far = world.machines["second"].host.ip
        machine = world.place("a")
        world.network.set_link(far, machine.host.ip, Link(latency_s=0.2))
        await machine.start()
        assert (await machine.node.find("b")).witnesses == 2

    play(scenario)


# --- writing ----------------------------------------------------------------------------------------------------------


def test_record_and_name_are_written_to_all_and_again_to_one_that_lost_them(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await network(world, "a", "b")
        machines = [machine for machine in world.machines.values() if isinstance(machine, SimRendezvous)]
        assert [machine.store.counts() for machine in machines] == [(2, 2), (2, 2)]
        await world.crash("second")
        (world.directory / "second" / "state" / "cache.db").unlink()
        await a.set_name("renamed")
        await world.restart("second")
        await world.until(lambda: [machine.store.counts() for machine in machines] == [(2, 2), (2, 2)])
        assert a.name_view().held == 2

    play(scenario)


def test_every_rendezvous_away_is_said_and_everything_heals(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        world.apart("a", "b")
        await world.befriend("a", "b")
        for name in BOTH:
            await world.crash(name)
        await asyncio.sleep(60.0)
        assert await code_of(a.find("c")) == "no-rendezvous"
        assert {finding.code for finding in a.view().findings} == {"rendezvous-away"}
        assert (await a.send("b", "later", wait=0)).result == "queued"
        for name in BOTH:
            await world.restart(name)
        await all_connected(world)
        await world.until(lambda: b.view().inbox_unread == 1)
        assert a.view().degraded == []

    play(scenario)


@pytest.mark.parametrize("how", ["crash", "stop", "cut"])
def test_deaths_of_rendezvous_in_turn_interrupt_nobody(how: str, play: Play) -> None:
    """Rolling restarts: at every moment one is there, and every message of every second arrives in order."""

    async def scenario(world: World) -> None:
        a, b = await relayed_friends(world)

        async def restarts() -> None:
            for number in range(8):
                name = BOTH[number % 2]
                if how == "stop":
                    await world.machines[name].stop()  # type: ignore[union-attr]
                else:
                    await harm(world, name, "dies" if how == "crash" else "falls silent")
                await asyncio.sleep(8.0)
                await mend(world, name, "falls silent" if how == "cut" else "dies")
                await all_connected(world)

        rolling = asyncio.ensure_future(restarts())
        results = []
        while not rolling.done():
            results.append((await a.send("b", str(len(results)), wait=10.0)).result)
            await asyncio.sleep(0.2)
        await rolling
        assert set(results) == {"delivered"}
        assert await bodies(b, limit=10_000) == [str(number) for number in range(len(results))]

    play(scenario)
