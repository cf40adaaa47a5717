"""What may be spent and taken away in one turn over all workloads: the budget, the brakes, the disruption budgets."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final

from covey.fleet.filtering.types import Removal, SiftInput
from covey.fleet.model import Offering

__all__ = ["BRAKE_WINDOW", "Brakes", "Purse", "disruptions"]

BRAKE_WINDOW: Final = 300.0
"""s over which removals on metrics alone are counted (FLEET 2)."""


class Brakes:
    """How many agents may still go on metrics alone: a share of the workload and a share of the fleet in 5 min, both of
    what there was at the window's beginning, and always at least one.

    A fleet of one workload has one brake, the workload's: the fleet's is for metrics that fail together."""

    def __init__(self, given: SiftInput, removals: Iterable[Removal]) -> None:
        controller = given.spec.controller
        self._share = controller.removals_share
        self._fleet_share = controller.fleet_removals_share
        self.kept = tuple(removal for removal in removals if given.now - removal.at < BRAKE_WINDOW)
        self._gone: dict[str, int] = {}
        for removal in self.kept:
            self._gone[removal.workload] = self._gone.get(removal.workload, 0) + removal.count
        self._agents = {name: len(standing.counting) for name, standing in given.health.workloads.items()}
        self._taken: dict[str, int] = {}

    def left(self, workload: str) -> int:
        """How many more of it may go now."""
        gone = self._gone.get(workload, 0)
        taken = self._taken.get(workload, 0)
        most = max(1, int(self._share * (self._agents.get(workload, 0) + gone) + 1e-9)) - gone - taken
        if len([name for name, count in self._agents.items() if count]) > 1:
            all_gone = sum(self._gone.values())
            fleet = sum(self._agents.values()) + all_gone
            most = min(most, max(1, int(self._fleet_share * fleet + 1e-9)) - all_gone - sum(self._taken.values()))
        return max(0, most)

    def take(self, workload: str, count: int) -> None:
        self._taken[workload] = self._taken.get(workload, 0) + count

    def removals(self, acting: Iterable[str], now: float) -> tuple[Removal, ...]:
        """The history with what was taken now from workloads that really act."""
        new = tuple(Removal(workload=name, count=self._taken[name], at=now) for name in acting if self._taken.get(name))
        return (*self.kept, *new) if new else self.kept


class Purse:
    """USD per hour that all agents cost now, with what this turn adds. Agents that are told to go are paid until they
    are gone; those of a dead pool are not."""

    def __init__(self, given: SiftInput) -> None:
        budget = given.spec.budget
        self.limit = budget.hourly_usd if budget is not None else inf
        self._reserve = budget.reserve if budget is not None else 0.0
        self._offerings: dict[tuple[str, str], Offering] = {
            (name, each.key): each for name, offerings in given.offerings.items() for each in offerings
        }
        self._dearest = {
            name: max((each.price for each in offerings if each.price is not None), default=0.0)
            for name, offerings in given.offerings.items()
        }
        self._counts: dict[tuple[str, str], int] = {}
        for name, standing in given.health.workloads.items():
            for group in (standing.counting, standing.draining, standing.leaving):
                for agent in group:
                    self._count(name, agent.offering, 1)
        for (name, key), count in given.coming.items():
            self._count(name, key, count)
        self.paid = 0.0
        if budget is not None:
            taken: dict[str, float] = {}
            for (name, key), count in self._counts.items():
                self.paid += self._money(name, key, count, taken)

    def _count(self, name: str, key: str, count: int) -> None:
        self._counts[name, key] = self._counts.get((name, key), 0) + count

    def _money(self, name: str, key: str, count: int, taken: dict[str, float]) -> float:
        offering = self._offerings.get((name, key))
        if offering is None:
            return count * self._dearest.get(name, 0.0)
        price = offering.price if offering.price is not None else self._dearest[name]
        free = 0.0
        if offering.marginal_room:
            free = min(count, max(0.0, offering.marginal_room * (1.0 - taken.get(key, 0.0))))
            taken[key] = taken.get(key, 0.0) + free / offering.marginal_room
        return (count - free) * price + count * (offering.egress or 0.0)

    def is_free(self, name: str, key: str, one_more: int) -> bool:
        """Whether the last of them, with `one_more` started, runs on room that is paid for already."""
        offering = self._offerings.get((name, key))
        if offering is None or not offering.marginal_room:
            return False
        return sum(count for (_, other), count in self._counts.items() if other == key) + one_more <= (
            offering.marginal_room
        )

    def may_add(self, name: str, key: str, *, old_remains: bool) -> str:
        """Why one more agent cannot be paid, or "". `old_remains`: it replaces one, for which the reserve is kept."""
        limit = self.limit if old_remains else self.limit * (1 - self._reserve)
        if self.paid + self._price(name, key) > limit + 1e-9:
            return f"the budget is {self.limit:g} USD/h and {self.paid:.4g} are paid now"
        return ""

    def add(self, name: str, key: str) -> None:
        self.paid += self._price(name, key)
        self._count(name, key, 1)

    def _price(self, name: str, key: str) -> float:
        offering = self._offerings.get((name, key))
        if offering is None:
            return self._dearest.get(name, 0.0)
        price = offering.price if offering.price is not None else self._dearest[name]
        return (0.0 if self.is_free(name, key, 1) else price) + (offering.egress or 0.0)


def disruptions(given: SiftInput) -> dict[tuple[str, str], int]:
    """What each disruption budget still allows: what was last seen, less what was ordered since."""
    left: dict[tuple[str, str], int] = dict(given.removable)
    if left and given.leaving:
        for name, standing in given.health.workloads.items():
            for group in (standing.counting, standing.draining):
                for agent in group:
                    if (agent.pool, name) in left and f"{agent.pool}/{agent.id}" in given.leaving:
                        left[agent.pool, name] -= 1
    return left
