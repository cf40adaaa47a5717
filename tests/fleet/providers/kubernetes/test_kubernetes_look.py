"""Pods, Deployments and budgets in the loop's words."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from covey.base.errors import CoveyError
from covey.fleet.errors import Permanent
from covey.fleet.model import AgentState
from covey.fleet.providers.base import Fence
from covey.fleet.providers.kubernetes import look as looks
from covey.fleet.providers.kubernetes import names, template
from covey.fleet.providers.kubernetes.look import Look, Times
from covey.fleet.providers.kubernetes.nodes import Shape
from covey.fleet.providers.kubernetes.settings import Settings, read
from covey.fleet.spec.types import Pool, Probe, Resources, Workload

FRAUD = Workload(name="fraud", command=("run",), port=8080, cold_start=60, grace=30.5, version="v1")
MADE = "2026-01-01T00:00:00Z"
MADE_AT = 1767225600.0
KEY = "eks/m7.large/on-demand"


def look(**lists: list[dict[str, Any]]) -> Look:
    every = {"pods": [], "deployments": [], "budgets": [], "autoscalers": [], "quotas": [], "nodes": [], "others": []}
    return msgspec.convert({**every, **lists}, Look)


def pod(name: str = "p1", *, ready: str = "", node: str = "n1", restarts: int = 0, **meta: Any) -> dict[str, Any]:
    labels = {names.WORKLOAD: "fraud", names.CHOSEN: "group"}
    conditions = [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:05Z"}] if ready else []
    if not node:
        waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes"}
        conditions.append({**waits, "lastTransitionTime": MADE})
    about = {names.OFFERING: KEY, names.VERSION: "v1", **meta.pop("annotations", {})}
    return {
        "metadata": {"name": name, "labels": labels, "annotations": about, "creationTimestamp": MADE, **meta},
        "spec": {"nodeName": node},
        "status": {
            "phase": "Running" if node else "Pending",
            "podIP": "10.0.0.7" if node else "",
            "conditions": conditions,
            "containerStatuses": [{"restartCount": restarts}],
        },
    }


def group(replicas: int, refused: str = "") -> dict[str, Any]:
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": refused}
    return {
        "metadata": {"name": "group", "labels": {names.WORKLOAD: "fraud"}, "annotations": {names.OFFERING: KEY}},
        "spec": {"replicas": replicas},
        "status": {"conditions": [failure] if refused else []},
    }


@pytest.mark.parametrize(
    ("made", "age", "state"),
    [
        (pod(), 10, "starting"),
        (pod(), 61, "unready"),
        (pod(node=""), 200, "starting"),
        (pod(ready="True"), 10, "ready"),
        (pod(ready="False"), 10, "starting"),
        (pod(ready="False", restarts=1), 10, "unready"),
        (pod(ready="True", annotations={names.DRAINING: "5"}), 10, "draining"),
        (pod(ready="True", deletionTimestamp=MADE), 10, "draining"),
    ],
    ids=["young", "old", "unscheduled", "up", "not-yet", "crashed", "told", "ending"],
)
def test_look_state_of_an_agent(made: dict[str, Any], age: float, state: AgentState) -> None:
    (agent,) = looks.agents(look(pods=[made]), FRAUD, "eks", now=1000.0 + age, times=Times(1000.0 - MADE_AT))
    assert (agent.state, agent.started_at, agent.id) == (state, 1000.0, "p1")


def test_look_ready_agent_is_told_in_the_clock_of_the_loop() -> None:
    (agent,) = looks.agents(look(pods=[pod(ready="True")]), FRAUD, "eks", now=9.0, times=Times(-MADE_AT))
    assert (agent.ready_at, agent.endpoint, agent.offering, agent.version) == (5.0, "10.0.0.7:8080", KEY, "v1")
    assert (agent.busy, agent.heard_at) == (None, None)  # it speaks for itself


@pytest.mark.parametrize(
    ("containers", "node", "reports", "state"),
    [
        ("True", "True", False, "ready"),
        ("True", "Unknown", True, "ready"),
        ("True", "Unknown", False, "unready"),
        ("False", "True", True, "unready"),
    ],
)
def test_look_what_the_node_controller_doubts_is_believed_when_it_speaks(
    containers: str, node: str, reports: bool, state: AgentState
) -> None:
    """After an API server was away for 40 s every pod is called unready, though its containers are not."""
    made = pod(ready="False", restarts=1)
    made["status"]["conditions"].append({"type": "ContainersReady", "status": containers})
    machine = {"metadata": {"name": "n1"}, "status": {"conditions": [{"type": "Ready", "status": node}]}}
    seen = look(pods=[made], nodes=[machine])
    (agent,) = looks.agents(seen, FRAUD, "eks", now=9.0, times=Times(0), reports=lambda _: reports)
    assert agent.state == state


def test_look_agents_of_a_leaving_node_leave() -> None:
    node = {"metadata": {"name": "n1"}, "spec": {"taints": [{"key": "karpenter.sh/disrupted"}]}}
    (agent,) = looks.agents(look(pods=[pod(ready="True")], nodes=[node]), FRAUD, "eks", now=9.0, times=Times(0))
    assert agent.leaving_at == 9.0


def test_look_what_was_ordered_and_not_made_are_agents_that_start() -> None:
    seen = look(pods=[pod(ready="True")], deployments=[group(3, "exceeded quota: small")])
    found = looks.agents(seen, FRAUD, "eks", now=9.0, times=Times(0))
    assert [each.id for each in found] == ["p1", "group#1", "group#2"]
    assert [each.busy for each in found] == [None, False, False]


def test_look_what_stands_in_for_an_evicted_pod_is_no_agent() -> None:
    """Between the eviction and the lowering of its Deployment; an older one that starts is an agent."""
    lowered_soon = group(3)
    lowered_soon["metadata"]["annotations"][names.LEAVING] = "gone"
    newest = pod("p3") | {"metadata": pod("p3")["metadata"] | {"creationTimestamp": "2026-01-01T00:09:00Z"}}
    seen = look(pods=[newest, pod("p1", ready="True"), pod("p2")], deployments=[lowered_soon])
    found = looks.agents(seen, FRAUD, "eks", now=9.0, times=Times(0))
    assert [each.id for each in found] == ["p1", "p2"]
    waiting = look(pods=[pod("p1", ready="True"), pod("p2")], deployments=[lowered_soon])  # a quota forbids the newest
    assert [each.id for each in looks.agents(waiting, FRAUD, "eks", now=9.0, times=Times(0))] == ["p1", "p2"]


def failures(seen: Look, *, now: float = 10.0, autoscaled: bool = False) -> list[tuple[str, str, float, str]]:
    scopes = {KEY: ("eks/on-demand", "m7.large")}
    found = looks.failures(seen, FRAUD, scopes, now=now, times=Times(-MADE_AT), autoscaled=autoscaled)
    return [(each.scope, each.shape, each.at, each.kind) for each in found]


def test_look_failed_scheduling_is_a_capacity_failure() -> None:
    seen = look(pods=[pod(node=""), pod("p2")])
    assert failures(seen) == [("eks/on-demand", "m7.large", 0.0, "capacity")]
    assert failures(seen, autoscaled=True) == []  # a node may be on its way
    assert failures(seen, now=301.0, autoscaled=True) == [("eks/on-demand", "m7.large", 0.0, "capacity")]


@pytest.mark.parametrize(
    ("message", "shape", "kind"),
    [("pods is forbidden: exceeded quota: small", "", "quota"), ("denied by a webhook", "m7.large", "denied")],
)
def test_look_pods_that_may_not_be_made_are_failures(message: str, shape: str, kind: str) -> None:
    assert [("eks/on-demand", shape, 10.0, kind)] == failures(look(deployments=[group(2, message)]))
    assert failures(look(deployments=[group(0, message)])) == []  # withdrawn: over


def test_look_removable_is_the_tightest_budget_that_selects_an_agent() -> None:
    def budget(allowed: int, **selector: Any) -> dict[str, Any]:
        return {"spec": {"selector": selector}, "status": {"disruptionsAllowed": allowed}}

    mine = {"matchLabels": {names.WORKLOAD: "fraud"}}
    other = {"matchExpressions": [{"key": names.WORKLOAD, "operator": "NotIn", "values": ["fraud"]}]}
    assert looks.removable(look(pods=[pod()], budgets=[]), FRAUD) is None
    assert looks.removable(look(pods=[pod()], budgets=[budget(0, **other)]), FRAUD) is None
    assert looks.removable(look(pods=[pod()], budgets=[budget(3, **mine), budget(1)]), FRAUD) == 1


def test_look_names_the_autoscaler_that_owns_the_replicas() -> None:
    def scaler(name: str) -> dict[str, Any]:
        return {"metadata": {"name": "hpa"}, "spec": {"scaleTargetRef": {"kind": "Deployment", "name": name}}}

    assert looks.managed_elsewhere(look(autoscalers=[scaler("fraud")]), FRAUD) == "HorizontalPodAutoscaler/hpa"
    assert looks.managed_elsewhere(look(autoscalers=[scaler("group")], deployments=[group(1)]), FRAUD)
    assert looks.managed_elsewhere(look(autoscalers=[scaler("other")]), FRAUD) == ""


# --- templates -------------------------------------------------------------------------------------------------------

POOL = Pool(name="eks", provider="kubernetes")


PLAIN, LARGE = Settings(), Shape("m7.large")


def made(workload: Workload = FRAUD, shape: Shape = LARGE, settings: Settings = PLAIN) -> dict[str, Any]:
    return template.deployment(workload, POOL, settings, shape, replicas=3, fence=Fence(plan="7-1", epoch=7))


def test_template_another_version_is_another_deployment() -> None:
    first = made()
    second = made(msgspec.structs.replace(FRAUD, version="v2"))
    assert first["metadata"]["name"] != second["metadata"]["name"]
    assert first == made()
    assert first["metadata"]["annotations"][names.EPOCH] == "7"
    assert first["spec"]["selector"]["matchLabels"].items() <= first["spec"]["template"]["metadata"]["labels"].items()


def test_template_binds_to_its_shape_and_keeps_off_spot() -> None:
    pods = made()["spec"]["template"]["spec"]
    terms = pods["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert len(terms) == 1
    asked = {each["key"]: (each["operator"], each.get("values")) for each in terms[0]["matchExpressions"]}
    assert asked["node.kubernetes.io/instance-type"] == ("In", ["m7.large"])
    assert asked["eks.amazonaws.com/capacityType"] == ("NotIn", ["SPOT"])
    spot = made(shape=Shape("m7.large", True, "a"))["spec"]["template"]["spec"]
    terms = spot["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert len(terms) == len(spot["tolerations"]) == 5


def test_template_limits_memory_and_gives_the_grace() -> None:
    pods = made(msgspec.structs.replace(FRAUD, resources=Resources(cpu=0.25, memory=1 << 28, gpu=1)))["spec"][
        "template"
    ]
    (container,) = pods["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "250m", "memory": "268435456", "nvidia.com/gpu": "1"},
        "limits": {"memory": "268435456", "nvidia.com/gpu": "1"},
    }
    assert pods["spec"]["terminationGracePeriodSeconds"] == 31
    assert pods["spec"]["automountServiceAccountToken"] is False


def test_template_secrets_are_references() -> None:
    workload = msgspec.structs.replace(FRAUD, secrets={"KEY": "kubernetes:vault/key"}, probe=Probe(tcp=True))
    pod = made(workload, settings=Settings(report="http://c:1/report"))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (volume,) = pod["volumes"]
    assert volume["secret"]["items"] == [{"key": "eks.fraud", "path": "token"}]  # no other workload's token
    env = {each["name"]: each for each in container["env"]}
    assert env["KEY"]["valueFrom"] == {"secretKeyRef": {"name": "vault", "key": "key"}}
    assert env["COVEY_FLEET_TOKEN_FILE"]["value"].startswith(container["volumeMounts"][0]["mountPath"])
    assert container["readinessProbe"]["tcpSocket"] == {"port": 8080}
    with pytest.raises(Permanent, match="cannot read"):
        made(msgspec.structs.replace(FRAUD, secrets={"KEY": "file:/etc/key"}))


@pytest.mark.parametrize("volume", [{"path": "data"}, {"path": "/d", "claim": "a", "secret": "b"}, {}])
def test_template_a_volume_that_cannot_be_mounted_is_refused(volume: dict[str, str]) -> None:
    with pytest.raises(Permanent, match="volume 1"):
        made(msgspec.structs.replace(FRAUD, volumes=(volume,)))


@pytest.mark.parametrize("name", ["fraud", "Ünïcode/Agent", "9lives", "x" * 200, "-"])
def test_template_names_are_fit_for_kubernetes(name: str) -> None:
    body = made(msgspec.structs.replace(FRAUD, name=name))
    assert body["metadata"]["name"].replace("-", "a").isalnum()
    assert body["metadata"]["name"].isascii()
    assert body["metadata"]["name"][0].isalpha()
    assert len(body["metadata"]["name"]) <= 45
    assert all(len(value) <= 63 and value.isascii() for value in body["metadata"]["labels"].values())


def test_settings_unknown_ones_are_named() -> None:
    with pytest.raises(CoveyError, match="knows no setting colour"):
        read(Pool(name="eks", provider="kubernetes", settings={"colour": "red"}))
