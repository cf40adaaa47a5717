"""Writes the table of `docs/reasons.md` from `covey.base.reasons`: `.venv/bin/python -m tests.base.reasons`.

`test_reasons.py` fails while the page and the program disagree.
"""

from __future__ import annotations

from pathlib import Path

from covey.base.reasons import REASONS

PAGE = Path(__file__).parents[2] / "docs" / "reasons.md"
BEGIN, END = "<!-- made by python -m tests.base.reasons -->\n", "<!-- end -->\n"


def table() -> str:
    lines = ["| code | | what it means | what to change |", "| --- | --- | --- | --- |"]
    lines += [f"| `{each.code}` | {each.standing} | {each.says} | {each.change or '-'} |" for each in REASONS.values()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.partition(END)[2])
