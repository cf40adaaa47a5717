from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

from covey.net.host import Host, UdpPort
from covey.net.real import RealHost
from covey.net.turn import BRISK_TRAINS, LUCK, RECEIVE_LIMIT, ROUNDS, SLACK_S, TRANSMIT_LIMIT, Driver
from covey.net.waiter import Waiter
from covey.testing import Link, SimHost, SimLoop, SimNetwork, SimUnhandled, run
from covey.wire.datagram import HEADER, PACKET

Remote = tuple[str, int]


class Sending(NamedTuple):
    local: int
    remote: Remote
    size: int
    segment: int


@dataclass
class Echo:
    """A sans-IO endpoint: sends what is queued, reports what it hears, and, if `answers`, sends it back."""

    answers: bool = False
    queue: deque[tuple[int, Remote, bytes, int]] = field(default_factory=deque)
    heard: list[tuple[int, Remote, bytes, int]] = field(default_factory=list)
    alarm: float | None = None
    calls: list[str] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    fresh: list[Any] = field(default_factory=list)
    now: float = 0.0
    hurried: bool = True
    unread: bool = False
    told: list[bool] = field(default_factory=list)
    """What `unread` was at each deadline."""

    def receive(self, now: float, view: memoryview, segment: int, local: int, remote: Remote) -> None:
        self._called("receive", now)
        self.heard.append((local, remote, bytes(view), segment))
        self.fresh.append(("heard", len(view)))
        if self.answers:
            self.queue.append((local, remote, bytes(view), segment))

    def transmit(self, now: float, out: memoryview) -> Sending | None:
        self._called("transmit", now)
        if not self.queue:
            return None
        local, remote, data, segment = self.queue.popleft()
        out[: len(data)] = data
        return Sending(local, remote, len(data), segment)

    @property
    def has_output(self) -> bool:
        return bool(self.queue) or "transmit" in self.faults

    def deadline(self) -> float | None:
        self._called("deadline", self.now)
        return self.alarm

    def expire(self, now: float) -> None:
        self._called("expire", now)
        assert self.alarm is not None
        assert now >= self.alarm
        self.alarm = None
        self.told.append(self.unread)
        self.fresh.append(("expired", now))

    def events(self) -> Iterable[Any]:
        fresh, self.fresh = self.fresh, []
        return fresh

    def _called(self, name: str, now: float) -> None:
        assert now >= self.now
        self.now = now
        self.calls.append(name)
        if name in self.faults:
            self.faults[name] -= 1
            if self.faults[name] == 0:
                raise ZeroDivisionError(name)


Scenario = Callable[[Host, Host, Remote], Awaitable[None]]


def play_real(scenario: Scenario) -> None:
    """Both hosts are this machine."""

    async def main() -> None:
        host = RealHost()
        try:
            await asyncio.wait_for(scenario(host, host, ("127.0.0.1", 0)), 20)
        finally:
            host.close()

    asyncio.run(main())


def play_simulated(scenario: Scenario, link: Link | None = None) -> None:
    async def main() -> None:
        network = SimNetwork(asyncio.get_running_loop(), seed=1)
        network.default = link or Link(latency_s=0.01)
        one, two = SimHost(network, "10.0.0.1"), SimHost(network, "10.0.0.2")
        one.full_share = two.full_share = 0.2
        await scenario(one, two, ("0.0.0.0", 0))

    run(main(), seed=1)


worlds = pytest.mark.parametrize("play", [play_real, play_simulated], ids=["real", "simulated"])


def address(host: Host, port: UdpPort) -> Remote:
    """Where others reach `port`."""
    return (host.ip, port.local[1]) if isinstance(host, SimHost) else port.local


class Side:
    """An echo endpoint with a driver on a host; `count` bytes heard can be waited for."""

    def __init__(self, host: Host, bind: Remote, *, answers: bool) -> None:
        self.endpoint = Echo(answers=answers)
        self.driver: Driver[Any] = Driver(host, self.endpoint, self.on_event)
        port = host.udp(bind)
        self.index = self.driver.add_port(port)
        self.remote = address(host, port)
        self.events: list[Any] = []
        self.bytes = 0
        self._waits: tuple[int, asyncio.Event] | None = None

    def on_event(self, event: Any) -> None:
        self.events.append(event)
        if event[0] == "heard":
            self.bytes += event[1]
        if self._waits is not None and self.bytes >= self._waits[0]:
            self._waits[1].set()

    def send(self, remote: Remote, data: bytes, segment: int) -> None:
        self.endpoint.queue.append((self.index, remote, data, segment))
        self.driver.wake()

    async def hears(self, count: int) -> None:
        self._waits = (count, asyncio.Event())
        if self.bytes < count:
            await self._waits[1].wait()


