"""What we read of Kubernetes' objects: these fields and no others, checked when they are parsed.

The API server is foreign: an answer that is not of these shapes is an error of one type, `msgspec.MsgspecError`.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

import msgspec

__all__ = [
    "Autoscaler",
    "Budget",
    "Condition",
    "Container",
    "Deployment",
    "Listed",
    "Meta",
    "MetricValue",
    "Node",
    "Pod",
    "PodMetrics",
    "Quota",
    "Selector",
    "Status",
    "condition",
    "quantity",
]

T = TypeVar("T")


class Struct(msgspec.Struct, frozen=True, rename="camel"):
    """Names as Go writes them in JSON. Every field has a default: Go leaves out what is empty."""


class Owner(Struct, frozen=True):
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class Meta(Struct, frozen=True):
    """Metadata of any object."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[Owner] = []


class ListMeta(msgspec.Struct, frozen=True):
    next: str = msgspec.field(default="", name="continue")


class Listed(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list."""

    items: list[T] | None = None
    metadata: ListMeta = ListMeta()


class Condition(Struct, frozen=True):
    """One of an object's conditions."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


class Taint(Struct, frozen=True):
    key: str = ""
    value: str = ""
    effect: str = ""


class NodeSpec(Struct, frozen=True):
    unschedulable: bool = False
    taints: list[Taint] = []


class NodeStatus(Struct, frozen=True):
    allocatable: dict[str, str] = {}
    conditions: list[Condition] = []


class Node(Struct, frozen=True):
    """A machine of the cluster."""

    metadata: Meta = Meta()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class Requests(Struct, frozen=True):
    requests: dict[str, str] = {}


class Container(Struct, frozen=True):
    """What one container asks for."""

    name: str = ""
    resources: Requests = Requests()


class PodSpec(Struct, frozen=True):
    node_name: str = ""
    containers: list[Container] = []
    init_containers: list[Container] = []


class ContainerStatus(Struct, frozen=True):
    name: str = ""
    restart_count: int = 0


class PodStatus(Struct, frozen=True):
    phase: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    conditions: list[Condition] = []
    container_statuses: list[ContainerStatus] = []


class Pod(Struct, frozen=True):
    """A pod: for us an agent."""

    metadata: Meta = Meta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class WorkloadSpec(Struct, frozen=True):
    replicas: int = 1


class WorkloadStatus(Struct, frozen=True):
    replicas: int = 0
    conditions: list[Condition] = []


class Deployment(Struct, frozen=True):
    """One of ours: the agents of one workload, offering and version."""

    metadata: Meta = Meta()
    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()


class Requirement(Struct, frozen=True):
    key: str = ""
    operator: str = ""
    values: list[str] = []


class Selector(Struct, frozen=True):
    """A label selector; an empty one selects everything."""

    match_labels: dict[str, str] = {}
    match_expressions: list[Requirement] = []

    def matches(self, labels: dict[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            _fits(each, labels) for each in self.match_expressions
        )


class BudgetSpec(Struct, frozen=True):
    selector: Selector | None = None


class BudgetStatus(Struct, frozen=True):
    disruptions_allowed: int = 0


class Budget(Struct, frozen=True):
    """A PodDisruptionBudget."""

    metadata: Meta = Meta()
    spec: BudgetSpec = BudgetSpec()
    status: BudgetStatus = BudgetStatus()


class Target(Struct, frozen=True):
    kind: str = ""
    name: str = ""


class AutoscalerSpec(Struct, frozen=True):
    scale_target_ref: Target = Target()


class Autoscaler(Struct, frozen=True):
    """A HorizontalPodAutoscaler."""

    metadata: Meta = Meta()
    spec: AutoscalerSpec = AutoscalerSpec()


class QuotaStatus(Struct, frozen=True):
    hard: dict[str, str] = {}
    used: dict[str, str] = {}


class QuotaSpec(Struct, frozen=True):
    scopes: list[str] = []
    scope_selector: Any = None


class Quota(Struct, frozen=True):
    """A ResourceQuota."""

    metadata: Meta = Meta()
    spec: QuotaSpec = QuotaSpec()
    status: QuotaStatus = QuotaStatus()


class ContainerUsage(Struct, frozen=True):
    name: str = ""
    usage: dict[str, str] = {}


class PodMetrics(Struct, frozen=True):
    """What a pod uses, as the metrics server says."""

    metadata: Meta = Meta()
    timestamp: datetime | None = None
    containers: list[ContainerUsage] = []

    @property
    def cpus(self) -> float:
        """In use, by all its containers. Raises ValueError."""
        return sum(quantity(each.usage.get("cpu", "0")) for each in self.containers)


class MetricValue(Struct, frozen=True):
    """One value of a custom or external metric."""

    value: str = "0"


class Cause(Struct, frozen=True):
    reason: str = ""
    message: str = ""


class Details(Struct, frozen=True):
    causes: list[Cause] = []
    retry_after_seconds: int = 0


class Status(Struct, frozen=True):
    """What the API server answers when it refuses."""

    message: str = ""
    reason: str = ""
    details: Details = Details()


def condition(conditions: list[Condition], kind: str) -> Condition | None:
    """The one of that type."""
    return next((each for each in conditions if each.type == kind), None)


_AMOUNT: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d{1,3})|([numkMGTPE]|[KMGTPE]i)?)")
_SUFFIXES: Final = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip


def quantity(text: str) -> float:
    """Kubernetes' notation of amounts: `250m`, `1.5Gi`, `1e3`. Raises ValueError."""
    found = _AMOUNT.fullmatch(text) if len(text) < 64 else None
    amount = float(found[1] + (found[2] or "")) * _SUFFIXES[found[3] or ""] if found else math.inf
    if not math.isfinite(amount):
        raise ValueError(f"{text[:40]!r} is no quantity")
    return amount


def _fits(requirement: Requirement, labels: dict[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return False
