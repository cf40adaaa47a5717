"""Small memories of the recent past: means, lows and highs over a sliding window.

All are tuples of `(time, value)` in order of time, so that they are stored as JSON and shared between turns unchanged.
"""

from __future__ import annotations

__all__ = ["Samples", "add_high", "add_sample", "high", "low", "mean"]

Samples = tuple[tuple[float, float], ...]

MOST_SAMPLES = 512
"""A bound on what one window may hold, whatever the rate of turns: 60 s of turns every 0.2 s with room to spare."""


def add_sample(samples: Samples, at: float, value: float, keep: float) -> Samples:
    """`samples` with one more, without those that a window of `keep` seconds no longer needs. A sample that is not
    newer than the last one replaces nothing: it has been seen. One that is older by more than the window tells of a
    clock that was set back: what came before means nothing any more."""
    if samples and at <= samples[-1][0]:
        return samples if samples[-1][0] - at <= keep else ((at, value),)
    first = 0
    edge = at - keep
    # The last sample at or before the edge ends there, so only what lies after it can still overlap the window.
    while first < len(samples) and samples[first][0] <= edge:
        first += 1
    first = max(first, len(samples) + 1 - MOST_SAMPLES)
    return (*samples[first:], (at, value))


def mean(samples: Samples, now: float, window: float) -> float | None:
    """The time-weighted mean over the last `window` seconds that samples cover; None without any.

    A sample holds from the one before it to its own time; the oldest one holds for the rest of the window, so that a
    short history counts for what it is.
    """
    if not samples:
        return None
    newest = samples[-1][0]
    edge = min(now, newest) - window
    total = 0.0
    until = newest
    for index in range(len(samples) - 1, -1, -1):
        begins = samples[index - 1][0] if index else edge
        if begins <= edge:
            return (total + samples[index][1] * (until - edge)) / window
        total += samples[index][1] * (until - begins)
        until = begins
    raise AssertionError("unreachable: the oldest sample reaches the edge")


def low(samples: Samples, now: float, window: float, default: float) -> float:
    """The lowest value of the last `window` seconds, without what is just that old."""
    edge = now - window
    return min((value for at, value in samples if at > edge), default=default)


def add_high(highs: Samples, at: float, value: float, keep: float) -> Samples:
    """A memory for maxima: what an equal or higher later value hides is dropped, so it stays short and decreasing."""
    end = len(highs)
    while end and highs[end - 1][1] <= value:
        end -= 1
    first = 0
    while first < end and highs[first][0] < at - keep:
        first += 1
    first = max(first, end + 1 - MOST_SAMPLES)
    return (*highs[first:end], (at, value))


def high(highs: Samples, now: float, window: float) -> float | None:
    """The highest value of the last `window` seconds of a memory made by `add_high`."""
    edge = now - window
    for at, value in highs:
        if at >= edge:
            return value
    return None
