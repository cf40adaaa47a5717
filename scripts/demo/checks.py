"""What a step expects, and how it says that this did not come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["PATIENCE_SECONDS", "Failed", "expect", "expect_equal", "until"]

PATIENCE_SECONDS = 20.0
"""What should happen by itself happens within this time, or the step has failed."""

LOOK_SECONDS = 0.02


class Failed(Exception):
    """A step did not do what it promises."""

    def __init__(self, expected: str, instead: str) -> None:
        super().__init__(f"expected {expected}, got {instead}")
        self.expected, self.instead = expected, instead


def expect(holds: bool, expected: str, instead: str) -> None:
    if not holds:
        raise Failed(expected, instead)


def expect_equal(what: str, expected: object, actual: object) -> None:
    expect(expected == actual, f"{what} to be {expected!r}", repr(actual))


def until(what: str, holds: Callable[[], bool]) -> None:
    """Look until it holds; `Failed` when the time is over."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    pause = threading.Event()
    while not holds():
        expect(time.monotonic() < deadline, what, f"not within {PATIENCE_SECONDS:g} s")
        pause.wait(LOOK_SECONDS)
