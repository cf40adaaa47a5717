from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence

import pytest

from covey.testing import Link, SimHost, SimNetwork, SimPort, Trace, replay, run
from covey.testing.network import Endpoint

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"


def play(body: Callable[[SimNetwork], Awaitable[None]], seed: int = 1) -> Trace:
    """Run `body` on a fresh network; what happened."""

    async def main() -> Trace:
        loop = asyncio.get_running_loop()
        trace = Trace(loop.time)
        await body(SimNetwork(loop, seed, trace=trace))
        return trace

    return run(main(), seed=seed)


def calm(network: SimNetwork, ip: str) -> SimHost:
    host = SimHost(network, ip)
    host.full_share = 0.0
    return host


def received(port: SimPort) -> list[tuple[bytes, int, Endpoint]]:
    found = []
    while (got := port.receive()) is not None:
        found.append((bytes(got[0]), got[1], got[2]))
    return found


def payloads(port: SimPort) -> list[bytes]:
    return [
        data[start : start + segment] for data, segment, _ in received(port) for start in range(0, len(data), segment)
    ]


def test_train_is_cut_and_joined_again() -> None:
    async def body(network: SimNetwork) -> None:
        one, two = calm(network, A).udp((A, 0)), calm(network, B).udp(("0.0.0.0", 4040))
        train = bytes(range(256)) * 17
        assert one.send(memoryview(train), 1000, (B, 4040))
        await asyncio.sleep(1)
        assert received(two) == [(train, 1000, one.local)]

    trace = play(body)
    assert [entry.kind for entry in trace.entries] == ["send", "arrive"]
    assert trace.entries[0].details[4:] == (5, 1000, 1000, 1000, 1000, 352)


def test_only_equal_datagrams_of_one_sender_are_joined() -> None:
    async def body(network: SimNetwork) -> None:
        one, two, three = (calm(network, ip).udp(("0.0.0.0", 4040)) for ip in (A, B, C))
        for size in (5, 5, 3, 5, 7):
            one.send(memoryview(bytes(size)), size, (C, 4040))
        two.send(memoryview(bytes(7)), 7, (C, 4040))
        for _ in range(70):
            one.send(memoryview(bytes(2)), 2, (C, 4040))
        await asyncio.sleep(1)
        trains = [(len(data), segment, remote[0]) for data, segment, remote in received(three)]
        assert trains == [(13, 5, A), (5, 5, A), (7, 7, A), (7, 7, B), (128, 2, A), (12, 2, A)]

    play(body)


def test_without_gro_every_datagram_comes_alone() -> None:
    async def body(network: SimNetwork) -> None:
        one, other = calm(network, A).udp((A, 0)), calm(network, B)
        other.gro = False
        two = other.udp((B, 4040))
        one.send(memoryview(bytes(25)), 10, (B, 4040))
        await asyncio.sleep(1)
        assert [(len(data), segment) for data, segment, _ in received(two)] == [(10, 10), (10, 10), (5, 5)]

    play(body)


def test_view_is_overwritten_by_the_next_receive() -> None:
    async def body(network: SimNetwork) -> None:
        one, two = calm(network, A).udp((A, 0)), calm(network, B).udp((B, 4040))
        one.send(memoryview(b"kept too long"), 13, (B, 4040))
        await asyncio.sleep(1)
        got = two.receive()
        assert got is not None
        assert not got[0].readonly
        assert two.receive() is None
        assert bytes(got[0]) == b"\xdb" * 13

    play(body)


@pytest.mark.parametrize("train", [(b"", 1), (b"x", 0), (bytes(65), 1), (bytes(65_508), 65_508)])
def test_train_that_breaks_the_contract_is_an_error(train: tuple[bytes, int]) -> None:
    async def body(network: SimNetwork) -> None:
        port = calm(network, A).udp((A, 0))
        with pytest.raises(ValueError, match="not a train"):
            port.send(memoryview(train[0]), train[1], (B, 4040))

    play(body)


