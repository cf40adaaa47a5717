"""What observations say about a NAT: pure judgement, no input or output.

Mapping shows in one socket that several observers saw. Ports show in the mappings that were made one after the other.
Filtering shows in answers from where nobody was spoken to (RFC 4787, RFC 5780). What was not observed stays unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from covey.base.types import Endpoint
from covey.wire.control import Filtering, Mapping, NatTraits, Ports

__all__ = ["Facts", "Sample", "judge"]

_STEP_LIMIT = 32
"""Ports between two mappings made at once; those of a NAT that chooses at random are that near once in a thousand."""
_SAMPLES_NEEDED = 3
"""New mappings until we say how their ports are chosen."""


class Sample(NamedTuple):
    """One socket of ours, seen by one observer. Samples are in the order in which the questions were sent."""

    local: Endpoint
    """Our own address towards the observer, and the socket's port."""
    observer: Endpoint
    seen: Endpoint


@dataclass
class Facts:
    """Who got through to a socket of ours. None: it was not tried, or the attempt says nothing."""

    other_port: bool | None = None
    """Another port of an address that the socket had sent to."""
    other_address: bool | None = None
    """An address that the socket had not sent to."""
    unasked: bool | None = None
    """Anybody, before the socket had sent anything at all."""


def judge(samples: Sequence[Sample], facts: Facts) -> NatTraits:
    """What stands between our sockets and the observers."""
    mapping = _mapping(samples)
    ports, step = _ports(_mappings_made(samples, mapping))
    if mapping is Mapping.NONE:
        ports, step = Ports.PRESERVED, 0
    return NatTraits(mapping, _filtering(facts), ports, step)


def _mapping(samples: Iterable[Sample]) -> Mapping:
    sockets: dict[Endpoint, dict[Endpoint, Endpoint]] = {}
    for local, observer, seen in samples:
        sockets.setdefault(local, {}).setdefault(observer, seen)
    found = Mapping.UNKNOWN
    for local, by_observer in sockets.items():
        found = max(found, _mapping_of(local, by_observer))
    return found


def _mapping_of(local: Endpoint, by_observer: dict[Endpoint, Endpoint]) -> Mapping:
    """Of one socket. One observer is enough to see that there is no NAT, and for nothing else (PROTOCOL 24)."""
    seen = set(by_observer.values())
    if seen == {local}:
        return Mapping.NONE
    if len(by_observer) < 2:
        return Mapping.UNKNOWN
    if len(seen) == 1:
        return Mapping.ENDPOINT_INDEPENDENT
    hosts = Counter(host for host, _ in by_observer)
    per_host = {(host, seen) for (host, _), seen in by_observer.items()}
    # That the port does not matter is believed only if an observer with two ports shows it.
    if max(hosts.values()) > 1 and len(per_host) == len(hosts):
        return Mapping.ADDRESS_DEPENDENT
    return Mapping.ADDRESS_AND_PORT_DEPENDENT


def _mappings_made(samples: Sequence[Sample], mapping: Mapping) -> list[tuple[int, int]]:
    """(port inside, port outside) of every new mapping, in order."""
    made: dict[tuple[object, ...], tuple[int, int]] = {}
    for local, observer, seen in samples:
        depends_on = {
            Mapping.ADDRESS_DEPENDENT: observer[:1],
            Mapping.ADDRESS_AND_PORT_DEPENDENT: observer,
        }.get(mapping, ())
        made.setdefault((local, depends_on), (local[1], seen[1]))
    return list(made.values())


def _ports(made: Sequence[tuple[int, int]]) -> tuple[Ports, int]:
    if len(made) < _SAMPLES_NEEDED:
        return Ports.UNKNOWN, 0
    preserved = sum(inside == outside for inside, outside in made)
    if 4 * preserved >= 3 * len(made):
        return Ports.PRESERVED, 0
    steps = [later - earlier for (_, earlier), (_, later) in pairwise(made)]
    near = [step for step in steps if 0 < abs(step) <= _STEP_LIMIT]
    upwards = sum(step > 0 for step in near)
    if 3 * max(upwards, len(near) - upwards) >= 2 * len(steps):
        # Others behind the same NAT make mappings between ours: the most frequent step is its own, else the least.
        frequent = Counter(step for step in near if (step > 0) == (2 * upwards > len(near)))
        most = max(frequent.values())
        return Ports.SEQUENTIAL, min((step for step, count in frequent.items() if count == most), key=abs)
    return Ports.RANDOM, 0


def _filtering(facts: Facts) -> Filtering:
    if facts.unasked:
        return Filtering.NONE
    if facts.other_address:
        return Filtering.ENDPOINT_INDEPENDENT
    if facts.other_port:
        return Filtering.ADDRESS_DEPENDENT
    return Filtering.UNKNOWN if facts.other_port is None else Filtering.ADDRESS_AND_PORT_DEPENDENT
