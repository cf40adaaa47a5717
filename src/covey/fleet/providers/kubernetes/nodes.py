"""What the nodes of a cluster can run, and at what price: pure functions of what was listed."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from covey.fleet.model import Offering
from covey.fleet.providers.kubernetes.objects import Node, Pod, Quota, condition, quantity
from covey.fleet.spec.types import Pool, Resources, Workload

__all__ = ["Shape", "affinity", "quota_room", "region", "shape_of", "shapes", "tolerations"]

GPU: Final = "nvidia.com/gpu"
ZONE: Final = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")
REGION: Final = ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region")
INSTANCE: Final = ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type")
UNNAMED: Final = "node"
"""The shape of nodes that no cloud has labelled."""
SPOT: Final = (
    ("eks.amazonaws.com/capacityType", "SPOT"),
    ("karpenter.sh/capacity-type", "spot"),
    ("kubernetes.azure.com/scalesetpriority", "spot"),
    ("cloud.google.com/gke-spot", "true"),
    ("cloud.google.com/gke-preemptible", "true"),
)
"""Labels by which managed clusters tell that a node is spot; AKS and GKE also taint such nodes with them."""
LEAVING: Final = (
    "aws-node-termination-handler/spot-itn",
    "cloud.google.com/impending-node-termination",
    "karpenter.sh/disrupted",
    "ToBeDeletedByClusterAutoscaler",
    "node.cloudprovider.kubernetes.io/shutdown",
)
"""Taints of nodes that their cloud or their autoscaler is about to take away."""
_BURSTABLE: Final = re.compile(r"t\d+[a-z]*\.|Standard_B|e2-(micro|small|medium)$|(f1|g1)-")


class Shape(msgspec.Struct, frozen=True):
    """What agents can be put on: nodes of one instance type, spot or on demand; spot of one zone."""

    instance: str
    spot: bool = False
    zone: str = ""

    def key(self, pool: str) -> str:
        return self.offering(pool).key

    def offering(self, pool: str) -> Offering:
        return Offering(pool=pool, shape=self.instance, spot=self.spot, zone=self.zone, price=None)


def shape_of(node: Node) -> Shape:
    """On demand the scheduler spreads over zones itself. Preemptions strike a zone, so of spot it is part of the
    shape."""
    labels = node.metadata.labels
    spot = any(labels.get(key) == value for key, value in SPOT)
    return Shape(_first(labels, INSTANCE) or UNNAMED, spot, _first(labels, ZONE) if spot else "")


def region(nodes: Iterable[Node]) -> str:
    """Of the first node that says."""
    return next((found for each in nodes if (found := _first(each.metadata.labels, REGION))), "")


def shapes(nodes: Iterable[Node], wanted: Mapping[str, str]) -> dict[Shape, list[Node]]:
    """Nodes that take our agents (labels as `wanted`, no foreign taints, not leaving), by shape, in order of name."""
    found: dict[Shape, list[Node]] = defaultdict(list)
    for node in sorted(nodes, key=lambda each: each.metadata.name):
        if all(node.metadata.labels.get(key) == value for key, value in wanted.items()) and _is_open(node):
            found[shape_of(node)].append(node)
    return dict(sorted(found.items(), key=lambda each: (each[0].instance, each[0].spot, each[0].zone)))


class Free:
    """What is left on each node."""

    def __init__(self, nodes: Iterable[Node], pods: Iterable[Pod]) -> None:
        self._taken: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._nodes = {each.metadata.name: each for each in nodes}
        for pod in pods:
            if pod.spec.node_name in self._nodes and pod.status.phase not in ("Succeeded", "Failed"):
                taken = self._taken[pod.spec.node_name]
                taken["pods"] += 1
                for resource, amount in requests(pod).items():
                    taken[resource] += amount

    def room(self, nodes: Sequence[Node], resources: Resources) -> int:
        """How many more agents fit on these nodes."""
        return sum(self._fit(each, resources) for each in nodes)

    def _fit(self, node: Node, resources: Resources) -> int:
        if not is_ready(node):
            return 0
        room, taken = node.status.allocatable, self._taken[node.metadata.name]
        fits = [
            math.floor((_amount(room, name) - taken[name]) / need + 1e-9)
            for name, need in needs(resources).items()
            if need > 0
        ]
        return max(0, min(fits))


def needs(resources: Resources) -> dict[str, float]:
    """What one agent asks a node for."""
    return {"cpu": resources.cpu, "memory": float(resources.memory), GPU: float(resources.gpu), "pods": 1.0}


def requests(pod: Pod) -> dict[str, float]:
    """What a pod asks its node for: all containers together, or the greediest that runs before them."""
    found: dict[str, float] = defaultdict(float)
    for container in pod.spec.containers:
        for name, amount in container.resources.requests.items():
            found[name] += _quantity(amount)
    for container in pod.spec.init_containers:
        for name, amount in container.resources.requests.items():
            found[name] = max(found[name], _quantity(amount))
    return dict(found)


def share(node: Node, resources: Resources) -> float:
    """The part of a node's price that one agent pays for: the larger of its shares of CPU and memory (FLEET 2)."""
    room = node.status.allocatable
    parts = [
        need / have
        for name, need in needs(resources).items()
        if name in ("cpu", "memory") and (have := _amount(room, name)) > 0
    ]
    return min(1.0, max(parts, default=1.0))


