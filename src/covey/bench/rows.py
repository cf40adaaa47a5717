"""Rows: one figure each, with its unit, its ratios to the baselines and its range."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TypedDict

__all__ = ["Row", "row", "row_text"]


class Row(TypedDict):
    """`value` is the median of `runs` runs, `spread` their lowest and highest. A ratio is None without a baseline."""

    metric: str
    value: float
    unit: str
    raw_tcp_ratio: float | None
    asyncio_tls_ratio: float | None
    runs: int
    spread: tuple[float, float]


def row(metric: str, unit: str, values: Sequence[float], baselines: Mapping[str, Sequence[float]] | None = None) -> Row:
    """`baselines`: what "tcp" and "tls" gave in the same runs."""
    value = statistics.median(values)

    def ratio(kind: str) -> float | None:
        others = (baselines or {}).get(kind)
        return round(value / statistics.median(others), 3) if others else None

    return Row(
        metric=metric,
        value=round(value, 3),
        unit=unit,
        raw_tcp_ratio=ratio("tcp"),
        asyncio_tls_ratio=ratio("tls"),
        runs=len(values),
        spread=(round(min(values), 3), round(max(values), 3)),
    )


def row_text(each: Row) -> str:
    """One line for people."""
    low, high = each["spread"]
    return (
        f"{each['metric']:34} {each['value']:10.3f} {each['unit']:7} [{low:.3f} .. {high:.3f}]"
        f"  x raw TCP {each['raw_tcp_ratio'] or '-':>8}  x asyncio TLS {each['asyncio_tls_ratio'] or '-':>8}"
    )
