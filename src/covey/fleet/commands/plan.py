"""`plan`: what the controller would do now, by its very own turn, and nothing of it done."""

from __future__ import annotations

import asyncio
import http.client
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from covey.base.errors import CoveyError, NotFoundError
from covey.fleet.commands import words
from covey.fleet.commands.context import Context, Result, Verbs, known
from covey.fleet.commands.specs import spec_option
from covey.fleet.home import FleetHome
from covey.fleet.model import Agent, Decision, PoolView, Reading

if TYPE_CHECKING:
    from covey.fleet.loop.turn import Seen, Turned, TurnState
    from covey.fleet.providers.registry import Surroundings
    from covey.fleet.spec.types import Spec, Target, Workload

__all__ = ["PlanView", "add"]

_BETWEEN: Final = 1.0
"""Seconds between two readings of a source: a rate is a difference."""

_ASK_SECONDS: Final = 3.0
_LARGEST: Final = 64 << 20
"""Bytes of a controller's answer: thousands of agents."""

_LOOKS: Final = 10
"""How often a pool that has not answered yet is waited for, 2 s each."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What a running controller knows (`GET /seen`)."""

    spec_version: int
    views: dict[str, PoolView]
    readings: dict[str, tuple[dict[str, Reading], ...]]


class PlanView(msgspec.Struct, frozen=True, kw_only=True):
    """What `plan` prints as data."""

    decisions: list[Decision]
    problems: dict[str, str]
    """By pool or signal: why it could not be asked."""
    stale: list[str]
    """Offerings whose price is too old to justify a move."""
    hourly_usd_before: float
    hourly_usd_after: float
    budget: float | None


def add(verbs: Verbs) -> None:
    parser = verbs.add(
        "plan",
        _plan,
        summary="show what would be done now, why, and what it costs before and after",
        more="Looks at the pools, reads the signals (or asks the controller of this machine, which knows what agents\n"
        "report), and takes one turn of the controller's own code. Nothing is started, ended or written.",
    )
    spec_option(parser)
    parser.add_argument("--applied", action="store_true", help="the spec that was applied, not the file")
    parser.add_argument("--workload", default="", metavar="NAME", help="show one alone")


def _plan(context: Context, options: Any) -> Result:
    from covey.fleet.loop.turn import TurnState, turn
    from covey.fleet.prices.quotes import Quotes
    from covey.fleet.providers.registry import Surroundings
    from covey.fleet.spec.load import load

    state, remembered, applied = TurnState(), None, None
    try:
        with context.store() as store:
            state, remembered = _remembered(store)
            applied = store.spec() if store.newest_spec() else None
            spec = store.spec().spec if options.applied else load(Path(options.spec))
    except NotFoundError:
        if options.applied:
            raise
        spec = load(Path(options.spec))
    if options.workload:
        known(options.workload, spec.workloads, "workload")
    home = context.home.make().path
    quotes = Quotes(home, spec.prices)
    try:
        seen, problems = asyncio.run(_look(spec, remembered, Surroundings(home=home, quote=quotes.quote)))
        known_there = _ask_controller(context.home)
        if known_there is not None and applied is not None and known_there.spec_version == applied.version:
            seen = _with(seen, known_there, applied.spec, spec, problems)
        seen = msgspec.structs.replace(seen, views=quotes.priced(seen.views, spec))
    finally:
        quotes.close()
    turned: Turned = turn(state, seen, spec, time.time())
    decisions = [each for each in turned.decisions if options.workload in ("", each.workload)]
    view = PlanView(
        decisions=decisions,
        problems=problems,
        stale=_stale(seen, time.time()),
        hourly_usd_before=sum(each.cost_before for each in decisions),
        hourly_usd_after=sum(each.cost_after for each in decisions),
        budget=spec.budget.hourly_usd if spec.budget is not None else None,
    )
    return Result(view, "\n".join(_said(view)))


def _ask_controller(home: FleetHome) -> Known | None:
    """None: none runs on this machine, or it does not answer in time."""
    from covey.fleet.loop.program import listening

    found = listening(home)
    if found is None:
        return None
    try:
        # Not through a proxy of the environment: it is on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{found.url}/seen", timeout=_ASK_SECONDS) as answer:
            return msgspec.json.decode(answer.read(_LARGEST), type=Known)
    except (OSError, ValueError, http.client.HTTPException, msgspec.DecodeError):
        return None


def _with(seen: Seen, known_there: Known, applied: Spec, spec: Spec, problems: dict[str, str]) -> Seen:
    """The agents and readings that the controller knows, where they are about the same pools and targets."""
    views = dict(seen.views)
    for name, view in known_there.views.items():
        if name in views and spec.pools.get(name) == applied.pools.get(name):
            views[name] = msgspec.structs.replace(views[name], agents=view.agents)
    readings = dict(seen.readings)
    for name, read in known_there.readings.items():
        one, other = spec.workloads.get(name), applied.workloads.get(name)
        if one is not None and other is not None and one.targets == other.targets:
            readings[name] = read
            for key in [key for key in problems if key.startswith(f"{name}/")]:
                del problems[key]
    return msgspec.structs.replace(seen, views=views, readings=readings)


