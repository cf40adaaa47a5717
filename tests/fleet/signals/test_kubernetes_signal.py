"""The signal `kubernetes`, with a small real server that answers as the metrics APIs do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from covey.base.errors import UsageError
from covey.fleet.errors import Permanent, ProviderError, Temporary
from covey.fleet.model import Reading
from covey.fleet.providers.registry import Surroundings
from covey.fleet.signals.kubernetes import make
from covey.fleet.spec.types import Resources, Target, Workload
from tests.fleet.providers.kubernetes.fake_api import Answer, Fake, kubeconfig_for

FRAUD = Workload(name="fraud", resources=Resources(cpu=0.5))


@pytest.fixture
def fake() -> Iterator[Fake]:
    fake = Fake()
    yield fake
    fake.close()


def answer(*items: Any) -> Answer:
    return 200, {}, json.dumps({"items": items}).encode()


def used(*cpus: str) -> dict[str, Any]:
    return {"containers": [{"usage": {"cpu": each, "memory": "1Mi"}} for each in cpus]}


def read(fake: Fake, tmp_path: Path, *, settings: dict[str, Any] | None = None, **target: Any) -> dict[str, Reading]:
    asked = {"kubeconfig": str(kubeconfig_for(fake, tmp_path)), **(settings or {})}

    async def run() -> dict[str, Reading]:
        source = make(FRAUD, Target(signal="kubernetes", settings=asked, **target), Surroundings(home=tmp_path))
        try:
            return await source.read((), 9.0)
        finally:
            await source.close()

    return asyncio.run(run())


def test_kubernetes_signal_is_the_mean_share_of_cpu(fake: Fake, tmp_path: Path) -> None:
    fake.answers = [answer(used("100m", "150m"), used("750000000n"))]
    reading = read(fake, tmp_path, value=0.7)[""]
    assert (reading.value, reading.at, reading.interval) == (pytest.approx(1.0), 9.0, 15.0)
    assert fake.asked[0].startswith("GET /apis/metrics.k8s.io/v1beta1/namespaces/agents/pods?labelSelector=")
    assert "fleet.covey%2Fworkload%3Dfraud" in fake.asked[0]


def test_kubernetes_signal_sums_a_rate_over_the_pods(fake: Fake, tmp_path: Path) -> None:
    fake.answers = [answer({"value": "1500m"}, {"value": "2"})]
    reading = read(fake, tmp_path, rate_per_agent=5.0, settings={"metric": "requests_per_second"})[""]
    assert (reading.arrivals, reading.value) == (3.5, None)
    assert "/apis/custom.metrics.k8s.io/v1beta1/namespaces/agents/pods/*/requests_per_second" in fake.asked[0]


def test_kubernetes_signal_takes_a_backlog_from_outside(fake: Fake, tmp_path: Path) -> None:
    fake.answers = [answer({"value": "700"})]
    settings = {"metric": "s0-rabbitmq-jobs", "external": True, "selector": "queue=jobs"}
    reading = read(fake, tmp_path, queue_length=50.0, settings=settings)[""]
    assert reading.backlog == 700.0
    assert fake.asked == [
        "GET /apis/external.metrics.k8s.io/v1beta1/namespaces/agents/s0-rabbitmq-jobs?labelSelector=queue%3Djobs"
    ]


def test_kubernetes_signal_has_a_part_for_each_cluster_and_leaves_out_who_is_silent(fake: Fake, tmp_path: Path) -> None:
    fake.answers = [(503, {}, b""), answer(used("500m"))]
    parts = read(fake, tmp_path, value=0.7, settings={"pools": {"eks": "c", "aks": "c"}})
    assert len(parts) == 1
    assert set(parts) < {"eks", "aks"}


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ((404, {}, b"404 page not found"), Permanent, "no metrics server"),
        ((503, {}, b""), Temporary, "answered 503"),
        (answer(), Temporary, "no metrics of fraud yet"),
        (answer(used("lots")), Permanent, "no number"),
        ((200, {}, b"{}"), Temporary, "yet"),
        ((200, {}, b'{"items": "x"}'), Permanent, "something else"),
    ],
    ids=["none", "away", "empty", "words", "nothing", "shape"],
)
def test_kubernetes_signal_without_a_number_says_why(
    fake: Fake, tmp_path: Path, said: Answer, kind: type[ProviderError], words: str
) -> None:
    fake.answers = [said]
    with pytest.raises(kind, match=words):
        read(fake, tmp_path, value=0.7)


def test_kubernetes_signal_refuses_what_makes_no_sense(fake: Fake, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no rate"):
        read(fake, tmp_path, rate_per_agent=5.0)
    with pytest.raises(UsageError, match="external"):
        read(fake, tmp_path, value=0.7, settings={"metric": "m", "external": True})
