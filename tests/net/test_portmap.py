"""The keeper of mappings in virtual time, against a router that was written from the RFCs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from covey.net.mapping import LEASE_SECONDS, is_reachable
from covey.net.port_control import EpochWatch
from covey.net.portmap import PortMapper, survey
from covey.testing import Link, SimHost, SimNetwork, run
from tests.net.router import ADDRESS, Router

US = "192.168.1.20"
LOCAL = ("0.0.0.0", 4242)
NONCE = bytes(range(12))


def spawn(coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    return asyncio.create_task(coroutine, name=name)


class Home:
    """A LAN with a router and us."""

    def __init__(self, speaks: set[str], *, public: str = "203.0.113.5") -> None:
        self.loop = asyncio.get_running_loop()
        network = SimNetwork(self.loop, seed=1)
        network.default = Link(latency_s=0.001)
        self.router = Router(network, speaks, public=public)
        self.host = SimHost(network, US)
        self.host.routers = (ADDRESS,)
        self.changes: list[tuple[float, str, tuple[str, int] | None, str]] = []
        self._changed = asyncio.Event()
        self.mapper = PortMapper(self.host, [LOCAL], NONCE, self._note)

    def _note(self) -> None:
        (state,) = self.mapper.mappings
        self.changes.append((self.loop.time(), state.method, state.external, state.problem))
        self._changed.set()

    async def change(self) -> tuple[float, str, tuple[str, int] | None, str]:
        self._changed.clear()
        await self._changed.wait()
        return self.changes[-1]


@contextlib.asynccontextmanager
async def home(speaks: set[str], prepare: Callable[[Home], None] | None = None, **options: str) -> AsyncIterator[Home]:
    stage = Home(speaks, **options)
    if prepare is not None:
        prepare(stage)
    stage.mapper.start(spawn)
    try:
        yield stage
    finally:
        await stage.mapper.close()


def slow(name: str, seconds: float) -> Callable[[Home], None]:
    return lambda stage: stage.router.delay.update({name: seconds})


@pytest.mark.parametrize(
    ("speaks", "prepare", "method", "within"),
    [
        ({"pcp", "nat-pmp"}, None, "pcp", 0.05),
        ({"nat-pmp"}, None, "nat-pmp", 0.3),
        ({"pcp", "nat-pmp"}, slow("pcp", 0.2), "pcp", 0.5),
        ({"pcp", "nat-pmp"}, slow("pcp", 0.6), "nat-pmp", 0.3),
        ({"nat-pmp"}, slow("nat-pmp", 0.9), "nat-pmp", 3.0),
    ],
    ids=["pcp at once", "nat-pmp after the race", "pcp within the race", "pcp too late", "only nat-pmp, late"],
)
def test_best_that_answers_in_time_is_taken(
    speaks: set[str], prepare: Callable[[Home], None] | None, method: str, within: float
) -> None:
    async def scenario() -> None:
        async with home(speaks, prepare) as stage:
            at, found, external, problem = await stage.change()
            assert (found, external, problem) == (method, ("203.0.113.5", 4242), "")
            assert at < within

    run(scenario(), seed=1)


@pytest.mark.parametrize("speaks", ["pcp", "nat-pmp"])
def test_mapping_is_renewed_at_half_its_life_and_never_ends(speaks: str) -> None:
    async def scenario() -> None:
        async with home({speaks}) as stage:
            await stage.change()
            ends: list[float] = []
            while stage.loop.time() < 3 * LEASE_SECONDS:
                await asyncio.sleep(1.0)
                (mapping,) = stage.router.mappings.values()
                ends.append(mapping.until - stage.loop.time())
            assert min(ends) > LEASE_SECONDS / 2 - 2
            assert len(stage.router.requests) == 6
            assert len(stage.changes) == 1, "a renewal is no news"

    run(scenario(), seed=1, limit_virtual_s=5000)


def test_short_leases_do_not_make_a_storm() -> None:
    async def scenario() -> None:
        async with home({"pcp"}, lambda stage: setattr(stage.router, "lifetime_limit", 1)) as stage:
            await stage.change()
            await asyncio.sleep(600)
            assert len(stage.router.requests) <= 21

    run(scenario(), seed=1, limit_virtual_s=1000)


@pytest.mark.parametrize("speaks", ["pcp", "nat-pmp"])
def test_mapping_is_given_back_at_the_end(speaks: str) -> None:
    async def scenario() -> None:
        async with home({speaks}) as stage:
            await stage.change()
            assert len(stage.router.mappings) == 1
            begun = stage.loop.time()
        assert stage.router.mappings == {}
        assert stage.loop.time() - begun < 0.1

    run(scenario(), seed=1)


def test_router_that_is_gone_does_not_hold_the_end_up() -> None:
    async def scenario() -> None:
        async with home({"pcp"}) as stage:
            await stage.change()
            stage.router.speaks = set()
            begun = stage.loop.time()
        assert stage.loop.time() - begun < 0.5

    run(scenario(), seed=1)


@pytest.mark.parametrize("speaks", ["pcp", "nat-pmp"])
def test_router_that_says_that_it_restarted_is_asked_again(speaks: str) -> None:
    async def scenario() -> None:
        async with home({speaks}) as stage:
            await stage.change()
            await asyncio.sleep(100)
            stage.router.reboot(tells=[US])
            assert stage.router.mappings == {}
            await asyncio.sleep(6)
            assert len(stage.router.mappings) == 1

    run(scenario(), seed=1)


@pytest.mark.parametrize("speaks", ["pcp", "nat-pmp"])
def test_router_that_restarted_in_silence_is_found_out_at_the_next_renewal(speaks: str) -> None:
    async def scenario() -> None:
        async with home({speaks}) as stage:
            await stage.change()
            stage.router.reboot()
            stage.router.public = "203.0.113.77"
            at, _, external, _ = await stage.change()
            assert external == ("203.0.113.77", 4242)
            assert at <= LEASE_SECONDS / 2 + 1

    run(scenario(), seed=1, limit_virtual_s=1000)


def test_stranger_who_says_that_the_router_restarted_is_not_heard() -> None:
    async def scenario() -> None:
        async with home({"pcp"}) as stage:
            await stage.change()
            await asyncio.sleep(100)
            stranger = SimHost(stage.host.network, "192.168.1.66").udp(("0.0.0.0", 5351))
            stranger.send(memoryview(stage.router._pcp_head(0, 0, 0)), 24, (US, 5350))
            await asyncio.sleep(20)
            assert len(stage.router.requests) == 1

    run(scenario(), seed=1)


def test_announcements_without_end_make_no_storm() -> None:
    async def scenario() -> None:
        async with home({"pcp"}) as stage:
            await stage.change()
            for _ in range(600):
                stage.router.reboot(tells=[US])
                await asyncio.sleep(0.1)
            assert len(stage.router.requests) <= 14, "one in five seconds"

    run(scenario(), seed=1)


def test_another_method_takes_over_when_the_first_ends() -> None:
    async def scenario() -> None:
        async with home({"pcp", "nat-pmp"}) as stage:
            assert (await stage.change())[1] == "pcp"
            stage.router.speaks = {"nat-pmp"}
            stage.router.mappings.clear()
            at, method, external, _ = await stage.change()
            assert (method, external) == ("nat-pmp", ("203.0.113.5", 4242))
            assert at < LEASE_SECONDS / 2 + 10

    run(scenario(), seed=1, limit_virtual_s=1000)


def test_second_method_is_tried_when_the_first_refuses() -> None:
    async def scenario() -> None:
        async with home({"pcp", "nat-pmp"}, lambda stage: setattr(stage.router, "pcp_result", 2)) as stage:
            assert (await stage.change())[1] == "nat-pmp"

    run(scenario(), seed=1)


@pytest.mark.parametrize(
    ("speaks", "prepare", "problem"),
    [
        (set(), None, ""),
        ({"pcp"}, lambda stage: setattr(stage.router, "pcp_result", 2), "not-authorized"),
        ({"pcp"}, lambda stage: setattr(stage.router, "pcp_result", 12), "double-nat"),
        ({"pcp"}, lambda stage: setattr(stage.router, "public", "100.64.3.4"), "double-nat"),
        ({"nat-pmp"}, lambda stage: setattr(stage.router, "public", "10.1.2.3"), "double-nat"),
        ({"pcp"}, lambda stage: setattr(stage.router, "lifetime_limit", 0), "refused"),
    ],
    ids=["no answer", "forbidden", "a router between", "a provider's nat", "two nats", "nothing granted"],
)
def test_why_nothing_is_mapped_is_said(speaks: set[str], prepare: Callable[[Home], None] | None, problem: str) -> None:
    async def scenario() -> None:
        async with home(speaks, prepare) as stage:
            await asyncio.sleep(10)
            (state,) = stage.mapper.mappings
            assert (state.external, state.problem) == (None, problem or "no-answer")

    run(scenario(), seed=1)


def test_silent_router_is_asked_ever_less_often() -> None:
    async def scenario() -> None:
        async with home(set()) as stage:
            sent: list[int] = []
            for _ in range(4):
                await asyncio.sleep(3600)
                sent.append(stage.host.traffic.sent)
            first, *_, last = (after - before for before, after in zip([0, *sent], sent, strict=False))
            assert first < 200
            assert last <= 30

    run(scenario(), seed=1, limit_virtual_s=20_000)


def test_network_change_is_followed() -> None:
    async def scenario() -> None:
        async with home({"pcp"}) as stage:
            await stage.change()
            await asyncio.sleep(60)
            cafe = SimNetwork(stage.loop, seed=2)
            stage.host.move(cafe, "192.168.1.99")
            router = Router(cafe, {"nat-pmp"}, public="198.51.100.9")
            stage.mapper.recheck()
            _, method, external, _ = await stage.change()
            assert (method, external) == ("", None), "peers are not sent to the old one meanwhile"
            _, method, external, _ = await stage.change()
            assert (method, external) == ("nat-pmp", ("198.51.100.9", 4242))
            assert list(router.mappings) == [("192.168.1.99", 4242)]

    run(scenario(), seed=1)


def test_network_without_a_router_ends_the_mapping() -> None:
    async def scenario() -> None:
        async with home({"pcp"}) as stage:
            assert (await stage.change())[2] is not None
            stage.host.routers = ()
            stage.mapper.recheck()
            assert (await stage.change())[1:] == ("", None, "no-gateway")

    run(scenario(), seed=1)


def test_mapping_of_a_killed_process_is_taken_over() -> None:
    async def scenario() -> None:
        async with home({"pcp"}) as stage:
            await stage.change()
            for task in stage.mapper._tasks:
                task.cancel()
            again = stage.host.restart()
            again.routers = (ADDRESS,)
            changed = asyncio.Event()
            mapper = PortMapper(again, [LOCAL], NONCE, changed.set)
            mapper.start(spawn)
            await changed.wait()
            assert mapper.mappings[0].external == ("203.0.113.5", 4242)
            await mapper.close()
            stage.mapper = mapper

    run(scenario(), seed=1)


def test_survey_maps_nothing() -> None:
    async def scenario() -> None:
        stage = Home({"pcp", "nat-pmp"})
        assert await survey(stage.host) == {ADDRESS: ["pcp", "nat-pmp"]}
        assert stage.router.requests == []
        assert stage.loop.time() <= 1.0

    run(scenario(), seed=1)


def test_loopback_is_nothing_to_map() -> None:
    async def scenario() -> None:
        stage = Home({"pcp"})
        mapper = PortMapper(stage.host, [("127.0.0.1", 4242)], NONCE, lambda: None)
        mapper.start(spawn)
        assert mapper.mappings == []
        assert not mapper.started
        await mapper.close()
        assert stage.host.traffic.sent == 0

    run(scenario(), seed=1)


@pytest.mark.parametrize(
    ("answers", "lost"),
    [
        ([(0.0, 100)], [False]),
        ([(0.0, 100), (60.0, 160)], [False, False]),
        ([(0.0, 100), (60.0, 99)], [False, False]),
        ([(0.0, 100), (60.0, 98)], [False, True]),
        ([(0.0, 100), (3600.0, 100 + 3400)], [False, False]),
        ([(0.0, 100), (3600.0, 100 + 3300)], [False, True]),
        ([(0.0, 100), (60.0, 5000)], [False, True]),
    ],
    ids=["first", "in step", "reordered", "back to zero", "slow clock", "slower than the rule", "other server"],
)
def test_epochs_tell_a_router_that_lost_its_mappings(answers: list[tuple[float, int]], lost: list[bool]) -> None:
    watch = EpochWatch()
    # Two answers may arrive in another order than they were given: one second back is no loss, if no time passed.
    at = [(0.5, epoch) if epoch == 99 else (now, epoch) for now, epoch in answers]
    assert [watch.lost(now, epoch) for now, epoch in at] == lost


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("8.8.8.8", True),
        ("203.0.113.5", True),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("172.31.255.1", False),
        ("192.168.0.1", False),
        ("169.254.1.1", False),
        ("127.0.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("0.0.0.0", False),
        ("2001:db8::1", True),
        ("fd00::1", False),
        ("fe80::1", False),
        ("::1", False),
        ("ff02::1", False),
    ],
)
def test_only_what_the_internet_reaches_is_told_to_peers(host: str, expected: bool) -> None:
    assert is_reachable(host) is expected
