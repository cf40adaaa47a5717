from __future__ import annotations

import pytest

from covey.core.acks import Acks
from covey.core.rtt import MAX_ACK_DELAY
from covey.wire.frames import AckFrame, parse_frames


def take(acks: Acks, now: float, path: int, counter: int, *, at_once: bool = False) -> None:
    acks.counters(path).add(counter, now)
    acks.note(now, path, at_once=at_once)


def composed(acks: Acks, now: float, capacity: int = 1000) -> list[AckFrame]:
    scratch = bytearray(2000)
    end = acks.compose(now, scratch, 0, capacity)
    return [frame for frame in parse_frames(bytes(scratch[:end])) if isinstance(frame, AckFrame)]


def test_one_packet_may_wait_for_company() -> None:
    acks = Acks()
    assert acks.at is None
    take(acks, 1.0, 0, 5)
    assert acks.at == 1.0 + MAX_ACK_DELAY
    take(acks, 1.001, 0, 6)
    assert acks.at == 1.001


def test_packet_out_of_order_is_acknowledged_at_once() -> None:
    acks = Acks()
    take(acks, 1.0, 0, 5, at_once=True)
    assert acks.at == 1.0


def test_waiting_is_not_prolonged() -> None:
    acks = Acks()
    take(acks, 1.0, 0, 5)
    composed(acks, 1.0)
    take(acks, 2.0, 0, 6)
    assert acks.at == 2.0 + MAX_ACK_DELAY


def test_one_frame_per_path_however_many_packets() -> None:
    acks = Acks()
    for counter in range(50):
        take(acks, 1.0, 0, counter)
    take(acks, 1.0, 3, 7)
    assert composed(acks, 1.0) == [AckFrame(0, 0, [(0, 49)]), AckFrame(3, 0, [(7, 7)])]
    assert acks.at is None
    assert composed(acks, 2.0) == []


def test_delay_is_counted_from_the_newest_packet() -> None:
    acks = Acks()
    take(acks, 1.0, 0, 5)
    take(acks, 1.5, 0, 4)
    (frame,) = composed(acks, 1.016)
    assert frame.delay == pytest.approx(0.016 / 16e-6, abs=1)
    take(acks, 2.0, 0, 6)
    assert composed(acks, 1.9)[0].delay == 0


def test_what_does_not_fit_stays_due() -> None:
    acks = Acks()
    for path in range(5):
        take(acks, 1.0, path, 0, at_once=True)
    first = composed(acks, 1.0, capacity=330)
    assert 0 < len(first) < 5
    assert acks.at == 1.0
    rest = composed(acks, 1.0)
    assert [frame.path for frame in first + rest] == list(range(5))


def test_gaps_are_remembered_of_the_paths_that_were_used_last() -> None:
    """A peer has 255 path ids; full of gaps, each would cost us 16 kB. An old path still takes what is new."""
    acks = Acks()
    for path in range(256):
        for counter in range(1, 600, 2):
            acks.counters(path).add(counter, float(path))
    assert sum(len(each.lows) for each in acks.received.values()) <= 17 * 256 + 240
    for path in (0, 254, 255):
        assert not acks.counters(path).fresh(599)
        assert acks.counters(path).fresh(601)
    assert acks.counters(254).fresh(598)
    for counter in range(601, 1200, 2):
        acks.counters(0).add(counter, 300.0)
    assert acks.counters(0).ranges() == [(1199, 1199)]


def test_counters_of_a_path_are_kept() -> None:
    acks = Acks()
    assert acks.counters(3) is acks.counters(3)
    assert acks.counters(3) is not acks.counters(4)
