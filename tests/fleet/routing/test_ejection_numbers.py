"""Ejection: five in a row, 1.9 sigma, 30 s for each time, half at most."""

from __future__ import annotations

import msgspec

from covey.fleet.health import HealthState, judge
from covey.fleet.routing import EjectionState, Ejector, eject
from tests.fleet.filtering.scene import agent, agents, offering, spec, views

AGENTS = [f"a{i}" for i in range(10)]


def again(ejector: Ejector) -> Ejector:
    """As after a restart."""
    return Ejector(msgspec.json.decode(msgspec.json.encode(ejector.state()), type=EjectionState))


def test_ejector_five_failures_in_a_row_and_no_fewer():
    ejector = Ejector()
    for _ in range(4):
        ejector.count("a0", bad=1)
    assert ejector.sweep(AGENTS, 0.0) == frozenset()
    ejector.count("a0", good=1)
    ejector.count("a0", bad=4)
    assert ejector.sweep(AGENTS, 1.0) == frozenset()
    ejector = again(ejector)
    ejector.count("a0", bad=1)
    assert ejector.sweep(AGENTS, 2.0) == {"a0"}


def test_ejector_each_time_lasts_30_s_longer_up_to_300():
    ejector, now, lengths = Ejector(), 0.0, []
    for _ in range(12):
        ejector.count("a0", bad=5)
        assert ejector.sweep(AGENTS, now) == {"a0"}
        begin = now
        while ejector.sweep(AGENTS, now):
            now += 1.0
            ejector = again(ejector)
        lengths.append(now - begin)
    assert lengths == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]


def test_ejector_good_intervals_take_times_back():
    ejector = Ejector()
    for now in (0.0, 30.0):
        ejector.count("a0", bad=5)
        ejector.sweep(AGENTS, now)
    for now in range(90, 130, 10):
        ejector.sweep(AGENTS, float(now))
    ejector.count("a0", bad=5)
    assert ejector.sweep(AGENTS, 131.0) == {"a0"}
    assert ejector.sweep(AGENTS, 161.0) == frozenset()


def test_ejector_success_rate_far_below_the_others_after_an_interval():
    ejector = Ejector()
    ejector.sweep(AGENTS, 0.0)
    for each in AGENTS:
        ejector.count(each, good=200 if each != "a3" else 100, bad=0 if each != "a3" else 100)
    assert ejector.sweep(AGENTS, 9.9) == frozenset()
    assert ejector.sweep(AGENTS, 10.0) == {"a3"}


def test_ejector_compares_nothing_among_few_agents_or_requests():
    few, quiet = Ejector(), Ejector()
    for ejector in (few, quiet):
        ejector.sweep(AGENTS, 0.0)
    for each in AGENTS[:4]:
        few.count(each, good=100, bad=0 if each != "a3" else 100)
    for each in AGENTS:
        quiet.count(each, good=40, bad=0 if each != "a3" else 50)
    assert few.sweep(AGENTS, 10.0) == quiet.sweep(AGENTS, 10.0) == frozenset()


def test_ejector_takes_out_at_most_half():
    ejector = Ejector()
    for each in AGENTS:
        ejector.count(each, bad=9)
    assert len(ejector.sweep(AGENTS, 0.0)) == 5
    alone = Ejector()
    alone.count("a0", bad=9)
    assert alone.sweep(["a0"], 0.0) == frozenset()


def test_ejector_forgets_who_is_gone():
    ejector = Ejector()
    ejector.count("a0", bad=9)
    ejector.sweep(AGENTS, 0.0)
    assert ejector.sweep(AGENTS[1:], 1.0) == frozenset()
    assert ejector.state().agents == {}


def test_eject_by_what_agents_report_and_nothing_is_kept_while_nobody_fails():
    east = offering("east")

    def standing(*present):
        return judge(views(*present), HealthState(), 0.0, spec())[0].standing("w")

    fine = standing(*agents(4, east, completions=10.0, errors=0.0))
    assert eject(fine, None, 5.0, 0.0) == (frozenset(), None)
    sick = standing(
        *agents(3, east, completions=10.0, errors=0.0),
        agent("counts-all", east, completions=2.0, errors=2.0),
        agent("counts-good", east, completions=0.0, errors=2.0),
        agent("new", east, state="starting", errors=9.0),
    )
    ejected, state = eject(sick, None, 5.0, 5.0)
    assert ejected == {"east/counts-all", "east/counts-good"}
    well = standing(
        *agents(3, east, completions=10.0, errors=0.0), *(agent(f"counts-{x}", east) for x in ("all", "good"))
    )
    now = 5.0
    while state is not None:
        now += 5.0
        ejected, state = eject(well, state, 5.0, now)
        assert bool(ejected) == (now < 35.0)
    assert now < 60.0
