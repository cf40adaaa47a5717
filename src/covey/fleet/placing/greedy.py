"""One workload's plan beside fixed others: greedy construction, then local search.

Construction takes what is cheapest for each standard agent: first on-demand agents in as many clouds as make `survive`
cheapest, then each cloud's share if there are weights, then demand, spot as far as its rules go, then `min`. The search
then adds, drops and swaps one or two offerings for as long as the score falls, within a number of steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

from covey.fleet.placing.exact import SMALL, enumerate_plans
from covey.fleet.placing.judge import COST, EPSILON, Counts, Room, Score, better, judge
from covey.fleet.placing.rules import Entry
from covey.fleet.placing.search import Steps, improve, unit_price

__all__ = ["solve_entry", "targets"]


def solve_entry(
    entry: Entry, room: Room, steps: Steps, *, starts: Iterable[Counts] = (), deep: bool = True, search: bool = True
) -> tuple[Counts, Score]:
    """The best plan found for one workload in `room`, from what runs, from nothing, and from each of `starts`."""
    useful = targets(entry, room)
    low: Counts = {j: option.low for j, option in enumerate(entry.options) if option.low}
    best = dict(low)
    score = judge(entry, best, room)
    plans = list(starts)
    if entry.options:
        plans.append(construct(entry, room, useful))
        if any(entry.options[j].spot for j in useful):
            plans.append(construct(entry, room, _mixed(entry, room, useful)))
            if entry.keep > 0 and entry.lose:
                # Over more clouds fewer on-demand agents are enough, and the rest may be spot.
                clouds = len({entry.options[j].cloud for j in useful if not entry.options[j].spot})
                plans += [construct(entry, room, useful, spread) for spread in range(entry.lose + 1, clouds + 1)]
    if entry.running:
        plans.append({j: min(o.running, room.headroom(entry, j)) for j, o in enumerate(entry.options) if o.running})
    seen: list[Counts] = []
    for plan in plans:
        plan = {j: max(n, low.get(j, 0)) for j, n in (low | plan).items() if n > 0 or j in low}
        if plan in seen:
            continue
        seen.append(plan)
        if search:
            found, value = improve(entry, plan, room, useful, steps, deep=False)
        else:
            found, value = plan, judge(entry, plan, room)
        if better(value, score):
            best, score = found, value
    if deep and entry.options:
        best, score = improve(entry, best, room, useful, steps, deep=True)
        if entry.need <= SMALL and not any(score[:COST]):
            best, score = enumerate_plans(entry, room, useful, best, score, steps)
    return best, score


def targets(entry: Entry, room: Room) -> list[int]:
    """Options worth growing, cheapest for a standard agent first. One that another beats in its own cloud and zone, at
    least as fast, no dearer and without bounds, is never needed."""
    able = [j for j, option in enumerate(entry.options) if room.headroom(entry, j) > option.low]
    able.sort(key=lambda j: _merit(entry, room, j))
    if len(able) <= 1:
        return able
    useful: list[int] = []
    best: dict[tuple[int, int, str], list[tuple[float, float, float]]] = {}
    for j in able:
        option = entry.options[j]
        group = (option.cloud, option.zone, option.pool if entry.pool_caps else "")
        champions = best.setdefault(group, [])
        # A champion has no bound and is at least as cheap for each standard agent; a slower, cheaper one may still pay
        # as the last agent, and one with paid-for room beats its own price.
        if (
            not option.whole
            and not option.running
            and any(
                speed >= option.speed and price <= option.price and money <= option.money
                for speed, price, money in champions
            )
        ):
            continue
        useful.append(j)
        if option.scope_slot < 0 and option.pool_slot < 0 and option.high >= entry.maximum and not option.stale:
            champions.append((option.speed, option.price, option.money))
    return useful


def _mixed(entry: Entry, room: Room, useful: list[int]) -> list[int]:
    """`useful` in the order in which it mixes best: an on-demand agent earns the right to `share` spot agents, so a
    slow cheap one beside a fast spot one may beat both alone. `worth` is what one such right is worth where the
    cheapest agent of either kind costs the same for its speed."""
    share = entry.share

    def merit(j: int, worth: float) -> float:
        option = entry.options[j]
        return unit_price(option, room) / option.speed + worth * ((1 - share) if option.spot else -share) / option.speed

    spots = [j for j in useful if entry.options[j].spot]
    steady = [j for j in useful if not entry.options[j].spot]
    if not steady or share >= 1:
        return useful
    low, high = 0.0, max(unit_price(entry.options[j], room) for j in useful) / (1 - share)
    for _ in range(24):
        worth = (low + high) / 2
        if min(merit(j, worth) for j in spots) < min(merit(j, worth) for j in steady):
            low = worth
        else:
            high = worth
    return sorted(spots, key=lambda j: merit(j, low)) + sorted(steady, key=lambda j: merit(j, low))


def _merit(entry: Entry, room: Room, j: int) -> tuple[float, int, str]:
    option = entry.options[j]
    return (unit_price(option, room) / option.speed, option.rank, option.key)


# --- construction ------------------------------------------------------------------------------------------------


def construct(entry: Entry, room: Room, useful: list[int], spread: int = 0) -> Counts:
    """A plan from nothing (but what is held), without looking back; `survive` over `spread` clouds, 0: as many as seem
    cheapest."""
    build = _Build(entry, room, useful)
    build.survive(spread)
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

    def survive(self, wanted: int) -> None:
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
            if q == wanted or (not wanted and bill < best - EPSILON):
                best, spread = bill, q
        if len(clouds) <= entry.lose:
            return
        each = entry.keep / (spread - entry.lose)
        for cloud in clouds[:spread]:
            self._fill(ceil(each - EPSILON) if entry.keep_agents else each, cloud, entry.keep_agents, on_demand=True)
        self._level(clouds)

    def _level(self, clouds: list[int]) -> None:
        """What rooms and caps kept out of those clouds goes to others, one agent at a time, and never to the `lose`
        clouds that hold most: what they hold does not count."""
        entry, options = self.entry, self.entry.options
        held = dict.fromkeys(clouds, 0.0)
        for j, n in self.counts.items():
            if not options[j].spot and options[j].cloud in held:
                held[options[j].cloud] += n if entry.keep_agents else options[j].speed * n
        while True:
            most = sorted(clouds, key=lambda cloud: -held[cloud])[: entry.lose]
            if sum(held.values()) - sum(held[cloud] for cloud in most) >= entry.keep - EPSILON:
                return
            for j in self.useful:
                option = options[j]
                if not option.spot and option.cloud not in most and self.fits(j) > 0:
                    break
            else:
                return
            self.add(j, 1)
            held[option.cloud] += 1 if entry.keep_agents else option.speed

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
