from __future__ import annotations

from covey.core.quota import BURST_MIN, RATE_MIN, Quota


def test_quota_is_a_bucket_that_refills_and_may_owe() -> None:
    quota = Quota(1_000_000)
    assert quota.refill(0.0) == BURST_MIN
    quota.spend(BURST_MIN + 10_000)
    assert quota.refill(0.0) == -10_000
    assert quota.refill(0.01) == 0
    assert quota.refill(100.0) == BURST_MIN, "no more than a burst is saved"


def test_quota_says_when_there_is_enough() -> None:
    quota = Quota(1_000_000)
    quota.refill(0.0)
    quota.spend(BURST_MIN)
    at = quota.ready_at(0.0, 5_000)
    assert quota.refill(at) >= 5_000
    assert quota.refill(quota.ready_at(at, 10**9)) >= quota.burst - 1, "nobody waits for more than there can be"


def test_fast_relays_let_larger_bursts_pass_and_no_relay_starves_us() -> None:
    assert Quota(100_000_000).burst == 5_000_000
    assert Quota(1).rate == RATE_MIN
