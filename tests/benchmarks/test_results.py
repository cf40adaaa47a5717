from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import results
from covey.bench.rows import Row
from tests.benchmarks.conftest import made_run


def test_latest_holds_our_rows_then_those_of_rivals_and_no_baselines(tmp_path: Path, run: dict[str, Any]) -> None:
    results.keep(run, tmp_path)
    rows = json.loads((tmp_path / results.LATEST).read_text())
    assert [(row["peer"], row["metric"]) for row in rows] == [
        ("covey", "bulk_gbit_s"),
        ("covey", "rtt64_us_p50"),
        ("rival 1.0", "bulk_gbit_s"),
    ]
    assert all(set(row) == Row.__required_keys__ for row in rows)
    assert rows[0]["raw_tcp_ratio"] == 0.2864


def test_whole_run_is_kept_beside_it(tmp_path: Path, run: dict[str, Any]) -> None:
    results.keep(run, tmp_path)
    kept = results.latest_run(tmp_path)
    assert kept == json.loads(json.dumps(run))
    assert {row["peer"] for row in kept["rows"]} == {"raw_tcp", "asyncio_tls", "covey", "rival 1.0"}


def test_history_grows_by_a_line_for_each_run(tmp_path: Path) -> None:
    assert results.history(tmp_path) == []
    for commit in ("a", "b"):
        results.keep(made_run(commit), tmp_path)
    found = results.history(tmp_path)
    assert [each["commit"] for each in found] == ["a", "b"]
    assert found[0]["values"]["covey"]["rtt64_us_p50"] == [105.0, 100.0, 110.0]
    assert found[0]["machine"]["tcp_congestion_control"] == "bbr"


def test_text_shows_what_has_no_baseline_as_a_dash(run: dict[str, Any]) -> None:
    by_metric = {row["metric"]: results.text(row) for row in run["rows"] if row["peer"] == "covey"}
    assert by_metric["rtt64_us_p50"].split()[-2:] == ["-", "-"]
    assert by_metric["bulk_gbit_s"].split()[-2:] == ["0.286", "0.7"]
