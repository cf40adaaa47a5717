"""Windows: who gets larger ones, and how much all of them may come to."""

from __future__ import annotations

from covey.base.types import Identity
from covey.core import limits
from covey.core.connection import Connection
from covey.core.stream import Stream
from covey.core.windows import WINDOW_BUDGET, Budget, grown
from tests.core.joint import Awake

MIB = 1 << 20


class Reader:
    """The receiving end of a stream whose peer sends whatever its window lets through."""

    def __init__(self, budget: Budget, *, round_trip: float) -> None:
        self.now = 0.0
        self.connection = Connection(
            Identity(b"\xff" * 32), Identity(bytes(32)), bytes(8), lambda _: None, clock=lambda: self.now, budget=budget
        )
        session = Awake()
        session.round_trip = round_trip
        self.connection.session = session  # type: ignore[assignment]
        self.connection.admit()
        self.arrived = 0
        self.connection.receive_stream(0, 0, memoryview(b"\1s"), False, 1, 0.0)

    @property
    def stream(self) -> Stream:
        return self.connection.streams[0]

    def fill(self) -> None:
        """All that may come comes."""
        stop = min(self.stream.max_receive, self.arrived + self.connection._max_receive - self.connection._received)
        data = memoryview(bytes(stop - 2 - self.arrived))
        self.connection.receive_stream(0, 2 + self.arrived, data, False, 1, self.now)
        self.arrived = stop - 2

    def read_for(self, seconds: float, rate: float, step: float = 0.001) -> None:
        """Reads `rate` bytes a second."""
        end = self.now + seconds
        while self.now < end:
            self.now += step
            self.fill()
            self.stream.read(int(rate * step))


def test_window_of_a_reader_that_keeps_pace_comes_to_a_few_times_what_the_path_holds() -> None:
    reader = Reader(Budget(), round_trip=0.1)
    reader.read_for(2.0, rate=50e6)
    assert 4 * 50e6 * 0.1 <= reader.stream.window <= 8 * 50e6 * 0.1


def test_window_of_a_slow_reader_stays() -> None:
    reader = Reader(Budget(), round_trip=0.1)
    reader.read_for(3.0, rate=1e6)
    assert reader.stream.window == limits.STREAM_WINDOW
    assert reader.connection._window == limits.CONNECTION_WINDOW


def test_window_grows_no_more_once_the_reader_stops() -> None:
    reader = Reader(Budget(), round_trip=0.1)
    reader.read_for(1.0, rate=20e6)
    window = reader.stream.window
    reader.fill()
    reader.now += 10
    reader.fill()
    assert reader.stream.incoming.available <= window
    reader.stream.read(window)
    assert reader.stream.window == window


def test_budget_bounds_all_connections_together_and_is_given_back() -> None:
    budget = Budget(20 * MIB)
    readers = [Reader(budget, round_trip=10.0) for _ in range(3)]
    for reader in readers:
        reader.read_for(0.2, rate=1000e6, step=0.01)
    promised = [reader.connection._window - limits.CONNECTION_WINDOW for reader in readers]
    assert sum(promised) == 20 * MIB - budget.left
    assert 0 < sum(promised) <= 20 * MIB
    assert min(promised) == 0
    for reader in readers:
        reader.connection.lose(0)
    assert budget.left == 20 * MIB


def test_stranger_gets_no_more_however_fast_it_is_read() -> None:
    reader = Reader(Budget(), round_trip=10.0)
    stranger = Connection(reader.connection.local, reader.connection.peer, bytes(8), lambda _: None)
    stranger.session = reader.connection.session
    stranger.receive_stream(0, 0, memoryview(b"\1s"), False, 1, 0.0)
    (stream,) = stranger.streams.values()
    offset = 2
    for _ in range(50):
        data = bytes(stream.max_receive - offset)
        stranger.receive_stream(0, offset, memoryview(data), False, 1, 0.0)
        offset += len(data)
        stream.read()
    assert stream.window == limits.STRANGER_STREAM_WINDOW
    assert stranger._window == limits.STRANGER_CONNECTION_WINDOW


def test_ten_gigabit_with_a_tenth_of_a_second_fit_every_limit() -> None:
    held = 10e9 / 8 * 0.1
    assert min(limits.STREAM_WINDOW_LIMIT, limits.CONNECTION_WINDOW_LIMIT, WINDOW_BUDGET) >= 2 * held
    window = limits.STREAM_WINDOW
    while (more := grown(window, window / 2 / 1.25e9, 0.1, limits.STREAM_WINDOW_LIMIT)) > window:
        window = more
    assert window >= 2 * held
