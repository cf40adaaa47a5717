"""Managed instance groups as instance groups of the fleet.

A group is ours if its all-instances configuration carries the label `covey-workload`; the fleet's marks are the label
`covey-epoch` there (written with the group's fingerprint: another leader's change refuses it) and `covey-draining` on a
machine. Orders carry a request id made of plan, group and size, so that GCP itself drops a repetition.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from covey.fleet.errors import Permanent
from covey.fleet.providers.base import PoolFacts, Right
from covey.fleet.providers.gcp.errors import failure_kind, mapped
from covey.fleet.providers.groups.api import Failure, Group, Instance, Life
from covey.fleet.providers.groups.calls import prove
from covey.fleet.spec.types import Pool

__all__ = ["InstanceGroups"]

CALL_SECONDS = 10.0
FAILURE_MEMORY = 600.0
MOST = 1000
WORKLOAD_LABEL, EPOCH_LABEL, DRAINING_LABEL = "covey-workload", "covey-epoch", "covey-draining"
"""GCP's labels admit no colon."""

_ARM = re.compile(r"(t2a|c4a|n4a|a4x)-")
_BURSTABLE = re.compile(r"e2-(micro|small|medium)$|f1-|g1-")
_GPU = re.compile(r"(a2|a3|a4|a4x|g2|g4)-")

_LIVES: dict[str, Life] = {
    "CREATING": "pending",
    "CREATING_WITHOUT_RETRIES": "pending",
    "RECREATING": "pending",
    "STARTING": "pending",
    "RESUMING": "pending",
    "DELETING": "leaving",
    "ABANDONING": "leaving",
    "STOPPING": "leaving",
    "SUSPENDING": "leaving",
}
"""By a managed instance's currentAction; with any other its status decides."""


