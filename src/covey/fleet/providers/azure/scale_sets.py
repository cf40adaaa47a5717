"""Virtual machine scale sets (uniform orchestration) as instance groups.

A scale set is ours if it carries the tag `covey:workload`. The fleet's marks are tags of the scale set, because tags
of one machine can be written only with its whole model: `covey:epoch`, and `covey:draining0`... with
`INSTANCE@SECONDS,...`. Every order carries the scale set's etag: what another leader changed meanwhile refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from covey.fleet.errors import Permanent
from covey.fleet.providers.azure.errors import code_of, failure_kind, mapped, said
from covey.fleet.providers.base import PoolFacts, Right
from covey.fleet.providers.groups.api import DRAINING_TAG, EPOCH_TAG, WORKLOAD_TAG, Failure, Group, Instance, Life
from covey.fleet.providers.groups.calls import prove
from covey.fleet.spec.types import Pool

__all__ = ["ScaleSets"]

FAILURE_MEMORY = 600.0
TAG_VALUE = 250
"""Characters of one tag's value; Azure admits 256."""
MOST = 1000
"""Machines in one scale set (600 with an image of one's own)."""
NOBODY = "2147483647"

_ARM = re.compile(r"Standard_[A-Z]+\d+(-\d+)?[a-z]*p[a-z]*_")
"""Azure VM naming: `p` among the additive features is an ARM processor (D4ps_v5, E8pds_v6)."""
_GPU = re.compile(r"Standard_N[CDGPV]")
_BURSTABLE = re.compile(r"Standard_B\d")


