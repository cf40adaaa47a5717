"""Auto Scaling groups as instance groups.

A group is ours if it carries the tag `covey:workload`. What it launches is its own launch template's business; the
fleet sets sizes and names what ends. Its marks are tags: `covey:epoch` on a group, `covey:draining` on an instance.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from covey.fleet.errors import Permanent
from covey.fleet.providers.aws.client import client
from covey.fleet.providers.aws.errors import failure_kind, mapped
from covey.fleet.providers.base import PoolFacts, Right
from covey.fleet.providers.groups.api import (
    DRAINING_TAG,
    EPOCH_TAG,
    WORKLOAD_TAG,
    Failure,
    Group,
    Instance,
    Life,
)
from covey.fleet.providers.groups.calls import prove
from covey.fleet.spec.types import Pool

__all__ = ["AutoScaling"]

FAILURE_MEMORY = 600.0
"""Seconds for which a failed activity is told again; the loop knows old from new by its time."""
ACTIVITIES = 20
INSTANCES_A_CALL = 200
"""EC2 takes up to 1,000 ids; fewer keep one answer below a second."""
NOBODY = "i-00000000000000000"

_LIVES: dict[str, Life] = {
    "Pending": "pending",
    "Pending:Wait": "pending",
    "Pending:Proceed": "pending",
    "Warmed:Pending": "pending",
    "InService": "running",
    "Standby": "running",
    "EnteringStandby": "running",
}
"""By LifecycleState; every other one ends (Auto Scaling User Guide, "Instance lifecycle")."""

_FAMILIES_ARM = (
    "a1",
    "m6g",
    "m7g",
    "m8g",
    "c6g",
    "c7g",
    "c8g",
    "r6g",
    "r7g",
    "r8g",
    "t4g",
    "x2g",
    "im4g",
    "is4g",
    "g5g",
    "i4g",
    "i8g",
)


def _family(shape: str) -> str:
    return shape.partition(".")[0]


def arch_of(shape: str) -> str:
    """The architecture, from the family's name: Graviton families carry a `g` after the generation."""
    return "arm64" if _family(shape).startswith(_FAMILIES_ARM) else "amd64"


def special_of(shape: str) -> tuple[str, ...]:
    """Kinds that are taken only if asked for."""
    kinds = []
    if re.match(r"t[0-9]", shape):
        kinds.append("burstable")
    if ".metal" in shape:
        kinds.append("bare-metal")
    return tuple(kinds)


