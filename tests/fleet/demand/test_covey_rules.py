"""Covey's own policy, rule by rule."""

from __future__ import annotations

import random

import msgspec
import pytest

from covey.fleet.demand.covey import CoveyState
from covey.fleet.model import Reading
from covey.fleet.spec.types import Target
from tests.fleet.demand.driving import Driver, agents, workload

CPU = Target(signal="cpu", value=0.5)


def test_covey_steady_load_asks_for_rate_over_what_an_agent_is_meant_for():
    driver = Driver("covey", workload(), running=10)
    wanted = [driver.rate(70.0) for _ in range(100)]
    assert {w.agents for w in wanted} == {10.0}
    assert wanted[-1].binding == "queue"
    assert not wanted[-1].hold_down


def test_covey_backlog_adds_what_drains_it_in_time():
    driver = Driver("covey", workload(), running=10)
    assert driver.rate(70.0, backlog=420.0).agents == 12.0  # 70/s + 420 / 30 s = 84/s


def test_covey_up_limit_is_the_higher_of_double_and_four_more_per_15_s():
    driver = Driver("covey", workload(), running=3)
    wanted = driver.rates([700.0] * 10, interval=5.0)
    assert wanted == [7.0, 7.0, 7.0, 14.0, 14.0, 14.0, 28.0, 28.0, 28.0, 56.0]


def test_covey_burst_begins_at_twice_what_ready_agents_serve_and_has_no_limit_up():
    driver = Driver("covey", workload(), running=10)
    driver.follow = False
    driver.rates([70.0] * 20)
    below, above = driver.rate(220.0), driver.rate(220.0)
    assert (below.burst, above.burst) == (False, True)  # the mean of 6 s is 195/s, then 220/s, ten serve 200/s / 2
    assert above.agents == 32.0
    assert driver.rate(1000.0).agents > 100.0


def test_covey_slow_signal_begins_no_burst():
    driver = Driver("covey", workload(), running=10)
    assert not any(driver.rate(1000.0, interval=5.0).burst for _ in range(10))


def test_covey_burst_keeps_everything_and_ends_60_s_after_it_was_last_true():
    driver = Driver("covey", workload(), running=10)
    driver.rates([70.0] * 40)
    peak = driver.rate(400.0)
    after = [driver.rate(0.0) for _ in range(20)]
    assert [w.burst for w in after].count(True) in (11, 12)
    assert all(w.agents == peak.agents for w in after if w.burst)


@pytest.mark.parametrize("every", [1.0, 5.0], ids=["fast-signal", "slow-signal"])
def test_covey_down_waits_for_the_highest_of_300_s(every: float):
    driver = Driver("covey", workload(), running=10)
    driver.rates([70.0] * 80, interval=every)
    begin = driver.now
    while driver.rate(0.0).agents == 10.0:
        assert driver.now - begin < 1000.0
    # Some of the mean's own 60 s pass until it drops by more than the dead band.
    assert 300.0 <= driver.now - begin <= 315.0


def test_covey_drop_of_a_tenth_is_ignored_unless_it_reaches_min():
    calm = Driver("covey", workload(least=1), running=10)
    calm.rates([70.0] * 40)
    assert calm.rates([63.0] * 90)[-1] == 10.0
    least = Driver("covey", workload(least=9), running=10)
    least.rates([70.0] * 40)
    assert least.rates([63.0] * 90)[-1] == 9.0


def test_covey_highest_target_wins_and_is_named():
    both = workload(Target(signal="queue", rate_per_agent=10.0), CPU)
    driver = Driver("covey", both, running=10)
    for _ in range(30):
        driver.running = agents(10)
        at = driver.now + 5.0
        wanted = driver.turn({"p": Reading(at=at, arrivals=14.0)}, {"p": Reading(at=at, value=0.8)})
    assert (wanted.agents, wanted.binding) == (16.0, "cpu")


