"""What workloads share: tolls find out who should have it, swaps between two workloads set right what tolls left.

A toll is a price on a contested thing (starts in a scope or pool, USD against a budget, room that is paid for), raised
while more is asked for than there is and lowered while less is: a Lagrangian relaxation with steps of its own for each
thing, which grow while a toll moves one way and halve when it turns (Rprop).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from covey.fleet.placing.greedy import solve_entry
from covey.fleet.placing.judge import COST, Counts, Room, judge
from covey.fleet.placing.plan import Plan
from covey.fleet.placing.rules import Entry, Model
from covey.fleet.placing.search import Steps

__all__ = ["Contest", "bargain", "promise", "raise_tolls"]

ROUNDS = 14
"""Rounds of raising and lowering tolls."""

ROUGH = 30
"""With more workloads than this, tolls are found from constructions without search: one agent here or there matters
less then."""

FIRST_STEP = 0.1
"""Of the mean price of an agent."""

GROW, TURN = 1.6, 0.5

RAISE = 1.3


class Contest:
    """The toll of one thing."""

    __slots__ = ("asked", "capacity", "last", "put", "step", "toll", "users")

    def __init__(self, capacity: float, step: float, put: Callable[[float], None], users: Sequence[Entry]) -> None:
        self.capacity = capacity
        self.asked = 0.0
        self.last = 0
        self.put = put
        self.step = step
        self.toll = 0.0
        self.users = users

    def turn(self) -> bool:
        """Move the toll after a round; whether it moved."""
        way = 1 if self.asked > self.capacity + 1e-9 else -1 if self.asked < self.capacity - 1e-9 else 0
        if way == 0 or (way < 0 and self.toll <= 0):
            return False
        if self.last:
            self.step *= GROW if way == self.last else TURN
        self.last = way
        self.toll = max(self.toll + way * self.step, 0.0)
        self.put(self.toll)
        return True


def bargain(model: Model, room: Room, entries: Sequence[Entry], steps: Steps) -> dict[int, Counts]:
    """What each workload would take alone in `room` under the tolls that the last round left in it."""
    counts: dict[int, Counts] = {}
    rough = len(entries) > ROUGH
    for entry in entries:
        counts[entry.index], _ = solve_entry(entry, room, steps, deep=False, search=not rough)
    agents = sum(sum(found.values()) for found in counts.values())
    known = sum(entry.options[j].money * n for entry in entries for j, n in counts[entry.index].items())
    contests = _contests(model, room, entries, FIRST_STEP * (known / max(agents, 1) or 1.0))
    for _ in range(ROUNDS):
        _ask(contests, room, entries, counts)
        again: set[int] = set()
        for contest in contests.values():
            if contest.turn():
                again.update(entry.index for entry in contest.users)
        if not again or steps.left <= 0:
            break
        for entry in entries:
            if entry.index in again:
                counts[entry.index], _ = solve_entry(
                    entry, room, steps, starts=[counts[entry.index]], deep=False, search=not rough
                )
    return counts


def promise(room: Room, entries: Sequence[Entry], alone: dict[int, Counts]) -> float:
    """What all would cost at least if each had its best plan under the tolls: their costs with tolls, less the tolls
    that full rooms would earn. Tolls never make a plan look dearer than the best one is."""
    cost = sum(judge(entry, alone[entry.index], room)[COST] for entry in entries)
    earned = sum(toll * max(left, 0) for toll, left in zip(room.toll_scopes, room.scopes, strict=True))
    earned += sum(toll * max(left, 0) for toll, left in zip(room.toll_pools, room.pools, strict=True))
    earned += sum(toll * (1.0 - room.free.get(key, 0.0)) for key, toll in room.toll_free.items())
    return cost - earned - (room.toll_money * room.money if room.toll_money else 0.0)


def raise_tolls(plan: Plan) -> bool:
    """Higher tolls for what is full, at least a share of what an agent costs; whether anything is."""
    room = plan.room
    prices = [option.price for entry in plan.model.entries for option in entry.options]
    least = FIRST_STEP * min((price for price in prices if price > 0), default=1.0)
    raised = False
    for left, tolls in ((room.scopes, room.toll_scopes), (room.pools, room.toll_pools)):
        for slot, free in enumerate(left):
            if free <= 0:
                tolls[slot] = max(RAISE * tolls[slot], least)
                raised = True
    return raised


Key = tuple[str, int | str]


def _contests(model: Model, room: Room, entries: Sequence[Entry], step: float) -> dict[Key, Contest]:
    users: dict[Key, list[Entry]] = {}
    for entry in entries:
        keys: dict[Key, None] = {}
        for option in entry.options:
            if option.scope_slot >= 0:
                keys["scope", option.scope_slot] = None
            if option.pool_slot >= 0:
                keys["pool", option.pool_slot] = None
            if option.whole:
                keys["free", option.key] = None
        for key in keys:
            users.setdefault(key, []).append(entry)
    found: dict[Key, Contest] = {}
    for (kind, slot), those in sorted(users.items(), key=lambda user: (user[0][0], str(user[0][1]))):
        if len(those) < 2:
            continue
        if kind == "free":
            found[kind, slot] = Contest(1.0 - room.free.get(str(slot), 0.0), step, _free(room, str(slot)), those)
        elif isinstance(slot, int):
            rooms, tolls = (room.scopes, room.toll_scopes) if kind == "scope" else (room.pools, room.toll_pools)
            found[kind, slot] = Contest(max(rooms[slot], 0), step, _slot(tolls, slot), those)
    if room.money < inf:
        found["money", 0] = Contest(room.money, FIRST_STEP, _money(room), entries)
    return found


def _free(room: Room, key: str) -> Callable[[float], None]:
    def put(toll: float) -> None:
        room.toll_free[key] = toll

    return put


def _slot(tolls: list[float], slot: int) -> Callable[[float], None]:
    def put(toll: float) -> None:
        tolls[slot] = toll

    return put


def _money(room: Room) -> Callable[[float], None]:
    def put(toll: float) -> None:
        room.toll_money = toll

    return put


def _ask(contests: dict[Key, Contest], room: Room, entries: Sequence[Entry], counts: dict[int, Counts]) -> None:
    """Count what everybody asks for."""
    for contest in contests.values():
        contest.asked = 0.0
    money = contests.get(("money", 0))
    for entry in entries:
        for j, n in counts[entry.index].items():
            option = entry.options[j]
            starts = max(n - option.running, 0)
            for key in (("scope", option.scope_slot), ("pool", option.pool_slot)):
                if key in contests:
                    contests[key].asked += starts
            whole = option.whole
            paid = min(n, whole) if whole else 0
            if paid and ("free", option.key) in contests and room.saved(option) > 0:
                contests["free", option.key].asked += paid / whole
            if money is not None:
                money.asked += option.money * n - option.free * paid
