"""`status` and `history`: what runs, and what was done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from covey.fleet.commands import words
from covey.fleet.commands.context import Context, Result, Verbs, known

if TYPE_CHECKING:
    from covey.fleet.loop.store import Intent, Order, Store
    from covey.fleet.model import Block, Decision, Shortfall
    from covey.fleet.spec.types import Workload

__all__ = ["Entry", "FleetView", "WorkloadView", "add"]

_OLD_TICKS: Final = 4.0
_RECORDED: Final = 60.0
"""A decision is recorded each minute at least; older than this and so many ticks it is said to be old."""


class WorkloadView(msgspec.Struct, frozen=True, kw_only=True):
    """One workload in `status`."""

    name: str
    mode: str
    decided_at: float | None
    wanted: float | None
    binding: str
    states: dict[str, int]
    """Agents by state."""
    pools: dict[str, int]
    """Agents by pool."""
    hourly_usd: float | None
    shortfalls: tuple[Shortfall, ...] = ()
    proposed: int = 0
    """Steps that wait for approval, or for a mode that allows them."""
    least: int = 0
    """`replicas.min`."""


class FleetView(msgspec.Struct, frozen=True, kw_only=True):
    """What `status` prints as data."""

    home: str
    controller: bool
    """One runs on this machine."""
    leader: str
    leads_since: float | None
    spec_version: int
    workloads: list[WorkloadView]
    hourly_usd: float
    orders: list[Order]
    in_flight: list[Intent]
    blocks: list[Block]
    problems: dict[str, str]
    """By pool or `WORKLOAD/TARGET`: what is wrong, at the last turn."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `history`."""

    at: float
    kind: str
    """`spec`, `order`, or a step's kind."""
    workload: str
    text: str
    outcome: str = ""


def add(verbs: Verbs) -> None:
    status = verbs.add("status", _status, summary="show what runs, what it costs and what is in the way")
    status.add_argument("workload", nargs="?", default="", metavar="WORKLOAD")

    history = verbs.add("history", _history, summary="show what was applied, ordered and done, oldest first")
    history.add_argument("workload", nargs="?", default="", metavar="WORKLOAD")
    history.add_argument("--since", default="1d", metavar="TIME", help='"2h", "14:05", "2026-11-20 14:05" (default 1d)')
    history.add_argument("--limit", type=int, default=200, metavar="N", help="the newest N (default 200)")


def _status(context: Context, options: Any) -> Result:
    from covey.fleet.loop import memory

    alive = context.nudge()
    with context.store() as store:
        newest = store.spec()
        names = (
            [known(options.workload, newest.spec.workloads, "workload")] if options.workload else newest.spec.workloads
        )
        workloads = [_workload(store, newest.spec.workloads[name]) for name in names]
        pieces = store.state()
        leader = store.leader()
        view = FleetView(
            home=str(context.home.path),
            controller=alive,
            leader=leader[1] if leader else "",
            leads_since=leader[2] if leader else None,
            spec_version=newest.version,
            workloads=workloads,
            hourly_usd=sum(each.hourly_usd or 0.0 for each in workloads),
            orders=store.orders(context.now),
            in_flight=store.intents(),
            problems=memory.decode_problems(pieces),
            blocks=[block for block in memory.decode(pieces).blocks if block.until > context.now],
        )
        old = newest.spec.controller.tick * _OLD_TICKS + _RECORDED
    applied = f"spec version {newest.version} ({newest.name}, {words.ago(newest.at, context.now)})"
    return Result(view, "\n".join(_said(view, applied, context.now, old)))


def _workload(store: Store, workload: Workload) -> WorkloadView:
    name, least = workload.name, workload.replicas.min
    found = store.decisions(name, limit=1)
    if not found:
        return WorkloadView(
            name=name,
            mode=workload.mode,
            decided_at=None,
            wanted=None,
            binding="",
            states={},
            pools={},
            hourly_usd=None,
            least=least,
        )
    newest: Decision = found[0]
    states: dict[str, int] = {}
    pools: dict[str, int] = {}
    for offering, by_state in newest.agents.items():
        pool = offering.partition("/")[0]
        for state, count in by_state.items():
            states[state] = states.get(state, 0) + count
            pools[pool] = pools.get(pool, 0) + count
    return WorkloadView(
        name=name,
        mode=newest.mode,
        decided_at=newest.at,
        wanted=newest.wanted.agents,
        binding=newest.wanted.binding,
        states=states,
        pools=pools,
        hourly_usd=newest.cost_before,
        shortfalls=newest.shortfalls,
        proposed=0 if newest.mode == "act" else len(newest.steps),
        least=least,
    )


