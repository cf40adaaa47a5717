"""What findings mean for the exit code of the command that made them."""

from __future__ import annotations

from collections.abc import Sequence

from covey.base.errors import CoveyError, StateError
from covey.base.schema import FindingView
from covey.cli import render

__all__ = ["judgement"]


def judgement(items: Sequence[FindingView]) -> CoveyError | None:
    """`errors-found` or `warnings-found` with the first thing to do; None if there is nothing worse than notes."""
    for severity, code in (("error", "errors-found"), ("warning", "warnings-found")):
        for each in items:
            if each.severity == severity:
                return StateError(f"found {render.tally(items)}", code=code, next_step=each.hint)
    return None