def test_empty_and_lost_datagrams_are_counted() -> None:
    async def body(network: SimNetwork) -> None:
        host = calm(network, A)
        port = host.udp((A, 4040))
        host.inbound((B, 1), (A, 4040), [b"", b"x"])
        assert payloads(port) == [b"x"]
        assert port.dropped == 1
        assert port.send(memoryview(b"x"), 1, ("2001:db8::1", 1))
        port.close()
        assert port.send(memoryview(b"x"), 1, (B, 1))
        assert port.dropped == 3

    play(body)


def test_receive_buffer_drops_its_tail() -> None:
    async def body(network: SimNetwork) -> None:
        host = calm(network, A)
        port = host.udp((A, 4040))
        for _ in range(200):
            host.inbound((B, 1), (A, 4040), [bytes(1000)] * 60)
        assert sum(len(data) for data, _, _ in received(port)) <= 8 * 1024 * 1024
        assert port.dropped > 0

    play(body)


def test_line_between_two_is_their_own() -> None:
    async def body(network: SimNetwork) -> None:
        network.default = Link(latency_s=0.1)
        network.set_link(A, B, Link(latency_s=0.5), both_ways=False)
        ports = {ip: calm(network, ip).udp((ip, 4040)) for ip in (A, B, C)}
        loop = asyncio.get_running_loop()
        times: dict[tuple[str, str], float] = {}
        for target, port in ports.items():

            def readable(target: str = target, port: SimPort = port) -> None:
                for _, _, remote in received(port):
                    times[remote[0], target] = round(loop.time(), 9)

            port.on_readable(readable)
        for port in ports.values():
            for target in ports:
                port.send(memoryview(b"x"), 1, (target, 4040))
        await asyncio.sleep(1)
        own = dict.fromkeys([(ip, ip) for ip in ports], 20e-6)
        across = dict.fromkeys([(A, C), (C, A), (B, C), (C, B), (B, A)], 0.1)
        assert times == own | across | {(A, B): 0.5}

    play(body)


def test_links_change_while_running() -> None:
    async def body(network: SimNetwork) -> None:
        one, two = calm(network, A).udp((A, 4040)), calm(network, B).udp((B, 4040))
        network.set_link(A, C, Link(latency_s=9.0))
        for number, link in enumerate([Link(loss=1.0), Link(), Link(mtu=1), Link(corrupt=1.0)]):
            if number % 2:
                network.set_link(A, B, link)
            else:
                network._links.clear()
                network.default = link
            one.send(memoryview(b"%03d" % number), 3, (B, 4040))
        await asyncio.sleep(1)
        first, second = payloads(two)
        assert first == b"001"
        assert second != b"003"

    play(body)


def test_partition_cuts_and_heals() -> None:
    async def body(network: SimNetwork) -> None:
        network.default = Link(latency_s=0.1)
        ports = {ip: calm(network, ip).udp((ip, 4040)) for ip in (A, B, C)}

        async def who_hears() -> set[tuple[str, str]]:
            for source, port in ports.items():
                for target in ports:
                    if source != target:
                        port.send(memoryview(source.encode()), 8, (target, 4040))
            await asyncio.sleep(0.2)
            return {(remote[0], ip) for ip in ports for _, _, remote in received(ports[ip])}

        everything = {(one, two) for one in ports for two in ports if one != two}
        assert await who_hears() == everything
        network.partition([A], [B])
        assert await who_hears() == everything - {(A, B), (B, A)}
        network.heal()
        assert await who_hears() == everything
        network.partition([A, B])
        assert await who_hears() == {(A, B), (B, A)}
        network.heal()
        network.partition([A], both_ways=False)
        assert await who_hears() == everything - {(A, B), (A, C)}

    play(body)


def test_partition_takes_what_is_on_the_way() -> None:
    async def body(network: SimNetwork) -> None:
        network.default = Link(latency_s=0.1)
        one, two = calm(network, A).udp((A, 4040)), calm(network, B).udp((B, 4040))
        one.send(memoryview(b"x"), 1, (B, 4040))
        await asyncio.sleep(0.05)
        network.partition([B])
        await asyncio.sleep(0.1)
        network.heal()
        await asyncio.sleep(0.1)
        assert payloads(two) == []

    assert play(body).count("lost partition") == 1


