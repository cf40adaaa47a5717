"""The rights that the verbs need, and how each is proven without using it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from covey.fleet.providers.base import Right
from covey.fleet.providers.kubernetes.api import Api
from covey.fleet.providers.kubernetes.template import TOKEN_SECRET

__all__ = ["NEEDED", "check"]

NEEDED: Final[tuple[tuple[str, str, tuple[str, ...], bool, str], ...]] = (
    ("apps", "deployments", ("get", "list", "create", "patch", "delete"), True, "agents run in Deployments"),
    ("", "pods", ("get", "list", "patch"), True, "agents are pods"),
    ("", "pods/eviction", ("create",), True, "a named agent is ended by eviction, which respects disruption budgets"),
    ("policy", "poddisruptionbudgets", ("list",), True, "how many may go now"),
    ("", "resourcequotas", ("list",), True, "how many more may be started"),
    ("autoscaling", "horizontalpodautoscalers", ("list",), True, "whether somebody else sets the replicas"),
    ("metrics.k8s.io", "pods", ("list",), True, "what agents use of their CPU, where there is a metrics server"),
    ("", "nodes", ("list",), False, "which shapes there are, and their room"),
    ("", "pods", ("list",), False, "how much of the nodes is taken; without it room is unknown"),
)
"""Group, resource, verbs, whether it is in the namespace, why. `rbac.yaml` grants these and no others."""


async def check(api: Api, *, report: bool) -> Sequence[Right]:
    """Asks the server about each (SelfSubjectAccessReview); changes nothing."""
    asked = [
        (group, resource, verb, api.namespace if inside else "", why, "")
        for group, resource, verbs, inside, why in NEEDED
        for verb in verbs
    ]
    if report:
        why = "agents find the token of their reports there"
        asked += [
            ("", "secrets", "create", api.namespace, why, ""),
            ("", "secrets", "patch", api.namespace, why, TOKEN_SECRET),
        ]
    return await asyncio.gather(*(_ask(api, *each) for each in asked))


async def _ask(api: Api, group: str, resource: str, verb: str, namespace: str, why: str, name: str) -> Right:
    kind, _, sub = resource.partition("/")
    attributes = {
        "group": group,
        "resource": kind,
        "subresource": sub,
        "verb": verb,
        "namespace": namespace,
        "name": name,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
    }
    path = api.path("authorization.k8s.io/v1", "selfsubjectaccessreviews", namespace="")
    answer = await api.create(path, review, dict[str, Any])
    status = answer.get("status")
    granted = isinstance(status, dict) and status.get("allowed") is True
    where = f"in namespace {namespace}" if namespace else "in the whole cluster"
    return Right(
        name=f"{verb} {resource} {where}",
        granted=granted,
        detail=why,
        next_step=""
        if granted
        else f"kubectl apply -n {api.namespace} -f rbac.yaml (covey.fleet.providers.kubernetes)",
    )
