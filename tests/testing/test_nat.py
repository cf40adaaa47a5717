from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from covey.testing import Link, SimHost, SimNetwork, SimPort, Trace, replay, run
from covey.testing.nat import (
    ADDRESS_RESTRICTED,
    FULL_CONE,
    PORT_RESTRICTED,
    SYMMETRIC,
    SYMMETRIC_SEQUENTIAL,
    UDP_BLOCKED,
    Dependence,
    Nat,
    NatKind,
    Ports,
)
from covey.testing.network import Endpoint

BOX, OTHER_BOX, B, C = "203.0.113.1", "203.0.113.2", "198.51.100.2", "198.51.100.3"
INNER, SECOND = "192.168.1.2", "192.168.1.3"


def play(body: Callable[[SimNetwork], Awaitable[None]], seed: int = 1) -> Trace:
    async def main() -> Trace:
        loop = asyncio.get_running_loop()
        trace = Trace(loop.time)
        await body(SimNetwork(loop, seed, trace=trace))
        return trace

    return run(main(), seed=seed)


def port_of(network: SimNetwork, ip: str, number: int = 4040) -> SimPort:
    host = SimHost(network, ip)
    host.full_share = 0.0
    return host.udp(("0.0.0.0", number))


class Outside:
    """Two hosts outside with two ports each."""

    def __init__(self, network: SimNetwork) -> None:
        self.ports: dict[Endpoint, SimPort] = {}
        for ip in (B, C):
            host = SimHost(network, ip)
            host.full_share = 0.0
            self.ports |= {(ip, number): host.udp((ip, number)) for number in (1, 2)}

    async def sees(self, port: SimPort, *remotes: Endpoint) -> list[Endpoint]:
        """The endpoint that each of `remotes` sees when `port` sends to it; () where nothing arrives."""
        seen: list[Endpoint] = []
        for remote in remotes:
            say(port, b"out", remote)
            await asyncio.sleep(0.1)
            got = self.ports[remote].receive()
            seen += [got[2]] if got is not None else []
        return seen

    async def may_enter(self, port: SimPort, external: Endpoint) -> set[Endpoint]:
        """Which of our endpoints reach `port` through `external`."""
        for ours in self.ports.values():
            say(ours, b"in", external)
        await asyncio.sleep(0.1)
        return senders(port)


def say(port: SimPort, data: bytes, remote: Endpoint) -> None:
    port.send(memoryview(data), len(data), remote)


def senders(port: SimPort) -> set[Endpoint]:
    found = set()
    while (got := port.receive()) is not None:
        found.add(got[2])
    return found


REMOTES = [(B, 1), (B, 2), (C, 1)]


@pytest.mark.parametrize(
    ("mapping", "same"),
    [
        (Dependence.ENDPOINT_INDEPENDENT, [True, True]),
        (Dependence.ADDRESS_DEPENDENT, [True, False]),
        (Dependence.ADDRESS_AND_PORT_DEPENDENT, [False, False]),
    ],
)
@pytest.mark.parametrize("ports", list(Ports))
def test_mapping_depends_on_what_it_says(mapping: Dependence, same: list[bool], ports: Ports) -> None:
    async def body(network: SimNetwork) -> None:
        nat, outside = Nat(network, NatKind(mapping=mapping, ports=ports), BOX), Outside(network)
        inner = port_of(nat.inside, INNER)
        first, *others = await outside.sees(inner, *REMOTES)
        assert [other == first for other in others] == same
        assert await outside.sees(inner, *REMOTES) == [first, *others]
        assert {external[0] for external in (first, *others)} == {BOX}

    play(body)


@pytest.mark.parametrize("mapping", [Dependence.ENDPOINT_INDEPENDENT, Dependence.ADDRESS_AND_PORT_DEPENDENT])
@pytest.mark.parametrize(
    ("filtering", "enters"),
    [
        (Dependence.ENDPOINT_INDEPENDENT, {(B, 1), (B, 2), (C, 1), (C, 2)}),
        (Dependence.ADDRESS_DEPENDENT, {(B, 1), (B, 2)}),
        (Dependence.ADDRESS_AND_PORT_DEPENDENT, {(B, 1)}),
    ],
)
def test_filter_lets_in_what_it_says_whatever_the_mapping(
    mapping: Dependence, filtering: Dependence, enters: set[Endpoint]
) -> None:
    async def body(network: SimNetwork) -> None:
        nat, outside = Nat(network, NatKind(mapping=mapping, filtering=filtering), BOX), Outside(network)
        inner = port_of(nat.inside, INNER)
        [external] = await outside.sees(inner, (B, 1))
        assert await outside.may_enter(inner, external) == enters
        assert nat.lost["filtered"] == 4 - len(enters)

    play(body)


