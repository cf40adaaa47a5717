"""Each box behaves as its name says, in the words of RFC 4787, asked with plain UDP sockets."""

from __future__ import annotations

import pytest

from covey.lab import Lab
from tests.lab.sockets import passes, seen, udp

MAPPINGS = {
    "none": "preserved",
    "full-cone": "preserved",
    "port-restricted": "preserved",
    "symmetric": "random",
}


@pytest.mark.parametrize("kind", MAPPINGS)
def test_mapping(lab: Lab, kind: str) -> None:
    one, two = lab.server("one"), lab.server("two")
    agent = lab.agent("a", nat=kind)
    with udp(agent, 5000) as (inside,), udp(one, 7000, 7001) as (first, port), udp(two, 7000) as (address,):
        found = [seen(inside, each) for each in (first, port, address)]
        assert {each[0] for each in found} == {agent.public_ip}
        assert seen(inside, first) == found[0]
    ports = [each[1] for each in found]
    if MAPPINGS[kind] == "preserved":
        assert ports == [5000] * 3
    else:
        assert len({5000, *ports}) == 4


FILTERING = {
    # whether these pass to a mapping made by sending to one endpoint: its address with another port, another address
    "none": (True, True),
    "full-cone": (True, True),
    "port-restricted": (False, False),
    "symmetric": (False, False),
}


@pytest.mark.parametrize("kind", FILTERING)
def test_filtering(lab: Lab, kind: str) -> None:
    one, two = lab.server("one"), lab.server("two")
    with (
        udp(lab.agent("a", nat=kind), 5000) as (inside,),
        udp(one, 7000, 7001) as (first, port),
        udp(two, 7000) as (address,),
    ):
        mapping = seen(inside, first)
        assert passes(first, mapping, inside)
        assert (passes(port, mapping, inside), passes(address, mapping, inside)) == FILTERING[kind]


def test_port_restricted_keeps_its_mapping_though_the_peer_punched_first(lab: Lab) -> None:
    """What arrives too early is dropped without a trace; it would take the port of our own mapping."""
    server = lab.server("one")
    agent = lab.agent("a", nat="port-restricted")
    with udp(agent, 5000) as (inside,), udp(server, 7000) as (outside,):
        assert not passes(outside, (agent.public_ip, 5000), inside)
        assert seen(inside, outside) == (agent.public_ip, 5000)
        assert passes(outside, (agent.public_ip, 5000), inside)
