"""`pause`, `freeze`, `pin`, `drain`, `approve`, and `resume`, which ends them: what people say to the controller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from covey.base.errors import NotFoundError, StateError, UsageError
from covey.fleet.commands import words
from covey.fleet.commands.context import Context, Parser, Result, Verbs, known

if TYPE_CHECKING:
    from covey.fleet.loop.store import OrderKind, Store
    from covey.fleet.spec.types import Spec

__all__ = ["add"]

_APPROVAL: Final = 600.0
"""Seconds that an approval holds: a plan made on facts of yesterday is not what was agreed to."""

_STEPS_SHOWN: Final = 50


def add(verbs: Verbs) -> None:
    pause = verbs.add("pause", _pause, summary="no step at all for a workload, or for any", more="Routing goes on.")
    _subject(pause, "WORKLOAD")
    _until(pause)

    freeze = verbs.add(
        "freeze",
        _freeze,
        summary="remove and move nothing of a workload or pool, or anywhere",
        more="Scale-out goes on.",
    )
    _subject(freeze, "WORKLOAD|POOL")
    _until(freeze)

    pin = verbs.add("pin", _pin, summary="run exactly so many agents of a workload for a while")
    pin.add_argument("what", metavar="WORKLOAD=N")
    pin.add_argument("--until", metavar="TIME", required=True, help='"30m", "18:00", "2026-11-20 18:00"')

    drain = verbs.add(
        "drain",
        _drain,
        summary="empty a pool, or replace one agent and end it",
        more="The new starts before the old stops, within budget; busy agents have their grace.",
    )
    drain.add_argument("what", metavar="POOL|POOL/AGENT")
    _until(drain)

    resume = verbs.add("resume", _resume, summary="end pause, freeze, pin and drain")
    _subject(resume, "NAME")
    resume.add_argument("--only", choices=("pause", "freeze", "pin", "drain"), help="one of them")

    approve = verbs.add("approve", _approve, summary="agree to the steps that a workload in mode recommend waits with")
    approve.add_argument("workload", metavar="WORKLOAD")
    approve.add_argument("--turn", type=int, metavar="N", help="only if they are still those of turn N")


def _subject(parser: Parser, metavar: str) -> None:
    parser.add_argument("name", nargs="?", default="", metavar=metavar)
    parser.add_argument("--all", action="store_true", help="the whole fleet")


def _until(parser: Parser) -> None:
    parser.add_argument("--until", default="", metavar="TIME", help='"30m", "18:00", "2026-11-20 18:00"; else for good')


def _name(options: Any) -> str:
    if bool(options.name) == options.all:
        raise UsageError("name one, or say --all", next_step=f"covey fleet {options.verb} --help")
    return "*" if options.all else str(options.name)


def _pause(context: Context, options: Any) -> Result:
    name = _name(options)
    with context.store() as store:
        if name != "*":
            known(name, store.spec().spec.workloads, "workload")
        return _order(context, store, "pause", name, options.until)


def _freeze(context: Context, options: Any) -> Result:
    name = _name(options)
    with context.store() as store:
        spec = store.spec().spec
        if name != "*":
            known(name, [*spec.workloads, *spec.pools], "workload or pool")
        return _order(context, store, "freeze", name, options.until)


def _pin(context: Context, options: Any) -> Result:
    name, _, count = options.what.partition("=")
    if not count.isdecimal() or len(count) > 6:
        raise UsageError(f"{options.what!r} is not WORKLOAD=N", next_step="covey fleet pin fraud=12 --until 2h")
    with context.store() as store:
        workload = store.spec().spec.workloads[known(name, store.spec().spec.workloads, "workload")]
        if int(count) > workload.replicas.max:
            raise UsageError(
                f"{name} may have {workload.replicas.max} agents at most", next_step="raise replicas.max, then apply"
            )
        return _order(context, store, "pin", name, options.until, int(count))


def _drain(context: Context, options: Any) -> Result:
    from covey.fleet.loop import memory

    pool, _, agent = options.what.partition("/")
    with context.store() as store:
        spec = store.spec().spec
        known(pool, spec.pools, "pool")
        if agent:
            seen = memory.decode_views(store.state(), context.now).get(pool)
            if seen is not None:
                known(agent, [each.id for each in seen.agents], "agent")
            return _order(context, store, "drain-agent", options.what, options.until)
        _left(spec, pool)
        return _order(context, store, "drain-pool", pool, options.until)


def _left(spec: Spec, pool: str) -> None:
    """A workload that has no other pool cannot be moved: said before, not found out later."""
    from covey.fleet.spec.checks import allowed

    alone = [name for name, each in spec.workloads.items() if [p.name for p in allowed(each, spec)] == [pool]]
    if alone and any(spec.workloads[name].replicas.min for name in alone):
        raise StateError(
            f"{', '.join(alone)} may run nowhere but in {pool}, and would stay there",
            code="nowhere-else",
            next_step="add a pool to place.pools and apply, or pin it to 0 first",
        )


def _order(context: Context, store: Store, kind: OrderKind, subject: str, until: str, value: object = None) -> Result:
    end = words.moment(until, context.now, ahead=True) if until else None
    if end is not None and end <= context.now:
        raise UsageError(f"{until} has passed")
    number = store.add_order(kind, subject, at=context.now, value=value, until=end)
    what = "everything" if subject == "*" else subject
    said = {
        "pause": f"{what} gets no steps",
        "freeze": f"nothing of {what} is removed or moved",
        "pin": f"{what} is held at {value}",
        "drain-pool": f"{what} is being emptied",
        "drain-agent": f"{what} is being replaced",
    }[kind]
    lasts = f" until {words.clock(end, context.now)}" if end is not None else f"; covey fleet resume {what} ends it"
    if subject == "*" and end is None:
        lasts = "; covey fleet resume --all ends it"
    woken = context.woken()
    return Result(
        {"order": number, "kind": kind, "subject": subject, "until": end, "controller": not woken},
        "\n".join(line for line in (said + lasts, woken) if line),
    )


_KINDS: Final[dict[str, tuple[OrderKind, ...]]] = {
    "pause": ("pause",),
    "freeze": ("freeze",),
    "pin": ("pin",),
    "drain": ("drain-pool", "drain-agent"),
}


def _resume(context: Context, options: Any) -> Result:
    name = _name(options)
    kinds = _KINDS[options.only] if options.only else tuple(kind for each in _KINDS.values() for kind in each)
    ended: list[dict[str, str]] = []
    with context.store() as store:
        for order in store.orders(context.now):
            if order.kind in kinds and (options.all or order.subject == name):
                store.end_order(order.kind, order.subject, at=context.now)
                ended.append({"kind": order.kind, "subject": order.subject})
    if not ended:
        raise NotFoundError(
            "no order holds" if options.all else f"no order holds for {name}",
            code="no-order",
            next_step="covey fleet status",
        )
    lines = [f"ended: {each['kind']} {each['subject'].replace('*', 'of everything')}" for each in ended]
    return Result({"ended": ended}, "\n".join(line for line in (*lines, context.woken()) if line))


def _approve(context: Context, options: Any) -> Result:
    with context.store() as store:
        workload = store.spec().spec.workloads[known(options.workload, store.spec().spec.workloads, "workload")]
        if workload.mode != "recommend":
            raise StateError(
                f"{workload.name} is in mode {workload.mode}, which asks nobody",
                next_step='set mode = "recommend" and apply' if workload.mode == "observe" else "",
            )
        newest = store.decisions(workload.name, limit=1)
        if not newest or not newest[0].steps:
            raise StateError(
                f"{workload.name} waits for nothing",
                code="nothing-to-approve",
                next_step=f"covey fleet explain {workload.name}",
            )
        decision = newest[0]
        if options.turn is not None and options.turn != decision.turn:
            raise StateError(
                f"the plan changed: it is of turn {decision.turn} now",
                code="plan-changed",
                next_step=f"covey fleet explain {workload.name}, then approve --turn {decision.turn}",
            )
        store.add_order("approve", workload.name, at=context.now, value=decision.steps, until=context.now + _APPROVAL)
    lines = [f"approved: {words.step(step)}" for step in decision.steps[:_STEPS_SHOWN]]
    data = {"workload": workload.name, "turn": decision.turn, "steps": msgspec.to_builtins(decision.steps)}
    return Result(data, "\n".join(line for line in (*lines, context.woken()) if line))