@pytest.mark.parametrize(("use", "expected"), [(0.54, 10.0), (0.46, 10.0), (0.6, 12.0), (0.3, 6.0)])
def test_covey_cpu_is_a_ratio_on_ready_agents_with_a_tolerance(use: float, expected: float):
    driver = Driver("covey", workload(CPU), running=10)
    driver.follow = False
    for _ in range(62):
        wanted = driver.turn({"p": Reading(at=driver.now + 5.0, value=use)})
    assert wanted.agents == expected


def test_covey_cpu_of_agents_younger_than_a_cold_start_is_ignored():
    driver = Driver("covey", workload(CPU, cold_start=60.0), running=0)
    old = [msgspec.structs.replace(agent, cpu=0.5) for agent in agents(4)]
    young = [msgspec.structs.replace(agent, id=f"y{agent.id}", cpu=1.0, started_at=0.0) for agent in agents(4)]
    driver.running = (*old, *young)
    driver.follow = False
    assert driver.turn({}).agents == 8.0


def test_covey_completions_alone_are_no_rate():
    driver = Driver("covey", workload(), running=5)
    wanted = driver.turn({"p": Reading(at=5.0, completions=70.0)})
    assert (wanted.agents, wanted.hold_down, wanted.raw) == (5.0, True, 0.0)


def test_covey_completions_and_growth_of_the_backlog_are_a_rate():
    driver = Driver("covey", workload(), running=5)
    driver.turn({"p": Reading(at=5.0, completions=50.0, backlog=0.0)})
    wanted = driver.turn({"p": Reading(at=10.0, completions=50.0, backlog=100.0)})
    assert wanted.raw == 11.0  # 50 + 100/5 arrive, 100/30 wait: 73.3 over 7


def test_covey_missing_signal_lets_others_raise_and_none_lower():
    both = workload(Target(signal="queue", rate_per_agent=10.0), CPU)
    driver = Driver("covey", both, running=10)
    for _ in range(40):
        driver.turn({"p": Reading(at=driver.now + 5.0, arrivals=70.0)}, {"p": Reading(at=driver.now + 5.0, value=0.5)})
    last = Reading(at=driver.now + 1.0, value=0.4)
    for _ in range(40):
        low = driver.turn({"p": Reading(at=driver.now + 5.0, arrivals=7.0)}, {"p": last})
    assert (low.agents, low.hold_down, low.binding) == (10.0, True, "hold")
    high = driver.turn({"p": Reading(at=driver.now + 5.0, arrivals=2000.0)}, {"p": last})
    assert high.agents > 10.0


def test_covey_missing_part_keeps_its_last_value_for_five_minutes():
    driver = Driver("covey", workload(Target(signal="queue", rate_per_agent=10.0, fallback="none")), running=20)
    dead = Reading(at=5.0, arrivals=70.0)
    wanted = {}
    while driver.now < 600.0:
        at = driver.now + 5.0
        wanted[at] = driver.turn({"a": Reading(at=at, arrivals=70.0), "b": dead}).raw
    assert wanted[300.0] == 20.0
    assert wanted[600.0] == 10.0


@pytest.mark.parametrize(
    ("fallback", "expected"),
    [("current-if-higher", 10.0), ("current", 10.0), ("min", 3.0), (7, 7.0), (12, 12.0), ("none", 0.0)],
    ids=str,
)
def test_covey_fallback_holds_when_a_signal_is_gone(fallback: str | int, expected: float):
    target = Target(signal="queue", rate_per_agent=10.0, fallback=fallback)  # type: ignore[arg-type]
    driver = Driver("covey", workload(target, least=3), running=10)
    last = Reading(at=5.0, arrivals=70.0)
    seen = [driver.turn({"p": last}) for _ in range(300)]
    assert {w.agents for w in seen[:59]} == {10.0}
    assert seen[-1].agents == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0], ids=["nan", "inf", "negative"])
def test_covey_nonsense_is_no_reading(value: float):
    driver = Driver("covey", workload(), running=10)
    driver.rates([70.0] * 40)
    wanted = driver.turn({"p": Reading(at=driver.now + 5.0, arrivals=value, backlog=value)})
    assert (wanted.agents, wanted.hold_down) == (10.0, True)


