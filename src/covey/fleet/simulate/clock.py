"""Virtual time: a trace runs through a world, and a pilot decides.

A second is a step; stretches in which nothing happens and nobody decides are one call of the inner loop.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Protocol

from covey.fleet.simulate.world import BACKLOG_LIMIT, Figures, World

__all__ = ["Pilot", "run"]


class Pilot(Protocol):
    """Whatever decides. `turn` is called at 0 and every `every` s."""

    every: int

    def turn(self, world: World) -> None: ...


def run(world: World, pilot: Pilot, arrivals: array[int], record: Callable[[World], None] | None = None) -> Figures:
    """The whole trace. `record` is called after each turn, for plots."""
    seconds = len(arrivals)
    next_turn = 0
    now = 0
    figures = world.figures
    while now < seconds:
        world.now = now
        if world.next_event <= now:
            world.happen()
        if now >= next_turn or world.woken:
            world.woken = False
            pilot.turn(world)
            next_turn = now + pilot.every
            if record is not None:
                record(world)
        until = min(seconds, next_turn, max(now + 1, _whole(world.next_event)))
        _serve(world, figures, arrivals[now:until])
        now = until
    world.now = seconds
    world.pay()
    figures.seconds = seconds
    return figures


def _serve(world: World, figures: Figures, arrivals: array[int]) -> None:
    """Seconds without a change: the inner loop of everything, 0.1 us each."""
    backlog, capacity = world.backlog, world.capacity
    limit = BACKLOG_LIMIT * capacity
    served = 0.0
    violated = 0
    for count in arrivals:
        if backlog > limit or capacity <= 0:
            violated += count
        backlog += count
        if backlog > capacity:
            served += capacity
            backlog -= capacity
        else:
            served += backlog
            backlog = 0.0
    total = sum(arrivals)
    figures.requests += total
    figures.violated += violated
    world.arrived += total
    world.served += served
    world.offered += capacity * len(arrivals)
    world.backlog = backlog


def _whole(when: float) -> int:
    """The first second at or after a moment."""
    return int(when) if when == int(when) else int(when) + 1
