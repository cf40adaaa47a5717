"""The Deployment of one workload on one offering."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from covey.fleet.errors import Permanent
from covey.fleet.providers.base import Fence
from covey.fleet.providers.kubernetes import names
from covey.fleet.providers.kubernetes.nodes import GPU, ZONE, Shape, affinity, tolerations
from covey.fleet.providers.kubernetes.settings import Settings
from covey.fleet.spec.types import Pool, Workload

__all__ = ["TOKEN_SECRET", "deployment", "marks", "token_key"]

TOKEN_SECRET: Final = "covey-fleet-report"  # noqa: S105  its name, not its value
TOKEN_DIRECTORY: Final = "/var/run/covey-fleet"  # noqa: S105
TOKEN_FILE: Final = "token"  # noqa: S105
NO_IMAGE: Final = "none"


def marks(fence: Fence) -> dict[str, str]:
    """Annotations that say whose order this was."""
    return {names.PLAN: fence.plan, names.EPOCH: str(fence.epoch)}


def deployment(
    workload: Workload, pool: Pool, settings: Settings, shape: Shape, *, replicas: int, fence: Fence
) -> dict[str, Any]:
    """The whole object. Its name holds a digest of the pods' template, so that another template is another object: a
    Deployment would replace its pods by itself, and rollouts are the controller's (FLEET 2)."""
    spec = pod_spec(pool, workload, settings, shape)
    key = shape.key(pool.name)
    digest = names.short(workload.version, msgspec.json.encode(spec, order="deterministic").decode())
    name = names.deployment_name(workload.name, pool.name, key, digest)
    labels = {
        names.MANAGED_BY: "covey",
        names.POOL: names.label_value(pool.name),
        names.WORKLOAD: names.label_value(workload.name),
    }
    about = {names.OFFERING: key, names.VERSION: workload.version}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {**labels, names.CHOSEN: name}, "annotations": {**about, **marks(fence)}},
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 0,
            "selector": {"matchLabels": {names.CHOSEN: name}},
            "template": {
                "metadata": {"labels": {**labels, names.CHOSEN: name, names.SERVING: "true"}, "annotations": about},
                "spec": spec,
            },
        },
    }


def token_key(pool: str, workload: str) -> str:
    """Where in the secret the token of these agents' reports is."""
    return f"{pool}.{workload}"


def pod_spec(pool: Pool, workload: Workload, settings: Settings, shape: Shape) -> dict[str, Any]:
    volumes, mounts = _volumes(workload)
    if settings.report:
        item = {"key": token_key(pool.name, workload.name), "path": TOKEN_FILE}  # its own, and no other's
        volumes.append({"name": "covey-fleet", "secret": {"secretName": TOKEN_SECRET, "items": [item]}})
        mounts.append({"name": "covey-fleet", "mountPath": TOKEN_DIRECTORY, "readOnly": True})
    container: dict[str, Any] = {
        "name": "agent",
        "image": workload.image or NO_IMAGE,
        "env": _environment(workload, settings),
        "resources": _resources(workload),
        "securityContext": {"allowPrivilegeEscalation": False},
    }
    if workload.command:
        container["command"] = list(workload.command)
    if workload.port is not None:
        container["ports"] = [{"name": "agent", "containerPort": workload.port}]
    probe = _probe(workload)
    if probe is not None:
        container["readinessProbe"] = probe
    if mounts:
        container["volumeMounts"] = mounts
    spec: dict[str, Any] = {
        "containers": [container],
        "affinity": affinity(shape, settings.node_selector, workload.resources.arch),
        "terminationGracePeriodSeconds": max(1, math.ceil(workload.grace)),
        # An agent has no business with the cluster's API unless its user gives it an account.
        "automountServiceAccountToken": bool(settings.service_account),
    }
    if settings.service_account:
        spec["serviceAccountName"] = settings.service_account
    if settings.pull_secrets:
        spec["imagePullSecrets"] = [{"name": each} for each in settings.pull_secrets]
    if shape.spot:
        spec["tolerations"] = tolerations(shape)
    else:
        spec["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": ZONE[0],
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {names.WORKLOAD: names.label_value(workload.name)}},
            }
        ]
    if volumes:
        spec["volumes"] = volumes
    return spec


