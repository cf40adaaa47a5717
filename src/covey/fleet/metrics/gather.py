"""From turns and calls to what Prometheus scrapes.

`Metrics.turned` keeps the newest turn and adds to the counters; gauges are made from it when they are asked for, so
that what is no longer there is no longer shown. Nothing here decides, and nothing a turn brings makes it raise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from typing import Final

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from covey.fleet.demand.targets import label
from covey.fleet.loop.turn import Seen, Turned
from covey.fleet.metrics.names import METRICS
from covey.fleet.model import Agent, Offering, Reading, Step
from covey.fleet.spec.types import Spec, Workload

__all__ = ["LATE", "Metrics"]

LATE: Final = 5.0
"""Seconds of backlog that make a request a violation (FLEET 4)."""

REVERSAL_WITHIN: Final = 600.0
LONGEST_TURN: Final = 60.0
"""Seconds between two turns that are counted: what happened while nobody looked is not known."""

BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

STEP_KINDS: Final = ("scale", "drain", "remove")

Samples = dict[tuple[str, ...], float]


class Metrics(Collector):
    """Of one controller."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._counters: dict[str, Samples] = {metric.name: {} for metric in METRICS if metric.kind == "counter"}
        self._last: tuple[Turned, Seen, Spec, float] | None = None
        self._directions: dict[str, tuple[float, str]] = {}
        self._problems: Mapping[str, str] = {}
        seconds = next(metric for metric in METRICS if metric.kind == "histogram")
        self._seconds = Histogram(seconds.name, seconds.help, registry=self._registry, buckets=BUCKETS)
        self._registry.register(self)

    def turned(self, turned: Turned, seen: Seen, spec: Spec, now: float, *, seconds: float) -> None:
        """One more turn, which took `seconds`."""
        if self._last is None or self._last[2] is not spec:
            self._begin(spec)
        passed = 0.0 if self._last is None else min(max(0.0, now - self._last[3]), LONGEST_TURN)
        self._last = (turned, seen, spec, now)
        self._seconds.observe(seconds)
        self._add("covey_fleet_turns", (), 1)
        for step in turned.steps:
            self._add("covey_fleet_steps", (step.workload, step.kind, step.cause), 1)
        for settled in turned.settled:
            self._add("covey_fleet_settled", (settled.outcome,), 1)
        for workload in spec.workloads.values():
            self._reversals(workload.name, turned.steps, now)
            self._requests(workload, turned, seen, passed, now)

    def called(self, step: Step, status: str, seconds: float) -> None:
        """A provider answered."""
        self._add("covey_fleet_calls", (step.pool, step.kind, status), 1)
        self._add("covey_fleet_call_seconds", (step.pool, step.kind), seconds)

    def render(self, problems: Mapping[str, str]) -> bytes:
        """The text that Prometheus reads."""
        self._problems = problems
        return generate_latest(self._registry)

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        gauges = self._gauges()
        for metric in METRICS:
            if metric.kind == "counter":
                family: GaugeMetricFamily | CounterMetricFamily = CounterMetricFamily(
                    metric.name, metric.help, labels=metric.labels
                )
                samples = self._counters[metric.name]
            elif metric.kind == "gauge":
                family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
                samples = gauges.get(metric.name, {})
            else:
                continue
            for labels, value in samples.items():
                family.add_metric(labels, value)
            yield family

    def _begin(self, spec: Spec) -> None:
        """Prometheus does not see the first increase of a counter that was not there before: the usual ones begin at
        0."""
        for outcome in ("seen", "superseded", "failed"):
            self._add("covey_fleet_settled", (outcome,), 0)
        for pool, kind in product(spec.pools, STEP_KINDS):
            self._add("covey_fleet_call_seconds", (pool, kind), 0)
            for status in ("accepted", "refused", "unknown"):
                self._add("covey_fleet_calls", (pool, kind, status), 0)
        for workload, kind, cause in product(spec.workloads, STEP_KINDS, ("demand", "repair")):
            self._add("covey_fleet_steps", (workload, kind, cause), 0)
        for workload in spec.workloads:
            self._add("covey_fleet_reversals", (workload,), 0)

    def _add(self, name: str, labels: tuple[str, ...], value: float) -> None:
        samples = self._counters[name]
        samples[labels] = samples.get(labels, 0.0) + value

    def _reversals(self, workload: str, steps: Iterable[Step], now: float) -> None:
        kinds = {step.kind for step in steps if step.workload == workload and step.cause == "demand"}
        if not kinds:
            return
        direction = "up" if "scale" in kinds else "down"
        before = self._directions.get(workload)
        self._directions[workload] = (now, direction)
        turned_back = before is not None and before[1] != direction and now - before[0] <= REVERSAL_WITHIN
        self._add("covey_fleet_reversals", (workload,), 1 if turned_back else 0)

    def _requests(self, workload: Workload, turned: Turned, seen: Seen, passed: float, now: float) -> None:
        """By the first target that is a rate: what came since the last turn, and whether it had to wait."""
        readings = seen.readings.get(workload.name, ())
        for target, parts in zip(workload.targets, readings, strict=False):
            if target.rate_per_agent is None or not parts:
                continue
            fresh = [reading for reading in parts.values() if now - reading.at <= max(15.0, 3 * reading.interval)]
            came = passed * sum(reading.arrivals or 0.0 for reading in fresh)
            backlog = sum(reading.backlog or 0.0 for reading in fresh)
            served = target.rate_per_agent * _ready_speed(workload.name, turned, seen)
            late = served <= 0 or backlog / served > LATE
            self._add("covey_fleet_requests", (workload.name,), came)
            self._add("covey_fleet_violations", (workload.name,), came if late else 0.0)
            return

    def _gauges(self) -> dict[str, Samples]:
        found: dict[str, Samples] = {}

        def put(name: str, value: float | None, *labels: str) -> None:
            if value is not None:
                found.setdefault(name, {})[labels] = float(value)

        put("covey_fleet_leader", self._last is not None)
        for name in self._problems:
            put("covey_fleet_problem", 1, name)
        if self._last is not None:
            turned, seen, spec, now = self._last
            put("covey_fleet_last_turn_timestamp_seconds", now)
            put("covey_fleet_budget_usd_per_hour", spec.budget.hourly_usd if spec.budget is not None else None)
            clouds = {name: pool.cloud for name, pool in (turned.state.pools | spec.pools).items()}
            _agents(put, seen, clouds)
            _demand(put, turned, seen, spec, now)
            _decided(put, turned, seen)
            _pools(put, turned, seen, clouds, now)
        return found


