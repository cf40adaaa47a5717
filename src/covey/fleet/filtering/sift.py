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
from math import ceil
from typing import Final

from covey.fleet.filtering.brakes import Brakes, Purse, disruptions
from covey.fleet.filtering.moves import AGAIN_AFTER, deals, judge_fail_back, judge_saving, must_leave, right
from covey.fleet.filtering.situation import EPSILON, Situation, agent_name
from covey.fleet.filtering.types import Drain, Move, Moved, Sifted, SiftInput, SiftState
from covey.fleet.health import RETURN_AFTER
from covey.fleet.model import Agent, Cause, Step
from covey.fleet.spec.types import Workload

__all__ = ["sift"]

MOVE_TIMEOUT: Final = 900.0
"""s after which a move that did not get on is forgotten and judged anew: three launch time-outs, or three cold starts
if those are longer."""

MOVE_CAUSES: Final = frozenset({"saving", "fail-back", "demand"})
"""Causes of moves that the move budget counts."""

CAUSES: Final[tuple[Cause, ...]] = (
    "repair", "preemption", "order", "budget", "rollout", "demand", "fail-back", "saving",
)  # fmt: skip
"""A step with several causes is called by the first of these."""


def sift(given: SiftInput, state: SiftState) -> tuple[Sifted, SiftState]:
    """The steps of this turn."""
    sifting = _Sifting(given, state)
    workloads = given.spec.workloads
    order: Iterable[Workload] = workloads.values()
    if len(workloads) > 1:
        order = sorted(order, key=lambda workload: (-workload.priority, workload.name))
    for workload in order:
        sifting.workload(workload)
    return sifting.sifted(), sifting.remembered()


class _Sifting:
    """One sifting: what is shared by its workloads, and what comes out."""

    def __init__(self, given: SiftInput, state: SiftState) -> None:
        self.given = given
        self.state = state
        self.now = given.now
        self.steps: list[Step] = []
        self.held: dict[str, list[str]] = {}
        self.moves: list[Move] = []
        self.moved = state.moved
        if any(given.now - each.at >= AGAIN_AFTER for each in state.moved):
            self.moved = tuple(each for each in state.moved if given.now - each.at < AGAIN_AFTER)
        self.drains: dict[str, Drain] = {}
        self.acting: list[str] = []
        self.old_moves: dict[str, list[Move]] = {}
        for move in state.moves:
            self.old_moves.setdefault(move.workload, []).append(move)
        self._brakes: Brakes | None = None
        self._purse: Purse | None = None
        self._disruptions: dict[tuple[str, str], int] | None = None

    # Shared means are made when first asked for: most turns need none.

    @property
    def brakes(self) -> Brakes:
        if self._brakes is None:
            self._brakes = Brakes(self.given, self.state.removals)
        return self._brakes

    @property
    def purse(self) -> Purse:
        if self._purse is None:
            self._purse = Purse(self.given)
        return self._purse

    @property
    def disruptions(self) -> dict[tuple[str, str], int]:
        if self._disruptions is None:
            self._disruptions = disruptions(self.given)
        return self._disruptions

    def sifted(self) -> Sifted:
        return Sifted(steps=tuple(self.steps), held={name: tuple(reasons) for name, reasons in self.held.items()})

    def remembered(self) -> SiftState:
        state = self.state
        removals = state.removals
        if self._brakes is not None:
            removals = self._brakes.removals(self.acting, self.now)
        elif removals:
            removals = self.brakes.kept
        moves = tuple(self.moves)
        if (
            moves == state.moves
            and self.moved is state.moved
            and self.drains == state.drains
            and removals == state.removals
        ):
            return state
        return SiftState(moves=moves, moved=self.moved, drains=self.drains, removals=removals)

    def workload(self, workload: Workload) -> None:
        name = workload.name
        given = self.given
        standing = given.health.standing(name)
        moves = self.old_moves.get(name)
        if (
            not moves
            and not (standing.draining or standing.leaving or standing.dead)
            and not given.orders.draining_agents
        ):
            wanted = given.placement.counts.get(name)
            if wanted is None or (wanted == standing.running and not given.coming):
                return
        if workload.mode == "act":
            self.acting.append(name)
        paused = given.orders.paused
        one = _OneWorkload(self, Situation(given, workload))
        if name in paused or "*" in paused:
            one.keep_drains()
            self.moves += moves or ()
            self.held.setdefault(name, []).append("paused by order")
            return
        one.tidy()
        if name in given.placement.counts:
            one.follow(moves or [])


