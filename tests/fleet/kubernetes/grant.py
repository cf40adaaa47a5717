"""What the administrator of a cluster does for Covey: a namespace, and the shipped rights bound to the user `covey`.
HARD, as JSON: a quota.

python -m tests.fleet.kubernetes.grant KUBECONFIG NAMESPACE [HARD]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lightkube import Client, KubeConfig, codecs
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Namespace, ResourceQuota

from covey.fleet.providers import kubernetes

__all__ = ["grant"]


def grant(admin: Client, namespace: str) -> None:
    """As docs/fleet/kubernetes.md says."""
    shipped = (Path(kubernetes.__file__).parent / "rbac.yaml").read_text()
    for each in codecs.load_all_yaml(shipped):
        kind = type(each).__name__
        each.metadata.namespace = namespace if kind == "Role" else None
        if kind == "ClusterRole":
            each.metadata.name = f"covey-fleet-{namespace}"
        admin.create(each)
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": f"{kind}Binding",
            "metadata": {"name": each.metadata.name, **({"namespace": namespace} if kind == "Role" else {})},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": each.metadata.name},
            "subjects": [{"kind": "User", "name": "covey", "apiGroup": "rbac.authorization.k8s.io"}],
        }
        admin.create(codecs.from_dict(binding))


if __name__ == "__main__":
    with Client(KubeConfig.from_file(sys.argv[1]).get(), trust_env=False) as client:
        client.create(Namespace(metadata=ObjectMeta(name=sys.argv[2])))
        grant(client, sys.argv[2])
        if len(sys.argv) > 3:
            hard = {"metadata": {"name": "quota", "namespace": sys.argv[2]}, "spec": {"hard": json.loads(sys.argv[3])}}
            client.create(ResourceQuota.from_dict(hard))