Put = Callable[..., None]


def _agents(put: Put, seen: Seen, clouds: Mapping[str, str]) -> None:
    counts: dict[tuple[str, str, str, str], int] = {}
    costs: dict[tuple[str, str, str], float] = {}
    busy: dict[tuple[str, str], int] = {}
    unpriced: dict[tuple[str, str], int] = {}
    for pool, view in seen.views.items():
        cloud = clouds.get(pool, "")
        prices = {key: _paid(offering) for key, offering in _offerings(view.offerings)}
        for agent in view.agents:
            count = (agent.workload, pool, cloud, agent.state)
            counts[count] = counts.get(count, 0) + 1
            where = (agent.workload, pool)
            busy[where] = busy.get(where, 0) + (agent.busy is True)
            price = prices.get((agent.workload, agent.offering))
            unpriced[where] = unpriced.get(where, 0) + (price is None)
            cost = (agent.workload, pool, cloud)
            costs[cost] = costs.get(cost, 0.0) + (price or 0.0)
    for name, samples in (
        ("covey_fleet_agents", counts),
        ("covey_fleet_cost_usd_per_hour", costs),
        ("covey_fleet_agents_busy", busy),
        ("covey_fleet_agents_unpriced", unpriced),
    ):
        for labels, value in samples.items():
            put(name, value, *labels)
    coming: dict[tuple[str, str], int] = {}
    for flight in seen.in_flight:
        if flight.step.kind == "scale":
            where = (flight.step.workload, flight.step.pool)
            coming[where] = coming.get(where, 0) + flight.missing
    for where, value in coming.items():
        put("covey_fleet_agents_coming", value, *where)


