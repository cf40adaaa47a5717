"""The life of a node: starting, closing, what is remembered, and long days."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from covey.base.errors import CoveyError, ParseError, StateError, StorageError, UsageError
from covey.base.events import MessageDelivered, MessageExpired, kind
from covey.base.paths import Home
from covey.node import Node
from covey.node import agent as agent_module
from covey.testing import Link, SimHost, Trace, run
from covey.testing.trace import replay
from covey.testing.world import World
from tests.node.stage import Play, bodies, code_of, friends, network, start_odd, steps


def place(world: World, name: str) -> Home:
    return Home.locate(name, {"COVEY_HOME": str(world.directory)}, uid=0)


def new_node(world: World, name: str, ip: str = "10.0.5.1", **options: Any) -> Node:
    host = options.pop("host", None) or SimHost(world.network, ip)
    options.setdefault("listen", f"{host.ip}:0")
    return Node(options.pop("agent", name), home=place(world, name), host=host, durable=False, **options)


# --- starting and closing -------------------------------------------------------------------------------------------


def test_node_starts_once_and_closes_as_often_as_one_likes(play: Play) -> None:
    async def scenario(world: World) -> None:
        node = new_node(world, "a")
        await node.close()
        await node.start()
        with pytest.raises(StateError) as again:
            await node.start()
        assert again.value.code == "already-started"
        await node.close()
        await node.close()
        await node.start()
        await node.close()

    play(scenario)


def test_node_as_context_is_closed_whatever_happens(play: Play) -> None:
    async def scenario(world: World) -> None:
        node = new_node(world, "a")
        with pytest.raises(KeyError):
            async with node:
                raise KeyError
        async with node:
            assert node.name == "a"

    play(scenario)


def test_everything_needs_a_running_node(play: Play) -> None:
    async def scenario(world: World) -> None:
        node = new_node(world, "a")
        for when in ("before", "after"):
            calls: list[Any] = [
                node.view,
                node.peers,
                node.pending,
                lambda: node.identity,
                lambda: node.address,
                lambda: node.name,
                node.inbox,
            ]
            for call in calls:
                with pytest.raises(StateError) as refused:
                    call()
                assert refused.value.code == "not-running"
            actions = [
                node.find("b"),
                node.handshake("b"),
                node.approve("b"),
                node.send("b", "x"),
                node.ping("b"),
                node.open("b", "sink"),
                node.inbox_list(),
                node.inbox_get("1"),
                node.inbox_acknowledge([1]),
                node.inbox_clear(),
            ]
            assert {await code_of(action) for action in actions} == {"not-running"}
            if when == "before":
                await node.start()
                await node.close()

    play(scenario)


def test_profile_belongs_to_one_process(play: Play) -> None:
    async def scenario(world: World) -> None:
        first, second = new_node(world, "a"), new_node(world, "a", "10.0.5.2")
        await first.start()
        with pytest.raises(StateError) as used:
            await second.start()
        assert used.value.code == "profile-in-use"
        assert used.value.next_step
        await first.close()
        await second.start()
        await second.close()

    play(scenario)


def test_address_in_use_is_said_and_leaves_the_profile_free(play: Play) -> None:
    async def scenario(world: World) -> None:
        host = SimHost(world.network, "10.0.5.1")
        taken = host.udp(("10.0.5.1", 7000))
        node = new_node(world, "a", host=host, listen="10.0.5.1:7000")
        for _ in range(2):
            with pytest.raises(StateError) as used:
                await node.start()
            assert used.value.code == "address-in-use"
        with pytest.raises(UsageError) as elsewhere:
            await new_node(world, "a", host=host, listen="10.9.9.9:0").start()
        assert elsewhere.value.code == "address-not-local"
        taken.close()
        await node.start()
        assert node.view().listen == ["10.0.5.1:7000"]
        await node.close()

    play(scenario)


def test_node_comes_back_to_its_port(play: Play) -> None:
    async def scenario(world: World) -> None:
        host = SimHost(world.network, "10.0.5.1")
        node = new_node(world, "a", host=host)
        async with node:
            before = node.view().listen
        async with node:
            assert node.view().listen == before
        taken = host.udp(("10.0.5.1", int(before[0].rpartition(":")[2])))
        async with node:
            assert node.view().listen != before
        taken.close()

    play(scenario)


def test_start_that_fails_anywhere_leaves_nothing_open(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part that is made while a node starts fails in turn."""
    parts = ["Committer", "Transport", "PeerBook", "Announcement", "Directory", "Connector", "Mail", "renew"]

    async def scenario(world: World) -> None:
        host = SimHost(world.network, "10.0.5.1")
        await world.start_rendezvous()
        node = new_node(world, "a", host=host, network=world.ticket)
        for part in parts:
            with monkeypatch.context() as patch:
                patch.setattr(agent_module, part, failing)
                with pytest.raises(ZeroDivisionError):
                    await node.start()
            assert host._ports == {}, part
        await node.start()
        await node.close()
        assert host._ports == {}

    play(scenario)