class ScaleSets:
    """`GroupApi` for one resource group.

    Settings of the pool: `subscription`, `resource_group`, `region`; `endpoint` (another address of Resource Manager)
    with `token` for it, `groups` (names; absent: every scale set that carries the tag), `poll` (s between looks at an
    operation).
    """

    def __init__(self, pool: Pool, *, wall: Callable[[], float]) -> None:
        settings = pool.settings
        self._pool, self._wall = pool, wall
        missing = [name for name in ("subscription", "resource_group") if not settings.get(name)]
        if missing:
            raise Permanent(
                f"pool {pool.name} names no {' and no '.join(missing)}",
                next_step=f'[pools.{pool.name}] {missing[0]} = "..."',
            )
        try:
            from azure.core.pipeline.policies import SansIOHTTPPolicy
            from azure.identity import DefaultAzureCredential
            from azure.mgmt.compute import ComputeManagementClient
        except ImportError as error:
            raise Permanent("pools on Azure need its SDK", next_step="pip install 'covey[azure]'") from error

        self._resource_group = str(settings["resource_group"])
        endpoint = settings.get("endpoint")
        with mapped("open a session with Azure"):
            options: dict[str, Any] = {
                "retry_total": 0,  # its own retries hide throttling from the loop
                "connection_timeout": 5,
                "read_timeout": 15,
                "polling_interval": float(settings.get("poll", 5.0)),
            }
            if endpoint:
                options |= {"base_url": endpoint, "credential_scopes": [f"{endpoint}/.default"]}
                if str(endpoint).startswith("http://"):
                    options["authentication_policy"] = SansIOHTTPPolicy()  # no token ever travels in clear
            credential = DefaultAzureCredential()
            self._client: Any = ComputeManagementClient(credential, str(settings["subscription"]), **options)
        self._operations: list[tuple[str, Any]] = []
        """By scale set: orders that Azure accepted and is carrying out."""
        self._failed: list[tuple[str, Failure]] = []
        self._etags: dict[str, str | None] = {}
        self._tags: dict[str, dict[str, str]] = {}

    # --- looking ---

    def facts(self) -> PoolFacts:
        region = str(self._pool.settings.get("region", self._pool.labels.get("region", "")))
        return PoolFacts(provider="azure", labels={"region": region} if region else {}, can=("spot", "named-removal"))

    def ping(self) -> None:
        with mapped(f"reach {self._resource_group}"):
            next(iter(self._client.virtual_machine_scale_sets.list(self._resource_group)), None)

    def groups(self) -> Sequence[Group]:
        self._settle()
        named = self._pool.settings.get("groups")
        with mapped(f"list the scale sets of {self._resource_group}"):
            return [
                self._group(each)
                for each in self._client.virtual_machine_scale_sets.list(self._resource_group)
                if WORKLOAD_TAG in (each.tags or {}) and (not named or each.name in named)
            ]

    def _settle(self) -> None:
        """Ask the operations that are over how they ended. They are polled by the SDK's own threads."""
        open_ones = []
        now = self._wall()
        for name, operation in self._operations:
            if not operation.done():
                open_ones.append((name, operation))
                continue
            try:
                operation.result(0)
            except Exception as error:
                reason = said(error)
                kind = failure_kind(code_of(error), reason)
                if kind:
                    self._failed.append((name, Failure(kind=kind, at=now, reason=reason)))
        self._operations = open_ones
        self._failed = [(name, each) for name, each in self._failed if now - each.at < FAILURE_MEMORY]

    def _group(self, raw: Any) -> Group:
        tags = dict(raw.tags or {})
        name = str(raw.name)
        self._etags[name], self._tags[name] = raw.etag, tags
        draining = _draining(tags)
        machines = self._client.virtual_machine_scale_set_vms.list(self._resource_group, name, expand="instanceView")
        instances = tuple(self._instance(each, draining) for each in machines)
        profile = raw.virtual_machine_profile
        shape = str(raw.sku.name)
        return Group(
            name=name,
            workload=tags[WORKLOAD_TAG],
            shape=shape,
            spot=profile is not None and str(profile.priority or "").rpartition(".")[2].lower() in {"spot", "low"},
            zones=tuple(str(zone) for zone in raw.zones or ()),
            size=int(raw.sku.capacity or 0),
            most=min(MOST, self._pool.max_agents or MOST),
            arch="arm64" if _ARM.match(shape) else "amd64",
            special=("burstable",) if _BURSTABLE.match(shape) else (),
            gpu=1 if _GPU.match(shape) else 0,
            instances=instances,
            failures=tuple(each for group, each in self._failed if group == name),
            epoch=_number(tags.get(EPOCH_TAG, "")),
        )

    def _instance(self, raw: Any, draining: dict[str, float]) -> Instance:
        statuses = [str(each.code or "").lower() for each in (raw.instance_view and raw.instance_view.statuses) or ()]
        life = _LIVES.get(str(raw.provisioning_state or "").lower(), "pending")
        if life == "running" and any(code in _GONE for code in statuses):
            life = "unhealthy"
        created = getattr(raw, "time_created", None)
        return Instance(
            id=f"{raw.name}" if raw.name else str(raw.instance_id),
            life=life,
            zone=str((raw.zones or [""])[0]),
            launched_at=created.timestamp() if created else self._wall(),
            draining_since=draining.get(str(raw.instance_id)),
            unplaced=str(raw.provisioning_state or "").lower() in {"creating", "failed"},
        )

    # --- doing ---

    def prepare(self, group: Group) -> None:
        """Overprovisioning starts machines that nobody asked for and ends some of its own choice."""
        with mapped(f"protect {group.name}"):
            self._patch(group.name, {"properties": {"overprovision": False}})

    def resize(self, group: Group, size: int, epoch: int) -> None:
        with mapped(f"raise {group.name} to {size}"):
            self._patch(
                group.name, {"sku": {"name": group.shape, "capacity": size}, "tags": self._marked(group, epoch)}
            )

    def withdraw(self, group: Group, size: int, epoch: int) -> None:
        there = sum(each.life != "leaving" for each in group.instances)
        with mapped(f"withdraw what {group.name} did not get"):
            sku = {"name": group.shape, "capacity": max(size, there)}
            self._patch(group.name, {"sku": sku, "tags": self._marked(group, epoch)})

    def mark_draining(self, group: Group, ids: Sequence[str], at: float) -> None:
        old = {_number_of(each.id): each.draining_since for each in group.instances}
        marks = {number: since for number, since in old.items() if since is not None}
        marks |= {_number_of(each): at for each in ids}
        with mapped(f"drain {len(ids)} of {group.name}"):
            self._patch(group.name, {"tags": _with_draining(self._tags[group.name], marks)})

    def delete(self, group: Group, ids: Sequence[str], epoch: int) -> Sequence[str]:
        from azure.mgmt.compute.models import VirtualMachineScaleSetVMInstanceRequiredIDs

        with mapped(f"end {', '.join(ids)} of {group.name}"):
            if group.epoch != epoch:
                self._patch(group.name, {"tags": self._marked(group, epoch)})
            numbers = VirtualMachineScaleSetVMInstanceRequiredIDs(instance_ids=[_number_of(each) for each in ids])
            operation = self._client.virtual_machine_scale_sets.begin_delete_instances(
                self._resource_group, group.name, numbers
            )
            self._operations.append((group.name, operation))
        return list(ids)

    def _patch(self, name: str, body: dict[str, Any]) -> None:
        from azure.core import MatchConditions

        etag = self._etags.get(name)
        condition: dict[str, Any] = {"etag": etag, "match_condition": MatchConditions.IfNotModified} if etag else {}
        operation = self._client.virtual_machine_scale_sets.begin_update(self._resource_group, name, body, **condition)
        self._etags[name] = None  # our own change; the next look brings the new one
        if "tags" in body:
            self._tags[name] = dict(body["tags"])
        self._operations.append((name, operation))

    def _marked(self, group: Group, epoch: int) -> dict[str, str]:
        return {**self._tags[group.name], EPOCH_TAG: str(epoch)}

    # --- rights ---

    @staticmethod
    def _prove(name: str, call: Callable[[], Any]) -> Right:
        return prove(name, call, mapped)

    def rights(self, groups: Sequence[Group]) -> Sequence[Right]:
        """Each verb once, so that it changes nothing: the tags that are there, a machine that does not exist."""
        proofs = [self._prove("Microsoft.Compute/virtualMachineScaleSets/read", self.ping)]
        if not groups:
            hint = f"tag a scale set with {WORKLOAD_TAG}=WORKLOAD; without one there is nothing to prove the rest on"
            return [*proofs, Right(name="a scale set of ours", granted=False, detail="none found", next_step=hint)]
        one = groups[0]
        scale_sets = self._client.virtual_machine_scale_sets
        return [
            *proofs,
            self._prove(
                "Microsoft.Compute/virtualMachineScaleSets/write",
                lambda: self._patch(one.name, {"tags": self._tags[one.name]}),
            ),
            self._prove(
                "Microsoft.Compute/virtualMachineScaleSets/delete/action",
                lambda: scale_sets.begin_delete_instances(
                    self._resource_group, one.name, {"instanceIds": [NOBODY]}, polling=False
                ),
            ),
        ]


