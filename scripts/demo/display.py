"""What the demo prints. Colour only on a terminal and without NO_COLOR; nothing needs one."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Sequence

__all__ = ["Display"]

WIDTH = min(100, shutil.get_terminal_size((100, 24)).columns)
"""Columns of our own words."""

OUTPUT_WIDTH = 114
"""Columns of a program's output; what is longer is cut, so that the page keeps its shape."""

TICKET = re.compile(r"covey1[a-z2-7]{20,}")
"""A hundred characters of no interest to the eye; shown shortened."""

INDENT = "     "
BOLD, DIM, RED, GREEN, CYAN = "1", "2", "31", "32", "36"


class Display:
    """Standard output, line by line."""

    def __init__(self) -> None:
        dumb = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        self._colours = sys.stdout.isatty() and not dumb

    def title(self, text: str) -> None:
        """The name of a step, or of the whole."""
        self._print(f"\n{self._paint(text, BOLD)}")

    def say(self, text: str) -> None:
        """A sentence or two: what happens, and why it matters."""
        self._print(textwrap.fill(text, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT))

    def command(self, machine: str, words: Sequence[str]) -> None:
        """A command line as somebody at `machine` types it."""
        prompt = self._paint(f"{machine} $", CYAN)
        self._print(f"{INDENT}{prompt} {self._paint(shlex.join(words), BOLD)}")

    def output(self, text: str) -> None:
        """What a command answered."""
        for line in text.rstrip("\n").splitlines():
            line = shortened(line)
            cut = line if len(line) <= OUTPUT_WIDTH else line[: OUTPUT_WIDTH - 3] + "..."
            self._print(f"{INDENT}  {self._paint(cut, DIM)}")

    def passed(self, seconds: float) -> None:
        self._print(f"{INDENT}{self._paint('ok', GREEN)}  {seconds:.1f} s")

    def failed(self, title: str, expected: str, instead: str) -> None:
        self._print(f"\n{self._paint('FAILED', RED)}  {title}")
        self._print(f"  expected: {expected}\n  instead:  {instead}")

    def table(self, rows: Sequence[tuple[str, str, str]]) -> None:
        """Figures: what, how much, how it was measured."""
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        for what, value, how in rows:
            self._print(f"  {what:<{widths[0]}}  {value:>{widths[1]}}  {self._paint(how, DIM)}")

    def line(self, text: str = "") -> None:
        self._print(text)

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours else text

    @staticmethod
    def _print(text: str) -> None:
        print(text, flush=True)


def shortened(text: str) -> str:
    """`text` with the middle of tickets left out."""
    return TICKET.sub(lambda match: f"{match[0][:12]}...{match[0][-6:]}", text)