@worlds
def test_trains_go_out_and_come_back(play: Callable[[Scenario], None]) -> None:
    async def scenario(here: Host, there: Host, bind: Remote) -> None:
        one, two = Side(here, bind, answers=False), Side(there, bind, answers=True)
        total = 0
        for number in range(50):
            data = bytes([number]) * (1452 * (number % 45 + 1) - number)
            one.send(two.remote, data, 1452)
            total += len(data)
            await one.hears(total)
        sent = b"".join(bytes([number]) * (1452 * (number % 45 + 1) - number) for number in range(50))
        assert b"".join(train[2] for train in one.endpoint.heard) == sent
        assert {train[:2] for train in one.endpoint.heard} == {(one.index, two.remote)}
        one.driver.close()
        two.driver.close()

    play(scenario)


@worlds
def test_many_trains_at_once_keep_their_order(play: Callable[[Scenario], None]) -> None:
    async def scenario(here: Host, there: Host, bind: Remote) -> None:
        one, two = Side(here, bind, answers=False), Side(there, bind, answers=False)
        sent = b""
        for number in range(200):
            data = bytes([number]) * 5_000
            one.send(two.remote, data, 1200)
            sent += data
        await two.hears(len(sent))
        assert b"".join(train[2] for train in two.endpoint.heard) == sent
        assert not one.driver.blocked
        one.driver.close()
        two.driver.close()

    play(scenario)


@worlds
def test_deadline_expires_once_and_not_early(play: Callable[[Scenario], None]) -> None:
    async def scenario(here: Host, _: Host, bind: Remote) -> None:
        side = Side(here, bind, answers=False)
        due = here.now() + 0.05
        side.endpoint.alarm = due
        side.driver.wake()
        expired = asyncio.Event()
        side.on_event = lambda event: expired.set()  # type: ignore[method-assign]
        side.driver._on_event = side.on_event
        await expired.wait()
        assert here.now() >= due - 1e-6
        assert side.endpoint.calls.count("expire") == 1
        side.driver.close()

    play(scenario)


# What follows needs a clock that stands still between steps, so it runs in the simulator alone.


def on_loop(body: Callable[[SimLoop, SimNetwork], Awaitable[None]]) -> SimLoop:
    """Run `body` on a loop the test can look into afterwards; errors that reached it are kept, not raised."""
    loop = SimLoop(seed=1, limit_virtual_s=10_000)
    try:
        loop.run_until_complete(body(loop, SimNetwork(loop, seed=1)))
    finally:
        loop.close()
    return loop


def quiet_host(network: SimNetwork, ip: str = "10.0.0.1") -> SimHost:
    host = SimHost(network, ip)
    host.full_share = 0.0
    return host


def test_later_deadline_leaves_the_timer_alone() -> None:
    armed: list[float] = []

    class CountingLoop(SimLoop):
        def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
            armed.append(when)
            return super().call_at(when, callback, *args, context=context)

    loop = CountingLoop()

    async def body() -> None:
        network = SimNetwork(loop, seed=1)
        host = quiet_host(network)
        side = Side(host, ("0.0.0.0", 0), answers=False)
        start = host.now()
        for step in range(100):
            side.endpoint.alarm = start + 1.0 + step
            side.driver.turn()
        assert armed == [pytest.approx(1.0)]
        side.endpoint.alarm = start + 0.5
        side.driver.turn()
        assert armed[1:] == [pytest.approx(0.5)]
        side.endpoint.alarm = start + 2.0
        side.driver.turn()
        await asyncio.sleep(3.0)
        assert side.events == [("expired", start + 2.0)]
        side.driver.close()

    loop.run_until_complete(body())
    loop.close()


