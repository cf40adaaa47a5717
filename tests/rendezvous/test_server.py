from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from covey.base.constants import LOG_LIMIT
from covey.base.errors import CoveyError, RefusedError
from covey.base.types import Identity, parse_endpoint
from covey.core.limits import STRANGER_CONNECTION_WINDOW
from covey.core.relay import IDLE_SECONDS
from covey.crypto.credentials import Credentials
from covey.crypto.events import KeyLog, commitment
from covey.crypto.mac import mac1, mac1_key
from covey.crypto.record import FLAG_UNLISTED, Record
from covey.node.transport import Stream
from covey.rendezvous.limits import Limits
from covey.rendezvous.server import Rendezvous
from covey.rendezvous.store import NAME_LEASE_US
from covey.testing import Link, SimHost, run
from covey.wire import rendezvous as wire
from covey.wire.datagram import PACKET, RELAYED, Initiation
from tests.rendezvous.world import HOUR_US, SERVER_IP, Agent, World, world

Scenario = Callable[[World], Awaitable[None]]
NOBODY = Identity(bytes(32))


def play(scenario: Scenario, seed: int, directory: Path, limits: Limits | None = None) -> None:
    """Run a scenario against one rendezvous, in virtual time."""

    async def main() -> None:
        async with world(seed, directory, limits) as made:
            await scenario(made)

    run(main(), seed=seed)


async def failure(agent: Agent, kind: type[wire.Message], *fields: object) -> str:
    answer = await agent.call(kind, *fields)
    assert isinstance(answer, wire.Failed), answer
    return answer.code


async def drained(stream: Stream) -> None:
    """Read what there is, until the end."""
    while await stream.read():
        pass


