"""Random programs above two endpoints, and what must hold whatever the wire does to them.

A `Plan` says what one stream carries in each direction, how it is written, read and ended. `Program` plays the plans
of one side; `Scenario` makes plans and faults from a seed, runs them in virtual time and checks:

- every byte arrives exactly once, in order, until its stream ends as planned;
- no window is exceeded, and both sides agree on the connection's credit when all streams are over;
- everything ends in bounded virtual time, no call raises, nothing is left behind.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from covey.base.errors import LimitError
from covey.core.connection import Connection
from covey.core.events import (
    ConnectionClosed,
    ConnectionLive,
    ConnectionStalled,
    DatagramsReceived,
    Event,
    HandshakeFailed,
    StreamOffered,
    StreamReadable,
    StreamReset,
    StreamWritable,
)
from covey.core.path import Route
from covey.core.stream import Stream
from tests.core.pair import Side, Wire


@dataclass
class Half:
    """One direction of a stream."""

    data: bytes
    pieces: Sequence[int]
    """Sizes of writes, cyclic."""
    pause: float = 0.0
    """Seconds between writes; 0: as fast as there is room."""
    read_limit: int = -1
    read_pause: float = 0.0
    """Seconds between reads; 0: as soon as there is something."""
    end: str = "finish"
    """How the writer ends: finish, reset or (never by itself) open."""
    end_at: int = -1
    """Bytes written when it ends; -1: all."""
    stop_at: int = -1
    """Bytes read after which the reader stops reading; -1: never."""
    written: int = 0
    received: int = 0


@dataclass
class Plan:
    number: int
    opener: str
    at: float
    halves: dict[str, Half]
    """By the name of the writer."""
    min_epoch: int = 1
    streams: dict[str, Stream] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    """By the side's name: how the stream ended for its program."""
    abrupt: bool = False
    """Somebody resets or stops: bytes may be missing at the end, never in the middle."""


