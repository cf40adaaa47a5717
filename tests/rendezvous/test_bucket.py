from __future__ import annotations

import pytest

from covey.rendezvous.bucket import TokenBucket


def test_a_burst_is_free_and_then_the_rate_holds() -> None:
    bucket = TokenBucket(rate=10.0, burst=3.0, now=100.0)
    assert [bucket.take(100.0) for _ in range(5)] == pytest.approx([0.0, 0.0, 0.0, 0.1, 0.2])


def test_a_debt_is_paid_by_time() -> None:
    bucket = TokenBucket(rate=2.0, burst=1.0, now=0.0)
    assert bucket.take(0.0, cost=7.0) == pytest.approx(3.0)
    assert bucket.take(3.0, cost=0.0) == pytest.approx(0.0)
    assert bucket.take(3.5) == pytest.approx(0.0)


def test_idle_time_earns_no_more_than_the_burst() -> None:
    bucket = TokenBucket(rate=10.0, burst=2.0, now=0.0)
    assert [bucket.take(1e6) for _ in range(3)] == pytest.approx([0.0, 0.0, 0.1])


def test_a_clock_that_stands_still_earns_nothing() -> None:
    bucket = TokenBucket(rate=10.0, burst=1.0, now=5.0)
    assert bucket.take(5.0) == 0.0
    assert bucket.take(4.0) == pytest.approx(0.1)
