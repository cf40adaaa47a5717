"""One workload's plan beside fixed others: greedy construction, then local search.

Construction takes what is cheapest for each standard agent: first on-demand agents in as many clouds as make `survive`
cheapest, then each cloud's share if there are weights, then demand, spot as far as its rules go, then `min`. The search
then adds, drops and swaps one or two offerings for as long as the score falls, within a number of steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations
from math import ceil, inf

from covey.fleet.placing.judge import (
    COST,
    DEMAND,
    EPSILON,
    TOLERANCE,
    WEIGHTS,
    Counts,
    Room,
    Score,
    better,
    judge,
)
from covey.fleet.placing.rules import Entry, Option

__all__ = ["Steps", "solve_entry", "targets"]

Move = tuple[tuple[int, int], ...]
"""Changes of counts, by option."""

Moves = Iterator[tuple[float, Move]]
"""Moves, each with the most it may save; infinite when it is to mend something."""

ROUND = 200
"""Improvements of one workload in one call: far more than any instance needs, a bound all the same."""

PAIRS_OPTIONS = 24
"""Options that the search combines in pairs: the cheapest of those that no other one beats."""


class Steps:
    """What is left of the solver's budget, in plans judged: the search is bounded by steps and never by a clock."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left


def solve_entry(
    entry: Entry, room: Room, steps: Steps, *, starts: Iterable[Counts] = (), deep: bool = True, search: bool = True
) -> tuple[Counts, Score]:
    """The best plan found for one workload in `room`, from what runs, from nothing, and from each of `starts`."""
    useful = targets(entry, room)
    best: Counts = {j: option.low for j, option in enumerate(entry.options) if option.low}
    score = judge(entry, best, room)
    plans = list(starts)
    if entry.options:
        plans.append(construct(entry, room, useful))
        if any(entry.options[j].spot for j in useful):
            plans.append(construct(entry, room, _mixed(entry, room, useful)))
    if entry.running:
        plans.append({j: min(o.running, room.headroom(entry, j)) for j, o in enumerate(entry.options) if o.running})
    seen: list[Counts] = []
    for plan in plans:
        plan = {j: n for j, n in plan.items() if n > 0}
        if plan in seen:
            continue
        seen.append(plan)
        if search:
            found, value = improve(entry, plan, room, useful, steps, deep=deep)
        else:
            found, value = plan, judge(entry, plan, room)
        if better(value, score):
            best, score = found, value
    return best, score


def targets(entry: Entry, room: Room) -> list[int]:
    """Options worth growing, cheapest for a standard agent first. One that another beats in its own cloud and zone, at
    least as fast, no dearer and without bounds, is never needed."""
    able = [j for j, option in enumerate(entry.options) if room.headroom(entry, j) > option.low]
    able.sort(key=lambda j: _merit(entry, room, j))
    if len(able) <= 1:
        return able
    useful: list[int] = []
    best: dict[tuple[int, int, str], list[tuple[float, float]]] = {}
    for j in able:
        option = entry.options[j]
        group = (option.cloud, option.zone, option.pool if entry.pool_caps else "")
        champions = best.setdefault(group, [])
        # A champion has no bound and is at least as cheap for each standard agent; a slower, cheaper one may still pay
        # as the last agent, and one with paid-for room beats its own price.
        if not option.whole and any(speed >= option.speed and price <= option.price for speed, price in champions):
            continue
        useful.append(j)
        if option.scope_slot < 0 and option.pool_slot < 0 and option.high >= entry.maximum and not option.stale:
            champions.append((option.speed, option.price))
    return useful


