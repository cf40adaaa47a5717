from __future__ import annotations

from covey.bench.rows import row, row_text


def test_row_is_the_median_with_its_range_and_ratios() -> None:
    found = row("rtt", "us", [30.0, 10.0, 20.0], {"tcp": [5.0, 10.0, 40.0], "covey": [1.0]})
    assert found == {
        "metric": "rtt",
        "value": 20.0,
        "unit": "us",
        "raw_tcp_ratio": 2.0,
        "asyncio_tls_ratio": None,
        "runs": 3,
        "spread": (10.0, 30.0),
    }


def test_text_shows_what_has_no_baseline_as_a_dash() -> None:
    assert "x raw TCP        -" in row_text(row("handshakes", "1/s", [1000.0]))
