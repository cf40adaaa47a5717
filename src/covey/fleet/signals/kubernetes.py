"""The signal `kubernetes`: what the clusters' own metrics APIs say of a workload's pods.

Without `metric`: their CPU, as the metrics server sees it, as a share of what they asked for. With `metric`: a metric
of theirs (`custom.metrics.k8s.io`), or with `external = true` one of the namespace (`external.metrics.k8s.io`, where
KEDA and the adapters for queues publish). `pools = { POOL = "CONTEXT" }` asks several clusters, each for its own part.

`rate_per_agent` and `queue_length` take the sum over the pods; `value` takes their mean. A cluster that does not answer
is left out, and its part ages.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from typing import Any, Final

from covey.base.errors import UsageError
from covey.fleet.errors import Permanent, ProviderError, Temporary
from covey.fleet.model import Agent, Reading
from covey.fleet.providers.kubernetes import names
from covey.fleet.providers.kubernetes.api import Api, Gone, connect
from covey.fleet.providers.kubernetes.objects import Listed, MetricValue, PodMetrics, quantity
from covey.fleet.providers.registry import Surroundings
from covey.fleet.spec.types import Target, Workload

__all__ = ["KubernetesSource", "make"]

RESOLUTION: Final = 15.0
"""Seconds between two samples of the metrics server, unless it was set otherwise; asking oftener tells nothing new."""
MOST_VALUES: Final = 20_000


def make(workload: Workload, target: Target, surroundings: Surroundings) -> KubernetesSource:
    """Raises `UsageError` when the extra is missing, a kubeconfig does not serve, or the target asks for what there is
    not."""
    settings: dict[str, Any] = target.settings
    if not settings.get("metric") and target.value is None:
        raise UsageError(
            f"workloads.{workload.name}: the signal `kubernetes` gives a CPU share, and that is no rate and no backlog",
            code="bad-spec",
            next_step='write value = 0.7, or name a metric: metric = "requests_per_second"',
        )
    if settings.get("external") and target.value is not None:
        raise UsageError(
            f"workloads.{workload.name}: an external metric is of the namespace, not of each agent",
            code="bad-spec",
            next_step="write rate_per_agent or queue_length instead of value",
        )
    pools: dict[str, str] = settings.get("pools") or {"": str(settings.get("context") or "")}
    apis = {
        pool: connect(
            kubeconfig=str(settings.get("kubeconfig") or ""),
            context=context,
            namespace=str(settings.get("namespace") or ""),
            pool=pool or workload.name,
        )
        for pool, context in pools.items()
    }
    return KubernetesSource(workload, target, apis)


class KubernetesSource:
    """One target's metric; its parts are "" or the pools that it names."""

    def __init__(self, workload: Workload, target: Target, apis: dict[str, Api]) -> None:
        self.every = target.every
        self._workload = workload
        self._target = target
        self._apis = apis
        self._metric = str(target.settings.get("metric") or "")
        self._external = bool(target.settings.get("external"))
        ours = f"{names.MANAGED_BY}=covey,{names.WORKLOAD}={names.label_value(workload.name)}"
        self._selector = str(target.settings.get("selector") or ("" if self._external else ours))

    async def read(self, agents: Sequence[Agent], now: float) -> dict[str, Reading]:
        answers = await asyncio.gather(*(self._ask(api) for api in self._apis.values()), return_exceptions=True)
        found: dict[str, Reading] = {}
        problems: list[ProviderError] = []
        for pool, answer in zip(self._apis, answers, strict=True):
            if isinstance(answer, ProviderError):
                problems.append(answer)
            elif isinstance(answer, BaseException):
                raise answer
            elif answer:
                found[pool] = self._reading(answer, now)
        if found:
            return found
        raise problems[0] if problems else Temporary(f"no metrics of {self._workload.name} yet")

    def _reading(self, values: list[float], now: float) -> Reading:
        interval = max(self.every, RESOLUTION)
        if self._target.rate_per_agent is not None:
            return Reading(at=now, arrivals=sum(values), interval=interval)
        if self._target.queue_length is not None:
            return Reading(at=now, backlog=sum(values), interval=interval)
        return Reading(at=now, value=statistics.fmean(values), interval=interval)

    async def _ask(self, api: Api) -> list[float]:
        try:
            return await (self._ask_metric(api) if self._metric else self._ask_cpu(api))
        except Gone as error:
            raise Permanent(
                f"the cluster has no {'such metric' if self._metric else 'metrics server'}: {error}",
                next_step=f"kubectl get --raw {self._path(api)}",
            ) from error
        except ValueError as error:
            raise Permanent(f"a metric of {self._workload.name} is no number: {error}") from error

    async def _ask_cpu(self, api: Api) -> list[float]:
        pods = (await api.get(self._path(api), Listed[PodMetrics], labelSelector=self._selector)).items or []
        asked = max(self._workload.resources.cpu, 0.001)
        return [pod.cpus / asked for pod in pods]

    async def _ask_metric(self, api: Api) -> list[float]:
        query = {"labelSelector": self._selector} if self._selector else {}
        found = (await api.get(self._path(api), Listed[MetricValue], **query)).items or []
        if len(found) > MOST_VALUES:
            raise Permanent(f"{self._metric} has {len(found)} values")
        return [quantity(each.value) for each in found]

    def _path(self, api: Api) -> str:
        if not self._metric:
            return api.path("metrics.k8s.io/v1beta1", "pods")
        if self._external:
            return api.path("external.metrics.k8s.io/v1beta1", self._metric)
        return api.path("custom.metrics.k8s.io/v1beta1", "pods", "*", self._metric)

    async def close(self) -> None:
        for api in self._apis.values():
            await api.close()
