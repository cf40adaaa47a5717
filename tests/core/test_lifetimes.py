"""Random scripts over two endpoints and a stranger: nothing lost, nothing twice, nothing to another.

A script is a list of steps: say something on a stream, break the wire, let time pass, move, ratchet, run the handshake
again, rotate keys, crash, set a wall clock. Streams that a crash, an expired certificate or a peer that was never there
ended are begun anew, as a program does; what was said on them arrived up to some point, in order and once.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from covey.core.connection import Connection
from covey.core.events import (
    ConnectionLive,
    ConnectionStalled,
    Event,
    HandshakeFailed,
    StreamOffered,
    StreamReadable,
    StreamReset,
)
from covey.core.limits import Lifetimes
from covey.core.path import Route
from covey.core.stream import Stream, StreamCode
from covey.crypto.certificates import SECOND_US
from covey.crypto.renewal import renewed
from tests.core.pair import Side, Wire

HOUR = 3600.0
SHORT = Lifetimes(rekey_packets=400, hard_packets=1000, epochs=12, path_ids=24, renew_seconds=2 * HOUR)
"""So that every limit is reached within a script."""


@dataclass
class Line:
    """Everything that one side says to the other, on one stream after another."""

    source: str
    streams: list[Stream] = field(default_factory=list)
    said: list[bytearray] = field(default_factory=list)
    heard: dict[int, bytearray] = field(default_factory=dict)
    """By the number in the service name: the place in `said`."""


class Talk:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.wire = Wire(seed, delay=0.02, jitter=0.01, lifetimes=SHORT)
        self.sides = {name: self.wire.side(name, (f"10.0.0.{number}", 4000)) for number, name in enumerate("ab", 1)}
        self.lines = {name: Line(name) for name in "ab"}
        self.stranger = self.wire.side("stranger", ("10.0.0.66", 4000))
        self.ports = itertools.count(5000)
        self.problems: list[str] = []
        self.excused = False
        """Something may have ended a connection: a crash, or a clock so wrong that keys were replaced in vain."""
        self.last_said = 0.0
        for name, side in self.sides.items():
            self.attach(name, side)
            self.upkeep(name)
        self.stranger.on_event = self.never
        self.wire.run(1)

    # --- the programs -------------------------------------------------------------------------------------------------

    def other(self, name: str) -> Side:
        return self.sides["b" if name == "a" else "a"]

    def attach(self, name: str, side: Side) -> None:
        side.on_event = lambda event: self.on_event(name, event)
        side.endpoint.pin(self.other(name).identity)

    def never(self, event: Event) -> None:
        if isinstance(event, StreamOffered | StreamReadable):
            self.problems.append(f"the stranger got {event}")

    def on_event(self, name: str, event: Event) -> None:
        side, line = self.sides[name], self.lines["b" if name == "a" else "a"]
        match event:
            case ConnectionLive(connection, _):
                if connection.peer == self.other(name).identity:
                    connection.admit(direct=False)
            case ConnectionStalled(connection):
                if not connection.closed and connection.peer == self.other(name).identity:
                    self.connect(name)
            case HandshakeFailed():
                self.wire.after(2.0, lambda: self.again(name))
            case StreamOffered(stream):
                place = int(stream.service)
                if place in line.heard:
                    self.problems.append(f"stream {place} of {line.source} was offered twice")
                line.heard[place] = bytearray()
            case StreamReadable(stream):
                if stream.service and int(stream.service) in line.heard and not stream.opener:
                    line.heard[int(stream.service)] += stream.read()
            case StreamReset(stream, code):
                never_there = code == StreamCode.CANCELLED and not stream.connection.live
                forgotten = code == StreamCode.LOST_STATE and self.wire.now - self.last_said > 23 * HOUR
                lost = code in (StreamCode.LOST_STATE, StreamCode.NOT_VERIFIED) and self.excused
                if not (never_there or forgotten or lost):
                    self.problems.append(f"{name}: reset {code}")
        if side.endpoint.connections.keys() - {self.other(name).identity, self.stranger.identity}:
            self.problems.append(f"{name} is connected with nobody we know")

    def connect(self, name: str) -> Connection:
        return self.sides[name].connect(self.other(name))

    def again(self, name: str) -> None:
        """Something was said and nobody is there to hear it."""
        line = self.lines[name]
        connection = self.sides[name].endpoint.connections.get(self.other(name).identity)
        away = connection is None or connection.session is None or connection.stalled_at is not None
        if away and line.streams and not line.streams[-1].closed:
            self.connect(name)

    def upkeep(self, name: str) -> None:
        side = self.sides[name]
        fresh = renewed(side.credentials, self.random.randbytes, side.wall())
        if fresh is not side.credentials:
            side.adopt(fresh)
        self.wire.after(60.0, lambda: self.upkeep(name))

    # --- steps --------------------------------------------------------------------------------------------------------

    def send(self, name: str, size: int) -> None:
        line = self.lines[name]
        if not line.streams or line.streams[-1].closed or line.streams[-1].failed is not None:
            connection = self.connect(name)
            line.streams.append(connection.open(str(len(line.said))))
            line.said.append(bytearray())
        data = self.random.randbytes(size)
        line.streams[-1].write(data)
        self.last_said = self.wire.now
        line.said[-1] += data

    def drop(self, name: str, seconds: float) -> None:
        side = self.sides[name]
        self.wire.blocked = lambda source, target: side.address in (source, target)
        self.wire.run(seconds)
        self.wire.blocked = lambda source, target: False

    def mangle(self, loss: float, duplicate: float) -> None:
        self.wire.loss, self.wire.duplicate, self.wire.jitter = loss, duplicate, 0.2
        self.wire.run(10.0)
        self.wire.loss = self.wire.duplicate = 0.0
        self.wire.jitter = 0.01

    def move(self, name: str) -> None:
        side = self.sides[name]
        side.move((side.address[0], next(self.ports)))
        self.wire.run(3.0)

    def ratchet(self, name: str) -> None:
        for session in self.sides[name].endpoint._sessions.values():
            if session.initiator and session.epochs.due(session.epochs.rekey_at):
                session.start_ratchet()
        self.wire.run(0.1)

    def rerun(self, name: str) -> None:
        side = self.sides[name]
        connection = side.endpoint.connections.get(self.other(name).identity)
        if connection is not None and connection.session is not None:
            side.endpoint.sessions.renewals.want(connection.session)
        self.wire.run(0.5)

    def rotate(self, name: str) -> None:
        side = self.sides[name]
        side.adopt(side.credentials.rotate_transport(self.random.randbytes(32), side.wall()))
        self.wire.run(0.1)

    def crash(self, name: str) -> None:
        """The process dies and comes back with its keys, its pins and its last timestamp."""
        self.excused = True
        side = self.sides[name]
        last = side.endpoint.handshakes.last_timestamp
        side.restart()
        side.endpoint.handshakes.last_timestamp = last
        self.attach(name, side)
        self.lines[name].streams = [stream for stream in self.lines[name].streams if stream.closed]
        self.wire.run(0.5)

    def clock(self, name: str, seconds: float) -> None:
        self.excused = self.excused or abs(seconds) > 600.0
        self.sides[name].clock_error_us = round(seconds * SECOND_US)
        self.wire.run(1.0)

    def meddle(self, name: str) -> None:
        """Somebody with another identity calls one side, and sends rubbish to the other."""
        side = self.sides[name]
        self.stranger.endpoint.connect(self.wire.now, self.other(name).target, [Route(0, self.other(name).address)])
        self.wire.inject(self.stranger.address, side.address, self.random.randbytes(1200))
        self.wire.run(0.5)

    def wait(self, seconds: float) -> None:
        self.wire.run(seconds)

    # --- the end ------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        for side in self.sides.values():
            side.clock_error_us = 0
        self.wire.run(130.0)  # upkeep has replaced what a wrong clock made
        for _ in range(3):
            for name in self.sides:
                self.send(name, 100)
            # A stream may learn only now that the other side has crashed; then what was said on it is said anew.
            if self.wire.run(300.0, until=self.told):
                break
        assert self.told(), self.state()
        assert not self.problems, self.problems
        for line in self.lines.values():
            for place, heard in line.heard.items():
                said = line.said[place]
                assert said[: len(heard)] == heard, f"{line.source} {place}: other bytes than were said"
            assert len(line.heard) <= len(line.said)

    def told(self) -> bool:
        return all(line.heard.get(len(line.said) - 1) == line.said[-1] for line in self.lines.values())

    def state(self) -> str:
        return "; ".join(
            f"{name}: said {[len(each) for each in line.said]} heard { ({k: len(v) for k, v in line.heard.items()}) }"
            for name, line in self.lines.items()
        )


NAMES = st.sampled_from("ab")
JUMPS = st.sampled_from([0.0, 500.0, -500.0, HOUR, -HOUR, 24 * HOUR, -24 * HOUR, 365 * 24 * HOUR, -365 * 24 * HOUR])
STEPS = st.one_of(
    st.tuples(st.just("send"), NAMES, st.sampled_from([1, 100, 5000, 100_000])),
    st.tuples(st.just("drop"), NAMES, st.sampled_from([0.1, 2.0, 30.0, 200.0])),
    st.tuples(st.just("mangle"), st.sampled_from([0.05, 0.3]), st.sampled_from([0.0, 0.3])),
    st.tuples(st.just("wait"), st.sampled_from([0.01, 1.0, 20.0, 130.0, 1000.0, HOUR, 5 * HOUR, 20 * HOUR])),
    st.tuples(st.sampled_from(["move", "ratchet", "rerun", "rotate", "crash", "meddle"]), NAMES),
    st.tuples(st.just("clock"), NAMES, JUMPS),
)


def play(seed: int, script: list[tuple]) -> None:  # type: ignore[type-arg]
    talk = Talk(seed)
    for step, *arguments in script:
        getattr(talk, step)(*arguments)
    talk.finish()


RANDOM = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
SCRIPTS = st.lists(STEPS, max_size=25)


@pytest.mark.timeout(600)
@RANDOM
@given(seed=st.integers(0, 1000), script=SCRIPTS)
def test_whatever_happens_nothing_is_lost_repeated_or_told_to_another(seed: int, script: list[tuple]) -> None:  # type: ignore[type-arg]
    play(seed, script)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@settings(RANDOM, max_examples=1000, derandomize=False, phases=list(Phase))
@given(seed=st.integers(0, 1_000_000), script=SCRIPTS)
def test_whatever_happens_at_length(seed: int, script: list[tuple]) -> None:  # type: ignore[type-arg]
    play(seed, script)
