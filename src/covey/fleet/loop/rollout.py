"""A new version takes the place of the old: one pool at a time, a batch at a time, new before old, and no further
unless what is new is well. Pure.

Which agents are to be replaced now is all that is decided here; that each one's replacement is ready before it goes is
the filter's business, as for `covey fleet drain AGENT`.

::

    batch: at most `surge` of the workload, the oldest of one pool
      -> all of it gone, and every new agent ready for `healthy_for`  -> the next batch, of the next pool in the end
      -> something new is not well for too long                       -> halted, until another version is applied
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from covey.fleet.health import Standing
from covey.fleet.model import Agent
from covey.fleet.spec.types import Workload

__all__ = ["Rollout", "roll", "rolling", "rollout_note"]

HALT_LEAST: Final = 60.0
"""s that something new may be unwell before the rollout halts; three cold starts if those are longer. Ours."""


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """One workload's rollout."""

    version: str
    """The new one."""
    began: float
    pool: str = ""
    """Where the batch is."""
    batch: frozenset[str] = frozenset()
    """`POOL/ID` of those being replaced."""
    unwell_since: float | None = None
    halted: str = ""
    """Why it does not go on, or ""."""


def roll(
    workload: Workload, standing: Standing, state: Rollout | None, pools: Iterable[str], now: float
) -> Rollout | None:
    """The rollout as it stands; None: everything is of the spec's version. `pools`: in the order of the rollout."""
    old = [agent for agent in standing.counting if _other(agent, workload)]
    waiting = [agent for agent in standing.draining if _other(agent, workload)]
    if not old and not waiting:
        return None
    if state is None or state.version != workload.version:
        state = Rollout(version=workload.version, began=now)
    if state.halted:
        return state
    unwell = _unwell(workload, standing, now)
    since = (state.unwell_since if state.unwell_since is not None else now) if unwell else None
    state = replace(state, unwell_since=since)
    if since is not None and now - since > max(HALT_LEAST, 3 * workload.cold_start):
        return replace(state, halted=unwell, batch=frozenset())
    present = {f"{agent.pool}/{agent.id}" for agent in (*standing.counting, *standing.draining)}
    batch = state.batch & present
    if batch:
        return replace(state, batch=batch)
    if unwell or not old or not _settled(workload, standing, now):
        return replace(state, batch=batch)
    return _next(state, workload, standing, old, pools)


def _next(state: Rollout, workload: Workload, standing: Standing, old: list[Agent], pools: Iterable[str]) -> Rollout:
    by_pool: dict[str, list[Agent]] = {}
    for agent in old:
        by_pool.setdefault(agent.pool, []).append(agent)
    order = [state.pool, *pools, *sorted(by_pool)]
    pool = next(name for name in order if name in by_pool)
    count = max(1, int(workload.rollout.surge * len(standing.counting) + 1e-9))
    oldest = sorted(by_pool[pool], key=lambda agent: (agent.started_at, agent.id))[:count]
    return replace(state, pool=pool, batch=frozenset(f"{agent.pool}/{agent.id}" for agent in oldest))


def _other(agent: Agent, workload: Workload) -> bool:
    """Of another version than the spec's; one that does not say is none of ours to judge."""
    return bool(agent.version) and bool(workload.version) and agent.version != workload.version


def _new(agents: Iterable[Agent], workload: Workload) -> list[Agent]:
    return [agent for agent in agents if agent.version == workload.version]


def _unwell(workload: Workload, standing: Standing, now: float) -> str:
    """What is wrong with the new ones, or ""."""
    broken = _new((*standing.suspect, *standing.dead), workload)
    if broken:
        return f"{len(broken)} of the new version are silent or never got ready"
    new = _new(standing.counting, workload)
    if failing := [agent for agent in new if agent.failing]:
        return f"{len(failing)} of the new version fail more than before"
    if unready := [agent for agent in new if agent.state == "unready"]:
        return f"{len(unready)} of the new version do not answer their probe"
    slow = [agent for agent in new if agent.state == "starting" and now - agent.started_at > 2 * workload.cold_start]
    return f"{len(slow)} of the new version take longer than two cold starts" if slow else ""


def _settled(workload: Workload, standing: Standing, now: float) -> bool:
    """Every new agent has been ready for long enough."""
    return all(
        agent.state == "ready" and now - (agent.ready_at or agent.started_at) >= workload.rollout.healthy_for
        for agent in _new(standing.counting, workload)
    )


def rollout_note(rollout: Rollout | None) -> str:
    """How it stands, for the record; "" when there is nothing to say."""
    if rollout is None:
        return ""
    if rollout.halted:
        return (
            f"the rollout of version {rollout.version[:12]} is halted: {rollout.halted}; covey fleet rollback, or "
            "apply a version that works"
        )
    return f"version {rollout.version[:12]} is being rolled out, {len(rollout.batch)} at a time, now in {rollout.pool}"


def rolling(rollouts: Mapping[str, Rollout | None]) -> frozenset[str]:
    """All agents that are being replaced."""
    return frozenset(
        agent for each in rollouts.values() if each is not None and not each.halted for agent in each.batch
    )
