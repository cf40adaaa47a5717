"""From what the placement wants to the steps that are worth it and safe now.

::

    for each workload, the highest priority first:
      tidy     what is dead, what was drained and is done, what its provider takes away
      finish   moves whose new agents are ready: the old ones go
      balance  too little: start; too much: take away; the rest of the difference is moves
      judge    each move by its right (`moves`), the move budget, the money for running both

A **start** never waits for a removal, and a removal never counts on a start that is not ready. What is held is said
with its reason. A workload that is as the placement wants it costs one comparison.
"""

from __future__ import annotations

from collections.abc import Iterable

from covey.fleet.filtering.follow import Following
from covey.fleet.filtering.shared import Shared
from covey.fleet.filtering.situation import Situation, agent_name
from covey.fleet.filtering.types import Drain, Sifted, SiftInput, SiftState
from covey.fleet.spec.types import Workload

__all__ = ["sift"]


def sift(given: SiftInput, state: SiftState) -> tuple[Sifted, SiftState]:
    """The steps of this turn."""
    shared = Shared(given, state)
    workloads = given.spec.workloads
    order: Iterable[Workload] = workloads.values()
    if len(workloads) > 1:
        order = sorted(order, key=lambda workload: (-workload.priority, workload.name))
    for workload in order:
        _workload(shared, workload)
    return shared.sifted(), shared.remembered()


def _workload(shared: Shared, workload: Workload) -> None:
    """One workload; as the placement wants it and with nothing to tidy it costs one comparison."""
    name = workload.name
    given = shared.given
    standing = given.health.standing(name)
    moves = shared.old_moves.get(name)
    if not moves and not (standing.draining or standing.leaving or standing.dead) and not given.orders.replacing:
        wanted = given.placement.counts.get(name)
        if wanted is None or (wanted == standing.running and not given.coming):
            return
    if workload.mode == "act":
        shared.acting.append(name)
    paused = given.orders.paused
    one = Following(shared, Situation(given, workload))
    if name in paused or "*" in paused:
        _keep_drains(one)
        shared.moves += moves or ()
        shared.held.setdefault(name, []).append("paused by order")
        return
    _tidy(one)
    if name in given.placement.counts:
        one.follow(moves or [])


def _keep_drains(one: Following) -> None:
    """Remember since when each agent has drained."""
    known = one.shared.state.drains
    drains = one.shared.drains
    for agent in one.s.standing.draining:
        name = agent_name(agent)
        drains[name] = known.get(name) or Drain(workload=one.name, since=one.now, cause="order")
    for name in one.s.going:
        if name in known:
            drains.setdefault(name, known[name])


def _tidy(one: Following) -> None:
    """What is dead, what has drained, what its provider takes away."""
    s = one.s
    _keep_drains(one)
    closed = one.given.health.frozen
    for agent in s.standing.draining:
        name = agent_name(agent)
        if agent.pool in closed or name in s.going:
            continue
        drain = one.shared.drains[name]
        over = one.now - drain.since >= s.workload.grace
        if agent.busy is not False and not over:
            continue
        if one.frozen(agent.pool):
            one.hold(f"{agent.pool} is frozen by order: what was drained there stays")
            continue
        one.order("remove", agent, drain.cause, "its grace is over" if over else "drained and idle")
    for agent in s.standing.leaving:
        if agent.pool not in closed and agent_name(agent) not in s.going:
            one.order("drain", agent, "preemption", "its provider takes it away")
    # A pool of which most are silent is not tidied while its control is lost, which `closed` tells as well.
    for agent in s.standing.dead:
        health = one.given.health.pools.get(agent.pool)
        if health is None or not health.control or agent_name(agent) in s.going or one.frozen(agent.pool):
            continue
        one.order("remove", agent, "repair", "dead: silent for too long, or never ready")
    one.emit()
