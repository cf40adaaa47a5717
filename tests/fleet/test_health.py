"""Control and agents are two facts: what follows from each pair of them, and when."""

from __future__ import annotations

import msgspec
import pytest

from covey.fleet.health import Health, HealthState, judge
from covey.fleet.model import Agent, PoolView
from tests.fleet.filtering.scene import agent, agents, offering, spec, views, workload

EAST, WEST = offering("east"), offering("west")
SPEC = spec()


class Watch:
    """Judges look after look; what it remembers goes through JSON, as through the store."""

    def __init__(self) -> None:
        self.state = HealthState()

    def judge(self, now: float, *present: Agent, lost: tuple[str, ...] = (), at: float | None = None) -> Health:
        seen = views(*present, at=now if at is None else at, lost=lost)
        health, state = judge(seen, self.state, now, SPEC)
        self.state = msgspec.json.decode(msgspec.json.encode(state), type=HealthState)
        return health


def heard(at: float, *pairs: tuple[str, object], every: float | None = 0.3) -> tuple[Agent, ...]:
    return tuple(
        agent(f"{pool}{i}", offering(pool), heard_at=at, heard_every=every)
        for pool, count in pairs
        for i in range(int(str(count)))
    )


def test_judge_counts_by_offering_and_state():
    present = (
        *agents(2, EAST),
        agent("new", EAST, state="starting", started_at=-5.0),
        agent("old", EAST, state="draining"),
        agent("spot", WEST, leaving_at=20.0),
    )
    standing = Watch().judge(0.0, *present).standing("w")
    assert standing.running == {EAST.key: 3}
    assert standing.ready == {EAST.key: 2}
    assert [each.id for each in standing.routable] == ["m0", "m1"]
    assert [each.id for each in standing.draining] == ["old"]
    assert [each.id for each in standing.leaving] == ["spot"]


@pytest.mark.parametrize(
    ("silence", "routable", "counts", "dead"),
    [(0.5, 1, 1, 0), (1.0, 0, 1, 0), (9.9, 0, 1, 0), (10.1, 0, 0, 0), (39.9, 0, 0, 0), (40.1, 0, 0, 1)],
)
def test_judge_silence_takes_requests_then_the_count_then_the_agent(silence, routable, counts, dead):
    mute = agent("a", EAST, heard_at=100.0 - silence, heard_every=0.3)
    standing = Watch().judge(100.0, mute, *heard(100.0, ("west", 2))).standing("w")
    assert sum(each.id == "a" for each in standing.routable) == routable
    assert sum(each.id == "a" for each in standing.counting) == counts
    assert len(standing.dead) == dead
    assert len(standing.suspect) == 1 - counts - dead


def test_judge_slow_reporter_is_given_three_of_its_own_intervals():
    slow = agent("a", EAST, heard_at=0.0, heard_every=15.0)
    assert len(Watch().judge(44.0, slow).standing("w").routable) == 1
    assert len(Watch().judge(46.0, slow).standing("w").dead) == 1


def test_judge_agent_that_never_reports_has_its_providers_word():
    present = agents(3, EAST)
    assert len(Watch().judge(1e6, *present).standing("w").routable) == 3


def test_judge_control_lost_and_agents_heard_freezes_and_replaces_nothing():
    watch = Watch()
    watch.judge(0.0, *heard(0.0, ("east", 3), ("west", 3)))
    for now in range(5, 1000, 5):
        present = (*heard(now, ("east", 3)), *heard(now, ("west", 3)))
        health = watch.judge(float(now), *present, lost=("east",))
        assert health.frozen == {"east"}
        assert health.suspended == frozenset()
        assert len(health.standing("w").counting) == len(health.standing("w").routable) == 6
    assert health.pools["east"].lost_since == 5.0
    assert health.notes == ("pool east does not answer (no reason given): nothing is started or removed there",)


def test_judge_control_and_agents_lost_suspends_the_cloud_after_ten_seconds():
    watch = Watch()
    watch.judge(0.0, *heard(0.0, ("east", 3), ("west", 3)))
    seen = {
        now: watch.judge(float(now), *heard(0.0, ("east", 3)), *heard(now, ("west", 3)), lost=("east",))
        for now in (5, 10, 11, 45)
    }
    assert {now: sorted(health.suspended) for now, health in seen.items()} == {5: [], 10: [], 11: ["aws"], 45: ["aws"]}
    assert [len(seen[now].standing("w").counting) for now in (5, 11)] == [6, 3]
    assert [len(seen[now].standing("w").dead) for now in (11, 45)] == [0, 3]
    assert seen[45].frozen == {"east"}


def test_judge_return_is_told_and_health_begins_anew():
    watch = Watch()
    present = heard(0.0, ("east", 3))
    watch.judge(0.0, *present, *heard(0.0, ("west", 2)))
    watch.judge(50.0, *present, *heard(50.0, ("west", 2)), lost=("east",))
    health = watch.judge(60.0, *heard(60.0, ("east", 3), ("west", 2)))
    assert health.pools["east"].returned_at == 60.0
    assert health.pools["east"].healthy_for(660.0) == 600.0
    assert health.pools["west"].returned_at is None
    assert health.pools["west"].healthy_since == 0.0
    assert health.frozen == frozenset()


