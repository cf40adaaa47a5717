"""Rows: one figure each, with its unit, its ratios to the baselines and its range."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TypedDict

__all__ = ["BASELINE_TCP", "BASELINE_TLS", "Row", "row"]

BASELINE_TCP = "raw_tcp"
BASELINE_TLS = "asyncio_tls"


class Row(TypedDict):
    """`value` is the median of `runs` runs, `spread` their lowest and highest. A ratio is None without a baseline.

    `peer` is the contender that gave it.
    """

    metric: str
    value: float
    unit: str
    raw_tcp_ratio: float | None
    asyncio_tls_ratio: float | None
    runs: int
    spread: tuple[float, float]
    peer: str


def row(
    metric: str, unit: str, values: Sequence[float], of_all: Mapping[str, Sequence[float]] | None = None, *, peer: str
) -> Row:
    """`of_all`: what every contender gave in the same runs, the baselines among them."""
    value = statistics.median(values)

    def ratio(baseline: str) -> float | None:
        others = (of_all or {}).get(baseline)
        beside = statistics.median(others) if others else 0.0
        return _rounded(value / beside) if beside > 0 else None

    return Row(
        metric=metric,
        value=_rounded(value),
        unit=unit,
        raw_tcp_ratio=ratio(BASELINE_TCP),
        asyncio_tls_ratio=ratio(BASELINE_TLS),
        runs=len(values),
        spread=(_rounded(min(values)), _rounded(max(values))),
        peer=peer,
    )


def _rounded(value: float) -> float:
    """Four significant digits: more is noise."""
    return float(f"{value:.4g}")