def failing(*_: object, **__: object) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("damage", ["database", "identity"])
def test_damaged_files_are_an_error_and_never_a_new_identity(damage: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        node = new_node(world, "a")
        async with node:
            identity = node.identity
        file = {"database": place(world, "a").database, "identity": place(world, "a").identity_file}[damage]
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises((StorageError, ParseError)) as broken:
            await node.start()
        assert broken.value.next_step
        file.write_bytes(whole)
        async with node:
            assert node.identity == identity

    play(scenario)


def test_close_that_is_cancelled_leaves_the_profile_free(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.start_rendezvous()
        for count in range(1, 8):
            node = new_node(world, "a", f"10.0.6.{count + 1}", network=world.ticket)
            await node.start()
            await asyncio.sleep(1.0)
            closing = asyncio.ensure_future(node.close())
            await steps(count)
            closing.cancel()
            await asyncio.wait((closing,))
            assert node._given_host._ports == {}  # type: ignore[union-attr]

    play(scenario)


BAD_ARGUMENTS: dict[str, tuple[dict[str, Any], type[CoveyError], str]] = {
    "name": ({"name": "Not A Name"}, UsageError, "bad-name"),
    "ticket": ({"network": "covey1nonsense"}, ParseError, "bad-ticket"),
    "listen": ({"listen": "nowhere"}, ParseError, "malformed"),
    "profile": ({"profile": "../x"}, UsageError, "bad-profile"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_argument_is_said_at_once(case: str) -> None:
    options, kind, code = BAD_ARGUMENTS[case]
    with pytest.raises(kind) as refused:
        Node(**options)
    assert refused.value.code == code


# --- what is remembered ---------------------------------------------------------------------------------------------


def test_name_and_network_are_remembered(play: Play) -> None:
    async def scenario(world: World) -> None:
        rendezvous = await world.start_rendezvous()
        host = SimHost(world.network, "10.0.5.1")
        async with new_node(world, "a", host=host, agent="first-name", network=rendezvous.ticket) as node:
            identity = node.identity
        async with new_node(world, "a", host=host, agent=None) as node:
            assert (node.identity, node.name, node.view().network) == (identity, "first-name", rendezvous.ticket)
        async with new_node(world, "a", host=host, agent="second-name") as node:
            assert (node.identity, node.name) == (identity, "second-name")
        async with new_node(world, "a", host=host, agent=None) as node:
            assert node.name == "second-name"

    play(scenario)


def test_node_without_a_name_gets_one_that_is_its_own(play: Play) -> None:
    async def scenario(world: World) -> None:
        async with new_node(world, "a", agent=None) as node:
            assert node.name == f"agent-{node.identity[:8]}"

    play(scenario)


def test_view_has_what_status_shows(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b, c = await network(world, "a", "b", "c")
        await world.befriend("a", "b")
        await c.handshake("a")
        await world.until(lambda: bool(a.pending()))
        await b.send_many("a", [b"1", b"2", b"3"])
        await a.inbox_acknowledge([1])
        await world.crash("b")
        await a.send("b", "waits", wait=0)
        await asyncio.sleep(30.0)
        view = a.view()
        assert (view.name, view.identity, view.address) == ("a", a.identity, a.address)
        assert (view.profile, view.pid, view.network) == ("a", os.getpid(), world.ticket)
        assert view.version
        begun = world.machines["a"].host.wall_us() / 1e6 - asyncio.get_running_loop().time()
        assert view.started == pytest.approx(begun, abs=1e-3)
        assert [host.rpartition(":")[0] for host in view.listen] == ["10.0.2.2"]
        assert (view.peers_trusted, view.peers_pending) == (1, 1)
        assert (view.inbox_unread, view.outbox_queued) == (2, 1)
        assert [(each.code, each.severity) for each in view.findings] == [("single-rendezvous", "note")]

    play(scenario)


def test_counts_survive_a_restart(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        await b.send_many("a", [b"1", b"2", b"3"])
        await a.inbox_acknowledge([2])
        await world.crash("b")
        await a.send_many("b", [b"1", b"2"], wait=0)
        before = a.view()
        await world.crash("a")
        await world.restart("a")
        after = world.node("a").view()
        counted = ("inbox_unread", "outbox_queued", "peers_trusted", "peers_pending", "identity", "name", "listen")
        assert {key: getattr(after, key) for key in counted} == {key: getattr(before, key) for key in counted}
        assert world.node("a").peers()[0].queued == 2

    play(scenario)


# --- events ---------------------------------------------------------------------------------------------------------


def test_subscriber_hears_of_what_happens(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        events = b.subscribe()
        await world.befriend("a", "b")
        await a.send("b", "x")
        await b.send("a", "y", id="ab" * 16)
        await asyncio.sleep(3.0)
        await world.machines["b"].stop()  # type: ignore[union-attr]
        heard = [event async for event in events]
        kinds = {kind(event) for event in heard}
        assert kinds >= {"peer.connected", "trust.changed", "message.received", "message.delivered", "peer.path"}
        assert all(event.id and event.time and event.schema == 1 for event in heard)
        assert heard[0].time <= heard[-1].time
        delivered = next(event for event in heard if isinstance(event, MessageDelivered))
        assert (delivered.peer, delivered.name, delivered.message) == (a.identity, "a", "ab" * 16)
        assert all(getattr(event, "peer", a.identity) == a.identity for event in heard), "a rendezvous is no peer"

    play(scenario)


def test_subscriber_hears_of_a_message_that_expired(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        await world.crash("b")
        events = a.subscribe(["message.*"])
        await a.send("b", "too late", id="cd" * 16, ttl=5.0, wait=0)
        event = await anext(events)
        assert isinstance(event, MessageExpired)
        assert (event.name, event.message) == ("b", "cd" * 16)

    play(scenario)


# --- clocks and long days -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong_s", [300.0, -300.0])
def test_clock_five_minutes_wrong_hurts_nobody(wrong_s: float, play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.start_rendezvous()
        a = (await world.start_node("a")).node
        b = await start_odd(world, "b", clock_s=wrong_s)
        await world.befriend("a", "b")
        for _ in range(3):
            assert (await a.send("b", "x")).result == "delivered"
            assert (await b.send("a", "y", ttl=60.0)).result == "delivered"
            for name in ("a", "b"):
                await world.crash(name)
                await world.restart(name)
            a, b = world.node("a"), world.node("b")
        await world.until(lambda: a.view().degraded == b.view().degraded == [])

    play(scenario)


def test_clock_that_is_set_back_loses_nothing(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        await asyncio.sleep(2 * 3600.0)
        world.machines["a"].host.clock_offset_us = -3600 * 1_000_000
        assert (await a.send("b", "x", ttl=30.0)).result == "delivered"
        await world.crash("a")
        await world.restart("a")
        assert (await world.node("a").send("b", "y", ttl=30.0, wait=20.0)).result == "delivered"
        assert await bodies(b) == ["x", "y"]

    play(scenario, limit_s=10_000.0)


def test_message_after_twenty_idle_minutes_needs_no_new_handshake_with_the_user(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        await a.send("b", "one")
        await asyncio.sleep(1200.0)
        begun = asyncio.get_running_loop().time()
        assert (await a.send("b", "two")).result == "delivered"
        assert asyncio.get_running_loop().time() - begun < 1.0
        assert await bodies(b) == ["one", "two"]

    play(scenario, limit_s=3600.0)


def test_fifty_hours_with_a_message_per_hour_over_rotating_keys(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        first = {node.name: node._running.credentials.current.key.public for node in (a, b)}
        for hour in range(50):
            await asyncio.sleep(3600.0)
            sent = await a.send("b", f"hour {hour}", wait=30.0)
            assert sent.result == "delivered", hour
            if hour % 5 == 0:
                assert (await b.send("a", f"hour {hour}", wait=30.0)).result == "delivered", hour
        assert await bodies(b) == [f"hour {hour}" for hour in range(50)]
        for node in (a, b):
            keys = node._running.credentials.transport_keys
            assert 3 <= len(keys) <= 4
            assert first[node.name] not in [pair.key.public for pair in keys], "it lived 48 hours"
            assert node.view().degraded == []

    play(scenario, limit_s=60 * 3600.0)


def test_peers_that_were_away_for_days_meet_again(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        await world.crash("b")
        await a.send("b", "long ago", wait=0)
        await world.crash("a")
        await asyncio.sleep(60 * 3600.0)
        await world.restart("b")
        await asyncio.sleep(60.0)
        await world.restart("a")
        await world.until(lambda: world.node("b").view().inbox_unread == 1)

    play(scenario, limit_s=70 * 3600.0)


# --- the same seed, the same run ------------------------------------------------------------------------------------


def test_whole_nodes_run_the_same_way_twice(sim_seed: int, tmp_path: Path) -> None:
    runs = 0

    def once() -> Trace:
        nonlocal runs
        runs += 1
        directory = tmp_path / str(runs)
        directory.mkdir()

        async def main() -> Trace:
            link = Link(latency_s=0.01, jitter_s=0.01, loss=0.05, duplicate=0.05)
            async with World(directory, seed=sim_seed, link=link) as world:
                trace = world.network.trace = Trace(asyncio.get_running_loop().time)
                a, _, c = await friends(world, "a", "b", "c")
                await asyncio.gather(
                    *(a.send(name, "x" * size, wait=20.0) for name in ("b", "c") for size in (10, 5000, 50_000))
                )
                await world.crash("b")
                await a.send("b", "later", wait=0)
                await world.restart("b")
                stream = await c.open("a", "sink")
                await stream.write(bytes(200_000))
                await stream.finish()
                await stream.read_exactly(40)
                await world.until(lambda: world.node("b").view().inbox_unread == 4)
                await asyncio.sleep(150.0)
            return trace

        return run(main(), seed=sim_seed)

    trace = replay(once)
    assert trace.count("send") > 300