def test_covey_huge_reading_is_bounded():
    wanted = Driver("covey", workload(), running=10).rate(1e300)
    assert wanted.agents <= 1e6


def test_covey_restart_holds_scale_in_until_the_window_is_covered():
    driver = Driver("covey", workload(), running=10)
    driver.rates([70.0] * 80)
    stored = msgspec.json.encode(driver.state)
    driver.state = msgspec.json.decode(stored, type=CoveyState)
    driver.now += 600.0
    back = driver.now + 5.0
    held = [driver.rate(7.0) for _ in range(60)]
    assert all((w.agents, w.hold_down) == (10.0, True) for w in held)
    assert driver.rate(7.0).agents < 10.0
    assert driver.now - back == 300.0


def test_covey_restart_still_scales_out():
    driver = Driver("covey", workload(), running=10)
    driver.rates([70.0] * 60)
    driver.now += 600.0
    assert driver.rates([700.0] * 20)[-1] == 100.0


@pytest.mark.parametrize("policy", ["covey", "kpa", "skyserve", "rayserve", "hpa"])
def test_demand_follows_the_load_after_the_clock_was_set_back(policy: str):
    driver = Driver(policy, workload(), running=10)
    driver.rates([70.0] * 80)
    driver.now -= 3600.0
    assert driver.rates([210.0] * 80)[-1] == 30.0
    assert driver.rates([70.0] * 300)[-1] == 10.0


def test_covey_first_turn_keeps_what_runs():
    assert Driver("covey", workload(), running=10).rate(0.0).agents == 10.0


def test_covey_no_targets_asks_for_nothing_beyond_min():
    driver = Driver("covey", msgspec.structs.replace(workload(), targets=()), running=4)
    assert [driver.turn().agents for _ in range(30)][-1] == 0.0


def test_covey_target_with_neither_is_an_error():
    with pytest.raises(ValueError, match="cpu says neither"):
        Driver("covey", workload(Target(signal="cpu")), running=1).turn({})


def test_covey_surge_decides_when_it_is_no_chance():
    """A mean of 15 s that is a fifth and three sigma above that of 60 s is believed, a smaller one is not."""
    steady = Driver("covey", workload(), running=100)
    steady.rates([700.0] * 20)
    assert steady.rates([820.0] * 3)[-1] <= 105.0  # 17 % more: the mean of 60 s decides
    surge = Driver("covey", workload(), running=100)
    surge.rates([700.0] * 20)
    assert surge.rates([980.0] * 3)[-1] == 140.0
    few = Driver("covey", workload(), running=1)
    few.rates([2.0] * 20)
    assert few.rates([3.2] * 3)[-1] == 1.0  # 60 % more, of so few requests that it says nothing


def test_covey_surge_has_to_exceed_the_noise_seen_of_late():
    """The same rise of 15 s: a surge after quiet minutes, noise after noisy ones, a surge again when they are over."""

    def noisy(seed: int, turns: int) -> list[float]:
        chance = random.Random(seed)
        return [700.0 * chance.choice((0.2, 0.6, 1.4, 1.8)) for _ in range(turns)]

    driver = Driver("covey", workload(), running=150)
    driver.rates(noisy(1, 360))
    before = driver.state.targets[0].noise
    assert before > 50.0
    driver.rates([700.0] * 12)
    assert [driver.rate(980.0).raw for _ in range(3)][-1] == 110.0  # the mean of 60 s
    driver.rates([700.0] * 720)
    assert driver.state.targets[0].noise < 1.5
    driver.rates([700.0] * 12)
    assert [driver.rate(980.0).raw for _ in range(3)][-1] == 140.0


def test_covey_noise_is_hardly_learned_from_one_surge():
    """A deviation counts as two sigma at most, so that the surge after next is seen as well."""
    driver = Driver("covey", workload(), running=100)
    for _ in range(3):
        driver.rates([700.0] * 120)
        assert driver.rates([1400.0] * 3)[-1] >= 180.0
        assert driver.state.targets[0].noise < 2.0


