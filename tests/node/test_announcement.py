"""What a node says about itself, and the keys it says it with."""

from __future__ import annotations

import asyncio
from pathlib import Path

from covey.base.paths import Home
from covey.crypto.events import KeyLog
from covey.crypto.record import Record
from covey.node.announcement import renew
from covey.node.storage import load_or_create, prepare
from covey.testing import SimHost, SimNetwork, run
from covey.testing.world import World
from covey.wire.control import CandidateKind
from tests.node.stage import Play, network

HOUR_US = 3600 * 1_000_000


def test_record_is_newer_each_time_and_names_what_we_are(play: Play) -> None:
    async def scenario(world: World) -> None:
        (a,) = await network(world, "a")
        agent = a._running
        orders = []
        for _ in range(5):
            signed = agent.announcement.signed()
            record = Record.parse(signed.record)
            record.verify(KeyLog.parse(signed.log), world.machines["a"].host.wall_us())
            assert (record.name, record.identity) == ("a", agent.credentials.identity)
            assert [home.identity for home in record.homes] == [agent.clients[0].identity]
            orders.append(record.order)
        assert orders == sorted(set(orders))
        world.machines["a"].host.clock_offset_us = -HOUR_US
        assert Record.parse(agent.announcement.signed().record).order > orders[-1], "the clock was set back"

    play(scenario)


def test_record_is_kept_fresh_also_where_nobody_takes_it(play: Play) -> None:
    async def scenario(world: World) -> None:
        agent = (await world.start_node("a")).node._running
        endpoint, announcement = agent.transport.endpoint, agent.announcement
        first = endpoint.record
        assert Record.parse(first).name == "a"
        announcement.keep_fresh()
        assert endpoint.record is first
        announcement.name = "b"
        announcement.keep_fresh()
        second = Record.parse(endpoint.record)
        assert second.name == "b"
        await world.wait(3 * 24 * 3600.0)
        last = Record.parse(endpoint.record)
        assert not last.expired(agent.now_us())
        assert last.certificate.raw != second.certificate.raw
        assert last.order > second.order

    play(scenario, limit_s=4 * 24 * 3600.0)


def test_candidates_are_where_the_rendezvous_is_reached_from_and_how_it_sees_us(play: Play) -> None:
    async def scenario(world: World) -> None:
        (a,) = await network(world, "a")
        await world.until(lambda: a.view().rendezvous[0].connected)
        await asyncio.sleep(1.0)
        found = {(each.kind, each.endpoint[0]) for each in a._running.transport.endpoint.candidates().items}
        assert found == {(CandidateKind.HOST, "10.0.2.2"), (CandidateKind.REFLEXIVE, "10.0.2.2")}

    play(scenario)


def test_renew_makes_what_is_due_and_has_it_on_disk_before_it_is_used(tmp_path: Path) -> None:
    async def scenario() -> None:
        host = SimHost(SimNetwork(asyncio.get_running_loop(), 1), "10.0.0.1")
        home = Home.locate("a", {"COVEY_HOME": str(tmp_path)}, uid=0)
        prepare(home)
        now_us = host.wall_us()
        credentials = load_or_create(home, host.random, now_us)
        assert renew(credentials, home, host, now_us) is credentials
        assert renew(credentials, home, host, now_us + 14 * HOUR_US) is credentials
        fresh = renew(credentials, home, host, now_us + 17 * HOUR_US)
        assert [pair.key.public for pair in fresh.transport_keys[1:]] == [credentials.current.key.public]
        assert load_or_create(home, host.random, now_us).current.key.public == fresh.current.key.public
        late = renew(fresh, home, host, now_us + 49 * HOUR_US)
        assert credentials.current.key.public not in [pair.key.public for pair in late.transport_keys]
        much_later = renew(late, home, host, now_us + 21 * 24 * HOUR_US)
        assert much_later.delegation.counter > late.delegation.counter
        assert much_later.identity == credentials.identity

    run(scenario())
