"""The signal `prometheus`: instant queries, by Prometheus' HTTP API (`/api/v1/query`).

`query` is the rate for `rate_per_agent`, the backlog for `queue_length`, else the value. `backlog_query`,
`completions_query` and `ongoing_query` add to it. A query must give one number, or, with `pool_label`, one for each
pool; an empty answer, NaN, infinity and less than 0 are no reading. How fast the signal is follows from how often
Prometheus scrapes what is asked for (`scrape_interval`): asking it every second does not make it know more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from covey.base.errors import UsageError
from covey.fleet.errors import Permanent, Temporary
from covey.fleet.model import Agent, Reading
from covey.fleet.providers.registry import Surroundings
from covey.fleet.signals.fetch import fetch
from covey.fleet.signals.rates import MOST
from covey.fleet.spec.types import Target, Workload

__all__ = ["PrometheusSource", "make"]

ADDRESS: Final = "http://127.0.0.1:9090"
TIMEOUT: Final = 2.0
SCRAPE_INTERVAL: Final = 15.0
"""Seconds; what Prometheus' own examples have. Its default is a minute."""

MOST_POOLS: Final = 1000

_Sample = tuple[float, Annotated[str, msgspec.Meta(max_length=64)]]


class _Series(msgspec.Struct, frozen=True):
    value: _Sample
    metric: dict[str, str] = {}


class _Data(msgspec.Struct, frozen=True):
    resultType: Literal["vector", "scalar", "matrix", "string"]  # noqa: N815 - Prometheus' word
    result: msgspec.Raw


class _Answer(msgspec.Struct, frozen=True):
    status: Literal["success", "error"]
    data: _Data | None = None
    error: str = ""


def make(workload: Workload, target: Target, surroundings: Surroundings) -> PrometheusSource:
    """Raises `UsageError` without a query."""
    if not target.query:
        raise UsageError(
            f"workloads.{workload.name}: the signal `prometheus` needs a query",
            code="bad-spec",
            next_step='say what to ask: query = "sum(rate(requests_total[1m]))"',
        )
    return PrometheusSource(target)


class PrometheusSource:
    """One target's queries; its parts are "" or pools."""

    def __init__(self, target: Target) -> None:
        self.every = target.every
        settings: dict[str, Any] = target.settings
        field = "arrivals" if target.rate_per_agent else "backlog" if target.queue_length else "value"
        self._queries = {field: target.query} | {
            name: settings[f"{name}_query"]
            for name in ("backlog", "completions", "ongoing")
            if settings.get(f"{name}_query")
        }
        self._address = str(settings.get("address") or ADDRESS).rstrip("/")
        self._label = str(settings.get("pool_label") or "")
        self._timeout = float(settings.get("timeout") or TIMEOUT)
        self._token_file = str(settings.get("token_file") or "")
        self._ca_file = str(settings.get("ca_file") or "")
        self._interval = max(target.every, float(settings.get("scrape_interval") or SCRAPE_INTERVAL))

    async def read(self, agents: Sequence[Agent], now: float) -> dict[str, Reading]:
        answers = await asyncio.gather(*(self._ask(query) for query in self._queries.values()))
        by_pool: dict[str, dict[str, float]] = {}
        for field, numbers in zip(self._queries, answers, strict=True):
            for pool, number in numbers.items():
                by_pool.setdefault(pool, {})[field] = number
        if not by_pool:
            raise Temporary(f"no series now for {next(iter(self._queries.values()))}")
        return {
            pool: Reading(
                at=now,
                arrivals=numbers.get("arrivals"),
                completions=numbers.get("completions"),
                backlog=numbers.get("backlog"),
                value=numbers.get("value"),
                ongoing=numbers.get("ongoing"),
                interval=self._interval,
            )
            for pool, numbers in by_pool.items()
        }

    async def _ask(self, query: str) -> dict[str, float]:
        body = await fetch(
            f"{self._address}/api/v1/query",
            timeout=self._timeout,
            token=self._token(),
            form={"query": query, "timeout": f"{self._timeout:g}s"},
            ca_file=self._ca_file,
        )
        return self._parse_untrusted(body, query)

    def _parse_untrusted(self, body: bytes, query: str) -> dict[str, float]:
        try:
            answer = msgspec.json.decode(body, type=_Answer)
            if answer.status == "error" or answer.data is None:
                raise Permanent(f"Prometheus refuses {query}: {answer.error[:300]}")
            if answer.data.resultType == "scalar":
                series = [_Series(msgspec.json.decode(answer.data.result, type=_Sample))]
            elif answer.data.resultType == "vector":
                series = msgspec.json.decode(answer.data.result, type=list[_Series])
            else:
                raise Permanent(f"{query} gives a {answer.data.resultType}, not a number")
            return self._numbers(series, query)
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            if isinstance(error, Permanent):
                raise
            raise Permanent(f"what Prometheus answers to {query} is not understood: {error}") from error

    def _numbers(self, series: list[_Series], query: str) -> dict[str, float]:
        if len(series) > (MOST_POOLS if self._label else 1):
            raise Permanent(
                f"{query} gives {len(series)} series, not one number",
                next_step="wrap it in sum(...), or name the label that tells the pool: pool_label = ...",
            )
        found: dict[str, float] = {}
        for each in series:
            number = float(each.value[1])
            pool = each.metric.get(self._label, "") if self._label else ""
            if pool in found:
                raise Permanent(f"{query} gives several series for pool {pool!r}", next_step="add sum by (...)")
            if 0.0 <= number <= MOST:
                found[pool] = number
        return found

    def _token(self) -> str:
        if not self._token_file:
            return ""
        try:
            return Path(self._token_file).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise Permanent(f"the token in {self._token_file} cannot be read: {error}") from error

    async def close(self) -> None:
        return None
