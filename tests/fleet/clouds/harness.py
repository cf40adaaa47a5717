"""One pool of each cloud, with the same handles: how much room it has, what its API is to say, what it was told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from covey.fleet.providers.groups.pool import GroupPool
from covey.fleet.providers.registry import Surroundings, make_provider
from covey.fleet.spec.types import Pool
from tests.fleet.clouds.azure_arm import Arm, ScaleSet
from tests.fleet.clouds.gcp_rest import Compute
from tests.fleet.clouds.gcp_rest import Group as GcpGroup
from tests.fleet.clouds.rest import Answer, Fault, Proxy, Request, Server, answer

REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}


class Cloud:
    """What the tests of all three clouds use. `busy` is what agents last reported."""

    server: Server
    pool: Pool

    def __init__(self) -> None:
        self.busy: dict[str, bool] = {}
        self.wall: Callable[[], float] = time.time
        self.prices: dict[str, float] = {}

    def _now(self) -> float:
        return self.wall()

    def make(self) -> GroupPool:
        def quote(_cloud: str, _region: str, shape: str, _spot: bool) -> tuple[float, None] | None:
            return (self.prices[shape], None) if shape in self.prices else None

        given = Surroundings(home=Path(), wall=self._now, busy=self.busy.get, quote=quote)
        provider = make_provider(self.pool, given)
        assert isinstance(provider, GroupPool)
        return provider

    def limit(self, room: int) -> None:
        """From now on no more than `room` machines come up."""
        raise NotImplementedError

    def refuse(self, how: str) -> Fault:
        """A fault that answers every order with `how`: `throttled`, `denied`, `capacity`, `quota`."""
        raise NotImplementedError

    def close(self) -> None:
        self.server.close()


class Azure(Cloud):
    def __init__(self, shape: str = "Standard_D2s_v5", *, name: str = "azure", instant: bool = True) -> None:
        super().__init__()
        self.server = self.arm = Arm(instant=instant)
        self.arm.add(ScaleSet("fraud", shape, {"covey:workload": "fraud"}))
        settings = {"subscription": "s", "resource_group": "g", "endpoint": self.arm.url, "poll": 0.02}
        self.pool = Pool(name=name, provider="azure", settings=settings, labels={"region": "westeurope"})

    def limit(self, room: int) -> None:
        self.arm.room["fraud"] = room

    def refuse(self, how: str) -> Fault:
        status, code, text = {
            "throttled": (429, "TooManyRequests", "slow down"),
            "denied": (403, "AuthorizationFailed", "the client does not have authorization"),
            "capacity": (409, "SkuNotAvailable", "the requested size is currently not available"),
            "quota": (409, "OperationNotAllowed", "exceeding approved Total Regional Cores quota"),
        }[how]
        error = answer({"error": {"code": code, "message": text}}, status, **{"Retry-After": "7"})
        return lambda request: error if request.method in {"PATCH", "POST"} else None


class Gcp(Cloud):
    def __init__(self, shape: str = "c3-standard-4", *, name: str = "gcp", instant: bool = True) -> None:
        super().__init__()
        self.server = self.compute = Compute(instant=instant)
        self.compute.templates["t"] = (shape, False)
        self.compute.add(GcpGroup("fraud", "t", {"covey-workload": "fraud"}))
        settings = {"project": "p", "zone": "europe-west4-a", "endpoint": self.compute.url}
        self.pool = Pool(name=name, provider="gcp", settings=settings)

    def limit(self, room: int) -> None:
        self.compute.room["fraud"] = room

    def refuse(self, how: str) -> Fault:
        status, reason, text = {
            "throttled": (403, "rateLimitExceeded", "Rate Limit Exceeded"),
            "denied": (403, "forbidden", "Required 'compute.instanceGroupManagers.update' permission"),
            "capacity": (503, "ZONE_RESOURCE_POOL_EXHAUSTED", "The zone does not have enough resources available"),
            "quota": (403, "quotaExceeded", "Quota 'CPUS' exceeded. Limit: 24.0 in region europe-west4."),
        }[how]
        body = {"error": {"code": status, "message": text, "errors": [{"reason": reason, "message": text}]}}
        looks = ("listManagedInstances", "listErrors")
        return lambda request: (
            answer(body, status) if request.method in {"PATCH", "POST"} and not request.path.endswith(looks) else None
        )


class Aws(Cloud):
    """Moto behind a proxy: moto knows no lack of capacity, so the proxy plays it.

    Beyond `room` the proxy orders of moto only what there is room for, shows the size that was wanted, and tells of a
    failed activity in the words of AWS.
    """

    def __init__(self, target: tuple[str, int], shape: str = "m7g.large", *, group: str, name: str = "aws") -> None:
        super().__init__()
        self.server = self.proxy = Proxy(target)
        self.group = group
        self.room: int | None = None
        self.wanted: int | None = None
        self.reason = (
            "Launching a new EC2 instance. Status Reason: We currently do not have sufficient m7g.large capacity in "
            "the Availability Zone you requested (us-east-1a). Launching EC2 instance failed."
        )
        self.proxy.faults.append(self._capped)
        settings = {"region": REGION, "endpoint": self.proxy.url, "groups": [group]}
        self.pool = Pool(name=name, provider="aws", settings=settings)
        self._create(target, shape)

    def _create(self, target: tuple[str, int], shape: str) -> None:
        import boto3

        url = f"http://{target[0]}:{target[1]}"
        ec2 = boto3.client("ec2", region_name=REGION, endpoint_url=url)
        groups = boto3.client("autoscaling", region_name=REGION, endpoint_url=url)
        data = {"ImageId": "ami-12c6146b", "InstanceType": shape}
        made = ec2.create_launch_template(LaunchTemplateName=self.group, LaunchTemplateData=data)
        tag = {"Key": "covey:workload", "Value": "fraud", "PropagateAtLaunch": True}
        groups.create_auto_scaling_group(
            AutoScalingGroupName=self.group,
            MinSize=0,
            MaxSize=40,
            DesiredCapacity=0,
            AvailabilityZones=["us-east-1a"],
            LaunchTemplate={"LaunchTemplateId": made["LaunchTemplate"]["LaunchTemplateId"], "Version": "1"},
            Tags=[{**tag, "ResourceId": self.group, "ResourceType": "auto-scaling-group"}],
        )

    def limit(self, room: int) -> None:
        self.room = room

    def _capped(self, request: Request) -> Answer | None:
        form = {key: values[0] for key, values in parse_qs(request.body.decode()).items()}
        action = form.get("Action")
        if action == "SetDesiredCapacity" and self.room is not None:
            wanted = int(form["DesiredCapacity"])
            self.wanted = wanted if wanted > self.room else None
            capped = request.body.replace(
                f"DesiredCapacity={wanted}".encode(), f"DesiredCapacity={min(wanted, self.room)}".encode()
            )
            headers = request.headers | {"Content-Length": str(len(capped))}
            return self.proxy.handle(Request(request.method, request.path, request.query, headers, capped))
        if action == "DescribeAutoScalingGroups" and self.wanted is not None:
            reply = self.proxy.handle(request)
            shown = f"<DesiredCapacity>{self.wanted}</DesiredCapacity>".encode()
            real = f"<DesiredCapacity>{self.room}</DesiredCapacity>".encode()
            return Answer(reply.status, reply.body.replace(real, shown), reply.headers)
        if action == "DescribeScalingActivities" and self.wanted is not None:
            return Answer(200, _activities(self.group, self.reason), {"Content-Type": "text/xml"})
        return None

    def refuse(self, how: str) -> Fault:
        status, code, text = {
            "throttled": (400, "Throttling", "Rate exceeded"),
            "denied": (403, "AccessDenied", "User is not authorized to perform: autoscaling:SetDesiredCapacity"),
            "capacity": (500, "InsufficientInstanceCapacity", "Insufficient capacity."),
            "quota": (400, "VcpuLimitExceeded", "You have requested more vCPU capacity than your current limit"),
        }[how]
        body = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{text}</Message></Error>"
            "<RequestId>1</RequestId></ErrorResponse>"
        ).encode()
        orders = (b"Action=SetDesiredCapacity", b"Action=TerminateInstance", b"Action=CreateTags")

        def fault(request: Request) -> Answer | None:
            if any(order in request.body for order in orders):
                return Answer(status, body, {"Content-Type": "text/xml"})
            return None

        return fault


def _activities(group: str, reason: str) -> bytes:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    member = {
        "ActivityId": "1",
        "AutoScalingGroupName": group,
        "Cause": "a user request",
        "StartTime": now,
        "EndTime": now,
        "StatusCode": "Failed",
        "StatusMessage": reason,
        "Progress": "100",
    }
    fields = "".join(f"<{key}>{value}</{key}>" for key, value in member.items())
    return (
        '<DescribeScalingActivitiesResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/">'
        f"<DescribeScalingActivitiesResult><Activities><member>{fields}</member></Activities>"
        "</DescribeScalingActivitiesResult></DescribeScalingActivitiesResponse>"
    ).encode()


def told(server: Server, what: str) -> list[Any]:
    """The requests whose path or body speaks of `what`."""
    found = [each for each in server.requests if what in each.path or what.encode() in each.body]
    return [json.loads(each.body) if each.body.startswith(b"{") else each for each in found]