def test_deadline_far_away_is_met_on_time() -> None:
    async def body(loop: SimLoop, network: SimNetwork) -> None:
        host = quiet_host(network)
        side = Side(host, ("0.0.0.0", 0), answers=False)
        side.endpoint.alarm = host.now() + 3600.25
        side.driver.wake()
        await asyncio.sleep(4000)
        assert side.events == [("expired", pytest.approx(host.now() - 4000 + 3600.25))]
        assert len(side.endpoint.calls) < 500
        side.driver.close()

    on_loop(body)


def test_deadline_that_does_not_move_is_not_spun_on() -> None:
    class Stuck(Echo):
        def expire(self, now: float) -> None:
            self._called("expire", now)

    async def body(loop: SimLoop, network: SimNetwork) -> None:
        host = quiet_host(network)
        endpoint = Stuck(alarm=host.now() + 1.0)
        driver: Driver[Any] = Driver(host, endpoint, lambda event: None)
        driver.wake()
        await asyncio.sleep(2.0)
        assert 900 <= endpoint.calls.count("expire") <= 1001
        driver.close()

    on_loop(body)


def test_deadline_in_the_past_while_blocked_is_not_spun_on() -> None:
    async def body(loop: SimLoop, network: SimNetwork) -> None:
        host = quiet_host(network)
        side = Side(host, ("0.0.0.0", 0), answers=False)
        host.full_share = 1.0
        side.send(("10.0.0.9", 9), b"x", 1)
        await asyncio.sleep(0)
        assert side.driver.blocked
        side.endpoint.calls.clear()
        await asyncio.sleep(0.1)
        assert side.endpoint.calls.count("transmit") == 0
        host.full_share = 0.0
        await asyncio.sleep(0.1)
        assert not side.driver.blocked
        side.driver.close()

    on_loop(body)


def test_receiving_is_bounded_by_transmitting() -> None:
    async def body(loop: SimLoop, network: SimNetwork) -> None:
        network.default = Link(latency_s=0.01)
        one, two = quiet_host(network), quiet_host(network, "10.0.0.2")
        two.gro = False
        raw = one.udp(("0.0.0.0", 0))
        side = Side(two, ("0.0.0.0", 0), answers=True)
        await asyncio.sleep(0)
        side.endpoint.calls.clear()
        for _ in range(100):
            raw.send(memoryview(b"0123456789"), 10, side.remote)
        await asyncio.sleep(1)
        runs = "".join({"receive": "r", "transmit": "t"}.get(call, "") for call in side.endpoint.calls)
        assert max(map(len, runs.split("t"))) == RECEIVE_LIMIT
        assert runs.count("r") == 100
        raw.close()
        side.driver.close()

    on_loop(body)


def test_endpoint_knows_at_a_deadline_whether_all_that_arrived_was_read() -> None:
    async def body(loop: SimLoop, network: SimNetwork) -> None:
        network.default = Link(latency_s=0.01)
        one, two = quiet_host(network), quiet_host(network, "10.0.0.2")
        two.gro = False
        raw = one.udp(("0.0.0.0", 0))
        side = Side(two, ("0.0.0.0", 0), answers=False)
        for count in (2 * RECEIVE_LIMIT, 1):
            await asyncio.sleep(1)
            for _ in range(count):
                raw.send(memoryview(b"0123456789"), 10, side.remote)
            side.endpoint.alarm = two.now() + 0.01 + SLACK_S / 2  # just behind what arrives
            side.driver.wake()
        await asyncio.sleep(1)
        assert side.endpoint.told == [True, False]
        raw.close()
        side.driver.close()

    on_loop(body)


def test_flush_leaves_what_still_waits_to_the_next_turn() -> None:
    """A task that reads and flushes again and again would otherwise keep all others from running."""

    async def body(loop: SimLoop, network: SimNetwork) -> None:
        network.default = Link(latency_s=0.01)
        one, two = quiet_host(network), quiet_host(network, "10.0.0.2")
        two.gro = False
        raw = one.udp(("0.0.0.0", 0))
        side = Side(two, ("0.0.0.0", 0), answers=False)
        await asyncio.sleep(0)
        heard: list[int] = []

        def between_two_turns() -> None:
            side.driver.flush()
            heard.append(len(side.endpoint.heard))

        side.driver._on_event = lambda _: loop.call_soon(between_two_turns) if not heard else None
        for _ in range(2 * RECEIVE_LIMIT):
            raw.send(memoryview(b"0123456789"), 10, side.remote)
        await asyncio.sleep(1)
        assert heard[0] == RECEIVE_LIMIT
        assert len(side.endpoint.heard) == 2 * RECEIVE_LIMIT
        raw.close()
        side.driver.close()

    on_loop(body)


