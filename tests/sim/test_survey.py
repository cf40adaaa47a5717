"""What a node finds out about the box in front of it, for every kind of box."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from covey.node.survey import Server, Surroundings, survey
from covey.testing import Link, run
from covey.testing.host import SimHost
from covey.testing.nat import (
    ADDRESS_RESTRICTED,
    FULL_CONE,
    PORT_RESTRICTED,
    SYMMETRIC,
    SYMMETRIC_SEQUENTIAL,
    UDP_BLOCKED,
    Dependence,
    NatKind,
    Ports,
)
from covey.testing.world import RENDEZVOUS_PORT, SimRendezvous, World

WAN: Final = Link(latency_s=0.02)
ADDRESS_DEPENDENT: Final = NatKind(mapping=Dependence.ADDRESS_DEPENDENT, ports=Ports.RANDOM)
RANDOM_CONE: Final = replace(FULL_CONE, ports=Ports.RANDOM)

Words = tuple[str, str, str, int]

TWO_RENDEZVOUS: Final[dict[str, tuple[NatKind | None, Words]]] = {
    "none": (None, ("NONE", "NONE", "PRESERVED", 0)),
    "full-cone": (FULL_CONE, ("ENDPOINT_INDEPENDENT", "ENDPOINT_INDEPENDENT", "PRESERVED", 0)),
    "random-cone": (RANDOM_CONE, ("ENDPOINT_INDEPENDENT", "ENDPOINT_INDEPENDENT", "RANDOM", 0)),
    "address-restricted": (ADDRESS_RESTRICTED, ("ENDPOINT_INDEPENDENT", "ADDRESS_DEPENDENT", "PRESERVED", 0)),
    "port-restricted": (PORT_RESTRICTED, ("ENDPOINT_INDEPENDENT", "ADDRESS_AND_PORT_DEPENDENT", "PRESERVED", 0)),
    "address-dependent": (ADDRESS_DEPENDENT, ("ADDRESS_DEPENDENT", "ADDRESS_AND_PORT_DEPENDENT", "RANDOM", 0)),
    "symmetric": (SYMMETRIC, ("ADDRESS_AND_PORT_DEPENDENT", "ADDRESS_AND_PORT_DEPENDENT", "RANDOM", 0)),
    "sequential": (
        SYMMETRIC_SEQUENTIAL,
        ("ADDRESS_AND_PORT_DEPENDENT", "ADDRESS_AND_PORT_DEPENDENT", "SEQUENTIAL", 1),
    ),
    "blocked": (UDP_BLOCKED, ("UNKNOWN", "UNKNOWN", "UNKNOWN", 0)),
}

ONE_RENDEZVOUS: Final[dict[str, tuple[NatKind | None, Words]]] = {
    "none": (None, ("NONE", "NONE", "PRESERVED", 0)),
    # One address cannot show what another one would see, or whether it would get in.
    "full-cone": (FULL_CONE, ("ENDPOINT_INDEPENDENT", "ADDRESS_DEPENDENT", "PRESERVED", 0)),
    "port-restricted": (PORT_RESTRICTED, ("ENDPOINT_INDEPENDENT", "ADDRESS_AND_PORT_DEPENDENT", "PRESERVED", 0)),
    "symmetric": (SYMMETRIC, ("ADDRESS_AND_PORT_DEPENDENT", "ADDRESS_AND_PORT_DEPENDENT", "RANDOM", 0)),
    "sequential": (
        SYMMETRIC_SEQUENTIAL,
        ("ADDRESS_AND_PORT_DEPENDENT", "ADDRESS_AND_PORT_DEPENDENT", "SEQUENTIAL", 1),
    ),
}


async def servers(world: World, *names: str) -> list[Server]:
    return [_server(machine) for machine in await world.start_several(*names)]


def _server(machine: SimRendezvous) -> Server:
    return Server(machine.server.identity, (machine.host.ip, RENDEZVOUS_PORT))


def host(world: World, kind: NatKind | None) -> SimHost:
    if kind is None:
        return SimHost(world.network, "10.9.9.9")
    return SimHost(world.nat("box", kind).inside, "192.168.1.2")


def words(found: Surroundings) -> Words:
    traits = found.traits
    return traits.mapping.name, traits.filtering.name, traits.ports.name, traits.step


@pytest.mark.parametrize("kind", TWO_RENDEZVOUS)
def test_two_rendezvous_show_the_kind_of_a_box(kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            box, expected = TWO_RENDEZVOUS[kind]
            machine, asked = host(world, box), await servers(world, "r1", "r2")
            found = await survey(machine, asked, "0.0.0.0")
            assert (words(found), found.udp) == (expected, box is not UDP_BLOCKED)

    run(scenario(), limit_virtual_s=60)


@pytest.mark.parametrize("kind", ONE_RENDEZVOUS)
def test_two_ports_of_one_rendezvous_show_nearly_as_much(kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            box, expected = ONE_RENDEZVOUS[kind]
            machine, asked = host(world, box), await servers(world, "r1")
            assert words(await survey(machine, asked, "0.0.0.0")) == expected

    run(scenario(), limit_virtual_s=60)