def test_judge_partition_that_heals_leaves_its_agents_the_time_to_speak():
    """Seen with a real cluster: at the first look after 43 s nobody had reported yet, and one was told to go."""
    watch = Watch()
    watch.judge(0.0, *heard(0.0, ("east", 2), ("west", 2)))
    for now in (5.0, 20.0, 43.0):
        watch.judge(now, *heard(0.0, ("east", 2)), *heard(now, ("west", 2)), lost=("east",))
    for now, dead in ((45.0, 0), (60.0, 0), (84.0, 0), (86.0, 2)):  # control answers again at 45
        standing = watch.judge(now, *heard(0.0, ("east", 2)), *heard(now, ("west", 2))).standing("w")
        assert (len(standing.dead), len(standing.suspect)) == (dead, 2 - dead)
    for now in (50.0, 100.0):
        standing = watch.judge(now, *heard(now, ("east", 2), ("west", 2))).standing("w")
        assert len(standing.counting) == 4


def test_judge_silence_that_ends_with_nobody_there_is_no_return():
    watch = Watch()
    watch.judge(50.0, *heard(0.0, ("east", 3)), *heard(50.0, ("west", 2)))
    assert watch.judge(60.0, *heard(60.0, ("west", 2))).pools["east"].returned_at is None


def test_judge_starts_nothing_where_most_are_silent_unless_there_is_nowhere_else():
    now = 20.0
    health = Watch().judge(now, *heard(0.0, ("east", 2)), *heard(now, ("west", 2)))
    assert health.frozen == {"east"}
    alone = {"east": PoolView(pool="east", at=now, agents=heard(0.0, ("east", 2)))}
    only = judge(alone, HealthState(), now, spec(pools={"east": "aws"}))[0]
    assert (only.frozen, only.suspended) == (frozenset(), frozenset())


def test_judge_nobody_heard_anywhere_means_we_are_deaf():
    present = heard(0.0, ("east", 2), ("west", 2))
    health = Watch().judge(100.0, *present)
    assert len(health.standing("w").routable) == 4
    assert health.frozen == frozenset()
    assert "controller's own address" in health.notes[0]
    # One control that does not answer either: then it may be the world.
    assert len(Watch().judge(100.0, *present, lost=("east",)).standing("w").dead) == 4


def test_judge_voiceless_agents_of_a_lost_pool_are_suspect_after_five_minutes_and_never_dead():
    watch = Watch()
    watch.judge(0.0, *agents(2, EAST))
    assert len(watch.judge(5.0, *agents(2, EAST), lost=("east",)).standing("w").counting) == 2
    assert len(watch.judge(305.0, *agents(2, EAST), lost=("east",)).standing("w").counting) == 2
    late = watch.judge(306.0, *agents(2, EAST), lost=("east",))
    assert len(late.standing("w").suspect) == 2
    assert late.suspended == {"aws"}
    assert not watch.judge(9999.0, *agents(2, EAST), lost=("east",)).standing("w").dead


def test_judge_voiceless_unready_agent_is_suspect_then_given_up():
    watch = Watch()
    seen = [
        watch.judge(now, agent("a", EAST, state="unready")).standing("w") for now in (0.0, 10.0, 11.0, 310.0, 311.0)
    ]
    assert [(len(s.counting), len(s.suspect), len(s.dead)) for s in seen] == [
        (1, 0, 0), (1, 0, 0), (0, 1, 0), (0, 1, 0), (0, 0, 1),
    ]  # fmt: skip
    watch.judge(312.0, agent("a", EAST))
    assert watch.state.unready == {}


def test_judge_agent_that_never_gets_ready_is_given_up_after_the_launch_time_out():
    assert len(Watch().judge(300.0, agent("a", EAST, state="starting", started_at=0.0)).standing("w").counting) == 1
    assert len(Watch().judge(301.0, agent("a", EAST, state="starting", started_at=0.0)).standing("w").dead) == 1
    slow = spec(workload(cold_start=200.0))
    seen = views(agent("a", EAST, state="starting", started_at=0.0), at=599.0)
    assert len(judge(seen, HealthState(), 599.0, slow)[0].standing("w").counting) == 1


def test_judge_look_that_was_not_renewed_is_control_lost():
    assert Watch().judge(60.0, *agents(1, EAST), at=0.0).pools["east"].control
    assert not Watch().judge(61.0, *agents(1, EAST), at=0.0).pools["east"].control


def test_judge_pool_never_reached_is_frozen_and_its_cloud_is_down_after_ten_seconds():
    watch = Watch()
    seen = {pool: view for pool, view in views(at=0.0).items() if pool != "north"}
    health, state = judge(seen, watch.state, 0.0, SPEC)
    assert (health.frozen, health.suspended) == ({"north"}, frozenset())
    assert judge(seen, state, 10.5, SPEC)[0].suspended == {"gcp"}


def test_judge_nothing_new_keeps_the_very_state():
    _, state = judge(views(*agents(2, EAST)), HealthState(), 0.0, SPEC)
    assert judge(views(*agents(2, EAST), at=5.0), state, 5.0, SPEC)[1] is state
