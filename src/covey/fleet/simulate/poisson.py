"""Poisson numbers from a seed: how a rate per ten minutes becomes requests per second.

The standard library has none. Below 10: Knuth's product of uniforms. From 10 on: PTRS, W. Hörmann, "The transformed
rejection method for generating Poisson random variables" (1993), exact, about a microsecond each.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Callable, Sequence

__all__ = ["draw", "poisson"]


def draw(seed: str, rates: Sequence[float], step: float) -> array[int]:
    """Requests in each second of steps that are `step` s long. Equal arguments, equal numbers, on every machine."""
    uniform = random.Random(seed).random
    counts = array("q")
    seconds = max(1, round(len(rates) * step))
    for index, rate in enumerate(rates):
        until = min(seconds, round((index + 1) * step))
        counts.extend(poisson(uniform, rate, until - len(counts)))
    return counts


def poisson(uniform: Callable[[], float], mean: float, count: int) -> array[int]:
    """`count` numbers of this mean."""
    if mean <= 0:
        return array("q", bytes(8 * count))
    if mean < 10:
        return array("q", (_product(uniform, math.exp(-mean)) for _ in range(count)))
    return _ptrs(uniform, mean, count)


def _product(uniform: Callable[[], float], limit: float) -> int:
    number, product = 0, uniform()
    while product > limit:
        number += 1
        product *= uniform()
    return number


def _ptrs(uniform: Callable[[], float], mean: float, count: int) -> array[int]:
    """Names and constants as in the paper (section 4)."""
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    v_r = 0.9277 - 3.6224 / (b - 2)
    log_mean = math.log(mean)
    numbers = array("q")
    while len(numbers) < count:
        u = uniform() - 0.5
        v = uniform()
        us = 0.5 - abs(u)
        if us <= 0:
            continue
        k = math.floor((2 * a / us + b) * u + mean + 0.43)
        if us >= 0.07 and v <= v_r:
            numbers.append(k)
            continue
        if k < 0 or (us < 0.013 and v > us):
            continue
        if math.log(v) + math.log(inverse_alpha) - math.log(a / (us * us) + b) <= (
            -mean + k * log_mean - math.lgamma(k + 1)
        ):
            numbers.append(k)
    return numbers
