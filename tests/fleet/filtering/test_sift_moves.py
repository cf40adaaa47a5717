"""Moves: by what right an agent is replaced elsewhere, new before old, and what is not worth it."""

from __future__ import annotations

import pytest

from covey.fleet.filtering import SiftState
from covey.fleet.model import Candidate, Orders, Wanted
from covey.fleet.spec.types import Place, SpotRules, Survive, Traffic
from tests.fleet.filtering.scene import agent, agents, offering, spec, workload
from tests.fleet.filtering.sifting import Sifting

EAST = offering("east", price=0.40)
WEST = offering("west", price=0.20)
NORTH = offering("north", price=0.39)
CHEAP = {"cold_start": 60.0, "grace": 30.0, "move_cost": 0.01}
LONG_AGO = -10_000.0


def fleet(*present: object, **fields: object) -> Sifting:
    sifting = Sifting(*present, offerings=(EAST, WEST, NORTH), **{**CHEAP, **fields})  # type: ignore[arg-type]
    # Pools have been healthy for long.
    sifting.sift({}, now=LONG_AGO, orders=Orders(paused=frozenset({"*"})))
    return sifting


def test_move_starts_the_new_waits_until_it_is_ready_then_drains_the_old():
    sifting = fleet(*agents(1, EAST, start=5))
    (start,) = sifting.sift({WEST.key: 1})
    assert (start.kind, start.offering, start.size, start.cause) == ("scale", WEST.key, 1, "saving")
    assert start.saving == pytest.approx(0.2)
    assert [(move.source, move.target, move.count) for move in sifting.state.moves] == [(EAST.key, WEST.key, 1)]
    assert sifting.sift({WEST.key: 1}, now=5.0, coming={("w", WEST.key): 1}) == []
    sifting.come(agent("new", WEST, state="starting", started_at=5.0))
    assert sifting.sift({WEST.key: 1}, now=10.0) == []
    assert sifting.held == ("1 fewer at east/m/on-demand: 1 must be ready",)
    sifting.become("new", state="ready")
    (drain,) = sifting.sift({WEST.key: 1}, now=65.0)
    assert (drain.kind, drain.ids, drain.cause) == ("drain", ("m5",), "saving")
    sifting.become("m5", state="draining")
    (remove,) = sifting.sift({WEST.key: 1}, now=70.0)
    assert (remove.kind, remove.ids, remove.cause) == ("remove", ("m5",), "saving")
    assert sifting.state.moves == ()


@pytest.mark.parametrize(
    ("price", "fields", "held"),
    [
        (0.345, {}, "saves 14% of 0.4 USD/h, and 15% are asked"),
        (0.33, {"move_cost": 0.2}, "saves 0.28 USD in 4.0 h, and a move costs 0.2088"),
        (0.33, {"move_cost": 0.13}, ""),
        (0.45, {}, "saves -12% of 0.4 USD/h, and 15% are asked"),
        (None, {}, "the price of west/m/on-demand is not known"),
    ],
)
def test_move_to_save_must_pay_twice_its_cost_and_15_percent(price, fields, held):
    sifting = fleet(*agents(1, EAST), **fields)
    sifting.offerings[WEST.key] = offering("west", price=price)
    steps = sifting.sift({WEST.key: 1})
    assert bool(steps) == (not held)
    assert sifting.held == ((f"move {EAST.key} -> {WEST.key} (saving): {held}",) if held else ())


def test_move_to_save_reckons_with_the_short_life_of_spot():
    spot = offering("west", "s", spot=True, price=0.30, preemptions=1.0)
    place = Place(spot=SpotRules(max_share=1.0))
    sifting = fleet(*agents(1, EAST), move_cost=0.05, place=place)
    sifting.offerings[spot.key] = spot
    assert sifting.sift({spot.key: 1}) == []
    assert "saves 0.1 USD in 1.0 h" in sifting.held[0]


def test_move_to_save_believes_the_solvers_whole_price():
    sifting = fleet(*agents(1, EAST))
    dear = Candidate(offering=WEST.key, count=1, was=0, price=0.41)  # egress, latency
    assert sifting.sift({WEST.key: 1}, candidates={"w": (dear,)}) == []


def test_move_never_on_a_stale_price():
    for stale in (EAST.key, WEST.key):
        sifting = fleet(*agents(1, EAST))
        assert sifting.sift({WEST.key: 1}, stale_prices=frozenset({stale})) == []
        assert sifting.held == (f"move {EAST.key} -> {WEST.key} (saving): the price of {stale} is stale",)


