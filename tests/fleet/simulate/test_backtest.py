"""`make backtest`: the list that issue 6 names, for any folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from covey.fleet.simulate.backtest import jobs_for, main

FIELDS = {"trace", "policy", "replica_hours", "cost_usd", "violations", "reversals_per_hour", "moves"}


def test_backtest_writes_one_row_for_each_policy(trace: Path, prices: Path, tmp_path: Path) -> None:
    out = tmp_path / "results" / "backtest.json"
    arguments = ["--traces", str(trace.parent), "--prices", str(prices), "--out", str(out), "--quiet"]
    assert main([*arguments, "--only", "hour", "--days", "0.02", "--seeds", "1", "--workers", "1"]) == 0
    rows = json.loads(out.read_bytes())
    assert {frozenset(row) for row in rows} == {frozenset(FIELDS)}
    assert [row["policy"] for row in rows] == [
        "covey", "fixed_peak", "oracle", "hpa", "kpa", "skyserve", "rayserve", "threshold",
        "covey@aws", "covey@azure", "covey@gcp", "covey@all", "covey@gcp+spot", "covey@all+spot",
        "covey@all+spot(1%/h)", "covey@all+spot(20%/h)",
    ]  # fmt: skip
    assert len(json.loads(out.with_name("backtest-runs.json").read_bytes())) == len(rows)


def test_backtest_says_which_file_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    assert main(["--traces", str(tmp_path), "--out", str(tmp_path / "out.json")]) == 1
    assert "bad.csv" in capsys.readouterr().err


def test_coarse_traces_are_drawn_five_times(tmp_path: Path) -> None:
    path = tmp_path / "day.csv"
    path.write_text("t_s,rps\n0,5\n600,6\n")
    jobs = jobs_for([str(path)], "")
    assert {job.seed for job in jobs if job.policy == "covey"} == {0, 1, 2, 3, 4}
