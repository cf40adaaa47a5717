"""How good a plan is: one tuple for each workload, compared part by part.

The parts stand in the order in which constraints win: rules broken (never in an answer) > `min` > budget > `survive`
> demand > `weights` > cost. `Room` is what the other workloads leave.
"""

from __future__ import annotations

from math import floor

from covey.fleet.placing.rules import Entry, Model, Option

__all__ = [
    "BROKEN",
    "COST",
    "DEMAND",
    "EXCESS",
    "MINIMUM",
    "SURVIVE",
    "WEIGHTS",
    "Counts",
    "Room",
    "Score",
    "better",
    "judge",
]

Counts = dict[int, int]
"""By index of the option, agents; none are 0."""

Score = tuple[float, float, float, float, float, float, float]
BROKEN, MINIMUM, EXCESS, SURVIVE, DEMAND, WEIGHTS, COST = range(7)

Tolls = tuple[list[float], list[float], float, dict[str, float]]
"""Of scopes, pools, money and room that is paid for already."""

EPSILON = 1e-9
"""What is smaller is rounding, in USD/h."""

TOLERANCE = 1e-6
"""What is smaller is rounding, in agents and standard agents; HiGHS keeps its rows to the same."""


class Room:
    """What is left for one workload beside the others: starts by scope and pool, USD/h, room that is paid for."""

    __slots__ = (
        "closed",
        "free",
        "granted",
        "money",
        "pools",
        "scopes",
        "toll_free",
        "toll_money",
        "toll_pools",
        "toll_scopes",
    )

    def __init__(self, model: Model) -> None:
        self.scopes = list(model.scope_room)
        self.pools = list(model.pool_room)
        self.money = model.limit
        # What a start in a contested scope or pool, and a USD against a tight budget, cost beside their price while the
        # solver looks for who should have them. All 0 in the end.
        self.toll_scopes = [0.0] * len(self.scopes)
        self.toll_pools = [0.0] * len(self.pools)
        self.toll_money = 0.0
        self.toll_free: dict[str, float] = {}
        self.free: dict[str, float] = {}
        """By offering: the share of the room paid for already that is taken."""
        self.granted: dict[tuple[int, str], int] = {}
        """By workload and offering: its agents on room that is paid for already."""
        self.closed: dict[int, frozenset[str]] = {}
        """By workload: pools that affinity with the other workloads' places forbids."""

    def no_tolls(self) -> Tolls:
        """Take all tolls away; what they were."""
        were = self.toll_scopes, self.toll_pools, self.toll_money, self.toll_free
        self.set_tolls(([0.0] * len(self.scopes), [0.0] * len(self.pools), 0.0, {}))
        return were

    def set_tolls(self, tolls: Tolls) -> None:
        self.toll_scopes, self.toll_pools, self.toll_money, self.toll_free = tolls

    def emptied(self, model: Model) -> Room:
        """The same room, with everything that is shared but the budget given back."""
        room = Room(model)
        room.money = self.money
        room.closed = self.closed
        return room

    def take(self, entry: Entry, counts: Counts) -> None:
        for j, n in counts.items():
            option = entry.options[j]
            self._start(entry, j, n - option.running, 1)
            self.money -= option.money * n
            whole = option.whole
            if whole:
                free = min(n, self.free_agents(option.key, whole))
                self.granted[entry.index, option.key] = free
                self.free[option.key] = self.free.get(option.key, 0.0) + free / whole
                self.money += option.free * free

    def give(self, entry: Entry, counts: Counts) -> None:
        """Undo `take` of the same counts."""
        for j, n in counts.items():
            option = entry.options[j]
            self._start(entry, j, n - option.running, -1)
            self.money += option.money * n
            whole = option.whole
            if whole:
                free = self.granted.pop((entry.index, option.key))
                self.free[option.key] -= free / whole
                self.money -= option.free * free

    def _start(self, entry: Entry, j: int, starts: int, sign: int) -> None:
        if starts > 0:
            option = entry.options[j]
            if option.scope_slot >= 0:
                self.scopes[option.scope_slot] -= sign * starts
            if option.pool_slot >= 0:
                self.pools[option.pool_slot] -= sign * starts

    def free_agents(self, key: str, whole: int) -> int:
        """How many more agents fit on what is paid for already at an offering."""
        return max(floor(whole * (1.0 - self.free.get(key, 0.0)) + EPSILON), 0)

    def toll(self, option: Option) -> float:
        """What one start there costs beside its price, for now."""
        toll = self.toll_scopes[option.scope_slot] if option.scope_slot >= 0 else 0.0
        return toll + (self.toll_pools[option.pool_slot] if option.pool_slot >= 0 else 0.0)

    def saved(self, option: Option) -> float:
        """What an agent on room that is paid for already saves there, for now; 0 when that room is taken."""
        if not option.whole or not self.free_agents(option.key, option.whole):
            return 0.0
        return max(option.free - self.toll_free.get(option.key, 0.0) / option.whole, 0.0)

    def headroom(self, entry: Entry, j: int) -> int:
        """The most agents that option `j` may hold, whatever else the workload holds."""
        option = entry.options[j]
        if option.pool in self.closed.get(entry.index, ()):
            return option.low
        most = option.high
        if option.scope_slot >= 0:
            most = min(most, option.running + max(self.scopes[option.scope_slot], 0))
        if option.pool_slot >= 0:
            most = min(most, option.running + max(self.pools[option.pool_slot], 0))
        return max(most, option.low)


