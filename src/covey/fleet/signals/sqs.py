"""``source = "sqs:NAME"``: a queue of AWS. Messages that wait are the backlog, those handed out are in flight.

SQS counts approximately (within a minute under change) and tells no rates: where arrivals matter, agents' own reports
or CloudWatch's `NumberOfMessagesSent` (`covey.fleet.signals.cloudwatch`) give them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from covey.fleet.errors import Permanent
from covey.fleet.model import Agent, Reading
from covey.fleet.providers.aws.client import client
from covey.fleet.providers.aws.errors import mapped
from covey.fleet.providers.registry import Surroundings
from covey.fleet.spec.types import Target, Workload

__all__ = ["SqsSource", "make"]

ATTRIBUTES = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")


def make(workload: Workload, target: Target, surroundings: Surroundings) -> SqsSource:
    """The reader of one queue."""
    return SqsSource(target)


class SqsSource:
    """One queue, one part: ""."""

    def __init__(self, target: Target) -> None:
        self.every = target.every
        self._name = target.source.removeprefix("sqs:")
        self._settings = target.settings
        self._client: Any = None
        self._url = ""

    async def read(self, agents: Sequence[Agent], now: float) -> dict[str, Reading]:
        waiting, handed_out = await asyncio.to_thread(self._ask)
        return {"": Reading(at=now, backlog=waiting, ongoing=handed_out, interval=self.every)}

    def _ask(self) -> tuple[float, float]:
        if self._client is None:
            self._client = client("sqs", self._settings)
        with mapped(f"read the queue {self._name}"):
            if not self._url:
                self._url = str(self._client.get_queue_url(QueueName=self._name)["QueueUrl"])
            answer = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=list(ATTRIBUTES))
        try:
            waiting, handed_out = (float(answer["Attributes"][name]) for name in ATTRIBUTES)
        except (KeyError, ValueError) as error:
            raise Permanent(f"SQS tells no counts of {self._name}") from error
        return waiting, handed_out

    async def close(self) -> None:
        return None
