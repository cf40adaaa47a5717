from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.core.rtt import GRANULARITY, INITIAL_RTT, MAX_ACK_DELAY, PTO_LIMIT, Rtt


def test_rtt_begins_as_rfc_9002_says() -> None:
    rtt = Rtt()
    assert rtt.smoothed == INITIAL_RTT
    assert rtt.pto() == pytest.approx(INITIAL_RTT + 4 * INITIAL_RTT / 2 + MAX_ACK_DELAY)


def test_rtt_takes_the_first_sample_whole() -> None:
    rtt = Rtt()
    rtt.sample(0.1, 0.05)
    assert (rtt.smoothed, rtt.variance, rtt.minimum, rtt.latest) == (0.1, 0.05, 0.1, 0.1)


@pytest.mark.parametrize(
    ("sample", "ack_delay", "smoothed"),
    [
        (0.2, 0.0, 0.1 + 0.1 / 8),
        (0.2, 0.004, 0.1 + 0.096 / 8),
        (0.2, 1.0, 0.1 + 0.095 / 8),  # believed up to MAX_ACK_DELAY
        (0.1, 0.004, 0.1),  # never below the minimum
        (0.05, 0.0, 0.1 - 0.05 / 8),
    ],
)
def test_rtt_smooths_after_rfc_9002(sample: float, ack_delay: float, smoothed: float) -> None:
    rtt = Rtt()
    rtt.sample(0.1, 0.0)
    rtt.sample(sample, ack_delay)
    assert rtt.smoothed == pytest.approx(smoothed)
    assert rtt.variance == pytest.approx(0.05 + (abs(8 * (smoothed - 0.1)) - 0.05) / 4)


@given(st.lists(st.tuples(st.floats(1e-6, 100), st.floats(0, 10)), max_size=50))
def test_rtt_stays_sane_whatever_is_sampled(samples: list[tuple[float, float]]) -> None:
    rtt = Rtt()
    for sample, delay in samples:
        rtt.sample(sample, delay)
        assert 0 < rtt.pto() <= PTO_LIMIT
        assert rtt.loss_delay() >= GRANULARITY
        assert rtt.loss_delay() >= 1.125 * rtt.latest * 0.999
        assert rtt.minimum <= rtt.latest