class InstanceGroups:
    """`GroupApi` for one zone, or one region of regional groups.

    Settings of the pool: `project`, `zone` or `region`; `endpoint` (another address of the API, asked without
    credentials), `groups` (names; absent: every group that carries the label).
    """

    def __init__(self, pool: Pool, *, wall: Callable[[], float]) -> None:
        settings = pool.settings
        self._pool, self._wall = pool, wall
        self._project = str(settings.get("project", ""))
        zone = settings.get("zone") or pool.labels.get("zone")
        region = settings.get("region") or pool.labels.get("region")
        if not self._project or not (zone or region):
            raise Permanent(
                f"pool {pool.name} needs project, and zone or region",
                next_step=f'[pools.{pool.name}] project = "...", zone = "europe-west4-a"',
            )
        self._place = {"project": self._project} | ({"zone": str(zone)} if zone else {"region": str(region)})
        try:
            from google.cloud import compute_v1
        except ImportError as error:
            raise Permanent("pools on GCP need its SDK", next_step="pip install 'covey[gcp]'") from error
        with mapped("open a session with GCP"):
            self._migs = self._client(
                compute_v1.InstanceGroupManagersClient if zone else compute_v1.RegionInstanceGroupManagersClient
            )
            self._machines = self._client(compute_v1.InstancesClient)
            self._templates = self._client(compute_v1.InstanceTemplatesClient)
        self._shapes: dict[str, tuple[str, bool]] = {}
        self._raw: dict[str, Any] = {}
        self._links: dict[str, tuple[str, str]] = {}
        """By name of a machine: its zone, and the fingerprint of its labels."""
        self._labels: dict[str, dict[str, str]] = {}

    def _client(self, kind: Any) -> Any:
        endpoint = self._pool.settings.get("endpoint")
        if not endpoint:
            return kind()
        from google.auth.credentials import AnonymousCredentials

        scheme, _, host = str(endpoint).partition("://")
        transport = kind.get_transport_class("rest")
        return kind(transport=transport(host=host, url_scheme=scheme, credentials=AnonymousCredentials()))  # type: ignore[no-untyped-call]

    def _ask(self, method: Callable[..., Any], **request: Any) -> Any:
        return method(request=request, retry=None, timeout=CALL_SECONDS)

    # --- looking ---

    def facts(self) -> PoolFacts:
        labels = {key: value for key, value in self._place.items() if key != "project"}
        if "zone" in labels:
            labels["region"] = labels["zone"].rpartition("-")[0]
        return PoolFacts(provider="gcp", labels=labels, can=("spot", "named-removal"))

    def ping(self) -> None:
        with mapped(f"reach {self._project}"):
            next(iter(self._ask(self._migs.list, **self._place, max_results=1)), None)

    def groups(self) -> Sequence[Group]:
        named = self._pool.settings.get("groups")
        with mapped(f"list the instance groups of {self._project}"):
            ours = [
                each
                for each in self._ask(self._migs.list, **self._place)
                if WORKLOAD_LABEL in each.all_instances_config.properties.labels and (not named or each.name in named)
            ]
            return [self._group(each) for each in ours]

    def _group(self, raw: Any) -> Group:
        self._raw[raw.name] = raw
        labels = dict(raw.all_instances_config.properties.labels)
        shape, spot = self._shape(raw)
        managed = list(self._ask(self._migs.list_managed_instances, **self._place, instance_group_manager=raw.name))
        details = self._details(managed, labels[WORKLOAD_LABEL])
        instances = tuple(self._instance(each, details.get(_last(each.instance))) for each in managed)
        zones = [_last(zone.zone) for zone in raw.distribution_policy.zones] or [self._place.get("zone", "")]
        return Group(
            name=str(raw.name),
            workload=labels[WORKLOAD_LABEL],
            shape=shape,
            spot=spot,
            zones=tuple(sorted(zone for zone in zones if zone)),
            size=int(raw.target_size),
            most=min(MOST, self._pool.max_agents or MOST),
            arch="arm64" if _ARM.match(shape) else "amd64",
            special=("burstable",) if _BURSTABLE.match(shape) else (),
            gpu=1 if _GPU.match(shape) else 0,
            instances=instances,
            failures=tuple(self._failures(raw.name)) if any(each.life == "pending" for each in instances) else (),
            epoch=_number(labels.get(EPOCH_LABEL, "")),
        )

    def _shape(self, raw: Any) -> tuple[str, bool]:
        """Machine type and whether it is spot; a template never changes."""
        link = str(raw.instance_template or (raw.versions[0].instance_template if raw.versions else ""))
        if link not in self._shapes:
            template = self._ask(self._templates.get, project=self._project, instance_template=_last(link))
            scheduling = template.properties.scheduling
            spot = scheduling.provisioning_model == "SPOT" or bool(scheduling.preemptible)
            self._shapes[link] = _last(template.properties.machine_type), spot
        return self._shapes[link]

    def _details(self, managed: Sequence[Any], workload: str) -> dict[str, Any]:
        """What only the machines' own list tells: labels, creation, address. One call for each zone."""
        zones = sorted({_zone(each.instance) for each in managed})
        found = {}
        for zone in zones:
            matching = f"labels.{WORKLOAD_LABEL}={workload}"
            for each in self._ask(self._machines.list, project=self._project, zone=zone, filter=matching):
                found[str(each.name)] = each
                self._links[each.name] = zone, each.label_fingerprint
                self._labels[each.name] = dict(each.labels)
        return found

    def _failures(self, name: str) -> Iterable[Failure]:
        now = self._wall()
        for each in self._ask(self._migs.list_errors, **self._place, instance_group_manager=name):
            kind, at = failure_kind(each.error.code), _time(each.timestamp)
            if kind and at is not None and now - at < FAILURE_MEMORY:
                yield Failure(kind=kind, at=at, reason=f"{each.error.code}: {each.error.message}"[:500])

    def _instance(self, raw: Any, machine: Any) -> Instance:
        life = _LIVES.get(raw.current_action)
        if life is None:
            life = {"RUNNING": "running", "PROVISIONING": "pending", "STAGING": "pending"}.get(  # type: ignore[assignment]
                raw.instance_status, "unhealthy"
            )
        unwell = [str(each.detailed_health_state) for each in raw.instance_health]
        if life == "running" and any(state in {"UNHEALTHY", "TIMEOUT"} for state in unwell):
            life = "unhealthy"
        draining = machine.labels.get(DRAINING_LABEL, "") if machine is not None else ""
        created = _time(machine.creation_timestamp) if machine is not None else None
        interfaces = machine.network_interfaces if machine is not None else ()
        return Instance(
            id=_last(raw.instance),
            life=life or "unhealthy",
            zone=_zone(raw.instance),
            launched_at=self._wall() if created is None else created,
            draining_since=float(draining) if draining.isdigit() else None,
            unplaced=life == "pending" and raw.instance_status in {"", "PROVISIONING"},
            address=str(interfaces[0].network_i_p) if interfaces else "",
        )

    # --- doing ---

    def prepare(self, group: Group) -> None:
        """Nothing: a zonal group ends no machine of its own choice; a regional one must not redistribute."""
        if "region" not in self._place:
            return
        policy = {"update_policy": {"instance_redistribution_type": "NONE"}}
        with mapped(f"protect {group.name}"):
            self._ask(
                self._migs.patch, **self._place, instance_group_manager=group.name,
                instance_group_manager_resource=policy,
            )  # fmt: skip

    def resize(self, group: Group, size: int, epoch: int) -> None:
        with mapped(f"raise {group.name} to {size}"):
            self._mark(group, epoch)
            self._ask(
                self._migs.resize, **self._place, instance_group_manager=group.name, size=size,
                request_id=_request_id("resize", group, epoch, str(group.size), str(size)),
            )  # fmt: skip

    def withdraw(self, group: Group, size: int, epoch: int) -> None:
        """Never needed: what GCP has not started yet is a managed instance with a name, and ends by `delete`."""

    def mark_draining(self, group: Group, ids: Sequence[str], at: float) -> None:
        with mapped(f"drain {len(ids)} of {group.name}"):
            for each in ids:
                if each not in self._links:
                    continue  # not created yet: it has nothing to finish
                zone, fingerprint = self._links[each]
                labels = self._labels[each] | {DRAINING_LABEL: str(int(at))}
                self._ask(
                    self._machines.set_labels, project=self._project, zone=zone, instance=each,
                    instances_set_labels_request_resource={"labels": labels, "label_fingerprint": fingerprint},
                )  # fmt: skip

    def delete(self, group: Group, ids: Sequence[str], epoch: int) -> Sequence[str]:
        zones = {each.id: each.zone for each in group.instances}
        links = [f"projects/{self._project}/zones/{zones[each]}/instances/{each}" for each in ids]
        body = {"instances": links, "skip_instances_on_validation_error": True}
        resource = "region_" if "region" in self._place else ""
        with mapped(f"end {', '.join(ids)} of {group.name}"):
            self._mark(group, epoch)
            self._ask(
                self._migs.delete_instances, **self._place, instance_group_manager=group.name,
                request_id=_request_id("delete", group, epoch, *sorted(ids)),
                **{f"{resource}instance_group_managers_delete_instances_request_resource": body},
            )  # fmt: skip
        return list(ids)

    def _mark(self, group: Group, epoch: int) -> None:
        if group.epoch == epoch:
            return
        raw = self._raw[group.name]
        labels = dict(raw.all_instances_config.properties.labels) | {EPOCH_LABEL: str(epoch)}
        body = {"fingerprint": raw.fingerprint, "all_instances_config": {"properties": {"labels": labels}}}
        self._ask(
            self._migs.patch, **self._place, instance_group_manager=group.name, instance_group_manager_resource=body
        )

    # --- rights ---

    @staticmethod
    def _prove(name: str, call: Callable[[], Any]) -> Right:
        return prove(name, call, mapped)

    def rights(self, groups: Sequence[Group]) -> Sequence[Right]:
        """Each verb once, so that it changes nothing: the size that is, no machines."""
        proofs = [self._prove("compute.instanceGroupManagers.list", self.ping)]
        if not groups:
            hint = f"give a group's all-instances configuration the label {WORKLOAD_LABEL}=WORKLOAD"
            return [*proofs, Right(name="a group of ours", granted=False, detail="none found", next_step=hint)]
        one = groups[0]
        return [
            *proofs,
            self._prove("compute.instanceGroupManagers.update (size)", lambda: self._same_size(one)),
            self._prove("compute.instanceGroupManagers.update (machines)", lambda: self.delete(one, [], one.epoch)),
            self._prove("compute.instances.list", lambda: self._details([], one.workload)),
        ]

    def _same_size(self, group: Group) -> None:
        self._ask(self._migs.resize, **self._place, instance_group_manager=group.name, size=group.size)


def _last(link: str) -> str:
    return str(link).rpartition("/")[2]


def _zone(link: str) -> str:
    """`.../zones/europe-west4-a/instances/x` -> `europe-west4-a`."""
    parts = str(link).split("/")
    return parts[parts.index("zones") + 1] if "zones" in parts else ""


def _request_id(*parts: Any) -> str:
    """The same order has the same id: GCP drops the second within the hour."""
    words = [part.name if isinstance(part, Group) else str(part) for part in parts]
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "covey:" + ":".join(words)))


def _time(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _number(text: str) -> int:
    return int(text) if text.isdigit() and len(text) < 16 else 0
