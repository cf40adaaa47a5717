from __future__ import annotations

import itertools
import random

import pytest

from covey.core.cubic import Cubic
from covey.core.recovery import Sent
from covey.core.rtt import Rtt

SIZE = 1200


def sent(size: int, time: float = 0.0) -> Sent:
    return Sent(0, 1, time, size, size, items=[("ping",)])


def path(rtt: float = 0.05) -> tuple[Cubic, Rtt]:
    estimate = Rtt()
    estimate.sample(rtt, 0.0)
    return Cubic(SIZE), estimate


def round_trip(cubic: Cubic, rtt: Rtt, now: float, *, limited: bool = True) -> float:
    """A whole window leaves at `now` and is acknowledged, two datagrams at a time; the time afterwards."""
    count = cubic.window // SIZE
    for _ in range(count):
        cubic.on_sent(sent(SIZE))
    end = now + rtt.smoothed
    for _ in range(count // 2):
        cubic.on_acked(end, 2 * SIZE, sent(2 * SIZE, now), rtt, limited)
    cubic.on_acked(end, (count % 2) * SIZE, sent((count % 2) * SIZE, now), rtt, limited)
    return end


def test_cubic_doubles_in_slow_start() -> None:
    cubic, rtt = path()
    before = cubic.window
    round_trip(cubic, rtt, 0.0)
    assert cubic.window == 2 * before
    assert cubic.slow_start


def test_cubic_does_not_grow_when_the_application_holds_back() -> None:
    cubic, rtt = path()
    before = cubic.window
    for now in range(10):
        round_trip(cubic, rtt, float(now), limited=False)
    assert cubic.window == before
    cubic.on_sent(sent(SIZE))
    cubic.on_lost(20.0, SIZE, [sent(SIZE, 20.0)])
    before = cubic.window
    for now in range(21, 40):
        round_trip(cubic, rtt, float(now), limited=False)
    assert cubic.window == before


def test_cubic_reduces_to_seven_tenths_once_per_round_trip() -> None:
    cubic, _ = path()
    cubic.window = 100 * SIZE
    for _ in range(20):
        cubic.on_sent(sent(SIZE))
    cubic.on_lost(1.0, SIZE, [sent(SIZE, 0.9)])
    assert cubic.window == 70 * SIZE
    cubic.on_lost(1.01, SIZE, [sent(SIZE, 0.99)])  # sent before the reduction
    assert cubic.window == 70 * SIZE
    cubic.on_lost(1.2, SIZE, [sent(SIZE, 1.1)])
    assert cubic.window == pytest.approx(49 * SIZE, abs=1)
    assert not cubic.slow_start


def test_cubic_takes_a_mistaken_reduction_back_once() -> None:
    cubic, rtt = path()
    cubic.on_sent(sent(10 * SIZE))
    before = cubic.window
    assert cubic.on_lost(1.0, SIZE, [sent(SIZE, 0.9)])
    assert not cubic.on_lost(1.01, SIZE, [sent(SIZE, 0.95)])
    cubic.undo(3.0)
    assert cubic.window == before
    assert cubic.slow_start
    round_trip(cubic, rtt, 2.0)
    after = cubic.window
    assert after > before
    cubic.undo(3.0)
    assert cubic.window == after


def test_cubic_does_not_take_back_what_silence_proved() -> None:
    cubic, _ = path()
    cubic.on_sent(sent(10 * SIZE))
    cubic.on_lost(1.0, SIZE, [sent(SIZE, 0.9)])
    cubic.on_persistent_congestion(3.0)
    cubic.undo(3.0)
    assert cubic.window == 2 * SIZE


def test_cubic_slow_starts_after_silence_to_where_a_loss_would_have_brought_it() -> None:
    cubic, rtt = path()
    cubic.window = 100 * SIZE
    cubic.on_sent(sent(100 * SIZE, 0.9))
    cubic.on_persistent_congestion(2.0)
    assert cubic.window == 2 * SIZE
    cubic.on_lost(3.0, 99 * SIZE, [sent(99 * SIZE, 0.9)])
    assert (cubic.window, cubic.slow_start) == (2 * SIZE, True)
    now = 3.0
    while cubic.slow_start:
        now = round_trip(cubic, rtt, now)
    assert 70 * SIZE <= cubic.window < 140 * SIZE
    assert now < 3.0 + 7 * 0.05


def test_cubic_keeps_two_datagrams() -> None:
    cubic, _ = path()
    for now in range(100):
        cubic.on_sent(sent(SIZE))
        cubic.on_lost(float(now), SIZE, [sent(SIZE, float(now))])
    assert cubic.window == 2 * SIZE
    cubic.window = 50 * SIZE
    cubic.on_persistent_congestion(3.0)
    assert cubic.window == 2 * SIZE


def test_cubic_follows_the_curve_of_rfc_9438() -> None:
    """Concave towards the old window, which it reaches after K seconds, flat there, and convex beyond."""
    cubic, rtt = path(0.1)
    cubic.window = 1000 * SIZE
    cubic.on_sent(sent(SIZE))
    cubic.on_lost(0.0, SIZE, [sent(SIZE, 0.0)])
    k = (1000 * 0.3 / 0.4) ** (1 / 3)
    now, windows = 0.001, []
    while now < 2 * k:
        now = round_trip(cubic, rtt, now)
        windows.append((now, cubic.window / SIZE))

    def at(seconds: float) -> float:
        return min(windows, key=lambda pair: abs(pair[0] - seconds))[1]

    assert at(k) == pytest.approx(1000, rel=0.02)
    assert at(k / 2) == pytest.approx(1000 - 0.4 * (k / 2) ** 3, rel=0.03)
    assert at(1.5 * k) == pytest.approx(1000 + 0.4 * (k / 2) ** 3, rel=0.05)
    assert all(after >= before for (_, before), (_, after) in itertools.pairwise(windows))


def test_cubic_is_no_slower_than_reno_on_short_paths() -> None:
    cubic, rtt = path(0.001)
    cubic.window = 100 * SIZE
    cubic.on_sent(sent(SIZE))
    cubic.on_lost(0.0, SIZE, [sent(SIZE, 0.0)])
    now, before = 0.0001, cubic.window
    for _ in range(100):
        now = round_trip(cubic, rtt, now)
    alpha = 3 * 0.3 / 1.7
    assert cubic.window - before >= 0.9 * alpha * 100 * SIZE


def test_cubic_converges_faster_after_a_second_loss() -> None:
    cubic, rtt = path()
    cubic.window = 100 * SIZE
    cubic.on_sent(sent(2 * SIZE))
    cubic.on_lost(1.0, SIZE, [sent(SIZE, 1.0)])
    first = cubic._w_max
    cubic.on_lost(2.0, SIZE, [sent(SIZE, 2.0)])
    assert cubic._w_max == pytest.approx(70 * SIZE * 0.85)
    assert first == 100 * SIZE
    assert rtt.sampled


def test_hystart_leaves_slow_start_when_the_queue_grows() -> None:
    cubic, rtt = path(0.05)
    now = 0.0
    for number in range(12):
        delay = 0.05 + 0.01 * max(0, number - 2)
        rtt.sample(delay, 0.0)
        now = round_trip(cubic, rtt, now)
    assert not cubic.slow_start
    assert cubic.window < 32 * SIZE * 2**8


def test_hystart_goes_on_when_the_delay_was_a_blip() -> None:
    cubic, rtt = path(0.05)
    now = 0.0
    for delay in (0.05, 0.05, 0.08, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05):
        rtt.sample(delay, 0.0)
        now = round_trip(cubic, rtt, now)
    assert cubic.slow_start


@pytest.mark.parametrize("seed", range(5))
def test_cubic_counts_what_is_in_flight(seed: int) -> None:
    source = random.Random(seed)
    cubic, rtt = path()
    flying = 0
    now = 0.0
    for _ in range(2000):
        now += 0.01
        size = source.choice([100, 1200, 40_000])
        if source.random() < 0.5:
            cubic.on_sent(sent(size))
            flying += size
        elif flying >= size:
            flying -= size
            match source.randrange(3):
                case 0:
                    cubic.on_acked(now, size, sent(size, now - 0.05), rtt, source.random() < 0.5)
                case 1:
                    cubic.on_lost(now, size, [sent(size, now - 0.05)])
                case _:
                    cubic.on_discarded(size)
        assert cubic.in_flight == flying
        assert 2 * SIZE <= cubic.window < 1 << 40