def test_nothing_enters_without_a_mapping() -> None:
    async def body(network: SimNetwork) -> None:
        nat, outside = Nat(network, FULL_CONE, BOX), Outside(network)
        inner = port_of(nat.inside, INNER)
        assert await outside.may_enter(inner, (BOX, 4040)) == set()
        assert await outside.may_enter(inner, (INNER, 4040)) == set()
        assert nat.lost == {"unmapped": 4}

    play(body)


def test_ports_are_preserved_unless_somebody_has_them() -> None:
    async def body(network: SimNetwork) -> None:
        nat, outside = Nat(network, PORT_RESTRICTED, BOX), Outside(network)
        assert await outside.sees(port_of(nat.inside, INNER), (B, 1)) == [(BOX, 4040)]
        [external] = await outside.sees(port_of(nat.inside, SECOND), (B, 1))
        assert external != (BOX, 4040)

    play(body)


def test_sequential_ports_follow_each_other_and_random_ones_do_not() -> None:
    def gaps(kind: NatKind) -> set[int]:
        found: list[int] = []

        async def body(network: SimNetwork) -> None:
            nat, outside = Nat(network, kind, BOX), Outside(network)
            inner = port_of(nat.inside, INNER)
            found.extend(port for _, port in await outside.sees(inner, *outside.ports))

        play(body)
        return {later - sooner for sooner, later in itertools.pairwise(found)}

    assert gaps(SYMMETRIC_SEQUENTIAL) == {1}
    assert 1 not in gaps(SYMMETRIC)


@pytest.mark.parametrize(("hairpin", "heard"), [(True, [(BOX, 4041)]), (False, [])])
def test_hairpin_shows_the_external_source(hairpin: bool, heard: list[Endpoint]) -> None:
    async def body(network: SimNetwork) -> None:
        nat, outside = Nat(network, replace(FULL_CONE, hairpin=hairpin), BOX), Outside(network)
        one, two = port_of(nat.inside, INNER), port_of(nat.inside, SECOND, 4041)
        [external] = await outside.sees(one, (B, 1))
        say(two, b"hello", external)
        await asyncio.sleep(0.1)
        assert senders(one) == set(heard)
        assert nat.lost["hairpin"] == 1 - len(heard)

    play(body)


def test_hosts_inside_meet_without_the_box() -> None:
    async def body(network: SimNetwork) -> None:
        nat = Nat(network, UDP_BLOCKED, BOX)
        one, two = port_of(nat.inside, INNER), port_of(nat.inside, SECOND)
        say(one, b"hello", (SECOND, 4040))
        await asyncio.sleep(0.1)
        assert senders(two) == {(INNER, 4040)}
        assert len(nat) == 0

    play(body)


def test_same_inner_address_behind_two_boxes_is_two_hosts() -> None:
    async def body(network: SimNetwork) -> None:
        hosts = [SimHost(Nat(network, FULL_CONE, box).inside, INNER) for box in (BOX, OTHER_BOX)]
        assert hosts[0].random(8) != hosts[1].random(8)

    play(body)


@pytest.mark.parametrize(
    ("refresh_inbound", "direction", "alive"),
    [(False, "out", True), (False, "in", False), (True, "out", True), (True, "in", True)],
)
def test_mapping_lives_as_long_as_it_is_used(refresh_inbound: bool, direction: str, alive: bool) -> None:
    async def body(network: SimNetwork) -> None:
        kind = replace(PORT_RESTRICTED, timeout_s=30.0, refresh_inbound=refresh_inbound)
        nat, outside = Nat(network, kind, BOX), Outside(network)
        inner = port_of(nat.inside, INNER)
        [external] = await outside.sees(inner, (B, 1))
        for _ in range(3):
            await asyncio.sleep(20.0)
            source, target = (inner, (B, 1)) if direction == "out" else (outside.ports[B, 1], external)
            say(source, b"again", target)
        await asyncio.sleep(0.1)
        senders(inner)
        assert (await outside.may_enter(inner, external) == {(B, 1)}) is alive

    play(body)


