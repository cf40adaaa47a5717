"""`simulate`: one trace through a spec, beside every baseline. What `covey fleet simulate` calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from covey.base.errors import UsageError
from covey.fleet.demand import POLICIES
from covey.fleet.model import Offering
from covey.fleet.simulate.clock import run
from covey.fleet.simulate.figures import Outcome, Run, row_of, run_of
from covey.fleet.simulate.market import ONE_PRICE, Market, load_market, no_prices
from covey.fleet.simulate.record import Recorder
from covey.fleet.simulate.single import BOUNDS, run_single, start_size, workload_for
from covey.fleet.simulate.traces import SEEDS, Setting, Trace, load_trace, setting_for
from covey.fleet.simulate.turning import TurnPilot, market_spec
from covey.fleet.simulate.weather import PREEMPTIONS, Weather, kills_of
from covey.fleet.simulate.world import Figures, World
from covey.fleet.spec.types import Spec, Target, Workload

__all__ = ["BASELINES", "OURS", "run_turn", "simulate"]

OURS = "covey"
BASELINES = (*BOUNDS, *(name for name in POLICIES if name != OURS))


def simulate(
    trace: Path,
    *,
    spec: Spec | None = None,
    workload: str = "",
    prices: Path | None = None,
    policies: Sequence[str] = (OURS, *BASELINES),
    kills: Sequence[str] = (),
    preemptions: float = PREEMPTIONS,
    capacity: Mapping[str, int] | None = None,
    seeds: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Outcome:
    """Fly `trace` (a file, formats as in `traces`) over the pools of `spec`, or over the market of `prices`, or over
    one pool.

    `workload`: which of the spec's; needed only when it has several. `kills`: `aws@12:00`, `aws@12:00+30m`.
    `preemptions`: of a spot agent, per hour. `capacity`: by pool, how many agents it holds. The baselines run on one
    pool, the cheapest on demand: they know no other, and no cloud of theirs dies. Raises `CoveyError`s only.
    """
    for policy in policies:
        if policy != OURS and policy not in BASELINES:
            raise UsageError(f"no policy is called {policy!r}", next_step=f"one of {', '.join((OURS, *BASELINES))}")
    loaded = load_trace(trace)
    setting = setting_for(loaded, trace)
    market = no_prices()
    if prices is not None:
        market = load_market(prices, preemptions=preemptions, places=_places(spec))
    ours = workload_for(OURS, setting)
    flown = market_spec(market, ours)
    notes: list[str] = []
    if spec is not None:
        ours = _chosen(spec, workload)
        notes += _left_out(ours)
        setting, ours = _agreed(loaded, trace, ours)
        market, said = _market_of(spec, ours, market if prices is not None else None)
        notes += said
        flown = replace(spec, workloads={ours.name: ours})
    room = {name: pool.max_agents for name, pool in flown.pools.items() if pool.max_agents is not None}
    room |= dict(capacity or {})
    for pool in room:
        if pool not in market.pools:
            raise UsageError(f"no pool is called {pool!r}", next_step=f"pools here: {', '.join(market.pools)}")
    weather = Weather(preemptions=preemptions, kills=kills_of(kills, market), capacity=room)
    runs: dict[str, list[Run]] = {}
    outcome = Outcome(rows=(), rate_per_agent=setting.rate_per_agent, notes=tuple(notes))
    drawn = len(loaded.seeds) > 1 or (preemptions > 0 and any(offering.spot for offering in market.offerings))
    for policy in policies:
        for seed in range(seeds if seeds is not None else SEEDS if drawn and policy == OURS else len(loaded.seeds)):
            began = time.process_time()
            recorder = Recorder(loaded.seconds) if seed == 0 else None
            if policy == OURS:
                figures = run_turn(loaded, setting, flown, ours, market, weather, seed=seed, recorder=recorder)
            else:
                record = recorder.look if recorder is not None else None
                figures = run_single(
                    loaded, setting, policy, POLICIES, seed=seed, offering=market.cheapest(), record=record
                )
            done = run_of(loaded.name, policy, seed, figures, time.process_time() - began)
            runs.setdefault(policy, []).append(done)
            if recorder is not None:
                outcome.points[policy] = tuple(recorder.points)
                if recorder.decisions:
                    outcome.decisions[policy] = tuple(recorder.decisions)
                    outcome.dropped[policy] = recorder.dropped
            if progress is not None:
                progress(f"{policy} seed {seed}: {done.replica_hours:.1f} agent-hours, {100 * done.violations:.3f} %")
    return replace(
        outcome,
        rows=tuple(row_of(several) for several in runs.values()),
        runs=tuple(each for several in runs.values() for each in several),
    )


def run_turn(
    trace: Trace,
    setting: Setting,
    spec: Spec,
    workload: Workload,
    market: Market,
    weather: Weather,
    *,
    seed: int,
    recorder: Recorder | None = None,
) -> Figures:
    """One run of the controller's own turn. It starts as everybody: the same agents, on the cheapest on demand."""
    arrivals = trace.arrivals(seed)
    least = workload.replicas.min
    world = World(
        market.offerings,
        rate_per_agent=setting.rate_per_agent,
        cold_start=setting.cold_start,
        workload=workload.name,
        least=least,
    )
    weather.install(world, market, len(arrivals), seed)
    world.start(market.cheapest().key, start_size(setting, arrivals), ready=True)
    pilot = TurnPilot(spec, workload, recorder.told if recorder is not None else None)
    return run(world, pilot, arrivals, recorder.look if recorder is not None else None)