_LIVES: dict[str, Life] = {
    "succeeded": "running",
    "updating": "running",
    "failed": "unhealthy",
    "deleting": "leaving",
}
"""By provisioningState; with any other it is on its way."""
_GONE = frozenset({"powerstate/deallocated", "powerstate/deallocating", "powerstate/stopped"})


def _number_of(agent: str) -> str:
    """`fraud_12` -> `12`: a machine's name is its scale set's with its number."""
    return agent.rpartition("_")[2]


def _draining(tags: dict[str, str]) -> dict[str, float]:
    marks: dict[str, float] = {}
    for key, value in tags.items():
        if key.startswith(DRAINING_TAG):
            for entry in value.split(","):
                number, _, at = entry.partition("@")
                if number.isdigit() and at.isdigit():
                    marks[number] = float(at)
    return marks


def _with_draining(tags: dict[str, str], marks: dict[str, float]) -> dict[str, str]:
    """The tags with these marks and no others, in as many values as they need."""
    values = [""]
    for number, at in sorted(marks.items()):
        entry = f"{number}@{int(at)}"
        if len(values[-1]) + 1 + len(entry) > TAG_VALUE:
            values.append("")
        values[-1] = f"{values[-1]},{entry}" if values[-1] else entry
    rest = {key: value for key, value in tags.items() if not key.startswith(DRAINING_TAG)}
    return rest | {f"{DRAINING_TAG}{n}": value for n, value in enumerate(values) if value}


def _number(text: str) -> int:
    return int(text) if text.isdigit() and len(text) < 16 else 0
