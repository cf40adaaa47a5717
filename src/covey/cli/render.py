"""Everything `covey` prints.

Standard output carries the answer, standard error what is said about it. On a terminal tables are drawn by
Rich, elsewhere they are plain columns that do not depend on any width. Text that came from other agents
passes `safe` first: a peer must not be able to move our cursor.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TextIO

import msgspec

from covey.base.errors import CoveyError
from covey.base.schema import SEVERITIES, FindingView

__all__ = [
    "ago",
    "amount",
    "columns",
    "document",
    "error",
    "fields",
    "findings",
    "flush",
    "line",
    "next_step",
    "note",
    "safe",
    "table",
    "tally",
    "verdict",
    "when",
    "worst_first",
]

_COLOURS = {
    "ok": "green",
    "error": "red",
    "warning": "yellow",
    "degraded": "yellow",
    "trusted": "green",
    "direct": "green",
    "delivered": "green",
    "yes": "green",
    "pending": "yellow",
    "requested": "yellow",
    "queued": "yellow",
    "relay": "yellow",
    "rejected": "red",
    "refused": "red",
    "expired": "red",
}
"""Colour of a table cell that is exactly this word."""

_ANSI = {"red": "31", "green": "32", "yellow": "33"}


def line(text: str = "") -> None:
    """One line of the answer."""
    print(text)


def flush() -> None:
    """Let the reader see what was printed so far."""
    sys.stdout.flush()


def note(text: str) -> None:
    """One line about the answer, for the person watching."""
    print(text, file=sys.stderr)


def document(value: object) -> None:
    """One JSON document on one line."""
    sys.stdout.flush()
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")  # UTF-8, whatever the terminal's encoding


def error(problem: CoveyError) -> None:
    """`error: ... (code)` and `next: ...`; what is only a warning is called so."""
    word = (
        _paint("warning:", "33", sys.stderr) if problem.code == "warnings-found" else _paint("error:", "31", sys.stderr)
    )
    print(f"{word} {safe(problem.message)} ({safe(problem.code)})", file=sys.stderr)
    if problem.next_step:
        next_step(problem.next_step)


def next_step(text: str) -> None:
    print(f"{_paint('next:', '36', sys.stderr)} {safe(text)}", file=sys.stderr)


def fields(pairs: Sequence[tuple[str, str]]) -> None:
    """Label and value, one pair a line; pairs without a value are left out."""
    shown = [(label, value) for label, value in pairs if value]
    width = max((len(label) for label, _ in shown), default=0)
    for label, value in shown:
        print(f"  {label:<{width}}  {value}")


def findings(items: Sequence[FindingView]) -> None:
    """Each finding in two lines: what it is, with its code, and what to do."""
    width = max((len(each.severity) for each in items), default=0)
    for each in items:
        word = _paint(f"{each.severity:<{width}}", _ANSI.get(_COLOURS.get(each.severity, ""), ""), sys.stdout)
        print(f"  {word}  {safe(each.what)} ({each.code})")
        if each.hint:
            print(f"  {'':<{width}}  {_paint('do:', '36', sys.stdout)} {safe(each.hint)}")


def worst_first(items: Sequence[FindingView]) -> list[FindingView]:
    """By severity; otherwise as they were."""
    return sorted(items, key=lambda each: SEVERITIES.index(each.severity))


def verdict(word: str, text: str) -> None:
    """The first line of an answer that is a judgement: one word, then why."""
    print(f"{_paint(f'{word}:', _ANSI.get(_COLOURS.get(word, ''), ''), sys.stdout)} {safe(text)}")


def tally(items: Sequence[FindingView]) -> str:
    """`1 error, 2 warnings, 1 note`, or `nothing` if there is none."""
    counts = [(severity, sum(each.severity == severity for each in items)) for severity in SEVERITIES]
    return ", ".join(f"{count} {severity}{'s' * (count > 1)}" for severity, count in counts if count) or "nothing"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """A table; `empty` is said instead of one without rows, so that nothing is never ambiguous."""
    if not rows:
        note(empty)
    elif sys.stdout.isatty():
        _rich_table(headers, rows)
    else:
        for text in columns(headers, rows):
            print(text)


def columns(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Plain aligned columns, two spaces apart."""
    cells = [list(headers), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def safe(text: str, *, newlines: bool = False) -> str:
    """`text` with everything that is not printable (control, bidirectional and invisible characters)
    escaped."""
    if text.isprintable():
        return text
    kept = "\n\t" if newlines else ""
    return "".join(
        character if character.isprintable() or character in kept else repr(character)[1:-1] for character in text
    )


def when(seconds: float | None) -> str:
    """Local date and time of an epoch time; "" for None."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds is not None else ""


def amount(size: int) -> str:
    """`512 B`, `1.5 MB`."""
    number, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 1000:
            break
        number, unit = number / 1000, larger
    return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"


def ago(seconds: float, now: float) -> str:
    """`12 s`, `5 min`, `3 h`, `2 d`: how long ago."""
    passed = max(0.0, now - seconds)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if passed >= size:
            return f"{passed / size:.0f} {unit}"
    return f"{passed:.0f} s"


def colours_wanted(stream: TextIO) -> bool:
    """On a terminal, unless `NO_COLOR` (no-color.org: set and not empty) or a dumb terminal says
    otherwise."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _paint(text: str, colour: str, stream: TextIO) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if colour and colours_wanted(stream) else text


def _rich_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        drawn.add_column(header, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    Console(no_color=not colours_wanted(sys.stdout), highlight=False).print(drawn)
