from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import compare, results
from tests.benchmarks.conftest import made_run


def test_change_counts_only_if_the_ranges_do_not_overlap() -> None:
    a = {
        "bulk_gbit_s": (3.0, 2.9, 3.1),
        "rtt64_us_p50": (100.0, 99.0, 101.0),
        "connect_ms": (4.0, 3.0, 5.0),
        "x_ms": (1,),
    }
    b = {"bulk_gbit_s": (4.0, 3.9, 4.1), "rtt64_us_p50": (120.0, 118.0, 121.0), "connect_ms": (3.5, 3.1, 4.0)}
    _, *lines = compare.compare(a, b)
    assert [(line.split()[0], line.split()[-1]) for line in lines] == [
        ("bulk_gbit_s", "better"),
        ("rtt64_us_p50", "worse"),
        ("connect_ms", "same"),
    ]
    assert " 1.333 " in lines[0]


def test_history_is_used_if_one_machine_measured_both(tmp_path: Path) -> None:
    for run in (made_run("a", 1.0), made_run("b", 2.0), made_run("b", 3.0), made_run("b", 9.0, quick=True)):
        results.keep(run, tmp_path)
    found = compare.from_history(results.history(tmp_path), "a", "b")
    assert found is not None
    assert [each["bulk_gbit_s"][1] for each in found] == [1.0, 3.0]


def test_history_is_not_used_across_machines_or_doubts(tmp_path: Path) -> None:
    for run in (made_run("a"), made_run("b", machine={"cores": 64}), made_run("c", doubts=["run 1: busy"])):
        results.keep(run, tmp_path)
    history = results.history(tmp_path)
    assert compare.from_history(history, "a", "b") is None
    assert compare.from_history(history, "a", "c") is None
    assert compare.from_history(history, "a", "never") is None


def test_name_that_is_no_commit_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main(["no-such-commit", "HEAD"]) == 2
    assert "Needed a single revision" in capsys.readouterr().err
