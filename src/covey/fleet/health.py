"""Which agents count, which get requests, and which pools and clouds are to be believed. Pure.

Two facts are kept apart for each pool (FLEET 2 "Health"): **control**, whether its API answers, and **agents**, what
they say themselves (their reports, their probes). The table of what follows:

======== ======== =====================================================================================
control  agents   what follows
======== ======== =====================================================================================
answers  heard    all is well
lost     heard    frozen: neither gains nor loses agents; requests go on; nothing is replaced
answers  silent   out of routing, replaced elsewhere, removed when dead
lost     silent   frozen, replaced elsewhere, nothing removed; its cloud is suspended if nothing else of it lives
======== ======== =====================================================================================

One agent goes through `silent` (3 of its intervals: gets no requests), `suspect` (10 s: counts 0 for `min` and demand,
so that it is replaced) and `dead` (40 s, and where control was lost as well 40 s from its return: may be removed). An
agent without a voice, one that never reported and is never probed, has only the provider's word: it is suspect when the
provider called it unready for 10 s, or when control has been lost for 5 min; it is given up when that has lasted 5 min
more.

An agent that was ordered, has no machine and whose scope and shape were found without room since is **stillborn**: it
counts 0 at once, so that the plan is made again elsewhere, and its order is taken back.

When every agent that has a voice falls silent at once, in several pools, while every control answers, the fault is
more likely ours (our own listener, our own network): then the providers' word stands and nothing is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from covey.fleet.model import Agent, PoolView
from covey.fleet.spec.types import Spec

__all__ = [
    "BLIND_AFTER",
    "DEAD_AFTER",
    "LAUNCH_TIMEOUT",
    "RETURN_AFTER",
    "SUSPECT_AFTER",
    "Health",
    "HealthState",
    "PoolHealth",
    "PoolMemory",
    "Standing",
    "judge",
]

MISSED_PROBES: Final = 3
"""Intervals without a word that take an agent out of routing (FLEET 2; Envoy and Kubernetes use 3 as well)."""

SUSPECT_AFTER: Final = 10.0
"""s of silence after which an agent counts 0 (FLEET 2)."""

DEAD_AFTER: Final = 40.0
"""s of silence after which an agent may be removed (FLEET 2; Kubernetes' node lease is 40 s as well)."""

BLIND_AFTER: Final = 300.0
"""s without control after which agents without a voice are suspect. Ours: the launch time-out, not measured."""

LAUNCH_TIMEOUT: Final = 300.0
"""s until an agent that starts must be ready (FLEET 2); slower workloads get 3 cold starts."""

RETURN_AFTER: Final = 600.0
"""s of good health before what a failure left over is trimmed, and before anything fails back (FLEET 2)."""

STALE_VIEW: Final = 60.0
"""s after which a look that was not renewed counts as control lost: twice a provider call's longest time-out."""

LAG: Final = 10.0
"""s by which a look may be old and still vouch for what it did not hear: two ticks."""


class PoolHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One pool as judged."""

    control: bool
    lost_since: float | None = None
    """Since when its control has been lost."""
    agents: Literal["ok", "silent"] = "ok"
    """`silent`: more of its agents have fallen silent than still count."""
    healthy_since: float
    """Since when control answered and agents were heard; only meaningful while they are."""
    returned_at: float | None = None
    """When its agents came back from a silence that had them replaced."""
    problem: str = ""

    def healthy_for(self, now: float) -> float:
        """s; 0 while anything is wrong."""
        return now - self.healthy_since if self.control and self.agents == "ok" else 0.0


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One workload's agents as judged. Every agent is in exactly one of `counting`, `draining`, `leaving`, `suspect`
    and `dead`."""

    counting: tuple[Agent, ...] = ()
    """For `min` and demand: they start or run and are not suspect."""
    routable: tuple[Agent, ...] = ()
    """Part of `counting` that gets requests: ready and not silent."""
    quiet: tuple[Agent, ...] = ()
    """Part of `counting` that is ready and silent, not yet suspect."""
    draining: tuple[Agent, ...] = ()
    leaving: tuple[Agent, ...] = ()
    """Their provider takes them away, and they were not told to drain yet."""
    suspect: tuple[Agent, ...] = ()
    dead: tuple[Agent, ...] = ()
    """Silent for too long, never ready within the launch time-out, or stillborn: may be removed."""
    running: dict[str, int] = {}
    """Of `counting`, by offering."""
    ready: dict[str, int] = {}
    """Of `counting`, by offering: those that are ready, quiet ones included."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be believed this turn."""

    pools: dict[str, PoolHealth]
    workloads: dict[str, Standing]
    frozen: frozenset[str] = frozenset()
    """Pools that neither gain nor lose agents now."""
    suspended: frozenset[str] = frozenset()
    """Clouds of which nothing lives that could be reached or heard."""
    notes: tuple[str, ...] = ()
    """What is wrong, one sentence each, for the journal."""

    def standing(self, workload: str) -> Standing:
        return self.workloads.get(workload, _NOBODY)


class PoolMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What the next judgement must know about one pool."""

    lost_since: float | None = None
    answers_since: float | None = None
    """When its control last came back; None: it was never lost."""
    silent: bool = False
    healthy_since: float = 0.0
    returned_at: float | None = None


class HealthState(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept in the store between turns."""

    pools: dict[str, PoolMemory] = {}
    unready: dict[str, float] = {}
    """By `POOL/ID`: since when the provider has called an agent without a voice unready."""


_NOBODY: Final = Standing()


class _Tally:
    """One workload's agents while they are sorted. Plain lists: this is on the path of every turn."""

    __slots__ = ("counting", "dead", "draining", "launch_limit", "leaving", "quiet", "ready", "routable", "running",
                 "suspect")  # fmt: skip

    def __init__(self, launch_limit: float) -> None:
        self.launch_limit = launch_limit
        self.counting: list[Agent] = []
        self.routable: list[Agent] = []
        self.quiet: list[Agent] = []
        self.draining: list[Agent] = []
        self.leaving: list[Agent] = []
        self.suspect: list[Agent] = []
        self.dead: list[Agent] = []
        self.running: dict[str, int] = {}
        self.ready: dict[str, int] = {}

    def standing(self) -> Standing:
        return Standing(
            counting=tuple(self.counting),
            routable=tuple(self.routable),
            quiet=tuple(self.quiet),
            draining=tuple(self.draining),
            leaving=tuple(self.leaving),
            suspect=tuple(self.suspect),
            dead=tuple(self.dead),
            running=self.running,
            ready=self.ready,
        )


class _Look:
    """One pool while it is judged."""

    __slots__ = ("back", "control", "lost_since", "lost_voices", "present", "problem", "voices")

    def __init__(self, *, control: bool, lost_since: float | None, back: float | None, problem: str) -> None:
        self.back = back
        self.control = control
        self.lost_since = lost_since
        self.problem = problem
        self.voices = 0
        self.lost_voices = 0
        self.present = 0


def judge(
    views: Mapping[str, PoolView],
    state: HealthState,
    now: float,
    spec: Spec,
    stillborn: frozenset[str] = frozenset(),
) -> tuple[Health, HealthState]:
    """The health of everything at `now`, from the newest look at each pool. Agents of workloads that the spec does not
    name are judged too: they are there. `stillborn`: `POOL/ID` of those that were ordered and will not come."""
    looks = _looks(views, state, now, spec)
    tallies, unready = _sort(views, looks, state, now, spec, stillborn)
    deaf = _deaf(looks)
    if deaf:
        for look in looks.values():
            look.voices = look.lost_voices = look.present = 0
        tallies, unready = _sort(views, looks, state, now, spec, stillborn, deaf=True)
    pools, memory = _pools(looks, state, now)
    frozen, suspended = _closed(pools, looks, now, spec)
    notes = _notes(pools, suspended, deaf=deaf) if frozen or suspended or deaf else ()
    health = Health(
        pools=pools,
        workloads={name: tally.standing() for name, tally in tallies.items()},
        frozen=frozen,
        suspended=suspended,
        notes=notes,
    )
    if memory == state.pools and unready == state.unready:
        return health, state
    return health, HealthState(pools=memory, unready=unready)


def _looks(views: Mapping[str, PoolView], state: HealthState, now: float, spec: Spec) -> dict[str, _Look]:
    looks: dict[str, _Look] = {}
    for pool in (*spec.pools, *(name for name in views if name not in spec.pools)):
        view = views.get(pool)
        known = state.pools.get(pool)
        control = view is not None and view.control and now - view.at <= STALE_VIEW
        since = None if control else now if known is None or known.lost_since is None else known.lost_since
        problem = ""
        if view is None:
            problem = "never reached"
        elif not control:
            problem = view.problem or ("its last look is too old" if view.control else "no reason given")
        back = None
        if control and known is not None:
            back = known.answers_since if known.lost_since is None else now
        looks[pool] = _Look(control=control, lost_since=since, back=back, problem=problem)
    return looks


def _sort(
    views: Mapping[str, PoolView],
    looks: Mapping[str, _Look],
    state: HealthState,
    now: float,
    spec: Spec,
    stillborn: frozenset[str],
    *,
    deaf: bool = False,
) -> tuple[dict[str, _Tally], dict[str, float]]:
    """Every agent into its place. One pass and no call per healthy agent: the backtest runs it millions of times."""
    tallies = {name: _Tally(max(LAUNCH_TIMEOUT, 3 * workload.cold_start)) for name, workload in spec.workloads.items()}
    unready: dict[str, float] = {}
    for pool, view in views.items():
        look = looks[pool]
        # Silence is measured up to the moment somebody listened: a look is as old as it is.
        listened = max(view.at, now - LAG) if look.control else now
        for agent in view.agents:
            tally = tallies.get(agent.workload)
            if tally is None:
                tally = tallies[agent.workload] = _Tally(LAUNCH_TIMEOUT)
            status = agent.state
            if status == "draining":
                tally.draining.append(agent)
                continue
            if stillborn and f"{pool}/{agent.id}" in stillborn:
                tally.dead.append(agent)
                continue
            heard = agent.heard_at
            silence = 0.0
            limit = SUSPECT_AFTER
            if heard is None:
                if status != "ready" or not look.control:
                    verdict = _voiceless(agent, look, state, now, tally.launch_limit, unready)
                    if verdict:
                        (tally.suspect if verdict == "suspect" else tally.dead).append(agent)
                        continue
            else:
                every = agent.heard_every
                if every is not None and every * MISSED_PROBES > limit:
                    limit = every * MISSED_PROBES
                silence = listened - heard
                look.voices += 1
                if silence > limit and not deaf:
                    look.lost_voices += 1
                    # Behind a partition nobody could be heard: who is silent has its time from when that healed.
                    given_up = silence > max(DEAD_AFTER, limit) and (look.back is None or now - look.back > DEAD_AFTER)
                    (tally.dead if given_up else tally.suspect).append(agent)
                    continue
                if status == "starting" and now - agent.started_at > tally.launch_limit:
                    tally.dead.append(agent)
                    continue
                if every is not None:
                    limit = every * MISSED_PROBES
            if agent.leaving_at is not None:
                tally.leaving.append(agent)
                continue
            look.present += 1
            tally.counting.append(agent)
            key = agent.offering
            tally.running[key] = tally.running.get(key, 0) + 1
            if status == "ready":
                tally.ready[key] = tally.ready.get(key, 0) + 1
                (tally.routable if silence <= limit or deaf else tally.quiet).append(agent)
    return tallies, unready


def _voiceless(
    agent: Agent, look: _Look, state: HealthState, now: float, launch_limit: float, unready: dict[str, float]
) -> Literal["", "suspect", "dead"]:
    """An agent of which only the provider speaks, and which is not simply ready."""
    if look.lost_since is not None:
        # Its state is as old as the loss; it is not dead on nobody's word.
        return "suspect" if now - look.lost_since > BLIND_AFTER else ""
    if agent.state == "starting":
        return "dead" if now - agent.started_at > launch_limit else ""
    name = f"{agent.pool}/{agent.id}"
    since = unready[name] = state.unready.get(name, now)
    if now - since > BLIND_AFTER + SUSPECT_AFTER:
        return "dead"
    return "suspect" if now - since > SUSPECT_AFTER else ""


def _deaf(looks: Mapping[str, _Look]) -> bool:
    """Nobody is heard anywhere while everybody's control answers: it is we who do not hear."""
    voiced = [look for look in looks.values() if look.voices]
    return (
        len(voiced) > 1
        and all(look.lost_voices == look.voices for look in voiced)
        and all(look.control for look in looks.values())
    )


def _pools(
    looks: Mapping[str, _Look], state: HealthState, now: float
) -> tuple[dict[str, PoolHealth], dict[str, PoolMemory]]:
    pools: dict[str, PoolHealth] = {}
    memory: dict[str, PoolMemory] = {}
    for pool, look in looks.items():
        known = state.pools.get(pool)
        silent = look.lost_voices > look.present
        if known is not None and look.control and not silent and known.lost_since is None and not known.silent:
            kept = known
        else:
            # Silence that ends with nobody there was no return: its dead were removed.
            returned = known is not None and known.silent and not silent and look.present > 0
            kept = PoolMemory(
                lost_since=look.lost_since,
                answers_since=look.back,
                silent=silent,
                healthy_since=now,
                returned_at=now if returned else known.returned_at if known is not None else None,
            )
        memory[pool] = kept
        pools[pool] = PoolHealth(
            control=look.control,
            lost_since=look.lost_since,
            agents="silent" if silent else "ok",
            healthy_since=kept.healthy_since,
            returned_at=kept.returned_at,
            problem=look.problem,
        )
    return pools, memory


def _closed(
    pools: Mapping[str, PoolHealth], looks: Mapping[str, _Look], now: float, spec: Spec
) -> tuple[frozenset[str], frozenset[str]]:
    """Pools that neither gain nor lose agents, and clouds that are down."""
    lost = [pool for pool, health in pools.items() if not health.control]
    silent = [pool for pool, health in pools.items() if health.agents == "silent" and health.control]
    if not lost and not silent:
        return frozenset(), frozenset()
    # Where agents fall silent no others are started, unless there is nowhere else to start them.
    frozen = frozenset(lost if len(lost) + len(silent) == len(pools) else lost + silent)
    alive: set[str] = set()
    down: set[str] = set()
    for pool, health in pools.items():
        wanted = spec.pools.get(pool)
        cloud = wanted.cloud if wanted is not None else ""
        long_lost = health.lost_since is not None and now - health.lost_since > SUSPECT_AFTER
        # A silent pool that is open all the same is the only place left: to suspend its cloud would end all healing.
        gone = (health.agents == "silent" and pool in frozen) or (long_lost and not looks[pool].present)
        (down if gone else alive).add(cloud)
    return frozen, frozenset(down - alive)


def _notes(pools: Mapping[str, PoolHealth], suspended: frozenset[str], *, deaf: bool) -> tuple[str, ...]:
    notes = []
    for pool, health in pools.items():
        if not health.control:
            notes.append(f"pool {pool} does not answer ({health.problem}): nothing is started or removed there")
        if health.agents == "silent":
            notes.append(f"most agents of pool {pool} are silent: they count 0 and are replaced elsewhere")
    notes += [f"cloud {cloud} is down: suspended until it is back" for cloud in sorted(suspended)]
    if deaf:
        notes.append(
            "no agent of any pool was heard while every pool's control answers: the providers' word stands; look at "
            "the controller's own address for reports"
        )
    return tuple(notes)
