"""One controller and pools that do as they are told."""

from __future__ import annotations

from pathlib import Path

from covey.testing.loop import run
from tests.fleet.loop.fleets import Fleet, pool, spec, turns, workload


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
