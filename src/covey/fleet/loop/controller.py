"""The controller: observe, turn, journal, act, again.

Thin on purpose: what is decided is decided in `turn`, which is pure. One turn is a method that a test calls
(`Controller.turn`); `run` calls it every tick and at once on an event.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from covey.base.errors import CoveyError, NotFoundError, StateError, StorageError
from covey.fleet.loop import memory
from covey.fleet.loop.act import Actor
from covey.fleet.loop.journal import News
from covey.fleet.loop.leader import Lock
from covey.fleet.loop.observe import Observer, SourceReader
from covey.fleet.loop.reports import Reports
from covey.fleet.loop.store import Deposed, SpecVersion, Store, orders_at
from covey.fleet.loop.tokens import Speaker
from covey.fleet.loop.turn import Seen, Turned, TurnState, turn, with_retired
from covey.fleet.metrics import Metrics
from covey.fleet.model import Agent, Decision, Offering, PoolView, Reading
from covey.fleet.providers.base import Provider
from covey.fleet.reporting import Report, ReportAnswer
from covey.fleet.routing import eds
from covey.fleet.signals.base import Source
from covey.fleet.signals.registry import OWN_REPORTS
from covey.fleet.spec.types import Pool, Spec, Target, Workload

__all__ = ["Controller"]

_SOONEST: Final = 0.25
"""Between turns, s, however many events there are."""
_RETRY: Final = 1.0
"""After a turn that the store refused."""

KEPT_SECONDS: Final = 14 * 86400.0
"""Decisions and settled intents are kept for so long."""
_PRUNE_EVERY: Final = 3600.0
_TURN: Final = "the last turn"
"""In `problems`: it failed."""
_LATE: Final = 40.0
"""s beyond four ticks without a turn, after which the loop does not count as alive."""

_log = logging.getLogger(__name__)


class Controller:
    """One controller over `store`. `lead` first, then `turn` as often as wanted, or `run`; `close` ends it.
    `today` is the time of day by which orders end, `clock` unless given.

    `make_provider` and `make_source` may raise `CoveyError`: the pool or target is then shown with that problem, and
    tried again with the next spec.
    """

    def __init__(
        self,
        store: Store,
        lock: Lock,
        *,
        clock: Callable[[], float],
        today: Callable[[], float] | None = None,
        holder: str,
        make_provider: Callable[[Pool], Provider],
        make_source: Callable[[Workload, Target], Source],
        decided: Callable[[list[Decision]], None] = lambda decisions: None,
        priced: Callable[[dict[str, PoolView], Spec], dict[str, PoolView]] = lambda views, spec: views,
    ) -> None:
        self.deposed = False
        self.reports = Reports(self.now)
        self._store = store
        self._lock = lock
        self._wall = clock
        self._latest = clock()
        self._holder = holder
        self._today = today or self.now
        self._make_provider = make_provider
        self._make_source = make_source
        self._wake = asyncio.Event()
        self._asking = asyncio.Lock()
        self._decided = decided
        self._priced = priced
        self._news = News()
        self._stop = asyncio.Event()
        self._epoch = 0
        self._pruned = self._latest
        self._actor: Actor | None = None
        self._observer = Observer(clock=self.now, late=self.wake)
        self._spec: SpecVersion | None = None
        self._whole = Spec(pools={}, workloads={})
        self._providers: dict[str, Provider] = {}
        self._sources: dict[tuple[str, int], SourceReader] = {}
        self.problems: dict[str, str] = {}
        """By pool or `WORKLOAD/TARGET`: why it cannot be used."""
        self._state = TurnState()
        self._pieces: dict[str, str] = {}
        self.views: dict[str, PoolView] = {}
        """What the last turn saw."""
        self._draining: frozenset[tuple[Speaker, str]] = frozenset()
        self.turned: Turned | None = None
        self._metrics = Metrics()

    # --- for whoever runs it ---

    def now(self) -> float:
        """The clock, which never goes back."""
        self._latest = max(self._latest, self._wall())
        return self._latest

    @property
    def spec(self) -> Spec | None:
        """The one that the last turn was taken with."""
        return self._spec.spec if self._spec is not None else None

    def wake(self) -> None:
        """Something happened: turn soon."""
        self._wake.set()

    def stop(self) -> None:
        """`run` returns after the turn it is in."""
        self._stop.set()
        self._wake.set()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    @property
    def epoch(self) -> int:
        """Of this leader; 0 before it led."""
        return self._epoch

    async def sleep(self, seconds: float) -> None:
        """So long, or until `stop`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def lead(self) -> bool:
        """Try to become the leader. False: another controller is."""
        if not await self._ask(self._lock.try_acquire):
            return False
        self._epoch = await self._ask(self._store.lead, self._holder, self.now())
        self._pieces = await self._ask(self._store.state)
        self._state = memory.decode(self._pieces)
        self._observer.restore(memory.decode_views(self._pieces, self.now()))
        self._actor = Actor(
            self._store,
            self._epoch,
            self,
            ask=self._ask,
            clock=self.now,
            finished=self.wake,
            deposed=self._on_deposed,
            called=self._metrics.called,
        )
        return True

    async def run(self, told: Callable[[Turned], None] | None = None) -> None:
        """Turns until `stop`; `told` hears of each. Raises `Deposed` when another controller took over."""
        while not self.stopping:
            began = self.now()
            try:
                turned = await self.turn()
                next_at = turned.next_at
                if told is not None:
                    told(turned)
                self.problems.pop(_TURN, None)
            except NotFoundError:
                next_at = began + 5.0  # no spec yet: `apply` wakes us
            except StorageError as error:
                self._no_turn(str(error))
                next_at = began + _RETRY
            except (CoveyError, BrokenPipeError):
                raise
            except Exception as error:
                # A fault of ours: agents and routes stay as they are, /healthz says so if it lasts.
                self._no_turn(f"{type(error).__name__}: {error}", cause=error)
                next_at = began + _RETRY
            if self.deposed:
                raise Deposed("another controller leads")
            await self.pause(next_at, began=began)

    def _no_turn(self, why: str, cause: Exception | None = None) -> None:
        """Said once: a full disk would be filled by its own complaints."""
        if self.problems.get(_TURN) != why:
            _log.error("no turn: %s", why, exc_info=cause)
        self.problems[_TURN] = why

    async def pause(self, next_at: float, *, began: float = 0.0) -> None:
        """Until then or an event, but not sooner than `_SOONEST` after `began`. That an agent misses its reports is an
        event, too: it is to leave the routes at once, and not with the next tick."""
        while (until := min(next_at, self.reports.next_silence(began))) > self.now():
            try:
                async with asyncio.timeout(until - self.now()):
                    await self._wake.wait()
            except TimeoutError:
                continue  # who was expected to fall silent may have spoken meanwhile
            break
        if self._latest < next_at:
            await self.sleep(max(0.0, began + _SOONEST - self.now()))

    async def turn(self) -> Turned:
        """One turn: look, decide, write, hand over what is to be done. Raises `Deposed`, `StorageError` (nothing was
        decided then), `NotFoundError` without a spec."""
        actor = self._actor
        if actor is None or self.deposed:
            raise StateError("this controller does not lead")
        began = asyncio.get_running_loop().time()
        self._wake.clear()  # what happens from here on is for the next turn
        spec = await self._load_spec()
        looked = await self._observer.look(self._providers, self._whole.workloads.values())
        self.reports.keep(looked.values())
        self.views = self._priced({pool: self.reports.onto(view) for pool, view in looked.items()}, spec)
        self._draining = frozenset(
            (Speaker(agent.pool, agent.workload), agent.id)
            for view in self.views.values()
            for agent in view.agents
            if agent.state == "draining"
        )
        now = self.now()
        orders = orders_at(await self._ask(self._store.orders, self._today()))
        open_intents = {intent.id: intent for intent in await self._ask(self._store.intents)}
        queued = actor.queued
        seen = Seen(
            views=self.views,
            readings={name: self._readings(workload) for name, workload in spec.workloads.items()},
            orders=orders,
            in_flight=tuple(intent.in_flight(queued=number in queued) for number, intent in open_intents.items()),
        )
        turned = turn(self._state, seen, spec, now)
        pieces = memory.encode(turned.state) | memory.encode_views(looked, self._pieces)
        pieces |= memory.encode_problems(self.troubles)
        news = self._news.worth(turned.decisions)
        intents = await self._ask(
            self._store.journal,
            self._epoch,
            turn=turned.state.turn,
            plan=f"{self._epoch}-{turned.state.turn}",
            at=now,
            state=memory.changed(self._pieces, pieces),
            decisions=news,
            steps=turned.steps,
            settled=[(each.intent, each.outcome, each.detail) for each in turned.settled],
        )
        self._state, self._pieces, self.turned = turned.state, pieces, turned
        self._metrics.turned(turned, seen, spec, now, seconds=asyncio.get_running_loop().time() - began)
        self._news.recorded(news)
        self._decided(news)
        if now - self._pruned >= _PRUNE_EVERY:
            self._pruned = now
            await self._ask(self._store.prune, self._epoch, before=now - KEPT_SECONDS)
        for number in turned.again:
            actor.submit(open_intents[number])
        for intent in intents:
            actor.submit(intent)
        return turned

    async def settle(self) -> None:
        """Until every call that was handed over has answered."""
        if self._actor is not None:
            await self._actor.idle()

    async def close(self) -> None:
        """Ends all that this controller started for itself; agents run on."""
        if self._actor is not None:
            await self._actor.close()
        await self._observer.close()
        for reader in self._sources.values():
            await reader.close()
        for provider in self._providers.values():
            await provider.close()
        self._lock.release()

    # --- Served, for programs ---

    def report(self, report: Report, speaker: Speaker) -> ReportAnswer:
        """An agent's word. It is told to finish when that was decided."""
        self.reports.take(report, speaker)
        return ReportAnswer(drain=(speaker, report.agent) in self._draining)

    def alive(self) -> bool:
        """A turn happened lately."""
        state = self._state
        return state.turn > 0 and self.now() - state.at < 4 * self._tick + _LATE

    def status(self) -> dict[str, Any]:
        turned = self.turned
        return {
            "holder": self._holder,
            "epoch": self._epoch,
            "turn": self._state.turn,
            "at": self._state.at,
            "spec_version": self._spec.version if self._spec is not None else 0,
            "problems": self.troubles,
            "pools": turned.health.pools if turned is not None else {},
            "notes": turned.health.notes if turned is not None else (),
            "workloads": {each.workload: each for each in turned.decisions} if turned is not None else {},
            "blocks": self._state.blocks,
            "queued": len(self._actor.queued) if self._actor is not None else 0,
        }

    def seen(self) -> Any:
        """What the next turn would know, for `covey fleet plan`: agents with their reports, and every signal."""
        return {
            "spec_version": self._spec.version if self._spec is not None else 0,
            "views": self.views,
            "readings": {name: self._readings(workload) for name, workload in self._whole.workloads.items()},
        }

    def routes(self) -> Any:
        return eds(self.turned.routes if self.turned is not None else {}, str(self._state.turn))

    def metrics(self) -> bytes:
        return self._metrics.render(self.troubles)

    # --- Targets, for the actor ---

    def provider(self, pool: str) -> Provider | None:
        return self._providers.get(pool)

    def workload(self, name: str) -> Workload | None:
        return self._whole.workloads.get(name)

    def offering(self, workload: str, key: str) -> Offering | None:
        return self._observer.offering(workload, key)

    # --- within ---

    async def _ask(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """A call of the store: in a thread when it waits for a network, one at a time, since a transaction is its
        connection's."""
        if self._store.remote:
            async with self._asking:
                return await asyncio.to_thread(function, *args, **kwargs)
        return function(*args, **kwargs)

    def _on_deposed(self) -> None:
        self.deposed = True
        self.wake()

    async def _load_spec(self) -> Spec:
        """The spec as applied; `_whole` has also what it no longer names and is still there."""
        newest = await self._ask(self._store.newest_spec)
        if self._spec is None or self._spec.version != newest:
            self._spec = await self._ask(self._store.spec)
        assert self._spec is not None
        old, self._whole = self._whole, with_retired(self._state, self._spec.spec)
        if old.pools != self._whole.pools:
            await self._replace_providers(old.pools, self._whole.pools)
        if old.workloads != self._whole.workloads:
            await self._replace_sources(old.workloads, self._whole.workloads)
        return self._spec.spec

    async def _replace_providers(self, old: Mapping[str, Pool], new: Mapping[str, Pool]) -> None:
        for name in [name for name, pool in old.items() if new.get(name) != pool]:
            self.problems.pop(name, None)
            if provider := self._providers.pop(name, None):
                await provider.close()
        for name, pool in new.items():
            if name in self._providers:
                continue
            try:
                self._providers[name] = self._make_provider(pool)
                self.problems.pop(name, None)
            except CoveyError as error:
                self.problems[name] = str(error)
                _log.error("pool %s: %s", name, error)

    async def _replace_sources(self, old: Mapping[str, Workload], new: Mapping[str, Workload]) -> None:
        for name, index in list(self._sources):
            before, after = old.get(name), new.get(name)
            if before is None or after is None or before.targets != after.targets:
                await self._sources.pop((name, index)).close()
        for name, workload in new.items():
            for index, target in enumerate(workload.targets):
                label = f"{name}/{index + 1} {target.signal}"
                if target.signal in OWN_REPORTS or (name, index) in self._sources:
                    continue
                self.problems.pop(label, None)
                try:
                    source = self._make_source(workload, target)
                except CoveyError as error:
                    self.problems[label] = str(error)
                    _log.error("signal %s: %s", label, error)
                    continue
                self._sources[name, index] = SourceReader(
                    source, partial(self._agents, name), clock=self.now, name=label
                )

    @property
    def _tick(self) -> float:
        return self._whole.controller.tick

    @property
    def troubles(self) -> dict[str, str]:
        """By pool or `WORKLOAD/TARGET`: all that is wrong with it now."""
        pools = {name: view.problem for name, view in self.views.items() if view.problem}
        return pools | {each.name: each.problem for each in self._sources.values() if each.problem} | self.problems

    def _agents(self, workload: str) -> tuple[Agent, ...]:
        return tuple(agent for view in self.views.values() for agent in view.agents if agent.workload == workload)

    def _readings(self, workload: Workload) -> tuple[dict[str, Reading], ...]:
        found: list[dict[str, Reading]] = []
        for index, target in enumerate(workload.targets):
            reader = self._sources.get((workload.name, index))
            if target.signal == "agents":
                found.append(self.reports.readings(self._agents(workload.name)))
            else:
                found.append({} if reader is None else dict(reader.readings))
        return tuple(found)