def test_move_not_again_within_the_hour():
    sifting = fleet(*agents(1, EAST))
    sifting.sift({WEST.key: 1}, now=0.0)
    sifting.come(agent("new", WEST))
    sifting.sift({WEST.key: 1}, now=60.0)
    sifting.forget("m0")
    sifting.offerings[EAST.key] = offering("east", price=0.05)
    assert sifting.sift({EAST.key: 1}, now=3659.0) == []
    assert "by a move within the hour" in sifting.held[0]
    assert len(sifting.sift({EAST.key: 1}, now=3661.0)) == 1
    assert sifting.state.moved == ()


@pytest.mark.parametrize(("count", "moves"), [(5, 1), (10, 1), (20, 2), (40, 4)])
def test_move_budget_is_a_tenth_of_the_workload_in_flight(count, moves):
    sifting = fleet(*agents(count, EAST))
    (step,) = sifting.sift({WEST.key: count})
    assert step.size == moves
    assert sifting.sift({WEST.key: count}, now=5.0, coming={("w", WEST.key): moves}) == []
    assert f"{moves} of {moves} moves are in flight" in sifting.held[-1]


def test_move_budget_is_free_again_when_the_old_are_gone():
    sifting = fleet(*agents(10, EAST))
    sifting.sift({WEST.key: 10})
    sifting.come(agent("new", WEST))
    (drain,) = sifting.sift({WEST.key: 10}, now=60.0)
    sifting.become(drain.ids[0], state="draining", busy=True)
    assert sifting.sift({WEST.key: 10}, now=65.0) == []
    sifting.forget(*drain.ids)
    (step,) = sifting.sift({WEST.key: 10}, now=70.0)
    assert (step.kind, step.size) == ("scale", 2)


def test_move_that_is_no_longer_wanted_is_forgotten_and_its_new_agent_is_too_much():
    sifting = fleet(*agents(4, EAST), removals_share=1.0)
    sifting.sift({EAST.key: 3, WEST.key: 1})
    sifting.come(agent("new", WEST))
    (step,) = sifting.sift({EAST.key: 4}, now=60.0)
    assert (step.kind, step.ids, step.cause) == ("drain", ("new",), "demand")
    assert sifting.state.moves == ()


def test_move_whose_new_agent_failed_is_started_again():
    sifting = fleet(*agents(1, EAST))
    sifting.sift({WEST.key: 1})
    assert sifting.sift({NORTH.key: 1}, now=30.0) == []  # west is blocked now: judged anew, for 3 % nothing moves
    assert "saves 3%" in sifting.held[0]
    sifting = fleet(*agents(1, EAST))
    sifting.sift({WEST.key: 1})
    (step,) = sifting.sift({WEST.key: 1}, now=30.0)
    assert (step.kind, step.offering, step.size, step.cause) == ("scale", WEST.key, 1, "saving")
    assert len(sifting.state.moves) == 1


def test_move_needs_the_money_for_both_and_may_use_the_reserve():
    for budget, starts in ((0.61, 1), (0.60, 1), (0.59, 0)):
        sifting = fleet(*agents(1, EAST), spec=spec(workload(**CHEAP), budget=budget))
        assert len(sifting.sift({WEST.key: 1})) == starts


def test_move_for_jurisdiction_has_no_score_and_no_budget():
    us, eu = offering("east", jurisdiction="us", price=0.1), offering("west", jurisdiction="eu", price=0.9)
    sifting = fleet(*agents(8, us), place=Place(jurisdictions=("eu",)))
    sifting.offerings = {us.key: us, eu.key: eu}
    (step,) = sifting.sift({eu.key: 8})
    assert (step.cause, step.size) == ("repair", 8)
    assert step.reason == "8 more: jurisdiction us is not eu"
    sifting.come(*agents(8, eu, start=20))
    (drain,) = sifting.sift({eu.key: 8}, now=60.0)
    assert (drain.cause, len(drain.ids)) == ("repair", 8)


def test_jurisdiction_is_above_min_when_nothing_can_replace_what_may_not_be_there():
    us = offering("east", jurisdiction="us")
    sifting = fleet(*agents(2, us), place=Place(jurisdictions=("eu",)), least=2)
    sifting.offerings = {us.key: us}
    (step,) = sifting.sift({})
    assert (step.kind, step.cause, len(step.ids)) == ("drain", "repair", 2)


