"""The way of one workload from what it is to what the placement wants."""

from __future__ import annotations

from math import ceil
from typing import Final

from covey.fleet.filtering.moves import deals, judge_fail_back, judge_saving, must_leave, right
from covey.fleet.filtering.situation import EPSILON, agent_name
from covey.fleet.filtering.steps import Steps
from covey.fleet.filtering.types import Move, Moved
from covey.fleet.health import RETURN_AFTER
from covey.fleet.model import Cause

__all__ = ["Following"]

MOVE_TIMEOUT: Final = 900.0
"""s after which a move that did not get on is forgotten and judged anew: three launch time-outs, or three cold starts
if those are longer."""

MOVE_CAUSES: Final = frozenset({"saving", "fail-back", "demand"})
"""Causes of moves that the move budget counts."""


class Following(Steps):
    """Finish moves, balance what is missing and too much, exchange the rest."""

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
        """`covey fleet drain AGENT`, and an old version: its replacement first, which the placement asks for since it
        is not counted."""
        ordered = self.given.orders.draining_agents
        for agent in self.s.orders:
            by_order = agent_name(agent) in ordered
            if self.frozen(agent.pool) or agent.pool in self.given.health.frozen:
                self.hold(f"{agent.pool} is frozen: {agent.id} is not drained")
                continue
            why = self.s.may_remove(agent, least=self.s.workload.replicas.min)
            if why:
                self.hold(f"drain of {agent.pool}/{agent.id} waits: {why}")
            elif by_order:
                self.take(agent, "order", "drained by order")
            else:
                self.take(agent, "rollout", f"version {agent.version[:12]} gives way to {self.s.workload.version[:12]}")

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
            ordered = sum(1 for agent in s.orders if agent_name(agent) in self.given.orders.draining_agents)
            if ordered:
                return "order", f"{ordered} are drained by order"
            return "rollout", f"{len(s.orders)} of an old version are replaced"
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
            # Those that are replaced one for one are still there when their replacements come.
            self.start(key, count, cause, why, old_remains=cause == "repair", surge=len(self.s.orders))

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


def _prune(*counts: dict[str, int]) -> None:
    for each in counts:
        for key in [key for key, count in each.items() if count <= 0]:
            del each[key]
