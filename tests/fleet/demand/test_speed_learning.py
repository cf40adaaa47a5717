"""Speeds: what is configured wins, what is learned moves slowly, what fails teaches nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from covey.fleet.demand.speed import SpeedState, learn
from covey.fleet.loop.turn import Seen, TurnState, turn
from covey.fleet.model import Agent, Offering, PoolView, Reading
from covey.fleet.spec.types import Pool, Spec, Target
from tests.fleet.demand.driving import RATE, agents, workload

KEY = "p/s/on-demand"


def teach(seconds: float, completions: float = 20.0, *, count: int = 4, every: float = 10.0, **fields: Any) -> float:
    """The speed after so many seconds of `count` agents that report every `every` seconds."""
    state = SpeedState()
    fields = {"busy_share": 1.0, **fields}
    now = 0.0
    while now < seconds:
        now += 5.0
        seen = [
            msgspec.structs.replace(agent, completions=completions, heard_at=now - now % every, **fields)
            for agent in agents(count)
        ]
        state = learn(workload(), seen, state, now, {})
    learned = state.offerings.get(KEY)
    return learned.speed if learned is not None else 1.0


def test_speed_moves_by_a_twentieth_in_ten_minutes_up_and_down():
    assert teach(590.0) == 1.05
    assert teach(1300.0) == pytest.approx(1.05**3)
    assert teach(590.0, 5.0) == 0.95


def test_speed_arrives_and_stays():
    assert teach(20_000.0, 20.0) == pytest.approx(2.0)
    assert teach(20_000.0, 5.0) == pytest.approx(0.5)


def test_speed_is_what_it_would_be_at_full_load():
    """A standard agent that is 92 % busy completes 92 % of its rate, and is no slower for it."""
    assert teach(20_000.0, 9.2, busy_share=0.92) == pytest.approx(1.0)


def test_speed_needs_twenty_samples_and_counts_a_report_once():
    assert teach(35.0) == 1.0  # 16 reports of four agents, seen in seven turns
    assert teach(60.0) == 1.05


@pytest.mark.parametrize(
    "fields",
    [
        {"busy_share": 0.89},
        {"busy_share": None},
        {"failing": True},
        {"state": "draining"},
        {"completions": float("nan")},
    ],
    ids=["idle", "silent-on-load", "failing", "draining", "nonsense"],
)
def test_speed_is_taught_only_by_busy_and_healthy_agents(fields: dict[str, Any]):
    completions = fields.pop("completions", 20.0)
    assert teach(600.0, completions, **fields) == 1.0


def test_speed_of_an_offering_is_frozen_while_one_of_its_agents_fails():
    state = SpeedState()
    for round_ in range(200):
        now = 5.0 * round_
        seen = [
            msgspec.structs.replace(agent, completions=20.0, busy_share=1.0, heard_at=now, failing=number == 0)
            for number, agent in enumerate(agents(8))
        ]
        state = learn(workload(), seen, state, now, {})
    assert state.offerings == {}


def test_speed_is_the_ninetieth_percentile():
    state = SpeedState()
    mixed: list[Agent] = [
        msgspec.structs.replace(agent, completions=9.6 if number < 3 else 10.3, busy_share=1.0, heard_at=1.0)
        for number, agent in enumerate(agents(20))
    ]
    state = learn(workload(), mixed, state, 1.0, {})
    assert state.offerings[KEY].speed == pytest.approx(1.03)


def test_speed_begins_at_what_was_known():
    seen = [msgspec.structs.replace(agent, completions=90.0, busy_share=1.0, heard_at=1.0) for agent in agents(20)]
    assert learn(workload(), seen, SpeedState(), 1.0, {KEY: 4.0}).learned() == {KEY: 4.2}


def test_speed_needs_a_standard_to_measure_by():
    seen = [msgspec.structs.replace(agent, completions=90.0, busy_share=1.0, heard_at=1.0) for agent in agents(20)]
    by_cpu = workload(Target(signal="cpu", value=0.7))
    assert learn(by_cpu, seen, SpeedState(), 1.0, {}) == SpeedState()


def test_speed_learned_is_what_the_turn_places_and_measures_by():
    """One offering, agents twice as fast as the spec's standard: half an hour later fewer are wanted of it."""
    of = workload(RATE, least=1, most=50, mode="observe")
    spec = Spec(pools={"p": Pool(name="p", provider="local")}, workloads={"w": of})
    offering = Offering(pool="p", shape="s", price=1.0)
    state, decided = TurnState(), []
    for number in range(360):
        now = 5.0 * number
        seen = tuple(
            msgspec.structs.replace(agent, completions=20.0, busy_share=1.0, heard_at=now) for agent in agents(10)
        )
        view = PoolView(pool="p", at=now, agents=seen, offerings={"w": (offering,)})
        reading = Reading(at=now, arrivals=70.0, interval=5.0)
        turned = turn(state, Seen(views={"p": view}, readings={"w": ({"p": reading},)}), spec, now)
        state, decided = turned.state, [*decided, turned.decisions[0]]
    assert state.workloads["w"].speeds.learned() == {KEY: pytest.approx(1.05**3)}
    assert sum(candidate.count for candidate in decided[60].candidates) == 10
    assert sum(candidate.count for candidate in decided[-1].candidates) == 9  # 10 standard agents / 1.158


def test_speed_state_survives_the_store():
    busy = msgspec.structs.replace(agents(1)[0], completions=9.0, busy_share=1.0, heard_at=1.0)
    state = learn(workload(), [busy], SpeedState(), 1.0, {})
    assert msgspec.json.decode(msgspec.json.encode(state), type=SpeedState) == state
    assert state.offerings[KEY].samples == (9.0,)
