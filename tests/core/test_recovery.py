from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.core.cubic import Cubic
from covey.core.recovery import PACKET_THRESHOLD, Recovery, Sent
from covey.core.rtt import PTO_LIMIT

SIZE = 1200
CHUNK = 1000
STREAM = object()


def run(first: int, count: int, time: float = 0.0, *, offset: int | None = None, fin: bool = False) -> Sent:
    """Bulk: every datagram carries CHUNK bytes, the last one 300; the last datagram is shorter on the wire, too."""
    offset = first * CHUNK if offset is None else offset
    length = (count - 1) * CHUNK + 300
    return Sent(
        first,
        count,
        time,
        SIZE,
        500,
        stream=STREAM,
        offset=offset,
        chunk=CHUNK,
        length=length,
        fin=fin,  # type: ignore[arg-type]
    )


@dataclass(frozen=True, order=True)
class Packet:
    """One datagram of the model."""

    counter: int
    offset: int
    length: int
    fin: bool
    size: int


def packets(runs: list[Sent]) -> list[Packet]:
    """Every datagram of the runs, one by one."""
    found = []
    for each in runs:
        for number in range(each.count):
            last = number == each.count - 1
            start = each.offset + number * each.chunk
            length = each.length - number * each.chunk if last else each.chunk
            found.append(
                Packet(each.first + number, start, length, each.fin and last, each.last_size if last else each.size)
            )
    return sorted(found)


@given(st.integers(1, 12), st.data())
def test_parts_of_a_run_are_what_its_datagrams_were(count: int, data: st.DataObject) -> None:
    whole = run(5, count, fin=True)
    start = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(start + 1, count))
    part = whole.part(start, stop)
    assert packets([part]) == packets([whole])[start:stop]
    assert part.bytes == sum(packet.size for packet in packets([part]))


class Model:
    """Recovery beside one entry per datagram: what RFC 9002 says, without runs."""

    def __init__(self) -> None:
        self.recovery = Recovery(Cubic(SIZE))
        self.flying: dict[int, tuple[Packet, float]] = {}
        self.largest = -1
        self.next = 0

    def send(self, now: float, count: int, skip: int = 0) -> None:
        self.next += skip  # acknowledgements alone use counters that nobody waits for
        sent = run(self.next, count, now)
        self.recovery.on_sent(sent)
        for packet in packets([sent]):
            self.flying[packet.counter] = (packet, now)
        self.next += count

    def acknowledge(self, now: float, counters: set[int]) -> tuple[list[Packet], list[Packet]]:
        ranges: list[tuple[int, int]] = []
        for counter in sorted(counters, reverse=True):
            if ranges and ranges[-1][0] == counter + 1:
                ranges[-1] = (counter, ranges[-1][1])
            else:
                ranges.append((counter, counter))
        acked, lost = self.recovery.on_ack(now, ranges, 0.0)
        expected = sorted(self.flying.pop(counter)[0] for counter in counters if counter in self.flying)
        assert packets(acked) == expected
        if expected:
            self.largest = max(self.largest, expected[-1].counter)
            assert packets(lost) == self.lose(now)
        else:
            # Nothing new was said.
            for packet in packets(lost):
                assert packet in [each for each, _ in self.flying.values()]
                del self.flying[packet.counter]
        self.check()
        return packets(acked), packets(lost)

    def lose(self, now: float) -> list[Packet]:
        delay = self.recovery.rtt.loss_delay(self.recovery.patience)
        gone = [
            packet
            for packet, time in self.flying.values()
            if packet.counter < self.largest
            and (packet.counter <= self.largest - self.recovery.threshold or time + delay <= now)
        ]
        for packet in gone:
            del self.flying[packet.counter]
        return sorted(gone)

    def expire(self, now: float) -> None:
        lost = self.recovery.on_deadline(now)
        if lost:
            assert packets(lost) == self.lose(now)
        self.check()

    def check(self) -> None:
        recovery = self.recovery
        assert packets(list(recovery._sent)) == sorted(packet for packet, _ in self.flying.values())
        assert recovery.congestion.in_flight == sum(packet.size for packet, _ in self.flying.values())
        assert recovery.outstanding == bool(self.flying)
        assert (recovery.deadline() is not None) == bool(self.flying)
        assert (recovery.oldest_unacked_at is None) == (not self.flying)