def test_covey_noise_stays_a_number_whatever_arrives():
    driver = Driver("covey", workload(), running=1)
    for rate in (1e308, 5e-324, 0.0, 1e308, 1e308, 1e-300) * 40:
        driver.rate(rate, after=60.0)
        assert 1.0 <= driver.state.targets[0].noise <= 1e6


def test_covey_small_rise_waits_until_it_was_asked_for_throughout_the_window():
    driver = Driver("covey", workload(), running=100)
    driver.rates([700.0] * 61)
    kept = driver.rate(763.0)
    assert (kept.agents, kept.binding) == (100.0, "dead-band")
    sizes = driver.rates([763.0] * 80)
    assert sizes[50] == 100.0
    assert sizes[-1] == 109.0
    assert driver.rates([840.0] * 12)[-1] == 120.0  # more than 10 %: at once


def test_covey_little_room_tolerates_little():
    tight = workload(Target(signal="queue", rate_per_agent=10.0, utilisation=0.9))
    driver = Driver("covey", tight, running=100)
    driver.rates([900.0] * 61)
    assert driver.rates([918.0] * 12)[-1] == 100.0  # 2 % of the 2.8 % that 10 % of room allow
    assert driver.rates([936.0] * 12)[-1] == 103.0  # 3 % at once, the rest later
    assert driver.rates([936.0] * 61)[-1] == 104.0


def overrun(driver: Driver) -> None:
    """Half a minute with twice the load that ten agents serve."""
    driver.running = agents(10)
    driver.follow = False
    for _ in range(6):
        driver.rate(150.0, backlog=400.0)
    driver.follow = True


def test_covey_backlog_that_noise_explains_is_no_overrun():
    def overruns(loads: list[float]) -> int:
        driver = Driver("covey", workload(), running=100)
        driver.follow = False
        driver.rates(loads)
        driver.rate(700.0, backlog=2500.0)
        return len(driver.state.past.overruns.began)

    chance = random.Random(3)
    assert overruns([700.0] * 360) == 1
    assert overruns([700.0 * chance.choice((0.2, 0.6, 1.4, 1.8)) for _ in range(360)]) == 0


def calm(driver: Driver, seconds: float) -> list[float]:
    """The size after each turn of quiet load."""
    end = driver.now + seconds
    sizes = []
    while driver.now < end:
        sizes.append(driver.rate(14.0).agents)
    return sizes


def test_covey_second_overrun_is_a_pattern_and_keeps_what_it_took_for_longer():
    driver = Driver("covey", workload(), running=10)
    driver.rates([14.0] * 60)
    overrun(driver)
    once = calm(driver, 900.0)
    assert once[50] > 10.0
    assert once[-1] == 2.0  # after 300 s it went down
    overrun(driver)
    twice = calm(driver, 1200.0)
    assert min(twice) > 10.0  # 930 s lay between them, so 1,395 s are kept
    assert calm(driver, 600.0)[-1] == 2.0


def test_covey_overruns_do_not_keep_awake_what_may_sleep():
    driver = Driver("covey", workload(least=0), running=10)
    for _ in range(3):
        overrun(driver)
        calm(driver, 600.0)
    assert driver.state.past.overruns.began
    asleep = [driver.rate(0.0).agents for _ in range(150)]
    assert asleep[-1] == 0.0


@pytest.mark.parametrize(("asked", "kept"), [(60, 60.0), (300, 300.0), (900, 300.0)])
def test_covey_down_window_may_be_shorter_and_not_longer(asked: float, kept: float):
    driver = Driver("covey", workload(policy_settings={"down_window": asked}), running=10)
    driver.rates([70.0] * 100)
    low = [driver.rate(7.0) for _ in range(80)]
    first = next(index for index, wanted in enumerate(low) if wanted.agents < 10.0)
    assert first * 5.0 == pytest.approx(kept, abs=15.0)  # the mean of 60 s falls first
