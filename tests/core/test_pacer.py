from __future__ import annotations

import pytest

from covey.core.pacer import Pacer

SIZE = 1200
BURST = 4 * 1024 * 1024


def sent_in(seconds: float, rate: float) -> tuple[int, int]:
    """(bytes, wake-ups) of a sender that always has data and looks again when the pacer says."""
    pacer, now, total, wakes = Pacer(), 0.0, 0, 0
    pacer.spend(pacer.credit(now, rate, SIZE))
    while now < seconds:
        wakes += 1
        credit = pacer.credit(now, rate, SIZE)
        size = credit // SIZE * SIZE
        pacer.spend(size)
        total += size
        now = pacer.ready_at(now, SIZE)
    return total, wakes


@pytest.mark.parametrize("rate", [1500.0, 1e6, 31.25e6, 125e6, 1.25e9])
def test_pacer_sends_at_the_rate(rate: float) -> None:
    total, _ = sent_in(20.0, rate)
    assert total == pytest.approx(20 * min(rate, BURST * 1000), rel=0.05)


def test_pacer_does_not_wake_in_vain_on_a_slow_path() -> None:
    total, wakes = sent_in(60.0, 1500.0)
    assert wakes <= total / SIZE + 2


def test_pacer_sleeps_a_millisecond_at_least() -> None:
    pacer = Pacer()
    pacer.spend(pacer.credit(5.0, 1e10, SIZE))
    assert pacer.ready_at(5.0, SIZE) == pytest.approx(5.001)


@pytest.mark.parametrize(
    ("rate", "burst"),
    [(150_000.0, 10 * SIZE), (250e6, 500_000), (1e12, BURST)],
    ids=["ten datagrams", "two milliseconds", "half a socket"],
)
def test_pacer_bounds_a_burst_after_a_pause(rate: float, burst: int) -> None:
    pacer = Pacer()
    pacer.credit(0.0, rate, SIZE)
    assert pacer.credit(100.0, rate, SIZE) == burst


@pytest.mark.parametrize(("datagram", "burst"), [(1472, 14_720), (8972, 14_720), (65_507, 65_507)])
def test_pacer_counts_its_smallest_burst_in_ordinary_datagrams(datagram: int, burst: int) -> None:
    pacer = Pacer()
    pacer.credit(0.0, 100_000.0, datagram)
    assert pacer.credit(100.0, 100_000.0, datagram) == burst
