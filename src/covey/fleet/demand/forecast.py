"""What the rate will be when an agent ordered now is up: seasonal-naive or Holt-Winters, from the past alone.

Both say by how much the rate will *change* over the horizon, and that is added to the rate of now: level errors cancel,
and a forecast can only be as wrong as its change. Means over buckets of a 288th of the season (five minutes of a day):

- seasonal-naive: the change that the last season saw at the same place;
- Holt-Winters, additive: the trend over the horizon plus the change of the seasonal terms.

Every forecast is kept until its time has come and compared with what came, and so is "nothing changes" (naive). While
its mean error is larger than naive's, or too few were compared, it is suspended: shown, never acted on.
"""

from __future__ import annotations

from math import floor

import msgspec
from msgspec.structs import replace

from covey.fleet.spec.types import Forecast

__all__ = ["ForecastState", "Predicted", "predict"]

BUCKETS = 288
BUCKET_LEAST = 60.0
ALPHA, BETA, GAMMA = 0.3, 0.05, 0.3
"""Holt-Winters' weights of the newest level, trend and seasonal term: half of a step is followed within two buckets,
and half of a changed day within two days."""
SCORE_EVERY = 60.0
SCORES_NEEDED = 30
SCORE_WEIGHT = 0.02
"""The newest comparison's part of the mean error: about the last hour counts."""


class ForecastState(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered between turns."""

    width: float = 0.0
    index: int = 0
    """Of the bucket that fills now: time / width."""
    total: float = 0.0
    seconds: float = 0.0
    at: float = 0.0
    history: tuple[float, ...] = ()
    """Means of the buckets before `index`, newest last, a season and a bit."""
    level: float | None = None
    trend: float = 0.0
    seasonal: tuple[float, ...] = ()
    """By bucket of the season."""
    pending: tuple[tuple[float, float, float], ...] = ()
    """When, what was said, what naive said."""
    error: float = 0.0
    naive_error: float = 0.0
    scored: int = 0


class Predicted(msgspec.Struct, frozen=True):
    """A rate, and whether it may be acted on."""

    rate: float
    suspended: str = ""
    """Why it may not; "" when it may."""


def predict(
    spec: Forecast, rate: float, now: float, horizon: float, state: ForecastState
) -> tuple[Predicted | None, ForecastState]:
    """`rate` is what is measured now. None until a whole season has been seen."""
    width = max(BUCKET_LEAST, spec.season / BUCKETS)
    season = max(2, round(spec.season / width))
    if state.width != width or now - state.at > spec.season or now < state.at:
        state = ForecastState(width=width, index=floor(now / width), at=now)
    state = _score(_fill(state, rate, now, season, spec.method), rate, now)
    change = _change(spec, state, now, horizon, season)
    if change is None:
        return None, state
    said = max(0.0, rate + change)
    if not state.pending or now + horizon - state.pending[-1][0] >= SCORE_EVERY:
        state = replace(state, pending=(*state.pending, (now + horizon, said, rate)))
    if state.scored < SCORES_NEEDED:
        return Predicted(said, f"{state.scored} of {SCORES_NEEDED} forecasts compared"), state
    if state.error >= state.naive_error:
        return Predicted(said, f"off by {state.error:.3g}/s, naive by {state.naive_error:.3g}/s"), state
    return Predicted(said), state


def _fill(state: ForecastState, rate: float, now: float, season: int, method: str) -> ForecastState:
    """The time since the last turn, put into its bucket; full buckets are closed."""
    span = now - state.at
    index = floor(now / state.width)
    if index == state.index:
        return replace(state, total=state.total + rate * span, seconds=state.seconds + span, at=now)
    mean = state.total / state.seconds if state.seconds > 0.0 else rate
    state = _closed(state, mean, season, method)
    while state.index < index:  # nothing was measured: as it was a season ago, or as it was
        state = _closed(state, state.history[-season] if len(state.history) >= season else mean, season, method)
    return replace(state, total=rate * (now - index * state.width), seconds=now - index * state.width, at=now)


def _closed(state: ForecastState, mean: float, season: int, method: str) -> ForecastState:
    history = (*state.history[-(season + 1) :], mean)
    place = state.index % season
    after = replace(state, index=state.index + 1, history=history)
    if method != "holt-winters":
        return after
    if state.level is None:
        if len(history) < season:
            return after
        level = sum(history[-season:]) / season
        terms = [0.0] * season
        for back, value in enumerate(reversed(history[-season:])):
            terms[(state.index - back) % season] = value - level
        return replace(after, level=level, seasonal=tuple(terms))
    before = state.level + state.trend
    level = ALPHA * (mean - state.seasonal[place]) + (1.0 - ALPHA) * before
    term = GAMMA * (mean - level) + (1.0 - GAMMA) * state.seasonal[place]
    return replace(
        after,
        level=level,
        trend=BETA * (level - state.level) + (1.0 - BETA) * state.trend,
        seasonal=(*state.seasonal[:place], term, *state.seasonal[place + 1 :]),
    )


def _score(state: ForecastState, rate: float, now: float) -> ForecastState:
    due = 0
    error, naive, scored = state.error, state.naive_error, state.scored
    while due < len(state.pending) and state.pending[due][0] <= now:
        _, said, same = state.pending[due]
        weight = max(SCORE_WEIGHT, 1.0 / (scored + 1))
        error += weight * (abs(rate - said) - error)
        naive += weight * (abs(rate - same) - naive)
        scored += 1
        due += 1
    if not due:
        return state
    return replace(state, pending=state.pending[due:], error=error, naive_error=naive, scored=scored)


def _change(spec: Forecast, state: ForecastState, now: float, horizon: float, season: int) -> float | None:
    """By how much the rate will change over the horizon."""
    if spec.method == "holt-winters":
        if state.level is None:
            return None
        steps = horizon / state.width
        return steps * state.trend + _term(state, now + horizon, season) - _term(state, now, season)
    then = _past(state, now - spec.season)
    later = _past(state, now + horizon - spec.season)
    return None if then is None or later is None else later - then


def _past(state: ForecastState, at: float) -> float | None:
    """The rate at a moment of the past, between the middles of two buckets; None before history begins."""
    place = at / state.width - 0.5
    first = len(state.history) - state.index + floor(place)
    if first < 0 or first + 1 >= len(state.history):
        return None
    share = place - floor(place)
    return state.history[first] * (1.0 - share) + state.history[first + 1] * share


def _term(state: ForecastState, at: float, season: int) -> float:
    place = at / state.width - 0.5
    first = floor(place)
    share = place - first
    return state.seasonal[first % season] * (1.0 - share) + state.seasonal[(first + 1) % season] * share
