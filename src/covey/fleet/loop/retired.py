"""What the spec no longer names and is still there: workloads whose agents are to end, pools that are to be emptied.

A spec is the whole truth: a workload that was taken out of it is wanted no more, and its agents go the way of any
scale-in (drained, busy ones until their grace). A pool that was taken out is emptied new before old, as by `covey
fleet drain`. Both are forgotten when nothing of them is left. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from covey.fleet.model import PoolView
from covey.fleet.spec.types import Place, Pool, Replicas, Spec, Workload

__all__ = ["left_over", "whole_spec"]


def whole_spec(spec: Spec, workloads: Mapping[str, Workload], pools: Mapping[str, Pool]) -> Spec:
    """`spec` and what is remembered beside it."""
    old_workloads = {name: _ended(each) for name, each in workloads.items() if name not in spec.workloads}
    old_pools = {name: pool for name, pool in pools.items() if name not in spec.pools}
    if not old_workloads and not old_pools:
        return spec
    return replace(spec, workloads=spec.workloads | old_workloads, pools=spec.pools | old_pools)


def _ended(workload: Workload) -> Workload:
    return replace(workload, replicas=Replicas(min=0, max=0), targets=(), policy="covey", place=Place())


def left_over(
    spec: Spec,
    workloads: Mapping[str, Workload],
    pools: Mapping[str, Pool],
    views: Mapping[str, PoolView],
    coming: frozenset[str],
) -> tuple[dict[str, Workload], dict[str, Pool]]:
    """What the next turn must remember: all of the spec, and of the rest what may still have agents. `coming`:
    workloads of which something was ordered and not seen."""
    sure = all(view.control for view in views.values()) and views.keys() >= pools.keys()
    present = {agent.workload for view in views.values() for agent in view.agents}
    kept = {name: each for name, each in workloads.items() if not sure or name in present or name in coming}
    lasting = {
        name: pool for name, pool in pools.items() if name not in views or not views[name].control or views[name].agents
    }
    return kept | spec.workloads, lasting | spec.pools
