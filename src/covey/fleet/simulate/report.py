"""A simulation as one HTML page: the table, and for each policy its agents, its backlog, its cost by cloud, its
decisions. Everything inline, no scripts, nothing loaded: it can be mailed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from covey.fleet.model import Decision
from covey.fleet.simulate.figures import Outcome, Point

__all__ = ["render_html"]

WIDE, HIGH, LEFT, BOTTOM = 1000, 150, 60, 18
COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b7791f", "#c53030")
ABOUT = (
    "Violated: requests that found more than 5 s of backlog, or no ready agent. Starting and draining agents are paid. "
    "Medians over the seeds; the plots show the first."
)
STYLE = """
body{font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em;color:#1a202c;background:#fff}
table{border-collapse:collapse}td,th{padding:.2em .9em;text-align:right;border-bottom:1px solid #e2e8f0}
td:first-child,th:first-child,td.words{text-align:left}h2{margin-top:2em}svg{display:block;margin:.3em 0 1em}
svg text{font-size:11px;fill:#4a5568}.legend{color:#4a5568}
details td{font-size:12px}b.key{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 1em}
"""


def render_html(outcome: Outcome) -> str:
    """The whole page."""
    rows = "".join(
        f"<tr><td>{escape(row.policy)}</td><td>{row.replica_hours:.1f}</td><td>{row.cost_usd:.2f}</td>"
        f"<td>{100 * row.violations:.3f} %</td><td>{row.reversals_per_hour:.2f}</td><td>{row.moves}</td></tr>"
        for row in outcome.rows
    )
    trace = escape(outcome.rows[0].trace) if outcome.rows else ""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{trace}: simulated</title><style>{STYLE}</style><h1>{trace}</h1>",
        f"<p>{ABOUT}</p>",
        "<table><tr><th>policy<th>agent-hours<th>USD<th>violated<th>reversals/h<th>moves</tr>" + rows + "</table>",
        *(f"<p>{escape(note)}</p>" for note in outcome.notes),
    ]
    for policy, points in outcome.points.items():
        parts.append(f"<h2>{escape(policy)}</h2>")
        parts.append(_agents(points, outcome.rate_per_agent))
        parts.append(_backlog(points))
        parts.append(_cost(points))
        if policy in outcome.decisions:
            parts.append(_decisions(outcome.decisions[policy], outcome.dropped.get(policy, 0)))
    return "\n".join(parts)


def _agents(points: Sequence[Point], rate: float) -> str:
    top = max([1.0, *(float(point.paid) for point in points), *(point.arrivals / rate for point in points)])
    lines = [
        _line(points, top, lambda point: point.arrivals / rate, "#a0aec0"),
        _line(points, top, lambda point: float(point.paid), COLOURS[1]),
        _line(points, top, lambda point: float(point.ready), COLOURS[0]),
    ]
    legend = _legend([("ready", COLOURS[0]), ("paid", COLOURS[1]), ("demand at full load", "#a0aec0")])
    return f"<p class=legend>Agents {legend}</p>" + _frame(points, top, "".join(lines))


def _backlog(points: Sequence[Point]) -> str:
    top = max([6.0, *(min(point.backlog, 120.0) for point in points)])
    limit = (
        f"<line x1={LEFT} x2={WIDE} y1={_y(5, top):.1f} y2={_y(5, top):.1f} stroke='#c53030' stroke-dasharray='4 4'/>"
    )
    drawn = _line(points, top, lambda point: min(point.backlog, 120.0), COLOURS[3])
    return "<p class=legend>Backlog, seconds of ready capacity (limit 5, cut at 120)</p>" + _frame(
        points, top, limit + drawn
    )


def _cost(points: Sequence[Point]) -> str:
    """Stacked by cloud."""
    clouds = sorted({cloud for point in points for cloud in point.usd_per_hour})
    top = max([0.01, *(sum(point.usd_per_hour.values()) for point in points)])
    span = _span(points)
    below = [0.0] * len(points)
    areas = []
    for index, cloud in enumerate(clouds):
        above = [low + point.usd_per_hour.get(cloud, 0.0) for low, point in zip(below, points, strict=True)]
        edge = [f"{_x(point.at, span):.1f},{_y(value, top):.1f}" for point, value in zip(points, above, strict=True)]
        back = [f"{_x(point.at, span):.1f},{_y(value, top):.1f}" for point, value in zip(points, below, strict=True)]
        colour = COLOURS[index % len(COLOURS)]
        areas.append(f"<polygon points='{' '.join(edge + back[::-1])}' fill='{colour}' fill-opacity='.75'/>")
        below = above
    legend = _legend([(cloud, COLOURS[index % len(COLOURS)]) for index, cloud in enumerate(clouds)])
    return f"<p class=legend>USD per hour {legend}</p>" + _frame(points, top, "".join(areas))


def _decisions(decisions: Sequence[Decision], dropped: int) -> str:
    rows = []
    for decision in decisions:
        steps = "; ".join(
            f"{step.kind} {step.offering or step.pool} {step.size or len(step.ids)} ({step.cause}: {step.reason})"
            for step in decision.steps
        )
        short = "; ".join(shortfall.reason for shortfall in decision.shortfalls)
        rows.append(
            f"<tr><td>{_clock(decision.at)}</td><td>{decision.wanted.agents:g}</td>"
            f"<td class=words>{escape(decision.wanted.reason)}</td><td class=words>{escape(steps)}"
            f"{' <i>' + escape(short) + '</i>' if short else ''}</td></tr>"
        )
    more = f"<p>{dropped} more are not shown.</p>" if dropped else ""
    return (
        f"<details><summary>Decisions ({len(decisions) + dropped})</summary><table><tr><th>at<th>wanted<th>why<th>steps"
        f"</tr>{''.join(rows)}</table>{more}</details>"
    )


def _line(points: Sequence[Point], top: float, value: Callable[[Point], float], colour: str) -> str:
    span = _span(points)
    path = " ".join(f"{_x(point.at, span):.1f},{_y(value(point), top):.1f}" for point in points)
    return f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='1.3'/>"


def _frame(points: Sequence[Point], top: float, inside: str) -> str:
    begin, end = _span(points)
    marks = "".join(
        f"<line x1={LEFT} x2={WIDE} y1={_y(top * part, top):.1f} y2={_y(top * part, top):.1f} stroke='#e2e8f0'/>"
        f"<text x={LEFT - 6} y={_y(top * part, top) + 4:.1f} text-anchor=end>{top * part:.3g}</text>"
        for part in (0.0, 0.5, 1.0)
    )
    times = "".join(
        f"<text x={_x(begin + (end - begin) * part, (begin, end)):.1f} y={HIGH + BOTTOM - 3} "
        f"text-anchor={anchor}>{_clock(begin + (end - begin) * part)}</text>"
        for part, anchor in ((0.0, "start"), (0.25, "middle"), (0.5, "middle"), (0.75, "middle"), (1.0, "end"))
    )
    return f"<svg viewBox='0 0 {WIDE} {HIGH + BOTTOM}' width='100%' role=img>{marks}{inside}{times}</svg>"


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    return "".join(f"<b class=key style='background:{colour}'></b>{escape(name)}" for name, colour in entries)


def _span(points: Sequence[Point]) -> tuple[float, float]:
    return (points[0].at, max(points[-1].at, points[0].at + 1.0)) if points else (0.0, 1.0)


def _x(at: float, span: tuple[float, float]) -> float:
    return LEFT + (WIDE - LEFT) * (at - span[0]) / (span[1] - span[0])


def _y(value: float, top: float) -> float:
    return 6 + (HIGH - 10) * (1 - value / top)


def _clock(at: float) -> str:
    days, rest = divmod(round(at), 86400)
    hours, rest = divmod(rest, 3600)
    clock = f"{hours:02}:{rest // 60:02}" + (f":{rest % 60:02}" if rest % 60 else "")
    return f"day {days + 1} {clock}" if days else clock