def better(new: Score, old: Score) -> bool:
    """Whether `new` is better by more than rounding, in the first part where they differ."""
    for a, b in zip(new, old, strict=True):
        if a < b - EPSILON:
            return True
        if a > b + EPSILON:
            return False
    return False


def judge(entry: Entry, counts: Counts, room: Room) -> Score:
    """The score of one workload's plan; lower is better, part by part. The hot path of the search: written flat."""
    options = entry.options
    agents = spot = kept = stale_kept = stale_starts = 0
    cover = cost = money = broken = 0.0
    by_cloud = [0.0] * len(entry.clouds) if entry.keep or entry.weights else None
    speed_by_cloud = [0.0] * len(entry.clouds) if entry.weights else None
    by_zone: dict[int, int] = {}
    low_zone: dict[int, int] = {}
    by_scope: dict[int, int] = {}
    by_pool: dict[int, int] = {}
    for j, n in counts.items():
        option = options[j]
        agents += n
        cover += option.speed * n
        cost += option.price * n
        money += option.money * n
        running = option.running
        kept += min(running, n)
        starts = n - running
        if starts > 0:
            if option.scope_slot >= 0:
                by_scope[option.scope_slot] = by_scope.get(option.scope_slot, 0) + starts
                cost += room.toll_scopes[option.scope_slot] * starts
            if option.pool_slot >= 0:
                by_pool[option.pool_slot] = by_pool.get(option.pool_slot, 0) + starts
                cost += room.toll_pools[option.pool_slot] * starts
        if option.stale:
            stale_kept += min(running, n)
            stale_starts += max(0, starts)
        whole = option.whole
        if whole:
            free = min(n, room.free_agents(option.key, whole))
            cost -= max(option.free - room.toll_free.get(option.key, 0.0) / whole, 0.0) * free
            money -= option.free * free
        if option.spot:
            spot += n
            by_zone[option.zone] = by_zone.get(option.zone, 0) + n
            if option.low:
                low_zone[option.zone] = low_zone.get(option.zone, 0) + option.low
        elif by_cloud is not None:
            by_cloud[option.cloud] += n if entry.keep_agents else option.speed * n
        if speed_by_cloud is not None:
            speed_by_cloud[option.cloud] += option.speed * n
        if n > option.high:
            broken += n - option.high
    # A room that other workloads overdrew by the facts (held, frozen) takes no starts and blames nobody.
    for slot, starts in by_scope.items():
        if starts > room.scopes[slot]:
            broken += starts - max(room.scopes[slot], 0)
    for slot, starts in by_pool.items():
        if starts > room.pools[slot]:
            broken += starts - max(room.pools[slot], 0)
    if agents > entry.maximum:
        broken += agents - max(entry.maximum, entry.low_total)
    if spot:
        allowed = max(floor(entry.share * (agents - entry.spot_base) + EPSILON), entry.low_spot)
        if spot > allowed:
            broken += spot - allowed
        if len(entry.zones) > 1:
            most = (spot + 1) // 2
            for zone, n in by_zone.items():
                if n > most and n > low_zone.get(zone, 0):
                    broken += n - most
    if entry.pool_caps or entry.index in room.closed:
        broken += _pools_broken(entry, counts, room)

    running = entry.running
    cost += room.toll_money * money
    moves = min(agents, running) - kept
    cost += entry.move * moves
    if entry.stale_running or stale_starts:
        from_stale = entry.stale_running - stale_kept - max(running - agents, 0)
        to_stale = stale_starts - max(agents - running, 0)
        cost += entry.stale_cost * (max(from_stale, 0) + max(to_stale, 0))

    survive = 0.0
    if entry.keep and by_cloud is not None:
        by_cloud.sort(reverse=True)
        survive = entry.keep - sum(by_cloud[entry.lose :])
    demand = 1.0 - cover / entry.need if cover < entry.need - TOLERANCE else 0.0
    if agents < entry.floor:
        demand = max(demand, 1.0 - agents / entry.floor)
    weights = 0.0
    if speed_by_cloud is not None:
        weights = sum(
            want - have for want, have in zip(entry.weights, speed_by_cloud, strict=True) if have < want - TOLERANCE
        )
    excess = money - room.money
    return (
        broken,
        entry.minimum - agents if agents < entry.minimum else 0.0,
        excess if excess > TOLERANCE else 0.0,
        survive if survive > TOLERANCE else 0.0,
        demand,
        weights,
        cost,
    )


def _pools_broken(entry: Entry, counts: Counts, room: Room) -> float:
    """How far over what single pools may hold of this workload."""
    held: dict[str, int] = {}
    low: dict[str, int] = {}
    for j, n in counts.items():
        option = entry.options[j]
        held[option.pool] = held.get(option.pool, 0) + n
        low[option.pool] = low.get(option.pool, 0) + option.low
    closed = room.closed.get(entry.index, ())
    over = 0.0
    for pool, n in held.items():
        cap = 0 if pool in closed else entry.pool_caps.get(pool, n)
        over += max(n - max(cap, low[pool]), 0)
    return over
