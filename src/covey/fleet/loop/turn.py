"""One turn of the loop, pure: from what was seen and what is remembered to what to do and why.

::

    settle (what was ordered: seen, failed, to be ordered again)
      -> judge health -> demand -> place -> sift -> route -> a record for each workload

No clock, no randomness, no I/O: equal arguments give equal results, so that the simulator, `plan` and the controller
run the very same code, and a recorded turn can be played again. The caller writes what comes out (state, decisions,
steps) in one transaction before it acts on any of it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec.structs import replace

from covey.fleet.loop.flight import Launch, Launches, Settled, follow, launched
from covey.fleet.model import Agent, Block, Decision, InFlight, Orders, PoolView, Reading, Route, Step, Wanted
from covey.fleet.spec.types import Spec, Workload

__all__ = ["TURN_SECONDS", "Seen", "TurnState", "Turned", "WorkloadState", "turn"]

TURN_SECONDS: Final = 5.0
"""Between turns, unless an event asks for one sooner (FLEET 2); a spec's `controller.tick` says otherwise."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that came from outside since the last turn, and what stands."""

    views: dict[str, PoolView]
    """By pool, the newest look at each; a pool without one was never reached."""
    readings: dict[str, tuple[dict[str, Reading], ...]] = {}
    """By workload: for each of its targets, in order, the newest reading of each part."""
    orders: Orders = Orders()
    in_flight: tuple[InFlight, ...] = ()
    """What was ordered and not settled by an earlier turn, oldest first."""
    hold: bool = False
    """This controller just started or took over: nothing may be removed for lack of demand until history covers it."""


class WorkloadState(msgspec.Struct, frozen=True, kw_only=True):
    """What one workload's next turn must know."""

    policy: str = ""
    demand: Any = None
    """Of the policy's own type."""
    wanted: Wanted | None = None
    launches: dict[str, Launch] = {}
    """By offering, what is on its way."""


class TurnState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is remembered between turns; `loop.memory` makes JSON of it."""

    turn: int = 0
    workloads: dict[str, WorkloadState] = {}
    blocks: tuple[Block, ...] = ()


class Turned(msgspec.Struct, frozen=True, kw_only=True):
    """What a turn decided."""

    state: TurnState
    decisions: tuple[Decision, ...]
    steps: tuple[Step, ...] = ()
    """To be carried out, in this order; workloads that only observe have none here."""
    settled: tuple[Settled, ...] = ()
    again: tuple[int, ...] = ()
    """Intents to be ordered again unchanged: it is not known that they took effect, and they are still wanted."""
    routes: dict[str, Route] = {}
    next_at: float
    """When to turn again if nothing happens."""


def turn(state: TurnState, seen: Seen, spec: Spec, now: float) -> Turned:
    """One turn at `now`. Never raises for anything that is in `seen`."""
    number = state.turn + 1
    launches: Launches = {
        (name, offering): launch
        for name, known in state.workloads.items()
        for offering, launch in known.launches.items()
    }
    flights = follow(launches, seen.in_flight, seen.views, now)
    launches = flights.launches
    remembered: dict[str, WorkloadState] = {}
    decisions: list[Decision] = []
    steps: list[Step] = []
    for name, workload in spec.workloads.items():
        agents = tuple(agent for view in seen.views.values() for agent in view.agents if agent.workload == name)
        wanted = _wanted(workload)
        proposed = _raise(workload, agents, wanted, seen, launches)
        decisions.append(
            Decision(at=now, turn=number, workload=name, mode=workload.mode, wanted=wanted, steps=proposed)
        )
        if workload.mode == "act":
            steps += proposed
            for step in proposed:
                launches = launched(launches, step, agents, now)
        remembered[name] = replace(
            state.workloads.get(name, WorkloadState()),
            wanted=wanted,
            launches={offering: launch for (whose, offering), launch in launches.items() if whose == name},
        )
    return Turned(
        state=replace(state, turn=number, workloads=remembered),
        decisions=tuple(decisions),
        steps=tuple(steps),
        settled=flights.settled,
        again=tuple(order.intent for order in flights.again),
        next_at=now + spec.controller.tick,
    )


def _wanted(workload: Workload) -> Wanted:
    """Without targets a workload has its `min`."""
    least = workload.replicas.min
    return Wanted(agents=least, raw=least, binding="min", reason=f"the spec asks for at least {least}")


def _raise(
    workload: Workload, agents: tuple[Agent, ...], wanted: Wanted, seen: Seen, launches: Launches
) -> tuple[Step, ...]:
    """Up to what is wanted, in the first pool that offers it."""
    present = sum(1 for agent in agents if agent.state != "draining")
    present += sum(launch.coming for (name, _), launch in launches.items() if name == workload.name)
    missing = int(wanted.agents) - present
    if missing <= 0:
        return ()
    for pool in workload.place.pools or tuple(seen.views):
        view = seen.views.get(pool)
        for offering in view.offerings.get(workload.name, ()) if view is not None and view.control else ():
            there = sum(1 for agent in agents if agent.offering == offering.key and agent.state != "draining")
            there += launches[workload.name, offering.key].coming if (workload.name, offering.key) in launches else 0
            return (
                Step(
                    kind="scale",
                    workload=workload.name,
                    pool=pool,
                    offering=offering.key,
                    size=there + missing,
                    cause="repair",
                    reason=f"{present} of {wanted.agents:g} run",
                ),
            )
    return ()
