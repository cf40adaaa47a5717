"""An hour in which providers fail, time out, lie and come late, agents die, rooms fill up and leaders change.

What must hold is checked as it happens (`Witness`), and after the last quarter, in which nothing fails any more,
everything must be as it should be. `python -m tests.fleet.loop.chaos --seeds 500` is `make fleet-chaos`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from random import Random

from msgspec.structs import replace

from covey.base.errors import StorageError
from covey.fleet.errors import Capacity, Denied, ProviderError, Quota, Temporary
from covey.fleet.loop.controller import Controller
from covey.fleet.loop.leader import FileLock
from covey.fleet.loop.store import Deposed, Store
from covey.fleet.loop.tokens import Speaker
from covey.fleet.loop.turn import Turned
from covey.fleet.model import Agent, Offering, PoolView, Reading
from covey.fleet.providers.base import Fence
from covey.fleet.reporting import Report
from covey.fleet.spec.types import Place, Pool, Replicas, Spec, Survive, Target, Workload
from covey.testing.loop import run
from tests.fleet.loop.fleets import clock, pool, spec, unsynced, workload
from tests.fleet.loop.pools import Ground, GroundProvider

HOUR = 3600.0
CALM = 0.7
"""The part of the time after which nothing fails any more: 18 minutes of an hour, since what comes back is trusted
after 10."""
RATES = {"web": 40.0, "batch": 12.0}
"""Requests per second, constant."""
PER_AGENT = 10.0
REVERSALS = 2
"""Per workload in any `WINDOW`, under constant demand."""
WINDOW = 600.0


class Broken(AssertionError):
    """A bound that did not hold."""


class WildProvider(GroundProvider):
    """Over a `Ground` that does what the seed says. A call that times out may take effect later; one that says yes may
    do nothing, or less; a look may be an old one. It keeps the highest epoch it has seen, and what comes late from a
    leader before that changes nothing."""

    def __init__(self, pool: Pool, ground: Ground, chaos: Chaos) -> None:
        super().__init__(pool, ground, price=pool.price)
        self.chaos = chaos
        self.random = chaos.random
        self.old: PoolView | None = None

    def wild(self, chance: float) -> bool:
        return not self.chaos.calm and self.random.random() < chance

    async def observe(self, workloads: Iterable[Workload], now: float) -> PoolView:
        if self.pool.name in self.chaos.dark or self.wild(0.03):
            if self.wild(0.3):
                await asyncio.sleep(self.random.uniform(1, 40))
            raise Temporary("no answer")
        if self.wild(0.05):
            await asyncio.sleep(self.random.uniform(0, 8))
        view = await super().observe(workloads, now)
        if self.old is not None and self.wild(0.03):
            return self.old  # what it saw before, as if it were new
        self.old = view
        return view

    async def _order(self, name: str, effect: object, fence: Fence) -> object:
        assert callable(effect)
        self.chaos.begun.append((clock(), fence.epoch, self.pool.name, name))

        def take_effect() -> object:
            if fence.epoch < self.chaos.epochs.get(self.pool.name, 0):
                return None  # a deposed leader's
            self.chaos.epochs[self.pool.name] = fence.epoch
            return effect()

        if self.pool.name in self.chaos.dark:
            raise Temporary("no answer")
        if self.wild(0.05):
            raise self.random.choice((Temporary("throttled", after=3.0), Denied("not now")))
        if name == "scale" and self.wild(0.08):
            scope = f"{self.pool.name}/on-demand"
            raise self.random.choice((Capacity("none left", scope=scope, shape="m"), Quota("limit", scope=scope)))
        if self.wild(0.04):
            return None  # it says yes and does nothing
        if self.wild(0.06):
            self.chaos.later(self.random.uniform(1, 120), take_effect)
            if self.wild(0.5):
                await asyncio.sleep(HOUR)
            raise Temporary("timed out")
        if self.wild(0.1):
            await asyncio.sleep(self.random.uniform(0, 20))
        found = take_effect()
        if self.wild(0.05):
            raise Temporary("the answer was lost")
        return found

    async def scale(self, workload: Workload, offering: Offering, size: int, fence: Fence) -> None:
        await self._order("scale", lambda: self._ground.scale(workload, offering, size), fence)

    async def drain(self, workload: Workload, ids: Sequence[str], fence: Fence) -> None:
        await self._order("drain", lambda: self._ground.drain(ids), fence)

    async def remove(self, workload: Workload, ids: Sequence[str], fence: Fence, *, grace: float) -> Sequence[str]:
        gone = await self._order("remove", lambda: self._ground.remove(ids), fence)
        return gone if isinstance(gone, list) else []


class Steady:
    """A source that always says the same."""

    every = 2.0

    def __init__(self, rate: float) -> None:
        self.rate = rate

    async def read(self, agents: Sequence[Agent], now: float) -> dict[str, Reading]:
        return {"": Reading(at=now, arrivals=self.rate, backlog=0.0, interval=2.0)}

    async def close(self) -> None:
        return


class Witness:
    """Looks at every turn of every leader."""

    def __init__(self, given: Spec) -> None:
        self.spec = given
        self.turns: dict[str, list[tuple[float, int]]] = {name: [] for name in given.workloads}
        """By workload: when it turned, and which way (demand only)."""
        self.believed: dict[str, int] = {}
        """By workload: what runs and what comes, as its controller left it."""
        self.short: set[str] = set()
        """Workloads of which a part had no room anywhere."""
        self.steps = 0

    def turned(self, turned: Turned, views: dict[str, PoolView], before: dict[tuple[str, str], int]) -> None:
        now = clock()
        self.steps += len(turned.steps)
        self._bounds(turned, views)
        self._least(turned)
        self._room(turned, views, before)
        for name in self.spec.workloads:
            self._reversals(turned, name, now)

    def _reversals(self, turned: Turned, name: str, now: float) -> None:
        """Ways that the workload goes by its controller's own will: what makes up for agents that died, came late, fell
        silent or came back is no way, and neither is what there was no room for before."""
        ways = self.turns[name]
        standing = turned.health.standing(name)
        kinds = {step.kind for step in turned.steps if step.workload == name and step.cause == "demand"}
        ordered = sum(launch.coming for launch in turned.state.workloads[name].launches.values())
        going = sum(len(step.ids) for step in turned.steps if step.workload == name and step.kind == "drain")
        after = len(standing.counting) + ordered - going
        before = sum(each.was for each in turned.placement.candidates.get(name, ()))
        moved = self.believed.get(name) != before or name in self.short
        self.believed[name] = after
        self.short.discard(name)
        self.short |= {fall.workload for fall in turned.placement.shortfalls if fall.workload == name}
        if moved or not kinds:
            return
        way = 1 if "scale" in kinds else -1
        if not ways or ways[-1][1] != way:
            ways.append((now, way))
        lately = [at for at, _ in ways[1:] if now - at < WINDOW]
        if len(lately) > REVERSALS:
            raise Broken(f"{name}: {len(lately)} reversals in {WINDOW:g} s")

    def _bounds(self, turned: Turned, views: dict[str, PoolView]) -> None:
        """What is believed to be there and to come is within `max` and what moves need beside it."""
        for name, each in self.spec.workloads.items():
            standing = turned.health.standing(name)
            coming = sum(launch.coming for launch in turned.state.workloads[name].launches.values())
            started = any(step.kind == "scale" and step.workload == name for step in turned.steps)
            doubled = len(standing.suspect) + len(standing.leaving) + len(standing.dead)
            moving = sum(move.count for move in turned.state.sift.moves if move.workload == name)
            most = each.replicas.max + moving
            if started and len(standing.counting) + coming > most:
                raise Broken(f"{name}: {len(standing.counting)} run and {coming} come, {most} are the most ({doubled})")

    def _least(self, turned: Turned) -> None:
        """What is told to go never takes what is ready below `min`."""
        for name, each in self.spec.workloads.items():
            ready = {
                f"{agent.pool}/{agent.id}" for agent in turned.health.standing(name).counting if agent.state == "ready"
            }
            told = {
                f"{step.pool}/{agent}"
                for step in turned.steps
                if step.workload == name and step.kind != "scale"
                for agent in step.ids
            }
            if told & ready and len(ready - told) < each.replicas.min:
                raise Broken(
                    f"{name}: {len(told & ready)} of {len(ready)} ready are told to go, {each.replicas.min} must stay"
                )

    def _room(self, turned: Turned, views: dict[str, PoolView], before: dict[tuple[str, str], int]) -> None:
        """Nothing is ordered beyond what was last seen free."""
        ordered = [step for step in turned.steps if step.kind == "scale"]
        for name in {step.pool for step in ordered}:
            rooms = [
                offering.room
                for offered in views[name].offerings.values()
                for offering in offered
                if offering.room is not None
            ]
            if not rooms:
                continue
            coming = sum(
                launch.coming
                for each in turned.state.workloads.values()
                for key, launch in each.launches.items()
                if key.startswith(f"{name}/")
            )
            known = sum(count for (_, key), count in before.items() if key.startswith(f"{name}/"))
            if coming > max(min(rooms), known):
                raise Broken(f"{name}: {coming} are ordered where {min(rooms)} had room ({known} were on their way)")


class Chaos:
    """One seed."""

    def __init__(self, seed: int, folder: Path, seconds: float) -> None:
        self.random = Random(seed)
        self.folder = folder
        self.seconds = seconds
        self.calm = False
        self.dark: set[str] = set()
        self.epochs: dict[str, int] = {}
        self.begun: list[tuple[float, int, str, str]] = []
        self.led: list[tuple[float, int]] = []
        targets = (Target(signal="queue", rate_per_agent=PER_AGENT, every=2.0),)
        self.spec = spec(
            [pool("aws", price=1.0), pool("azure", "azure", price=1.1), pool("gcp", "gcp", price=1.2)],
            [
                workload(
                    "web",
                    replicas=Replicas(min=2, max=14),
                    cold_start=20.0,
                    grace=20.0,
                    targets=targets,
                    priority=5,
                    place=Place(survive=Survive(clouds=1, keep="min")),
                ),
                workload("batch", replicas=Replicas(min=1, max=6), cold_start=20.0, grace=20.0, targets=targets),
            ],
        )
        self.grounds = {name: Ground(name, clock, cold_start=20.0, room=20) for name in self.spec.pools}
        self.witness = Witness(self.spec)
        self.controller: Controller | None = None
        self.late: list[asyncio.Task[None]] = []
        self.store = Store(unsynced(folder / "fleet.db"))

    def later(self, seconds: float, effect: object) -> None:
        async def come() -> None:
            await asyncio.sleep(seconds)
            assert callable(effect)
            with contextlib.suppress(ProviderError):
                effect()

        self.late.append(asyncio.create_task(come(), name="late"))

    async def live(self) -> None:
        self.store.add_spec(self.spec, text="", name="fleet.toml", at=clock())
        helpers = [asyncio.create_task(each, name="helper") for each in (self._report(), self._harm())]
        end = asyncio.get_running_loop().time() + self.seconds
        try:
            while asyncio.get_running_loop().time() < end:
                await self._reign(min(end, asyncio.get_running_loop().time() + self.random.uniform(60, 1500)))
        finally:
            for task in (*helpers, *self.late):
                task.cancel()
            await asyncio.gather(*helpers, *self.late, return_exceptions=True)
            self.store.close()
        self._check_calls()
        self._check_end()

    async def _reign(self, until: float) -> None:
        """One controller's time. It then dies in the middle of things, or is deposed and goes on for a while."""
        lock = FileLock(self.folder / f"lock-{len(self.led)}")
        controller = Controller(
            self.store,
            lock,
            clock=clock,
            holder=str(len(self.led)),
            make_provider=lambda pool: WildProvider(pool, self.grounds[pool.name], self),
            make_source=lambda workload, target: Steady(RATES[workload.name]),
        )
        assert await controller.lead()
        self.led.append((clock(), controller.epoch))
        self.controller = controller
        loop = asyncio.get_running_loop()
        try:
            while loop.time() < until:
                began = controller.now()
                await self._turn(controller)
                await controller.pause(began + 5.0, began=began)
            if not self.calm and self.random.random() < 0.5:
                await self._usurp(controller)
        finally:
            await controller.close()

    async def _turn(self, controller: Controller) -> None:
        before = {
            (name, key): launch.coming
            for name, each in (controller.turned.state.workloads.items() if controller.turned else ())
            for key, launch in each.launches.items()
        }
        turned = await controller.turn()
        self.witness.turned(turned, controller.views, before)

    async def _usurp(self, controller: Controller) -> None:
        """Somebody else took over and the old one does not know: whatever it still tries, it may not call."""
        epoch = self.store.lead("usurper", clock())
        self.led.append((clock(), epoch))
        for _ in range(3):
            try:
                await controller.turn()
            except Deposed:
                break
            except StorageError as error:
                raise Broken(f"the deposed leader: {error}") from error
            await asyncio.sleep(5.0)
        else:
            raise Broken("a deposed leader went on")
        await controller.settle()

    async def _report(self) -> None:
        """Agents that live and can be reached say so."""
        while True:
            for name, ground in self.grounds.items():
                if self.controller is None or name in self.dark:
                    continue
                for agent in list(ground.agents.values()):
                    if agent.state != "starting":
                        busy = agent.state == "ready" and self.random.random() < 0.5
                        speaker = Speaker(agent.pool, agent.workload)
                        self.controller.reports.take(Report(agent=agent.id, busy=busy), speaker)
            await asyncio.sleep(2.0)

    async def _harm(self) -> None:
        """Agents die, notices come, rooms change, pools go dark and come back."""
        random = self.random
        begin = clock()
        while True:
            await asyncio.sleep(random.expovariate(1 / 20.0))
            if clock() - begin > self.seconds * CALM:
                self.calm = True
                self.dark.clear()
                for ground in self.grounds.values():
                    ground.room = 20
                return
            ground = random.choice(list(self.grounds.values()))
            what = random.random()
            if what < 0.3 and ground.agents:
                ground.agents.pop(random.choice(sorted(ground.agents)))
            elif what < 0.4 and ground.agents:
                name = random.choice(sorted(ground.agents))
                ground.agents[name] = replace(ground.agents[name], leaving_at=clock() + 120)
                self.later(120, partial(ground.agents.pop, name, None))
            elif what < 0.6:
                ground.room = random.choice((0, 2, 4, 8, 20, 20))
            elif what < 0.66 and len(self.dark) < 1:
                self.dark.add(ground.name)
                if random.random() < 0.5:
                    ground.agents.clear()
            elif what < 0.8:
                self.dark.clear()

    def _check_calls(self) -> None:
        """No call of a leader began after another led."""
        for at, epoch, where, verb in self.begun:
            newest = max((led for since, led in self.led if since < at), default=0)
            if epoch < newest:
                raise Broken(f"{verb} in {where} began with epoch {epoch} while {newest} led")

    def _check_end(self) -> None:
        wanted = {"web": 6, "batch": 2}
        for name, count in wanted.items():
            there = [a for ground in self.grounds.values() for a in ground.agents.values() if a.workload == name]
            ready = [agent for agent in there if agent.state == "ready"]
            # What was too much goes slowly: one in 5 minutes of a fleet this small (the brakes), after 10 of health.
            most = self.spec.workloads[name].replicas.max
            if not count <= len(ready) <= most:
                raise Broken(f"{name}: {len(ready)} are ready in the end, {count} are needed ({len(there)} there)")
        web = {name: sum(a.workload == "web" for a in g.agents.values()) for name, g in self.grounds.items()}
        if any(sum(web.values()) - count < 2 for count in web.values()):
            raise Broken(f"web would not survive the loss of a cloud: {web}")


