"""From what one look at a cluster listed to the loop's words: pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from covey.fleet.model import Agent, AgentState, LaunchFailure
from covey.fleet.providers.kubernetes import names
from covey.fleet.providers.kubernetes.nodes import is_leaving, is_ready
from covey.fleet.providers.kubernetes.objects import Autoscaler, Budget, Deployment, Node, Pod, Quota, condition
from covey.fleet.spec.types import Workload

__all__ = ["Look", "agents", "failures", "managed_elsewhere", "removable"]

AUTOSCALED_PATIENCE: Final = 300.0
"""Seconds that a pod may wait for a node to be started; the launch time-out (FLEET 2)."""
_MOST_WORDS: Final = 300
_ORDER_MARK: Final = "#"


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What was listed, all of it ours but nodes, quotas and `others`."""

    pods: list[Pod]
    deployments: list[Deployment]
    budgets: list[Budget]
    autoscalers: list[Autoscaler]
    quotas: list[Quota]
    nodes: list[Node]
    others: list[Pod] | None
    """Every pod of the cluster; None: we may not see them, and room is unknown."""
    usage: dict[str, float] = {}
    """By pod: CPUs in use, where the cluster has a metrics server."""
    problems: tuple[str, ...] = ()
    """What could not be listed."""

    def of(self, workload: str) -> list[Pod]:
        return [each for each in self.pods if each.metadata.labels.get(names.WORKLOAD) == names.label_value(workload)]

    def groups_of(self, workload: str) -> list[Deployment]:
        value = names.label_value(workload)
        return [each for each in self.deployments if each.metadata.labels.get(names.WORKLOAD) == value]


class Times:
    """The cluster tells times of day, the loop counts on its own clock."""

    def __init__(self, offset: float) -> None:
        self._offset = offset

    def of(self, moment: datetime | None, default: float) -> float:
        return default if moment is None else moment.timestamp() + self._offset

    def wall(self, seconds: float) -> float:
        return seconds + self._offset


def nobody(_agent: str) -> bool:
    """Reports."""
    return False


def agents(
    look: Look, workload: Workload, pool: str, *, now: float, times: Times, reports: Callable[[str], bool] = nobody
) -> list[Agent]:
    """The workload's agents, those that were ordered and are not made yet last. `reports`: whether one was heard
    lately."""
    nodes = {each.metadata.name: each for each in look.nodes}
    passing = {name for group in look.groups_of(workload.name) for name in _passing(group, look.pods)}
    found = [
        _agent(each, workload, pool, nodes.get(each.spec.node_name), look.usage, reports, now=now, times=times)
        for each in look.of(workload.name)
        if each.status.phase not in ("Succeeded", "Failed") and each.metadata.name not in passing
    ]
    for group in look.groups_of(workload.name):
        changed = condition(group.status.conditions, "ReplicaFailure")
        found += [
            Agent(
                id=name,
                workload=workload.name,
                pool=pool,
                offering=group.metadata.annotations.get(names.OFFERING, ""),
                state="starting",
                started_at=times.of(changed.last_transition_time if changed else None, now),
                busy=False,
                version=group.metadata.annotations.get(names.VERSION, ""),
                unplaced=True,
            )
            for name in orders(group, members(group, look.pods))
        ]
    return found


def members(group: Deployment, pods: Iterable[Pod]) -> list[Pod]:
    """The pods that count for a Deployment's size: those that are not ending."""
    return [
        each
        for each in pods
        if each.metadata.labels.get(names.CHOSEN) == group.metadata.name
        and each.metadata.deletion_timestamp is None
        and each.status.phase not in ("Succeeded", "Failed")
    ]


def orders(group: Deployment, pods: Sequence[Pod]) -> list[str]:
    """Names of what was ordered and could not be made: a quota, or an admission that refuses. What is being evicted is
    not to be made again."""
    missing = group.spec.replicas - len(pods) - len(_evicted(group, pods))
    return [f"{group.metadata.name}{_ORDER_MARK}{n}" for n in range(1, missing + 1)]


def leaving(group: Deployment) -> list[str]:
    """Pods that are being evicted, and for which the Deployment is still to be lowered."""
    return [each for each in group.metadata.annotations.get(names.LEAVING, "").split(",") if each]


def _evicted(group: Deployment, pods: Sequence[Pod]) -> set[str]:
    """Of those, the ones that went already."""
    return set(leaving(group)) - {each.metadata.name for each in pods}


def _passing(group: Deployment, pods: Iterable[Pod]) -> list[str]:
    """Pods that a ReplicaSet made in place of evicted ones, and that go as soon as it is lowered: the newest that are
    not up."""
    here = members(group, pods)
    count = max(0, len(here) + len(_evicted(group, here)) - group.spec.replicas)
    fresh = sorted((each for each in here if not is_up(each)), key=lambda each: str(each.metadata.creation_timestamp))
    return [each.metadata.name for each in fresh[-count:]] if count else []


def group_of_order(name: str) -> str:
    """The Deployment of such a name; "" if it is a pod's."""
    return name.partition(_ORDER_MARK)[0] if _ORDER_MARK in name else ""


def is_draining(pod: Pod) -> bool:
    return names.DRAINING in pod.metadata.annotations or pod.metadata.deletion_timestamp is not None


