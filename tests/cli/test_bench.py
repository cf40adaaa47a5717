from __future__ import annotations

import json

import pytest

from covey.base.errors import TimeoutError as CoveyTimeoutError
from covey.base.exit_codes import exit_code
from tests.cli.conftest import Covey


@pytest.mark.timeout(240)  # a crowded machine
def test_machine_is_measured_without_a_daemon(covey: Covey) -> None:
    result = covey("bench", "--runs", "1", "--seconds", "0.01", "--json")
    assert result.code == 0
    metrics = {row["metric"] for row in result.document["data"]["items"]}
    assert {"bulk_gbit_s", "rtt64_us_p50", "handshakes_per_cpu_s"} <= metrics


def test_benchmark_that_takes_too_long_is_ended(covey: Covey) -> None:
    result = covey("bench", "--timeout", "0.05", "--json")
    assert result.code == exit_code(CoveyTimeoutError(""))
    assert json.loads(result.out)["error"]["code"] == "timeout"


def test_bench_of_a_peer_needs_the_daemon(covey: Covey) -> None:
    result = covey("bench", "azure")
    assert result.code == 3
    assert "not-running" in result.err