def test_what_is_published_is_found_by_identity_address_and_name(sim_seed: int, tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        there.network.default = Link(latency_s=0.02, loss=0.05)
        a, b = await there.agent(), await there.agent()
        signed = a.signed("azure-processor")
        assert await a.call(wire.Publish, signed) == wire.Published(2, wire.NAME_HELD)
        address = Record.parse(signed.record).address()
        for by, key in (
            (wire.BY_IDENTITY, a.identity),
            (wire.BY_ADDRESS, address),
            (wire.BY_NAME, b"azure-processor"),
        ):
            answer = await b.call(wire.Lookup, by, key)
            assert isinstance(answer, wire.Found)
            assert answer.claims == (signed,), by
            record, log = Record.parse(answer.claims[0].record), KeyLog.parse(answer.claims[0].log)
            record.verify(log, b.host.wall_us())
        for by, key in (
            (wire.BY_IDENTITY, NOBODY),
            (wire.BY_ADDRESS, bytes(6)),
            (wire.BY_NAME, b"azure-process"),
            (wire.BY_NAME, b"\xff\xfe"),
            (wire.BY_NAME, b"%"),
        ):
            assert await b.lookup(by, key) == [], key

    play(scenario, sim_seed, tmp_path)


def test_an_unlisted_agent_is_found_by_its_identity_only(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a, b = await there.agent(), await there.agent()
        signed = a.signed("shy", flags=FLAG_UNLISTED)
        assert await a.call(wire.Publish, signed) == wire.Published(2, wire.NAME_NONE)
        assert await b.lookup(wire.BY_NAME, b"shy") == []
        assert await b.lookup(wire.BY_ADDRESS, Record.parse(signed.record).address()) == []
        assert await b.lookup(wire.BY_IDENTITY, a.identity) == [a.identity]

    play(scenario, 0, tmp_path)


def test_a_record_that_is_not_its_publishers_or_not_valid_is_refused(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        now = there.host.wall_us()
        made_before, _ = Credentials.create(there.host.random, now - 3 * HOUR_US)
        a, b = there.new_agent(credentials=made_before), await there.agent()
        await a.join(there.ticket)
        mine, other = a.signed(), b.signed()
        damaged = bytearray(mine.record)
        damaged[-1] ^= 1
        cases: dict[str, tuple[wire.Signed, str]] = {
            "another's": (other, "not-yours"),
            "another's record with my log": (wire.Signed(other.record, mine.log), "not-yours"),
            "my record with another's log": (wire.Signed(mine.record, other.log), "not-yours"),
            "a wrong signature": (wire.Signed(bytes(damaged), mine.log), "bad-signature"),
            "no record": (wire.Signed(b"record", mine.log), "malformed"),
            "no log": (wire.Signed(mine.record, b""), "malformed"),
            "a large log of nothing": (wire.Signed(mine.record, bytes(LOG_LIMIT)), "malformed"),
            "the future": (a.signed(sequence=now + HOUR_US), "from-the-future"),
            "expired": (a.signed(sequence=now - 2 * HOUR_US, life_us=HOUR_US), "expired"),
            "a long life": (a.signed(life_us=25 * HOUR_US), "bad-life"),
        }
        for name, (signed, code) in cases.items():
            assert (name, await failure(a, wire.Publish, signed)) == (name, code)
        assert await b.lookup(wire.BY_IDENTITY, a.identity) == []
        assert await b.lookup(wire.BY_IDENTITY, b.identity) == []

    play(scenario, 0, tmp_path)


def test_an_older_record_is_refused_and_the_same_one_is_not(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a = await there.agent()
        now = a.host.wall_us()
        newer, older = a.signed(sequence=now), a.signed(sequence=now - 1)
        assert isinstance(await a.call(wire.Publish, newer), wire.Published)
        assert await failure(a, wire.Publish, older) == "stale-record"
        assert isinstance(await a.call(wire.Publish, newer), wire.Published)
        answer = await a.call(wire.Lookup, wire.BY_IDENTITY, a.identity)
        assert isinstance(answer, wire.Found)
        assert answer.claims == (newer,)

    play(scenario, 0, tmp_path)


def test_a_log_that_was_rolled_back_is_refused_also_after_a_restart(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a = there.new_agent()
        old, roots = Credentials.create(a.host.random, a.host.wall_us())
        following = Credentials.create(a.host.random, a.host.wall_us())[1]
        new = old.rotate_root(roots.next_root, commitment(following.root.public), a.host.random(32), a.host.wall_us())
        owner = there.new_agent(credentials=new)
        await owner.join(there.ticket)
        await owner.publish("mine")
        await owner.close()
        await there.stop()
        await there.start()
        thief = there.new_agent(credentials=old)
        await thief.join(there.ticket)
        assert await failure(thief, wire.Publish, thief.signed("mine")) == "superseded"

    play(scenario, 0, tmp_path)


def test_a_name_belongs_to_who_came_first_while_it_publishes(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a, b = await there.agent(), await there.agent()
        assert await a.publish("processor") == wire.NAME_HELD
        assert await b.publish("processor") == wire.NAME_TAKEN
        assert await b.lookup(wire.BY_NAME, b"processor") == [a.identity]
        assert await b.lookup(wire.BY_IDENTITY, b.identity) == [b.identity]
        for clock in (there.host, a.host, b.host):
            clock.clock_offset_us += NAME_LEASE_US // 2  # type: ignore[attr-defined]
        for agent in (a, b):
            fresh = agent.credentials.rotate_transport(agent.host.random(32), agent.host.wall_us())
            agent.credentials = fresh
        assert await a.publish("processor") == wire.NAME_HELD  # renewed
        for clock in (there.host, a.host, b.host):
            clock.clock_offset_us += NAME_LEASE_US + 1  # type: ignore[attr-defined]
        b.credentials = b.credentials.rotate_transport(b.host.random(32), b.host.wall_us())
        assert await b.publish("processor") == wire.NAME_HELD
        assert await a.lookup(wire.BY_NAME, b"processor") == [b.identity]

    play(scenario, 0, tmp_path)


def test_two_agents_talk_through_a_circuit(sim_seed: int, tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        there.network.default = Link(latency_s=0.01, loss=0.02, jitter_s=0.005)
        a, b = await there.agent(), await there.agent()
        there.network.partition([a.port.local[0]], [b.port.local[0]])  # only the relay is left
        connection = await a.meet(b)
        payload = Random(sim_seed).randbytes(300_000)
        stream = await a.transport.open(connection, "echo")
        echoed = asyncio.ensure_future(stream.read_exactly(len(payload)))
        await stream.write(payload)
        assert await echoed == payload
        assert connection.session is not None
        assert connection.session.active.route.relayed
        counts = await there.server.counts()
        assert counts.circuits == 1
        assert counts.forwarded_bytes > 2 * len(payload)
        # Either side asks again: it is the same circuit.
        assert await b.introduce(a.identity) == await a.introduce(b.identity)

    play(scenario, sim_seed, tmp_path)


def test_the_relay_forwards_for_the_two_sides_of_a_circuit_and_nobody_else(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a, b, stranger = await there.agent(), await there.agent(), await there.agent()
        outsider = there.new_agent()
        circuit = await a.introduce(b.identity)
        datagram = bytes([RELAYED, 0, 0, 0]) + circuit.to_bytes(4, "big") + bytes([PACKET]) + bytes(99)
        server = (SERVER_IP, 4040)
        before = there.server.relay.forwarded_bytes
        for source in (stranger, outsider):
            source.port.send(memoryview(datagram), len(datagram), server)
        other = a.transport.bind((a.port.local[0], 0))  # the right host, another port
        other.send(memoryview(datagram), len(datagram), server)
        unknown = bytes([RELAYED, 0, 0, 0]) + (circuit ^ 1).to_bytes(4, "big") + bytes([PACKET]) + bytes(99)
        a.port.send(memoryview(unknown), len(unknown), server)
        await a.lookup(wire.BY_IDENTITY, NOBODY)
        await asyncio.sleep(1.0)
        assert there.server.relay.forwarded_bytes == before
        a.port.send(memoryview(datagram), len(datagram), server)
        await asyncio.sleep(1.0)
        assert there.server.relay.forwarded_bytes == before + len(datagram)

    play(scenario, 0, tmp_path)


def test_the_relay_forwards_only_handshakes_made_for_a_key_that_the_other_side_has_or_published(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a, b = await there.agent(), await there.agent()
        circuit = await a.introduce(b.identity)
        of_session = b.credentials.current.key.public
        b.credentials = b.credentials.rotate_transport(b.host.random(32), b.host.wall_us())
        await b.publish()
        published, unknown = b.credentials.current.key.public, a.credentials.current.key.public

        async def forwarded(key: bytes) -> int:
            """Of 4 datagrams, which are within the rate of a circuit."""
            head = Initiation.prefix(1, bytes(8), bytes(1096))
            raw = Initiation.finish(head + mac1(mac1_key(key), head))
            datagram = bytes([RELAYED, 0, 0, 0]) + circuit.to_bytes(4, "big") + raw
            before = there.server.relay.forwarded_bytes
            for _ in range(4):
                a.port.send(memoryview(datagram), len(datagram), (SERVER_IP, 4040))
            await asyncio.sleep(1.0)
            return (there.server.relay.forwarded_bytes - before) // len(datagram)

        assert await forwarded(of_session) == 4
        assert await forwarded(published) == 4
        assert await forwarded(unknown) == 2
        assert await forwarded(unknown) == 1

    play(scenario, 0, tmp_path)


def test_a_circuit_ends_with_its_clients_or_when_nobody_uses_it(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a, b, c = await there.agent(), await there.agent(), await there.agent()
        await a.introduce(b.identity)
        await a.introduce(c.identity)
        assert len(there.server.relay) == 2
        await b.close()
        await asyncio.sleep(1.0)
        assert len(there.server.relay) == 1
        assert await a.introduce(b.identity) == 0
        await asyncio.sleep(IDLE_SECONDS + 120.0)
        assert len(there.server.relay) == 0

    play(scenario, 0, tmp_path)


def test_strangers_cannot_use_up_the_circuits_of_a_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covey.core.relay.CIRCUITS_PER_CLIENT", 3)

    async def scenario(there: World) -> None:
        victim = await there.agent()
        crowd = [await there.agent() for _ in range(5)]
        for each in crowd:
            assert await each.introduce(victim.identity)
        friends = [await there.agent() for _ in range(4)]
        for friend in friends[:3]:
            assert await victim.introduce(friend.identity)
        assert await failure(victim, wire.Introduce, friends[3].identity) == "too-many-circuits"

    play(scenario, 0, tmp_path)


def test_nobody_is_introduced_to_itself_or_to_who_is_not_here(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a = await there.agent()
        assert await failure(a, wire.Introduce, a.identity) == "self"
        assert await a.introduce(NOBODY) == 0
        assert len(there.server.relay) == 0

    play(scenario, 0, tmp_path)


def test_a_watched_agent_is_announced_once_when_it_appears(sim_seed: int, tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a, late = await there.agent(), there.new_agent()
        for _ in range(2):
            assert isinstance(await a.call(wire.Watch, late.identity), wire.Done)
        await asyncio.sleep(5.0)
        assert [type(each) for each in a.pushes._queue] == [wire.Observed]  # type: ignore[attr-defined]
        await late.join(there.ticket)
        assert (await a.pushed(wire.Present)).identity == late.identity
        assert await a.introduce(late.identity)
        await asyncio.sleep(60.0)
        assert a.pushes.empty()

    play(scenario, sim_seed, tmp_path)


def test_a_watched_agent_that_is_there_is_announced_at_once(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a, b = await there.agent(), await there.agent()
        assert isinstance(await a.call(wire.Watch, b.identity), wire.Done)
        async with asyncio.timeout(0.1):
            assert (await a.pushed(wire.Present)).identity == b.identity
        assert (await there.server.counts()).watches == 0

    play(scenario, 0, tmp_path)


def test_watches_end_with_the_stream_and_are_limited(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a = await there.agent()
        for number in range(3):
            assert isinstance(await a.call(wire.Watch, Identity(bytes([number]) * 32)), wire.Done)
        assert isinstance(await a.call(wire.Watch, Identity(bytes(32))), wire.Done)  # again
        assert await failure(a, wire.Watch, Identity(b"\x09" * 32)) == "too-many-watches"
        assert (await there.server.counts()).watches == 3
        await a.open()
        await a.lookup(wire.BY_IDENTITY, NOBODY)
        assert (await there.server.counts()).watches == 0

    play(scenario, 0, tmp_path, Limits(watches=3))


def test_a_client_learns_its_own_endpoint_and_when_it_changes(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a = await there.agent()
        observed = await a.pushed(wire.Observed)
        assert parse_endpoint(observed.endpoint) == a.port.local
        # Its NAT gives it another port: from now on its packets come from there.
        old, index = a.port, 0
        moved = a.host.udp((old.local[0], 0))
        a.transport.driver._ports[index].close()
        a.transport.driver._ports[index] = moved
        moved.on_readable(lambda: a.transport.driver._became_readable(index))
        for _ in range(40):
            await a.lookup(wire.BY_IDENTITY, NOBODY)
            await asyncio.sleep(0.25)
        assert parse_endpoint((await a.pushed(wire.Observed)).endpoint) == moved.local

    play(scenario, 0, tmp_path)


def test_a_newer_stream_takes_the_place_of_the_older(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a = await there.agent()
        first, ended = a.stream, a.ended
        assert first is not None
        await a.lookup(wire.BY_IDENTITY, NOBODY)
        await a.open()
        await a.lookup(wire.BY_IDENTITY, NOBODY)
        await asyncio.sleep(1.0)
        with pytest.raises(CoveyError):
            await first.read()
        assert not ended.is_set()  # its reader was cancelled by the test, not ended by the server

    play(scenario, 0, tmp_path)


def test_a_client_that_opens_streams_faster_than_its_tokens_come_does_not_pile_up_requests(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a = await there.agent()
        assert a.connection is not None
        request = wire.encode(wire.Publish(1, wire.Signed(a.signed().record, bytes(60_000))))
        tasks = len(asyncio.all_tasks())
        for _ in range(40):
            stream = await a.transport.open(a.connection, wire.SERVICE)
            with contextlib.suppress(CoveyError):
                await stream.write(request)
            await asyncio.sleep(0.1)
            stream.abort()
        assert len(asyncio.all_tasks()) <= tasks + 4
        await asyncio.sleep(60.0)
        await a.open()
        assert await a.lookup(wire.BY_IDENTITY, NOBODY) == []

    play(scenario, 0, tmp_path, Limits(requests_per_second=50.0, requests_burst=20.0))


def test_any_other_service_is_refused(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a = await there.agent()
        assert a.connection is not None
        for service in ("message", "trust", "tcp/22", "rendezvous2"):
            stream = await a.transport.open(a.connection, service)
            await stream.write(b"hello")
            with pytest.raises(RefusedError):
                await stream.read()

    play(scenario, 0, tmp_path)


def test_a_full_rendezvous_says_busy_until_there_is_room(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        first, second, third = await there.agent(), await there.agent(), there.new_agent()
        with pytest.raises(AssertionError, match="busy"):
            await third.join(there.ticket)
        await third.ended.wait()
        assert await first.introduce(third.identity) == 0
        await second.close()
        await asyncio.sleep(0.1)
        await third.open()
        assert await third.introduce(first.identity)
        assert (await there.server.counts()).turned_away == 1

    play(scenario, 0, tmp_path, Limits(clients=2))


def test_one_network_does_not_take_every_place(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        host = SimHost(there.network, "203.0.113.7")
        first, second, third = (there.new_agent(host) for _ in range(3))
        await first.join(there.ticket)
        await second.join(there.ticket)
        with pytest.raises(AssertionError, match="busy"):
            await third.join(there.ticket)
        await third.ended.wait()
        elsewhere = await there.agent()
        assert await elsewhere.introduce(first.identity)
        await second.close()
        await asyncio.sleep(0.1)
        await third.open()
        assert await third.introduce(elsewhere.identity)

    play(scenario, 0, tmp_path, Limits(clients_per_network=2))


def test_requests_beyond_the_rate_are_answered_later_and_in_order(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a = await there.agent()
        began = a.host.now()
        answers = [await a.ask(wire.Lookup, wire.BY_IDENTITY, NOBODY) for _ in range(60)]
        done, _ = await asyncio.wait(answers, timeout=0.5)
        assert 9 <= len(done) <= 20
        assert [(await answer).number for answer in answers] == list(range(2, 62))
        assert a.host.now() - began == pytest.approx((60 - 10) / 10, abs=0.5)

    play(scenario, 0, tmp_path, Limits(requests_per_second=10.0, requests_burst=10.0))


def test_an_unknown_long_log_costs_more_than_a_known_one(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a = await there.agent()
        await a.publish()
        began = a.host.now()
        for _ in range(5):
            await a.call(wire.Publish, a.signed())
        known = a.host.now() - began
        began = a.host.now()
        assert await failure(a, wire.Publish, wire.Signed(a.signed().record, bytes(LOG_LIMIT))) == "malformed"
        assert a.host.now() - began > 5.0 > known

    play(scenario, 0, tmp_path, Limits(requests_per_second=10.0, requests_burst=20.0))


def test_a_client_that_takes_no_answers_is_cut_off(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a = await there.agent()
        assert a.connection is not None
        await a.publish("x")
        stream = a.stream
        assert stream is not None
        a._reader.cancel()  # type: ignore[union-attr]  # it reads no more, so its window closes
        request = wire.encode(wire.Lookup(7, wire.BY_IDENTITY, a.identity))
        for _ in range(400):
            await stream.write(request)
        (core,) = [client.stream for client in there.server._clients if client.identity == a.identity]
        assert core is not None
        worst = 0
        for _ in range(300):
            await asyncio.sleep(0.1)
            worst = max(worst, core.unsent)
        assert worst < 8 * 1024
        with pytest.raises(CoveyError) as caught:
            await drained(stream)
        assert caught.value.code == "limit"

    play(scenario, 0, tmp_path, Limits(untaken_bytes=4096, untaken_seconds=3.0))


def test_absent_clients_lose_their_place(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        silent = await there.agent(service=False)
        dead, alive = await there.agent(), await there.agent()
        await dead.publish()
        assert alive.connection is not None
        alive.connection.keepalive = 20.0
        assert (await there.server.counts()).clients == 3
        dead.host.crash()  # type: ignore[attr-defined]
        await asyncio.sleep(70.0)
        assert await alive.introduce(dead.identity) == 0  # the ping of a minute found out
        await asyncio.sleep(240.0)
        assert (await there.server.counts()).clients == 1
        assert silent.closed
        assert await alive.lookup(wire.BY_IDENTITY, dead.identity) == [dead.identity]
        there.agents.remove(dead)
        dead.transport.driver.close()
        for task in dead.transport._tasks:
            task.cancel()

    play(scenario, 0, tmp_path)


def test_closing_tells_every_client_and_answers_what_was_asked(sim_seed: int, tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        there.network.default = Link(latency_s=0.05)
        agents = [await there.agent() for _ in range(100)]
        answers = [await agent.ask(wire.Publish, agent.signed()) for agent in agents]
        await asyncio.sleep(0.051)  # the requests have arrived
        began = there.host.now()
        stopping = asyncio.ensure_future(there.stop())
        for agent in agents:
            await agent.pushed(wire.Restarting)
            await answers[agents.index(agent)]
            assert agent.connection is not None
            agent.transport.close_connection(agent.connection)
        await stopping
        assert there.host.now() - began < 1.0  # two round trips, not the whole drain
        assert {type(await answer) for answer in answers} == {wire.Published}
        await asyncio.sleep(1.0)
        assert [len(agent.closed) for agent in agents] == [1] * 100
        await there.start()

    play(scenario, sim_seed, tmp_path)


def test_closing_waits_for_clients_that_do_not_leave_and_introduces_nobody_meanwhile(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a, b = await there.agent(), await there.agent()
        circuit = await a.introduce(b.identity)
        stopping = asyncio.ensure_future(there.stop(3.0))
        await a.pushed(wire.Restarting)
        assert await a.introduce(b.identity) == 0
        route = a.relayed(circuit)
        a.transport.connect(b.target, [route])
        await a.transport.wait_live(b.identity)  # what it relays, it relays until the end
        assert not stopping.done()
        began = there.host.now()
        await stopping
        assert there.host.now() - began == pytest.approx(3.0, abs=0.2)
        await there.start()

    play(scenario, 0, tmp_path)


def test_closing_does_not_wait_for_a_client_that_is_gone(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a = await there.agent()
        there.network.partition([SERVER_IP])
        began = there.host.now()
        await there.stop(2.0)
        assert there.host.now() - began < 1.5, "what does not answer any more need not be waited for"
        there.network.heal()
        await there.start()
        assert a.connection is not None

    play(scenario, 0, tmp_path)


def test_a_restart_keeps_identity_records_and_names(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a = await there.agent()
        await a.publish("steady")
        before = there.ticket
        await there.stop()
        assert await there.start() == before
        b = await there.agent()
        assert await b.lookup(wire.BY_NAME, b"steady") == [a.identity]
        assert await b.publish("steady") == wire.NAME_TAKEN

    play(scenario, 0, tmp_path)


def test_a_crash_loses_nothing_that_was_answered(sim_seed: int, tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a = await there.agent()
        await a.publish("steady")
        crashed = there.server
        there.host.crash()
        crashed._transport.driver.close()
        for task in crashed._transport._tasks:
            task.cancel()
        there.store.close()
        there.host = there.host.restart()
        await there.start()
        b = await there.agent()
        assert await b.lookup(wire.BY_NAME, b"steady") == [a.identity]

    play(scenario, sim_seed, tmp_path)


def test_keys_rotate_while_it_runs_and_old_clients_stay(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a = await there.agent()
        assert a.connection is not None
        a.connection.keepalive = 20.0
        first = there.server.credentials
        for _ in range(17):
            await asyncio.sleep(3600.0)
        assert len(there.saved) == 1
        assert there.server.credentials.current.key.public != first.current.key.public
        assert len(there.server.credentials.transport_keys) == 2
        assert there.server.credentials == there.saved[-1]
        assert await a.lookup(wire.BY_IDENTITY, NOBODY) == []
        b = await there.agent()  # its record names the new key
        assert await b.introduce(a.identity)

    play(scenario, 0, tmp_path)


def test_the_ticket_names_what_is_advertised_or_where_it_listens(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        cases = (
            ((SERVER_IP, 5000), None, (f"{SERVER_IP}:5000",)),
            (("0.0.0.0", 5001), None, (f"{SERVER_IP}:5001",)),
            (("::", 5002), None, ("[::1]:5002",)),  # no IPv6 address: this machine only
            (("127.0.0.1", 5003), [], ("127.0.0.1:5003",)),
            ((SERVER_IP, 5004), ["rv.example.com:1", "[::2]:2"], ("rv.example.com:1", "[::2]:2")),
        )
        for listen, advertise, expected in cases:
            server = Rendezvous(
                there.host, there.credentials, there.store, there.mailboxes, listen=listen, advertise=advertise
            )
            ticket = await server.start()
            assert ticket.entries[0].endpoints == expected
            assert ticket.entries[0].identity == there.credentials.identity
            await server.close(0)
        taken = Rendezvous(there.host, there.credentials, there.store, there.mailboxes, listen=there.listen)
        with pytest.raises(CoveyError) as caught:
            await taken.start()
        assert caught.value.code == "address-in-use"
        await taken.close()

    play(scenario, 0, tmp_path)


def test_a_malformed_request_resets_the_stream_and_nothing_else(tmp_path: Path) -> None:
    good = wire.encode(wire.Lookup(1, wire.BY_IDENTITY, NOBODY))
    cases = {
        "a frame of no length": bytes(5),
        "a frame too long": (100_000).to_bytes(4, "big") + b"\x02",
        "an unknown kind": good[:4] + b"\x7f" + good[5:],
        "an answer": wire.encode(wire.Done(1)),
        "a push": wire.encode(wire.Present(1, NOBODY)),
        "no number": wire.encode(wire.Lookup(0, wire.BY_IDENTITY, NOBODY)),
        "an unknown way to look up": good[:9] + b"\x09" + good[10:],
        "a short key": wire.encode(wire.Lookup(1, wire.BY_ADDRESS, b"12345")),
        "bytes behind the end": (len(good) - 3).to_bytes(4, "big") + good[4:] + b"\0",
    }

    async def scenario(there: World) -> None:
        a = await there.agent()
        for name, raw in cases.items():
            stream = await a.open()
            await stream.write(raw)
            async with asyncio.timeout(5.0):
                await a.ended.wait()
            with pytest.raises(CoveyError) as caught:
                await stream.read()
            assert (name, caught.value.code) == (name, "protocol")
        await a.open()
        assert await a.lookup(wire.BY_IDENTITY, NOBODY) == []
        assert a.closed == []

    play(scenario, 0, tmp_path)


def test_what_a_client_sends_unread_is_bounded_by_a_strangers_window(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a = await there.agent()
        await a.lookup(wire.BY_IDENTITY, NOBODY)
        assert a.stream is not None
        request = wire.encode(wire.Lookup(9, wire.BY_IDENTITY, NOBODY))
        flood = a.transport.spawn(a.stream.write(request * 100_000), "flood")
        (client,) = there.server._clients
        worst = 0
        for _ in range(200):
            await asyncio.sleep(0.1)
            worst = max(worst, client.connection._received - client.connection._consumed)
        assert 0 < worst <= STRANGER_CONNECTION_WINDOW
        flood.cancel()

    play(scenario, 0, tmp_path, Limits(requests_per_second=10.0))


@pytest.mark.sim_seeds(5)
def test_random_requests_never_hurt_anybody_else(sim_seed: int, tmp_path: Path) -> None:
    """Random and mutated frames, streams opened and dropped: the server goes on."""
    luck = Random(sim_seed)

    def body() -> bytes:
        return luck.randbytes(luck.choice((0, 1, 4, 5, 36, 38, 44, 300, 3000)))

    def frame(a: Agent) -> bytes:
        signed = a.signed(luck.choice(("", "x", "processor")))
        real = luck.choice(
            (
                wire.Publish(1, signed),
                wire.Publish(2, replace(signed, log=luck.randbytes(200))),
                wire.Lookup(3, wire.BY_NAME, luck.randbytes(luck.randrange(1, 60))),
                wire.Lookup(4, wire.BY_IDENTITY, a.identity),
                wire.Introduce(5, luck.choice((a.identity, Identity(luck.randbytes(32))))),
                wire.Watch(6, Identity(luck.randbytes(32))),
            )
        )
        raw = bytearray(wire.encode(real))
        choice = luck.random()
        if choice < 0.3:
            raw[luck.randrange(4, len(raw))] ^= 1 << luck.randrange(8)
        elif choice < 0.5:
            raw = bytearray(luck.randbytes(1).join((b"", body())))
        elif choice < 0.6:
            content = body()
            raw = bytearray((len(content) + 1).to_bytes(4, "big") + luck.randbytes(1) + content)
        return bytes(raw)

    async def scenario(there: World) -> None:
        there.network.default = Link(latency_s=0.005, loss=0.05)
        attackers = [await there.agent() for _ in range(4)]
        honest = await there.agent()
        await honest.publish("honest")
        for _ in range(150):
            a = luck.choice(attackers)
            if a.ended.is_set() or luck.random() < 0.1:
                await a.open()
            assert a.stream is not None
            with contextlib.suppress(CoveyError):
                await a.stream.write(frame(a))
            if luck.random() < 0.1:
                a.stream.abort()
                a.ended.set()
            await asyncio.sleep(luck.random() * 0.05)
        assert await honest.lookup(wire.BY_NAME, b"honest") == [honest.identity]
        for a in attackers:
            await a.open()
            assert await a.lookup(wire.BY_IDENTITY, honest.identity) == [honest.identity]
        counts = await there.server.counts()
        assert counts.clients == 5
        assert counts.watches <= 4 * 1024
        assert counts.records <= 5
        assert len(there.server._transport._tasks) <= 3 + 5 + 2  # upkeep, a stream each, a push or two

    play(scenario, sim_seed, tmp_path, Limits(requests_per_second=500.0))


def test_a_restarted_host_of_a_client_is_the_same_client(tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        a, b = await there.agent(), await there.agent()
        await a.call(wire.Watch, b.identity)
        await a.pushed(wire.Present)
        host, credentials = b.host, b.credentials
        assert isinstance(host, SimHost)
        b.transport.driver.close()
        for task in b.transport._tasks:
            task.cancel()
        there.agents.remove(b)
        await a.call(wire.Watch, b.identity)
        await a.pushed(wire.Present)  # nobody noticed yet
        await a.call(wire.Watch, Identity(b"\x01" * 32))
        again = there.new_agent(host.restart(), credentials)
        await again.join(there.ticket)
        assert await a.introduce(again.identity)
        assert (await there.server.counts()).clients == 2

    play(scenario, 0, tmp_path)
