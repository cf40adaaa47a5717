"""Which workloads may be acted on, and which steps have somebody's consent. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from covey.fleet.model import Orders, PoolView, Step
from covey.fleet.spec.types import Workload

__all__ = ["consented", "refused"]


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


def _approved(step: Step, approved: Iterable[Step]) -> bool:
    """Somebody agreed to it, or to more of the same. Who agreed to a drain agreed to the removal that follows."""
    if step.kind == "scale":
        return any(
            each.kind == "scale" and each.offering == step.offering and each.size >= step.size for each in approved
        )
    ids = {agent for each in approved if each.kind != "scale" and each.pool == step.pool for agent in each.ids}
    return ids.issuperset(step.ids)
