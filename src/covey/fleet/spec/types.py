"""What a user asks for, parsed: units resolved, defaults filled in, names checked.

Durations are seconds, memory and disk bytes, rates per second, money USD. The reader (`covey.fleet.spec.load`) is the
only maker.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = [
    "Budget",
    "Controller",
    "Forecast",
    "Mode",
    "Place",
    "Policy",
    "Pool",
    "PriceSources",
    "Probe",
    "Replicas",
    "Resources",
    "Rollout",
    "Signal",
    "Spec",
    "SpotRules",
    "Survive",
    "Target",
    "Traffic",
    "Workload",
]

Mode = Literal["observe", "recommend", "act"]
"""`observe`: journal only. `recommend`: every step waits for `covey fleet approve`. `act`: carry out."""

Signal = Literal["cpu", "queue", "agents", "prometheus", "cloudwatch", "kubernetes", "command"]
"""Where a target's number comes from. `agents`: their own reports. `queue`: a queue named by `source`."""

Policy = Literal["covey", "hpa", "kpa", "skyserve", "rayserve", "threshold"]


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What one agent needs; `gpu`, foreign architectures and special shapes are taken only if named here."""

    cpu: float = 0.25
    memory: int = 256 << 20
    gpu: int = 0
    arch: tuple[str, ...] = ("amd64",)
    special: tuple[str, ...] = ()
    """Of `burstable`, `bare-metal`: kinds of shapes that are taken only if asked for."""


class Replicas(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds, in agents."""

    min: int = 1
    max: int = 10


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to keep true. Exactly one of `value`, `rate_per_agent`, `queue_length` says how agents follow from
    it."""

    signal: Signal
    value: float | None = None
    """A ratio per ready agent, as HPA's: 0.7 of the requested CPU."""
    rate_per_agent: float | None = None
    """Requests per second that one standard agent serves at full load."""
    queue_length: float | None = None
    """Backlog per agent, in KEDA's sense."""
    utilisation: float = 0.7
    drain_within: float = 30.0
    source: str = ""
    """`queue`: where it is: a file, an HTTP address, `sqs:NAME`. `command`: nothing, see `command`."""
    query: str = ""
    command: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    """What else the signal's reader takes: `address`, `namespace`, `metric`, `dimensions`, `backlog_query`..."""
    every: float = 5.0
    """How often it is sampled, s."""
    fallback: Literal["current-if-higher", "current", "min", "none"] | int = "current-if-higher"
    """What holds when it has been missing for 5 min; a number: so many agents."""


class SpotRules(msgspec.Struct, frozen=True, kw_only=True):
    """Spot <= floor(max_share x (n - base_on_demand))."""

    max_share: float = 0.0
    base_on_demand: int = 0


