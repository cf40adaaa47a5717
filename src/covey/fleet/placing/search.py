"""Local search around one workload's plan: add, drop, swap one or two offerings, for as long as the score falls."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations
from math import ceil, inf

from covey.fleet.placing.judge import (
    COST,
    DEMAND,
    EPSILON,
    SURVIVE,
    TOLERANCE,
    WEIGHTS,
    Counts,
    Room,
    Score,
    better,
    judge,
)
from covey.fleet.placing.rules import Entry, Option

__all__ = ["LOOKED", "LOOKED_IN_TICKS", "Steps", "improve", "unit_price"]

Move = tuple[tuple[int, int], ...]
"""Changes of counts, by option."""

Moves = Iterator[tuple[float, Move]]
"""Moves, each with the most it may save; infinite when it is to mend something."""

ROUND = 200
"""Improvements of one workload in one call: far more than any instance needs, a bound all the same."""

LOOKED = 400
"""Moves judged in one neighbourhood when a whole fleet is placed."""

LOOKED_IN_TICKS = 50
"""The same when only some workloads changed: a tick has 250 ms."""

FULL = 3
"""A room with so little left is full for a search that looks for faster agents in it, and so many agents drop out at
once."""

PAIRS_OPTIONS = 24
"""Options that the search combines in pairs: the cheapest of those that no other one beats."""


class Steps:
    """What is left of the solver's budget, in plans judged: the search is bounded by steps and never by a clock."""

    __slots__ = ("left", "looked")

    def __init__(self, left: int, looked: int = LOOKED) -> None:
        self.left = left
        self.looked = looked
        """Moves judged in one neighbourhood, the most promising first."""


def improve(
    entry: Entry, counts: Counts, room: Room, useful: list[int], steps: Steps, *, deep: bool
) -> tuple[Counts, Score]:
    """Follow the best move of the small neighbourhood; when it has none, of the large one."""
    score = judge(entry, counts, room)
    for _ in range(ROUND):
        near = _Near(entry, counts, score, room, useful)
        step = _best_move(near, near.repairs() if any(score[: WEIGHTS + 1]) else near.swaps(), steps)
        if step is None and any(score[: WEIGHTS + 1]):
            step = _best_move(near, near.swaps(), steps)
        if step is None and deep:
            step = _best_move(near, chain(near.pairs(), near.denser()), steps)
        if step is None:
            break
        counts, score = step
    return counts, score


def _best_move(near: _Near, moves: Moves, steps: Steps) -> tuple[Counts, Score] | None:
    """The best of `moves`. Those that say how much they save at most are judged in that order, until one saved more
    than the rest could."""
    best: tuple[Counts, Score] | None = None
    score = near.score
    floor = score[COST]
    for looked, (bound, move) in enumerate(sorted(moves, key=_first, reverse=True)):
        if steps.left <= 0 or (best and floor - score[COST] >= bound) or (looked >= steps.looked and bound < inf):
            break
        steps.left -= 1
        trial = dict(near.counts)
        for j, change in move:
            n = trial.get(j, 0) + change
            if n > 0:
                trial[j] = n
            else:
                trial.pop(j, None)
        value = judge(near.entry, trial, near.room)
        if better(value, score):
            best, score = (trial, value), value
    return best


def _first(move: tuple[float, Move]) -> float:
    return move[0]