def test_move_for_survive_is_repair():
    place = Place(survive=Survive(clouds=1, keep="min"))
    sifting = fleet(*agents(4, EAST), place=place, least=2)
    (step,) = sifting.sift({EAST.key: 2, NORTH.key: 2})
    assert (step.cause, step.size) == ("repair", 2)


def test_survive_holds_back_what_is_ready_outside_a_cloud():
    """north is new and not ready: what is ready in east must not go before."""
    place = Place(survive=Survive(clouds=1, keep="min"))
    sifting = fleet(
        *agents(2, EAST), *agents(2, WEST), *agents(2, NORTH, state="starting", started_at=-1.0),
        place=place, least=2, removals_share=1.0,
    )  # fmt: skip
    assert sifting.sift({WEST.key: 2, NORTH.key: 2}) == []
    sifting.agents = {each.id + each.pool: each for each in (*agents(2, EAST), *agents(2, WEST), *agents(2, NORTH))}
    (step,) = sifting.sift({WEST.key: 2, NORTH.key: 2})
    assert len(step.ids) == 2


def test_fail_back_waits_for_ten_healthy_minutes_and_keeps_the_budget():
    sifting = Sifting(*agents(10, EAST), offerings=(EAST, WEST), place=Place(prefer=("west",)), **CHEAP)
    sifting.offerings[WEST.key] = offering("west", price=9.0)
    assert sifting.sift({WEST.key: 10}, now=0.0) == []
    assert sifting.held == (f"move {EAST.key} -> {WEST.key} (fail-back): west has been healthy for 0 s of 600",)
    assert sifting.sift({WEST.key: 10}, now=599.0) == []
    (step,) = sifting.sift({WEST.key: 10}, now=600.0)
    assert (step.cause, step.size) == ("fail-back", 1)


def test_saving_never_leaves_a_preferred_pool():
    sifting = fleet(*agents(1, EAST), place=Place(prefer=("east",)))
    assert sifting.sift({WEST.key: 1}) == []
    assert "east is preferred" in sifting.held[0]


def test_saving_waits_while_a_cloud_that_survive_counts_on_is_down():
    """With the constraint suspended the cheapest plan is one cloud: the worst moment to go there."""
    sifting = fleet(*agents(2, EAST, heard_at=0.0), *agents(2, NORTH), least=2, place=Place(survive=Survive(clouds=1)))
    sifting.lost = ("east",)
    sifting.sift({EAST.key: 2, NORTH.key: 2}, now=0.0)
    steps = sifting.sift({WEST.key: 2}, now=20.0)  # 20 s of silence and no control: aws is suspended
    assert [step for step in steps if step.cause == "saving"] == []
    held = f"move {NORTH.key} -> {WEST.key} (saving): cloud aws is down, and survive waits for it"
    assert held in sifting.held


def test_saving_waits_until_what_came_back_has_been_healthy_for_ten_minutes():
    sifting = fleet(*agents(2, WEST, heard_at=0.0), *agents(2, NORTH))
    sifting.sift({WEST.key: 2, NORTH.key: 2}, now=0.0)
    sifting.sift({WEST.key: 2, NORTH.key: 2}, now=20.0)  # west is silent
    sifting.agents = {each.id + each.pool: each for each in (*agents(2, WEST), *agents(2, NORTH))}
    assert sifting.sift({WEST.key: 4}, now=30.0) == []
    assert f"move {NORTH.key} -> {WEST.key} (saving): west came back 0 s ago, 600 are waited" in sifting.held
    assert [step.cause for step in sifting.sift({WEST.key: 4}, now=630.0)] == ["saving"]


def test_weights_of_clouds_are_a_preference():
    sifting = fleet(*agents(10, EAST), traffic=Traffic(weights={"aws": 1, "azure": 1}))
    (step,) = sifting.sift({EAST.key: 5, WEST.key: 5})
    assert (step.cause, step.size) == ("fail-back", 1)


def test_drained_pool_is_emptied_new_before_old():
    sifting = fleet(*agents(6, EAST))
    orders = Orders(draining_pools=frozenset({"east"}))
    (step,) = sifting.sift({NORTH.key: 6}, orders=orders)
    assert (step.offering, step.size, step.cause) == (NORTH.key, 6, "order")
    sifting.come(*agents(4, NORTH, start=10))
    (drain,) = sifting.sift({NORTH.key: 6}, orders=orders, coming={("w", NORTH.key): 2}, now=60.0)
    assert (len(drain.ids), drain.cause) == (4, "order")


