"""Where figures are kept: `results/latest.json`, `results/latest-run.json` and the lines of `results/history.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from covey.bench.pair import BASELINES, COVEY, UDP
from covey.bench.rows import Row

__all__ = ["HISTORY", "LATEST", "RUN", "history", "keep", "text"]

RESULTS = Path(__file__).resolve().parent / "results"
LATEST = RESULTS / "latest.json"
"""Covey's rows, and behind them those of rivals that were measured."""
RUN = RESULTS / "latest-run.json"
"""The same run with everything: machine, sites, the baselines' own rows, what failed."""
HISTORY = RESULTS / "history.jsonl"
"""One line for each whole run, oldest first: what `RUN` held, without the spreads."""

_BASELINES = {subject.name for subject in (*BASELINES, UDP)}


def keep(run: dict[str, Any], directory: Path = RESULTS) -> None:
    """Writes a run: `rows` of all subjects, and whatever else is known of it."""
    directory.mkdir(exist_ok=True)
    rows: list[Row] = run["rows"]
    latest = [row for row in rows if row["peer"] == COVEY.name]
    latest += [row for row in rows if row["peer"] not in _BASELINES | {COVEY.name}]
    (directory / LATEST.name).write_text(_lines(latest))
    (directory / RUN.name).write_text(
        json.dumps({key: run[key] for key in run if key != "rows"}, indent=1)[:-2]
        + ',\n "rows": '
        + _lines(rows)
        + "}\n"
    )
    values: dict[str, dict[str, float]] = {}
    for row in rows:
        values.setdefault(row["peer"], {})[row["metric"]] = row["value"]
    line = {key: value for key, value in run.items() if key not in ("rows", "failures")} | {"values": values}
    with (directory / HISTORY.name).open("a") as file:
        file.write(json.dumps(line) + "\n")


def history(directory: Path = RESULTS) -> list[dict[str, Any]]:
    """Every run that was kept, oldest first."""
    file = directory / HISTORY.name
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _lines(rows: Sequence[Row]) -> str:
    """A JSON list with a line for each row."""
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"


def text(row: Row) -> str:
    """One line for people."""
    low, high = row["spread"]
    tcp, tls = (_ratio(row["raw_tcp_ratio"]), _ratio(row["asyncio_tls_ratio"]))
    figure = f"{row['value']:>10.6g} {row['unit']:6} {low:>10.4g} .. {high:<10.4g}"
    return f"{row['peer']:14} {row['metric']:36} {figure} {tcp:>8} {tls:>8}"


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.3g}"
