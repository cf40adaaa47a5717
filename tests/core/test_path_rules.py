"""Rules about paths, obeyed: bulk on an interconnect, primary and backup, no data over relays."""

from __future__ import annotations

from covey.base.path_rules import parse_path_rules
from covey.core.path import Route
from covey.core.session import Session
from covey.core.traffic import Traffic
from covey.wire.control import Candidate, CandidateKind
from tests.core.failover import RELAYS, Exchange, World

DX = ("10.9.0.2", 4000)


def with_interconnect(seed: int, rule: str) -> tuple[World, Session]:
    """A second address of b, 30 ms farther away, that b calls an interconnect."""
    world = World(seed, boxes=False)
    world.wire.sides[DX] = world.b
    world.wire.delays[frozenset((world.a.address, DX))] = 0.04
    world.connection.set_rule(parse_path_rules(rule)["*"])
    world.b.endpoint.set_candidates(
        [Candidate(CandidateKind.HOST, world.b.address), Candidate(CandidateKind.INTERCONNECT, DX, 10, "dx")]
    )
    world.wire.run(8)
    return world, world.session(world.a, world.b)


def test_bulk_takes_the_interconnect_and_questions_do_not() -> None:
    world, session = with_interconnect(1, "* bulk interconnect")
    exchange = Exchange(world, traffic=Traffic.BULK)
    world.wire.run(4)
    bulk = session.paths.bulk
    assert bulk is not None
    assert bulk.route == Route(0, DX)
    assert session.active.route == Route(0, world.b.address)
    assert exchange.gap < 0.06
    assert bulk.sent_bytes > 0.9 * len(exchange.bulk_sent)
    assert session.active.sent_bytes < 0.2 * len(exchange.bulk_sent)
    exchange.reset()
    world.cut.add(DX)
    world.wire.run(3)
    assert session.paths.bulk is None
    assert exchange.gap < 0.06
    assert exchange.bulk_gap < 1.0
    exchange.finish()


def test_primary_carries_the_data_though_it_is_farther_and_backup_takes_over() -> None:
    world, session = with_interconnect(2, "* primary interconnect:dx backup relay")
    exchange = Exchange(world)
    world.wire.run(3)
    assert session.active.route == Route(0, DX)
    exchange.reset()
    world.cut.add(DX)
    world.wire.run(6)
    assert session.active.route.relayed
    assert exchange.gap < 1.0
    exchange.finish()


def test_rule_that_is_set_later_moves_the_data() -> None:
    world, session = with_interconnect(3, "* primary direct")
    exchange = Exchange(world, rate=0)
    world.wire.run(1)
    assert session.active.route == Route(0, world.b.address)
    world.connection.set_rule(parse_path_rules("* primary interconnect")["*"])
    world.wire.run(1)
    assert session.active.route == Route(0, DX)
    exchange.finish()


def test_data_that_may_only_go_directly_waits_for_a_direct_path() -> None:
    world = World(4, direct=False, boxes=False)
    for here, there in ((world.a, world.b), (world.b, world.a)):
        here.connection(there).set_rule(parse_path_rules("* direct-only")["*"])
    relayed: list[bytes] = []

    def tap(source: tuple[str, int], target: tuple[str, int], datagram: bytes) -> bytes:
        if target in RELAYS and len(datagram) > 150 and datagram[9] != 255:
            relayed.append(datagram)
        return datagram

    world.wire.tap = tap
    exchange = Exchange(world)
    world.wire.run(5)
    assert not exchange.answers
    world.direct = True
    assert world.wire.run(70, until=lambda: exchange.answers > 3)
    world.direct = False
    world.wire.run(1)
    before = exchange.answers
    world.wire.run(4)
    assert exchange.answers == before
    assert not relayed