def test_drained_pool_keeps_min_when_there_is_no_room_elsewhere():
    sifting = fleet(*agents(6, EAST), least=2)
    (drain,) = sifting.sift({}, orders=Orders(draining_pools=frozenset({"east"})))
    assert len(drain.ids) == 4
    assert sifting.held == ("2 fewer at east/m/on-demand: 2 must be ready",)


def test_drained_agent_is_replaced_first():
    sifting = fleet(*agents(3, EAST))
    orders = Orders(draining_agents=frozenset({"east/m1"}))
    (start,) = sifting.sift({EAST.key: 3}, orders=orders)
    assert (start.size, start.cause) == (4, "order")
    assert sifting.sift({EAST.key: 3}, orders=orders, coming={("w", EAST.key): 1}) == []
    sifting.come(agent("new", EAST))
    (drain,) = sifting.sift({EAST.key: 3}, orders=orders)
    assert (drain.ids, drain.cause) == (("m1",), "order")


def test_scale_out_with_a_move_starts_what_is_missing_whatever_the_move_is_worth():
    sifting = fleet(*agents(5, NORTH))
    north_cheaper = offering("west", price=0.38)
    sifting.offerings[WEST.key] = north_cheaper
    (step,) = sifting.sift({WEST.key: 8})
    assert (step.cause, step.size) == ("demand", 3)
    assert len(sifting.held) == 1


def test_scale_in_with_a_move_takes_away_what_is_too_much():
    sifting = fleet(*agents(8, EAST), removals_share=1.0)
    steps = sifting.sift({WEST.key: 5})
    assert [(step.kind, step.cause, step.size, len(step.ids)) for step in steps] == [
        ("scale", "saving", 1, 0),
        ("drain", "demand", 0, 3),
    ]


def test_move_counts_speed_and_not_agents():
    fast = offering("west", "fast", speed=2.0, price=0.30)
    sifting = fleet(*agents(4, EAST), least=1)
    sifting.offerings[fast.key] = fast
    (step,) = sifting.sift({fast.key: 2})
    # 2 old ones against 1 new: more than the budget of 1, but the smallest whole exchange there is.
    assert (step.size, step.saving) == (1, pytest.approx(0.5))
    sifting.come(agent("new", fast))
    (drain,) = sifting.sift({fast.key: 2}, now=60.0)
    assert len(drain.ids) == 2


def test_at_max_faster_agents_replace_slower_ones_without_a_score():
    fast = offering("west", "fast", speed=2.0, price=2.0)
    sifting = fleet(*agents(4, EAST), most=4)
    sifting.offerings[fast.key] = fast
    (step,) = sifting.sift({fast.key: 4})
    assert (step.cause, step.size) == ("demand", 1)


def test_burst_holds_moves():
    sifting = fleet(*agents(1, EAST))
    burst = Wanted(agents=1, binding="burst", reason="r", burst=True)
    assert sifting.sift({WEST.key: 1}, wanted=burst) == []
    assert "a burst is on" in sifting.held[0]


def test_spot_never_more_than_its_share_while_on_demand_goes():
    """4 of 8 are spot and half may be: one on demand less, and spot is too much."""
    place = Place(spot=SpotRules(max_share=0.5))
    spot = offering("east", "s", spot=True, price=0.03)
    sifting = fleet(*agents(4, EAST), *agents(4, spot), place=place, removals_share=1.0)
    steps = sifting.sift({EAST.key: 2, spot.key: 2})
    gone = [each for step in steps for each in step.ids]
    assert [each[0] for each in gone] == ["s", "s"]
    sifting.forget(*gone)
    (step,) = sifting.sift({EAST.key: 2, spot.key: 2}, now=400.0)
    assert [each[0] for each in step.ids] == ["m", "m"]


def test_spot_is_started_when_the_on_demand_that_allows_it_is_there():
    place = Place(spot=SpotRules(max_share=0.5))
    spot = offering("east", "s", spot=True, price=0.03)
    sifting = fleet(place=place)
    (first,) = sifting.sift({EAST.key: 2, spot.key: 2})
    assert first.offering == EAST.key
    (second,) = sifting.sift({EAST.key: 2, spot.key: 2}, coming={("w", EAST.key): 2})
    assert (second.offering, second.size) == (spot.key, 2)


def test_moves_of_a_workload_that_does_not_act_are_not_remembered():
    sifting = fleet(*agents(1, EAST), mode="recommend")
    assert len(sifting.sift({WEST.key: 1})) == 1
    assert sifting.state == SiftState()
