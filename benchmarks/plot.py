"""`results/history.svg`: how Covey's figures went from run to run. `python -m benchmarks plot`.

Written by hand, because a plot is no reason for a dependency: a panel for each metric, a point for each whole run with
its range, and asyncio TLS of the same runs as a thin line where it did the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from benchmarks import results
from covey.bench.measures import unit
from covey.bench.pair import COVEY, TLS

__all__ = ["METRICS", "PLOT", "svg", "write"]

PLOT = "history.svg"
METRICS = (
    "bulk_gbit_s",
    "bulk32_gbit_s",
    "rtt64_us_p50",
    "rtt64_two_cores_us_p50",
    "rtt64_loaded_us_p99",
    "stream_msgs_per_s",
    "datagrams_per_s",
    "durable_msgs_per_s",
    "handshakes_per_cpu_s",
    "connect_ms",
    "relay_gbit_s",
    "idle_session_bytes",
)

_COLUMNS = 3
_WIDTH, _HEIGHT = 300, 150
"""Of a panel, pixels."""
_LEFT, _TOP, _RIGHT, _BOTTOM = 50, 26, 12, 22
"""Around what is drawn in it."""
_OURS, _THEIRS = "#1f6feb", "#8b949e"


def write(directory: Path = results.DIRECTORY) -> None:
    (directory / PLOT).write_text(svg(results.history(directory)))


def svg(history: Sequence[Mapping[str, Any]]) -> str:
    """All panels that have something to show, of the runs that were whole."""
    whole = [run for run in history if not run["quick"]]
    shown = [metric for metric in METRICS if any(metric in run["values"].get(COVEY.name, {}) for run in whole)]
    rows = -(-len(shown) // _COLUMNS)
    size = f'width="{_COLUMNS * _WIDTH}" height="{rows * _HEIGHT + 20}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="10">']
    parts.append('<rect width="100%" height="100%" fill="white"/>')
    for number, metric in enumerate(shown):
        x, y = number % _COLUMNS * _WIDTH, number // _COLUMNS * _HEIGHT
        parts.append(f'<g transform="translate({x},{y})">{_panel(metric, whole)}</g>')
    legend = "blue: Covey, median and range of a run; grey: asyncio TLS in the same run"
    parts.append(f'<text x="8" y="{rows * _HEIGHT + 12}" fill="#57606a">{legend}</text></svg>\n')
    return "\n".join(parts)


def _panel(metric: str, runs: Sequence[Mapping[str, Any]]) -> str:
    ours = [run["values"].get(COVEY.name, {}).get(metric) for run in runs]
    theirs = [run["values"].get(TLS.name, {}).get(metric) for run in runs]
    top = max(value for found in (*ours, *theirs) if found for value in found) * 1.05 or 1.0
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(number: int) -> float:
        return _LEFT + inner_width * (number + 0.5) / len(runs)

    def y(value: float) -> float:
        return _TOP + inner_height * (1 - value / top)

    parts = [f'<text x="8" y="16" font-weight="bold">{escape(metric)}</text>']
    parts += [
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#d0d7de"/>'
        f'<text x="{_LEFT - 4}" y="{y(value) + 3:.1f}" text-anchor="end">{value:.3g}</text>'
        for value in (0.0, top / 1.05)
    ]
    parts.append(f'<text x="{_LEFT - 4}" y="{_TOP + inner_height / 2:.1f}" text-anchor="end">{unit(metric)}</text>')
    parts.append(_line([(x(number), y(found[0])) for number, found in enumerate(theirs) if found], _THEIRS, 1))
    parts.append(_line([(x(number), y(found[0])) for number, found in enumerate(ours) if found], _OURS, 2))
    for number, found in enumerate(ours):
        if found:
            at = f"{x(number):.1f}"
            title = f"{runs[number]['commit']} {runs[number]['time'][:10]}: {found[0]:g} {unit(metric)}"
            parts.append(
                f'<line x1="{at}" x2="{at}" y1="{y(found[1]):.1f}" y2="{y(found[2]):.1f}" stroke="{_OURS}"/>'
                f'<circle cx="{at}" cy="{y(found[0]):.1f}" r="3" fill="{_OURS}"><title>{escape(title)}</title></circle>'
            )
    for number in {0, len(runs) - 1}:
        label = escape(runs[number]["commit"][:7])
        parts.append(f'<text x="{x(number):.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{label}</text>')
    return "".join(parts)


def _line(points: Sequence[tuple[float, float]], colour: str, width: int) -> str:
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
