from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import results
from benchmarks.__main__ import main


def test_run_is_measured_shown_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--only", "messages", "--into", str(tmp_path)]) == 0
    assert [row["metric"] for row in json.loads((tmp_path / results.LATEST).read_text())] == ["stream_msgs_per_s"]
    kept = results.latest_run(tmp_path)
    assert kept["runs"] == 1
    assert kept["failures"] == []
    assert {row["peer"] for row in kept["rows"]} == {"raw_tcp", "asyncio_tls", "covey"}
    assert (tmp_path / "history.svg").exists()
    said = capsys.readouterr().err
    assert "asyncio_tls    messages" in said
    assert f"kept in {tmp_path}" in said
