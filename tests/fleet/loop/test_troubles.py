"""What is wrong is in the store, where `covey fleet status` finds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from covey.base.errors import UsageError
from covey.fleet.commands.program import main
from covey.fleet.loop import memory
from covey.fleet.providers.base import Provider
from covey.fleet.spec.types import Pool, Replicas, Target
from covey.testing.loop import run
from tests.fleet.loop.fleets import Fleet, pool, spec, workload


def test_status_says_what_cannot_be_used_and_what_is_only_observed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asking = workload(
        mode="observe", replicas=Replicas(min=2, max=5), targets=(Target(signal="queue", queue_length=3),)
    )

    async def story() -> None:
        fleet = Fleet(tmp_path, spec([pool("home"), pool("broken")], [asking]))
        make = fleet.make_provider

        def sometimes(given: Pool) -> Provider:
            if given.name == "broken":
                raise UsageError("its SDK is missing")
            return make(given)

        monkeypatch.setattr(fleet, "make_provider", sometimes)
        controller = await fleet.controller()
        await controller.turn()
        assert memory.decode_problems(fleet.store.state()) == controller.troubles
        await controller.close()
        fleet.store.close()

    tmp_path.chmod(0o700)
    run(story())
    assert main(["status", "--home", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "problem: broken: its SDK is missing" in said
    assert "problem: web/1 queue: no sources here" in said
    assert "only observed: web, nothing is done" in said
    assert "0, min 2" in said


def test_problems_that_cannot_be_read_are_none() -> None:
    assert memory.decode_problems({"problems": "["}) == {}
    assert memory.decode_problems(memory.encode_problems({"a": "b"})) == {"a": "b"}
