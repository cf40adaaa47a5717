"""HPA as Kubernetes 1.36 defines it."""

from __future__ import annotations

import msgspec
import pytest

from covey.fleet.model import Reading
from covey.fleet.spec.types import Target
from tests.fleet.demand.driving import Driver, agents, workload

CPU = Target(signal="cpu", value=0.7)


def cpu(driver: Driver, use: float, after: float = 15.0) -> float:
    return driver.turn({"p": Reading(at=driver.now + after, value=use)}, after=after).agents


@pytest.mark.parametrize(("use", "expected"), [(0.75, 10.0), (0.64, 10.0), (0.84, 12.0), (1.0, 15.0)])
def test_hpa_ratio_has_a_tolerance_of_a_tenth(use: float, expected: float):
    assert cpu(Driver("hpa", workload(CPU), running=10), use) == expected


def test_hpa_syncs_every_15_s():
    driver = Driver("hpa", workload(CPU), running=10)
    assert [cpu(driver, 0.0 if i else 1.0, after=5.0) for i in range(3)] == [15.0, 15.0, 15.0]
    assert driver.state.at == 5.0


def test_hpa_up_is_limited_to_four_pods_or_double_in_15_s():
    external = Target(signal="queue", rate_per_agent=10.0)
    driver = Driver("hpa", workload(external), running=2)
    seen = [driver.rate(7000.0, after=15.0).agents for _ in range(7)]
    assert seen == [6.0, 12.0, 24.0, 48.0, 96.0, 192.0, 200.0]


def test_hpa_down_waits_300_s_for_the_highest_recommendation():
    driver = Driver("hpa", workload(CPU), running=10)
    cpu(driver, 0.7)
    begin = driver.now
    driver.follow = False
    while cpu(driver, 0.35) == 10.0:
        assert driver.now - begin < 600.0
    assert driver.now - begin == 315.0


def test_hpa_young_pods_not_ready_count_as_unused_upward():
    driver = Driver("hpa", workload(CPU), running=0)
    driver.running = (*agents(10), *agents(5, state="starting"))
    driver.follow = False
    # 10 at 1.0 and 5 at 0: 0.667 / 0.7 is inside the tolerance.
    assert cpu(driver, 1.0) == 15.0


def test_hpa_pods_without_a_metric_count_as_fully_used_downward():
    driver = Driver("hpa", workload(CPU), running=0)
    measured = tuple(msgspec.structs.replace(agent, cpu=0.14) for agent in agents(5))
    unmeasured = tuple(msgspec.structs.replace(agent, id=f"x{agent.id}") for agent in agents(5))
    driver.running = (*measured, *unmeasured)
    driver.follow = False
    wanted = driver.turn({})
    assert wanted.raw == 9.0  # (5 x 0.14 + 5 x 1.0) / 10 / 0.7 = 0.814


def test_hpa_missing_metric_prevents_scaling_down_only():
    driver = Driver("hpa", workload(CPU, Target(signal="queue", queue_length=5.0)), running=10)
    driver.follow = False
    for _ in range(60):
        wanted = driver.turn({"p": Reading(at=driver.now + 15.0, value=0.1)}, {}, after=15.0)
    assert (wanted.agents, wanted.hold_down) == (10.0, True)
    assert driver.turn({"p": Reading(at=driver.now + 15.0, value=1.0)}, {}, after=15.0).agents == 15.0
