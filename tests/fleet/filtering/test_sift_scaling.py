"""Scale-out and scale-in: what is started, who goes first, and what holds them back."""

from __future__ import annotations

import pytest

from covey.fleet.filtering import Removal, SiftState
from covey.fleet.model import Orders, Pin, Shortfall, Wanted
from tests.fleet.filtering.scene import agent, agents, offering, spec, workload
from tests.fleet.filtering.sifting import Sifting

EAST, WEST = offering("east"), offering("west")
SPOT = offering("east", "s", spot=True, price=0.03)


def test_sift_what_is_as_wanted_takes_no_step_and_keeps_the_very_state():
    sifting = Sifting(*agents(5, EAST))
    before = sifting.state
    assert sifting.sift({EAST.key: 5}) == []
    assert sifting.state is before


def test_sift_scale_out_names_the_absolute_size():
    sifting = Sifting(*agents(3, EAST))
    (step,) = sifting.sift({EAST.key: 7}, wanted=Wanted(agents=7, binding="queue", reason="49/s need 7"))
    assert (step.kind, step.pool, step.offering, step.size, step.cause) == ("scale", "east", EAST.key, 7, "demand")
    assert step.reason == "4 more: 49/s need 7"


def test_sift_size_counts_what_its_provider_counts():
    """Ordered, silent and leaving agents are there for it; draining ones and those told to go are not."""
    sifting = Sifting(
        *agents(3, EAST),
        agent("draining", EAST, state="draining", busy=True),
        agent("silent", EAST, heard_at=-20.0),
        agent("leaving", EAST, leaving_at=30.0),
        agent("going", EAST),
    )
    steps = sifting.sift({EAST.key: 6}, coming={("w", EAST.key): 2}, leaving={"east/going"})
    assert [(step.kind, step.cause, step.ids, step.size) for step in steps] == [
        ("drain", "preemption", ("leaving",), 0),
        # 3 run, 2 were ordered, 1 is silent, 1 is added
        ("scale", "preemption", (), 7),
    ]


def test_sift_below_min_is_repair_and_beyond_the_budget():
    sifting = Sifting(spec=spec(workload(least=3), budget=0.1))
    (step,) = sifting.sift({EAST.key: 4})
    assert (step.size, step.cause) == (3, "repair")
    assert sifting.held == ("1 more at east/m/on-demand: the budget is 0.1 USD/h and 0.3 are paid now",)


def test_sift_keeps_the_reserve_of_the_budget():
    sifting = Sifting(*agents(8, EAST), spec=spec(budget=1.0))
    (step,) = sifting.sift({EAST.key: 10})  # 0.98 USD/h may be spent
    assert step.size == 9


def test_sift_starts_no_more_than_there_was_room():
    tight = offering("east", room=3)
    sifting = Sifting(*agents(3, tight), offerings=(tight,))
    (step,) = sifting.sift({tight.key: 10}, coming={("w", tight.key): 2})
    assert step.size == 6


def test_sift_scale_in_takes_what_loses_least():
    there = (
        agent("busy", EAST, busy=True, in_flight=1),
        agent("busier", EAST, busy=True, in_flight=4),
        agent("mute", EAST, busy=None),
        agent("idle-old", EAST, started_at=-9000.0),
        agent("idle-young", EAST, started_at=-900.0),
        agent("new", EAST, state="starting", started_at=-5.0),
        agent("unready", EAST, state="unready"),
    )
    order: list[str] = []
    for count in range(6, 0, -1):
        steps = Sifting(*there, removals_share=1.0).sift({EAST.key: count})
        order += [each for step in steps for each in step.ids if each not in order]
    assert order == ["new", "unready", "idle-young", "idle-old", "mute", "busy"]


def test_sift_never_started_agents_are_removed_and_others_drained_first():
    sifting = Sifting(*agents(3, EAST), agent("new", EAST, state="starting", started_at=-5.0), removals_share=1.0)
    steps = sifting.sift({EAST.key: 2})
    assert [(step.kind, step.ids) for step in steps] == [("remove", ("new",)), ("drain", ("m0",))]


def test_sift_removes_the_drained_when_idle_or_after_their_grace():
    sifting = Sifting(*agents(4, EAST, busy=True), removals_share=1.0, grace=30.0)
    (drain,) = sifting.sift({EAST.key: 3})
    assert drain.kind == "drain"
    (gone,) = drain.ids
    sifting.become(gone, state="draining")
    assert sifting.sift({EAST.key: 3}, now=29.9) == []
    (remove,) = sifting.sift({EAST.key: 3}, now=30.0)
    assert (remove.kind, remove.ids, remove.grace, remove.cause) == ("remove", (gone,), 30.0, "demand")
    sifting.become(gone, state="draining", busy=False)
    sifting.state = SiftState(drains=sifting.state.drains)
    assert [step.kind for step in sifting.sift({EAST.key: 3}, now=5.0)] == ["remove"]


def test_sift_brake_lets_a_quarter_of_a_workload_go_in_five_minutes():
    sifting = Sifting(*agents(40, EAST))
    gone: list[tuple[float, int]] = []
    for turn in range(0, 700, 5):
        for step in sifting.sift({EAST.key: 4}, now=float(turn)):
            gone.append((float(turn), len(step.ids)))
            sifting.forget(*step.ids)
    assert gone == [(0.0, 10), (300.0, 7), (600.0, 5)]
    assert "the brakes" in sifting.held[0]


def test_sift_brake_of_the_fleet_is_a_tenth_when_several_workloads_fall_together():
    both = (*agents(20, EAST), *agents(20, WEST, workload="v"))
    sifting = Sifting(*both, spec=spec(workload(), workload("v")))
    steps = sifting.sift({EAST.key: 10}, {"v": {WEST.key: 10}})
    assert sum(len(step.ids) for step in steps) == 4