@pytest.mark.parametrize("seed", range(60))
def test_runs_are_acknowledged_and_lost_as_single_packets_would_be(seed: int) -> None:
    source = random.Random(seed)
    model, now = Model(), 0.0
    received: set[int] = set()
    for _ in range(60):
        now += source.choice([0.0, 0.001, 0.02, 0.3])
        action = source.random()
        if action < 0.45:
            model.send(now, source.choice([1, 1, 2, 5, 20, 45]), skip=source.choice([0, 0, 1, 3]))
        elif action < 0.9 and model.next:
            # As a peer does: all it has got, with holes.
            received |= {counter for counter in range(model.next) if source.random() < 0.6}
            if received:
                model.acknowledge(now, received)
        elif model.recovery.deadline() is not None:
            now = max(now, model.recovery.deadline())
            model.expire(now)
    if model.next:
        now += 1
        model.acknowledge(now, set(range(model.next)))
    assert not model.recovery.outstanding
    assert model.recovery.congestion.in_flight == 0


def late(recovery: Recovery, *counters: int, now: float = 0.1) -> None:
    """What was declared lost is acknowledged after all."""
    recovery.on_ack(now, [(counter, counter) for counter in sorted(counters, reverse=True)], 0.0)


def test_loss_detection_waits_longer_on_a_path_that_reorders() -> None:
    recovery = Recovery(Cubic(SIZE))
    assert recovery.threshold == PACKET_THRESHOLD
    recovery.on_sent(run(0, 30, 0.0))
    _, lost = recovery.on_ack(0.05, [(10, 12)], 0.0)
    assert packets(lost)[0].counter == 0
    late(recovery, 12, 0)
    assert recovery.threshold == 13
    assert recovery.patience > 1.125
    recovery.on_sent(run(30, 30, 0.2))
    _, lost = recovery.on_ack(0.25, [(40, 42)], 0.0)
    assert max(packet.counter for packet in packets(lost)) == 42 - 13


def test_reduction_is_taken_back_when_everything_was_only_late() -> None:
    recovery = Recovery(Cubic(SIZE))
    window = recovery.congestion.window
    recovery.on_sent(run(0, 10, 0.0))
    recovery.on_ack(0.05, [(5, 9)], 0.0)
    assert recovery.congestion.window < window
    late(recovery, 0, 1, 2)
    assert recovery.congestion.window < window
    late(recovery, 3, 4)
    assert recovery.congestion.window >= window
    assert recovery.congestion.slow_start


def test_reduction_stands_when_one_packet_never_comes() -> None:
    recovery = Recovery(Cubic(SIZE))
    window = recovery.congestion.window
    recovery.on_sent(run(0, 10, 0.0))
    recovery.on_ack(0.05, [(5, 9)], 0.0)
    late(recovery, 0, 1, 2, 4)
    assert recovery.congestion.window < window


def test_acknowledgement_long_after_the_loss_proves_nothing() -> None:
    recovery = Recovery(Cubic(SIZE))
    recovery.on_sent(run(0, 10, 0.0))
    recovery.on_ack(0.05, [(5, 9)], 0.0)
    late(recovery, 0, 1, 2, 3, 4, now=5.0)
    assert recovery.threshold == PACKET_THRESHOLD


def test_acknowledgements_of_every_other_packet_leave_few_runs_however_patient_we_are() -> None:
    """Every acknowledgement looks at all runs: a peer must not be able to cut what is in flight into thousands."""
    recovery = Recovery(Cubic(SIZE))
    recovery.threshold = 4096
    for first in range(0, 8000, 40):
        recovery.on_sent(run(first, 40))
    acked: list[Sent] = []
    lost: list[Sent] = []
    most = 0
    for top in range(63, 8000, 64):
        counters = range(top, top - 64, -2)
        for got, into in zip(recovery.on_ack(0.01, [(at, at) for at in counters], 0.0), (acked, lost), strict=True):
            into += got
        most = max(most, len(recovery._sent))
    assert most <= 200 + 256 + 64
    left = recovery.abandon()
    assert len(packets(acked)) == 4000
    assert packets(acked + lost + left) == packets([run(first, 40) for first in range(0, 8000, 40)])
    assert recovery.congestion.in_flight == 0


