"""Prediction: right about what repeats, silent about what does not, deaf to the future, bounded when it acts."""

from __future__ import annotations

import math
import random

import pytest

from covey.fleet.demand.forecast import ForecastState, Predicted, predict
from covey.fleet.model import Wanted
from covey.fleet.spec.types import Forecast
from tests.fleet.demand.driving import Driver, workload

HOUR = 3600.0
METHODS = ("seasonal-naive", "holt-winters")


def wave(at: float) -> float:
    """A season of an hour between 20 and 180 requests per second."""
    return 100.0 + 80.0 * math.sin(2 * math.pi * at / HOUR)


def follow(spec: Forecast, rates: list[float], horizon: float = 70.0) -> list[Predicted | None]:
    state, said = ForecastState(), []
    for turn, rate in enumerate(rates):
        predicted, state = predict(spec, rate, 5.0 * turn, horizon, state)
        said.append(predicted)
    return said


@pytest.mark.parametrize("method", METHODS)
def test_forecast_of_a_wave_is_closer_than_naive_and_may_act(method: str):
    spec = Forecast(method=method, season=HOUR)  # type: ignore[arg-type]
    said = follow(spec, [wave(5.0 * turn) for turn in range(4 * 720)])
    assert all(predicted is None for predicted in said[:600])
    last = [(turn, predicted) for turn, predicted in enumerate(said) if turn >= 3 * 720 and predicted is not None]
    assert len(last) == 720
    assert not any(predicted.suspended for _, predicted in last)
    off = sum(abs(predicted.rate - wave(5.0 * turn + 70.0)) for turn, predicted in last) / len(last)
    naive = sum(abs(wave(5.0 * turn) - wave(5.0 * turn + 70.0)) for turn, _ in last) / len(last)
    assert off < 0.5 * naive


@pytest.mark.parametrize("method", METHODS)
def test_forecast_worse_than_naive_suspends_itself(method: str):
    noise = random.Random(5)
    levels = [noise.uniform(10.0, 200.0) for _ in range(300)]
    rates = [levels[turn // 36] for turn in range(5 * 720)]  # a new level every three minutes, never again
    said = follow(Forecast(method=method, season=HOUR), rates)  # type: ignore[arg-type]
    late = [predicted for predicted in said[3 * 720 :] if predicted is not None]
    assert late
    assert all("naive by" in predicted.suspended for predicted in late)


@pytest.mark.parametrize("method", METHODS)
def test_forecast_begins_again_after_a_season_without_turns(method: str):
    spec = Forecast(method=method, season=HOUR)  # type: ignore[arg-type]
    state = ForecastState()
    for turn in range(1500):
        predicted, state = predict(spec, wave(5.0 * turn), 5.0 * turn, 70.0, state)
    assert predicted is not None
    predicted, state = predict(spec, 1.0, 1500 * 5.0 + 2 * HOUR, 70.0, state)
    assert predicted is None


def decisions(mode: str, rates: list[float]) -> list[Wanted]:
    spec = Forecast(method="seasonal-naive", mode=mode, season=HOUR)  # type: ignore[arg-type]
    driver = Driver("covey", workload(forecast=spec), running=15)
    return [driver.rate(rate, interval=5.0) for rate in rates]


def test_forecast_only_changes_no_decision_and_is_told():
    rates = [wave(5.0 * turn) for turn in range(3 * 720)]
    plain = Driver("covey", workload(), running=15).rates(rates, interval=5.0)
    told = decisions("forecast-only", rates)
    assert [wanted.agents for wanted in told] == plain
    assert told[-1].forecast is not None


def test_forecast_acts_ahead_of_a_rise_and_adds_half_at_most():
    rates = [wave(5.0 * turn) for turn in range(4 * 720)]
    plain = decisions("forecast-only", rates)
    ahead = decisions("act", rates)
    early = [turn for turn in range(3 * 720, 4 * 720) if ahead[turn].agents > plain[turn].agents]
    assert early
    assert any(ahead[turn].binding == "forecast" for turn in early)
    assert all(ahead[turn].agents >= plain[turn].agents for turn in range(len(rates)))
    assert all(ahead[turn].agents <= math.ceil(1.5 * ahead[turn].raw) for turn in early)
    rising = [turn for turn in early if wave(5.0 * turn + 70.0) > wave(5.0 * turn)]
    assert rising == early  # it never enters the down window: falling, nothing is kept for it


@pytest.mark.parametrize("mode", ["forecast-only", "act"])
def test_forecast_does_not_see_the_future(mode: str):
    """The leak test: whatever comes later, what was decided before it is the same."""
    rates = [wave(5.0 * turn) for turn in range(3 * 720)]
    straight = decisions(mode, rates)
    for cut in (900, 1800):
        shuffled = rates[cut:]
        random.Random(cut).shuffle(shuffled)
        assert decisions(mode, rates[:cut] + shuffled)[:cut] == straight[:cut]
