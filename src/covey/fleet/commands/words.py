"""How the fleet's values are said: tables, money, moments."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from covey.base.errors import UsageError
from covey.fleet.model import Step
from covey.fleet.spec.units import duration, say_duration

__all__ = ["ago", "clock", "moment", "money", "number", "printable", "step", "table"]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns; nothing but the heads when there are no rows."""
    lines = [list(head), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def money(usd: float | None) -> str:
    """USD per hour; None is unknown."""
    return "unknown" if usd is None else f"${usd:,.4f}" if 0 < abs(usd) < 0.1 else f"${usd:,.2f}"


def number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"


def clock(at: float, now: float) -> str:
    """The local time of day, with the date when it is not today."""
    moment = time.localtime(at)
    today = time.localtime(now)[:3] == moment[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", moment)


def printable(text: str) -> str:
    """What others wrote (names of agents, a cloud's words) may not steer the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def ago(at: float, now: float) -> str:
    """How long ago, roughly."""
    seconds = max(0.0, now - at)
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f}{unit} ago"
    return f"{seconds:.0f}s ago"


def moment(text: str, now: float, *, ahead: bool) -> float:
    """ "30m" from now (or before it, unless `ahead`), "18:00", "2026-11-20 18:00" local time, or ISO 8601."""
    try:
        return now + duration(text) if ahead else now - duration(text)
    except ValueError:
        pass
    today = datetime.fromtimestamp(now).astimezone()
    try:
        if len(text) in (5, 8) and text[2] == ":":
            at = datetime.combine(
                today.date(), datetime.strptime(text, "%H:%M" if len(text) == 5 else "%H:%M:%S").time()
            )
            at = at.astimezone()
            if ahead and at.timestamp() <= now:
                at += timedelta(days=1)
            if not ahead and at.timestamp() > now:
                at -= timedelta(days=1)
            return at.timestamp()
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"{text!r} is no time", next_step='say "30m", "18:00" or "2026-11-20 18:00"') from None


def step(it: Step) -> str:
    """One step, with its reason."""
    if it.kind == "scale":
        what = f"{it.workload}: {it.offering} to {it.size} agents"
    else:
        grace = f", {say_duration(it.grace)} of grace" if it.kind == "remove" and it.grace else ""
        what = f"{it.workload}: {it.kind} {', '.join(it.ids)} in {it.pool}{grace}"
    saving = f", saves {money(it.saving)}/h" if it.saving else ""
    return f"{what} ({it.cause}: {it.reason}{saving})"