@pytest.mark.parametrize("count", [2, 3])
def test_sift_brake_always_lets_one_go(count):
    (step,) = Sifting(*agents(count, EAST)).sift({EAST.key: 1})
    assert len(step.ids) == 1


def test_sift_brakes_are_for_metrics_alone():
    pinned = Orders(pins={"w": Pin(agents=2)})
    (step,) = Sifting(*agents(10, EAST)).sift({EAST.key: 2}, orders=pinned)
    assert (step.cause, len(step.ids)) == ("order", 8)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (Wanted(agents=2, binding="b", reason="r", burst=True), "a burst is on"),
        (Wanted(agents=2, binding="b", reason="r", hold_down=True), "a signal or its past is missing"),
    ],
    ids=["burst", "hold"],
)
def test_sift_takes_nothing_away_in_a_burst_or_blind(wanted, reason):
    sifting = Sifting(*agents(4, EAST))
    assert sifting.sift({EAST.key: 2}, wanted=wanted) == []
    assert sifting.held == (f"2 fewer at east/m/on-demand: {reason}",)


def test_sift_over_budget_trims_the_idle_only():
    sifting = Sifting(*agents(2, EAST, busy=True), *agents(2, EAST, start=2))
    short = Shortfall(workload="w", constraint="budget", missing=1.0, reason="over")
    (step,) = sifting.sift({EAST.key: 1}, shortfalls=(short,))
    assert (step.cause, sorted(step.ids)) == ("budget", ["m2", "m3"])
    assert sifting.held == ("1 fewer at east/m/on-demand: the rest is busy",)


@pytest.mark.parametrize(
    ("orders", "kinds"),
    [
        (Orders(paused=frozenset({"w"})), []),
        (Orders(paused=frozenset({"*"})), []),
        (Orders(frozen=frozenset({"w"})), ["scale"]),
        (Orders(frozen=frozenset({"*"})), ["scale"]),
        (Orders(frozen=frozenset({"east"})), ["scale"]),
        (Orders(), ["scale", "drain"]),
    ],
    ids=["pause", "pause-all", "freeze", "freeze-all", "freeze-pool", "nothing"],
)
def test_sift_orders_stop_what_they_name(orders, kinds):
    sifting = Sifting(*agents(4, EAST), *agents(4, SPOT, workload="v"), spec=spec(workload(), workload("v")))
    steps = sifting.sift({EAST.key: 2}, {"v": {SPOT.key: 4, WEST.key: 1}}, orders=orders, removals_share=1.0)
    if "w" in orders.paused:
        kinds = ["scale"]
    assert [step.kind for step in sorted(steps, key=lambda step: step.kind, reverse=True)] == kinds


def test_sift_disruption_budget_is_kept_over_turns():
    sifting = Sifting(*agents(10, EAST), removals_share=1.0)
    (first,) = sifting.sift({EAST.key: 2}, removable={("east", "w"): 3})
    assert len(first.ids) == 3
    under_way = {f"east/{each}" for each in first.ids}
    assert sifting.sift({EAST.key: 2}, removable={("east", "w"): 3}, leaving=under_way) == []
    assert "disruption budget" in sifting.held[0]


def test_sift_frozen_pool_is_left_as_it_is():
    sifting = Sifting(*agents(4, EAST), *agents(4, WEST), lost=("east",))
    steps = sifting.sift({EAST.key: 0, WEST.key: 5})
    assert [(step.kind, step.pool) for step in steps] == [("scale", "west")]


def test_sift_waits_ten_minutes_before_it_trims_what_a_failure_left_over():
    sifting = Sifting(*agents(4, EAST, heard_at=0.0), *agents(4, WEST), removals_share=1.0)
    sifting.sift({EAST.key: 4, WEST.key: 4}, now=0.0)
    sifting.sift({WEST.key: 4}, now=20.0)  # east is silent
    sifting.agents = {each.id + each.pool: each for each in (*agents(4, EAST), *agents(4, WEST))}
    assert sifting.sift({WEST.key: 4}, now=30.0) == []
    assert sifting.held == ("4 fewer at east/m/on-demand: east came back 0 s ago, 600 are waited",)
    (step,) = sifting.sift({WEST.key: 4}, now=630.0)
    assert len(step.ids) == 4


def test_sift_dead_agents_are_removed_where_control_answers_and_suspect_ones_never():
    there = (
        agent("dead", EAST, heard_at=-41.0),
        agent("suspect", EAST, heard_at=-11.0),
        agent("dead-lost", WEST, heard_at=-41.0),
        *agents(3, offering("north"), heard_at=0.0),
    )
    sifting = Sifting(*there, lost=("west",))
    steps = sifting.sift({offering("north").key: 3})
    assert [(step.kind, step.ids, step.cause) for step in steps] == [("remove", ("dead",), "repair")]


def test_sift_without_a_placement_only_tidies():
    sifting = Sifting(*agents(4, EAST), agent("old", EAST, state="draining"))
    assert [step.ids for step in sifting.sift(None)] == [("old",)]


def test_sift_workload_that_only_observes_leaves_no_trace():
    sifting = Sifting(*agents(4, EAST), spec=spec(workload(mode="observe")))
    assert len(sifting.sift({EAST.key: 2})) == 1
    assert sifting.state == SiftState()


def test_sift_old_removals_are_forgotten():
    sifting = Sifting(*agents(4, EAST))
    sifting.state = SiftState(removals=(Removal(workload="w", count=3, at=0.0),))
    sifting.sift({EAST.key: 4}, now=299.0)
    assert len(sifting.state.removals) == 1
    sifting.sift({EAST.key: 4}, now=301.0)
    assert sifting.state.removals == ()
