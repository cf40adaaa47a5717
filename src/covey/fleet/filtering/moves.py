"""When replacing an agent elsewhere is worth it, and by what right.

======== ============================================ ===== ===========
right    when                                         score move budget
======== ============================================ ===== ===========
repair   a hard constraint does not hold where it is  no    no
order    somebody drains its pool                     no    no
demand   at `max`, only faster agents help            no    yes
fail-back a configured preference (`prefer`, weights) no    yes
saving   it is cheaper elsewhere                      yes   yes
======== ============================================ ===== ===========
"""

from __future__ import annotations

from math import ceil
from typing import Final

from covey.fleet.filtering.brakes import Purse
from covey.fleet.filtering.situation import EPSILON, Situation
from covey.fleet.filtering.types import Moved, move_usd
from covey.fleet.health import RETURN_AFTER
from covey.fleet.model import Cause
from covey.fleet.placing.rules import forbidden

__all__ = ["AGAIN_AFTER", "Deal", "deals", "judge_saving", "right"]

HORIZON_H: Final = 4.0
"""h over which a saving may earn back what the move costs (FLEET 2)."""

PAYS_TIMES: Final = 2.0
"""A saving must be this many times the one-off cost (FLEET 2; Karpenter's k = 2)."""

SAVING_SHARE: Final = 0.15
"""Of the agent's price: less is not worth a move (FLEET 2)."""

AGAIN_AFTER: Final = 3600.0
"""s in which what was moved is not moved again to save (FLEET 2)."""


class Deal:
    """Some old agents at one offering against some new ones at another: the smallest whole exchange."""

    __slots__ = ("new", "old", "source", "target")

    def __init__(self, source: str, old: int, target: str, new: int) -> None:
        self.source = source
        self.old = old
        self.target = target
        self.new = new


def deals(s: Situation, ups: dict[str, int], downs: dict[str, int], prices: dict[str, float | None]) -> list[Deal]:
    """Exchanges that together lead from `downs` to `ups`: what is forbidden where it is first, then the dearest
    against the cheapest. What finds no partner is left in `ups` and `downs`."""

    def dear(key: str) -> float:
        price = prices.get(key)
        return (price if price is not None else 0.0) / max(s.speed(key), EPSILON)

    sources = sorted(downs, key=lambda key: (not must_leave(s, key), -dear(key), key))
    targets = sorted(ups, key=lambda key: (dear(key), key))
    found: list[Deal] = []
    for source in sources:
        for target in targets:
            while downs[source] > 0 and ups[target] > 0:
                ratio = s.speed(source) / max(s.speed(target), EPSILON)
                if ratio >= 1:
                    old, new = 1, min(ceil(ratio - EPSILON), ups[target])
                else:
                    old, new = min(max(1, int(1 / ratio + EPSILON)), downs[source]), 1
                downs[source] -= old
                ups[target] -= new
                found.append(Deal(source, old, target, new))
    for counts in (ups, downs):
        for key in [key for key, count in counts.items() if count <= 0]:
            del counts[key]
    return found


def must_leave(s: Situation, key: str) -> str:
    """Why no agent may stay at this offering, or ""."""
    pool = s.pool(key)
    if pool in s.given.orders.draining_pools:
        return f"pool {pool} is drained by order"
    return is_forbidden(s, key)


def is_forbidden(s: Situation, key: str) -> str:
    """Why the spec does not allow this offering any more, or ""."""
    offering = s.offerings.get(key)
    if offering is None:
        return ""
    pool = s.given.spec.pools.get(offering.pool)
    labels = s.given.labels.get(offering.pool) or (pool.labels if pool is not None else {})
    return forbidden(s.workload, offering, labels)


