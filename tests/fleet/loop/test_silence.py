"""An agent that falls silent leaves the routes when its third report is missing, and not with the next tick."""

from __future__ import annotations

import asyncio
from math import inf
from pathlib import Path

import pytest
from msgspec.structs import replace

from covey.fleet.loop.reports import Reports
from covey.fleet.loop.tokens import Speaker
from covey.fleet.loop.turn import Turned
from covey.fleet.reporting import Report
from covey.testing.loop import run
from tests.fleet.loop.fleets import Fleet, clock, pool, spec, turns, workload
from tests.fleet.loop.pools import Ground

WEB = Speaker("away", "web")


def test_reports_know_who_falls_silent_next() -> None:
    now = 0.0
    reports = Reports(lambda: now)
    assert reports.next_silence(0.0) == inf
    for moment in (1.0, 2.0):
        now = moment
        reports.take(Report(agent="a"), WEB)
        reports.take(Report(agent="b"), WEB)
    now = 3.0
    reports.take(Report(agent="b"), WEB)
    assert reports.next_silence(3.0) == pytest.approx(5.0, abs=0.01)  # a: a second between reports, the last at 2
    assert reports.next_silence(5.1) == pytest.approx(6.0, abs=0.01)  # that a is silent is known by then
    assert reports.next_silence(6.1) == inf


def make_mute(ground: Ground) -> None:
    """Its look does not vouch for agents: only their own reports do."""
    look = ground.look
    ground.look = lambda: [replace(each, heard_at=None) for each in look()]  # type: ignore[method-assign]


def test_controller_turns_when_an_agent_falls_silent(tmp_path: Path) -> None:
    async def story() -> None:
        fleet = Fleet(tmp_path, spec([pool("home"), pool("away", "gcp")], [workload()]))
        for ground in fleet.grounds.values():
            make_mute(ground)
        controller = await fleet.controller()
        await turns(controller, 4)
        first, second = sorted(each for ground in fleet.grounds.values() for each in ground.agents)
        routed: list[tuple[float, set[str]]] = []

        def told(turned: Turned) -> None:
            endpoints = turned.routes["web"].endpoints.values()
            routed.append((clock(), {each.agent for some in endpoints for each in some}))
            if len(routed) > 60:
                controller.stop()

        running = asyncio.create_task(controller.run(told))
        for _ in range(11):  # the third report is missing between two ticks
            await asyncio.sleep(1.0)
            controller.report(Report(agent=first, busy=False), WEB)
            controller.report(Report(agent=second, busy=False), WEB)
        last = clock()
        for _ in range(8):
            await asyncio.sleep(1.0)
            controller.report(Report(agent=first, busy=False), WEB)
        controller.stop()
        await running
        await controller.close()
        fleet.store.close()
        without = [at - last for at, agents in routed if at > last and agents == {first}]
        assert without, routed
        assert 3.0 <= without[0] <= 3.5
        # Nobody else was silent: with ticks of 5 s there were few turns more than that.
        assert len(routed) <= 8

    run(story())