def test_transmitting_is_bounded_and_others_get_their_turn() -> None:
    async def body(loop: SimLoop, network: SimNetwork) -> None:
        host = quiet_host(network)
        side = Side(host, ("0.0.0.0", 0), answers=False)
        for _ in range(TRANSMIT_LIMIT * 3):
            side.send(("10.0.0.9", 9), b"x", 1)
        await asyncio.sleep(0)
        assert len(side.endpoint.queue) == TRANSMIT_LIMIT * 2
        await asyncio.sleep(0)
        assert len(side.endpoint.queue) == TRANSMIT_LIMIT
        await asyncio.sleep(0.1)
        assert len(side.endpoint.queue) == 0
        side.driver.close()

    on_loop(body)


def test_question_does_not_wait_behind_bulk() -> None:
    """While somebody waits for answers the socket is emptied first, and who sends little is heard first."""

    async def body(loop: SimLoop, network: SimNetwork) -> None:
        network.default = Link(latency_s=0.01, batch_s=0.01)
        one, two = quiet_host(network), quiet_host(network, "10.0.0.2")
        two.gro = False
        raw = one.udp(("0.0.0.0", 0))
        side = Side(two, ("0.0.0.0", 0), answers=False)
        await asyncio.sleep(0)
        bulk, question = (HEADER.pack(PACKET, 0, 1, index, 0).ljust(5000, b"\0") for index in (1, 2))
        for _ in range(3 * RECEIVE_LIMIT):
            raw.send(memoryview(bulk), len(bulk), side.remote)
        raw.send(memoryview(question[:100]), 100, side.remote)
        side.driver.hasten()
        await asyncio.sleep(1)
        sizes = [len(data) for _, _, data, _ in side.endpoint.heard]
        assert len(sizes) == 3 * RECEIVE_LIMIT + 1
        assert sizes.index(100) == RECEIVE_LIMIT + 1, "the first turn could not know of bulk, the second took one of it"
        raw.close()
        side.driver.close()

    on_loop(body)


def test_short_turn_sends_little() -> None:
    async def body(loop: SimLoop, network: SimNetwork) -> None:
        side = Side(quiet_host(network), ("0.0.0.0", 0), answers=False)
        side.driver.hasten()
        for _ in range(TRANSMIT_LIMIT):
            side.send(("10.0.0.9", 9), b"x", 1)
        await asyncio.sleep(0)
        assert len(side.endpoint.queue) == TRANSMIT_LIMIT - BRISK_TRAINS
        await asyncio.sleep(0.1)
        assert len(side.endpoint.queue) == 0
        side.driver.close()

    on_loop(body)


def test_wake_is_idempotent() -> None:
    async def body(loop: SimLoop, network: SimNetwork) -> None:
        side = Side(quiet_host(network), ("0.0.0.0", 0), answers=False)
        await asyncio.sleep(0.1)
        side.endpoint.calls.clear()
        for _ in range(10):
            side.send(("10.0.0.9", 1), b"one of ten", 10)
        await asyncio.sleep(1)
        assert "".join(call[0] for call in side.endpoint.calls) == "d" + 10 * "t" + "d"
        side.driver.close()

    on_loop(body)


def test_wake_from_an_event_is_served_by_the_same_turn() -> None:
    async def body(loop: SimLoop, network: SimNetwork) -> None:
        network.default = Link(latency_s=0.01)
        one, two = quiet_host(network), quiet_host(network, "10.0.0.2")
        raw = one.udp(("0.0.0.0", 0))
        endpoint = Echo()

        def on_event(event: Any) -> None:
            endpoint.queue.append((0, ("10.0.0.1", raw.local[1]), b"answer", 6))
            driver.wake()

        driver: Driver[Any] = Driver(two, endpoint, on_event)
        port = two.udp(("0.0.0.0", 4040))
        driver.add_port(port)
        await asyncio.sleep(0)
        endpoint.calls.clear()
        raw.send(memoryview(b"question"), 8, ("10.0.0.2", 4040))
        await asyncio.sleep(0.1)
        assert endpoint.calls.count("transmit") == 1
        got = raw.receive()
        assert got is not None
        assert bytes(got[0]) == b"answer"
        raw.close()
        driver.close()

    on_loop(body)


