"""Managed instance groups of Compute Engine's REST API v1, one zone; written from the public reference.

Machines come up when the test says (`run`), or at once (`instant`); beyond `room` they stay CREATING and the group
reports ZONE_RESOURCE_POOL_EXHAUSTED, as the real one does while it tries again and again.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.fleet.clouds.rest import Answer, Request, Server, answer

_ZONE = r"/compute/v1/projects/(?P<project>[^/]+)/zones/(?P<zone>[^/]+)"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass
class Machine:
    name: str
    action: str = "CREATING"
    labels: dict[str, str] = field(default_factory=dict)
    created: str = field(default_factory=_now)
    version: int = 1


@dataclass
class Group:
    name: str
    template: str
    labels: dict[str, str]
    size: int = 0
    version: int = 1
    machines: dict[str, Machine] = field(default_factory=dict)
    errors: list[tuple[str, str, str]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)


class Compute(Server):
    def __init__(self, *, instant: bool = True) -> None:
        self.groups: dict[str, Group] = {}
        self.templates: dict[str, tuple[str, bool]] = {}
        self.instant = instant
        self.room: dict[str, int] = {}
        self.code = "ZONE_RESOURCE_POOL_EXHAUSTED"
        self._ids = itertools.count(1)
        super().__init__()

    def add(self, group: Group) -> None:
        self.groups[group.name] = group

    def handle(self, request: Request) -> Answer:
        with self._lock:
            template = re.fullmatch(r"/compute/v1/projects/[^/]+/global/instanceTemplates/([^/]+)", request.path)
            if template:
                return self._template(template[1])
            match = re.fullmatch(_ZONE + r"/(?P<kind>instanceGroupManagers|instances)(?P<rest>/.*)?", request.path)
            if not match:
                return _error(404, "notFound", request.path)
            parts = (match["rest"] or "").strip("/").split("/")
            if match["kind"] == "instances":
                return self._instances(request, parts)
            if parts == [""]:
                return answer({"items": [self._json(each) for each in self.groups.values()]})
            group = self.groups.get(parts[0])
            if group is None:
                return _error(404, "notFound", parts[0])
            return self._group(request, group, parts[1] if len(parts) > 1 else "")

    def _group(self, request: Request, group: Group, verb: str) -> Answer:
        if request.method == "PATCH":
            if request.json.get("fingerprint", "") not in {"", f"Zg{group.version}=="}:
                return _error(412, "conditionNotMet", "fingerprint")
            labels = request.json.get("allInstancesConfig", {}).get("properties", {}).get("labels")
            group.labels, group.version = labels or group.labels, group.version + 1
            return self._done()
        if verb == "listManagedInstances":
            return answer({"managedInstances": [self._managed(group, each) for each in group.machines.values()]})
        if verb == "listErrors":
            return answer(
                {
                    "items": [
                        {"error": {"code": code, "message": message}, "timestamp": at}
                        for at, code, message in group.errors
                    ]
                }
            )
        if verb == "resize":
            key = re.search(r"requestId=([^&]+)", request.query)
            if key and key[1] in group.seen:
                return self._done()  # the same order again: GCP drops it
            group.seen.add(key[1] if key else "")
            group.size = int(re.search(r"size=(\d+)", request.query)[1])
            while len(group.machines) < group.size:
                name = f"{group.name}-{next(self._ids):04x}"
                group.machines[name] = Machine(name, labels=dict(group.labels))
            if self.instant:
                self.run(group.name)
            return self._done()
        if verb == "deleteInstances":
            for link in request.json.get("instances", []):
                if group.machines.pop(link.rpartition("/")[2], None) is not None:
                    group.size -= 1
            return self._done()
        return _error(404, "notFound", verb)

    def run(self, name: str) -> None:
        """Bring up what can be brought up."""
        with self._lock:
            group = self.groups[name]
            standing = sum(each.action == "NONE" for each in group.machines.values())
            for each in group.machines.values():
                if each.action != "CREATING":
                    continue
                if standing < self.room.get(name, 10_000):
                    each.action = "NONE"
                    standing += 1
                else:
                    text = f"The zone does not have enough resources available to fulfill the request: {each.name}"
                    group.errors.append((_now(), self.code, text))

    def _instances(self, request: Request, parts: list[str]) -> Answer:
        machines = {each.name: each for group in self.groups.values() for each in group.machines.values()}
        if len(parts) == 2 and parts[1] == "setLabels":
            machine = machines.get(parts[0])
            if machine is None:
                return _error(404, "notFound", parts[0])
            if request.json.get("labelFingerprint") != f"TA{machine.version}==":
                return _error(412, "conditionNotMet", "labelFingerprint")
            machine.labels, machine.version = request.json["labels"], machine.version + 1
            return self._done()
        return answer(
            {
                "items": [
                    {
                        "name": each.name,
                        "labels": each.labels,
                        "labelFingerprint": f"TA{each.version}==",
                        "creationTimestamp": each.created,
                        "status": "RUNNING",
                        "networkInterfaces": [{"networkIP": "10.0.0.7"}],
                    }
                    for each in machines.values()
                    if each.action == "NONE"
                ]
            }
        )

    def _json(self, group: Group) -> dict[str, Any]:
        return {
            "name": group.name,
            "targetSize": group.size,
            "instanceTemplate": f"projects/p/global/instanceTemplates/{group.template}",
            "fingerprint": f"Zg{group.version}==",
            "allInstancesConfig": {"properties": {"labels": group.labels}},
        }

    def _managed(self, group: Group, machine: Machine) -> dict[str, Any]:
        return {
            "instance": f"projects/p/zones/europe-west4-a/instances/{machine.name}",
            "name": machine.name,
            "currentAction": machine.action,
            "instanceStatus": "RUNNING" if machine.action == "NONE" else "PROVISIONING",
        }

    def _template(self, name: str) -> Answer:
        shape, spot = self.templates[name]
        scheduling = {"provisioningModel": "SPOT" if spot else "STANDARD"}
        return answer({"name": name, "properties": {"machineType": shape, "scheduling": scheduling}})

    def _done(self) -> Answer:
        return answer({"name": f"operation-{next(self._ids)}", "status": "DONE", "zone": "zones/europe-west4-a"})


def _error(status: int, reason: str, message: str) -> Answer:
    return answer(
        {"error": {"code": status, "message": message, "errors": [{"reason": reason, "message": message}]}}, status
    )
