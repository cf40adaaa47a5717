"""The demo's page: what came, what waited, what ran, and what was killed; inline SVG, no script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from itertools import pairwise

from scripts.fleet_demo.facts import Moment

__all__ = ["page", "waited"]

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 960, 180, 46, 14, 22
COLOURS = ("#3b6fb6", "#e08a3c", "#5a9e6f")
RATE_OVER = 5.0
"""Seconds over which jobs per second are counted."""


def page(moments: Sequence[Moment], events: Sequence[tuple[float, str]], pools: Sequence[str]) -> str:
    """A whole HTML document."""
    rates = _rates(moments)
    most = max((moment.total for moment in moments), default=1)
    plots = [
        _plot("Jobs that came per second", rates, moments, events, [(lambda i: rates[i], "#444", False)]),
        _plot(
            f"Workers that run ({', '.join(pools)} on top of each other)",
            [float(most)],
            moments,
            events,
            [
                (lambda i, n=number: float(sum(moments[i].workers[pool] for pool in pools[: n + 1])), colour, True)
                for number, colour in reversed(list(enumerate(COLOURS[: len(pools)])))
            ],
        ),
        _plot(
            "Jobs that wait",
            [float(moment.waiting) for moment in moments],
            moments,
            events,
            [(lambda i: float(moments[i].waiting), "#b0413e", False)],
        ),
    ]
    rows = "".join(f"<tr><td>{_clock(at)}</td><td>{escape(text)}</td></tr>" for at, text in events)
    return (
        "<!doctype html><meta charset=utf-8><title>covey fleet: the demo</title>"
        "<style>body{font:14px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em}"
        "h1{font-size:1.4em}h2{font-size:1em;margin:1.5em 0 0}td{padding:0 1em 0 0;vertical-align:top}"
        "svg text{font:11px system-ui,sans-serif;fill:#555}</style>"
        "<h1>A fleet on one machine follows a load</h1>"
        "<p>Real processes, seen from outside once a second. Dotted lines: something was killed, or came back.</p>"
        f"{''.join(plots)}<h2>What happened</h2><table>{rows}</table>"
    )


Line = tuple[Callable[[int], float], str, bool]


def _plot(
    title: str,
    values: Sequence[float],
    moments: Sequence[Moment],
    events: Sequence[tuple[float, str]],
    lines: list[Line],
) -> str:
    span = max(moments[-1].at, 1.0) if moments else 1.0
    top = max(*values, 1.0) if values else 1.0

    def x(at: float) -> float:
        return LEFT + at / span * (WIDTH - LEFT - 8)

    def y(value: float) -> float:
        return TOP + (1 - min(value, top) / top) * (HEIGHT - TOP - BOTTOM)

    inside = ""
    for value, colour, filled in lines:
        points = " ".join(f"{x(moment.at):.1f},{y(value(index)):.1f}" for index, moment in enumerate(moments))
        if filled:
            inside += f"<polygon points='{x(0):.1f},{y(0):.1f} {points} {x(span):.1f},{y(0):.1f}' fill='{colour}'/>"
        else:
            inside += f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='1.5'/>"
    for at, text in events:
        inside += (
            f"<line x1='{x(at):.1f}' x2='{x(at):.1f}' y1='{TOP}' y2='{HEIGHT - BOTTOM}' stroke='#333' "
            f"stroke-dasharray='2 3'><title>{escape(text)}</title></line>"
        )
    ticks = "".join(
        f"<text x='{x(at):.1f}' y='{HEIGHT - 6}' text-anchor='middle'>{_clock(at)}</text>"
        for at in range(0, int(span) + 1, 60)
    )
    scale = f"<text x='4' y='{y(top) + 4:.1f}'>{top:.0f}</text><text x='4' y='{y(0):.1f}'>0</text>"
    return f"<h2>{escape(title)}</h2><svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img'>{inside}{ticks}{scale}</svg>"


def _rates(moments: Sequence[Moment]) -> list[float]:
    rates, first = [], 0
    for index, moment in enumerate(moments):
        while moment.at - moments[first].at > RATE_OVER and first < index:
            first += 1
        passed = moment.at - moments[first].at
        rates.append((moment.arrived - moments[first].arrived) / passed if passed > 0 else 0.0)
    return rates


def waited(moments: Sequence[Moment], seconds: float, per_worker: float) -> float:
    """The share of time in which a new job would have waited longer than `seconds`, or nobody was there."""
    late = sum(
        after.at - before.at
        for before, after in pairwise(moments)
        if not before.total or before.waiting / (before.total * per_worker) > seconds
    )
    return late / max(moments[-1].at, 1e-9)


def _clock(at: float) -> str:
    return f"{int(at) // 60}:{int(at) % 60:02d}"