def test_error_in_on_event_reaches_the_loop_and_the_driver_goes_on() -> None:
    async def body(loop: SimLoop, network: SimNetwork) -> None:
        host = quiet_host(network)
        side = Side(host, ("0.0.0.0", 0), answers=False)
        seen: list[Any] = []

        def on_event(event: Any) -> None:
            seen.append(event)
            raise LookupError(event)

        side.driver._on_event = on_event
        side.endpoint.fresh = [("first",), ("second",)]
        side.send(("10.0.0.9", 9), b"x", 1)
        await asyncio.sleep(0.1)
        assert seen == [("first",), ("second",)]
        assert not side.endpoint.queue
        side.driver.close()

    loop = on_loop(body)
    assert [type(context["exception"]) for context in loop.unhandled] == [LookupError, LookupError]


@pytest.mark.parametrize(
    ("call", "which"), [("receive", 1), ("transmit", 1), ("expire", 1), ("deadline", 1), ("deadline", 2)]
)
def test_error_in_the_endpoint_reaches_the_loop_and_the_driver_goes_on(call: str, which: int) -> None:
    async def body(loop: SimLoop, network: SimNetwork) -> None:
        network.default = Link(latency_s=0.01)
        one, two = quiet_host(network), quiet_host(network, "10.0.0.2")
        here, there = Side(one, ("0.0.0.0", 0), answers=False), Side(two, ("0.0.0.0", 0), answers=True)
        there.endpoint.faults[call] = which
        there.endpoint.alarm = two.now() + 0.02
        for _ in range(3):
            here.send(there.remote, b"hello", 5)
            await asyncio.sleep(0.5)
        assert here.bytes == {"receive": 10}.get(call, 15)
        assert "expired" in [event[0] for event in there.events]
        here.driver.close()
        there.driver.close()

    loop = on_loop(body)
    assert [str(context["exception"]) for context in loop.unhandled] == [call]


def test_run_fails_for_an_error_in_on_event() -> None:
    async def main() -> None:
        network = SimNetwork(asyncio.get_running_loop(), seed=1)
        side = Side(quiet_host(network), ("0.0.0.0", 0), answers=False)
        side.driver._on_event = lambda event: 1 // 0
        side.endpoint.fresh = [("event",)]
        await asyncio.sleep(0.1)
        side.driver.close()

    with pytest.raises(SimUnhandled, match="on_event raised"):
        run(main())


def test_turn_within_a_turn_is_refused() -> None:
    async def body(loop: SimLoop, network: SimNetwork) -> None:
        side = Side(quiet_host(network), ("0.0.0.0", 0), answers=False)
        side.driver._on_event = lambda event: side.driver.turn()
        side.endpoint.fresh = [("event",)]
        await asyncio.sleep(0.1)
        side.driver.close()

    loop = on_loop(body)
    assert [type(context["exception"]) for context in loop.unhandled] == [RuntimeError]


def test_removed_port_loses_its_trains_and_its_index() -> None:
    async def body(loop: SimLoop, network: SimNetwork) -> None:
        host = quiet_host(network)
        side = Side(host, ("0.0.0.0", 0), answers=False)
        other = host.udp(("0.0.0.0", 0))
        assert side.driver.add_port(other) == 1
        side.driver.remove_port(1)
        side.endpoint.queue.append((1, ("10.0.0.9", 9), b"x", 1))
        side.send(("10.0.0.9", 9), b"x", 1)
        await asyncio.sleep(0.1)
        assert side.driver.dropped == 1
        assert not side.endpoint.queue
        assert side.driver.add_port(host.udp(("0.0.0.0", 0))) == 2
        with pytest.raises(KeyError):
            side.driver.remove_port(1)
        side.driver.close()

    on_loop(body)


def test_removing_the_port_of_a_parked_train_unblocks_the_others() -> None:
    async def body(loop: SimLoop, network: SimNetwork) -> None:
        host = quiet_host(network)
        side = Side(host, ("0.0.0.0", 0), answers=False)
        index = side.driver.add_port(host.udp(("0.0.0.0", 0)))
        host.full_share = 1.0
        side.endpoint.queue.append((index, ("10.0.0.9", 9), b"parked", 6))
        side.driver.turn()
        assert side.driver.blocked
        host.full_share = 0.0
        side.send(("10.0.0.9", 9), b"behind it", 9)
        side.driver.remove_port(index)
        await asyncio.sleep(0)
        assert not side.driver.blocked
        assert not side.endpoint.queue
        side.driver.close()

    on_loop(body)


