"""The tables of `docs/benchmarks.md` about paths, from `results/`: `python -m benchmarks.paths.page`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import page
from benchmarks.paths.matrix import KINDS, table
from benchmarks.results import DIRECTORY

__all__ = ["write"]

_BEGIN: Final = "<!-- written by `python -m benchmarks.paths.page`: {} -->"

_COLUMNS: Final = (
    *("fault", "trials", "lost", "gap_s_p50", "gap_s_p95", "gap_s_max"),
    *("bulk_gap_s_p50", "bulk_gap_s_p95", "limit_s"),
)


def write(results: Path = DIRECTORY, target: Path = page.PAGE) -> None:
    """Puts what was measured last in place of what stands there."""
    page.put(_matrix(results), _BEGIN.format("matrix"), target)
    page.put(_failures(results), _BEGIN.format("failover"), target)


def _matrix(results: Path) -> str:
    rows = _read(results, "nat-matrix.json")
    rival = _read(results, "nat-matrix-nebula.json")
    names = list(dict.fromkeys(row["peer"] for row in rival))
    square = "\n\n".join(_square(name, [row for row in rival if row["peer"] == name]) for name in names)
    return f"\n{_where(results, 'nat-matrix-run.json')}\n\n{table(rows)}\n\n{square}\n\n"


def _square(name: str, rows: Sequence[dict[str, Any]]) -> str:
    """A rival's cells, as *direct runs of all, first byte*; rows are the side that speaks first."""
    found = {(row["a"], row["b"]): row for row in rows}
    lines = [f"| {name} | {' | '.join(KINDS)} |", "| --- |" + " --- |" * len(KINDS)]
    lines += [f"| {a} | {' | '.join(_cell(found.get((a, b))) for b in KINDS)} |" for a in KINDS]
    gaps = [gap for row in rows for gap in row["gap_s"]]
    if gaps:
        most = f"at least {max(gaps):g}" if max(gaps) >= 60 else f"{max(gaps):g}"
        lines += ["", f"{name}, direct path dropped: nothing for {most} s, {len(gaps)} trials."]
    return "\n".join(lines)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    if not row["connected"]:
        return "no connection"
    return f"{row['direct']}/{row['runs']} direct, {row['first_byte_ms_p50']:,.0f} ms"


def _failures(results: Path) -> str:
    lines = [
        "| what goes | trials | lost | gap p50, s | p95 | longest | bulk p50 | p95 | allowed |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [f"| {' | '.join(str(row[key]) for key in _COLUMNS)} |" for row in _read(results, "failover.json")]
    long = json.loads((results / "ten-minutes.json").read_text())
    fate = f"was closed ({long['trouble']})" if long["trouble"] else "was never closed"
    said = (
        f"One stream of {long['seconds']:g} s through two daemons, and every 20 s one of these, or mappings, or all of"
        f" one side: {len(long['cuts'])} cuts, {long['came_bytes'] / 1e6:,.0f} MB there and back,"
        f" {'the same bytes' if long['same'] else 'NOT the same bytes'}. The program's socket {fate}; nothing came for"
        f" {long['longest_silence_s']:g} s at most."
    )
    return f"\n{_where(results, 'failover-run.json')}\n\n" + "\n".join(lines) + f"\n\n{said}\n\n"


def _where(results: Path, name: str) -> str:
    about = json.loads((results / name).read_text())
    machine = about["machine"]
    return (
        f"Commit {about['commit']}, {machine['cores']} cores of {machine['processor']}, {machine['kernel']},"
        f" Python {machine['python']}."
    )


def _read(results: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((results / name).read_text())
    return found


if __name__ == "__main__":
    write()
