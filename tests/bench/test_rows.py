from __future__ import annotations

from covey.bench.rows import row


def test_row_is_the_median_with_its_range_and_ratios() -> None:
    of_all = {"raw_tcp": [5.0, 10.0, 40.0], "covey": [1.0]}
    assert row("rtt64_us_p50", "us", [30.0, 10.0, 20.0], of_all, peer="covey") == {
        "metric": "rtt64_us_p50",
        "value": 20.0,
        "unit": "us",
        "raw_tcp_ratio": 2.0,
        "asyncio_tls_ratio": None,
        "runs": 3,
        "spread": (10.0, 30.0),
        "peer": "covey",
    }


def test_figures_are_rounded_to_four_digits() -> None:
    assert row("x", "", [123456.0, 0.00123456], peer="covey")["spread"] == (0.001235, 123500.0)