class _OneWorkload:
    """The way of one workload from what it is to what it should be."""

    def __init__(self, sifting: _Sifting, situation: Situation) -> None:
        self.shared = sifting
        self.s = situation
        self.given = sifting.given
        self.now = sifting.now
        self.name = situation.name
        self.acts = situation.workload.mode == "act"
        self.reasons: dict[str, dict[Cause, tuple[int, str, float]]] = {}
        """By offering, by cause: how many agents are started there, why, and what that saves."""
        self.gone: dict[tuple[str, str, Cause], tuple[list[str], str]] = {}
        """By (kind, pool, cause): ids and why."""
        self.picked: set[str] = set()
        self.under_way: dict[str, Move] = {}
        """By offering: the move that replaces old agents there."""

    def hold(self, reason: str) -> None:
        reasons = self.shared.held.setdefault(self.name, [])
        if reason not in reasons:
            reasons.append(reason)

    def frozen(self, pool: str) -> bool:
        """By order: nothing is removed or moved there."""
        frozen = self.given.orders.frozen
        return bool(frozen) and ("*" in frozen or self.name in frozen or pool in frozen)

    # Tidying

    def keep_drains(self) -> None:
        """Remember since when each agent has drained."""
        known = self.shared.state.drains
        drains = self.shared.drains
        for agent in self.s.standing.draining:
            name = agent_name(agent)
            drains[name] = known.get(name) or Drain(workload=self.name, since=self.now, cause="order")
        for name in self.s.going:
            if name in known:
                drains.setdefault(name, known[name])

    def tidy(self) -> None:
        s = self.s
        self.keep_drains()
        closed = self.given.health.frozen
        for agent in s.standing.draining:
            name = agent_name(agent)
            if agent.pool in closed or name in s.going:
                continue
            drain = self.shared.drains[name]
            over = self.now - drain.since >= s.workload.grace
            if agent.busy is not False and not over:
                continue
            if self.frozen(agent.pool):
                self.hold(f"{agent.pool} is frozen by order: what was drained there stays")
                continue
            self.order("remove", agent, drain.cause, "its grace is over" if over else "drained and idle")
        for agent in s.standing.leaving:
            if agent.pool not in closed and agent_name(agent) not in s.going:
                self.order("drain", agent, "preemption", "its provider takes it away")
        # A pool of which most are silent is not tidied while its control is lost, which `closed` tells as well.
        for agent in s.standing.dead:
            health = self.given.health.pools.get(agent.pool)
            if health is None or not health.control or agent_name(agent) in s.going or self.frozen(agent.pool):
                continue
            self.order("remove", agent, "repair", "dead: silent for too long, or never ready")
        self.emit()

    # Following the placement

    def follow(self, moves: list[Move]) -> None:
        s = self.s
        self.replace_ordered()
        ups, downs = s.ups(), s.downs()
        self.finish(moves, ups, downs)
        self.balance(ups, downs)
        if ups and downs:
            self.exchange(ups, downs)
        for key, count in ups.items():
            self.start_missing(key, count)
        for key, count in downs.items():
            self.scale_in(key, count)
        self.emit()

    def replace_ordered(self) -> None:
        """`covey fleet drain AGENT`: its replacement first, which the placement asks for since it is not counted."""
        for agent in self.s.orders:
            if self.frozen(agent.pool) or agent.pool in self.given.health.frozen:
                self.hold(f"{agent.pool} is frozen: {agent.id} is not drained")
                continue
            why = self.s.may_remove(agent, least=self.s.workload.replicas.min)
            if why:
                self.hold(f"drain of {agent.pool}/{agent.id} waits: {why}")
            else:
                self.take(agent, "order", "drained by order")

    def finish(self, moves: list[Move], ups: dict[str, int], downs: dict[str, int]) -> None:
        """Old agents of moves under way go when what replaces them is ready. A move that the placement no longer wants
        is over."""
        patience = max(MOVE_TIMEOUT, 3 * self.s.workload.cold_start)
        for move in moves:
            left = min(move.count, downs.get(move.source, 0))
            if left <= 0 or not self.s.target.get(move.target) or self.now - move.at > patience:
                continue
            downs[move.source] -= left
            self.under_way[move.target] = move
            done = self.retire(move.source, left, move.cause, move.reason)
            if done and move.cause == "saving" and self.acts:
                self.shared.moved = (
                    *self.shared.moved,
                    Moved(workload=self.name, target=move.target, count=min(done, move.starts), at=self.now),
                )
            if left > done and self.acts:
                self.shared.moves.append(
                    Move(
                        workload=self.name,
                        source=move.source,
                        target=move.target,
                        count=left - done,
                        starts=move.starts,
                        cause=move.cause,
                        at=move.at,
                        reason=move.reason,
                        saving=move.saving,
                    )
                )
        _prune(ups, downs)

    def balance(self, ups: dict[str, int], downs: dict[str, int]) -> None:
        """Start what is missing and take away what is too much; what stays in both is exchanges."""
        s = self.s
        missing = sum(s.speed(key) * n for key, n in ups.items()) - sum(s.speed(key) * n for key, n in downs.items())
        least = min(s.workload.replicas.min, s.target_agents)
        if ups and downs:
            for key in sorted(ups, key=s.is_spot):
                count = min(ups[key], max(ceil(missing / s.speed(key) - EPSILON), least - s.count, 0))
                if count <= 0 or s.count + count > s.workload.replicas.max:
                    continue
                self.start_missing(key, count)
                missing -= count * s.speed(key)
                ups[key] -= count
            surplus = -missing
            for key in sorted(downs, key=lambda key: (not must_leave(s, key), not s.is_spot(key))):
                count = min(downs[key], int(surplus / s.speed(key) + EPSILON))
                if count > 0:
                    self.scale_in(key, count)
                    surplus -= count * s.speed(key)
                    downs[key] -= count
            _prune(ups, downs)

    def exchange(self, ups: dict[str, int], downs: dict[str, int]) -> None:
        """Moves, each judged by its right."""
        s = self.s
        prices = self.prices()
        whole = max(1, int(self.given.spec.controller.move_share * s.count + EPSILON))
        budget = whole - self.moving()
        wanted = self.given.wanted.get(self.name)
        burst = wanted is not None and wanted.burst
        found: dict[tuple[str, str, Cause], Move] = {}
        for deal in deals(s, ups, downs, prices):
            cause, reason = right(s, deal)
            saving, why = 0.0, ""
            source, target = s.pool(deal.source), s.pool(deal.target)
            if self.frozen(source) or self.frozen(target):
                why = "frozen by order"
            elif cause == "fail-back":
                why = judge_fail_back(s, deal)
            elif cause == "saving":
                saving, why = judge_saving(s, deal, prices, self.shared.purse, self.shared.moved)
                reason = f"saves {saving:.4g} USD/h"
            if not why and cause in MOVE_CAUSES:
                if burst:
                    why = "a burst is on"
                elif deal.old > max(budget, 0) and not (budget == whole and deal.old > whole):
                    why = f"{self.moving_now(found)} of {whole} moves are in flight"
            if why:
                self.hold(f"move {deal.source} -> {deal.target} ({cause}): {why}")
                continue
            surge = whole if cause in MOVE_CAUSES else None
            started = self.start(deal.target, deal.new, cause, reason, old_remains=True, surge=surge, saving=saving)
            if not started:
                continue
            if cause in MOVE_CAUSES:
                budget -= deal.old
            slot = (deal.source, deal.target, cause)
            before = found.get(slot)
            found[slot] = Move(
                workload=self.name,
                source=deal.source,
                target=deal.target,
                count=deal.old + (before.count if before else 0),
                starts=started + (before.starts if before else 0),
                cause=cause,
                at=self.now,
                reason=reason,
                saving=saving + (before.saving if before else 0.0),
            )
        if self.acts:
            self.shared.moves += found.values()

    def moving(self) -> int:
        """Agents whose move is in flight: their old ones are not gone yet."""
        under_way = sum(
            move.count for move in self.shared.moves if move.workload == self.name and move.cause in MOVE_CAUSES
        )
        return under_way + sum(
            1
            for drain in self.shared.drains.values()
            if drain.workload == self.name and drain.cause in ("saving", "fail-back")
        )

    def moving_now(self, found: dict[tuple[str, str, Cause], Move]) -> int:
        return self.moving() + sum(move.count for move in found.values() if move.cause in MOVE_CAUSES)

    def prices(self) -> dict[str, float | None]:
        """By offering: all of what one agent costs there, as the solver saw it."""
        prices: dict[str, float | None] = {
            key: None if each.price is None else each.price + (each.egress or 0.0)
            for key, each in self.s.offerings.items()
        }
        for candidate in self.given.placement.candidates.get(self.name, ()):
            prices[candidate.offering] = candidate.price
        return prices

    # Starting

    def start_cause(self) -> tuple[Cause, str]:
        s = self.s
        count = s.count
        least = s.workload.replicas.min
        if count < least:
            return "repair", f"{count} of at least {least} run"
        if s.survive_broken():
            return "repair", "survive does not hold"
        if s.standing.leaving:
            return "preemption", f"{len(s.standing.leaving)} are taken away"
        if s.standing.suspect or s.standing.dead:
            return "repair", f"{len(s.standing.suspect) + len(s.standing.dead)} are silent"
        if self.name in self.given.orders.pins:
            return "order", f"pinned to {self.given.orders.pins[self.name].agents}"
        if s.orders:
            return "order", f"{len(s.orders)} are drained by order"
        wanted = self.given.wanted.get(self.name)
        return "demand", wanted.reason if wanted is not None else f"{s.target_agents} are wanted and {count} run"

    def start_missing(self, key: str, count: int) -> None:
        """More agents there, nothing goes instead; or those of a move again that did not come."""
        move = self.under_way.get(key)
        if move is not None:
            again = min(count, move.starts)
            self.start(key, again, move.cause, move.reason, old_remains=True, surge=move.starts, saving=move.saving)
            count -= again
        if count:
            cause, why = self.start_cause()
            self.start(key, count, cause, why, old_remains=cause == "repair")

    def start(
        self,
        key: str,
        count: int,
        cause: Cause,
        why: str,
        *,
        old_remains: bool,
        surge: int | None = 0,
        saving: float = 0.0,
    ) -> int:
        """Start up to `count` agents there; how many were let through."""
        s = self.s
        least = s.workload.replicas.min
        budget = self.given.spec.budget is not None
        for done in range(count):
            held = s.may_add(key, surge=surge)
            # What `min` asks for is above the budget.
            if not held and budget and s.count + sum(s.added.values()) >= least:
                held = self.shared.purse.may_add(self.name, key, old_remains=old_remains)
            if held:
                self.hold(f"{count - done} more at {key}: {held}")
                count = done
                break
            s.add(key)
            if budget:
                self.shared.purse.add(self.name, key)
        if count:
            causes = self.reasons.setdefault(key, {})
            before, first, saved = causes.get(cause, (0, why, 0.0))
            causes[cause] = (before + count, first, saved + saving)
        return count

    # Taking away

    def scale_in(self, key: str, count: int) -> None:
        """Fewer agents there, nothing instead."""
        s = self.s
        pins = self.given.orders.pins
        left = must_leave(s, key)
        if left:
            by_order = s.pool(key) in self.given.orders.draining_pools
            if by_order:
                self.retire(key, count, "order", left, least=s.workload.replicas.min)
            else:
                # A jurisdiction is above `min`: what may not be there waits only for what really comes.
                self.retire(key, count, "repair", left, least=None if s.coming() else 0, capacity=s.coming())
            return
        if self.name in pins:
            self.retire(key, count, "order", f"pinned to {pins[self.name].agents}")
            return
        if any(fall.workload == self.name and fall.constraint == "budget" for fall in self.given.placement.shortfalls):
            self.retire(key, count, "budget", "over the budget", idle_only=True)
            return
        beyond = min(count, s.count - sum(s.removed.values()) - s.workload.replicas.max)
        if beyond > 0:
            # Somebody lowered `max`, or took the workload out of the spec: no metric said so.
            count -= beyond
            self.retire(key, beyond, "order", f"max is {s.workload.replicas.max}")
        if not count:
            return
        wanted = self.given.wanted.get(self.name)
        why = wanted.reason if wanted is not None else f"{s.target_agents} are enough"
        if wanted is not None and (wanted.hold_down or wanted.burst):
            self.hold(
                f"{count} fewer at {key}: {'a burst is on' if wanted.burst else 'a signal or its past is missing'}"
            )
            return
        returned = self.returned()
        if returned:
            self.hold(f"{count} fewer at {key}: {returned}")
            return
        allowed = self.shared.brakes.left(self.name)
        if allowed < count:
            self.hold(f"{count - allowed} fewer at {key}: the brakes, so many went in the last 5 min")
        done = self.retire(key, min(count, allowed), "demand", why)
        if done:
            self.shared.brakes.take(self.name, done)

    def returned(self) -> str:
        """Why what a failure left over is not trimmed yet, or ""."""
        for pool, health in self.given.health.pools.items():
            since = health.returned_at
            if since is None or self.now - since >= RETURN_AFTER:
                continue
            if any(agent.pool == pool for agent in self.s.agents):
                return f"{pool} came back {self.now - since:.0f} s ago, {RETURN_AFTER:.0f} are waited"
        return ""

    def retire(
        self,
        key: str,
        count: int,
        cause: Cause,
        why: str,
        *,
        idle_only: bool = False,
        capacity: bool = True,
        least: int | None = None,
    ) -> int:
        """Tell up to `count` agents there to go, those first that lose nothing; how many were told."""
        if count <= 0:
            return 0
        s = self.s
        pool = s.pool(key)
        if self.frozen(pool) or pool in self.given.health.frozen:
            self.hold(f"{count} fewer at {key}: {pool} is frozen")
            return 0
        ordered = self.given.orders.draining_agents
        there = [
            agent
            for agent in s.agents
            if agent.offering == key
            and agent_name(agent) not in self.picked
            and not (ordered and agent_name(agent) in ordered)
            and (not idle_only or agent.busy is False or agent.state == "starting")
        ]
        there.sort(key=_loses_least)
        done = 0
        for agent in there:
            if done == count:
                break
            held = s.may_remove(agent, capacity=capacity, least=least) or self.disrupts(agent)
            if held:
                self.hold(f"{count - done} fewer at {key}: {held}")
                break
            self.take(agent, cause, why)
            done += 1
        if idle_only and done < count and done == len(there):
            self.hold(f"{count - done} fewer at {key}: the rest is busy")
        return done

    def disrupts(self, agent: Agent) -> str:
        if not self.given.removable or agent.state != "ready":
            return ""
        left = self.shared.disruptions.get((agent.pool, self.name))
        if left is not None and left < 1:
            return f"the disruption budget of {agent.pool} allows no more now"
        return ""

    def take(self, agent: Agent, cause: Cause, why: str) -> None:
        """This agent goes: told to drain first, unless it never had work."""
        slot = (agent.pool, self.name)
        if agent.state == "ready" and self.given.removable and slot in self.shared.disruptions:
            self.shared.disruptions[slot] -= 1
        self.s.remove(agent)
        self.picked.add(agent_name(agent))
        self.order("remove" if agent.state == "starting" else "drain", agent, cause, why)

    # Steps

    def order(self, kind: str, agent: Agent, cause: Cause, why: str) -> None:
        ids, _ = self.gone.setdefault((kind, agent.pool, cause), ([], why))
        ids.append(agent.id)
        self.s.going.add(agent_name(agent))
        if kind == "drain" and self.acts:
            name = agent_name(agent)
            self.shared.drains.setdefault(name, Drain(workload=self.name, since=self.now, cause=cause))

    def emit(self) -> None:
        """Starts first, so that who carries out one after the other never has less than before."""
        s = self.s
        for key in s.added:
            causes = self.reasons[key]
            self.shared.steps.append(
                Step(
                    kind="scale",
                    workload=self.name,
                    pool=s.pool(key),
                    offering=key,
                    size=s.size(key),
                    cause=min(causes, key=CAUSES.index),
                    reason="; ".join(f"{count} more: {why}" for count, why, _ in causes.values()),
                    saving=sum(saving for _, _, saving in causes.values()),
                )
            )
        for (kind, pool, cause), (ids, why) in self.gone.items():
            self.shared.steps.append(
                Step(
                    kind="drain" if kind == "drain" else "remove",
                    workload=self.name,
                    pool=pool,
                    ids=tuple(ids),
                    grace=s.workload.grace,
                    cause=cause,
                    reason=why,
                )
            )
        self.gone = {}


def _prune(*counts: dict[str, int]) -> None:
    for each in counts:
        for key in [key for key, count in each.items() if count <= 0]:
            del each[key]


def _loses_least(agent: Agent) -> tuple[int, int, float, str]:
    """What never worked, then what does not answer, then the idle, then the least busy; the youngest first."""
    if agent.state == "starting":
        rank = 0
    elif agent.state == "unready":
        rank = 1
    else:
        rank = 2 if agent.busy is False else 3
    return rank, agent.in_flight, -agent.started_at, agent.id
