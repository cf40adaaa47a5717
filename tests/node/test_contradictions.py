"""What a rendezvous says against itself, against another one, or against what is known: noticed, told, not believed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from covey.base.events import Event, RendezvousContradiction
from covey.base.types import identity_text, parse_identity
from covey.crypto.credentials import Credentials
from covey.crypto.events import commitment, revoke
from covey.crypto.keys import SigningKey
from covey.crypto.record import RECORD_LIFE_US, Record
from covey.node import Node
from covey.node.contradictions import Contradiction, Contradictions
from covey.testing.world import SimRendezvous, World
from covey.wire import rendezvous as wire
from tests.node.stage import Play, about, bodies, code_of, friends, raw, trust, two_rendezvous

HOUR_S = 3600.0
RV, OTHER, PEER = b"r" * 32, b"o" * 32, b"p" * 32


def rendezvous(world: World, name: str) -> SimRendezvous:
    machine = world.machines[name]
    assert isinstance(machine, SimRendezvous)
    return machine


def rows(machine: SimRendezvous, node: Node) -> list[tuple[Any, ...]]:
    return machine.store.database.rows("SELECT * FROM records WHERE identity = ?", (raw(node),))


def put_back(machine: SimRendezvous, old: list[tuple[Any, ...]]) -> None:
    for row in old:
        columns = ", ".join("?" * len(row))
        machine.store.database.execute(f"INSERT OR REPLACE INTO records VALUES ({columns})", row)


async def two_friends(world: World) -> tuple[Node, Node]:
    await two_rendezvous(world)
    a, b = [(await world.start_node(name)).node for name in ("a", "b")]
    await world.befriend("a", "b")
    await world.until(lambda: a.name_view().held == b.name_view().held == 2)
    return a, b


def told(node: Node) -> list[tuple[str, str]]:
    """(kind, endpoint of the rendezvous) of what is shown."""
    endpoints = {view.identity: view.endpoint for view in node.view().rendezvous}
    return [(found.kind, endpoints[identity_text(found.rendezvous)]) for found in node._running.contradictions]


def signed(credentials: Credentials, name: str, at_us: int) -> wire.Signed:
    record = Record.make(
        credentials.operational,
        credentials.log,
        credentials.delegation,
        credentials.current.certificate,
        address_nonce=credentials.address_nonce,
        sequence=at_us,
        expires_us=at_us + RECORD_LIFE_US,
        name=name,
    )
    return wire.Signed(record.raw, credentials.log.raw)


def hold(machine: SimRendezvous, claim: wire.Signed) -> None:
    """It has this from now on, wherever it may have it from."""
    record = Record.parse(claim.record)
    machine.store.database.execute("DELETE FROM records WHERE identity = ?", (record.identity,))
    machine.store.put(
        record.identity,
        address=record.address(),
        name="",
        order=record.order,
        record=claim.record,
        log=claim.log,
        expires_us=record.expires_us,
        now_us=record.sequence,
    )


async def next_contradiction(events: Any) -> RendezvousContradiction:
    while True:
        event: Event = await anext(events)
        if isinstance(event, RendezvousContradiction):
            return event


def test_each_is_counted_and_told_once_an_hour() -> None:
    clock, heard = [0.0], []
    seen = Contradictions(lambda: clock[0], lambda found: heard.append((found.kind, found.peer, found.count)))
    for at in (0.0, 10.0, 3599.0, 3600.0, 3700.0):
        clock[0] = at
        seen.note(RV, "rollback", PEER)
    seen.note(RV, "invalid")
    seen.note(OTHER, "invalid")
    assert heard == [("rollback", PEER, 1), ("rollback", PEER, 4), ("invalid", None, 1), ("invalid", None, 1)]
    assert (seen.count(RV), seen.count(OTHER), seen.count(PEER)) == (6, 1, 0)
    assert [(found.rendezvous, found.kind) for found in seen] == [(RV, "rollback"), (RV, "invalid"), (OTHER, "invalid")]
    clock[0] += 24 * HOUR_S + 1
    assert list(seen) == []
    assert seen.count(RV) == 6


def test_memory_is_bounded_whatever_is_said() -> None:
    heard: list[Contradiction] = []
    seen = Contradictions(lambda: 0.0, heard.append)
    for number in range(2000):
        seen.note(RV, "fork", number.to_bytes(32, "big"))
    assert len(list(seen)) == 256
    assert seen.count(RV) == 2000


def test_rollback_of_a_rendezvous_is_told_and_has_no_effect(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        machine = rendezvous(world, "rendezvous")
        old = rows(machine, b)
        await asyncio.sleep(HOUR_S + 60)
        await a._running.directory.compare(raw(b))
        newest = a._running.book.get(raw(b))
        assert newest is not None
        events = a.subscribe()
        identity = b.identity
        await world.crash("b")
        put_back(machine, old)
        for _ in range(3):
            await a._running.directory.compare(parse_identity(identity))
        event = await next_contradiction(events)
        assert (event.kind, event.endpoint, event.peer, event.name) == ("rollback", "10.0.1.1:4040", identity, "b")
        (found,) = [each for each in a.view().findings if each.code == "rendezvous-contradiction"]
        assert "10.0.1.1:4040 gave an older record or key-event log of b" in found.what
        assert "3 times" in found.what
        assert found.hint
        assert [view.contradictions for view in a.view().rendezvous] == [3]
        assert a._running.book.get(parse_identity(identity)) == newest
        assert trust(a, identity) == "trusted"

    play(scenario, limit_s=9000.0)


def test_rendezvous_that_lags_behind_the_other_is_a_note(play: Play) -> None:
    """It may withhold, or the peer may not reach it: that cannot be told apart."""

    async def scenario(world: World) -> None:
        a, b = await two_friends(world)
        second = rendezvous(world, "second")
        world.network.partition([second.host.ip], [world.machines["b"].host.ip])
        await asyncio.sleep(HOUR_S)
        await a._running.directory.compare(raw(b))
        assert told(a) == []
        await asyncio.sleep(3 * HOUR_S)
        await a._running.directory.compare(raw(b))
        assert told(a) == [("behind", "10.0.1.2:4040")]
        (found,) = [each for each in a.view().findings if each.code == "rendezvous-contradiction"]
        assert found.severity == "note"

    play(scenario, limit_s=20_000.0)


def test_two_records_of_one_order_at_two_rendezvous_are_told(play: Play) -> None:
    """A stolen operational key, or a state directory that was copied."""

    async def scenario(world: World) -> None:
        a, b = await two_friends(world)
        at_us = b._running.now_us()
        for name, calls_itself in (("first", "b"), ("second", "b-elsewhere")):
            hold(rendezvous(world, name), signed(b._running.credentials, calls_itself, at_us))
        before = about(a, b)
        await a._running.directory.compare(raw(b))
        assert [kind for kind, _ in told(a)] == ["two-records"]
        assert about(a, b).safety_number == before.safety_number
        assert about(a, b).name == "b"

    play(scenario)


def test_fork_is_told_with_the_rendezvous_that_shows_the_other_branch(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await two_friends(world)
        host = world.machines["a"].host
        credentials, roots = Credentials.create(host.random, host.wall_us())
        for number, name in enumerate(("first", "second")):
            after_next = commitment(SigningKey(bytes([number]) * 32).public)
            branch = credentials.rotate_root(roots.next_root, after_next, host.random(32), host.wall_us())
            hold(rendezvous(world, name), signed(branch, "x", host.wall_us()))
        for _ in range(3):
            await a._running.directory.compare(credentials.identity)
        assert [kind for kind, _ in told(a)] == ["fork"]
        ((_, where),) = told(a)
        assert any(view.endpoint == where and view.contradictions >= 2 for view in a.view().rendezvous)
        assert await code_of(a.handshake(identity_text(credentials.identity))) == "forked-identity"

    play(scenario)


@pytest.mark.parametrize("how", ["asked", "within the hour"])
def test_revocation_that_a_rendezvous_tells_cuts_the_peer_at_once(how: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await two_friends(world)
        await a.send("b", "before")
        b.serve("echo", echo)
        stream = await a.open("b", "echo")
        await stream.write(b"x")
        assert await stream.read() == b"x"
        credentials = b._running.credentials
        assert credentials.root is not None
        ended = revoke(credentials.log, credentials.root)
        second = rendezvous(world, "second")
        second.store.put_log(ended.identity, ended.raw, revoked=True)
        second.server._transport.endpoint.add_log(ended)
        events = a.subscribe()
        if how == "asked":
            await a._running.directory.compare(raw(b))
            await asyncio.sleep(0.1)
        else:
            await asyncio.sleep(HOUR_S + 60)
        assert not about(a, b).connected
        assert await code_of(stream.read())
        assert {finding.code for finding in a.view().findings} >= {"peer-revoked"}
        while (event := await anext(events)).__struct_config__.tag != "peer.keys":
            pass
        assert event.revoked
        assert (await a.send("b", "after", wait=20.0)).result == "queued"
        await world.crash("a")
        await world.restart("a")
        assert (await world.node("a").send("b", "after a restart", wait=20.0)).result == "queued"
        assert await bodies(b, all=True) == ["before"]

    async def echo(stream: Any) -> None:
        while data := await stream.read():
            await stream.write(data)

    play(scenario, limit_s=8000.0)


def test_agent_publishes_its_revocation_and_its_name_is_free(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        agent = b._running
        assert agent.credentials.root is not None
        ended = revoke(agent.credentials.log, agent.credentials.root)
        signed = agent.announcement.signed()
        client = agent.clients[0]
        await client._call(wire.Publish(client._next(), wire.Signed(signed.record, ended.raw)), wire.Published)
        machine = rendezvous(world, "rendezvous")
        held = machine.store.by_identity(raw(b))
        assert held is not None
        assert (held.log, held.name) == (ended.raw, "")
        await a._running.directory.compare(raw(b))
        await asyncio.sleep(0.1)
        assert not about(a, b).connected

    play(scenario)


def test_heads_are_compared_at_each_session_and_hourly(play: Play) -> None:
    async def scenario(world: World) -> None:
        await two_friends(world)
        machine = rendezvous(world, "second")
        await asyncio.sleep(100.0)

        async def asked() -> int:
            return (await machine.server.counts()).requests

        before = await asked()
        for _ in range(3):
            await asyncio.sleep(HOUR_S)
        publications = 3 * 2
        assert 4 <= await asked() - before - publications <= 6, "a of b and b of a"

    play(scenario, limit_s=20_000.0)