def _said(view: FleetView, applied: str, now: float, old: float) -> Iterable[str]:
    yield f"fleet in {view.home}, {applied}, {words.money(view.hourly_usd)}/h"
    if view.controller:
        since = f", leads since {words.clock(view.leads_since, now)}" if view.leads_since is not None else ""
        yield f"controller {view.leader or 'runs'}{since}"
    else:
        yield "no controller runs here: covey fleet run"
    yield ""
    rows = []
    for each in view.workloads:
        if each.decided_at is None:
            rows.append((each.name, each.mode, "", "", "", "", "nothing decided yet"))
            continue
        states = ", ".join(f"{count} {state}" for state, count in each.states.items() if count) or "none"
        pools = ", ".join(f"{pool} {count}" for pool, count in each.pools.items() if count)
        note = each.binding if now - each.decided_at <= old else f"as of {words.ago(each.decided_at, now)}"
        rows.append((each.name, each.mode, _wanted(each), states, pools, words.money(each.hourly_usd), note))
    yield words.table(("WORKLOAD", "MODE", "WANTS", "AGENTS", "WHERE", "$/H", "BECAUSE"), rows)
    for each in view.workloads:
        for short in each.shortfalls:
            yield f"short: {each.name} by {words.number(short.missing)}, {short.constraint}: {short.reason}"
        if each.mode == "observe":
            yield f'only observed: {each.name}, nothing is done; covey fleet plan shows what mode = "act" would do'
        elif each.proposed:
            yield f"waits: {each.name} has {each.proposed} steps to approve: covey fleet approve {each.name}"
    for name, problem in view.problems.items():
        yield f"problem: {name}: {problem}"
    for order in view.orders:
        until = f" until {words.clock(order.until, now)}" if order.until is not None else ""
        value = f"={order.value}" if order.kind == "pin" else ""
        yield f"order: {order.kind} {order.subject}{value}{until}"
    for intent in view.in_flight:
        yield f"in flight: {words.step(intent.step)}, {intent.status} {words.ago(intent.changed_at, now)}"
    for block in view.blocks:
        yield f"blocked: {block.scope} {block.shape} until {words.clock(block.until, now)}: {block.reason}"


def _wanted(workload: WorkloadView) -> str:
    """What demand asks for; `min` counts agents and holds besides."""
    asked = words.number(workload.wanted)
    return f"{asked}, min {workload.least}" if (workload.wanted or 0.0) < workload.least else asked


def _history(context: Context, options: Any) -> Result:
    since = words.moment(options.since, context.now, ahead=False)
    limit = max(1, min(options.limit, 10_000))
    with context.store() as store:
        if options.workload:
            known(options.workload, store.spec().spec.workloads, "workload")
        entries = _entries(store, since, limit)
    if options.workload:
        entries = [each for each in entries if each.workload in ("", options.workload)]
    entries = sorted(entries, key=lambda each: each.at)[-limit:]
    rows = [(words.clock(each.at, context.now), each.kind, each.text, each.outcome) for each in entries]
    return Result(
        {"items": entries}, words.table(("WHEN", "WHAT", "", "OUTCOME"), rows) if rows else "nothing happened"
    )


def _entries(store: Store, since: float, limit: int) -> list[Entry]:
    found = []
    for each in store.specs(limit):
        if each.at >= since:
            note = f": {each.note}" if each.note else ""
            found.append(
                Entry(at=each.at, kind="spec", workload="", text=f"version {each.version} of {each.name}{note}")
            )
    found += [
        Entry(
            at=order.at,
            kind="order",
            workload=order.subject if "pool" not in order.kind and order.subject != "*" else "",
            text=f"{order.kind} {order.subject}",
            outcome="ended" if order.ended_at is not None else "",
        )
        for order in store.order_history(since=since, limit=limit)
    ]
    for intent in store.intent_history(since=since, limit=limit):
        outcome = intent.outcome if intent.status == "settled" else intent.status
        found.append(
            Entry(
                at=intent.at,
                kind=intent.step.kind,
                workload=intent.step.workload,
                text=words.step(intent.step),
                outcome=f"{outcome}: {intent.detail}" if intent.detail else outcome,
            )
        )
    return found
