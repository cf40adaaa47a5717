"""The placement problem as numbers: what every solver solves.

`compile_problem` decides which offerings a workload may use at all (and says why not), and turns the rest of the rules
into bounds and weights. Both solvers take these numbers, so both solve one and the same model:

    for each workload i and usable offering j an integer n[i,j] with low <= n <= high
    max:       sum_j n <= max
    room:      starts (n above what runs) within the room of each scope and pool
    spot:      spot <= floor(share x (N - base)); in no zone more than half of it, rounded up, where there are two
    lexicographically least: missing of `min`, USD over the budget, missing of `survive`, missing demand by priority,
    missing of `weights`, cost

`low` is above 0 for agents that are held or in a frozen pool. Those bounds are facts and win over the spot rules.
"""

from __future__ import annotations

from math import inf

from covey.fleet.model import Offering
from covey.fleet.placing.costs import cost_parts, on_demand_prices, total
from covey.fleet.placing.problem import Item, Problem
from covey.fleet.placing.shapes import architecture
from covey.fleet.spec.types import Workload

__all__ = ["Entry", "Model", "Option", "compile_problem", "forbidden"]

UNLIMITED = 1 << 30
"""No bound on agents."""

UNKNOWN_FACTOR = 10.0
"""An unknown price counts as so many times the dearest known one of its workload: taken when nothing else serves."""

STALE_FACTOR = 2.0
"""A move that only a stale price speaks for costs so many times the dearest price: it never pays."""


PREFER_FACTOR = 3.0
"""An agent outside the preferred pools costs so many times the dearest price more: preference wins over price, and over
stale prices too."""


class Option:
    """One offering that a workload may use."""

    __slots__ = (
        "cloud",
        "free",
        "growth",
        "high",
        "key",
        "low",
        "money",
        "offering",
        "parts",
        "pool",
        "pool_slot",
        "price",
        "rank",
        "running",
        "scope_slot",
        "speed",
        "spot",
        "stale",
        "whole",
        "zone",
    )

    def __init__(self, offering: Offering, running: int) -> None:
        self.offering = offering
        self.key = offering.key
        self.running = running
        self.low = 0
        self.high = UNLIMITED
        self.growth = ""
        """Why it may not grow, or "" """
        self.price = 0.0
        """What the solver minimises, USD/h for one agent: the cost, plus what stands for preference and ignorance."""
        self.money = 0.0
        """What counts against the budget: list price and egress."""
        self.free = 0.0
        """List price that an agent on room already paid for saves."""
        self.parts: dict[str, float | None] = {}
        self.speed = offering.speed
        self.spot = offering.spot
        self.pool = offering.pool
        self.cloud = 0
        self.zone = -1
        """For spot: the index of its zone, -1 on demand."""
        self.scope_slot = -1
        """Index of its scope among those whose room is known, -1 when it is not."""
        self.pool_slot = -1
        self.stale = False
        self.whole = offering.marginal_room
        """Agents that fit on room that is paid for already."""
        self.rank = 0
        """Its pool's place in the spec's order; breaks ties."""


class Entry:
    """One workload in numbers."""

    __slots__ = (
        "clouds",
        "fixed",
        "floor",
        "index",
        "item",
        "keep",
        "keep_agents",
        "kept_forbidden",
        "lose",
        "low_spot",
        "low_total",
        "maximum",
        "minimum",
        "money_fixed",
        "move",
        "name",
        "need",
        "options",
        "pool_caps",
        "priority",
        "rejected",
        "running",
        "share",
        "spot_base",
        "stale_cost",
        "stale_running",
        "weights",
        "zones",
    )

    def __init__(self, index: int, item: Item) -> None:
        workload = item.workload
        self.index = index
        self.item = item
        self.name = workload.name
        self.priority = workload.priority
        self.options: list[Option] = []
        self.rejected: dict[str, str] = {}
        """By offering: why it may not be used at all."""
        self.kept_forbidden: dict[str, str] = {}
        """By offering: why its agents should not be there, though its pool is frozen and keeps them."""
        self.fixed: dict[str, int] = {}
        """Agents in suspended clouds: left alone, counted nowhere but in the cost."""
        self.money_fixed = 0.0
        self.minimum = min(workload.replicas.min, workload.replicas.max)
        self.maximum = workload.replicas.max
        self.need = max(item.demand, 0.0)
        self.floor = min(item.floor, self.maximum)
        self.clouds: list[str] = []
        self.zones: list[tuple[str, str, str]] = []
        self.keep = 0.0
        """What `survive` keeps, in agents if `keep_agents`, else in standard agents."""
        self.keep_agents = True
        self.lose = 0
        """How many clouds may vanish at once; 0: none (one is lost already), yet spot still counts 0."""
        self.share = workload.place.spot.max_share
        self.spot_base = workload.place.spot.base_on_demand
        self.low_spot = 0
        self.low_total = 0
        self.weights: list[float] = []
        """By cloud: standard agents wanted there; empty without weights."""
        self.pool_caps = {pool: cap for pool, cap in workload.place.max_per_pool.items() if cap < self.maximum}
        self.move = item.move_cost / max(item.horizon, 1e-3)
        self.running = 0
        self.stale_running = 0
        self.stale_cost = 0.0