def test_loss_detection_never_waits_for_ever() -> None:
    recovery = Recovery(Cubic(SIZE))
    now, first = 0.0, 0
    for _ in range(60):
        recovery.on_sent(run(first, 5000, now))
        recovery.on_ack(now + 0.05, [(first + 4990, first + 4999)], 0.0)
        late(recovery, first, now=now + 0.06)
        now += 1.0
        first += 5000
    assert recovery.threshold <= 4096
    assert recovery.patience <= 2.0


@pytest.mark.parametrize(
    ("acked", "lost"),
    [([0], []), ([1], []), ([2], []), ([3], [0]), ([4], [0, 1]), ([2, 4], [0, 1]), ([0, 1, 2, 3, 9], [4, 5, 6])],
)
def test_packet_is_lost_when_one_three_later_arrived(acked: list[int], lost: list[int]) -> None:
    model = Model()
    model.send(0.0, 10)
    _, gone = model.acknowledge(0.001, set(acked))
    assert [packet.counter for packet in gone] == lost


def test_packet_is_lost_after_nine_eighths_of_a_round_trip() -> None:
    model = Model()
    model.send(0.0, 1)
    model.send(0.005, 1)
    model.acknowledge(0.105, {1})
    assert model.recovery.deadline() == pytest.approx(0.1 * 1.125)
    assert [each.first for each in model.recovery.on_deadline(0.1126)] == [0]


def test_probe_timeout_doubles_and_is_bounded() -> None:
    recovery = Recovery(Cubic(SIZE))
    recovery.on_sent(run(0, 1, 0.0))
    gaps, now = [], 0.0
    for _ in range(8):
        at = recovery.deadline()
        assert at is not None
        gaps.append(round(at - now, 6))
        now = at
        assert recovery.on_deadline(now) == []
        assert recovery.probes == 2
    first = round(recovery.rtt.pto(), 6)
    assert gaps[:2] == [pytest.approx(first), pytest.approx(min(2 * first, PTO_LIMIT))]
    assert gaps[-1] == PTO_LIMIT


def test_probe_timeout_is_forgotten_with_the_next_acknowledgement() -> None:
    recovery = Recovery(Cubic(SIZE))
    recovery.on_sent(run(0, 1, 0.0))
    recovery.on_deadline(1.0)
    recovery.on_sent(run(1, 1, 1.0))
    recovery.on_ack(1.1, [(1, 1)], 0.0)
    assert recovery.pto_count == 0


def test_third_probe_timeout_is_persistent_congestion() -> None:
    recovery = Recovery(Cubic(SIZE))
    recovery.on_sent(run(0, 1, 0.0))
    for now in (1.0, 2.0):
        recovery.on_deadline(now)
    assert recovery.congestion.window > 2 * SIZE
    recovery.on_deadline(3.0)
    assert recovery.congestion.window == 2 * SIZE


def test_acknowledgement_of_counters_that_were_never_sent_matches_nothing() -> None:
    recovery = Recovery(Cubic(SIZE))
    recovery.on_sent(run(10, 2, 0.0))
    assert recovery.on_ack(0.1, [(0, 9)], 0.0) == ([], [])
    assert recovery.on_ack(0.1, [(12, 20)], 0.0)[0] == []
    assert recovery.outstanding


def test_acknowledgement_again_changes_nothing() -> None:
    recovery = Recovery(Cubic(SIZE))
    recovery.on_sent(run(0, 5, 0.0))
    recovery.on_ack(0.1, [(0, 4)], 0.0)
    smoothed = recovery.rtt.smoothed
    assert recovery.on_ack(0.9, [(0, 4)], 0.0) == ([], [])
    assert recovery.rtt.smoothed == smoothed


def test_round_trip_is_measured_on_the_largest_acknowledged_alone() -> None:
    recovery = Recovery(Cubic(SIZE))
    recovery.on_sent(run(0, 1, 0.0))
    recovery.on_sent(run(1, 1, 0.5))
    recovery.on_ack(0.6, [(1, 1)], 0.0)
    assert recovery.rtt.latest == pytest.approx(0.1)
    recovery.on_ack(0.9, [(0, 1)], 0.0)
    assert recovery.rtt.latest == pytest.approx(0.1)


