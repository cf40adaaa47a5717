"""Scale sets of Azure Resource Manager, as its REST reference describes them (Compute, 2024-11-01).

Written from the public API: list, PATCH with an asynchronous operation, machines with instance view, named delete,
etags. Operations end when the test says (`finish`), or at once (`instant`).
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.fleet.clouds.rest import Answer, Request, Server, answer

_ROOT = (
    r"/subscriptions/(?P<sub>[^/]+)/resourceGroups/(?P<rg>[^/]+)/providers/Microsoft\.Compute/virtualMachineScaleSets"
)
_SETS = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachineScaleSets"
_OPERATION = re.compile(r"/subscriptions/[^/]+/providers/Microsoft\.Compute/locations/[^/]+/operations/(?P<id>[^/]+)$")


@dataclass
class Machine:
    number: str
    state: str = "Creating"
    power: str = "PowerState/running"
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat())


@dataclass
class ScaleSet:
    name: str
    shape: str
    tags: dict[str, str]
    spot: bool = False
    zones: tuple[str, ...] = ()
    capacity: int = 0
    version: int = 1
    machines: dict[str, Machine] = field(default_factory=dict)
    overprovision: bool = True
    numbers: Any = field(default_factory=itertools.count)


@dataclass
class Operation:
    name: str
    apply: Any
    status: str = "InProgress"
    error: dict[str, str] | None = None


class Arm(Server):
    """One subscription. `room` is how many machines may exist in all; beyond it allocations fail."""

    def __init__(self, *, instant: bool = True) -> None:
        self.sets: dict[str, ScaleSet] = {}
        self.operations: dict[str, Operation] = {}
        self.instant = instant
        self.room: dict[str, int] = {}
        self.reason = "AllocationFailed"
        self._ids = itertools.count(1)
        super().__init__()

    def add(self, scale_set: ScaleSet) -> None:
        self.sets[scale_set.name] = scale_set

    def handle(self, request: Request) -> Answer:
        with self._lock:
            operation = _OPERATION.fullmatch(request.path)
            if operation:
                return self._operation(operation["id"])
            match = re.fullmatch(_ROOT + r"(/(?P<name>[^/]+))?(?P<rest>/.*)?", request.path)
            if not match:
                return _error(404, "ResourceNotFound", request.path)
            if not match["name"]:
                return answer({"value": [self._json(each) for each in self.sets.values()]})
            scale_set = self.sets.get(match["name"])
            if scale_set is None:
                return _error(404, "ResourceNotFound", match["name"])
            return self._one(request, scale_set, match["rest"] or "")

    def _one(self, request: Request, scale_set: ScaleSet, rest: str) -> Answer:
        if request.method == "GET" and not rest:
            return answer(self._json(scale_set))
        if request.method == "GET" and rest == "/virtualMachines":
            return answer({"value": [self._machine(scale_set, each) for each in scale_set.machines.values()]})
        if request.method == "PATCH" and not rest:
            etag = request.headers.get("If-Match")
            if etag and etag != f'"{scale_set.version}"':
                return _error(412, "PreconditionFailed", "the resource has changed")
            return self._patch(scale_set, request.json)
        if request.method == "POST" and rest == "/delete":
            numbers = request.json["instanceIds"]
            unknown = [each for each in numbers if each not in scale_set.machines]
            if unknown:
                return _error(
                    400, "InvalidParameter", f"The provided instanceId {unknown[0]} is not an active instance"
                )
            for each in numbers:
                scale_set.machines[each].state = "Deleting"
            return self._accepted(scale_set, lambda: self._delete(scale_set, numbers))
        return _error(405, "MethodNotAllowed", request.method)

    def _patch(self, scale_set: ScaleSet, body: dict[str, Any]) -> Answer:
        scale_set.version += 1
        scale_set.tags = body.get("tags", scale_set.tags)
        scale_set.overprovision = body.get("properties", {}).get("overprovision", scale_set.overprovision)
        wanted = body.get("sku", {}).get("capacity")
        if wanted is None:
            return answer(self._json(scale_set))
        scale_set.capacity = wanted
        fresh = []
        while len(scale_set.machines) < wanted:
            number = str(next(scale_set.numbers))
            fresh.append(number)
            scale_set.machines[number] = Machine(number)
        return self._accepted(scale_set, lambda: self._allocate(scale_set, fresh), 200)

    def _allocate(self, scale_set: ScaleSet, fresh: list[str]) -> dict[str, str] | None:
        room = self.room.get(scale_set.name, 10_000)
        standing = sum(each.state == "Succeeded" for each in scale_set.machines.values())
        failed = False
        for number in fresh:
            if number in scale_set.machines and standing < room:
                scale_set.machines[number].state = "Succeeded"
                standing += 1
            elif number in scale_set.machines:
                scale_set.machines[number].state = "Failed"
                failed = True
        if not failed:
            return None
        quota = "Operation could not be completed as it results in exceeding approved Total Regional Cores quota."
        none = "Allocation failed. We do not have sufficient capacity for the requested VM size in this region."
        return {"code": self.reason, "message": none if "Allocation" in self.reason else quota}

    def _delete(self, scale_set: ScaleSet, numbers: list[str]) -> None:
        for each in numbers:
            if scale_set.machines.pop(each, None) is not None:
                scale_set.capacity -= 1

    # --- operations ---

    def _accepted(self, scale_set: ScaleSet, apply: Any, status: int = 202) -> Answer:
        name = f"op-{next(self._ids)}"
        self.operations[name] = Operation(scale_set.name, apply)
        if self.instant:
            self.finish(name)
        url = f"{self.url}/subscriptions/s/providers/Microsoft.Compute/locations/westeurope/operations/{name}"
        headers = {"Azure-AsyncOperation": f"{url}?api-version=2024-11-01", "Retry-After": "0"}
        return answer(self._json(scale_set), status, **headers)

    def finish(self, name: str | None = None) -> None:
        """Let one operation end, or all."""
        with self._lock:
            for each in [name] if name else list(self.operations):
                operation = self.operations[each]
                if operation.status == "InProgress":
                    operation.error = operation.apply()
                    operation.status = "Failed" if operation.error else "Succeeded"

    def _operation(self, name: str) -> Answer:
        operation = self.operations[name]
        body: dict[str, Any] = {"name": name, "status": operation.status}
        if operation.error:
            body["error"] = operation.error
        return answer(body)

    # --- resources ---

    def _json(self, scale_set: ScaleSet) -> dict[str, Any]:
        return {
            "name": scale_set.name,
            "id": f"{_SETS}/{scale_set.name}",
            "type": "Microsoft.Compute/virtualMachineScaleSets",
            "location": "westeurope",
            "etag": f'"{scale_set.version}"',
            "tags": scale_set.tags,
            "zones": list(scale_set.zones),
            "sku": {"name": scale_set.shape, "tier": "Standard", "capacity": scale_set.capacity},
            "properties": {
                "overprovision": scale_set.overprovision,
                "provisioningState": "Succeeded",
                "virtualMachineProfile": {"priority": "Spot" if scale_set.spot else "Regular"},
            },
        }

    def _machine(self, scale_set: ScaleSet, machine: Machine) -> dict[str, Any]:
        return {
            "name": f"{scale_set.name}_{machine.number}",
            "instanceId": machine.number,
            "zones": list(scale_set.zones[:1]),
            "properties": {
                "provisioningState": machine.state,
                "timeCreated": machine.created,
                "instanceView": {"statuses": [{"code": machine.power}]},
            },
        }


def _error(status: int, code: str, message: str) -> Answer:
    return answer({"error": {"code": code, "message": message}}, status)
