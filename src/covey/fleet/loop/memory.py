"""A turn's memory as JSON, in pieces: only what changed is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from covey.fleet.demand import POLICIES
from covey.fleet.loop.turn import TurnState, WorkloadState

__all__ = ["changed", "decode", "encode"]

S = TypeVar("S", bound=msgspec.Struct)

_LOOP: Final = "loop"
_WORKLOAD: Final = "workload/"


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
