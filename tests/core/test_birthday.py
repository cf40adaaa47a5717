from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from covey.base.types import Identity
from covey.core.birthday import PROBES, SOCKETS, Opening, Part, Places, RandomPorts, Runs, Trying, part_of
from covey.core.path import Route
from covey.wire.control import Filtering, Mapping, NatTraits, Ports

TARGET = ("203.0.113.7", 4040)
PEER, OTHER = Identity(bytes(32)), Identity(bytes([1]) * 32)
HERE = Places(frozenset({"198.51.100.1"}), frozenset({"203.0.113.7"}))

OPEN = NatTraits(Mapping.NONE, Filtering.NONE)
FIREWALL = NatTraits(Mapping.NONE, Filtering.ADDRESS_AND_PORT_DEPENDENT)
CONE = NatTraits(Mapping.ENDPOINT_INDEPENDENT, Filtering.ENDPOINT_INDEPENDENT, Ports.PRESERVED)
RESTRICTED = NatTraits(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_DEPENDENT, Ports.PRESERVED)
STRICT = NatTraits(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT, Ports.PRESERVED)
UNFILTERED = NatTraits(Mapping.ENDPOINT_INDEPENDENT, Filtering.UNKNOWN)
SYMMETRIC = NatTraits(Mapping.ADDRESS_AND_PORT_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT, Ports.RANDOM)
BY_ADDRESS = NatTraits(Mapping.ADDRESS_DEPENDENT, Filtering.UNKNOWN)
UNKNOWN = NatTraits()


@pytest.mark.parametrize(
    ("own", "remote", "expected"),
    [
        (OPEN, STRICT, Part.NONE),
        (STRICT, STRICT, Part.NONE),
        (SYMMETRIC, OPEN, Part.NONE),
        (SYMMETRIC, CONE, Part.NONE),
        (SYMMETRIC, RESTRICTED, Part.NONE),
        (SYMMETRIC, STRICT, Part.OPENS),
        (SYMMETRIC, FIREWALL, Part.OPENS),
        (SYMMETRIC, UNFILTERED, Part.OPENS),
        (BY_ADDRESS, STRICT, Part.OPENS),
        (SYMMETRIC, UNKNOWN, Part.NONE),
        (UNKNOWN, SYMMETRIC, Part.NONE),
        (SYMMETRIC, SYMMETRIC, Part.HOPELESS),
        (SYMMETRIC, BY_ADDRESS, Part.HOPELESS),
    ],
)
def test_parts_of_the_two_sides_fit(own: NatTraits, remote: NatTraits, expected: Part) -> None:
    other = {Part.OPENS: Part.TRIES}.get(expected, expected)
    assert (part_of(own, remote), part_of(remote, own)) == (expected, other)


def test_random_ports_are_all_ports_once() -> None:
    ports = RandomPorts(random.Random(1).randbytes)
    assert sorted(ports.next() for _ in range(64_512)) == list(range(1024, 65_536))


