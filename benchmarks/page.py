"""The table of `docs/benchmarks.md`, written between its markers from the last run: `python -m benchmarks page`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from benchmarks import results
from covey.bench.pair import COVEY
from covey.bench.rows import Row

__all__ = ["BEGIN", "END", "PAGE", "put", "table", "write"]

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
BEGIN = "<!-- written by `python -m benchmarks page` -->"
END = "<!-- until here -->"


def write(run: dict[str, Any], page: Path = PAGE) -> None:
    """Puts the run's table in place of the one that stands there."""
    put(table(run), BEGIN, page)


def put(text: str, begin: str, page: Path = PAGE) -> None:
    """Puts a text between a line of its own and the next `END`."""
    before, marker, rest = page.read_text().partition(begin)
    _, end, after = rest.partition(END)
    if not (marker and end):
        raise ValueError(f"{page.name} lacks the lines {begin} and {END}")
    page.write_text(f"{before}{begin}\n{text}{END}{after}")


def table(run: dict[str, Any]) -> str:
    """Where it was measured in a sentence, Covey's rows, and for what rivals did a row each below it."""
    rows: list[Row] = run["rows"]
    lines = [
        _where(run),
        "",
        "| figure | median | | range | x raw TCP | x asyncio TLS |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_line(f"`{row['metric']}`", row) for row in rows if row["peer"] == COVEY.name]
    ours = {row["metric"]: row for row in rows if row["peer"] == COVEY.name}
    rivals = list(dict.fromkeys(row["peer"] for row in rows if row["peer"] not in results.BASELINES | {COVEY.name}))
    if rivals:
        shared = list(dict.fromkeys(row["metric"] for row in rows if row["peer"] in rivals and row["metric"] in ours))
        peers = [COVEY.name, *sorted(results.BASELINES & {row["peer"] for row in rows}), *rivals]
        found = {(row["peer"], row["metric"]): row for row in rows}
        lines += [
            "",
            f"| peer | {' | '.join(f'`{metric}`' for metric in shared)} |",
            "| --- |" + " --- |" * len(shared),
        ]
        for peer in peers:
            cells = [_cell(found.get((peer, metric))) for metric in shared]
            if any(cells):
                lines.append(f"| {peer} | {' | '.join(cells)} |")
    lines += [f"\nFailed: {failed}." for failed in dict.fromkeys(map(_failed, run["failures"]))]
    return "\n".join(lines) + "\n"


def _where(run: dict[str, Any]) -> str:
    machine, site = run["machine"], run["sites"].get("", "loopback")
    doubts = "".join(f" In doubt: {doubt}." for doubt in run["doubts"])
    return (
        f"Commit {run['commit'] or 'unknown'}, {run['time'][:10]}, {run['runs']} runs. {machine['processor']}, "
        f"{machine['cores']} cores, {machine['kernel']}, Python {machine['python']}, "
        f"cryptography {machine['cryptography']}, TCP with {machine['tcp_congestion_control']}; {site}.{doubts}"
    )


def _line(name: str, row: Row) -> str:
    low, high = row["spread"]
    ratios = [f"{ratio:.2f}" if ratio is not None else "" for ratio in (row["raw_tcp_ratio"], row["asyncio_tls_ratio"])]
    value = _number(row["value"])
    return f"| {name} | {value} | {row['unit']} | {_number(low)} to {_number(high)} | {ratios[0]} | {ratios[1]} |"


def _cell(row: Row | None) -> str:
    return "" if row is None else _number(row["value"])


def _number(value: float) -> str:
    """Three digits that mean something, thousands apart."""
    if abs(value) >= 1000:
        digits = len(re.sub(r"\D", "", f"{value:.0f}"))
        return f"{round(value, 3 - digits):,.0f}"
    return f"{value:.3g}"


def _failed(failure: dict[str, str]) -> str:
    what = " ".join(failure[key] for key in ("setting", "peer", "measure") if failure[key])
    return f"{what} ({failure['error'].splitlines()[-1]})"
