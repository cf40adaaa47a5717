"""What nodes can run and cost, in Kubernetes' own notation."""

from __future__ import annotations

import msgspec
import pytest

from covey.fleet.providers.kubernetes import nodes
from covey.fleet.providers.kubernetes.nodes import Free, Shape
from covey.fleet.providers.kubernetes.objects import Node, Pod, Quota, quantity
from covey.fleet.spec.types import Pool, Resources, Workload

GIB = 1 << 30
ONE = Resources(cpu=1.0, memory=2 * GIB)


def node(name: str = "n1", *, ready: bool = True, taints: list[dict[str, str]] | None = None, **labels: str) -> Node:
    return msgspec.convert(
        {
            "metadata": {
                "name": name,
                "labels": {
                    "node.kubernetes.io/instance-type": "m7.large",
                    "topology.kubernetes.io/zone": "a",
                    **{key.replace("__", "/").replace("_", "-"): value for key, value in labels.items()},
                },
            },
            "spec": {"taints": taints or []},
            "status": {
                "allocatable": {"cpu": "4", "memory": "16Gi", "pods": "10"},
                "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}],
            },
        },
        Node,
    )


def pod(on: str, cpu: str, memory: str = "1Gi", phase: str = "Running") -> Pod:
    asks = {"resources": {"requests": {"cpu": cpu, "memory": memory}}}
    return msgspec.convert({"spec": {"nodeName": on, "containers": [asks]}, "status": {"phase": phase}}, Pod)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("2", 2.0), ("250m", 0.25), ("1.5Gi", 1.5 * GIB), ("1e3", 1000.0), ("1E", 1e18), ("2E3", 2000.0),
        ("100n", 1e-7), ("128974848", 128974848.0), ("129M", 129e6), ("0", 0.0), ("-1", -1.0),
    ],
)  # fmt: skip
def test_quantity_is_read(text: str, amount: float) -> None:
    assert quantity(text) == pytest.approx(amount)


@pytest.mark.parametrize("text", ["", "x", "1x", "Gi", "nan", "inf", "1 Gi", "1GiB", "1e999", "1_0", "9" * 999])
def test_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no quantity"):
        quantity(text)


@pytest.mark.parametrize(
    ("label", "value", "spot"),
    [
        ("eks.amazonaws.com/capacityType", "SPOT", True),
        ("eks.amazonaws.com/capacityType", "ON_DEMAND", False),
        ("karpenter.sh/capacity-type", "spot", True),
        ("kubernetes.azure.com/scalesetpriority", "spot", True),
        ("cloud.google.com/gke-spot", "true", True),
        ("anything", "spot", False),
    ],
)
def test_shape_knows_spot_of_every_cloud(label: str, value: str, spot: bool) -> None:
    one = node()
    one.metadata.labels[label] = value
    assert nodes.shape_of(one) == Shape("m7.large", spot, "a" if spot else "")


def test_shapes_leave_out_what_takes_no_agents() -> None:
    taint = {"key": "dedicated", "value": "db", "effect": "NoSchedule"}
    leaving = {"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}
    spot = {"key": "kubernetes.azure.com/scalesetpriority", "value": "spot", "effect": "NoSchedule"}
    machines = [
        node("n2"),
        node("n1"),
        node("tainted", taints=[taint]),
        node("leaving", taints=[leaving]),
        node("spot", taints=[spot], **{"kubernetes.azure.com__scalesetpriority": "spot"}),
    ]
    found = nodes.shapes(machines, {})
    assert {Shape("m7.large"): ["n1", "n2"], Shape("m7.large", True, "a"): ["spot"]} == {
        shape: [each.metadata.name for each in some] for shape, some in found.items()
    }
    assert nodes.shapes(machines, {"team": "fraud"}) == {}


def test_room_counts_what_everybody_asked_for() -> None:
    machines = [node("n1"), node("n2"), node("away", ready=False)]
    pods = [pod("n1", "1500m"), pod("n1", "4", phase="Succeeded"), pod("n2", "1", "15Gi"), pod("gone", "4")]
    # n1: 2.5 CPUs left; n2: 1 GiB left; the third is away.
    assert Free(machines, pods).room(machines, ONE) == 2


def test_room_is_bounded_by_the_pods_of_a_node() -> None:
    machines = [node("n1")]
    assert Free(machines, [pod("n1", "0", "0")] * 8).room(machines, Resources(cpu=0.001, memory=1)) == 2


def test_quota_room_is_the_tightest() -> None:
    def quota(hard: dict[str, str], used: dict[str, str], **spec: object) -> Quota:
        return msgspec.convert({"spec": spec, "status": {"hard": hard, "used": used}}, Quota)

    cpu = quota({"requests.cpu": "10", "services": "1"}, {"requests.cpu": "6500m"})
    assert nodes.quota_room([cpu], ONE) == 3
    assert nodes.quota_room([cpu, quota({"pods": "4"}, {"pods": "3"})], ONE) == 1
    assert nodes.quota_room([cpu, quota({"pods": "0"}, {}, scopes=["BestEffort"])], ONE) == 3
    assert nodes.quota_room([quota({"pods": "3"}, {"pods": "5"})], ONE) == 0
    assert nodes.quota_room([], ONE) is None


def test_price_is_the_larger_share_of_the_node() -> None:
    pool, workload = Pool(name="p", provider="kubernetes"), Workload(name="w", resources=ONE)
    made = nodes.offer(Shape("m7.large"), [node()], pool, workload, room=5, region="r", quoted=(0.4, 7.0))
    assert (made.price, made.priced_at, made.marginal_room) == (pytest.approx(0.1), 7.0, 0)  # a quarter of its CPUs
    declared = Pool(name="p", provider="kubernetes", price=0.02, cost="marginal")
    made = nodes.offer(Shape("m7.large"), [node()], declared, workload, room=5, region="r", quoted=(0.4, 7.0))
    assert (made.price, made.priced_at, made.marginal_room) == (0.02, None, 5)


@pytest.mark.parametrize(
    ("instance", "special"),
    [
        ("t3.micro", ("burstable",)), ("t4g.large", ("burstable",)), ("Standard_B2s", ("burstable",)),
        ("e2-small", ("burstable",)), ("e2-standard-2", ()), ("m7i.metal-24xl", ("bare-metal",)), ("trn1.2xlarge", ()),
    ],
)  # fmt: skip
def test_offering_tells_what_must_be_asked_for(instance: str, special: tuple[str, ...]) -> None:
    pool = Pool(name="p", provider="kubernetes")
    made = nodes.offer(Shape(instance), [node()], pool, Workload(name="w"), room=1, region="", quoted=None)
    assert made.special == special