def test_silence_is_counted_from_the_last_progress() -> None:
    recovery = Recovery(Cubic(SIZE))
    recovery.on_sent(run(0, 2, 1.0))
    recovery.on_sent(run(2, 1, 2.0))
    assert recovery.oldest_unacked_at == 1.0
    recovery.on_ack(2.5, [(0, 1)], 0.0)
    assert recovery.oldest_unacked_at == 2.5
    recovery.on_ack(2.6, [(2, 2)], 0.0)
    assert recovery.oldest_unacked_at is None
    recovery.on_sent(run(3, 1, 100.0))
    assert recovery.oldest_unacked_at == 100.0


def test_silence_is_forgotten_when_what_was_in_flight_is_lost() -> None:
    """A packet lost long ago must not make the next one look old: the path would be dead before it was tried."""
    recovery = Recovery(Cubic(SIZE))
    recovery.on_sent(run(0, 1, 0.0))
    recovery.on_sent(run(1, 1, 0.0))
    recovery.on_ack(0.1, [(1, 1)], 0.0)
    assert recovery.deadline() is not None
    recovery.on_deadline(1.0)
    assert not recovery.outstanding
    recovery.on_sent(run(2, 1, 60.0))
    assert recovery.oldest_unacked_at == 60.0


def test_abandoned_runs_are_given_back_without_a_reduction() -> None:
    recovery = Recovery(Cubic(SIZE))
    window = recovery.congestion.window
    recovery.on_sent(run(0, 5, 0.0))
    recovery.on_sent(run(5, 1, 0.0))
    assert [each.first for each in recovery.abandon()] == [0, 5]
    assert (recovery.congestion.in_flight, recovery.congestion.window) == (0, window)
    assert recovery.deadline() is None
    assert recovery.on_ack(0.1, [(0, 5)], 0.0) == ([], [])


def test_lost_mtu_probe_says_nothing_about_congestion() -> None:
    recovery = Recovery(Cubic(SIZE))
    window = recovery.congestion.window
    recovery.on_sent(Sent(0, 1, 0.0, 1400, 1400, items=[("mtu", 1400)]))
    recovery.on_sent(run(1, 5, 0.0))
    _, lost = recovery.on_ack(0.1, [(1, 5)], 0.0)
    assert [each.items for each in lost] == [[("mtu", 1400)]]
    assert recovery.congestion.window >= window
    assert recovery.congestion.in_flight == 0
    assert recovery.lost_bytes == 0


def test_revived_path_repeats_at_once_and_gets_a_new_term() -> None:
    recovery = Recovery(Cubic(SIZE))
    recovery.on_sent(run(0, 1, 0.0))
    recovery.on_deadline(1.0)
    recovery.probes = 0
    recovery.revive(50.0)
    assert (recovery.probes, recovery.pto_count, recovery.oldest_unacked_at) == (2, 0, 50.0)
    deadline = recovery.deadline()
    assert deadline is not None
    assert deadline > 50.0


def test_revived_path_without_data_has_nothing_to_repeat() -> None:
    recovery = Recovery(Cubic(SIZE))
    recovery.revive(50.0)
    assert (recovery.probes, recovery.oldest_unacked_at, recovery.deadline()) == (0, None, None)


def test_oldest_is_one_datagram() -> None:
    recovery = Recovery(Cubic(SIZE))
    assert recovery.oldest() is None
    recovery.on_sent(run(0, 5, 0.0))
    oldest = recovery.oldest()
    assert oldest is not None
    assert packets([oldest]) == packets([run(0, 5)])[:1]


def test_probe_timeout_waits_a_second_for_what_arrived_to_be_read() -> None:
    recovery = Recovery(Cubic(1200))
    recovery.on_round_trip(0.02)
    recovery.on_sent(Sent(0, 1, 10.0, 1200, 1200))
    at = recovery.deadline()
    assert at is not None
    late = at + 0.1
    while recovery.awaits_reading(late):
        later = recovery.deadline()
        assert later is not None
        assert late < later < late + 0.1
        late = later
    assert 10.9 < late < 11.2
    assert recovery.on_deadline(late) == []
    assert recovery.probes
