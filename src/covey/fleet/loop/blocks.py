"""What lately had no room: blocked for minutes, longer each time it fails again, until something starts there. Pure.

A block is about a scope and a shape; a shape "" is a quota or a right, and blocks the scope whatever the shape. A
block's memory outlives it (`until` is past, `failures` stays), so that the next failure waits longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec.structs import replace

from covey.fleet.model import Block, LaunchFailure, Offering, PoolView

__all__ = ["BACK_OFF", "active", "blocked", "stillborn", "update"]

BACK_OFF: Final = (180.0, 300.0, 600.0, 1200.0, 1800.0)
"""s; 3 minutes, then 5 to 30 (FLEET 2, Act; Karpenter's 3 minutes, Cluster Autoscaler's 5 to 30)."""
REMEMBERED: Final = 3600.0
"""s after its end that a block is remembered."""
SKEW: Final = 5.0
"""s by which a provider's clock may be ahead of ours when its agents' age is compared with a failure's."""


def update(
    blocks: tuple[Block, ...],
    failures: Iterable[LaunchFailure],
    views: Mapping[str, PoolView],
    now: float,
) -> tuple[Block, ...]:
    """With the new failures (`failures` and those in `views`), and without those that something has started in
    since."""
    known = {(block.scope, block.shape): block for block in blocks}
    told = list(failures)
    for view in views.values():
        told += view.failures
    if not known and not told:
        return ()
    for failure in told:
        place = (failure.scope, failure.shape)
        before = known.get(place)
        if before is not None and failure.at <= before.at:
            continue  # the same one again: providers report it on every look
        failed = 0 if before is None else before.failures
        known[place] = Block(
            scope=failure.scope,
            shape=failure.shape,
            at=failure.at,
            until=failure.at + BACK_OFF[min(failed, len(BACK_OFF) - 1)],
            failures=failed + 1,
            reason=failure.reason,
        )
    started = _started(views)
    for place, block in known.items():
        if block.failures and started.get(place, -1.0) > block.at + SKEW:
            known[place] = replace(block, until=min(block.until, now), failures=0)
    return tuple(block for block in known.values() if now - block.until < REMEMBERED)


def _started(views: Mapping[str, PoolView]) -> dict[tuple[str, str], float]:
    """By scope and shape, and by scope alone: when the newest agent there was started."""
    newest: dict[tuple[str, str], float] = {}
    for view in views.values():
        offerings: dict[str, Offering] = {
            offering.key: offering for offered in view.offerings.values() for offering in offered
        }
        for agent in view.agents:
            offering = offerings.get(agent.offering)
            if offering is None or agent.state != "ready":
                continue
            for place in ((offering.scope, offering.shape), (offering.scope, "")):
                newest[place] = max(newest.get(place, -1.0), agent.started_at)
    return newest


def stillborn(blocks: Iterable[Block], views: Mapping[str, PoolView], now: float) -> frozenset[str]:
    """`POOL/ID` of agents that have no machine and were ordered before their scope and shape were found without room.
    Left alone, some would come in hours, when what was started in their place has long been running."""
    closed = {(block.scope, block.shape): block.at for block in blocks if block.until > now}
    if not closed:
        return frozenset()
    found = set()
    for pool, view in views.items():
        offerings = {offering.key: offering for offered in view.offerings.values() for offering in offered}
        for agent in view.agents:
            offering = offerings.get(agent.offering) if agent.unplaced and view.control else None
            if offering is None:
                continue
            at = max(closed.get((offering.scope, shape), -1.0) for shape in (offering.shape, ""))
            if at + SKEW >= agent.started_at:
                found.add(f"{pool}/{agent.id}")
    return frozenset(found)


def active(blocks: Iterable[Block], now: float) -> tuple[Block, ...]:
    """Those that hold now."""
    return tuple(block for block in blocks if block.until > now)


def blocked(blocks: Iterable[Block], now: float) -> dict[tuple[str, str], str]:
    """By scope and shape, why: what a placement is told."""
    return {
        (block.scope, block.shape): f"{block.reason} (blocked for {block.until - now:.0f} s more)"
        for block in blocks
        if block.until > now
    }
