"""The signal `cloudwatch`: the newest datapoint of one metric.

For a `rate_per_agent` target it is a rate of arrivals: with `statistic = "Sum"` (its default there) the sum over a
period divided by it, else the number itself. For `queue_length` it is a backlog, for `value` a plain value. A reading
is as old as its datapoint's end: CloudWatch is minutes behind, so it never starts a burst.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from covey.base.errors import UsageError
from covey.fleet.errors import Temporary
from covey.fleet.model import Agent, Reading
from covey.fleet.providers.aws.client import client
from covey.fleet.providers.aws.errors import mapped
from covey.fleet.providers.registry import Surroundings
from covey.fleet.spec.types import Target, Workload

__all__ = ["CloudWatchSource", "make"]

PERIOD = 60
LOOK_BACK = 10
"""Periods; CloudWatch's metrics arrive up to a few minutes late."""


def make(workload: Workload, target: Target, surroundings: Surroundings) -> CloudWatchSource:
    """Raises `UsageError` unless it names a namespace and a metric."""
    if not target.settings.get("namespace") or not target.settings.get("metric"):
        raise UsageError(
            f"workloads.{workload.name}: the signal `cloudwatch` needs namespace and metric",
            code="bad-spec",
            next_step='for example namespace = "AWS/SQS", metric = "NumberOfMessagesSent"',
        )
    return CloudWatchSource(target, surroundings.wall)


class CloudWatchSource:
    """One metric, one part: ""."""

    def __init__(self, target: Target, wall: Callable[[], float]) -> None:
        self._target = target
        self._wall = wall
        self._period = int(target.settings.get("period") or PERIOD)
        self.every = max(target.every, min(self._period, 60) / 2)
        self._client: Any = None

    async def read(self, agents: Sequence[Agent], now: float) -> dict[str, Reading]:
        wall = self._wall()
        ended, value = await asyncio.to_thread(self._ask, wall)
        at = now - max(0.0, wall - ended)
        interval = float(self._period)
        target = self._target
        if target.rate_per_agent is not None:
            per_second = value / self._period if self._stat() == "Sum" else value
            return {"": Reading(at=at, arrivals=per_second, interval=interval)}
        if target.queue_length is not None:
            return {"": Reading(at=at, backlog=value, interval=interval)}
        return {"": Reading(at=at, value=value, interval=interval)}

    def _stat(self) -> str:
        default = "Sum" if self._target.rate_per_agent is not None else "Average"
        return str(self._target.settings.get("statistic") or default)

    def _ask(self, wall: float) -> tuple[float, float]:
        settings = self._target.settings
        if self._client is None:
            self._client = client("cloudwatch", settings)
        metric = {
            "Namespace": settings["namespace"],
            "MetricName": settings["metric"],
            "Dimensions": [{"Name": key, "Value": str(value)} for key, value in settings.get("dimensions", {}).items()],
        }
        # Only periods that are over: the running one's sum still grows.
        end = datetime.fromtimestamp(wall // self._period * self._period, UTC)
        name = f"{settings['namespace']}/{settings['metric']}"
        with mapped(f"read {name}"):
            answer = self._client.get_metric_data(
                MetricDataQueries=[
                    {"Id": "m", "MetricStat": {"Metric": metric, "Period": self._period, "Stat": self._stat()}}
                ],
                StartTime=end - timedelta(seconds=self._period * LOOK_BACK),
                EndTime=end,
                ScanBy="TimestampDescending",
            )
        (result,) = answer["MetricDataResults"]
        if not result["Values"]:
            raise Temporary(f"CloudWatch has no datapoint of {name} in the last {LOOK_BACK} periods", after=self.every)
        return result["Timestamps"][0].timestamp() + self._period, float(result["Values"][0])

    async def close(self) -> None:
        return None