class Survive(msgspec.Struct, frozen=True, kw_only=True):
    """Ready capacity outside each cloud stays at least `keep`; spot counts 0."""

    clouds: int = 1
    keep: Literal["min"] | float = "min"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where it may run, and what it costs to be there."""

    pools: tuple[str, ...] = ()
    """Allowed pools, in order of preference; empty: all."""
    prefer: tuple[str, ...] = ()
    """Pools to return to when they are healthy again; empty: only price decides."""
    jurisdictions: tuple[str, ...] = ()
    """Empty: any. A pool without the label is not in any."""
    labels: dict[str, str] = {}
    """Affinity: labels that a pool must have."""
    avoid: tuple[str, ...] = ()
    """Anti-affinity: workloads that must not share a pool with it."""
    near: tuple[str, ...] = ()
    """Affinity: workloads in whose pools alone it may run."""
    survive: Survive | None = None
    spot: SpotRules = SpotRules()
    usd_per_ms_hour: float = 0.0
    egress_gb_hour: float | None = None
    """Declared traffic of one agent to outside, GB per hour; None: measured, or unknown."""
    egress_to: str = "internet"
    """Where it goes: `internet` or a region."""
    max_per_pool: dict[str, int] = {}


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """How requests are shared among clouds."""

    weights: dict[str, float] = {}
    """By cloud; empty: by ready speed."""
    prefer: Literal["", "latency", "cost"] = ""


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """Prediction of the rate; journaled only, unless `mode` says act."""

    method: Literal["none", "seasonal-naive", "holt-winters"] = "none"
    mode: Literal["forecast-only", "act"] = "forecast-only"
    season: float = 86400.0


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """How to ask an agent whether it is ready. One of `http` (a path), `tcp` (True), `command`; none: running is
    ready."""

    http: str = ""
    tcp: bool = False
    command: tuple[str, ...] = ()
    every: float = 0.3
    timeout: float = 1.0
    failures: int = 3


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """How a new version replaces the old."""

    surge: float = 0.25
    healthy_for: float = 30.0


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What is scaled: agents of one template."""

    name: str
    mode: Mode = "observe"
    image: str = ""
    command: tuple[str, ...] = ()
    env: dict[str, str] = {}
    secrets: dict[str, str] = {}
    """By variable: where its value is (`file:PATH`, `env:NAME`, `kubernetes:SECRET/KEY`); values never enter the
    store."""
    volumes: tuple[dict[str, str], ...] = ()
    port: int | None = None
    """Where it serves; local pools give each agent its own, in PORT."""
    probe: Probe = Probe()
    resources: Resources = Resources()
    replicas: Replicas = Replicas()
    cold_start: float = 60.0
    grace: float = 30.0
    priority: int = 0
    targets: tuple[Target, ...] = ()
    policy: Policy = "covey"
    policy_settings: dict[str, float] = {}
    """Numbers of the chosen policy that differ from its defaults: `window`, `target`, `up_delay`..."""
    forecast: Forecast = Forecast()
    place: Place = Place()
    traffic: Traffic = Traffic()
    rollout: Rollout = Rollout()
    speeds: dict[str, float] = {}
    """By shape: standard agents one agent there stands for; absent: learned, else 1.0."""
    move_cost: float | None = None
    """USD of one move beyond double running (image pull, warm-up, transfer); None: an estimate from the spec."""
    version: str = ""
    """A digest of what running agents are made of (image, command, env, resources...); another one starts a rollout."""


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """Somewhere agents can run."""

    name: str
    provider: Literal["local", "kubernetes", "aws", "azure", "gcp"]
    labels: dict[str, str] = {}
    """`cloud`, `region`, `zone`, `jurisdiction` are known to the placer; `cloud` is the provider's unless given."""
    settings: dict[str, Any] = {}
    """The provider's own: `context`, `namespace`, `kubeconfig`, `group`, `resource_group`, `subscription`, `project`,
    `endpoint`, `shape`..."""
    max_agents: int | None = None
    price: float | None = None
    """USD per agent and hour, declared; None: from the catalog."""
    cost: Literal["allocated", "marginal"] = "allocated"
    reserved: dict[str, int] = {}
    """By shape: how many agents' worth is paid for already."""
    speeds: dict[str, float] = {}

    @property
    def cloud(self) -> str:
        return self.labels.get("cloud", self.provider)


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What all agents together may cost."""

    hourly_usd: float
    reserve: float = 0.02
    """The part kept for new-before-old."""


class PriceSources(msgspec.Struct, frozen=True, kw_only=True):
    """Where prices come from."""

    catalog: str = ""
    """The cache's file; empty: in the fleet's home."""
    overrides: str = ""
    """A hand-edited TOML that wins over everything."""
    refresh: tuple[Literal["aws", "azure", "gcp"], ...] = ()
    """Whose public price API to read; none unless asked for: Covey calls nobody on its own."""


class Controller(msgspec.Struct, frozen=True, kw_only=True):
    """How the loop itself runs, and its brakes."""

    tick: float = 5.0
    store: str = ""
    """`sqlite:FILE` or `postgresql://...`; empty: SQLite in the fleet's home."""
    listen: str = "127.0.0.1:0"
    """Where agents report and Prometheus scrapes."""
    removals_share: float = 0.25
    """Brake: at most this share of a workload in 5 min, on metrics alone."""
    fleet_removals_share: float = 0.10
    move_share: float = 0.10


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file."""

    pools: dict[str, Pool]
    workloads: dict[str, Workload]
    budget: Budget | None = None
    prices: PriceSources = PriceSources()
    controller: Controller = Controller()