class Model:
    """All workloads in numbers, and what they share."""

    __slots__ = ("entries", "limit", "pool_room", "problem", "scope_room")

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.entries: list[Entry] = []
        self.scope_room: list[int] = []
        self.pool_room: list[int] = []
        self.limit = inf
        """USD per hour that the plan may cost; what `min` and held agents need goes beyond it."""


def compile_problem(problem: Problem) -> Model:
    """The numbers of `problem`, the same for every solver."""
    model = Model(problem)
    scopes: dict[str, int] = {}
    pools: dict[str, int] = {}
    for index, item in enumerate(problem.items):
        entry = Entry(index, item)
        _options(entry, problem)
        _prices(entry)
        _survive(entry, problem)
        _weights(entry)
        for option in entry.options:
            room = problem.room.get(option.offering.scope)
            if room is not None:
                option.scope_slot = _slot(scopes, option.offering.scope, room, model.scope_room)
            room = problem.pool_room.get(option.pool)
            if room is not None:
                option.pool_slot = _slot(pools, option.pool, room, model.pool_room)
        model.entries.append(entry)
    model.limit = _limit(model)
    return model


def _slot(slots: dict[str, int], name: str, room: int, rooms: list[int]) -> int:
    if name not in slots:
        slots[name] = len(rooms)
        rooms.append(max(room, 0))
    return slots[name]


def _options(entry: Entry, problem: Problem) -> None:
    """Fill in which offerings the workload may use, and the bounds of each."""
    item = entry.item
    place = item.workload.place
    ranks = {pool: rank for rank, pool in enumerate(place.pools)}
    clouds: dict[str, int] = {}
    zones: dict[tuple[str, str, str], int] = {}
    for offering in item.offerings:
        key = offering.key
        labels = item.labels.get(offering.pool, {})
        cloud = offering.cloud or labels.get("cloud", "")
        running = item.running.get(key, 0)
        if not running and not item.changed:
            continue  # it stays what it is: only what runs takes room
        if cloud in problem.suspended:
            entry.rejected[key] = f"cloud {cloud} is suspended: it takes nothing and what runs there counts 0"
            if running:
                entry.fixed[key] = running
                entry.money_fixed += running * ((offering.price or 0.0) + (offering.egress or 0.0))
            continue
        frozen = offering.pool in problem.frozen and offering.pool not in problem.closing
        why = forbidden(item.workload, offering, labels)
        if offering.pool in problem.closing:
            why = why or f"pool {offering.pool} is being drained"
        if why and not (frozen and running):
            entry.rejected[key] = why
            continue
        if why:
            entry.kept_forbidden[key] = why
        option = Option(offering, running)
        option.low, option.high, option.growth = _bounds(item, problem, offering, running, frozen)
        if option.high <= 0:
            entry.rejected[key] = option.growth
            continue
        option.rank = ranks.get(option.pool, len(ranks))
        option.cloud = clouds.setdefault(cloud, len(clouds))
        if option.spot:
            zone = (cloud, offering.region or offering.pool, offering.zone)
            option.zone = zones.setdefault(zone, len(zones))
            entry.low_spot += option.low
        entry.low_total += option.low
        option.stale = key in problem.stale_prices
        entry.running += running
        entry.stale_running += running if option.stale else 0
        entry.options.append(option)
    entry.clouds = list(clouds)
    entry.zones = list(zones)


