"""How our objects are named and marked in a cluster."""

from __future__ import annotations

import hashlib
import re
from typing import Final

__all__ = [
    "CHOSEN",
    "DELETION_COST",
    "DRAINING",
    "EPOCH",
    "LEAVING",
    "MANAGED_BY",
    "OFFERING",
    "PLAN",
    "POOL",
    "SERVING",
    "VERSION",
    "WORKLOAD",
    "deployment_name",
    "label_value",
    "selector",
    "short",
]

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
POOL: Final = "fleet.covey/pool"
WORKLOAD: Final = "fleet.covey/workload"
CHOSEN: Final = "fleet.covey/group"
"""Label: the Deployment that a pod belongs to; its selector."""
SERVING: Final = "fleet.covey/serving"
"""Label of a pod, "true" until it drains. A Service that selects it stops sending there at that moment."""
OFFERING: Final = "fleet.covey/offering"
"""Annotation: the key of the offering."""
VERSION: Final = "fleet.covey/version"
DRAINING: Final = "fleet.covey/draining-since"
"""Annotation of a pod: when it was told to finish, seconds since 1970."""
LEAVING: Final = "fleet.covey/leaving"
"""Annotation of a Deployment: pods that are being evicted and for which it is still to be lowered."""
PLAN: Final = "fleet.covey/plan"
EPOCH: Final = "fleet.covey/epoch"
DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
"""From 1.22 on ReplicaSets end the cheapest first (https://kep.k8s.io/2255); ignored before."""

_VALUE: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def short(*words: str) -> str:
    """Ten hexadecimal digits that stand for these words."""
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:10]


def label_value(name: str) -> str:
    """`name` itself where it may be a label's value, else a digest."""
    return name if _VALUE.fullmatch(name) else short(name)


def deployment_name(workload: str, pool: str, offering: str, template: str) -> str:
    """One Deployment for each workload, offering and version, since a ReplicaSet's pods are all alike."""
    readable = re.sub(r"[^a-z0-9]+", "-", workload.lower()).strip("-")[:30].strip("-") or "agent"
    if not readable[0].isalpha():
        readable = f"w{readable}"
    return f"{readable}-{short(workload, pool, offering, template)}"


def selector(pool: str, workload: str = "") -> str:
    """Label selector of everything of ours in a pool."""
    parts = [f"{MANAGED_BY}=covey", f"{POOL}={label_value(pool)}"]
    return ",".join([*parts, *([f"{WORKLOAD}={label_value(workload)}"] if workload else [])])
