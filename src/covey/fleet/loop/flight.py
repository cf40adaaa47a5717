"""What was ordered and is not seen yet: when it is over, when it failed, when to order it again. Pure.

An order to start counts as taken from the moment it is written, so that nothing is started twice for one need; until
its launch time-out, after which it was a capacity failure. An agent that is being removed counts as gone from the
moment that is written. A look says something about an order only if it began after the order's last word.

What is still to come is kept by offering (`Launch`) and not by intent: sizes are absolute, so a newer order contains
the older ones. Arrivals are told by their ids, which are never used again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from covey.fleet.model import Agent, InFlight, LaunchFailure, Offering, PoolView, Step

__all__ = ["LAUNCH_SECONDS", "Flights", "Launch", "Launches", "Settled", "follow", "launched"]

LAUNCH_SECONDS: Final = 300.0
"""Launch time-out (FLEET 2, Act; the same in Karpenter): ordered and not seen for so long is a capacity failure."""
REMOVAL_SECONDS: Final = 300.0
"""An agent that is still there so long after it was to go counts again."""
QUEUE_SECONDS: Final = 15.0
"""A removal that waited so long for its call was decided on what is no longer so, and is decided anew."""


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """What one workload has on its way in one offering."""

    batches: tuple[tuple[float, int], ...]
    """When ordered, how many are still to come; oldest first."""
    known: frozenset[str]
    """Ids that were there when it was ordered, and those that came since."""

    @property
    def coming(self) -> int:
        return sum(count for _, count in self.batches)


Launches = dict[tuple[str, str], Launch]
"""By workload and offering."""


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """An intent that is over."""

    intent: int
    outcome: str
    """`seen`, `superseded`, `refused`, `failed` (time-out)."""
    detail: str = ""


class Flights(msgspec.Struct, frozen=True, kw_only=True):
    """The orders as they stand."""

    open: tuple[InFlight, ...]
    """Still under way, `missing` filled in."""
    settled: tuple[Settled, ...]
    failures: tuple[LaunchFailure, ...]
    """New ones, each told once."""
    launches: Launches
    leaving: frozenset[str]
    """`POOL/ID` of agents that are being drained or removed, also where no look shows it yet."""
    again: tuple[InFlight, ...]
    """Of `open`, those to be called again if they are still wanted."""


def launched(launches: Launches, step: Step, agents: Iterable[Agent], now: float) -> Launches:
    """With the order of `step` (a `scale`), decided on `agents`."""
    there = [agent for agent in agents if agent.workload == step.workload and agent.offering == step.offering]
    place = (step.workload, step.offering)
    old = launches.get(place, Launch(batches=(), known=frozenset()))
    more = step.size - sum(1 for agent in there if agent.state != "draining") - old.coming
    if more <= 0:
        return launches
    known = old.known | {agent.id for agent in there}
    return launches | {place: Launch(batches=(*old.batches, (now, more)), known=known)}


def follow(launches: Launches, in_flight: Iterable[InFlight], views: Mapping[str, PoolView], now: float) -> Flights:
    """Every order against what is seen of its pool."""
    orders = list(in_flight)
    scales = {(order.step.workload, order.step.offering): order for order in orders if order.step.kind == "scale"}
    left: Launches = {}
    failures: list[LaunchFailure] = []
    for place, launch in launches.items():
        order = scales.get(place)
        if order is None or order.refused is not None:
            continue  # nobody is to start it any more
        now_left, late = _arrivals(launch, place, views, now)
        if late:
            failures.append(_too_late(order, views.get(order.step.pool), late, now))
        if now_left.coming:
            left[place] = now_left
    still: list[InFlight] = []
    settled: list[Settled] = []
    for order in orders:
        view = views.get(order.step.pool)
        if order.refused is not None:
            failures.append(order.refused)
            settled.append(Settled(intent=order.intent, outcome="refused", detail=order.detail))
            continue
        over = (
            _launch_over(order, scales, left, failures, view)
            if order.step.kind == "scale"
            else _removal_over(order, view, now)
        )
        if over is not None:
            settled.append(over)
            continue
        place = (order.step.workload, order.step.offering)
        newest = order.step.kind == "scale" and scales[place].intent == order.intent
        still.append(replace(order, missing=left[place].coming if newest and place in left else 0))
    return Flights(
        open=tuple(still),
        settled=tuple(settled),
        failures=tuple(failures),
        launches=left,
        leaving=frozenset(
            f"{order.step.pool}/{agent}" for order in still if order.step.kind != "scale" for agent in order.step.ids
        ),
        again=tuple(order for order in still if _due(order, views.get(order.step.pool), now)),
    )


def _arrivals(launch: Launch, place: tuple[str, str], views: Mapping[str, PoolView], now: float) -> tuple[Launch, int]:
    """What is left of it, and how many did not come in time. While a pool's control is lost nothing is late: nobody
    can see whether they came."""
    workload, offering = place
    view = views.get(offering.partition("/")[0])
    if view is None or not view.control:
        return launch, 0
    new = {
        agent.id
        for agent in view.agents
        if agent.offering == offering and agent.workload == workload and agent.id not in launch.known
    }
    arrived, late = len(new), 0
    batches = []
    for at, count in launch.batches:
        here = min(count, arrived)
        arrived -= here
        if count == here:
            continue
        if now - at >= LAUNCH_SECONDS:
            late += count - here
        else:
            batches.append((at, count - here))
    return Launch(batches=tuple(batches), known=launch.known | new if new else launch.known), late


def _too_late(order: InFlight, view: PoolView | None, late: int, now: float) -> LaunchFailure:
    offering = find_offering(view, order.step.workload, order.step.offering)
    return LaunchFailure(
        scope=offering.scope if offering is not None else order.step.offering,
        shape=offering.shape if offering is not None else "",
        at=now,
        reason=f"{late} agents were ordered and not seen within {LAUNCH_SECONDS:g} s",
        workload=order.step.workload,
    )


def find_offering(view: PoolView | None, workload: str, key: str) -> Offering | None:
    """By its key, as last seen."""
    for offering in view.offerings.get(workload, ()) if view is not None else ():
        if offering.key == key:
            return offering
    return None


def _launch_over(
    order: InFlight,
    newest: Mapping[tuple[str, str], InFlight],
    left: Launches,
    failures: Iterable[LaunchFailure],
    view: PoolView | None,
) -> Settled | None:
    place = (order.step.workload, order.step.offering)
    if order.queued:
        return None
    if newest[place].intent != order.intent:
        return Settled(intent=order.intent, outcome="superseded", detail="a newer order says another size")
    if place in left:
        return None
    late = [failure for failure in failures if failure.workload == order.step.workload]
    if late:
        return Settled(intent=order.intent, outcome="failed", detail=late[0].reason)
    return Settled(intent=order.intent, outcome="seen")


def _removal_over(order: InFlight, view: PoolView | None, now: float) -> Settled | None:
    if order.queued and (order.tries > 0 or now - order.at < QUEUE_SECONDS):
        return None
    if order.tries == 0:
        return Settled(intent=order.intent, outcome="superseded", detail="not begun in time, decided anew")
    if _informs(order, view):
        assert view is not None
        there = {agent.id: agent.state for agent in view.agents}
        goal = ("draining", None) if order.step.kind == "drain" else (None,)
        if all(there.get(agent) in goal for agent in order.step.ids):
            return Settled(intent=order.intent, outcome="seen")
        if not order.accepted and (order.again_at is None or now >= order.again_at):
            return Settled(intent=order.intent, outcome="superseded", detail=f"decided anew: {order.detail}")
    if now - order.changed_at >= REMOVAL_SECONDS:
        return Settled(intent=order.intent, outcome="failed", detail="they are still there")
    return None


def _informs(order: InFlight, view: PoolView | None) -> bool:
    """Did the look begin after the order's last word, and did it see anything?"""
    return view is not None and view.control and view.at > order.changed_at


def _due(order: InFlight, view: PoolView | None, now: float) -> bool:
    """To be called (again): nobody is calling, the provider did not say yes, its time has come, and we looked since."""
    return (
        order.step.kind == "scale"
        and not order.queued
        and not order.accepted
        and (order.again_at is None or now >= order.again_at)
        and _informs(order, view)
    )
