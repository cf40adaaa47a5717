"""Traces made by us: shapes that recorded days do not have, each a few hours long and exact to the second.

They are not tuned for and carry no goal of cost (FLEET section 4 asks that of recorded traces only); they show what a
scaler does at a step, a spike, a sawtooth, under constant demand, and when nobody calls at all.
"""

from __future__ import annotations

from covey.fleet.simulate.poisson import draw
from covey.fleet.simulate.traces import Trace

__all__ = ["synthetic_traces"]

LEVEL = 20.0
"""Requests per second of the plain level."""


def synthetic_traces() -> list[Trace]:
    """All of them, equal on every machine."""
    return [
        _trace("steps", [level for level in (1, 2, 4, 2, 6, 1, 8, 3) for _ in range(30)], 60),
        _trace("spikes", [8.0 if minute % 45 == 30 else 1.0 for minute in range(240)], 60),
        _trace("sawtooth", [0.5 + 4.5 * (minute % 60) / 60 for minute in range(240)], 60),
        _trace("flat", [3.0] * 180, 60),
        _trace("silence", [2.0 if minute < 20 or minute >= 140 else 0.0 for minute in range(180)], 60),
    ]


def _trace(name: str, levels: list[float], step: float) -> Trace:
    """Second by second: drawn once, then exact."""
    counts = draw(f"covey/{name}", [LEVEL * level for level in levels], step)
    return Trace(name=name, step=1.0, rates=tuple(float(count) for count in counts), recorded=False)