def test_random_ports_have_no_preference() -> None:
    source = random.Random(2)
    found: Counter[int] = Counter()
    for _ in range(200):
        ports = RandomPorts(source.randbytes)
        found.update(ports.next() // 8192 for _ in range(64))
    assert all(abs(count - 1600) < 200 for eighth, count in found.items() if eighth > 0)


def opened(opening: Opening, start: float) -> Iterator[tuple[float, Route]]:
    """What the opening side sends, as a driver calls it."""
    now, fresh = start, iter(range(100, 1000))
    while not opening.over(now):
        count = opening.wanted(now)
        if count:
            opening.lend([next(fresh) for _ in range(count)])
        for route in opening.due(now):
            yield now, route
        assert opening.deadline() > now
        now = opening.deadline()


def test_opening_side_sends_from_every_port_at_first_and_every_five_seconds() -> None:
    sent = list(opened(Opening(10.0, TARGET), 10.0))
    assert Counter(route for _, route in sent) == {Route(port, TARGET): 5 for port in range(100, 100 + SOCKETS)}
    firsts = sent[:SOCKETS]
    assert len({route for _, route in firsts}) == SOCKETS
    assert firsts[0][0] == 10.0
    assert firsts[-1][0] < 10.5
    assert max(Counter(at for at, _ in sent).values()) <= 32  # what a sender's queue takes at once


def test_opening_side_does_with_the_ports_it_gets() -> None:
    opening = Opening(0.0, TARGET)
    assert opening.wanted(0.0) == 32
    opening.lend(range(20))
    assert len(opening.due(0.0)) == 20
    assert opening.wanted(1.0) == 32
    opening.lend(())
    assert opening.wanted(2.0) == 0
    assert opening.ports == list(range(20))


def test_trying_side_sends_a_hundred_a_second_and_then_ends() -> None:
    trying, now, sent = Trying(10.0, 3, "203.0.113.9", random.Random(1).randbytes), 10.0, list[tuple[float, Route]]()
    while not trying.over(now):
        sent += [(now, route) for route in trying.due(now)]
        assert trying.deadline() > now
        now = trying.deadline()
    assert len({route for _, route in sent}) == PROBES == len(sent)
    assert {(route.local, route.remote[0], route.circuit) for _, route in sent} == {(3, "203.0.113.9", 0)}
    assert sent[-1][0] - 10.0 == pytest.approx(PROBES / 100, abs=0.1)
    assert now - sent[-1][0] == pytest.approx(2.0, abs=0.1)


def test_trying_side_that_was_held_up_makes_up_for_little() -> None:
    trying = Trying(0.0, 0, "203.0.113.9", random.Random(1).randbytes)
    assert len(trying.due(0.0)) == 1
    assert len(trying.due(5.0)) == 8
    assert trying.due(5.0) == []
    assert len(trying.due(5.011)) == 1


def test_two_sides_meet_as_often_as_the_arithmetic_says() -> None:
    """98.3 % after 1,024 probes: of a thousand runs, with room for luck (four deviations)."""
    source, within = random.Random(5), 0
    for _ in range(1000):
        holes = set(source.sample(range(1024, 65_536), SOCKETS))
        ports = RandomPorts(source.randbytes)
        within += any(ports.next() in holes for _ in range(1024))
    assert within == pytest.approx(983, abs=17)


def test_run_that_found_nothing_is_not_repeated_for_an_hour() -> None:
    runs = Runs()
    assert runs.next_at(PEER, HERE) < 0.0
    runs.begin(0.0, PEER, HERE)
    assert runs.running == PEER
    assert not runs.failed(1.0, PEER)
    runs.end(21.0, PEER, found=False)
    assert runs.running is None
    assert runs.failed(30.0, PEER)
    assert runs.next_at(PEER, HERE) == 3600.0
    assert runs.next_at(OTHER, HERE) < 0.0
    assert not runs.failed(3600.0, PEER)


def test_run_that_was_cut_short_counts_for_what_was_sent() -> None:
    """So there are never more than 2,048 probes an hour, however often the peer ends a run."""
    runs = Runs()
    runs.begin(0.0, PEER, HERE)
    runs.end(2.0, PEER, found=False, done=0.1)
    assert runs.next_at(PEER, HERE) == 362.0
    runs.begin(400.0, PEER, HERE)
    runs.end(400.0, PEER, found=False, done=0.0)
    assert runs.next_at(PEER, HERE) == 460.0


def test_run_is_repeated_when_our_network_is_another() -> None:
    runs = Runs()
    runs.begin(0.0, PEER, HERE)
    runs.end(21.0, PEER, found=False)
    assert runs.next_at(PEER, HERE._replace(own=frozenset({"192.0.2.9"}))) < 30.0


def test_peer_that_claims_to_move_brings_forward_three_runs_an_hour() -> None:
    runs, now, begun = Runs(), 0.0, 0
    while now < 3600.0:
        places = HERE._replace(remote=frozenset({f"192.0.2.{int(now) % 250}"}))
        if runs.next_at(PEER, places) <= now:
            runs.begin(now, PEER, places)
            runs.end(now + 21.0, PEER, found=False)
            begun += 1
        now += 30.0
    assert begun == 4


def test_run_that_found_the_peer_may_follow_soon() -> None:
    runs = Runs()
    runs.begin(0.0, PEER, HERE)
    runs.end(3.0, PEER, found=True)
    assert not runs.failed(10.0, PEER)
    assert runs.next_at(PEER, HERE) == 63.0
