"""Where figures are kept: `results/latest.json`, `results/latest-run.json` and the lines of `results/history.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from covey.bench import pair
from covey.bench.pair import COVEY, UDP
from covey.bench.rows import Row

__all__ = ["BASELINES", "DIRECTORY", "HEADING", "HISTORY", "LATEST", "RUN", "history", "keep", "latest_run", "text"]

DIRECTORY = Path(__file__).resolve().parent / "results"
LATEST = "latest.json"
"""Covey's rows, and behind them those of rivals that were measured."""
RUN = "latest-run.json"
"""The same run with everything: machine, sites, the baselines' own rows, what failed."""
HISTORY = "history.jsonl"
"""One line for each run, oldest first: what `RUN` held, its rows as `{peer: {metric: [median, lowest, highest]}}`."""

BASELINES = frozenset(subject.name for subject in (*pair.BASELINES, UDP))


def keep(run: dict[str, Any], directory: Path = DIRECTORY) -> None:
    """Writes a run: `rows` of all subjects, and whatever else is known of it."""
    directory.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = run["rows"]
    latest = [row for row in rows if row["peer"] == COVEY.name]
    latest += [row for row in rows if row["peer"] not in BASELINES | {COVEY.name}]
    (directory / LATEST).write_text(_lines(latest) + "\n")
    rest = json.dumps({key: value for key, value in run.items() if key != "rows"}, indent=1)
    (directory / RUN).write_text(f'{rest[:-2]},\n "rows": {_lines(rows)}\n}}\n')
    values: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        values.setdefault(row["peer"], {})[row["metric"]] = [row["value"], *row["spread"]]
    line = {key: value for key, value in run.items() if key not in ("rows", "failures")} | {"values": values}
    with (directory / HISTORY).open("a") as file:
        file.write(json.dumps(line) + "\n")


def latest_run(directory: Path = DIRECTORY) -> dict[str, Any]:
    """What `keep` was given last."""
    found: dict[str, Any] = json.loads((directory / RUN).read_text())
    return found


def history(directory: Path = DIRECTORY) -> list[dict[str, Any]]:
    """Every run that was kept, oldest first."""
    file = directory / HISTORY
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _lines(rows: Sequence[Row]) -> str:
    """A JSON list with a line for each row."""
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]"


def text(row: Row) -> str:
    """One line for people."""
    low, high = row["spread"]
    figure = f"{row['value']:>10.6g} {row['unit']:6} {low:>10.4g} .. {high:<10.4g}"
    ratios = f"{_ratio(row['raw_tcp_ratio']):>9} {_ratio(row['asyncio_tls_ratio']):>9}"
    return f"{row['peer']:22} {row['metric']:34} {figure} {ratios}"


HEADING = f"{'peer':22} {'metric':34} {'median':>10} {'':6} {'lowest':>10} .. {'highest':10} {'x TCP':>9} {'x TLS':>9}"


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.3g}"