def _mixed(entry: Entry, room: Room, useful: list[int]) -> list[int]:
    """`useful` in the order in which it mixes best: an on-demand agent earns the right to `share` spot agents, so a
    slow cheap one beside a fast spot one may beat both alone. `worth` is what one such right is worth where the
    cheapest agent of either kind costs the same for its speed."""
    share = entry.share

    def merit(j: int, worth: float) -> float:
        option = entry.options[j]
        return _price(option, room) / option.speed + worth * ((1 - share) if option.spot else -share) / option.speed

    spots = [j for j in useful if entry.options[j].spot]
    steady = [j for j in useful if not entry.options[j].spot]
    if not steady or share >= 1:
        return useful
    low, high = 0.0, max(_price(entry.options[j], room) for j in useful) / (1 - share)
    for _ in range(24):
        worth = (low + high) / 2
        if min(merit(j, worth) for j in spots) < min(merit(j, worth) for j in steady):
            low = worth
        else:
            high = worth
    return sorted(spots, key=lambda j: merit(j, low)) + sorted(steady, key=lambda j: merit(j, low))


def _merit(entry: Entry, room: Room, j: int) -> tuple[float, int, str]:
    option = entry.options[j]
    return (_price(option, room) / option.speed, option.rank, option.key)


def _price(option: Option, room: Room) -> float:
    """What one more agent costs at best, tolls included."""
    paid = option.free if option.whole else 0.0
    return option.price - room.saved(option) + room.toll(option) + room.toll_money * (option.money - paid)


# --- construction ------------------------------------------------------------------------------------------------


def construct(entry: Entry, room: Room, useful: list[int]) -> Counts:
    """A plan from nothing (but what is held), without looking back."""
    build = _Build(entry, room, useful)
    build.survive()
    for cloud, want in enumerate(entry.weights):
        build.cover(want, cloud)
    build.cover(entry.need, None)
    build.count(max(entry.minimum, entry.floor))
    return build.counts


