from __future__ import annotations

import pytest

from covey.core.rates import Rates, network


def test_bucket_gives_a_burst_and_then_its_rate() -> None:
    rates = Rates(20.0, 5.0, 10)
    assert [rates.take(0.0, "a") for _ in range(7)] == [True] * 5 + [False] * 2
    taken = sum(rates.take(0.001 * step, "a") for step in range(1, 10_001))
    assert 199 <= taken <= 201


def test_bucket_never_holds_more_than_a_burst() -> None:
    rates = Rates(20.0, 5.0, 10)
    rates.take(0.0, "a")
    assert sum(rates.take(3600.0, "a") for _ in range(100)) == 5


def test_bucket_gives_a_cost_whole_or_not_at_all() -> None:
    rates = Rates(100.0, 1000.0, 10)
    assert rates.take(0.0, "a", 1000.0)
    assert not rates.take(9.9, "a", 1000.0)
    assert rates.take(9.9, "a", 990.0)
    assert not rates.take(1e6, "a", 1001.0)


def test_buckets_are_apart() -> None:
    rates = Rates(20.0, 5.0, 10)
    for _ in range(9):
        rates.take(0.0, "a")
    assert not rates.take(0.0, "a")
    assert rates.take(0.0, "b")


def test_fill_is_a_share_and_takes_nothing() -> None:
    rates = Rates(20.0, 5.0, 10)
    assert rates.fill(0.0, "a") == 1.0
    rates.take(0.0, "a")
    assert [rates.fill(0.0, "a") for _ in range(3)] == pytest.approx([0.8] * 3)
    assert rates.fill(0.025, "a") == pytest.approx(0.9)


def test_table_is_bounded_and_forgets_who_was_away_longest() -> None:
    rates = Rates(20.0, 5.0, 3)
    for number in range(3):
        for _ in range(5):
            rates.take(0.0, number)
    rates.take(0.0, 0)
    rates.take(0.0, 99)
    assert len(rates) == 3
    assert not rates.take(0.0, 0)
    assert rates.take(0.0, 1)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("not an address", "not an address", True),
        ("not an address", "another", False),
    ],
)
def test_network_is_an_ipv4_address_or_an_ipv6_prefix(one: str, other: str, same: bool) -> None:
    assert (network((one, 1)) == network((other, 2))) is same