def _demand(put: Put, turned: Turned, seen: Seen, spec: Spec, now: float) -> None:
    for name, workload in spec.workloads.items():
        put("covey_fleet_replicas_min", workload.replicas.min, name)
        put("covey_fleet_replicas_max", workload.replicas.max, name)
        readings = seen.readings.get(name, ())
        for index, parts in enumerate(readings[: len(workload.targets)]):
            signal = label(workload, index)
            for part, reading in parts.items():
                put("covey_fleet_signal_age_seconds", max(0.0, now - reading.at), name, signal, part)
                for quantity, value in _quantities(reading):
                    put("covey_fleet_signal", value, name, signal, part, quantity)
    for decision in turned.decisions:
        wanted, name = decision.wanted, decision.workload
        put("covey_fleet_wanted_agents", wanted.agents, name)
        put("covey_fleet_asked_agents", wanted.raw, name)
        put("covey_fleet_forecast_agents", wanted.forecast, name)
        put("covey_fleet_burst", wanted.burst, name)
        put("covey_fleet_held_down", wanted.hold_down, name)


def _decided(put: Put, turned: Turned, seen: Seen) -> None:
    for decision in turned.decisions:
        put("covey_fleet_held", len(decision.held), decision.workload)
        standing = turned.health.standing(decision.workload)
        put("covey_fleet_agents_silent", len(standing.suspect) + len(standing.dead), decision.workload)
    for short in turned.placement.shortfalls:
        put("covey_fleet_shortfall", short.missing, short.workload, short.constraint)
    for workload, premium in turned.placement.survive_premium.items():
        put("covey_fleet_survive_premium_usd_per_hour", premium, workload)
    for workload, route in turned.routes.items():
        for pool, share in route.localities.items():
            put("covey_fleet_route_share", share / 10_000, workload, pool)


def _pools(put: Put, turned: Turned, seen: Seen, clouds: Mapping[str, str], now: float) -> None:
    health = turned.health
    for name, pool in health.pools.items():
        put("covey_fleet_pool_control", pool.control, name, clouds.get(name, ""))
        put("covey_fleet_pool_agents", pool.agents == "ok", name, clouds.get(name, ""))
        put("covey_fleet_pool_frozen", name in health.frozen, name)
    for cloud in sorted(set(clouds.values())):
        put("covey_fleet_cloud_suspended", cloud in health.suspended, cloud)
    for block in turned.state.blocks:
        put("covey_fleet_blocked", block.until > now, block.scope, block.shape)
        put("covey_fleet_blocked_until_timestamp_seconds", block.until, block.scope, block.shape)
    ages: dict[tuple[str, str], float] = {}
    for view in seen.views.values():
        for (_, key), offering in _offerings(view.offerings):
            put("covey_fleet_offering_price_usd_per_hour", offering.price, key)
            put("covey_fleet_room_agents", offering.room, key)
            if offering.priced_at is not None:
                where = (offering.pool, "yes" if offering.spot else "no")
                ages[where] = max(ages.get(where, 0.0), now - offering.priced_at)
    for where, age in ages.items():
        put("covey_fleet_price_age_seconds", age, *where)


def _offerings(offered: Mapping[str, tuple[Offering, ...]]) -> Iterator[tuple[tuple[str, str], Offering]]:
    for workload, offerings in offered.items():
        for offering in offerings:
            yield (workload, offering.key), offering


def _paid(offering: Offering) -> float | None:
    return None if offering.price is None else offering.price + (offering.egress or 0.0)


def _ready_speed(workload: str, turned: Turned, seen: Seen) -> float:
    """Standard agents that are ready."""
    remembered = turned.state.workloads.get(workload)
    learned = remembered.speeds.learned() if remembered is not None else {}
    speeds = {
        offering.key: offering.speed for view in seen.views.values() for offering in view.offerings.get(workload, ())
    }
    ready: tuple[Agent, ...] = turned.health.standing(workload).routable
    return sum(learned.get(agent.offering, speeds.get(agent.offering, 1.0)) for agent in ready)


def _quantities(reading: Reading) -> Iterator[tuple[str, float | None]]:
    for name in ("arrivals", "completions", "backlog", "value", "ongoing"):
        yield name, getattr(reading, name)