class _Build:
    """The running sums of a construction."""

    def __init__(self, entry: Entry, room: Room, useful: list[int]) -> None:
        self.entry = entry
        self.useful = useful
        self.room = room
        self.caps = [room.headroom(entry, j) for j in range(len(entry.options))]
        self.scopes: dict[int, int] = {}
        self.pools: dict[int, int] = {}
        self.by_pool: dict[str, int] = {}
        self.counts: Counts = {}
        self.agents = self.spot = 0
        self.zones: dict[int, int] = {}
        for j, option in enumerate(entry.options):
            if option.low:
                self.add(j, option.low)

    def add(self, j: int, n: int) -> None:
        option = self.entry.options[j]
        had = self.counts.get(j, 0)
        self.counts[j] = had + n
        self.agents += n
        starts = max(had + n - option.running, 0) - max(had - option.running, 0)
        self.scopes[option.scope_slot] = self.scopes.get(option.scope_slot, 0) + starts
        self.pools[option.pool_slot] = self.pools.get(option.pool_slot, 0) + starts
        self.by_pool[option.pool] = self.by_pool.get(option.pool, 0) + n
        if option.spot:
            self.spot += n
            self.zones[option.zone] = self.zones.get(option.zone, 0) + n

    def fits(self, j: int) -> int:
        """How many more agents option `j` takes now."""
        entry, option = self.entry, self.entry.options[j]
        had = self.counts.get(j, 0)
        most = min(self.caps[j] - had, entry.maximum - self.agents)
        idle = max(option.running - had, 0)
        if option.scope_slot >= 0:
            most = min(most, idle + self.room.scopes[option.scope_slot] - self.scopes.get(option.scope_slot, 0))
        if option.pool_slot >= 0:
            most = min(most, idle + self.room.pools[option.pool_slot] - self.pools.get(option.pool_slot, 0))
        if option.pool in entry.pool_caps:
            most = min(most, entry.pool_caps[option.pool] - self.by_pool.get(option.pool, 0))
        if option.spot and most > 0:
            # One at a time: each further spot agent needs on-demand agents beside it.
            most = 1
            if self.spot + 1 > entry.share * (self.agents + 1 - entry.spot_base) + EPSILON:
                most = 0
            if len(entry.zones) > 1 and 2 * (self.zones.get(option.zone, 0) + 1) > self.spot + 2:
                most = 0
        return most

    def survive(self) -> None:
        """On-demand agents in the cheapest q clouds so that the loss of any `lose` of them leaves `keep`."""
        entry = self.entry
        if entry.keep <= 0:
            return
        cheapest: dict[int, float] = {}
        for j in self.useful:
            option = entry.options[j]
            if not option.spot:
                price = option.price / (1.0 if entry.keep_agents else option.speed)
                cheapest[option.cloud] = min(price, cheapest.get(option.cloud, price))
        clouds = sorted(cheapest, key=lambda cloud: (cheapest[cloud], cloud))
        best, spread = float("inf"), 1
        for q in range(entry.lose + 1, len(clouds) + 1):
            each = ceil(entry.keep / (q - entry.lose)) if entry.keep_agents else entry.keep / (q - entry.lose)
            # What demand needs anyway is no extra: compare the whole bill of at least `need`.
            bill = sum(each * cheapest[cloud] for cloud in clouds[:q])
            bill += max(entry.need - each * q, 0) * cheapest[clouds[0]]
            if bill < best - EPSILON:
                best, spread = bill, q
        if len(clouds) <= entry.lose:
            return
        each = entry.keep / (spread - entry.lose)
        for cloud in clouds[:spread]:
            self._fill(ceil(each - EPSILON) if entry.keep_agents else each, cloud, entry.keep_agents, on_demand=True)

    def cover(self, want: float, cloud: int | None) -> None:
        self._fill(want, cloud, as_agents=False)

    def count(self, agents: int) -> None:
        """At least so many agents, the cheapest ones, whatever their speed."""
        if self.agents < agents:
            order = self.useful
            self.useful = sorted(order, key=lambda j: self.entry.options[j].price)
            self._fill(agents, None, as_agents=True)
            self.useful = order

    def _fill(self, want: float, cloud: int | None, as_agents: bool, *, on_demand: bool = False) -> None:
        """Add agents in the order of `useful` until `want` is there (in one cloud, or in all)."""
        options = self.entry.options

        def counted(j: int) -> bool:
            option = options[j]
            return (cloud is None or option.cloud == cloud) and not (on_demand and option.spot)

        have = sum(n * (1 if as_agents else options[j].speed) for j, n in self.counts.items() if counted(j))
        order = [j for j in self.useful if counted(j)]
        spots = any(options[j].spot for j in order)
        while have < want - EPSILON:
            for j in order:
                most = self.fits(j)
                if most > 0:
                    break
            else:
                return
            unit = 1.0 if as_agents else options[j].speed
            n = 1 if spots else min(most, max(ceil((want - have) / unit - EPSILON), 1))
            self.add(j, n)
            have += n * unit


# --- local search ------------------------------------------------------------------------------------------------


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
            step = _best_move(near, near.pairs(), steps)
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
    for bound, move in sorted(moves, key=_first, reverse=True):
        if steps.left <= 0 or (best and floor - score[COST] >= bound):
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
            self.adds[k] = _price(option, room) - (room.toll(option) + extra if back else 0.0)
        self.saves: dict[int, float] = {}
        for j, _ in self.spare:
            option = options[j]
            saved = option.price + room.toll_money * option.money
            if counts[j] > option.running:
                saved += room.toll(option) + entry.move + (entry.stale_cost if option.stale else 0.0)
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
        for k in self.grow:
            yield inf, ((k, 1),)
            most = min(self.caps[k], ceil(missing / options[k].speed))
            if most > 1:
                yield inf, ((k, most),)
        for j, spare in self.spare:
            yield inf, ((j, -1),)
            if spare > 1:
                yield inf, ((j, -spare),)
            for k in self.grow:
                if k == j:
                    continue
                for n in (1,) if spare == 1 else (1, spare):
                    same = max(ceil(n * options[j].speed / options[k].speed - EPSILON), 1)
                    yield inf, ((j, -n), (k, n))
                    if same != n:
                        yield inf, ((j, -n), (k, same))

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