def _chosen(spec: Spec, name: str) -> Workload:
    if not name and len(spec.workloads) == 1:
        return next(iter(spec.workloads.values()))
    if name not in spec.workloads:
        known = ", ".join(spec.workloads)
        raise UsageError(
            f"the spec has no workload {name!r}" if name else "the spec has several workloads",
            next_step=f"--workload with one of {known}",
        )
    return spec.workloads[name]


def _agreed(loaded: Trace, trace: Path, workload: Workload) -> tuple[Setting, Workload]:
    """The trace's own file wins, then the spec, then the defaults. The workload always acts here."""
    bounds = workload.replicas
    says: dict[str, object] = {"cold_start": workload.cold_start, "min": bounds.min, "max": bounds.max}
    rates = [target.rate_per_agent for target in workload.targets if target.rate_per_agent is not None]
    if rates:
        says["rate_per_agent"] = rates[0]
    setting = setting_for(loaded, trace, says)
    # Signals are sampled every second here, whatever the real one's interval is.
    targets = tuple(replace(target, every=1.0) for target in workload.targets if _has_number(target))
    if not targets:
        raise UsageError(
            f"no target of {workload.name} follows from a trace of requests",
            next_step="a target with rate_per_agent, queue_length, or on cpu",
        )
    bounds = replace(bounds, min=setting.min, max=setting.max)
    return setting, replace(workload, mode="act", targets=targets, cold_start=setting.cold_start, replicas=bounds)


def _has_number(target: Target) -> bool:
    """Whether a trace of requests says what it would read."""
    return target.value is None or target.signal == "cpu"


def _left_out(workload: Workload) -> list[str]:
    return [
        f"the target on {target.signal} is left out: no trace of requests says its value"
        for target in workload.targets
        if not _has_number(target)
    ]


def _market_of(spec: Spec, workload: Workload, prices: Market | None) -> tuple[Market, list[str]]:
    """What the spec's pools offer: what the price tables say about their cloud, else the declared price."""
    notes: list[str] = []
    offerings: list[Offering] = []
    changes = []
    for name in workload.place.pools or tuple(spec.pools):
        pool = spec.pools[name]
        region = pool.labels.get("region", "")
        listed: list[Offering] = []
        if prices is not None and pool.price is None:
            listed = [offer for offer in prices.offerings if offer.cloud == pool.cloud and offer.region == region]
            listed = listed or [offer for offer in prices.offerings if offer.pool == _usual(prices, pool.cloud)]
        for offer in listed:
            ours = replace(offer, pool=name, jurisdiction=pool.labels.get("jurisdiction", ""))
            offerings.append(ours)
            moved = [change for change in prices.changes if change.offering == offer.key] if prices else []
            changes += [replace(change, offering=ours.key) for change in moved]
        if not listed:
            if pool.price is None:
                notes.append(f"pool {name} has no price: {ONE_PRICE} USD per agent and hour is assumed")
            offerings.append(
                Offering(
                    pool=name,
                    shape="agent",
                    cloud=pool.cloud,
                    region=region,
                    jurisdiction=pool.labels.get("jurisdiction", ""),
                    price=ONE_PRICE if pool.price is None else pool.price,
                    speed=pool.speeds.get("agent", 1.0),
                )
            )
    market = Market(
        offerings=tuple(offerings),
        changes=tuple(sorted(changes, key=lambda change: change.at)),
        egress=prices.egress if prices is not None else {},
    )
    gigabytes = workload.place.egress_gb_hour
    if gigabytes:
        per_gb = {offer.key: market.egress_per_gb(offer, workload.place.egress_to) for offer in offerings}
        unknown = sorted({offer.pool for offer in offerings if per_gb[offer.key] is None})
        if unknown:
            notes.append(f"unknown what egress to {workload.place.egress_to} costs from {', '.join(unknown)}")
        with_egress = [
            replace(offer, egress=None if (usd := per_gb[offer.key]) is None else usd * gigabytes)
            for offer in offerings
        ]
        market = replace(market, offerings=tuple(with_egress))
    return market, notes


def _usual(prices: Market, cloud: str) -> str:
    """The pool of a cloud where the spec names no region that the tables know."""
    return next((offer.pool for offer in prices.offerings if offer.cloud == cloud), "")


def _places(spec: Spec | None) -> list[tuple[str, str]]:
    return [(pool.cloud, pool.labels.get("region", "")) for pool in spec.pools.values()] if spec is not None else []
