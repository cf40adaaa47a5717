from __future__ import annotations

import asyncio
import platform
import resource
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from covey.base.errors import UnreachableError
from covey.net.host import Host, UdpPort
from covey.net.real import RealHost
from covey.net.udp import UdpSocketPort


@pytest.fixture
def host() -> Iterator[RealHost]:
    host = RealHost()
    yield host
    host.close()


def test_real_host_fits_the_protocol(host: RealHost) -> None:
    world: Host = host
    port: UdpPort = UdpSocketPort(("127.0.0.1", 0))
    port.close()
    assert world is host


def test_now_goes_forward_in_seconds(host: RealHost) -> None:
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    readings = [time.clock_gettime(clock), host.now(), host.now(), time.clock_gettime(clock)]
    assert readings == sorted(readings)


def test_wall_is_microseconds_since_the_epoch(host: RealHost) -> None:
    assert abs(host.wall_us() - time.time() * 1e6) < 1e6


def test_random_has_the_size_asked_for(host: RealHost) -> None:
    assert [len(host.random(size)) for size in (0, 1, 32)] == [0, 1, 32]
    assert host.random(32) != host.random(32)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have other habits")
def test_freed_memory_is_kept_for_what_arrives_next(host: RealHost) -> None:
    def work() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(50):
            pieces = [bytes(1) * 150_000 for _ in range(10)]
            del pieces
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    work()
    assert work() < 50 * 10 * 37 / 10, "a tenth of what 150,000 bytes have in pages"


def test_udp_binds_a_port(host: RealHost) -> None:
    port = host.udp(("127.0.0.1", 0))
    assert port.local[1] > 0
    port.close()


def test_blocking_is_one_thread_first_come_first_served(host: RealHost) -> None:
    async def main() -> None:
        order: list[int] = []
        gate = threading.Event()
        threads: set[str] = set()

        def work(number: int) -> int:
            gate.wait(5)
            threads.add(threading.current_thread().name)
            order.append(number)
            return number * 2

        jobs = [asyncio.create_task(host.blocking(partial(work, number))) for number in range(20)]
        await asyncio.sleep(0)
        gate.set()
        assert await asyncio.gather(*jobs) == [number * 2 for number in range(20)]
        assert order == list(range(20))
        assert len(threads) == 1
        assert threads != {threading.current_thread().name}

    asyncio.run(main())


def test_blocking_raises_what_the_work_raised(host: RealHost) -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await host.blocking(lambda: 1 // 0)

    asyncio.run(main())


def test_blocking_cancelled_before_its_turn_never_runs(host: RealHost) -> None:
    async def main() -> None:
        gate = threading.Event()
        ran: list[str] = []
        first = asyncio.create_task(host.blocking(lambda: gate.wait(5)))
        second = asyncio.create_task(host.blocking(lambda: ran.append("second")))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.sleep(0)
        gate.set()
        assert await first
        await host.blocking(lambda: ran.append("third"))
        assert ran == ["third"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("remote", "expected"),
    [(("127.0.0.1", 4040), "127.0.0.1"), (("127.0.0.1", 0), "127.0.0.1"), (("no address", 1), None)],
)
def test_source_address(host: RealHost, remote: tuple[str, int], expected: str | None) -> None:
    assert host.source_address(remote) == expected


@pytest.mark.parametrize(
    ("literal", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("fe80::1%7", "fe80::1%7"),
    ],
)
def test_resolve_passes_literals_through_without_a_thread(host: RealHost, literal: str, expected: str) -> None:
    threads = threading.active_count()
    found = asyncio.run(host.resolve(literal, 4040))
    assert found == [(expected, 4040)]
    assert threading.active_count() == threads


def test_resolve_localhost(host: RealHost) -> None:
    found = asyncio.run(host.resolve("localhost", 4040))
    assert set(found) <= {("127.0.0.1", 4040), ("::1", 4040)}
    assert len(found) == len(set(found)) > 0


@pytest.mark.parametrize("name", ["a..b", "x" * 300, "fe80::1%nosuch0"])
def test_resolve_unknown_host_has_a_code(host: RealHost, name: str) -> None:
    with pytest.raises(UnreachableError) as caught:
        asyncio.run(host.resolve(name, 1))
    assert caught.value.code == "host-not-found"