def forbidden(workload: Workload, offering: Offering, labels: dict[str, str]) -> str:
    """Why this workload may never use this offering, or ""."""
    place, resources = workload.place, workload.resources
    if place.pools and offering.pool not in place.pools:
        return f"pool {offering.pool} is not among the workload's pools"
    if place.jurisdictions:
        jurisdiction = offering.jurisdiction or labels.get("jurisdiction", "")
        if jurisdiction not in place.jurisdictions:
            return f"jurisdiction {jurisdiction or 'unknown'} is not {' or '.join(place.jurisdictions)}"
    for label, value in place.labels.items():
        if labels.get(label) != value:
            return f"label {label} is {labels.get(label, 'missing')}, not {value}"
    arch = offering.arch or architecture(offering.shape)
    if arch not in resources.arch:
        return f"architecture {arch} is not asked for"
    if offering.gpu < resources.gpu:
        return f"has {offering.gpu} GPUs and {resources.gpu} are asked for"
    if resources.gpu == 0 and (offering.gpu or "gpu" in offering.special):
        return "has a GPU, which is not asked for"
    for special in offering.special:
        if special != "gpu" and special not in resources.special:
            return f"is {special}, which is not asked for"
    if offering.spot and place.spot.max_share <= 0:
        return "spot is not allowed"
    if not offering.speed > 0:
        return "its speed is 0"
    return ""


def _bounds(item: Item, problem: Problem, offering: Offering, running: int, frozen: bool) -> tuple[int, int, str]:
    """Least and most agents at one usable offering, and why it may not grow."""
    if frozen:
        return running, running, f"pool {offering.pool} is frozen"
    low = min(item.held.get(offering.key, 0), running)
    for shape in (offering.shape, ""):
        reason = problem.blocked.get((offering.scope, shape))
        if reason is not None:
            return low, running, f"blocked: {reason}" if reason else "blocked after a failed start"
    if offering.room is not None:
        return low, running + max(offering.room, 0), f"room for {max(offering.room, 0)} more"
    return low, UNLIMITED, ""


def _prices(entry: Entry) -> None:
    """What each option costs, and what unknown prices, preference and stale prices stand for in the objective."""
    item = entry.item
    prefer = item.workload.place.prefer
    on_demand = on_demand_prices(item.offerings)
    known: list[float] = []
    totals: list[float | None] = []
    for option in entry.options:
        option.parts = cost_parts(item.workload, option.offering, item.move_cost, on_demand)
        cost = total(option.parts)
        totals.append(cost)
        if cost is not None:
            known.append(cost)
    dearest = max(known, default=0.0) or 1.0
    for option, cost in zip(entry.options, totals, strict=True):
        listed = option.offering.price
        if cost is None:
            slow = max(option.speed / other.speed for other in entry.options)
            option.price = UNKNOWN_FACTOR * dearest * max(slow, 1.0)
            option.money = max(known, default=0.0) + (option.offering.egress or 0.0)
        else:
            option.price = cost
            option.money = (listed or 0.0) + (option.offering.egress or 0.0)
            option.free = listed or 0.0
        if prefer and option.pool not in prefer:
            option.price += PREFER_FACTOR * dearest
    entry.stale_cost = STALE_FACTOR * dearest


def _survive(entry: Entry, problem: Problem) -> None:
    survive = entry.item.workload.place.survive
    if survive is None:
        return
    entry.lose = max(survive.clouds - len(problem.suspended), 0)
    entry.keep_agents = survive.keep == "min"
    entry.keep = float(entry.minimum) if survive.keep == "min" else survive.keep * entry.need


def _weights(entry: Entry) -> None:
    weights = entry.item.workload.traffic.weights
    whole = sum(weights.values())
    if whole > 0:
        for cloud in weights:
            if cloud not in entry.clouds:
                entry.clouds.append(cloud)
        entry.weights = [entry.need * weights.get(cloud, 0.0) / whole for cloud in entry.clouds]


def _limit(model: Model) -> float:
    """The budget less what is kept for new-before-old; what runs within the budget is not asked to shrink for that
    reserve."""
    budget = model.problem.budget
    if budget is None:
        return inf
    running = sum(option.money * option.running for entry in model.entries for option in entry.options)
    fixed = sum(entry.money_fixed for entry in model.entries)
    return max(budget.hourly_usd * (1 - budget.reserve), min(budget.hourly_usd, running + fixed)) - fixed