def right(s: Situation, deal: Deal) -> tuple[Cause, str]:
    """By what right agents are replaced, and why."""
    source, target = s.pool(deal.source), s.pool(deal.target)
    why = is_forbidden(s, deal.source)
    if why:
        return "repair", why
    if source in s.given.orders.draining_pools:
        return "order", f"pool {source} is drained by order"
    cap = s.workload.place.max_per_pool.get(source)
    if cap is not None and s.in_pool(source) > cap:
        return "repair", f"max_per_pool of {source} is {cap}"
    apart = s.cloud(deal.source) != s.cloud(deal.target)
    if (apart or s.is_spot(deal.source)) and s.survive_broken():
        return "repair", "survive does not hold"
    place = s.workload.place
    if place.prefer and target in place.prefer and source not in place.prefer:
        return "fail-back", f"{target} is preferred"
    if s.workload.traffic.weights and apart:
        return "fail-back", "the weights of clouds ask for it"
    if s.target_speed > s.present_speed + EPSILON and s.count >= s.workload.replicas.max:
        return "demand", "max is reached and faster agents cover more"
    return "saving", ""


def judge_fail_back(s: Situation, deal: Deal) -> str:
    """Why not to return there yet, or ""."""
    pool = s.pool(deal.target)
    health = s.given.health.pools.get(pool)
    healthy = health.healthy_for(s.given.now) if health is not None else 0.0
    if healthy < RETURN_AFTER:
        return f"{pool} has been healthy for {healthy:.0f} s of {RETURN_AFTER:.0f}"
    return ""


def judge_saving(
    s: Situation, deal: Deal, prices: dict[str, float | None], purse: Purse, moved: tuple[Moved, ...]
) -> tuple[float, str]:
    """USD per hour that it saves, and why it is not worth it, or ""."""
    for key in (deal.source, deal.target):
        if key in s.given.stale_prices:
            return 0.0, f"the price of {key} is stale"
    old_price, new_price = prices.get(deal.source), prices.get(deal.target)
    if old_price is None or new_price is None:
        return 0.0, f"the price of {deal.source if old_price is None else deal.target} is not known"
    if s.workload.place.prefer and s.pool(deal.source) in s.workload.place.prefer:
        return 0.0, f"{s.pool(deal.source)} is preferred"
    if s.workload.place.survive is not None and s.given.health.suspended:
        # The constraint is suspended, its reason is not: now the cheapest plan is one cloud for all that is left.
        return 0.0, f"cloud {min(s.given.health.suspended)} is down, and survive waits for it"
    pool = s.given.health.pools.get(s.pool(deal.target))
    if pool is not None and pool.returned_at is not None and s.given.now - pool.returned_at < RETURN_AFTER:
        away = s.given.now - pool.returned_at
        return 0.0, f"{s.pool(deal.target)} came back {away:.0f} s ago, {RETURN_AFTER:.0f} are waited"
    fresh = sum(each.count for each in moved if each.workload == s.name and each.target == deal.source)
    if s.present.get(deal.source, 0) - s.removed.get(deal.source, 0) - deal.old < fresh:
        return 0.0, "it came there by a move within the hour"
    if purse.is_free(s.name, deal.source, 0):
        old_price -= _list_price(s, deal.source)
    if purse.is_free(s.name, deal.target, deal.new):
        new_price -= _list_price(s, deal.target)
    old_usd, new_usd = deal.old * old_price, deal.new * new_price
    saving = old_usd - new_usd
    if saving < SAVING_SHARE * old_usd or saving <= 0:
        share = saving / old_usd if old_usd > 0 else 0.0
        return saving, f"saves {share:.0%} of {old_usd:.4g} USD/h, and {SAVING_SHARE:.0%} are asked"
    workload = s.workload
    double = (new_usd * workload.cold_start + old_usd * workload.grace) / 3600
    once = deal.old * move_usd(workload.move_cost) + double
    offering = s.offerings.get(deal.target)
    life = HORIZON_H
    if offering is not None and offering.spot and offering.preemptions > 0:
        life = min(life, 1 / offering.preemptions)
    if saving * life < PAYS_TIMES * once:
        return saving, f"saves {saving * life:.4g} USD in {life:.1f} h, and a move costs {once:.4g}"
    return saving, ""


def _list_price(s: Situation, key: str) -> float:
    offering = s.offerings.get(key)
    return offering.price or 0.0 if offering is not None else 0.0
