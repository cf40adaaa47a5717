"""Every field of a spec: its kind, its bounds and what it is for. The loader and the JSON Schema read this table."""

from __future__ import annotations

from typing import Final

from covey.fleet.spec.kinds import (
    Choice,
    Command,
    Either,
    Field,
    Flag,
    Integer,
    ListOf,
    MapOf,
    Named,
    Number,
    Table,
    Text,
    duration,
    memory,
    rate,
    share,
)
from covey.fleet.spec.settings import PROVIDER_SETTINGS, SIGNAL_SETTINGS
from covey.fleet.spec.types import (
    Budget,
    Controller,
    Forecast,
    Place,
    Pool,
    PriceSources,
    Probe,
    Replicas,
    Resources,
    Rollout,
    Spec,
    SpotRules,
    Survive,
    Target,
    Traffic,
    Workload,
)

__all__ = ["MAX_AGENTS", "SPEC"]

MAX_AGENTS: Final = 100_000
"""Of one workload. Ours."""

_DAY: Final = 86_400.0
_NAME: Final = Text(
    'a name of lower-case letters, digits and "-", at most 63, such as "eks-use1"',
    r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
)
_NAMES: Final = ListOf(_NAME, unique=True)
_WORD: Final = Text("a word", r"[^\x00-\x1f]{1,253}")
_VARIABLE: Final = Text("the name of an environment variable", r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_USD: Final = Number(0, 1e9, "USD,")

_RESOURCES: Final = Table(
    Resources,
    {
        "cpu": Field(Number(0, 1024, "CPUs,", above=True), "CPUs of one agent (default 0.25)."),
        "memory": Field(memory(1 << 20, 1 << 46), 'Memory of one agent (default "256Mi").'),
        "gpu": Field(Integer(0, 64), "GPUs of one agent."),
        "arch": Field(
            ListOf(Choice(("amd64", "arm64")), least=1, unique=True), 'Architectures it runs on (default ["amd64"]).'
        ),
        "special": Field(
            ListOf(Choice(("burstable", "bare-metal")), unique=True), "Kinds of shapes that are taken only if named."
        ),
    },
)

_TARGET: Final = Table(
    Target,
    {
        "signal": Field(
            Choice(("cpu", "queue", "agents", "prometheus", "cloudwatch", "kubernetes", "command")),
            "Where the number comes from.",
            required=True,
        ),
        "value": Field(share(above=True, high=1e12), "A ratio for each ready agent: 0.7 of the requested CPU."),
        "rate_per_agent": Field(rate(1e9), "What one standard agent serves at full load."),
        "queue_length": Field(Number(0, 1e9, "a number", above=True), "Backlog for each agent."),
        "utilisation": Field(share(above=True), "The part of `rate_per_agent` to plan with (default 0.7)."),
        "drain_within": Field(duration(0, _DAY), 'How fast a backlog must go (default "30s").'),
        "source": Field(
            Text("a path, an address or sqs:NAME", r"[^\x00-\x1f]{1,2048}"),
            "Where the queue is; without it agents report it.",
        ),
        "query": Field(Text("a query", longest=8192), "What Prometheus is asked."),
        "command": Field(Command(), "A program that prints the number, or JSON."),
        "every": Field(duration(0.1, 3600), 'How often it is sampled (default "5s"); 2 s or faster sees bursts.'),
        "fallback": Field(
            Either((Choice(("current-if-higher", "current", "min", "none")), Integer(0, MAX_AGENTS))),
            "What holds when it has been missing for 5 minutes; a number: so many agents.",
        ),
    },
    chooser="signal",
    settings=SIGNAL_SETTINGS,
)

_PLACE: Final = Table(
    Place,
    {
        "pools": Field(_NAMES, "Pools it may run in (default: all)."),
        "prefer": Field(_NAMES, "Pools to return to when they are healthy again."),
        "jurisdictions": Field(ListOf(_WORD, unique=True), "Where it may be; a pool without the label is nowhere."),
        "labels": Field(MapOf(_WORD), "Labels that a pool must have."),
        "avoid": Field(_NAMES, "Workloads that must not share a pool with it."),
        "near": Field(_NAMES, "Workloads in whose pools alone it may run."),
        "survive": Field(
            Table(
                Survive,
                {
                    "clouds": Field(Integer(1, 1), "How many clouds may vanish at once: 1."),
                    "keep": Field(
                        Either((Choice(("min",)), share(above=True))), 'What stays: "min", or a share of demand.'
                    ),
                },
            ),
            "Ready capacity outside each cloud.",
        ),
        "spot": Field(
            Table(
                SpotRules,
                {
                    "max_share": Field(share(), "At most this part of what exceeds `base_on_demand` (default 0)."),
                    "base_on_demand": Field(Integer(0, MAX_AGENTS), "Agents that are never spot."),
                },
            ),
            "How much of it may run on spot capacity.",
        ),
        "usd_per_ms_hour": Field(_USD, "What a millisecond of latency costs for an agent and hour (default 0)."),
        "egress_gb_hour": Field(Number(0, 1e9, "GB per hour,"), "Traffic of one agent to outside, if you know it."),
        "egress_to": Field(_WORD, 'Where it goes: "internet" (default) or a region.'),
        "max_per_pool": Field(MapOf(Integer(0, MAX_AGENTS)), "Agents at most, by pool."),
    },
)

_WORKLOAD: Final = Table(
    Workload,
    {
        "mode": Field(
            Choice(("observe", "recommend", "act")),
            "observe (default): journal only. recommend: each step waits for `covey fleet approve`. act: carry out.",
        ),
        "image": Field(Text("an image", r"[^\s\x00-\x1f]{1,512}"), "The container image."),
        "command": Field(Command(), "The program; on a local pool what is run, elsewhere what the image runs."),
        "env": Field(MapOf(Text("a text", longest=32_768), _VARIABLE), "Environment variables. No secrets here."),
        "secrets": Field(
            MapOf(
                Text(
                    "file:PATH, env:NAME or kubernetes:SECRET/KEY",
                    r"(file|env):[^\x00]{1,1024}|kubernetes:[^/\s]+/[^/\s]+",
                ),
                _VARIABLE,
            ),
            "Environment variables by where their value is.",
        ),
        "volumes": Field(ListOf(MapOf(Text("a text")), most=64), "What is mounted, as the provider takes it."),
        "port": Field(Integer(1, 65_535), "Where it serves; a local pool gives each agent its own, in PORT."),
        "probe": Field(
            Table(
                Probe,
                {
                    "http": Field(Text('a path such as "/healthz"', r"/[^\s]{0,1023}"), "Ready when it answers 2xx."),
                    "tcp": Field(Flag(), "Ready when it accepts a connection."),
                    "command": Field(Command(), "Ready when it exits with 0."),
                    "every": Field(duration(0.05, 3600), 'Default "300ms".'),
                    "timeout": Field(duration(0.05, 60), 'Default "1s".'),
                    "failures": Field(Integer(1, 100), "So many in a row and it gets no requests (default 3)."),
                },
            ),
            "How to ask an agent whether it is ready; without one, running is ready.",
        ),
        "resources": Field(_RESOURCES, "What one agent needs."),
        "replicas": Field(
            Table(
                Replicas,
                {
                    "min": Field(Integer(0, MAX_AGENTS), "Agents at least (default 1)."),
                    "max": Field(Integer(1, MAX_AGENTS), "Agents at most (default 10)."),
                },
            ),
            "Bounds.",
        ),
        "cold_start": Field(duration(0, 6 * 3600), 'From start to ready (default "60s").'),
        "grace": Field(duration(0, 7 * _DAY), 'How long a busy agent may work on (default "30s").'),
        "priority": Field(Integer(-1000, 1000), "Who is served first when something is short."),
        "targets": Field(ListOf(_TARGET, most=32), "What to keep true. None: `replicas.min` agents."),
        "policy": Field(
            Choice(("covey", "hpa", "kpa", "skyserve", "rayserve", "threshold")), "How demand is computed."
        ),
        "policy_settings": Field(MapOf(Number(-1e12, 1e12)), "Numbers of the policy that differ from its defaults."),
        "forecast": Field(
            Table(
                Forecast,
                {
                    "method": Field(Choice(("none", "seasonal-naive", "holt-winters")), "Default none."),
                    "mode": Field(Choice(("forecast-only", "act")), "Default forecast-only: journaled, not acted on."),
                    "season": Field(duration(60, 366 * _DAY), 'Length of the pattern (default "1d").'),
                },
            ),
            "Prediction of the rate.",
        ),
        "place": Field(_PLACE, "Where it may run."),
        "traffic": Field(
            Table(
                Traffic,
                {
                    "weights": Field(MapOf(Number(0, 1e6)), "Shares of requests by cloud."),
                    "prefer": Field(Choice(("latency", "cost")), "What decides without weights, beside ready speed."),
                },
            ),
            "How requests are shared among clouds.",
        ),
        "rollout": Field(
            Table(
                Rollout,
                {
                    "surge": Field(share(above=True), "New agents at once, as a share (default 0.25)."),
                    "healthy_for": Field(duration(0, _DAY), 'Before the next step (default "30s").'),
                },
            ),
            "How a new version replaces the old.",
        ),
        "speeds": Field(MapOf(Number(0, 1000, above=True)), "Standard agents that one agent stands for, by shape."),
        "move_cost": Field(_USD, "What one move costs beside double running; an estimate unless given."),
    },
)

_POOL: Final = Table(
    Pool,
    {
        "provider": Field(Choice(("local", "kubernetes", "aws", "azure", "gcp")), "What runs it.", required=True),
        "labels": Field(MapOf(_WORD), "`cloud`, `region`, `zone` and `jurisdiction` mean something to the placer."),
        "max_agents": Field(Integer(0, MAX_AGENTS), "Agents at most, of all workloads."),
        "price": Field(_USD, "USD for an agent and hour, if you know better than the catalog."),
        "cost": Field(Choice(("allocated", "marginal")), "marginal: room on what is paid for already costs 0."),
        "reserved": Field(MapOf(Integer(0, MAX_AGENTS)), "Agents' worth paid for already, by shape."),
        "speeds": Field(MapOf(Number(0, 1000, above=True)), "Standard agents of one agent here, by shape."),
    },
    chooser="provider",
    settings=PROVIDER_SETTINGS,
)

SPEC: Final = Table(
    Spec,
    {
        "pools": Field(Named(_POOL, _NAME), "Where agents can run.", required=True),
        "workloads": Field(Named(_WORKLOAD, _NAME), "What is scaled.", required=True),
        "budget": Field(
            Table(
                Budget,
                {
                    "hourly_usd": Field(Number(0, 1e9, "USD", above=True), "All agents together.", required=True),
                    "reserve": Field(
                        share(), "The part kept for starting the new before the old stops (default 0.02)."
                    ),
                },
            ),
            "What it may cost.",
        ),
        "prices": Field(
            Table(
                PriceSources,
                {
                    "catalog": Field(_WORD, "The cache's file; in the fleet's home unless given."),
                    "overrides": Field(_WORD, "A TOML of yours that wins over everything."),
                    "refresh": Field(
                        ListOf(Choice(("aws", "azure", "gcp")), unique=True), "Whose public price API to read."
                    ),
                },
            ),
            "Where prices come from.",
        ),
        "controller": Field(
            Table(
                Controller,
                {
                    "tick": Field(duration(0.1, 3600), 'A turn at least so often (default "5s").'),
                    "store": Field(
                        Text(
                            "sqlite:FILE or a postgresql:// address",
                            r"sqlite:[^\x00]{1,1024}|postgres(ql)?://[^\s]{1,2000}",
                        ),
                        "Where everything is remembered; SQLite in the fleet's home unless given.",
                    ),
                    "listen": Field(
                        Text(
                            'an address and port such as "127.0.0.1:9464"',
                            r"(\[[0-9a-fA-F:.]{2,45}\]|[0-9A-Za-z.-]{1,253}):[0-9]{1,5}",
                        ),
                        "Where agents report and Prometheus scrapes.",
                    ),
                    "removals_share": Field(share(above=True), "At most this part of a workload in 5 min, on metrics."),
                    "fleet_removals_share": Field(share(above=True), "And of the whole fleet."),
                    "move_share": Field(share(above=True), "Moves in flight, as a part of a workload."),
                },
            ),
            "How the controller runs.",
        ),
    },
)
