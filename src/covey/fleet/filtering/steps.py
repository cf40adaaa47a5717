"""One workload's steps as they are let through: who is started, who goes, and the orders made of it."""

from __future__ import annotations

from typing import Final

from covey.fleet.filtering.shared import Shared
from covey.fleet.filtering.situation import Situation, agent_name
from covey.fleet.filtering.types import Drain, Move
from covey.fleet.model import Agent, Cause, Step

__all__ = ["CAUSES", "Steps"]

CAUSES: Final[tuple[Cause, ...]] = (
    "repair", "preemption", "order", "budget", "rollout", "demand", "fail-back", "saving",
)  # fmt: skip
"""A step with several causes is called by the first of these."""


class Steps:
    """What is done about one workload this turn."""

    def __init__(self, shared: Shared, situation: Situation) -> None:
        self.shared = shared
        self.s = situation
        self.given = shared.given
        self.now = shared.now
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
        ordered = self.given.orders.replacing
        there = [
            agent
            for agent in s.agents
            if agent.offering == key
            and agent_name(agent) not in self.picked
            and not (ordered and agent_name(agent) in ordered)
            and (not idle_only or agent.busy is False or agent.state == "starting")
        ]
        version = s.workload.version
        there.sort(key=lambda agent: _loses_least(agent, version))
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


def _loses_least(agent: Agent, version: str) -> tuple[int, int, bool, float, str]:
    """What never worked, then what does not answer, then the idle, then the least busy; of those an old version first,
    then the youngest."""
    if agent.state == "starting":
        rank = 0
    elif agent.state == "unready":
        rank = 1
    else:
        rank = 2 if agent.busy is False else 3
    return rank, agent.in_flight, agent.version == version, -agent.started_at, agent.id