def live(seed: int, seconds: float = HOUR) -> int:
    """One seed; how many steps it took. Raises `Broken`."""
    with tempfile.TemporaryDirectory(prefix="covey-chaos-") as folder:

        async def story() -> int:
            chaos = Chaos(seed, Path(folder), seconds)
            await chaos.live()
            return chaos.witness.steps

        return run(story(), seed=seed)


def _one(arguments: tuple[int, float]) -> tuple[int, int, str]:
    seed, seconds = arguments
    try:
        return seed, live(seed, seconds), ""
    except Exception as error:  # a seed that fails is told, and the others go on
        return seed, 0, f"{type(error).__name__}: {error}"


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=HOUR)
    given = parser.parse_args(words)
    began = time.monotonic()
    steps, broken = 0, []
    with multiprocessing.get_context("spawn").Pool() as workers:
        jobs = [(seed, given.seconds) for seed in range(given.first, given.first + given.seeds)]
        for done, (seed, count, error) in enumerate(workers.imap_unordered(_one, jobs), 1):
            steps += count
            if error:
                broken.append(seed)
                print(f"seed {seed}: {error}", flush=True)
            if done % 50 == 0:
                print(f"{done} seeds, {steps} steps, {len(broken)} broken", flush=True)
    print(
        f"{given.seeds} seeds of {given.seconds / 60:g} minutes in {time.monotonic() - began:.0f} s: "
        f"{steps} steps, {len(broken)} broken {sorted(broken)[:20]}"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
