"""What a pool of the spec says about a cluster, in the types that we use."""

from __future__ import annotations

from pathlib import Path

import msgspec

from covey.base.errors import UsageError
from covey.fleet.spec.types import Pool

__all__ = ["Settings", "read"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`pools.NAME` with `provider = "kubernetes"`."""

    context: str = ""
    kubeconfig: str = ""
    namespace: str = ""
    node_selector: dict[str, str] = {}
    service_account: str = ""
    pull_secrets: tuple[str, ...] = ()
    report: str = ""
    """Where agents in this cluster reach the controller; "": they do not report."""
    autoscaled: bool = False
    """Nodes come when pods wait for them (Cluster Autoscaler, Karpenter): room is unknown, and a pod that waits has not
    failed."""


def read(pool: Pool) -> Settings:
    """Raises UsageError for a setting that is unknown or of another type."""
    try:
        settings = msgspec.convert(pool.settings, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"pool {pool.name}: {error}", next_step="covey fleet schema") from error
    unknown = sorted(set(pool.settings) - set(Settings.__struct_fields__))
    if unknown:
        raise UsageError(f"pool {pool.name}: kubernetes knows no setting {unknown[0]}", next_step="covey fleet schema")
    return msgspec.structs.replace(
        settings, kubeconfig=str(Path(settings.kubeconfig).expanduser()) if settings.kubeconfig else ""
    )
