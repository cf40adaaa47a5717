"""What agents say of themselves, and what somebody else says of them."""

from __future__ import annotations

import msgspec
import pytest

from covey.base.errors import LimitError
from covey.fleet.loop import reports as module
from covey.fleet.loop.reports import Reports
from covey.fleet.loop.tokens import Speaker
from covey.fleet.model import Agent, PoolView
from covey.fleet.reporting import Report

HERE, THERE = Speaker("here", "web"), Speaker("there", "web")


def agent(speaker: Speaker, id: str = "web-000001") -> Agent:
    return Agent(id=id, workload=speaker.workload, pool=speaker.pool, offering="here/p", state="ready", started_at=0.0)


class Given:
    """Two local pools, each with a `web-000001`: ids are given by each pool for itself."""

    def __init__(self) -> None:
        self.now = 0.0
        self.reports = Reports(lambda: self.now)
        self.views = [PoolView(pool=each.pool, at=0.0, agents=(agent(each),)) for each in (HERE, THERE)]
        self.reports.keep(self.views)

    def said_of(self, speaker: Speaker) -> Agent:
        view = next(view for view in self.views if view.pool == speaker.pool)
        return self.reports.onto(view).agents[0]


def test_reports_of_equal_names_in_two_pools_are_two_agents() -> None:
    given = Given()
    given.reports.take(Report(agent="web-000001", busy=True, in_flight=3), HERE)
    assert (given.said_of(HERE).busy, given.said_of(HERE).in_flight) == (True, 3)
    assert (given.said_of(THERE).busy, given.said_of(THERE).heard_at) == (None, None)
    assert given.reports.busy("here", "web-000001") is True
    assert given.reports.busy("there", "web-000001") is None


@pytest.mark.parametrize("liar", [THERE, Speaker("here", "other")], ids=["pool", "workload"])
def test_reports_of_others_change_nothing(liar: Speaker) -> None:
    given = Given()
    given.reports.take(Report(agent="web-000001", busy=True), HERE)
    given.reports.take(Report(agent="web-000001", ready=False, busy=False), liar)
    assert given.said_of(HERE).state == "ready"
    assert given.reports.busy("here", "web-000001") is True


def test_reports_of_strangers_leave_room_for_who_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STRANGERS", 3)
    given = Given()
    for number in range(3):
        given.reports.take(Report(agent=f"nobody-{number}"), HERE)
    with pytest.raises(LimitError):
        given.reports.take(Report(agent="nobody-3"), HERE)
    given.reports.take(Report(agent="web-000001", busy=False), HERE)
    assert given.reports.busy("here", "web-000001") is False
    given.now = 1000.0
    given.reports.keep(given.views)
    given.reports.take(Report(agent="nobody-4"), HERE)


def test_reports_rates_stay_finite_whatever_the_counters_say() -> None:
    given = Given()
    for counter in (0.0, 1e308, 1e15):
        given.now += 0.001
        told = Report(agent="web-000001", completions=counter, errors=counter, arrivals=counter, backlog=counter)
        given.reports.take(told, HERE)
    (reading,) = given.reports.readings(each for view in given.views for each in view.agents).values()
    # JSON has no infinity: what is not finite would come back from the store as nothing, and nobody could read it.
    assert msgspec.json.decode(msgspec.json.encode(reading), type=type(reading)) == reading
    assert msgspec.json.encode(given.said_of(HERE))
