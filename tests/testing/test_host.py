from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from covey.base.errors import StateError, UnreachableError, UsageError
from covey.net.host import Host, UdpPort
from covey.testing import HostCrashed, SimHost, SimLoop, SimNetwork, run

A, B = "10.0.0.1", "10.0.0.2"


def play(body: Callable[[SimNetwork], Awaitable[None]], seed: int = 1) -> None:
    async def main() -> None:
        await body(SimNetwork(asyncio.get_running_loop(), seed))

    run(main(), seed=seed)


def test_sim_host_fits_the_protocol() -> None:
    async def body(network: SimNetwork) -> None:
        world: Host = SimHost(network, A)
        port: UdpPort = world.udp((A, 0))
        assert port.local[0] == A
        assert port.local[1] > 0

    play(body)


def test_clocks_run_with_the_loop_and_the_wall_is_skewed() -> None:
    async def body(network: SimNetwork) -> None:
        one, two = SimHost(network, A), SimHost(network, B, clock_offset_us=-3_000_000)
        now, wall = one.now(), one.wall_us()
        assert one.now() != two.now()
        assert wall - two.wall_us() == 3_000_000
        await asyncio.sleep(1.5)
        assert one.now() - now == pytest.approx(1.5)
        assert one.wall_us() - wall == 1_500_000
        two.clock_offset_us = 0
        assert two.wall_us() == one.wall_us()
        two.clock_drift = 0.01
        await asyncio.sleep(98.5)
        assert two.wall_us() - one.wall_us() == 1_000_000
        assert two.restart().wall_us() - one.wall_us() == 1_000_000

    play(body)


def test_randomness_is_the_hosts_own_and_comes_from_the_seed() -> None:
    drawn: list[bytes] = []

    async def body(network: SimNetwork) -> None:
        one, two = SimHost(network, A), SimHost(network, B)
        drawn.extend([one.random(16), one.random(16), two.random(16), one.restart().random(16)])

    play(body)
    assert len(set(drawn)) == 4
    again = list(drawn)
    drawn.clear()
    play(body)
    assert drawn == again
    drawn.clear()
    play(body, seed=2)
    assert not set(drawn) & set(again)


def test_bind_is_checked() -> None:
    async def body(network: SimNetwork) -> None:
        host = SimHost(network, A, also=["2001:db8::1"])
        host.udp((A, 4040))
        for taken in ((A, 4040), ("0.0.0.0", 4040)):
            with pytest.raises(StateError) as in_use:
                host.udp(taken)
            assert in_use.value.code == "address-in-use"
        host.udp(("::", 4040))
        with pytest.raises(StateError):
            host.udp(("2001:db8::1", 4040))
        with pytest.raises(UsageError) as foreign:
            host.udp((B, 0))
        assert foreign.value.code == "address-not-local"
        port = host.udp(("127.0.0.1", 4040))
        port.close()
        host.udp(("127.0.0.1", 4040))

    play(body)


def test_both_families_and_loopback_deliver() -> None:
    async def body(network: SimNetwork) -> None:
        one = SimHost(network, A, also=["2001:db8::1"])
        two = SimHost(network, B, also=["2001:db8::2"])
        one.full_share = two.full_share = 0.0
        cases = [
            (one.udp(("0.0.0.0", 1)), two.udp(("0.0.0.0", 2)), (B, 2), (A, 1)),
            (one.udp(("::", 1)), two.udp(("::", 2)), ("2001:db8::2", 2), ("2001:db8::1", 1)),
            (one.udp(("127.0.0.1", 3)), one.udp(("127.0.0.1", 4)), ("127.0.0.1", 4), ("127.0.0.1", 3)),
            (one.udp((A, 5)), one.udp((A, 6)), (A, 6), (A, 5)),
        ]
        for source, target, remote, seen in cases:
            source.send(memoryview(b"hello"), 5, remote)
            await asyncio.sleep(0.1)
            got = target.receive()
            assert got is not None
            assert (bytes(got[0]), got[2]) == (b"hello", seen)
        cases[2][0].send(memoryview(b"leak"), 4, (B, 2))
        await asyncio.sleep(0.1)
        assert cases[0][1].receive() is None

    play(body)


@pytest.mark.parametrize(
    ("remote", "expected"),
    [((B, 1), A), (("2001:db8::9", 1), "2001:db8::1"), (("127.0.0.1", 1), "127.0.0.1"), (("::1", 1), "::1")],
)
def test_source_address(remote: tuple[str, int], expected: str) -> None:
    async def body(network: SimNetwork) -> None:
        assert SimHost(network, A, also=["2001:db8::1"]).source_address(remote) == expected
        assert SimHost(network, B).source_address(("2001:db8::9", 1)) is None

    play(body)