class Program:
    """Plays plans on one side."""

    def __init__(self, side: Side, peer: Side, plans: dict[int, Plan], routes: Callable[[], list[Route]]) -> None:
        self.side, self.peer, self.plans, self.routes = side, peer, plans, routes
        self.wire: Wire = side.wire
        self.admit = True
        self.direct = False
        self.live = False
        self.closed: list[ConnectionClosed] = []
        self.datagrams: list[bytes] = []
        self.reconnects = 0
        self.waiting: list[Plan] = []
        self.violations: list[str] = []
        self.retrying = False
        side.on_event = self.on_event

    @property
    def name(self) -> str:
        return self.side.name

    def connect(self) -> Connection:
        return self.side.connect(self.peer, *self.routes())

    def open(self, plan: Plan) -> None:
        connection = self.side.endpoint.connections.get(self.peer.identity) or self.connect()
        try:
            stream = connection.open(f"s{plan.number}", min_epoch=plan.min_epoch)
        except LimitError:
            self.wire.after(0.2, lambda: self.open(plan))
            return
        plan.streams[self.name] = stream
        self._write(plan, stream)

    def on_event(self, event: Event) -> None:
        match event:
            case ConnectionLive(connection, _):
                self.live = True
                if self.admit:
                    connection.admit(direct=self.direct)
            case ConnectionStalled(connection):
                if not connection.closed:
                    self.reconnects += 1
                    self.connect()
            case HandshakeFailed():
                if not self.retrying:
                    self.retrying = True
                    self.wire.after(1.0, self._retry)
            case ConnectionClosed():
                self.closed.append(event)
            case StreamOffered(stream):
                plan = self.plans[int(stream.service[1:])]
                if self.name in plan.streams:
                    self.violations.append(f"stream {plan.number} offered twice")
                plan.streams[self.name] = stream
                self._write(plan, stream)
            case StreamReadable(stream):
                self._read(self._plan(stream), stream)
            case StreamWritable(stream):
                self._write(self._plan(stream), stream)
            case StreamReset(stream, code):
                plan = self._plan(stream)
                plan.ended.setdefault(self.name, f"reset {code}")
                # As a program does that was told its stream is over.
                stream.reset()
            case DatagramsReceived(_, datagrams):
                self.datagrams.extend(datagrams)
            case _:
                pass
        self.check_windows()

    def check_windows(self) -> None:
        connection = self.side.endpoint.connections.get(self.peer.identity)
        if connection is None:
            return
        if connection._received - connection._consumed > connection._window:
            self.violations.append("more than the connection's window waits")
        for stream in connection.streams.values():
            incoming = stream.incoming
            kept = sum(len(piece) for run in incoming._runs for piece in run) + incoming.available
            if kept > stream.window:
                self.violations.append(f"{kept} bytes wait in a window of {stream.window}")
            if stream.outgoing.held > 5 * 1024 * 1024 + 65_536:
                self.violations.append(f"{stream.outgoing.held} bytes held for sending")

    def _retry(self) -> None:
        self.retrying = False
        connection = self.side.endpoint.connections.get(self.peer.identity)
        if connection is None or connection.session is None or connection.stalled_at is not None:
            self.connect()

    def _plan(self, stream: Stream) -> Plan:
        plan = self.plans[int(stream.service[1:])]
        if plan.streams.get(self.name) is not stream:
            self.violations.append(f"an event of a foreign stream {stream.service}")
        return plan

    def _write(self, plan: Plan, stream: Stream) -> None:
        half = plan.halves[self.name]
        last = len(half.data) if half.end_at < 0 else half.end_at
        while True:
            if stream.finished or stream.reset_code is not None or stream.closed or stream.failed is not None:
                return
            if half.written >= last:
                if half.end == "finish":
                    stream.finish()
                elif half.end == "reset":
                    plan.ended.setdefault(self.name, "reset by itself")
                    stream.reset(3)
                return
            room = stream.writable
            if not room:
                return
            size = min(half.pieces[half.written % len(half.pieces)], last - half.written, room)
            stream.write(half.data[half.written : half.written + size])
            half.written += size
            if half.pause:
                self.wire.after(half.pause, lambda: self._write(plan, stream))
                return

    def _read(self, plan: Plan, stream: Stream) -> None:
        half = plan.halves[self.peer.name]
        if half.read_pause:
            self.wire.after(half.read_pause, lambda: self._take(plan, stream, again=True))
        else:
            while self._take(plan, stream, again=False):
                pass

    def _take(self, plan: Plan, stream: Stream, *, again: bool) -> bool:
        half = plan.halves[self.peer.name]
        data = stream.read(half.read_limit)
        if half.data[half.received : half.received + len(data)] != data:
            self.violations.append(f"stream {plan.number} to {self.name}: wrong bytes at {half.received}")
        half.received += len(data)
        if 0 <= half.stop_at <= half.received and not stream.quiet:
            plan.ended.setdefault(self.name, "stopped")
            stream.stop(5)
            return False
        if stream.at_end:
            plan.ended.setdefault(self.name, "end")
            return False
        if data and again:
            self.wire.after(half.read_pause, lambda: self._take(plan, stream, again=True))
        return bool(data)


