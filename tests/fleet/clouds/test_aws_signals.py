from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import boto3
import pytest

from covey.base.errors import UsageError
from covey.fleet.errors import Permanent, Temporary
from covey.fleet.model import Reading
from covey.fleet.providers.registry import Surroundings
from covey.fleet.signals.registry import make_source
from covey.fleet.spec.types import Target, Workload
from tests.fleet.clouds.harness import CREDENTIALS, REGION

NOW = 5000.0
WALL = 1_800_000_030.0
GIVEN = Surroundings(home=Path(), wall=lambda: WALL)
FRAUD = Workload(name="fraud")


@pytest.fixture
def endpoint(moto: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return f"http://{moto[0]}:{moto[1]}"


def read(target: Target) -> Reading:
    source = make_source(FRAUD, target, GIVEN)
    (reading,) = asyncio.run(source.read((), NOW)).values()
    return reading


def test_sqs_tells_what_waits_and_what_is_handed_out(endpoint: str) -> None:
    sqs = boto3.client("sqs", region_name=REGION, endpoint_url=endpoint)
    url = sqs.create_queue(QueueName="jobs")["QueueUrl"]
    for n in range(5):
        sqs.send_message(QueueUrl=url, MessageBody=str(n))
    sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=2, VisibilityTimeout=60)
    target = Target(signal="queue", source="sqs:jobs", settings={"region": REGION, "endpoint": endpoint})
    assert read(target) == Reading(at=NOW, backlog=3.0, ongoing=2.0, interval=5.0)


def test_a_queue_that_is_not_there_is_permanent(endpoint: str) -> None:
    target = Target(signal="queue", source="sqs:none", settings={"region": REGION, "endpoint": endpoint})
    with pytest.raises(Permanent, match="none"):
        read(target)


@pytest.mark.parametrize(
    ("name", "target", "expected"),
    [
        ("sum", {"rate_per_agent": 10.0}, {"arrivals": 4.0}),
        ("average", {"value": 0.7}, {"value": 120.0}),
        ("backlog", {"queue_length": 5.0}, {"backlog": 120.0}),
    ],
)
def test_cloudwatch_gives_its_newest_finished_period(
    endpoint: str, name: str, target: dict[str, Any], expected: dict[str, float]
) -> None:
    watch = boto3.client("cloudwatch", region_name=REGION, endpoint_url=endpoint)
    period_start = WALL // 60 * 60 - 60
    for at, value in ((period_start - 60, 7.0), (period_start, 120.0), (period_start, 120.0), (period_start + 60, 9.0)):
        datum = {"MetricName": name, "Value": value, "Timestamp": at}
        watch.put_metric_data(Namespace="Jobs", MetricData=[datum])
    settings = {"region": REGION, "endpoint": endpoint, "namespace": "Jobs", "metric": name}
    assert read(Target(signal="cloudwatch", settings=settings, **target)) == Reading(
        at=NOW - 30.0, interval=60.0, **expected
    )


def test_a_metric_without_datapoints_is_temporary_and_one_without_a_name_is_refused(endpoint: str) -> None:
    settings = {"region": REGION, "endpoint": endpoint, "namespace": "Jobs", "metric": "silence"}
    with pytest.raises(Temporary, match="no datapoint"):
        read(Target(signal="cloudwatch", value=1.0, settings=settings))
    with pytest.raises(UsageError, match="namespace and metric"):
        read(Target(signal="cloudwatch", value=1.0))
