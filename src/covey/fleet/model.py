"""The values that the parts of the fleet exchange.

Every structure is frozen and made of plain values, so that a turn can be journaled, replayed and compared. Times are
seconds of the controller's clock, money is USD, prices are USD per agent and hour, rates are per second, memory is
bytes. A **standard agent** is one agent of speed 1.0.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

__all__ = [
    "STALE_ON_DEMAND",
    "STALE_SPOT",
    "Agent",
    "AgentState",
    "Block",
    "Candidate",
    "Cause",
    "Decision",
    "InFlight",
    "LaunchFailure",
    "Offering",
    "Orders",
    "Pin",
    "Placement",
    "PoolView",
    "Reading",
    "Route",
    "RouteEndpoint",
    "Shortfall",
    "Step",
    "StepKind",
    "Wanted",
    "offering_key",
]

AgentState = Literal["starting", "ready", "unready", "draining"]
"""`unready`: it runs and does not answer its probe. `draining`: told to finish; it gets no new work."""

Cause = Literal["demand", "repair", "fail-back", "saving", "rollout", "order", "preemption", "budget"]
"""Why a step is taken. `repair`: a hard constraint does not hold (dead pool, min, survive, jurisdiction)."""

StepKind = Literal["scale", "drain", "remove"]
"""`scale` raises a group to an absolute size and never lowers it; `drain` and `remove` name agents."""


STALE_ON_DEMAND: Final = 24 * 3600.0
"""Seconds. Older than this a list price justifies no move (FLEET 3)."""

STALE_SPOT: Final = 3600.0
"""And a spot price."""


def offering_key(pool: str, shape: str, *, spot: bool = False, zone: str = "") -> str:
    """The name of an offering: `eks-use1/m7g.large/spot`, with `@zone` when it has one."""
    key = f"{pool}/{shape}/{'spot' if spot else 'on-demand'}"
    return f"{key}@{zone}" if zone else key


class Offering(msgspec.Struct, frozen=True, kw_only=True):
    """One way to run one agent of one workload: pool x shape x spot or on demand (x zone)."""

    pool: str
    shape: str
    spot: bool = False
    zone: str = ""
    cloud: str = ""
    region: str = ""
    jurisdiction: str = ""
    price: float | None
    """USD per hour for one agent; None: unknown, shown as unknown and taken only when nothing else serves."""
    priced_at: float | None = None
    """When the price was read; None: declared by hand, never stale."""
    marginal_room: int = 0
    """Agents that fit on what is paid for already (reserved, or room on nodes): they cost 0."""
    room: int | None = None
    """How many more agents its scope can take now, as last seen; None: unknown."""
    speed: float = 1.0
    """Standard agents that one agent stands for: configured, or learned by `demand.speed`."""
    arch: str = "amd64"
    gpu: int = 0
    special: tuple[str, ...] = ()
    """`burstable`, `bare-metal`, `gpu`: taken only by workloads that ask for it."""
    preemptions: float = 0.0
    """Expected preemptions per agent and hour; 0 on demand."""
    latency_ms: float = 0.0
    egress: float | None = 0.0
    """USD per hour that one agent's traffic costs here; None: unknown, shown as unknown."""

    @property
    def key(self) -> str:
        return offering_key(self.pool, self.shape, spot=self.spot, zone=self.zone)

    def stale(self, now: float) -> bool:
        """Whether its price is too old to justify a move."""
        return self.priced_at is not None and now - self.priced_at > (STALE_SPOT if self.spot else STALE_ON_DEMAND)

    @property
    def scope(self) -> str:
        """What shares its room, and what a capacity error blocks together with the shape: pool, zone, spot or not."""
        return f"{self.pool}{'@' + self.zone if self.zone else ''}/{'spot' if self.spot else 'on-demand'}"


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """One agent as last seen: the provider's word on its life, its own report on its work."""

    id: str
    """Unique in its pool and never used again; what `remove` names."""
    workload: str
    pool: str
    offering: str
    """The key of the offering it was started from."""
    state: AgentState
    started_at: float
    ready_at: float | None = None
    heard_at: float | None = None
    """When it last reported or answered a probe; None: never."""
    heard_every: float | None = None
    """How often it is to be heard (its probe's or its reports' interval, s); three times that in silence takes it out
    of routing. None: unknown, so that only the 10 s of a suspect do."""
    busy: bool | None = None
    """None: it does not say, and is treated as busy."""
    in_flight: int = 0
    cpu: float | None = None
    """Share of its requested CPU in use, 1.0 = all of it."""
    completions: float | None = None
    """Requests finished per second, over its last report."""
    errors: float | None = None
    """Requests that failed per second, over its last report."""
    busy_share: float | None = None
    failing: bool = False
    """Its errors or latency are up: what it completes teaches nothing about speed."""
    version: str = ""
    """The digest of the template it was started from; another one than the spec's is replaced by a rollout."""
    leaving_at: float | None = None
    """When the provider said it will take it away (a preemption notice); counts as gone from then on."""
    endpoint: str = ""
    """`host:port` where it serves, or "". """
    unplaced: bool = False
    """It was ordered and has no machine: a pod without a node, an order that a group has not filled, a machine that
    could not be allocated. When its scope and shape are blocked after that, it does not come."""