def test_mapping_ends_after_its_time_out_and_the_next_one_is_another() -> None:
    async def body(network: SimNetwork) -> None:
        nat = Nat(network, replace(PORT_RESTRICTED, ports=Ports.RANDOM, timeout_s=30.0), BOX)
        outside, inner = Outside(network), port_of(nat.inside, INNER)
        [first] = await outside.sees(inner, (B, 1))
        assert nat.external_of((INNER, 4040), (B, 1)) == first
        await asyncio.sleep(31.0)
        assert nat.external_of((INNER, 4040), (B, 1)) is None
        assert await outside.may_enter(inner, first) == set()
        [second] = await outside.sees(inner, (B, 1))
        assert second != first

    play(body)


def test_permission_ends_although_the_mapping_is_used() -> None:
    async def body(network: SimNetwork) -> None:
        nat, outside = Nat(network, replace(PORT_RESTRICTED, timeout_s=30.0), BOX), Outside(network)
        inner = port_of(nat.inside, INNER)
        [external, _] = await outside.sees(inner, (B, 1), (C, 1))
        await asyncio.sleep(20.0)
        say(inner, b"again", (C, 1))
        await asyncio.sleep(20.0)
        assert await outside.may_enter(inner, external) == {(C, 1)}

    play(body)


@pytest.mark.parametrize("evicts", [False, True])
def test_exhausted_box_refuses_or_evicts_the_most_idle(evicts: bool) -> None:
    async def body(network: SimNetwork) -> None:
        nat = Nat(network, replace(FULL_CONE, capacity=3, evicts=evicts), BOX)
        outside = Outside(network)
        host = SimHost(nat.inside, INNER)
        host.full_share = 0.0
        ports = [host.udp((INNER, 5000 + number)) for number in range(4)]
        for port in ports[:3]:
            assert len(await outside.sees(port, (B, 1))) == 1
        await outside.sees(ports[0], (B, 1))
        assert len(await outside.sees(ports[3], (B, 1))) == (1 if evicts else 0)
        assert nat.lost["ports"] == (0 if evicts else 1)
        reached = [bool(await outside.may_enter(port, (BOX, port.local[1]))) for port in ports]
        assert reached == ([True, False, True, True] if evicts else [True, True, True, False])
        await asyncio.sleep(nat.kind.timeout_s + 1)
        assert len(await outside.sees(ports[3], (B, 1))) == 1

    play(body)


@pytest.mark.parametrize("paired", [True, False])
def test_host_keeps_one_of_several_external_addresses_if_paired(paired: bool) -> None:
    async def body(network: SimNetwork) -> None:
        nat = Nat(network, replace(SYMMETRIC, paired=paired), BOX, OTHER_BOX)
        outside = Outside(network)
        host = SimHost(nat.inside, INNER)
        ports = [host.udp((INNER, 0)) for _ in range(8)]
        addresses = {external[0] for port in ports for external in await outside.sees(port, (B, 1))}
        assert len(addresses) == (1 if paired else 2)

    play(body)


def test_reboot_loses_mappings_and_may_change_the_address() -> None:
    async def body(network: SimNetwork) -> None:
        nat, outside = Nat(network, FULL_CONE, BOX), Outside(network)
        inner = port_of(nat.inside, INNER)
        [before] = await outside.sees(inner, (B, 1))
        nat.reboot()
        assert await outside.may_enter(inner, before) == set()
        assert await outside.sees(inner, (B, 1)) == [before]
        nat.reboot(OTHER_BOX)
        assert await outside.may_enter(inner, before) == set()
        assert await outside.sees(inner, (B, 1)) == [(OTHER_BOX, 4040)]

    play(body)


def test_blocked_box_passes_nothing() -> None:
    async def body(network: SimNetwork) -> None:
        nat, outside = Nat(network, FULL_CONE, BOX), Outside(network)
        inner = port_of(nat.inside, INNER)
        [external] = await outside.sees(inner, (B, 1))
        nat.kind = UDP_BLOCKED
        assert await outside.sees(inner, (B, 1)) == []
        assert await outside.may_enter(inner, external) == set()
        assert nat.lost == {"udp": 5}

    play(body)