def test_resolve_knows_literals_and_the_networks_names() -> None:
    async def body(network: SimNetwork) -> None:
        host = SimHost(network, A)
        network.names["home.example"] = [B, "2001:db8::2", B]
        assert await host.resolve("2001:DB8::1", 5) == [("2001:db8::1", 5)]
        assert await host.resolve("home.example", 5) == [(B, 5), ("2001:db8::2", 5)]
        with pytest.raises(UnreachableError) as caught:
            await host.resolve("nowhere.example", 5)
        assert caught.value.code == "host-not-found"

    play(body)


@pytest.mark.parametrize("disk_s", [0.0, 0.003])
def test_blocking_runs_in_order_of_submission(disk_s: float) -> None:
    async def body(network: SimNetwork) -> None:
        host = SimHost(network, A, disk_s=disk_s)
        order: list[int] = []

        def work(number: int) -> int:
            order.append(number)
            return number * 2

        jobs = [host.blocking(lambda number=number: work(number)) for number in range(20)]  # type: ignore[misc]
        assert await asyncio.gather(*jobs) == [number * 2 for number in range(20)]
        assert order == list(range(20))
        assert network.loop.time() == pytest.approx(20 * disk_s)
        with pytest.raises(ZeroDivisionError):
            await host.blocking(lambda: 1 // 0)

    play(body)


def test_blocking_lets_others_in_between() -> None:
    async def body(network: SimNetwork) -> None:
        order: list[str] = []
        host = SimHost(network, A)
        network.loop.call_soon(order.append, "other")
        await host.blocking(lambda: order.append("work"))
        assert order == ["other", "work"]

    play(body)


def test_crash_closes_ports_and_stops_storage() -> None:
    async def body(network: SimNetwork) -> None:
        host, other = SimHost(network, A, disk_s=0.01), SimHost(network, B)
        other.full_share = 0.0
        port, sender = host.udp((A, 4040)), other.udp((B, 4040))
        called: list[str] = []
        port.on_readable(lambda: called.append("readable"))
        work = asyncio.create_task(host.blocking(lambda: called.append("stored")))
        sender.send(memoryview(b"x"), 1, (A, 4040))
        await asyncio.sleep(0.0005)
        host.crash()
        host.crash()
        with pytest.raises(HostCrashed):
            await work
        with pytest.raises(HostCrashed):
            host.udp((A, 0))
        await asyncio.sleep(1)
        assert called == []
        assert port.send(memoryview(b"x"), 1, (B, 4040))

    play(body)


def test_restart_is_a_new_host_in_the_same_place() -> None:
    async def body(network: SimNetwork) -> None:
        host = SimHost(network, A, clock_offset_us=5, also=["2001:db8::1"], disk_s=0.25)
        host.udp((A, 4040))
        again = host.restart()
        assert host.crashed
        assert not again.crashed
        assert (again.addresses, again.clock_offset_us, again.disk_s) == (host.addresses, 5, 0.25)
        assert again.now() != host.now()
        port = again.udp((A, 4040))
        other = SimHost(network, B)
        other.full_share = 0.0
        other.udp((B, 1)).send(memoryview(b"hello again"), 11, (A, 4040))
        await asyncio.sleep(0.1)
        got = port.receive()
        assert got is not None
        assert bytes(got[0]) == b"hello again"

    play(body)


def test_readable_is_called_for_what_came_before_it_was_set() -> None:
    async def body(network: SimNetwork) -> None:
        host = SimHost(network, A)
        port = host.udp((A, 4040))
        host.inbound((B, 1), (A, 4040), [b"early"])
        called: list[float] = []
        port.on_readable(lambda: called.append(network.loop.time()))
        assert called == []
        await asyncio.sleep(1)
        assert called == [0.0]
        assert isinstance(network.loop, SimLoop)

    play(body)


def test_refused_sends_are_lost_and_counted() -> None:
    async def body(network: SimNetwork) -> None:
        host = SimHost(network, A)
        host.full_share = 0.0
        host.refused = {2, 3}
        one, two = host.udp((A, 4040)), SimHost(network, B).udp((B, 4040))
        for number in range(4):
            assert one.send(memoryview(b"%d" % number), 1, (B, 4040))
        await asyncio.sleep(1)
        assert [bytes(got[0]) for got in iter(two.receive, None) if got] == [b"03"]
        assert (host.sends, one.dropped) == (4, 2)

    play(body)
