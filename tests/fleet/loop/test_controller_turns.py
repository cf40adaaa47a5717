"""One controller and pools that do as they are told."""

from __future__ import annotations

import asyncio
from pathlib import Path

from covey.fleet.loop.controller import Controller
from covey.fleet.loop.tokens import Speaker
from covey.fleet.model import Decision
from covey.fleet.reporting import Report
from covey.testing.loop import run
from tests.fleet.loop.fleets import Fleet, clock, pool, spec, turns, workload


def test_controller_brings_a_workload_to_its_minimum_once(tmp_path: Path) -> None:
    async def story() -> None:
        fleet = Fleet(tmp_path, spec([pool("home")], [workload()]))
        controller = await fleet.controller()
        await turns(controller, 4)
        await controller.close()
        assert fleet.running() == {"home": 2}
        assert [call[:3] for call in fleet.grounds["home"].calls] == [("scale", "web", 2)]
        assert fleet.store.intents() == []
        fleet.store.close()

    run(story())


async def end(fleet: Fleet, controller: Controller) -> None:
    await controller.close()
    fleet.store.close()


def decision(controller: Controller) -> Decision:
    assert controller.turned is not None
    return controller.turned.decisions[0]


def test_observed_workload_is_decided_about_and_left_alone(tmp_path: Path) -> None:
    async def story() -> None:
        fleet = Fleet(tmp_path, spec([pool("home")], [workload(mode="observe")]))
        controller = await fleet.controller()
        await turns(controller, 3)
        assert fleet.grounds["home"].calls == []
        assert [step.kind for step in decision(controller).steps] == ["scale"]
        assert fleet.store.decisions("web")[0].mode == "observe"
        await end(fleet, controller)

    run(story())


def test_recommended_steps_wait_for_an_approval_and_nothing_more_is_done(tmp_path: Path) -> None:
    async def story() -> None:
        fleet = Fleet(tmp_path, spec([pool("home")], [workload(mode="recommend")]))
        controller = await fleet.controller()
        await turns(controller, 3)
        assert fleet.running() == {"home": 0}
        fleet.store.add_order("approve", "web", at=clock(), value=decision(controller).steps)
        await turns(controller, 3)
        assert fleet.running() == {"home": 2}
        fleet.store.add_order("pin", "web", at=clock(), value=4)
        await turns(controller, 3)
        assert fleet.running() == {"home": 2}, "four were never approved"
        await end(fleet, controller)

    run(story())


def test_paused_workload_gets_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    async def story() -> None:
        fleet = Fleet(tmp_path, spec([pool("home")], [workload()]))
        fleet.store.add_order("pause", "*", at=clock())
        controller = await fleet.controller()
        await turns(controller, 3)
        assert fleet.running() == {"home": 0}
        fleet.store.end_order("pause", "*", at=clock())
        await turns(controller, 3)
        assert fleet.running() == {"home": 2}
        await end(fleet, controller)

    run(story())


def test_workload_of_another_manager_is_refused_until_it_is_adopted(tmp_path: Path) -> None:
    async def story() -> None:
        fleet = Fleet(tmp_path, spec([pool("home")], [workload()]))
        fleet.grounds["home"].managed = {"web": "HorizontalPodAutoscaler/web"}
        controller = await fleet.controller()
        await turns(controller, 3)
        assert fleet.running() == {"home": 0}
        assert "HorizontalPodAutoscaler/web" in decision(controller).held[0]
        fleet.store.add_order("adopt", "web", at=clock())
        await turns(controller, 3)
        assert fleet.running() == {"home": 2}
        await end(fleet, controller)

    run(story())


def test_what_the_spec_no_longer_names_is_ended_and_forgotten(tmp_path: Path) -> None:
    async def story() -> None:
        fleet = Fleet(tmp_path, spec([pool("home"), pool("old", price=0.5)], [workload(), workload("gone")]))
        controller = await fleet.controller()
        await turns(controller, 4)
        assert fleet.running() == {"home": 0, "old": 4}
        fleet.apply(spec([pool("home")], [workload()]))
        await turns(controller, 40)
        assert fleet.running() == {"home": 2, "old": 0}
        assert controller.turned is not None
        assert set(controller.turned.state.known) == {"web"}
        assert set(controller.turned.state.pools) == {"home"}
        await end(fleet, controller)

    run(story())


def test_capacity_error_blocks_the_place_and_the_plan_is_made_again_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        fleet = Fleet(tmp_path, spec([pool("cheap"), pool("dear", price=2.0)], [workload()]))
        fleet.grounds["cheap"].refuses = True
        controller = await fleet.controller()
        await turns(controller, 1, every=0.3)
        await turns(controller, 3)
        assert fleet.running() == {"cheap": 0, "dear": 2}
        assert controller.turned is not None
        (block,) = controller.turned.state.blocks
        assert (block.scope, block.shape, block.failures) == ("cheap/on-demand", "m", 1)
        assert block.until - block.at == 180.0
        assert [call[0] for call in fleet.grounds["cheap"].calls] == ["scale"], "it is not asked again meanwhile"
        await end(fleet, controller)

    run(story())


def test_launch_that_never_shows_counts_as_taken_for_five_minutes_and_then_as_no_capacity(tmp_path: Path) -> None:
    async def story() -> None:
        fleet = Fleet(tmp_path, spec([pool("cheap"), pool("dear", price=2.0)], [workload()]))
        fleet.grounds["cheap"].swallows = True
        controller = await fleet.controller()
        await turns(controller, 59)
        assert fleet.running() == {"cheap": 0, "dear": 0}
        assert len(fleet.grounds["cheap"].calls) == 1
        await turns(controller, 6)
        assert fleet.running() == {"cheap": 0, "dear": 2}
        await end(fleet, controller)

    run(story())


def test_one_pool_that_hangs_holds_nobody_else_up(tmp_path: Path) -> None:
    async def story() -> None:
        fleet = Fleet(tmp_path, spec([pool("home"), pool("hangs", price=0.1)], [workload()]))

        async def fault(name: str, _when: str, _verb: str) -> None:
            if name == "hangs":
                await asyncio.sleep(3600.0)

        fleet.fault = fault
        controller = await fleet.controller()
        began = clock()
        await controller.turn()
        assert clock() - began < 3.0
        await turns(controller, 3)
        assert fleet.running()["home"] == 2
        await end(fleet, controller)

    run(story())


def test_agent_that_reports_busy_is_not_ended_within_its_grace(tmp_path: Path) -> None:
    async def story() -> None:
        fleet = Fleet(tmp_path, spec([pool("home")], [workload(grace=60.0)]))
        controller = await fleet.controller()
        fleet.store.add_order("pin", "web", at=clock(), value=3)
        await turns(controller, 5)
        fleet.store.add_order("pin", "web", at=clock(), value=2)
        asked = 0
        for _ in range(8):
            asked += sum(
                controller.report(Report(agent=agent, busy=True), Speaker("home", "web")).drain
                for agent in fleet.grounds["home"].agents
            )
            await turns(controller, 1)
        assert asked, "one was told to finish, in the answer to its report"
        assert fleet.running() == {"home": 3}, "and is left to, while it is busy"
        for _ in range(8):
            for agent in fleet.grounds["home"].agents:
                controller.report(Report(agent=agent, busy=True), Speaker("home", "web"))
            await turns(controller, 1)
        assert fleet.running() == {"home": 2}, "until its grace is over"
        await end(fleet, controller)

    run(story())