def _environment(workload: Workload, settings: Settings) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": "COVEY_FLEET_AGENT", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "COVEY_FLEET_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "COVEY_FLEET_WORKLOAD", "value": workload.name},
    ]
    if settings.report:
        found.append({"name": "COVEY_FLEET_REPORT", "value": settings.report})
        found.append({"name": "COVEY_FLEET_TOKEN_FILE", "value": f"{TOKEN_DIRECTORY}/{TOKEN_FILE}"})
    if workload.port is not None:
        found.append({"name": "PORT", "value": str(workload.port)})
    found += [{"name": name, "value": value} for name, value in workload.env.items()]
    return [*found, *(_secret(workload, name, source) for name, source in workload.secrets.items())]


def _secret(workload: Workload, name: str, source: str) -> dict[str, Any]:
    kind, _, rest = source.partition(":")
    secret, _, key = rest.partition("/")
    if kind != "kubernetes" or not secret or not key:
        raise Permanent(
            f"{workload.name}: the secret {name} is {kind}:..., which agents in a cluster cannot read",
            next_step=f'put it into a Secret of the cluster and write {name} = "kubernetes:SECRET/KEY"',
        )
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _resources(workload: Workload) -> dict[str, Any]:
    """Memory is limited to what was asked for, CPU is not: an idle neighbour's may be used."""
    wanted = workload.resources
    requests: dict[str, str] = {"cpu": f"{max(1, round(wanted.cpu * 1000))}m", "memory": str(wanted.memory)}
    limits: dict[str, str] = {"memory": str(wanted.memory)}
    if wanted.gpu:
        requests[GPU] = limits[GPU] = str(wanted.gpu)
    return {"requests": requests, "limits": limits}


def _probe(workload: Workload) -> dict[str, Any] | None:
    """Kubernetes counts whole seconds; the controller's own probes are faster."""
    probe = workload.probe
    asked: dict[str, Any]
    if probe.http:
        asked = {"httpGet": {"path": probe.http, "port": workload.port}}
    elif probe.tcp:
        asked = {"tcpSocket": {"port": workload.port}}
    elif probe.command:
        asked = {"exec": {"command": list(probe.command)}}
    else:
        return None
    times = {"periodSeconds": max(1, round(probe.every)), "timeoutSeconds": max(1, math.ceil(probe.timeout))}
    return {**asked, **times, "failureThreshold": max(1, probe.failures)}


_VOLUMES: Final[Mapping[str, tuple[str, str]]] = {
    "claim": ("persistentVolumeClaim", "claimName"),
    "secret": ("secret", "secretName"),
    "config": ("configMap", "name"),
}


def _volumes(workload: Workload) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """`{ path = "/data", claim = "NAME" }`, or `secret`, `config`, or none of them for an empty one."""
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    for number, each in enumerate(workload.volumes):
        name, path = f"volume-{number}", each.get("path", "")
        sources = [(kind, each[kind]) for kind in _VOLUMES if kind in each]
        if not path.startswith("/") or len(sources) > 1:
            raise Permanent(
                f"{workload.name}: volume {number + 1} cannot be mounted",
                next_step='write { path = "/...", claim = "NAME" }, or secret, config, or no source for an empty one',
            )
        source: dict[str, Any] = {"emptyDir": {}}
        for kind, value in sources:
            field, inner = _VOLUMES[kind]
            source = {field: {inner: value}}
        volumes.append({"name": name, **source})
        mounts.append({"name": name, "mountPath": path})
    return volumes, mounts
