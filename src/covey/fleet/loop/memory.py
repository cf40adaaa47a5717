"""A turn's memory as JSON, in pieces: only what changed is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from covey.fleet.demand import POLICIES
from covey.fleet.loop.turn import TurnState
from covey.fleet.loop.wanting import WorkloadState
from covey.fleet.model import Agent, PoolView

__all__ = ["changed", "decode", "decode_problems", "decode_views", "encode", "encode_problems", "encode_views"]

S = TypeVar("S", bound=msgspec.Struct)

_LOOP: Final = "loop"
_WORKLOAD: Final = "workload/"
_VIEW: Final = "view/"
_PROBLEMS: Final = "problems"


def encode(state: TurnState) -> dict[str, str]:
    """By name; the names are `loop` and `workload/NAME`."""
    pieces = {_LOOP: _json(msgspec.structs.replace(state, workloads={}, solved=None))}
    for name, remembered in state.workloads.items():
        pieces[_WORKLOAD + name] = _json(remembered)
    return pieces


def decode(pieces: Mapping[str, str]) -> TurnState:
    """What `encode` wrote. A piece that cannot be read (written by another version) is forgotten: the loop then holds
    what it has until it knows enough again."""
    state = _read(pieces.get(_LOOP, "{}"), TurnState) or TurnState()
    workloads = {
        name.removeprefix(_WORKLOAD): found
        for name, text in pieces.items()
        if name.startswith(_WORKLOAD) and (found := _workload(text)) is not None
    }
    return msgspec.structs.replace(state, workloads=workloads)


def encode_problems(problems: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with pools and signals, for `covey fleet status`; a turn does not need it."""
    return {_PROBLEMS: msgspec.json.encode(problems, order="sorted").decode()} if problems else {}


def decode_problems(pieces: Mapping[str, str]) -> dict[str, str]:
    try:
        return msgspec.json.decode(pieces.get(_PROBLEMS, "{}"), type=dict[str, str])
    except msgspec.DecodeError:
        return {}


def encode_views(views: Mapping[str, PoolView], before: Mapping[str, str]) -> dict[str, str]:
    """Who was where, by name (`view/POOL`), for a controller that cannot reach a pool when it begins. Without what
    changes all the time, so that little is written; a pool that does not answer now keeps what was known (`before`)."""
    pieces: dict[str, str] = {}
    for pool, view in views.items():
        name = _VIEW + pool
        if not view.control:
            if name in before:
                pieces[name] = before[name]
            continue
        agents = tuple(
            Agent(
                id=agent.id,
                workload=agent.workload,
                pool=agent.pool,
                offering=agent.offering,
                state=agent.state,
                started_at=agent.started_at,
                ready_at=agent.ready_at,
                heard_at=None if agent.heard_at is None else 0.0,
                version=agent.version,
                leaving_at=agent.leaving_at,
                endpoint=agent.endpoint,
            )
            for agent in view.agents
        )
        pieces[name] = _json(
            PoolView(
                pool=pool, at=0.0, agents=agents, offerings=view.offerings, managed_elsewhere=view.managed_elsewhere
            )
        )
    return pieces


def decode_views(pieces: Mapping[str, str], now: float) -> dict[str, PoolView]:
    """What `encode_views` wrote, as a look that did not succeed: who was there is believed until their silence says
    otherwise, and nothing is done there until the pool answers."""
    found: dict[str, PoolView] = {}
    for name, text in pieces.items():
        view = _read(text, PoolView) if name.startswith(_VIEW) else None
        if view is not None:
            found[view.pool] = msgspec.structs.replace(
                view,
                at=now,
                control=False,
                problem="not reached yet since the controller began",
                agents=tuple(
                    agent if agent.heard_at is None else msgspec.structs.replace(agent, heard_at=now)
                    for agent in view.agents
                ),
            )
    return found


def changed(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str | None]:
    """What to write to get from `old` to `new`; None: to be deleted."""
    pieces: dict[str, str | None] = {name: None for name in old if name not in new}
    pieces |= {name: text for name, text in new.items() if old.get(name) != text}
    return pieces


def _workload(text: str) -> WorkloadState | None:
    found = _read(text, WorkloadState)
    if found is None or found.demand is None or found.policy not in POLICIES:
        return found
    try:
        demand = msgspec.convert(found.demand, type=POLICIES[found.policy].state_type)
    except msgspec.ValidationError:
        demand = None
    return msgspec.structs.replace(found, demand=demand)


def _json(value: msgspec.Struct) -> str:
    return msgspec.json.encode(value).decode()


def _read(text: str, kind: type[S]) -> S | None:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError:
        return None
