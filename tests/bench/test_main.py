from __future__ import annotations

import json
from pathlib import Path

import pytest

from covey.bench.__main__ import main

NETWORK = {
    "rtt64_one_core_us_p50",
    "rtt64_one_core_us_p99",
    "rtt64_two_cores_us_p50",
    "rtt64_two_cores_us_p99",
    "connect_ms",
    "bulk_gbit_s",
    "cpu_s_per_gb_send",
    "cpu_s_per_gb_receive",
    "peak_memory_receiver_mb",
}


def run(monkeypatch: pytest.MonkeyPatch, file: Path, *options: str) -> dict[str, dict[str, float]]:
    monkeypatch.setattr("sys.argv", ["bench", "--runs", "1", "--json", str(file), *options])
    assert main() == 0
    return {row["metric"]: row for row in json.loads(file.read_text())}


def test_two_processes_give_every_figure_beside_its_baselines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = run(
        monkeypatch, tmp_path / "rows.json", "--only", "network", "--megabytes", "2", "--round-trips", "100", "--table"
    )
    assert set(rows) == NETWORK
    assert all(row["value"] > 0 for row in rows.values())
    with_baselines = {name for name, row in rows.items() if row["raw_tcp_ratio"] and row["asyncio_tls_ratio"]}
    assert with_baselines == NETWORK - {"connect_ms"}
    said = capfd.readouterr().err
    assert "run 1 of 1: covey" in said
    assert "bulk_gbit_s" in said