def quota_room(quotas: Iterable[Quota], resources: Resources) -> int | None:
    """How many more agents the namespace's quotas allow; None: no limit. Quotas for some pods only are left out: the
    API server tells when one of them is in the way."""
    need = needs(resources)
    asks = {
        "pods": 1.0,
        "count/pods": 1.0,
        "cpu": need["cpu"],
        "requests.cpu": need["cpu"],
        "memory": need["memory"],
        "requests.memory": need["memory"],
        "limits.memory": need["memory"],
        f"requests.{GPU}": need[GPU],
    }
    rooms = [
        max(0, math.floor((_quantity(hard) - _quantity(quota.status.used.get(name, "0"))) / asks[name] + 1e-9))
        for quota in quotas
        if not quota.spec.scopes and quota.spec.scope_selector is None
        for name, hard in quota.status.hard.items()
        if asks.get(name, 0.0) > 0
    ]
    return min(rooms, default=None)


def offer(
    shape: Shape,
    nodes: Sequence[Node],
    pool: Pool,
    workload: Workload,
    *,
    room: int | None,
    region: str,
    quoted: tuple[float, float | None] | None,
) -> Offering:
    """The offering of one shape to one workload. `quoted`: the price of a whole node and when that was read."""
    price, priced_at = pool.price, None
    if price is None and quoted is not None:
        price, priced_at = quoted[0] * share(nodes[0], workload.resources), quoted[1]
    instance = shape.instance
    special = [("burstable", bool(_BURSTABLE.match(instance))), ("bare-metal", ".metal" in instance)]
    gpu = int(min((_amount(each.status.allocatable, GPU) for each in nodes), default=0))
    return Offering(
        pool=pool.name,
        shape=instance,
        spot=shape.spot,
        zone=shape.zone,
        cloud=pool.cloud,
        region=pool.labels.get("region", region),
        jurisdiction=pool.labels.get("jurisdiction", ""),
        price=price,
        priced_at=priced_at,
        room=room,
        marginal_room=(room or 0) if pool.cost == "marginal" else 0,
        speed=workload.speeds.get(instance, pool.speeds.get(instance, 1.0)),
        arch=nodes[0].metadata.labels.get("kubernetes.io/arch", "amd64") if nodes else "amd64",
        gpu=gpu,
        special=tuple(name for name, is_so in [*special, ("gpu", gpu > 0)] if is_so),
    )


def affinity(shape: Shape, wanted: Mapping[str, str], arch: Sequence[str]) -> dict[str, Any]:
    """The node affinity that binds pods to one shape."""
    common = [{"key": key, "operator": "In", "values": [value]} for key, value in sorted(wanted.items())]
    common.append({"key": "kubernetes.io/arch", "operator": "In", "values": list(arch)})
    if shape.instance == UNNAMED:
        common.append({"key": INSTANCE[0], "operator": "DoesNotExist"})
    else:
        common.append({"key": INSTANCE[0], "operator": "In", "values": [shape.instance]})
    if shape.zone:
        common.append({"key": ZONE[0], "operator": "In", "values": [shape.zone]})
    if shape.spot:  # one of these: terms are alternatives
        terms = [[*common, {"key": key, "operator": "In", "values": [value]}] for key, value in SPOT]
    else:  # none of them; NotIn also fits nodes without the label
        terms = [[*common, *({"key": key, "operator": "NotIn", "values": [value]} for key, value in SPOT)]]
    return {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": each} for each in terms]
            }
        }
    }


def tolerations(shape: Shape) -> list[dict[str, str]]:
    """Of the taints that AKS and GKE put on spot nodes."""
    if not shape.spot:
        return []
    return [{"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"} for key, value in SPOT]


def is_ready(node: Node) -> bool:
    ready = condition(node.status.conditions, "Ready")
    return ready is not None and ready.status == "True"


def is_leaving(node: Node) -> bool:
    return node.metadata.deletion_timestamp is not None or any(each.key in LEAVING for each in node.spec.taints)


def _is_open(node: Node) -> bool:
    foreign = [
        each
        for each in node.spec.taints
        if each.effect in ("NoSchedule", "NoExecute")
        and (each.key, each.value) not in SPOT
        # A node that is away for a moment still is of its shape; it has no room (`is_ready`).
        and not each.key.startswith("node.kubernetes.io/")
    ]
    return not node.spec.unschedulable and not foreign and not is_leaving(node)


def _first(labels: Mapping[str, str], keys: Sequence[str]) -> str:
    return next((labels[key] for key in keys if key in labels), "")


def _amount(amounts: Mapping[str, str], name: str) -> float:
    return _quantity(amounts.get(name, "0"))


def _quantity(text: str) -> float:
    """An amount that cannot be read is none."""
    try:
        return quantity(text)
    except ValueError:
        return 0.0