def test_full_socket_refuses_and_calls_back_once() -> None:
    async def body(network: SimNetwork) -> None:
        one, two = calm(network, A).udp((A, 4040)), calm(network, B).udp((B, 4040))
        train = memoryview(bytes(60_000))
        writable = asyncio.Event()
        one.on_writable(writable.set)
        sent = refused = 0
        while refused < 5:
            while one.send(train, 1000, (B, 4040)):
                sent += 60
            refused += 1
            assert not one.send(train, 1000, (B, 4040))
            await writable.wait()
            writable.clear()
        await asyncio.sleep(1)
        assert not writable.is_set()
        assert len(payloads(two)) == sent
        assert sent > 5 * 60

    play(body)


def test_sockets_are_full_now_and_then_for_no_reason(sim_seed: int) -> None:
    async def body(network: SimNetwork) -> None:
        one = SimHost(network, A).udp((A, 4040))
        writable = asyncio.Event()
        one.on_writable(writable.set)
        refused = 0
        for _ in range(5000):
            while not one.send(memoryview(b"x"), 1, (B, 4040)):
                refused += 1
                await writable.wait()
                writable.clear()
        assert 5 <= refused <= 50

    play(body, sim_seed)


def test_gateway_takes_what_is_not_attached() -> None:
    class Gateway:
        def __init__(self) -> None:
            self.taken: list[tuple[Endpoint, Endpoint, list[bytes]]] = []

        def inbound(self, source: Endpoint, target: Endpoint, payloads: Sequence[bytes]) -> None:
            self.taken.append((source, target, list(payloads)))

    async def body(network: SimNetwork) -> None:
        gateway = Gateway()
        network.gateway = gateway
        one, two = calm(network, A).udp((A, 4040)), calm(network, B).udp((B, 4040))
        one.send(memoryview(b"near"), 4, (B, 4040))
        one.send(memoryview(b"far"), 3, (C, 4040))
        await asyncio.sleep(0.1)
        assert received(two) == [(b"near", 4, (A, 4040))]
        assert gateway.taken == [((A, 4040), (C, 4040), [b"far"])]

    play(body)


def test_address_is_attached_once() -> None:
    async def body(network: SimNetwork) -> None:
        host = calm(network, A)
        with pytest.raises(ValueError, match="already attached"):
            SimHost(network, A)
        host.crash()
        SimHost(network, A)

    play(body)


async def storm(network: SimNetwork) -> None:
    """Everything at once: what a seed must reproduce."""
    network.default = Link(
        latency_s=0.02, jitter_s=0.01, loss=0.05, duplicate=0.05, corrupt=0.05, rate_bits_s=50e6, mtu=1500
    )
    hosts = [SimHost(network, f"10.0.1.{number}") for number in range(1, 6)]
    ports = [host.udp(("0.0.0.0", 0)) for host in hosts]
    remotes = [(host.ip, port.local[1]) for host, port in zip(hosts, ports, strict=True)]
    for host, port in zip(hosts, ports, strict=True):

        def readable(host: SimHost = host, port: SimPort = port) -> None:
            for data, segment, remote in received(port):
                if len(data) > 100 and not port.send(memoryview(data[:-50]), segment, remote):
                    assert host.random(1)

        port.on_readable(readable)
    for turn in range(20):
        for number, port in enumerate(ports):
            size = 100 + hosts[number].random(2)[0] * 40
            port.send(memoryview(bytes(size)), 1400, remotes[(number + turn) % 5])
        if turn == 10:
            network.partition([hosts[0].ip], [hosts[1].ip])
        await asyncio.sleep(0.01)
    await asyncio.sleep(5)


def test_seed_reproduces_a_storm(sim_seed: int) -> None:
    trace = replay(lambda: play(storm, sim_seed))
    kinds = {entry.kind for entry in trace.entries}
    assert {"send", "arrive", "lost loss", "lost partition"} <= kinds
    assert trace.digest() != play(storm, sim_seed + 1).digest()


def test_seed_reproduces_a_storm_in_another_process(tmp_path: object) -> None:
    program = (
        "import importlib.util, sys;"
        f"spec = importlib.util.spec_from_file_location('storm', {__file__!r});"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module);"
        "print(module.play(module.storm, 7).digest())"
    )
    path = [each for each in sys.path if each]
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert digests == {play(storm, 7).digest() + "\n"}