def test_events_may_change_ports_and_close_the_driver() -> None:
    async def body(loop: SimLoop, network: SimNetwork) -> None:
        network.default = Link(latency_s=0.01)
        one, two = quiet_host(network), quiet_host(network, "10.0.0.2")
        raw = one.udp(("0.0.0.0", 0))
        side = Side(two, ("0.0.0.0", 4040), answers=True)
        extra = side.driver.add_port(two.udp(("0.0.0.0", 4041)))
        steps = deque([lambda: side.driver.remove_port(extra), side.driver.close])
        side.driver._on_event = lambda event: steps.popleft()()
        raw.send(memoryview(b"a"), 1, ("10.0.0.2", 4041))
        raw.send(memoryview(b"b"), 1, ("10.0.0.2", 4040))
        await asyncio.sleep(0.1)
        assert not steps
        side.driver.wake()
        side.driver.turn()
        await asyncio.sleep(0.1)
        raw.close()

    assert on_loop(body).unhandled == []


def test_close_stops_the_timer_and_closes_the_ports() -> None:
    async def body(loop: SimLoop, network: SimNetwork) -> None:
        host = quiet_host(network)
        side = Side(host, ("0.0.0.0", 4040), answers=False)
        side.endpoint.alarm = host.now() + 1.0
        side.driver.turn()
        side.driver.close()
        side.driver.close()
        host.udp(("0.0.0.0", 4040)).close()
        await asyncio.sleep(2.0)
        assert "expire" not in side.endpoint.calls

    assert on_loop(body).unhandled == []


class Reader:
    """A task that waits for what its side hears and answers each time with `answer`."""

    def __init__(self, side: Side, remote: Remote, answer: bytes) -> None:
        self.waiter = Waiter(asyncio.get_running_loop())
        self.side, self.remote, self.answer = side, remote, answer
        side.driver._on_event = self.on_event
        self.task = asyncio.create_task(self.run())

    def on_event(self, event: Any) -> None:
        if event[0] == "heard" and self.waiter.pending:
            self.waiter.pending = False
            self.side.driver.resume(self.waiter)

    async def run(self) -> None:
        while True:
            self.side.driver.flush()
            await self.waiter
            self.side.endpoint.calls.append("task")
            self.side.send(self.remote, self.answer, len(self.answer))


@worlds
@pytest.mark.parametrize("size", [64, 20_000])
def test_task_answers_within_the_turn_that_woke_it(play: Callable[[Scenario], None], size: int) -> None:
    async def scenario(here: Host, there: Host, bind: Remote) -> None:
        one, two = Side(here, bind, answers=False), Side(there, bind, answers=False)
        reader = Reader(two, one.remote, b"answer")
        await asyncio.sleep(0.05)
        two.endpoint.calls.clear()
        one.send(two.remote, bytes(size), 1000)
        await one.hears(6)
        calls = two.endpoint.calls
        assert calls.count("task") == 1
        first, last = calls.index("receive"), len(calls) - 1 - calls[::-1].index("receive")
        # What came in much is acknowledged before the task sees it, whatever the task then does.
        before = calls[last:].index("task") + last
        assert ("transmit" in calls[first:before]) is (size > 8192)
        assert calls[before + 1] == "transmit"
        reader.task.cancel()
        one.driver.close()
        two.driver.close()

    play(scenario)


def test_task_woken_outside_of_a_turn_goes_on_in_the_next() -> None:
    async def body(_: SimLoop, network: SimNetwork) -> None:
        side = Side(quiet_host(network), ("0.0.0.0", 4040), answers=False)
        reader = Reader(side, ("10.0.0.9", 1), b"answer")
        await asyncio.sleep(0.1)
        side.endpoint.calls.clear()
        side.driver.resume(reader.waiter)
        side.driver.turn()
        assert "task" not in side.endpoint.calls
        await asyncio.sleep(0)
        assert "task" in side.endpoint.calls
        assert not side.endpoint.queue
        reader.task.cancel()
        side.driver.close()

    assert on_loop(body).unhandled == []