def test_small_mtu_swallows_what_is_larger() -> None:
    async def body(network: SimNetwork) -> None:
        nat, outside = Nat(network, replace(FULL_CONE, mtu=1300), BOX), Outside(network)
        inner = port_of(nat.inside, INNER)
        inner.send(memoryview(bytes(1301)), 1301, (B, 1))
        inner.send(memoryview(bytes(2601)), 1300, (B, 1))
        await asyncio.sleep(0.1)
        got = outside.ports[B, 1].receive()
        assert got is not None
        assert (len(got[0]), got[1]) == (2601, 1300)
        assert nat.lost == {"mtu": 1}

    play(body)


def test_boxes_nest() -> None:
    async def body(network: SimNetwork) -> None:
        carrier = Nat(network, SYMMETRIC, BOX)
        home = Nat(carrier.inside, FULL_CONE, "100.64.0.2")
        outside, inner = Outside(network), port_of(home.inside, INNER)
        seen = await outside.sees(inner, (B, 1), (C, 1))
        assert [ip for ip, _ in seen] == [BOX, BOX]
        assert seen[0] != seen[1]
        assert home.external_of((INNER, 4040), (B, 1)) == ("100.64.0.2", 4040)
        assert await outside.may_enter(inner, seen[0]) == {(B, 1)}

    play(body)


def test_routed_ipv6_is_filtered_and_not_translated() -> None:
    async def body(network: SimNetwork) -> None:
        nat, ours, theirs = Nat(network, PORT_RESTRICTED, BOX), "2001:db8:1::2", "2001:db8:2::2"
        nat.route(ours)
        host, peer = SimHost(nat.inside, INNER, also=[ours]), SimHost(network, B, also=[theirs])
        host.full_share = peer.full_share = 0.0
        inner, outer, other = host.udp(("::", 4040)), peer.udp((theirs, 1)), peer.udp((theirs, 2))
        say(outer, b"unasked", (ours, 4040))
        await asyncio.sleep(0.1)
        assert senders(inner) == set()
        say(inner, b"out", (theirs, 1))
        await asyncio.sleep(0.1)
        assert senders(outer) == {(ours, 4040)}
        for port in (outer, other):
            say(port, b"in", (ours, 4040))
        await asyncio.sleep(0.1)
        assert senders(inner) == {(theirs, 1)}

    play(body)


def test_host_moves_between_networks() -> None:
    async def body(network: SimNetwork) -> None:
        home, cafe, outside = Nat(network, FULL_CONE, BOX), Nat(network, SYMMETRIC, OTHER_BOX), Outside(network)
        host = SimHost(home.inside, INNER)
        host.full_share = 0.0
        anywhere, bound = host.udp(("0.0.0.0", 4040)), host.udp((INNER, 4041))
        [before] = await outside.sees(anywhere, (B, 1))
        host.move(cafe.inside, "10.1.1.7")
        assert [ip for ip, _ in await outside.sees(anywhere, (B, 1))] == [OTHER_BOX]
        assert await outside.sees(bound, (B, 1)) == []
        assert await outside.may_enter(anywhere, before) == set()
        assert host.source_address((B, 1)) == "10.1.1.7"

    play(body)


@pytest.mark.parametrize("bad", [{"timeout_s": 0.0}, {"mtu": 0}, {"capacity": 0}, {"capacity": 65_000}])
def test_impossible_kinds_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        NatKind(**bad)  # type: ignore[arg-type]


def test_box_needs_an_external_address() -> None:
    async def body(network: SimNetwork) -> None:
        with pytest.raises(ValueError, match="external"):
            Nat(network, FULL_CONE)

    play(body)


def test_seed_reproduces_boxes(sim_seed: int) -> None:
    async def body(network: SimNetwork) -> None:
        network.default = Link(latency_s=0.01, jitter_s=0.01, loss=0.1)
        outside = Outside(network)
        for number, kind in enumerate([SYMMETRIC, ADDRESS_RESTRICTED, SYMMETRIC_SEQUENTIAL]):
            inner = port_of(Nat(network, kind, f"203.0.113.{number + 10}").inside, INNER)
            for _ in range(5):
                for external in await outside.sees(inner, *outside.ports):
                    await outside.may_enter(inner, external)

    trace = replay(lambda: play(body, sim_seed))
    assert trace.count("lost filtered")
    assert trace.digest() != play(body, sim_seed + 1).digest()