class _Near:
    """The plans next to one plan. What cannot be cheaper, or covers too little, is left out before it is judged: a
    plan is judged in about 10 us, a move left out costs a twentieth of that."""

    def __init__(self, entry: Entry, counts: Counts, score: Score, room: Room, useful: list[int]) -> None:
        self.entry, self.counts, self.score, self.room = entry, counts, score, room
        options = entry.options
        self.caps = {k: room.headroom(entry, k) - counts.get(k, 0) for k in useful}
        self.grow = [k for k in useful if self.caps[k] > 0]
        self.spare = [(j, n - options[j].low) for j, n in counts.items() if n > options[j].low]
        self.slack = max(sum(options[j].speed * n for j, n in counts.items()) - entry.need, 0.0)
        """Standard agents more than needed: so much may go without anything instead."""
        self.agents = sum(counts.values())
        self.spot = sum(n for j, n in counts.items() if options[j].spot)
        # The least that one more agent costs, and the most that one less saves.
        extra = entry.move + (entry.stale_cost if entry.stale_running else 0.0)
        self.adds: dict[int, float] = {}
        for k in self.grow:
            option = options[k]
            back = counts.get(k, 0) < option.running
            price = unit_price(option, room)
            if option.whole and counts.get(k, 0) >= room.free_agents(option.key, option.whole):
                price = option.price + room.toll(option) + room.toll_money * option.money
            self.adds[k] = price - (room.toll(option) + extra if back else 0.0)
        self.saves: dict[int, float] = {}
        for j, _ in self.spare:
            option = options[j]
            saved = option.price + room.toll_money * option.money
            if option.whole and counts[j] <= room.free_agents(option.key, option.whole):
                saved = unit_price(option, room) - room.toll(option)
            if counts[j] > option.running:
                saved += (
                    room.toll(option)
                    + entry.move
                    + (
                        # With fewer agents than run, fewer of them have left where prices are stale.
                        entry.stale_cost if option.stale or entry.stale_running else 0.0
                    )
                )
            self.saves[j] = saved

    def _fits(self, agents: int, spot: int) -> bool:
        """Whether so many agents more, so many of them spot, keep `max` and the share of spot."""
        entry = self.entry
        total = self.agents + agents
        if total > entry.maximum and agents > 0:
            return False
        spot += self.spot
        return spot <= self.spot or spot <= max(entry.share * (total - entry.spot_base) + EPSILON, entry.low_spot)

    def swaps(self) -> Moves:
        """Drop some of one offering, for as many of another as demand needs, or as many."""
        options, slack = self.entry.options, self.slack
        for j, spare in self.spare:
            speed, spot = options[j].speed, options[j].spot
            for n in {1, 2, spare // 2, spare - 1, spare}:
                if not 0 < n <= spare:
                    continue
                saved = n * self.saves[j]
                if n * speed <= slack + TOLERANCE:
                    yield saved, ((j, -n),)
                lost = n * speed - slack - TOLERANCE
                for k in self.grow:
                    if k == j:
                        continue
                    least = max(ceil(lost / options[k].speed), 1)
                    for m in (least,) if least == n else (least, n):
                        if m > self.caps[k] or m * options[k].speed < lost:
                            continue
                        gain = saved - m * self.adds[k]
                        if gain > EPSILON and self._fits(m - n, m * options[k].spot - n * spot):
                            yield gain, ((j, -n), (k, m))

    def repairs(self) -> Moves:
        """Whatever may mend a constraint: add, drop, swap, whatever it costs."""
        options = self.entry.options
        missing = self.score[DEMAND] * self.entry.need
        # Short of demand alone: only what covers more can mend it.
        cover = bool(missing) and not any(self.score[:DEMAND]) and self.agents >= self.entry.floor
        if self.score[SURVIVE]:
            yield from self._in_two_clouds()
        for k in self.grow:
            yield inf, ((k, 1),)
            most = min(self.caps[k], ceil(missing / options[k].speed))
            if most > 1:
                yield inf, ((k, most),)
        for j, spare in self.spare:
            if not cover:
                yield inf, ((j, -1),)
                if spare > 1:
                    yield inf, ((j, -spare),)
            for k in self.grow:
                if k == j or (cover and options[k].speed <= options[j].speed):
                    continue
                for n in (1,) if spare == 1 else (1, spare):
                    same = max(ceil(n * options[j].speed / options[k].speed - EPSILON), 1)
                    yield inf, ((j, -n), (k, n))
                    if same != n:
                        yield inf, ((j, -n), (k, same))

    def _in_two_clouds(self) -> Moves:
        """Where two clouds hold the same, `survive` counts one agent more in both and nothing in either alone."""
        options, entry = self.entry.options, self.entry
        steady = [k for k in self.grow if not options[k].spot]
        drops: list[Move] = [()]
        if self.agents + 2 > entry.maximum:
            drops = [((j, -n),) for j, spare in self.spare for n in {1, min(spare, 2)}]
        first: dict[int, int] = {}
        for k in steady:
            first.setdefault(options[k].cloud, k)
        for k, m in combinations(first.values(), 2):
            ratio = 1.0 if entry.keep_agents else options[k].speed / options[m].speed
            pairs = {(1, 1), (1, ceil(ratio)), (ceil(1 / ratio), 1)}
            for n, o in sorted(pairs):
                if n <= self.caps[k] and o <= self.caps[m]:
                    for drop in drops:
                        if not drop or drop[0][0] not in (k, m):
                            yield inf, (*drop, (k, n), (m, o))

    def pairs(self) -> Moves:
        """Swap one offering for two, two for one, two for two."""
        options, slack = self.entry.options, self.slack + TOLERANCE
        grow = self.grow[:PAIRS_OPTIONS]
        adds: list[tuple[float, float, int, int, Move]] = []
        for k in grow:
            price, speed, spot = self.adds[k], options[k].speed, int(options[k].spot)
            adds.append((price, speed, 1, spot, ((k, 1),)))
            if self.caps[k] > 1:
                adds.append((2 * price, 2 * speed, 2, 2 * spot, ((k, 2),)))
        for k, m in combinations(grow, 2):
            price, speed = self.adds[k] + self.adds[m], options[k].speed + options[m].speed
            adds.append((price, speed, 2, int(options[k].spot) + int(options[m].spot), ((k, 1), (m, 1))))
        adds.sort(key=lambda add: add[0])
        drops: list[Move] = [((j, -n),) for j, spare in self.spare for n in range(1, min(spare, 3) + 1)]
        drops += [((j, -1), (i, -1)) for (j, _), (i, _) in combinations(self.spare, 2)]
        for drop in drops:
            saved = sum(-n * self.saves[j] for j, n in drop)
            lost = sum(-n * options[j].speed for j, n in drop) - slack
            agents = sum(n for _, n in drop)
            spot = sum(n for j, n in drop if options[j].spot)
            gone = {j for j, _ in drop}
            for price, speed, more, more_spot, add in adds:
                if price >= saved - EPSILON:
                    break
                if speed >= lost and self._fits(agents + more, spot + more_spot) and gone.isdisjoint(dict(add)):
                    yield saved - price, (*drop, *add)

    def denser(self) -> Moves:
        """In a full room, or a pool with all the agents it may have, faster agents for slower ones, so that some drop
        out elsewhere."""
        options, room, counts = self.entry.options, self.room, self.counts
        held: dict[str | int, int] = {}
        for j, n in counts.items():
            held[options[j].pool] = held.get(options[j].pool, 0) + n
            slot = options[j].scope_slot
            held[slot] = held.get(slot, 0) + max(n - options[j].running, 0)
        for a, most in self.spare:
            slow = options[a]
            left = inf
            if slow.pool in self.entry.pool_caps:
                left = self.entry.pool_caps[slow.pool] - held[slow.pool]
            if slow.scope_slot >= 0:
                left = min(left, room.scopes[slow.scope_slot] - held[slow.scope_slot])
            if left > FULL:
                continue
            more = max(int(left), 0)
            for b in self.grow:
                fast = options[b]
                if fast.speed <= slow.speed or fast.pool != slow.pool or fast.spot != slow.spot:
                    continue
                for j, spare in self.spare:
                    if j in (a, b):
                        continue
                    for n in range(1, min(spare, FULL) + 1):
                        lost = n * options[j].speed - self.slack - more * fast.speed - TOLERANCE
                        swapped = max(ceil(lost / (fast.speed - slow.speed)), 1)
                        if swapped > most:
                            break
                        gain = n * self.saves[j] + swapped * self.saves[a] - (swapped + more) * self.adds[b]
                        if gain > EPSILON and self._fits(more - n, (more if fast.spot else 0) - n * options[j].spot):
                            yield gain, ((j, -n), (a, -swapped), (b, swapped + more))


def unit_price(option: Option, room: Room) -> float:
    """What one more agent costs at best, tolls included."""
    saved = room.saved(option)
    paid = option.free if saved else 0.0
    return option.price - saved + room.toll(option) + room.toll_money * (option.money - paid)