def test_task_woken_in_a_turn_that_failed_still_goes_on() -> None:
    async def body(_: SimLoop, network: SimNetwork) -> None:
        side = Side(quiet_host(network), ("0.0.0.0", 4040), answers=False)
        reader = Reader(side, ("10.0.0.9", 1), b"answer")
        await asyncio.sleep(0.1)
        side.endpoint.faults["transmit"] = 1
        side.driver.wake()
        side.driver.resume(reader.waiter)
        side.endpoint.calls.clear()
        await asyncio.sleep(0.1)
        assert "task" in side.endpoint.calls
        reader.task.cancel()
        side.driver.close()

    assert len(on_loop(body).unhandled) == 1


def test_close_lets_woken_tasks_go_on() -> None:
    async def body(_: SimLoop, network: SimNetwork) -> None:
        side = Side(quiet_host(network), ("0.0.0.0", 4040), answers=False)
        one, two = (Waiter(asyncio.get_running_loop()) for _ in range(2))
        tasks = [asyncio.create_task(waits(waiter)) for waiter in (one, two)]
        await asyncio.sleep(0)
        side.driver.resume(one)
        side.driver.close()
        side.driver.resume(two)
        await asyncio.gather(*tasks)

    assert on_loop(body).unhandled == []


async def waits(waiter: Waiter) -> None:
    await waiter


class EchoThread(threading.Thread):
    """Answers every datagram at once, on a socket of its own, until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.remote: Remote = self.socket.getsockname()

    def run(self) -> None:
        while (received := self.socket.recvfrom(2048))[0] != b"stop":
            self.socket.sendto(*received)
        self.socket.close()


def test_turn_goes_on_while_answers_come_at_once() -> None:
    echo = EchoThread()

    async def scenario(here: Host, _: Host, bind: Remote) -> None:
        side = Side(here, bind, answers=False)
        side.endpoint.alarm = here.now() + 100.0  # so that a turn asks for the deadline once, at its end
        reader = Reader(side, echo.remote, b"question")
        echo.start()
        await asyncio.sleep(0.01)
        side.send(echo.remote, b"question", 8)

        calls, loop, found = side.endpoint.calls, asyncio.get_running_loop(), asyncio.Event()

        def look() -> None:
            turns = "".join({"task": "t", "deadline": "|"}.get(call, "") for call in calls).split("|")
            calls.clear()
            assert len(max(turns)) <= ROUNDS
            if "tt" in turns or len(max(turns)) > 2:
                found.set()
            else:
                loop.call_later(0.01, look)

        look()
        await found.wait()
        reader.task.cancel()
        side.driver.close()

    try:
        play_real(scenario)
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"stop", echo.remote)
        echo.join(5)


def test_answer_that_came_in_the_last_round_is_not_left() -> None:
    echo = EchoThread()

    async def scenario(here: Host, _: Host, bind: Remote) -> None:
        side = Side(here, bind, answers=False)
        side.endpoint.alarm = here.now() + 100.0  # nothing else starts a turn
        reader = Reader(side, echo.remote, b"question")
        echo.start()
        await asyncio.sleep(0.01)
        side.driver._luck = 10 * ROUNDS * LUCK
        done, loop = asyncio.Event(), asyncio.get_running_loop()

        def look() -> None:
            if side.endpoint.calls.count("task") >= 10 * ROUNDS:
                done.set()
            else:
                loop.call_later(0.01, look)

        side.send(echo.remote, b"question", 8)
        look()
        await done.wait()
        reader.task.cancel()
        side.driver.close()

    try:
        play_real(scenario)
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"stop", echo.remote)
        echo.join(5)


def test_nobody_waits_for_answers_that_do_not_come() -> None:
    async def scenario(here: Host, _: Host, bind: Remote) -> None:
        silent = here.udp(bind)
        side = Side(here, bind, answers=False)
        reader = Reader(side, silent.local, b"question")
        await asyncio.sleep(0.01)
        side.driver._luck = LUCK
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asks:
            for number in range(LUCK + 3):
                asks.sendto(b"ask", side.remote)
                await asyncio.sleep(0.005)
                assert side.driver._luck == max(LUCK - 1 - number, 0)
        reader.task.cancel()
        side.driver.close()
        silent.close()

    play_real(scenario)