class Scenario:
    """Two sides with random programs on a random wire."""

    def __init__(
        self, seed: int, *, total: int = 400_000, faults: Sequence[str] = (), wire: Wire | None = None
    ) -> None:
        self.random = random.Random(f"scenario {seed}")
        choose = self.random.choice
        self.seed = seed
        self.wire = wire or Wire(
            seed,
            delay=choose([0.0, 0.0005, 0.01, 0.01, 0.05, 0.2]),
            jitter=choose([0.0, 0.0, 0.005, 0.05]),
            loss=choose([0.0, 0.0, 0.01, 0.05, 0.2]),
            duplicate=choose([0.0, 0.0, 0.1]),
            corrupt=choose([0.0, 0.0, 0.05]),
            mtu=choose([65_535, 65_535, 1452, 1300, 1200]),
        )
        self.impairments = (
            f"delay {self.wire.delay} jitter {self.wire.jitter} loss {self.wire.loss} "
            f"duplicate {self.wire.duplicate} corrupt {self.wire.corrupt} mtu {self.wire.mtu}"
        )
        self.total = total
        self.faults = list(faults)
        self.settling = False
        self.a = self.wire.side("a", ("10.0.0.1", 4000))
        self.b = self.wire.side("b", ("10.0.0.2", 4000))
        self.plans: dict[int, Plan] = {}
        self.programs = [
            Program(self.a, self.b, self.plans, lambda: [Route(0, self.b.address)]),
            Program(self.b, self.a, self.plans, lambda: [Route(0, self.a.address)]),
        ]
        for program in self.programs:
            program.admit = self.random.random() < 0.8

    def __repr__(self) -> str:
        return f"seed {self.seed}: {self.impairments} faults {self.faults}"

    def half(self, size: int) -> Half:
        rnd = self.random
        pieces: Sequence[int] = rnd.choice([[1], [1, 100, 3000], [16_384], [70_000], [1_000_000], [1200]])
        if size > 20_000 and pieces == [1]:
            pieces = [1, 5000]
        slow = rnd.random() < 0.2
        return Half(
            rnd.randbytes(size),
            pieces,
            pause=rnd.choice([0.0, 0.0, 0.0, 0.01]) if size // pieces[-1] < 1000 else 0.0,
            read_limit=rnd.choice([-1, -1, 1000, 65_536]) if not slow else 20_000,
            read_pause=rnd.choice([0.05, 0.5]) if slow else 0.0,
        )

    def plan(self, number: int, size: int, *, abrupt: bool) -> Plan:
        rnd = self.random
        opener = rnd.choice("ab")
        halves = {name: self.half(rnd.choice([0, 1, size // 10, size])) for name in "ab"}
        spread = 300.0 if "long" in self.faults else 30.0 if self.faults else 5.0
        plan = Plan(number, opener, rnd.choice([0.0, 0.0, rnd.random(), spread * rnd.random()]), halves)
        plan.min_epoch = rnd.choice([0, 1, 1])
        if abrupt:
            plan.abrupt = True
            half = halves[rnd.choice("ab")]
            at = rnd.randrange(len(half.data) + 1)
            if rnd.random() < 0.5:
                half.end, half.end_at = "reset", at
            else:
                half.stop_at = at
        return plan

    def make(self) -> None:
        rnd = self.random
        count = rnd.choice([1, 2, 5, 20])
        for number in range(count):
            size = rnd.choice([10, 1000, 30_000, self.total // count])
            self.plans[number] = self.plan(number, size, abrupt=rnd.random() < 0.25)

    def program(self, name: str) -> Program:
        return self.programs[0 if name == "a" else 1]

    @property
    def over(self) -> bool:
        # A stream that was reset before its name left is never offered: then one side alone knows of it.
        return all(
            plan.streams and (len(plan.ended) == 2 or plan.abrupt) and all(s.closed for s in plan.streams.values())
            for plan in self.plans.values()
        )

    # --- faults --------------------------------------------------------------------------------------------------

    def _block(self, seconds: float, *, both: bool = True) -> None:
        deaf = self.random.choice([self.a, self.b])

        def begin() -> None:
            if self.settling:
                return
            self.wire.blocked = lambda source, target: both or target == deaf.address
            self.wire.after(seconds, end)

        def end() -> None:
            self.wire.blocked = lambda source, target: False

        self.wire.after(self.random.choice([0.0, 0.02, 0.3, 2.0, 20.0]) * self.random.random(), begin)

    def fault_short(self) -> None:
        self._block(1.0)

    def fault_block(self) -> None:
        self._block(10.0)

    def fault_deaf(self) -> None:
        self._block(10.0, both=False)

    def fault_long(self) -> None:
        self._block(240.0)

    def fault_move(self) -> None:
        """A NAT forgets its mappings: the same side appears at other addresses."""
        side = self.random.choice([self.a, self.b])
        at = self.random.random()
        for number in range(self.random.choice([1, 1, 3])):
            at += 3 * self.random.random() ** 2
            self.wire.after(at, lambda number=number: self.settling or side.move((side.address[0], 5000 + number)))

    def run(self, limit: float = 2000.0) -> None:
        for plan in self.plans.values():
            self.wire.after(plan.at, lambda plan=plan: self.program(plan.opener).open(plan))
        starts = self.random.choice(["a", "b", "ab"])
        for name in starts:
            self.program(name).connect()
        if self.faults:
            # Not before: a connection that was never there is given up after 15 seconds, with its streams.
            assert self.wire.run(60.0, until=lambda: all(program.live for program in self.programs)), f"{self!r}"
            for fault in self.faults:
                getattr(self, f"fault_{fault}")()
        done = self.wire.run(limit, until=lambda: self.over)
        self.check()
        assert done, f"{self!r} hangs: {self.state()}"
        self.settle()

    def state(self) -> str:
        lines = []
        for plan in self.plans.values():
            if len(plan.ended) < 2 or not all(stream.closed for stream in plan.streams.values()):
                lines.append(
                    f"{plan.number} by {plan.opener} ended {plan.ended} "
                    + " ".join(
                        f"{name}: wrote {half.written}/{len(half.data)} peer read {half.received}"
                        for name, half in plan.halves.items()
                    )
                )
        for program in self.programs:
            connection = program.side.endpoint.connections.get(program.peer.identity)
            lines.append(
                f"{program.name}: {connection and connection.session} sessions "
                f"{len(program.side.endpoint._sessions)} reconnects {program.reconnects}"
            )
        return "\n".join(lines)

    def check(self) -> None:
        for program in self.programs:
            assert not program.violations, f"{self!r}: {program.name} {program.violations[:3]}"
            assert not program.closed, f"{self!r}: {program.name} {program.closed}"
        for plan in self.plans.values():
            for name, half in plan.halves.items():
                peer = "b" if name == "a" else "a"
                if not plan.abrupt and len(plan.ended) == 2:
                    assert plan.ended[peer] == "end", f"{self!r}: stream {plan.number} {plan.ended}"
                    assert half.received == len(half.data), f"{self!r}: stream {plan.number} to {peer}"

    def settle(self) -> None:
        """Nothing is left: not while connected, not after closing."""
        self.settling = True
        self.wire.blocked = lambda source, target: False
        self.wire.loss = self.wire.corrupt = 0.0
        self.wire.run(30.0)
        self.check()
        a, b = (program.side.endpoint.connections.get(program.peer.identity) for program in self.programs)
        assert a is not None
        assert b is not None
        for connection in (a, b):
            left = [stream.service for stream in connection.streams.values()]
            assert not left, f"{self!r}: streams left {left}\n{self.state()}"
        assert a._sent == b._received == b._consumed, f"{self!r}: {a._sent} {b._received} {b._consumed}"
        assert b._sent == a._received == a._consumed, f"{self!r}: {b._sent} {a._received} {a._consumed}"
        for program in self.programs:
            endpoint = program.side.endpoint
            assert len(endpoint._sessions) <= 1, f"{self!r}: sessions left"
            for session in endpoint._sessions.values():
                for path in session.paths:
                    assert path.recovery.congestion.in_flight == sum(run.bytes for run in path.recovery._sent)
        self.a.endpoint.close(self.wire.now, a)
        self.wire.run(1.0)
        if not b.closed:
            # There were no keys to tell it with, or it did not share them.
            self.b.endpoint.close(self.wire.now, b)
        self.wire.run(1200.0)
        for program in self.programs:
            check_empty(program.side)


def check_empty(side: Side) -> None:
    endpoint = side.endpoint
    left = {
        "sessions": len(endpoint._sessions) + len(endpoint.sessions.by_peer) + len(endpoint.sessions.half_open),
        "strangers": len(endpoint.sessions.strangers),
        "connections": len(endpoint.connections),
        "attempts": endpoint.handshakes.attempts,
        "half-open": endpoint.handshakes.half_open,
        "ready": len(endpoint._ready),
        "queue": len(endpoint._queue),
        "touched": 0 if endpoint._schedule.settled else 1,
        "heap": max(0, len(endpoint._schedule) - 128),
    }
    assert not any(left.values()), f"{side.name}: left behind {left}"
