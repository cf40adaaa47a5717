"""`explain`: the journal in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from covey.base.errors import NotFoundError
from covey.fleet.commands import words
from covey.fleet.commands.context import Context, Result, Verbs, known

if TYPE_CHECKING:
    from covey.fleet.model import Candidate, Decision

__all__ = ["add", "in_words"]

_CANDIDATES: Final = 25
"""Shown; all of them are in the data."""


def add(verbs: Verbs) -> None:
    parser = verbs.add(
        "explain",
        _explain,
        summary="say why a workload runs where it does",
        more="What it wanted and what decided that, every place it could run with its price and why it was not taken,\n"
        "what was done, what was held back, and what it would have cost otherwise.",
    )
    parser.add_argument("workload", metavar="WORKLOAD")
    parser.add_argument("--at", default="", metavar="TIME", help='the decision that held then: "10m" ago, "14:05"')
    parser.add_argument("--last", type=int, default=1, metavar="N", help="so many decisions, newest last (default 1)")


def _explain(context: Context, options: Any) -> Result:
    until = words.moment(options.at, context.now, ahead=False) if options.at else None
    with context.store() as store:
        name = known(options.workload, store.spec().spec.workloads, "workload")
        found = store.decisions(name, until=until, limit=max(1, min(options.last, 1000)))
    if not found:
        raise NotFoundError(
            f"nothing was decided about {name} yet" if until is None else f"no decision about {name} is that old",
            code="no-decision",
            next_step="covey fleet run, or covey fleet plan for what it would decide",
        )
    found.reverse()
    return Result({"items": found}, "\n\n".join(in_words(decision, context.now) for decision in found))


def in_words(decision: Decision, now: float) -> str:
    """One record."""
    wanted = decision.wanted
    lines = [f"{decision.workload} at {words.clock(decision.at, now)}, turn {decision.turn}, mode {decision.mode}"]
    lines.append(f"wants {words.number(wanted.agents)} standard agents, decided by {wanted.binding}: {wanted.reason}")
    if abs(wanted.raw - wanted.agents) > 1e-9:
        lines.append(f"  its targets alone ask for {words.number(wanted.raw)}")
    if wanted.forecast is not None:
        lines.append(f"  forecast: {words.number(wanted.forecast)}")
    if wanted.burst:
        lines.append("  a burst: no limit upward, nothing goes down")
    if wanted.hold_down:
        lines.append("  nothing is removed for lack of demand: a signal or history is missing")
    if decision.inputs:
        told = ", ".join(f"{name} {words.number(value)}" for name, value in decision.inputs.items())
        lines.append(f"  seen: {told}")
    lines.append(f"had {_agents(decision)}")
    if decision.candidates:
        lines.append(_candidates(decision.candidates))
    for short in decision.shortfalls:
        nearest = f"; nearest: {short.nearest}" if short.nearest else ""
        lines.append(f"short of {words.number(short.missing)} by {short.constraint}: {short.reason}{nearest}")
    verb = {"observe": "would do", "recommend": "proposes", "act": "does"}.get(decision.mode, "does")
    lines += [f"{verb}: {words.step(step)}" for step in decision.steps] or [f"{verb} nothing"]
    lines += [f"held back: {reason}" for reason in decision.held]
    lines.append(_cost(decision))
    if decision.route is not None and decision.route.localities:
        shares = ", ".join(f"{pool} {weight / 100:g} %" for pool, weight in decision.route.localities.items())
        lines.append(f"requests go to {shares}" + (f": {decision.route.reason}" if decision.route.reason else ""))
    return "\n".join(lines)


def _agents(decision: Decision) -> str:
    told = []
    for offering, states in decision.agents.items():
        counted = [f"{count} {state}" for state, count in states.items() if count]
        if counted:
            told.append(f"{offering}: {', '.join(counted)}")
    return "; ".join(told) or "no agents"


def _candidates(candidates: tuple[Candidate, ...]) -> str:
    """Those with agents first, then the cheapest."""
    order = sorted(candidates, key=lambda one: (not (one.count or one.was), one.price is None, one.price or 0.0))
    rows = []
    for one in order[:_CANDIDATES]:
        parts = ", ".join(f"{name.replace('_', ' ')} {words.money(usd)}" for name, usd in one.parts.items() if usd != 0)
        rows.append((f"  {one.offering}", str(one.was), str(one.count), words.money(one.price), parts, one.rejected))
    text = words.table(("  could run on", "was", "now", "$/h each", "of it", "why not more"), rows)
    more = len(candidates) - _CANDIDATES
    return text if more <= 0 else f"{text}\n  and {more} more, in --json"


def _cost(decision: Decision) -> str:
    text = f"costs {words.money(decision.cost_before)}/h before, {words.money(decision.cost_after)}/h after"
    for name, usd in decision.cost_otherwise.items():
        more = f" ({(usd / decision.cost_after - 1):+.0%})" if decision.cost_after else ""
        text += f"\n  {name}: {words.money(usd)}/h{more}"
    return text
