"""What observations say about a NAT, as a table."""

from __future__ import annotations

from random import Random
from typing import Final

import pytest

from covey.core.nat import Facts, Sample, judge
from covey.wire.control import Filtering, Mapping, NatTraits, Ports

HOST: Final = "192.168.1.2"
OUTSIDE: Final = "198.51.100.7"
R1, R1_SECOND, R2 = ("203.0.113.1", 4040), ("203.0.113.1", 4041), ("203.0.113.2", 4040)


def one_socket(*seen: tuple[tuple[str, int], int], host: str = OUTSIDE) -> list[Sample]:
    """Socket 5000, and the external port that each observer saw."""
    return [Sample((HOST, 5000), observer, (host, port)) for observer, port in seen]


MAPPINGS: Final = {
    "nobody": ([], Mapping.UNKNOWN),
    "one observer": (one_socket((R1, 7000)), Mapping.UNKNOWN),
    "our own address": (one_socket((R1, 5000), host=HOST), Mapping.NONE),
    "all the same": (one_socket((R1, 7000), (R2, 7000)), Mapping.ENDPOINT_INDEPENDENT),
    "the same at two ports": (one_socket((R1, 7000), (R1_SECOND, 7000)), Mapping.ENDPOINT_INDEPENDENT),
    "another per address": (one_socket((R1, 7000), (R1_SECOND, 7000), (R2, 7001)), Mapping.ADDRESS_DEPENDENT),
    "another per port": (one_socket((R1, 7000), (R1_SECOND, 7001)), Mapping.ADDRESS_AND_PORT_DEPENDENT),
    "another, perhaps per address": (one_socket((R1, 7000), (R2, 7001)), Mapping.ADDRESS_AND_PORT_DEPENDENT),
    "another address": (
        [*one_socket((R1, 7000)), *one_socket((R2, 7000), host="198.51.100.8")],
        Mapping.ADDRESS_AND_PORT_DEPENDENT,
    ),
}


@pytest.mark.parametrize(("samples", "expected"), MAPPINGS.values(), ids=MAPPINGS.keys())
def test_mapping_is_what_several_observers_see_of_one_socket(samples: list[Sample], expected: Mapping) -> None:
    assert judge(samples, Facts()).mapping is expected


def row(*ports: int) -> list[Sample]:
    """New sockets, one after the other, each seen by one observer at one of these ports."""
    return [Sample((HOST, 5000 + 10 * number), R1, (OUTSIDE, port)) for number, port in enumerate(ports)]


PORTS: Final = {
    "too few": (row(7000, 7001), Ports.UNKNOWN, 0),
    "of the sockets": (row(5000, 5010, 5020, 5030), Ports.PRESERVED, 0),
    "of the sockets, but one that was taken": (row(5000, 5010, 5020, 61_234), Ports.PRESERVED, 0),
    "upwards": (row(7000, 7001, 7002, 7003), Ports.SEQUENTIAL, 1),
    "upwards by two": (row(7000, 7002, 7004, 7006), Ports.SEQUENTIAL, 2),
    "downwards": (row(7003, 7002, 7001), Ports.SEQUENTIAL, -1),
    "with others between": (row(7000, 7001, 7006, 7007), Ports.SEQUENTIAL, 1),
    "around the end": (row(65_534, 65_535, 1024, 1025), Ports.SEQUENTIAL, 1),
    "anywhere": (row(7000, 41_000, 1999, 60_123), Ports.RANDOM, 0),
    "anywhere, two near each other by chance": (row(7000, 7012, 1999, 60_123), Ports.RANDOM, 0),
}


@pytest.mark.parametrize(("samples", "ports", "step"), PORTS.values(), ids=PORTS.keys())
def test_ports_are_how_new_mappings_follow_each_other(samples: list[Sample], ports: Ports, step: int) -> None:
    assert judge(samples, Facts()) == NatTraits(ports=ports, step=step)


def test_random_ports_are_hardly_ever_taken_for_a_sequence() -> None:
    random = Random(1)
    rows = [row(*(random.randrange(1024, 65_536) for _ in range(5))) for _ in range(5000)]
    assert {judge(samples, Facts()).ports for samples in rows} == {Ports.RANDOM}


def test_a_socket_makes_one_mapping_or_one_for_each_observer() -> None:
    cone = one_socket((R1, 7000), (R1_SECOND, 7000), (R2, 7000))
    assert judge(cone, Facts()).ports is Ports.UNKNOWN
    hard = one_socket((R1, 7000), (R1_SECOND, 7001), (R2, 7002))
    assert judge(hard, Facts()).ports is Ports.SEQUENTIAL


FILTERS: Final = {
    "not tried": (Facts(), Filtering.UNKNOWN),
    "nobody else": (Facts(other_port=False, other_address=False), Filtering.ADDRESS_AND_PORT_DEPENDENT),
    "another port": (Facts(other_port=True, other_address=False), Filtering.ADDRESS_DEPENDENT),
    "another port, no other address to try": (Facts(other_port=True), Filtering.ADDRESS_DEPENDENT),
    "another address": (Facts(other_port=True, other_address=True), Filtering.ENDPOINT_INDEPENDENT),
    "another address, no second port": (Facts(other_address=True), Filtering.ENDPOINT_INDEPENDENT),
    "no other address, no second port": (Facts(other_address=False), Filtering.UNKNOWN),
    "anybody": (Facts(True, True, True), Filtering.NONE),
    "a firewall without a NAT": (Facts(False, False, False), Filtering.ADDRESS_AND_PORT_DEPENDENT),
}


@pytest.mark.parametrize(("facts", "expected"), FILTERS.values(), ids=FILTERS.keys())
def test_filtering_is_who_got_through(facts: Facts, expected: Filtering) -> None:
    assert judge([], facts).filtering is expected
