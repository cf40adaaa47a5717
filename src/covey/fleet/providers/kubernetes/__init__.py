"""Kubernetes: one namespace of one cluster, through lightkube (`pip install 'covey[kubernetes]'`).

`api` makes requests and knows what refusals mean, `objects` is what we read, `nodes` and `look` turn that into the
loop's words, `template` makes Deployments, `rights` proves what `rbac.yaml` grants, `provider` has the verbs.
"""

from __future__ import annotations

from covey.fleet.providers.kubernetes import settings
from covey.fleet.providers.kubernetes.api import connect
from covey.fleet.providers.kubernetes.provider import Kubernetes
from covey.fleet.providers.registry import Surroundings
from covey.fleet.spec.types import Pool

__all__ = ["make"]


def make(pool: Pool, surroundings: Surroundings) -> Kubernetes:
    """The provider of one pool. Reads the kubeconfig and contacts nobody."""
    found = settings.read(pool)
    api = connect(kubeconfig=found.kubeconfig, context=found.context, namespace=found.namespace, pool=pool.name)
    return Kubernetes(pool, found, api, surroundings)
