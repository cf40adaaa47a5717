"""What holds whatever the load does."""

from __future__ import annotations

import itertools
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covey.fleet.demand import POLICIES
from covey.fleet.model import Reading, Wanted
from covey.fleet.spec.types import Forecast, Target
from tests.fleet.demand.driving import RATE, Driver, workload

CPU = Target(signal="cpu", value=0.7)
LOAD = st.one_of(st.none(), st.floats(0.0, 20.0), st.floats(0.0, 5000.0))
"""Requests per second of one turn; None: no reading."""
BACKLOG = st.sampled_from([0.0, 0.0, 1.0, 100.0, 1e5])
TURNS = st.lists(st.tuples(LOAD, BACKLOG, st.sampled_from([0.5, 5.0, 5.0, 5.0, 60.0])), min_size=1, max_size=80)
INTERVAL = st.sampled_from([1.0, 5.0])


def drive(
    policy: str, turns: list[tuple[float | None, float, float]], interval: float, *, stored: bool = False
) -> list[Wanted]:
    driver = Driver(policy, workload(RATE, CPU, least=1, most=500), running=7)
    said = []
    for load, backlog, after in turns:
        at = driver.now + after
        queue = {} if load is None else {"p": Reading(at=at, arrivals=load, backlog=backlog, interval=interval)}
        use = {} if load is None else {"p": Reading(at=at, value=min(1.0, load / (10.0 * len(driver.running))))}
        said.append(driver.turn(queue, use, after=after))
        if stored:
            driver.state = msgspec.json.decode(msgspec.json.encode(driver.state), type=driver.policy.state_type)
    return said


@pytest.mark.parametrize("policy", sorted(POLICIES))
@given(turns=TURNS, interval=INTERVAL)
@settings(max_examples=30)
def test_demand_is_bounded_and_equal_for_equal_histories(
    policy: str, turns: list[tuple[float | None, float, float]], interval: float
):
    said = drive(policy, turns, interval)
    assert said == drive(policy, turns, interval, stored=True)
    for wanted in said:
        assert 0.0 <= wanted.agents <= 1e6
        assert wanted.agents == int(wanted.agents)
        assert wanted.binding
        assert wanted.reason


@given(turns=TURNS, interval=INTERVAL)
@settings(max_examples=100)
def test_covey_never_goes_down_in_a_burst_or_on_hold_and_never_up_beyond_its_limit(
    turns: list[tuple[float | None, float, float]], interval: float
):
    said = drive("covey", turns, interval)
    now = 0.0
    history = [(0.0, 7.0)]
    for wanted, (_, _, after) in zip(said, turns, strict=True):
        now += after
        before = history[-1][1]
        # What was wanted at any moment of the last 15 s: what was decided within them, and what stood as they began.
        begun = [size for at, size in history if at <= now - 15.0]
        lowest = min([*begun[-1:], *(size for at, size in history if at > now - 15.0)])
        if wanted.burst or wanted.hold_down:
            assert wanted.agents >= before
        if not wanted.burst and wanted.agents > before:
            assert wanted.agents <= max(2.0 * before, before + 4.0)
            assert wanted.agents <= max(2.0 * max(lowest, 1.0), lowest + 4.0) or lowest < before
        history.append((now, wanted.agents))
    assert most_reversals(history) <= 2


def most_reversals(history: list[tuple[float, float]]) -> int:
    """The most changes of direction in any ten minutes."""
    steps = [(at, b - a) for (_, a), (at, b) in itertools.pairwise(history) if a != b]
    reversals = [at for (_, a), (at, b) in itertools.pairwise(steps) if a * b < 0]
    return max((sum(1 for other in reversals if at <= other < at + 600.0) for at in reversals), default=0)


@given(rate=st.floats(0.0, 3000.0), start=st.integers(1, 300), interval=INTERVAL)
@settings(max_examples=50)
def test_covey_constant_demand_is_reached_once_and_kept(rate: float, start: int, interval: float):
    """From any size: one direction, at most one change of it (a burst at the very start), then stillness, within 10 %
    above what the load needs."""
    driver = Driver("covey", workload(RATE, least=1, most=500), running=start)
    sizes = [float(start), *driver.rates([rate] * 240, interval=interval)]
    steps = [b - a for a, b in itertools.pairwise(sizes) if a != b]
    assert sum(1 for a, b in itertools.pairwise(steps) if a * b < 0) <= 1
    assert len(set(sizes[-120:])) == 1
    needed = max(rate / 7.0, 0.0)
    assert needed - 1e-6 <= sizes[-1] <= (needed + 1.0) / 0.9 + 1e-6


@pytest.mark.parametrize("seed", range(4))
def test_covey_constant_demand_by_chance_reverses_at_most_twice_in_ten_minutes(seed: int):
    """Independent arrivals of one mean: what chance makes of them is no reason to change direction."""
    chance = random.Random(seed)
    mean = 10.0 ** chance.uniform(0.0, 2.0)
    driver = Driver("covey", workload(RATE, least=1, most=500), running=max(1, round(mean / 7.0)))
    sizes = []
    for _ in range(720):
        count = sum(1 for _ in range(1000) if chance.random() < 5.0 * mean / 1000.0)
        sizes.append((driver.now, driver.rate(count / 5.0).agents))
    assert most_reversals(sizes) <= 2


@given(turns=TURNS, interval=INTERVAL, method=st.sampled_from(["seasonal-naive", "holt-winters"]))
@settings(max_examples=50)
def test_covey_forecast_adds_half_at_most_and_takes_nothing(
    turns: list[tuple[float | None, float, float]], interval: float, method: str
):
    """Over a season of two minutes, repeated until a forecast may act."""
    both = []
    for mode in ("forecast-only", "act"):
        spec = Forecast(method=method, mode=mode, season=120.0)  # type: ignore[arg-type]
        driver = Driver("covey", workload(RATE, most=10_000, forecast=spec), running=7)
        driver.follow = False
        both.append([driver.rate(load or 0.0, backlog, interval=interval) for load, backlog, _ in turns * 3])
    for plain, ahead in zip(*both, strict=True):
        assert plain.agents <= ahead.agents <= max(plain.agents, -(-1.5 * ahead.raw // 1))
