"""Which workloads may be acted on, and which steps have somebody's consent. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from covey.fleet.model import Orders, PoolView, Step
from covey.fleet.spec.types import Workload

__all__ = ["agreed", "consented", "refused"]


def refused(workload: Workload, views: Mapping[str, PoolView], orders: Orders) -> str:
    """Why this workload is not ours to scale, or "": another manager owns its replicas somewhere, and nobody told us to
    take it over."""
    if workload.name in orders.adopted:
        return ""
    for pool, view in views.items():
        if owner := view.managed_elsewhere.get(workload.name):
            return (
                f"{owner} in {pool} owns its replicas: nothing is done until it is gone, or covey fleet apply --adopt "
                f"{workload.name}"
            )
    return ""


def consented(workload: Workload, step: Step, orders: Orders) -> bool:
    """Whether it is to be carried out."""
    if workload.mode == "recommend":
        return _approved(step, orders.approved.get(workload.name, ()))
    return workload.mode == "act"


def agreed(workload: Workload, step: Step, orders: Orders, running: int) -> Step | None:
    """The step, as far as it may be carried out; None: not at all. `running`: agents at its offering, also those that
    are coming.

    Demand moves on while somebody makes up their mind: who agreed to fewer than are wanted now gets those.
    """
    if consented(workload, step, orders):
        return step
    if workload.mode != "recommend" or step.kind != "scale":
        return None
    approved = orders.approved.get(workload.name, ())
    most = max((each.size for each in approved if each.kind == "scale" and each.offering == step.offering), default=0)
    return replace(step, size=most) if running < most else None


def _approved(step: Step, approved: Iterable[Step]) -> bool:
    """Somebody agreed to it, or to more of the same. Who agreed to a drain agreed to the removal that follows."""
    if step.kind == "scale":
        return any(
            each.kind == "scale" and each.offering == step.offering and each.size >= step.size for each in approved
        )
    ids = {agent for each in approved if each.kind != "scale" and each.pool == step.pool for agent in each.ids}
    return ids.issuperset(step.ids)