class LaunchFailure(msgspec.Struct, frozen=True, kw_only=True):
    """An order to start agents that was accepted and then failed for lack of capacity or quota: FailedScheduling, a
    failed scaling activity, a slow operation that ended badly. Reported on every look until it is over; `at` tells
    old from new."""

    scope: str
    shape: str
    """ "" for a quota, which holds whatever the shape."""
    at: float
    reason: str
    workload: str = ""
    kind: Literal["capacity", "quota", "denied", "permanent"] = "capacity"


class PoolView(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at one pool showed. `control` False: its API did not answer, and `agents` is the last known
    list."""

    pool: str
    at: float
    control: bool = True
    problem: str = ""
    agents: tuple[Agent, ...] = ()
    offerings: dict[str, tuple[Offering, ...]] = {}
    """By workload."""
    removable: dict[str, int] = {}
    """By workload: how many may go now without breaking a disruption budget; absent: no limit known."""
    failures: tuple[LaunchFailure, ...] = ()
    managed_elsewhere: dict[str, str] = {}
    """By workload: who else owns its replicas (`HorizontalPodAutoscaler/fraud`)."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One part of one signal. A signal is the sum of its parts, one per pool, or one part "" for all of them."""

    at: float
    arrivals: float | None = None
    completions: float | None = None
    backlog: float | None = None
    value: float | None = None
    """For signals that are a plain number: a utilisation, a length."""
    ongoing: float | None = None
    """Requests in flight, for policies that scale by concurrency."""
    interval: float = 5.0
    """How often it is sampled, s. Only 2 s or faster may start a burst."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a demand policy wants for one workload."""

    agents: float
    """Standard agents, before `min` and `max`."""
    binding: str
    """The target, window or rule that decided: `queue`, `down-window`, `burst`, `hold`."""
    reason: str
    """One sentence with the numbers, for people."""
    raw: float = 0.0
    """What the targets asked for now, before windows and limits."""
    burst: bool = False
    hold_down: bool = False
    """A signal is missing, or history does not cover the window: nothing may be removed for lack of demand."""
    forecast: float | None = None


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A scope and shape that lately had no capacity or quota."""

    scope: str
    shape: str
    until: float
    at: float = 0.0
    """When it last failed."""
    failures: int = 1
    """How often in a row; 0: something has started there since."""
    reason: str = ""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One offering as the solver judged it for one workload."""

    offering: str
    count: int
    was: int
    price: float | None
    """All of it, USD per agent and hour: list price, egress, spot risk, latency."""
    parts: dict[str, float | None] = {}
    """`list`, `egress`, `spot_risk`, `latency`; None: unknown."""
    rejected: str = ""
    """Why it has fewer than it could, in words; "" when it is used fully or was simply not needed."""


class Shortfall(msgspec.Struct, frozen=True, kw_only=True):
    """A constraint that could not be kept, and what would mend it."""

    workload: str
    constraint: str
    """`jurisdiction`, `affinity`, `min`, `budget`, `survive`, `demand`, `weights`, `capacity`, `quota`."""
    missing: float
    """In the constraint's own unit: agents, standard agents, USD per hour."""
    reason: str
    nearest: str = ""
    """The nearest feasible plan, in words."""


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """What a solver chose: integers per workload and offering."""

    counts: dict[str, dict[str, int]]
    cost: float
    """USD per hour of all of it, known parts."""
    objective: float
    """What the solver minimised, moving included: only comparable between solutions of one problem."""
    candidates: dict[str, tuple[Candidate, ...]] = {}
    shortfalls: tuple[Shortfall, ...] = ()
    survive_premium: dict[str, float] = {}
    """By workload: USD per hour that `survive` costs more than the plan without it."""
    solver: str = "greedy"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to do, small enough that after it every hard constraint still holds."""

    kind: StepKind
    workload: str
    pool: str
    offering: str = ""
    size: int = 0
    """For `scale`: the absolute size of workload x offering, counting what is starting and not what is draining."""
    ids: tuple[str, ...] = ()
    """For `drain` and `remove`."""
    grace: float = 0.0
    """For `remove`: a busy agent may work on for this long after its drain."""
    cause: Cause
    reason: str
    saving: float = 0.0
    """USD per hour, for moves."""


class InFlight(msgspec.Struct, frozen=True, kw_only=True):
    """A step that was ordered and whose effect was not seen yet: what it starts counts as taken."""

    intent: int
    """Its number in the store."""
    plan: str
    step: Step
    at: float
    """When it was written, before the call."""
    accepted: bool = False
    """The provider said yes. False: not called yet, or the call failed and whether it took effect is unknown."""
    queued: bool = False
    """This controller is about to call, or is calling."""
    changed_at: float = 0.0
    """When the call began or answered: a look that began before says nothing about it."""
    tries: int = 0
    again_at: float | None = None
    """Not called again before; None: at once."""
    refused: LaunchFailure | None = None
    """Why the provider said no."""
    detail: str = ""
    missing: int = 0
    """Of a `scale`: agents that are still to come. Filled in by the turn for the filter."""


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """`covey fleet pin WORKLOAD=N --until T`: so many agents, whatever the demand."""

    agents: int
    until: float | None = None


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What people ordered and what still holds, as a turn sees it."""

    paused: frozenset[str] = frozenset()
    """Workloads that get no step at all; "*" for every one."""
    frozen: frozenset[str] = frozenset()
    """Workloads and pools from which nothing is removed or moved; "*" for all. Scale-out goes on."""
    pins: dict[str, Pin] = {}
    draining_pools: frozenset[str] = frozenset()
    """Pools to be emptied, new before old."""
    draining_agents: frozenset[str] = frozenset()
    """`POOL/ID` of agents to be replaced and ended."""
    rolling: frozenset[str] = frozenset()
    """`POOL/ID` of agents whose version is being replaced. Filled in by the turn."""
    approved: dict[str, tuple[Step, ...]] = {}
    """By workload in mode `recommend`: the steps somebody agreed to."""
    adopted: frozenset[str] = frozenset()
    """Workloads that are taken over although another manager owns their replicas."""

    @property
    def replacing(self) -> frozenset[str]:
        """`POOL/ID` of agents that are to be replaced one for one, new before old."""
        return self.draining_agents | self.rolling if self.rolling else self.draining_agents


class RouteEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One agent to send requests to, with its weight inside its locality."""

    agent: str
    address: str
    weight: int


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Where one workload's requests go: weights of localities (pools), and of agents inside them."""

    workload: str
    localities: dict[str, int]
    """By pool: 0..10,000, the share of requests; sums to 10,000 unless nothing is ready."""
    endpoints: dict[str, tuple[RouteEndpoint, ...]] = {}
    reason: str = ""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The record of one turn for one workload: what `explain` reads back, one JSON line of the journal."""

    at: float
    turn: int
    workload: str
    mode: str
    wanted: Wanted
    agents: dict[str, dict[str, int]] = {}
    """By offering, by state: what ran when it was decided."""
    inputs: dict[str, float | None] = {}
    candidates: tuple[Candidate, ...] = ()
    shortfalls: tuple[Shortfall, ...] = ()
    steps: tuple[Step, ...] = ()
    held: tuple[str, ...] = ()
    """What the filter did not let through, each with its reason."""
    cost_before: float = 0.0
    cost_after: float = 0.0
    cost_otherwise: dict[str, float] = {}
    """What else it would have cost: `cheapest single pool`, `on demand only`, `without survive`."""
    route: Route | None = None
