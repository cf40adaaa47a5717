"""The toy's load: jobs at a rate that goes up and down."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable
from typing import Final

from covey.fleet.reporting import Reporter
from covey.fleet.toy.queue import JobQueue

__all__ = ["SHAPES", "generate", "wave"]

TICK: Final = 0.05
"""Seconds between batches of jobs."""

MOST_AT_ONCE: Final = 1000
"""Jobs put after a pause (a suspended laptop): what is beyond is dropped."""


def wave(at: float, low: float, high: float, period: float) -> float:
    """From `low` to `high` and back, smoothly; low when `at` is a multiple of `period`."""
    return low + (high - low) * (1 - math.cos(2 * math.pi * at / period)) / 2


def steps(at: float, low: float, high: float, period: float) -> float:
    """`low` for half of the period, then `high`."""
    return low if at % period < period / 2 else high


SHAPES: Final[dict[str, Callable[[float, float, float, float], float]]] = {"wave": wave, "steps": steps}
"""Jobs per second, by seconds since it began, lowest and highest rate, and period."""


async def generate(queue: JobQueue, reporter: Reporter, rate: Callable[[float], float]) -> None:
    """Until it is told to stop. `rate` is asked with the seconds since the queue was made, so that a load that is
    restarted goes on where it was."""
    async with reporter:
        began, before, due, number = queue.made_at(), time.time(), 0.0, 0
        while not reporter.draining:
            await asyncio.sleep(TICK)
            now = time.time()
            due = min(due + rate(now - began) * max(0.0, now - before), MOST_AT_ONCE)
            before = now
            while due >= 1.0:
                queue.put(f"{time.time_ns():020d}-{os.getpid()}-{number}")
                due, number = due - 1.0, number + 1
