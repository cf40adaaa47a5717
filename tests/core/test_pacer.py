from __future__ import annotations

import pytest

from covey.core.pacer import Pacer

SIZE = 1200


def sent_in(seconds: float, window: int, rtt: float) -> tuple[int, int]:
    """(bytes, wake-ups) of a sender that always has data and looks again when the pacer says."""
    pacer, now, total, wakes = Pacer(), 0.0, 0, 0
    pacer.spend(pacer.credit(now, window, rtt, SIZE))
    while now < seconds:
        wakes += 1
        credit = pacer.credit(now, window, rtt, SIZE)
        size = credit // SIZE * SIZE
        pacer.spend(size)
        total += size
        now = pacer.ready_at(now)
    return total, wakes


@pytest.mark.parametrize(
    ("window", "rtt"), [(2400, 2.0), (40_000, 0.05), (500_000, 0.02), (10_000_000, 0.1), (100_000, 0.0001)]
)
def test_pacer_spreads_a_window_over_a_round_trip(window: int, rtt: float) -> None:
    rate = 1.25 * window / rtt
    total, _ = sent_in(20.0, window, rtt)
    assert total == pytest.approx(20 * min(rate, 8 * 65_507 * 1000), rel=0.05)


def test_pacer_does_not_wake_in_vain_on_a_slow_path() -> None:
    total, wakes = sent_in(60.0, 2400, 2.0)
    assert wakes <= total / SIZE + 2


def test_pacer_sleeps_a_millisecond_at_least() -> None:
    pacer = Pacer()
    pacer.spend(pacer.credit(5.0, 10_000_000, 0.001, SIZE))
    assert pacer.ready_at(5.0) == pytest.approx(5.001)


@pytest.mark.parametrize(
    ("window", "rtt", "burst"),
    [(12_000, 0.1, 10 * SIZE), (2_000_000, 0.01, 500_000), (1 << 30, 0.001, 8 * 65_507)],
    ids=["ten datagrams", "two milliseconds", "eight trains"],
)
def test_pacer_bounds_a_burst_after_a_pause(window: int, rtt: float, burst: int) -> None:
    pacer = Pacer()
    pacer.credit(0.0, window, rtt, SIZE)
    assert pacer.credit(100.0, window, rtt, SIZE) == burst