def _remembered(store: Any) -> tuple[TurnState, Seen]:
    from covey.fleet.loop import memory
    from covey.fleet.loop.store import orders_at
    from covey.fleet.loop.turn import Seen

    now = time.time()
    in_flight = tuple(intent.in_flight(queued=False) for intent in store.intents())
    return memory.decode(store.state()), Seen(views={}, orders=orders_at(store.orders(now)), in_flight=in_flight)


async def _look(spec: Spec, remembered: Seen | None, surroundings: Surroundings) -> tuple[Seen, dict[str, str]]:
    """One look at every pool, and every source read twice."""
    from covey.fleet.loop.observe import Observer
    from covey.fleet.loop.turn import Seen
    from covey.fleet.providers.registry import make_provider

    problems: dict[str, str] = {}
    observer = Observer(clock=time.time, late=lambda: None)
    providers = {}
    try:
        for name, pool in spec.pools.items():
            try:
                providers[name] = make_provider(pool, surroundings)
            except CoveyError as error:
                problems[name] = _why(error)
        workloads = tuple(spec.workloads.values())
        views = await observer.look(providers, workloads)
        for _ in range(_LOOKS):
            if len(views) == len(providers):
                break
            views = await observer.look(providers, workloads)
        agents = [agent for view in views.values() for agent in view.agents]
        problems |= {name: view.problem or "it does not answer" for name, view in views.items() if not view.control}
        problems |= {name: "no answer yet" for name in providers if name not in views}
        readings = await _read(workloads, agents, surroundings, problems)
    finally:
        await observer.close()
        for provider in providers.values():
            await provider.close()
    return msgspec.structs.replace(remembered or Seen(views={}), views=views, readings=readings), problems


async def _read(
    workloads: Sequence[Workload], agents: Sequence[Agent], surroundings: Surroundings, problems: dict[str, str]
) -> dict[str, tuple[dict[str, Reading], ...]]:
    from covey.fleet.signals.registry import OWN_REPORTS

    async def one(workload: Workload, number: int, target: Target) -> dict[str, Reading]:
        if target.signal in OWN_REPORTS:
            return {}
        own = [agent for agent in agents if agent.workload == workload.name]
        try:
            return await _read_twice(workload, target, own, surroundings)
        except CoveyError as error:
            problems[f"{workload.name}/{number + 1} {target.signal}"] = _why(error)
            return {}

    found = await asyncio.gather(
        *(one(workload, number, target) for workload in workloads for number, target in enumerate(workload.targets))
    )
    rest = iter(found)
    return {workload.name: tuple(next(rest) for _ in workload.targets) for workload in workloads}


async def _read_twice(
    workload: Workload, target: Target, agents: Sequence[Agent], surroundings: Surroundings
) -> dict[str, Reading]:
    from covey.fleet.signals.registry import make_source

    source = make_source(workload, target, surroundings)
    try:
        await source.read(agents, time.time())
        await asyncio.sleep(_BETWEEN)
        return await source.read(agents, time.time())
    finally:
        await source.close()


def _stale(seen: Seen, now: float) -> list[str]:
    offered = (one for view in seen.views.values() for each in view.offerings.values() for one in each)
    return sorted({offering.key for offering in offered if offering.stale(now)})


def _why(error: CoveyError) -> str:
    return f"{error.message}; {error.next_step}" if error.next_step else error.message


def _said(view: PlanView) -> Sequence[str]:
    lines = [f"cannot be asked: {name}: {why}" for name, why in view.problems.items()]
    if view.stale:
        more = f" and {len(view.stale) - 5} more" if len(view.stale) > 5 else ""
        lines.append(
            f"old prices, which justify no move: {', '.join(view.stale[:5])}{more}; covey fleet prices refresh"
        )
    for decision in view.decisions:
        lines += ["", *_decision(decision)]
    lines.append("")
    change = view.hourly_usd_after - view.hourly_usd_before
    total = f"cost {words.money(view.hourly_usd_before)}/h -> {words.money(view.hourly_usd_after)}/h"
    total += f" ({'+' if change >= 0 else '-'}{words.money(abs(change))})"
    lines.append(total if view.budget is None else f"{total}, budget {words.money(view.budget)}/h")
    return lines[1:] if lines[0] == "" else lines


def _decision(decision: Decision) -> list[str]:
    wanted = decision.wanted
    lines = [f"{decision.workload} ({decision.mode}): wants {words.number(wanted.agents)}, {wanted.reason}"]
    moved = [one for one in decision.candidates if one.count or one.was]
    for one in moved:
        mark = "=" if one.count == one.was else "+" if one.count > one.was else "-"
        lines.append(f"  {mark} {one.offering}: {one.was} -> {one.count} at {words.money(one.price)}/h each")
    lines += [f"  step: {words.step(step)}" for step in decision.steps]
    lines += [f"  held back: {reason}" for reason in decision.held]
    for short in decision.shortfalls:
        nearest = f"; nearest: {short.nearest}" if short.nearest else ""
        lines.append(f"  short of {words.number(short.missing)} by {short.constraint}: {short.reason}{nearest}")
    lines.append(f"  cost {words.money(decision.cost_before)}/h -> {words.money(decision.cost_after)}/h")
    lines += [f"    {name}: {words.money(usd)}/h" for name, usd in decision.cost_otherwise.items()]
    if decision.mode == "observe" and decision.steps:
        lines.append('  nothing of it is done: mode is "observe"')
    return lines
