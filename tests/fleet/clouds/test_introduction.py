"""The rule that FLEET begins with, on a whole controller: AWS is moto, Azure a REST fake, the queue a command's.

AWS busy and its queue long, Azure 10 % cheaper: with capacity there, Azure; without, AWS; idle, the dearer one shrinks.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from covey.fleet.loop.controller import Controller
from covey.fleet.loop.database import SqliteDatabase
from covey.fleet.loop.leader import FileLock
from covey.fleet.loop.store import Store
from covey.fleet.loop.tokens import Speaker
from covey.fleet.providers.registry import Surroundings
from covey.fleet.reporting import Report
from covey.fleet.signals.registry import make_source
from covey.fleet.spec.types import Controller as ControllerSettings
from covey.fleet.spec.types import Replicas, Spec, Target, Workload
from tests.fleet.clouds.harness import CREDENTIALS, Aws, Azure

AWS_PRICE, AZURE_PRICE = 0.100, 0.090


class Scene:
    """Two clouds, one workload, a controller whose clock the test moves on."""

    def __init__(self, folder: Path, aws: Aws, azure: Azure) -> None:
        self.aws, self.azure = aws, azure
        self.folder = folder
        self.ahead = 0.0
        aws.prices["m7i.large"], azure.prices["Standard_D2s_v5"] = AWS_PRICE, AZURE_PRICE
        aws.wall = azure.wall = self.clock
        target = Target(signal="command", command=("cat", str(folder / "queue.json")), rate_per_agent=10.0, every=0.05)
        self.workload = Workload(
            name="fraud",
            mode="act",
            replicas=Replicas(min=1, max=20),
            targets=(target,),
            cold_start=10.0,
            grace=5.0,
        )
        self.spec = Spec(
            pools={"aws": aws.pool, "azure": azure.pool},
            workloads={"fraud": self.workload},
            controller=ControllerSettings(tick=20.0),
        )
        self.store = Store(SqliteDatabase(folder / "fleet.db"))
        self.store.add_spec(self.spec, text="", name="fleet.toml", at=self.clock())
        self.queue(0.0, 0.0)

    def clock(self) -> float:
        return time.time() + self.ahead

    def queue(self, rate: float, backlog: float) -> None:
        fresh = self.folder / "queue.new"
        fresh.write_text(json.dumps({"rate": rate, "backlog": backlog}))
        fresh.rename(self.folder / "queue.json")

    async def controller(self) -> Controller:
        clouds: dict[str, Any] = {"aws": self.aws, "azure": self.azure}
        controller = Controller(
            self.store,
            FileLock(self.folder / "leader.lock"),
            clock=self.clock,
            holder="test",
            make_provider=lambda pool: clouds[pool.name].make(),
            make_source=lambda workload, target: make_source(workload, target, Surroundings(home=self.folder)),
        )
        assert await controller.lead()
        return controller

    async def turns(
        self, controller: Controller, count: int, rate: float, backlog: float, *, every: float = 5.0
    ) -> dict[str, int]:
        """So many turns with this demand; then how many agents each cloud has, those that drain left out."""
        for _ in range(count):
            self.ahead += every
            self.queue(rate, backlog)
            await self.fresh(controller, rate)
            self.report(controller, busy=rate > 0.0)
            await controller.turn()
            await controller.settle()
        turned = await controller.turn()
        self.decision = turned.decisions[0]
        counts = {"aws": 0, "azure": 0}
        for key, states in self.decision.agents.items():
            counts[key.partition("/")[0]] += sum(n for state, n in states.items() if state != "draining")
        return counts

    def report(self, controller: Controller, *, busy: bool) -> None:
        """What the agents say of themselves."""
        for view in controller.views.values():
            for agent in view.agents:
                if agent.state != "ready":
                    continue
                controller.report(Report(agent=agent.id, busy=busy), Speaker(agent.pool, agent.workload))
                self.aws.busy[agent.id] = self.azure.busy[agent.id] = busy

    async def fresh(self, controller: Controller, rate: float) -> None:
        """Until the command has been run again: what it printed is the newest reading."""
        async with asyncio.timeout(10):
            while True:
                reader = controller._sources.get(("fraud", 0))
                reading = reader.readings.get("") if reader else None
                if reader is None or (reading and reading.arrivals == rate and self.clock() - reading.at < 2.0):
                    return  # the first turn makes the reader
                await asyncio.sleep(0.01)


@pytest.fixture
def scene(moto: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    aws, azure = Aws(moto, "m7i.large", group=f"intro-{tmp_path.name}"), Azure()
    made = Scene(tmp_path, aws, azure)
    yield made
    aws.close()
    azure.close()


BUSY, LONG = 120.0, 300.0


def test_demand_goes_to_the_cheaper_cloud_that_has_room(scene: Scene) -> None:
    async def scenario() -> None:
        controller = await scene.controller()
        scene.azure.prices["Standard_D2s_v5"] = 0.2
        assert await scene.turns(controller, 2, 20.0, 0.0) == {"aws": 3, "azure": 0}
        scene.azure.prices["Standard_D2s_v5"] = AZURE_PRICE
        after = await scene.turns(controller, 3, BUSY, LONG)
        assert after["aws"] == 3, "what runs stays: 10 % is less than a move must save"
        assert after["azure"] >= 15
        chosen = {each.offering.partition("/")[0]: each for each in scene.decision.candidates}
        assert chosen["azure"].price == pytest.approx(AZURE_PRICE)
        await controller.close()

    asyncio.run(scenario())


def test_without_room_there_it_goes_to_the_dearer_one(scene: Scene) -> None:
    async def scenario() -> None:
        controller = await scene.controller()
        assert await scene.turns(controller, 2, 6.0, 0.0) == {"aws": 0, "azure": 1}
        scene.azure.limit(2)
        after = await scene.turns(controller, 6, BUSY, 0.0)
        assert after["aws"] + after["azure"] >= 17, scene.decision
        assert after["azure"] == 2
        azure = next(each for each in scene.decision.candidates if each.offering.startswith("azure/"))
        assert "capacity" in azure.rejected.lower()
        await controller.close()

    asyncio.run(scenario())


def test_idle_the_dearer_one_shrinks_first(scene: Scene) -> None:
    async def scenario() -> None:
        controller = await scene.controller()
        scene.azure.limit(2)
        before = await scene.turns(controller, 5, 60.0, 0.0)
        assert before["azure"] == 2
        after = await scene.turns(controller, 20, 0.0, 0.0, every=20.0)
        assert after == {"aws": 5, "azure": 2}, "a quarter of 7 in 5 min, and none of the cheaper"
        await controller.close()

    asyncio.run(scenario())