def draining_since(pod: Pod) -> float | None:
    """By the wall clock. A foreign annotation that is no number is taken as now and forever: None."""
    try:
        return float(pod.metadata.annotations[names.DRAINING])
    except (KeyError, ValueError):
        return None


def is_placed(pod: Pod) -> bool:
    return bool(pod.spec.node_name)


def is_up(pod: Pod) -> bool:
    ready = condition(pod.status.conditions, "Ready")
    return ready is not None and ready.status == "True"


def _is_doubted(pod: Pod, node: Node | None, reports: Callable[[str], bool]) -> bool:
    """It is up, and the cluster says otherwise: of nodes that could not reach the API server for 40 s the node
    controller calls every pod unready, as soon as the API server is back. What the kubelet found of the containers it
    leaves as it was. Whoever speaks to us, or stands on a node that is back, is believed."""
    found = condition(pod.status.conditions, "ContainersReady")
    if found is None or found.status != "True":
        return False
    return (node is not None and is_ready(node)) or reports(pod.metadata.name)


def _agent(
    pod: Pod,
    workload: Workload,
    pool: str,
    node: Node | None,
    usage: Mapping[str, float],
    reports: Callable[[str], bool],
    *,
    now: float,
    times: Times,
) -> Agent:
    ready = condition(pod.status.conditions, "Ready")
    up = is_up(pod) or _is_doubted(pod, node, reports)
    started = times.of(pod.metadata.creation_timestamp, now)
    leaving = node is not None and is_leaving(node)
    about = pod.metadata.annotations
    return Agent(
        id=pod.metadata.name,
        workload=workload.name,
        pool=pool,
        offering=about.get(names.OFFERING, ""),
        state=_state(pod, workload, up=up, age=now - started),
        started_at=started,
        ready_at=times.of(ready.last_transition_time, now) if ready is not None and up else None,
        # What has no process yet has no work. All others speak for themselves, to the controller: that a kubelet once
        # found them ready is not their voice, since it is told by the very API whose silence we must tell from theirs.
        busy=False if not is_placed(pod) else None,
        cpu=usage[pod.metadata.name] / max(workload.resources.cpu, 0.001) if pod.metadata.name in usage else None,
        version=about.get(names.VERSION, ""),
        unplaced=not is_placed(pod),
        leaving_at=now if leaving else None,
        endpoint=f"{pod.status.pod_ip}:{workload.port}" if pod.status.pod_ip and workload.port else "",
    )


def _state(pod: Pod, workload: Workload, *, up: bool, age: float) -> AgentState:
    if is_draining(pod):
        return "draining"
    if up:
        return "ready"
    restarted = any(each.restart_count for each in pod.status.container_statuses)
    return "unready" if restarted or (is_placed(pod) and age > max(workload.cold_start, 1.0)) else "starting"


def failures(
    look: Look, workload: Workload, scopes: Mapping[str, tuple[str, str]], *, now: float, times: Times, autoscaled: bool
) -> list[LaunchFailure]:
    """FailedScheduling, and pods that may not be made. `scopes`: by offering's key its scope and shape."""
    found = []
    for pod in look.of(workload.name):
        waits = condition(pod.status.conditions, "PodScheduled")
        scope, shape = scopes.get(pod.metadata.annotations.get(names.OFFERING, ""), ("", ""))
        if is_placed(pod) or not scope or waits is None or waits.reason != "Unschedulable":
            continue
        since = times.of(waits.last_transition_time, now)
        if not autoscaled or now - since > AUTOSCALED_PATIENCE:
            reason = f"FailedScheduling: {waits.message[:_MOST_WORDS]}"
            found.append(LaunchFailure(scope=scope, shape=shape, at=since, reason=reason, workload=workload.name))
    for group in look.groups_of(workload.name):
        refused = condition(group.status.conditions, "ReplicaFailure")
        scope, shape = scopes.get(group.metadata.annotations.get(names.OFFERING, ""), ("", ""))
        if refused is None or refused.status != "True" or not scope or not orders(group, members(group, look.pods)):
            continue
        kind: Literal["quota", "denied"] = "quota" if "exceeded quota" in refused.message else "denied"
        found.append(
            LaunchFailure(
                scope=scope,
                shape="" if kind == "quota" else shape,
                kind=kind,
                at=times.of(refused.last_transition_time, now),
                reason=f"{refused.reason}: {refused.message[:_MOST_WORDS]}",
                workload=workload.name,
            )
        )
    return found


def removable(look: Look, workload: Workload) -> int | None:
    """How many may go now without breaking a disruption budget; None: there is none."""
    labels = [each.metadata.labels for each in look.of(workload.name) if not is_draining(each)]
    allowed = [
        max(0, each.status.disruptions_allowed)
        for each in look.budgets
        if each.spec.selector is not None and any(each.spec.selector.matches(one) for one in labels)
    ]
    return min(allowed, default=None)


def managed_elsewhere(look: Look, workload: Workload) -> str:
    """Who else sets the replicas: an autoscaler of one of our Deployments, or of one that bears the workload's name."""
    ours = {each.metadata.name for each in look.groups_of(workload.name)} | {workload.name}
    for each in look.autoscalers:
        if each.spec.scale_target_ref.kind == "Deployment" and each.spec.scale_target_ref.name in ours:
            return f"HorizontalPodAutoscaler/{each.metadata.name}"
    return ""