class AutoScaling:
    """`GroupApi` for one region and one set of credentials.

    Settings of the pool: `region`, `profile`, `endpoint` (another address of the API), `groups` (names; absent:
    every group that carries the tag).
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        settings = pool.settings
        self._region = str(settings.get("region") or pool.labels.get("region") or "")
        if not self._region:
            raise Permanent(f"pool {pool.name} names no region", next_step=f'[pools.{pool.name}] region = "us-east-1"')
        self._groups_api = client("autoscaling", settings, region=self._region)
        self._ec2 = client("ec2", settings, region=self._region)
        self._shapes: dict[tuple[str, str], tuple[str, bool]] = {}

    # --- looking ---

    def facts(self) -> PoolFacts:
        with mapped(f"describe {self._region}"):
            zones = self._ec2.describe_availability_zones()["AvailabilityZones"]
        return PoolFacts(
            provider="aws",
            labels={"region": self._region, "zones": ",".join(sorted(str(zone["ZoneName"]) for zone in zones))},
            can=("spot", "named-removal"),
        )

    def ping(self) -> None:
        with mapped(f"reach Auto Scaling in {self._region}"):
            self._groups_api.describe_auto_scaling_groups(MaxRecords=1)

    def groups(self) -> Sequence[Group]:
        with mapped(f"list the groups of {self._region}"):
            pages = self._groups_api.get_paginator("describe_auto_scaling_groups").paginate(
                Filters=[{"Name": "tag-key", "Values": [WORKLOAD_TAG]}]
            )
            raw = [group for page in pages for group in page["AutoScalingGroups"]]
            named = self._pool.settings.get("groups")
            raw = [group for group in raw if not named or group["AutoScalingGroupName"] in named]
            raw = [group for group in raw if not group.get("Status")]  # a status means that it is being deleted
            machines = self._machines(each["InstanceId"] for group in raw for each in group["Instances"])
            return [self._group(each, machines) for each in raw]

    def _machines(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """What EC2 knows of them: launch time, address, tags."""
        wanted = list(ids)
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, len(wanted), INSTANCES_A_CALL):
            # A filter and not InstanceIds: one id that has just gone would fail the whole call.
            pages = self._ec2.get_paginator("describe_instances").paginate(
                Filters=[{"Name": "instance-id", "Values": wanted[start : start + INSTANCES_A_CALL]}]
            )
            for page in pages:
                for reservation in page["Reservations"]:
                    found.update({each["InstanceId"]: each for each in reservation["Instances"]})
        return found

    def _group(self, raw: dict[str, Any], machines: dict[str, dict[str, Any]]) -> Group:
        tags = {tag["Key"]: tag["Value"] for tag in raw.get("Tags", [])}
        name = str(raw["AutoScalingGroupName"])
        shape, spot = self._shape(raw, tags)
        instances = tuple(_instance(each, machines.get(each["InstanceId"], {})) for each in raw["Instances"])
        waiting = raw["DesiredCapacity"] > sum(each.life != "leaving" for each in instances)
        return Group(
            name=name,
            workload=tags[WORKLOAD_TAG],
            shape=shape,
            spot=spot,
            zones=tuple(sorted(raw.get("AvailabilityZones", []))),
            size=int(raw["DesiredCapacity"]),
            least=int(raw["MinSize"]),
            most=int(raw["MaxSize"]),
            arch=arch_of(shape),
            special=special_of(shape),
            instances=instances,
            failures=tuple(self._failures(name)) if waiting else (),
            epoch=_number(tags.get(EPOCH_TAG, "0")),
        )

    def _failures(self, name: str) -> Iterable[Failure]:
        answer = self._groups_api.describe_scaling_activities(AutoScalingGroupName=name, MaxRecords=ACTIVITIES)
        for activity in answer["Activities"]:
            at = (activity.get("EndTime") or activity["StartTime"]).timestamp()
            kind = failure_kind(activity.get("StatusMessage", ""))
            if activity["StatusCode"] in ("Failed", "Cancelled") and kind and time.time() - at < FAILURE_MEMORY:
                yield Failure(kind=kind, at=at, reason=activity["StatusMessage"][:500])

    def _shape(self, raw: dict[str, Any], tags: dict[str, str]) -> tuple[str, bool]:
        """Instance type and whether it is spot, of the group's template. Of several types the first is priced."""
        mixed = raw.get("MixedInstancesPolicy") or {}
        template = (mixed.get("LaunchTemplate") or {}).get("LaunchTemplateSpecification") or raw.get("LaunchTemplate")
        shape, spot = "", False
        if template:
            shape, spot = self._template(template["LaunchTemplateId"], template.get("Version", "$Default"))
        elif raw.get("LaunchConfigurationName"):
            name = raw["LaunchConfigurationName"]
            found = self._groups_api.describe_launch_configurations(LaunchConfigurationNames=[name])
            for each in found["LaunchConfigurations"]:
                shape, spot = each["InstanceType"], bool(each.get("SpotPrice"))
        overrides = (mixed.get("LaunchTemplate") or {}).get("Overrides") or []
        if overrides and overrides[0].get("InstanceType"):
            shape = overrides[0]["InstanceType"]
        distribution = mixed.get("InstancesDistribution") or {}
        if distribution.get("OnDemandPercentageAboveBaseCapacity") == 0 and not distribution.get(
            "OnDemandBaseCapacity"
        ):
            spot = True
        return shape or "unknown", spot

    def _template(self, template: str, version: str) -> tuple[str, bool]:
        # A numbered version never changes; $Latest and $Default are asked for again each time.
        known = self._shapes.get((template, version))
        if known:
            return known
        found = self._ec2.describe_launch_template_versions(LaunchTemplateId=template, Versions=[version])
        data = found["LaunchTemplateVersions"][0]["LaunchTemplateData"]
        market = (data.get("InstanceMarketOptions") or {}).get("MarketType")
        shape = (str(data.get("InstanceType", "unknown")), market == "spot")
        if version.isdigit():
            self._shapes[template, version] = shape
        return shape

    # --- doing ---

    def prepare(self, group: Group) -> None:
        """Rebalancing between zones ends machines of its own choice, busy or not; so does any other scale-in policy."""
        with mapped(f"protect {group.name}"):
            self._groups_api.suspend_processes(AutoScalingGroupName=group.name, ScalingProcesses=["AZRebalance"])
            self._groups_api.update_auto_scaling_group(
                AutoScalingGroupName=group.name, NewInstancesProtectedFromScaleIn=True
            )
            ids = [each.id for each in group.instances if each.life == "running"]
            for start in range(0, len(ids), 50):  # the API's limit for one call
                self._groups_api.set_instance_protection(
                    AutoScalingGroupName=group.name, InstanceIds=ids[start : start + 50], ProtectedFromScaleIn=True
                )

    def resize(self, group: Group, size: int, epoch: int) -> None:
        with mapped(f"raise {group.name} to {size}"):
            self._mark(group, epoch)
            self._groups_api.set_desired_capacity(
                AutoScalingGroupName=group.name, DesiredCapacity=size, HonorCooldown=False
            )

    def withdraw(self, group: Group, size: int, epoch: int) -> None:
        there = sum(each.life != "leaving" for each in group.instances)
        with mapped(f"withdraw what {group.name} did not get"):
            self._mark(group, epoch)
            self._groups_api.set_desired_capacity(
                AutoScalingGroupName=group.name, DesiredCapacity=max(size, there, group.least), HonorCooldown=False
            )

    def mark_draining(self, group: Group, ids: Sequence[str], at: float) -> None:
        with mapped(f"drain {len(ids)} of {group.name}"):
            self._ec2.create_tags(Resources=list(ids), Tags=[{"Key": DRAINING_TAG, "Value": f"{at:.3f}"}])

    def delete(self, group: Group, ids: Sequence[str], epoch: int) -> Sequence[str]:
        gone = []
        with mapped(f"end {', '.join(ids)} of {group.name}"):
            self._mark(group, epoch)
            for each in ids:
                try:
                    with mapped(f"end {each} of {group.name}"):
                        self._groups_api.terminate_instance_in_auto_scaling_group(
                            InstanceId=each, ShouldDecrementDesiredCapacity=True
                        )
                except Permanent as error:
                    if "not found" not in error.message.lower():
                        raise
                gone.append(each)
        return gone

    def _mark(self, group: Group, epoch: int) -> None:
        if group.epoch == epoch:
            return
        tag = {"ResourceId": group.name, "ResourceType": "auto-scaling-group", "PropagateAtLaunch": False}
        self._groups_api.create_or_update_tags(Tags=[{**tag, "Key": EPOCH_TAG, "Value": str(epoch)}])

    # --- rights ---

    @staticmethod
    def _prove(name: str, call: Callable[[], Any]) -> Right:
        return prove(name, call, mapped)

    def rights(self, groups: Sequence[Group]) -> Sequence[Right]:
        """Each verb once, so that it changes nothing: the size that is, a machine that does not exist, a dry run."""
        proofs: list[Right] = [self._prove("autoscaling:DescribeAutoScalingGroups", self.ping)]
        if not groups:
            hint = f"tag a group with {WORKLOAD_TAG}=WORKLOAD; without one there is nothing to prove the rest on"
            return [*proofs, Right(name="a group of ours", granted=False, detail="none found", next_step=hint)]
        one = groups[0]
        name = one.name
        return [
            *proofs,
            self._prove("autoscaling:DescribeScalingActivities", lambda: list(self._failures(name))),
            self._prove(
                "autoscaling:SetDesiredCapacity",
                lambda: self._groups_api.set_desired_capacity(
                    AutoScalingGroupName=name, DesiredCapacity=one.size, HonorCooldown=False
                ),
            ),
            self._prove(
                "autoscaling:TerminateInstanceInAutoScalingGroup",
                lambda: self._groups_api.terminate_instance_in_auto_scaling_group(
                    InstanceId=NOBODY, ShouldDecrementDesiredCapacity=True
                ),
            ),
            self._prove(
                "autoscaling:SuspendProcesses, UpdateAutoScalingGroup, SetInstanceProtection", lambda: self.prepare(one)
            ),
            self._prove("autoscaling:CreateOrUpdateTags", lambda: self._mark(one, one.epoch)),
            self._prove(
                "ec2:CreateTags",
                lambda: self._ec2.create_tags(
                    Resources=[NOBODY], Tags=[{"Key": DRAINING_TAG, "Value": "0"}], DryRun=True
                ),
            ),
        ]


def _instance(raw: dict[str, Any], machine: dict[str, Any]) -> Instance:
    tags = {tag["Key"]: tag["Value"] for tag in machine.get("Tags", [])}
    life: Life = _LIVES.get(raw["LifecycleState"], "leaving")
    if life == "running" and raw.get("HealthStatus", "Healthy").lower() != "healthy":
        life = "unhealthy"
    if machine.get("State", {}).get("Name") in ("shutting-down", "terminated", "stopping", "stopped"):
        life = "leaving"
    launched = machine.get("LaunchTime")
    mark = tags.get(DRAINING_TAG)
    return Instance(
        id=str(raw["InstanceId"]),
        life=life,
        zone=str(raw.get("AvailabilityZone", "")),
        launched_at=launched.timestamp() if launched else time.time(),
        draining_since=None if mark is None else _number(mark),
        address=str(machine.get("PrivateIpAddress", "")),
        version=tags.get("covey:version", ""),
    )


def _number(text: str) -> Any:
    """A tag of ours as a number; anybody with rights can write tags, so what is no number is 0."""
    try:
        value = float(text)
    except ValueError:
        return 0
    return int(value) if value == int(value) else value
