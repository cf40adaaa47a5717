"""KPA, SkyServe, Ray Serve and the threshold rule as their projects define them: their numbers, one by one."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from covey.fleet.demand import POLICIES
from covey.fleet.model import Reading
from covey.fleet.spec.types import Target
from tests.fleet.demand.driving import RATE, Driver, agents, workload


def kpa(running: int) -> Driver:
    """A KPA past the panic that it begins with."""
    driver = Driver("kpa", workload(), running=running)
    for _ in range(40):
        driver.rate(7.0 * running, after=2.0)
    return driver


def test_kpa_stable_wants_the_mean_of_60_s_over_the_target():
    driver = kpa(10)
    seen = [driver.rate(84.0, after=2.0).agents for _ in range(31)]
    assert (seen[0], seen[-1]) == (11.0, 12.0)  # one sample above 70/s is above ten pods


def test_kpa_goes_down_by_half_of_the_ready_pods_at_most():
    driver = kpa(40)
    driver.follow = False
    for _ in range(60):
        wanted = driver.rate(0.0, after=2.0)
    assert wanted.agents == 20.0


def test_kpa_panic_begins_at_twice_the_ready_pods_and_keeps_its_highest_for_60_s():
    driver = kpa(10)
    driver.follow = False
    calm = driver.rate(100.0, after=2.0)
    panic = [driver.rate(200.0, after=2.0) for _ in range(3)][-1]
    assert (calm.burst, panic.burst, panic.agents) == (False, True, 29.0)
    quiet = [driver.rate(0.0, after=2.0) for _ in range(40)]
    kept = list(itertools.takewhile(lambda wanted: wanted.burst, quiet))
    assert {wanted.agents for wanted in kept} == {29.0}
    # The first quiet round still sees the burst in its 6 s; panic ends when that is more than 60 s ago.
    assert len(kept) == 31


def test_kpa_begins_in_panic_over_more_than_one_pod():
    driver = Driver("kpa", workload(), running=8)
    seen = [driver.rate(7.0, after=2.0).agents for _ in range(34)]
    assert seen[30] == 8.0
    assert seen[-1] < 8.0


def test_kpa_decides_every_2_s():
    driver = Driver("kpa", workload(), running=1)
    driver.rate(7.0, after=2.0)
    assert driver.rate(700.0, after=1.0).agents == 1.0
    assert driver.rate(700.0, after=1.0).agents > 1.0


@pytest.mark.parametrize(("rate", "rounds"), [(140.0, 15), (7.0, 60)], ids=["up-300s", "down-1200s"])
def test_skyserve_acts_after_its_rounds_in_a_row(rate: float, rounds: int):
    driver = Driver("skyserve", workload(), running=10)
    driver.rate(rate, after=20.0)  # the first round counts: its window holds nothing else
    seen = [driver.rate(rate, after=20.0).agents for _ in range(rounds - 1)]
    assert seen[:-1] == [10.0] * (rounds - 2)
    assert seen[-1] == rate / 7.0


def test_skyserve_a_round_the_other_way_starts_over():
    driver = Driver("skyserve", workload(), running=10)
    for _ in range(10):
        for _ in range(14):
            driver.rate(140.0, after=20.0)
        assert driver.rate(-1.0 + 1.0, after=60.0).agents == 10.0


def test_skyserve_from_zero_at_once_and_every_5_s():
    driver = Driver("skyserve", workload(least=0), running=0)
    assert [driver.rate(rate).agents for rate in (0.0, 0.0, 140.0)][-1] > 0.0


@pytest.mark.parametrize(("rate", "delay"), [(140.0, 30.0), (7.0, 600.0)], ids=["up-30s", "down-600s"])
def test_ray_serve_acts_after_its_delay(rate: float, delay: float):
    driver = Driver("rayserve", workload(), running=10)
    driver.rate(rate)
    begin = driver.now
    while driver.rate(rate).agents == 10.0:
        assert driver.now - begin <= delay
    assert driver.now - begin == delay + 5.0
    assert driver.running == agents(int(rate / 7.0))


def test_ray_serve_counts_what_waits_as_ongoing():
    driver = Driver("rayserve", workload(), running=10)
    for _ in range(10):
        wanted = driver.turn({"p": Reading(at=driver.now + 5.0, arrivals=70.0, backlog=70.0)})
    assert wanted.agents == 20.0
    for _ in range(10):
        wanted = driver.turn({"p": Reading(at=driver.now + 5.0, ongoing=350.0)})
    assert wanted.agents == 50.0


@pytest.mark.parametrize(
    ("use", "queue", "cheaper", "expected"),
    [
        (0.9, 600.0, 0.10, 12.0),
        (0.8, 600.0, 0.10, 10.0),
        (0.9, 500.0, 0.10, 10.0),
        (0.9, 600.0, 0.05, 10.0),
        (0.1, 0.0, 0.05, 9.0),
        (0.1, 0.0, 0.0, 10.0),
        (0.2, 0.0, 0.2, 10.0),
    ],
)
def test_threshold_rule(use: float, queue: float, cheaper: float, expected: float):
    driver = Driver("threshold", workload(RATE, Target(signal="cpu", value=0.7)), running=10)
    seen = {"p": Reading(at=5.0, backlog=queue)}, {"p": Reading(at=5.0, value=use)}
    assert driver.turn(*seen, cheaper_elsewhere=cheaper).agents == expected


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_every_policy_holds_when_it_knows_nothing(policy: str):
    driver = Driver(policy, workload(RATE, Target(signal="cpu", value=0.7)), running=10)
    for _ in range(100):
        wanted = driver.turn({}, {})
    assert (wanted.agents, wanted.hold_down) == (10.0, True)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_every_policy_continues_from_the_store_as_if_nothing_had_been(policy: str):
    """State is JSON between turns: a policy whose state goes through it says the same as one whose state does not."""

    def run(stored: bool) -> list[Any]:
        driver = Driver(policy, workload(RATE, Target(signal="cpu", value=0.7)), running=10)
        said = []
        for turn in range(200):
            at = driver.now + 5.0
            load = 70.0 + 50.0 * (turn // 40 % 2)
            use = min(1.0, load / (10.0 * len(driver.running)))
            said.append(
                driver.turn({"p": Reading(at=at, arrivals=load, backlog=0.0)}, {"p": Reading(at=at, value=use)})
            )
            if stored:
                driver.state = msgspec.json.decode(msgspec.json.encode(driver.state), type=driver.policy.state_type)
        return said

    assert run(stored=True) == run(stored=False)
