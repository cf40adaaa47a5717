"""The fields of a pool that only its provider knows, and those of a target that only its signal knows.

Whoever writes a provider or a reader of a signal adds its line here; it finds the value in `Pool.settings` or
`Target.settings`, checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from covey.fleet.spec.kinds import Choice, Field, Flag, Integer, ListOf, MapOf, Number, Text, duration, memory

__all__ = ["PROVIDER_SETTINGS", "SIGNAL_SETTINGS"]

_WORD: Final = Text("a word", r"[^\x00-\x1f]{1,512}")
_ADDRESS: Final = Text("an http:// or https:// address", r"https?://[^\s]{1,2000}")
_ZONES: Final = ListOf(_WORD, least=1, most=32, unique=True)
_SHAPES: Final = ListOf(_WORD, least=1, most=64, unique=True)

_CLOUD: Final[dict[str, Field]] = {
    "region": Field(_WORD, "The cloud's name of the region."),
    "zones": Field(_ZONES, "Zones that may be used; all of the group's unless given."),
    "shape": Field(_WORD, "The instance type, where the group does not say it."),
    "shapes": Field(_SHAPES, "Instance types, where the group may use several."),
    "agents_per_instance": Field(Integer(1, 10_000), "Agents that one instance runs (default 1)."),
    "spot": Field(Flag(), "The group starts spot instances."),
    "endpoint": Field(_ADDRESS, "Another address of the API: a private endpoint, or a fake."),
    "max": Field(Integer(0, 100_000), "Instances at most, if less than the group allows."),
}

PROVIDER_SETTINGS: Final[Mapping[str, Mapping[str, Field]]] = {
    "local": {
        "logs": Field(memory(1 << 12, 1 << 34), 'Log kept of each agent before it is rotated (default "10Mi").'),
        "limits": Field(Flag(), "Hold agents to their resources by cgroups, where this machine lets us."),
        "directory": Field(_WORD, "Where agents run; the fleet's home unless given."),
        "capacity_cpu": Field(Number(0, 100_000, above=True), "CPUs that agents may ask for in all; this machine's."),
        "capacity_memory": Field(memory(1, 1 << 50), "Memory that agents may ask for in all; this machine's."),
    },
    "kubernetes": {
        "context": Field(_WORD, "A context of the kubeconfig; its current one unless given."),
        "kubeconfig": Field(_WORD, "The kubeconfig's path; KUBECONFIG or ~/.kube/config unless given."),
        "namespace": Field(Text("a namespace", r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"), "Default: the context's."),
        "node_selector": Field(MapOf(_WORD), "Labels that nodes must have."),
        "service_account": Field(_WORD, "The account that agents run as."),
        "pull_secrets": Field(ListOf(_WORD), "Secrets for the image registry."),
        "report": Field(_ADDRESS, "Where agents in this cluster reach the controller."),
    },
    "aws": {
        "group": Field(_WORD, "The Auto Scaling group.", required=True),
        "profile": Field(_WORD, "A profile of the AWS configuration."),
        "queue_url": Field(_ADDRESS, "The queue of its lifecycle events."),
        **_CLOUD,
    },
    "azure": {
        "group": Field(_WORD, "The virtual machine scale set.", required=True),
        "resource_group": Field(_WORD, "Its resource group.", required=True),
        "subscription": Field(_WORD, "The subscription's id.", required=True),
        **_CLOUD,
    },
    "gcp": {
        "group": Field(_WORD, "The managed instance group.", required=True),
        "project": Field(_WORD, "The project's id.", required=True),
        "zone": Field(_WORD, "Of a zonal group; a regional one names `region`."),
        **_CLOUD,
    },
}

SIGNAL_SETTINGS: Final[Mapping[str, Mapping[str, Field]]] = {
    "cpu": {},
    "queue": {
        "backlog_field": Field(_WORD, "Of a JSON answer: which field is the backlog."),
        "region": Field(_WORD, "Of an SQS queue."),
        "endpoint": Field(_ADDRESS, "Another address of the SQS API."),
        "timeout": Field(duration(0.05, 60), 'How long one look may take (default "2s").'),
    },
    "agents": {},
    "prometheus": {
        "address": Field(_ADDRESS, 'Where Prometheus answers (default "http://127.0.0.1:9090").'),
        "backlog_query": Field(Text("a query", longest=8192), "A query for what waits, beside the rate's."),
        "ongoing_query": Field(Text("a query", longest=8192), "A query for what is in flight."),
        "completions_query": Field(Text("a query", longest=8192), "A query for what is completed per second."),
        "pool_label": Field(_WORD, "The label that names the pool, when the answer has a series for each."),
        "token_file": Field(_WORD, "A file with a bearer token."),
        "ca_file": Field(_WORD, "A file with the certificates to believe."),
        "timeout": Field(duration(0.05, 60), 'How long one query may take (default "2s").'),
    },
    "cloudwatch": {
        "namespace": Field(_WORD, "The metric's namespace.", required=True),
        "metric": Field(_WORD, "The metric's name.", required=True),
        "dimensions": Field(MapOf(_WORD, most=30), "The metric's dimensions."),
        "statistic": Field(Choice(("Average", "Sum", "Maximum", "Minimum", "SampleCount")), 'Default "Average".'),
        "period": Field(Integer(1, 86_400), "Of one data point, seconds (default 60)."),
        "region": Field(_WORD, "Where the metric is kept."),
        "profile": Field(_WORD, "A profile of the AWS configuration."),
        "endpoint": Field(_ADDRESS, "Another address of the API."),
    },
    "kubernetes": {
        "metric": Field(_WORD, "A metric of the pods; their CPU unless given."),
    },
    "command": {
        "timeout": Field(duration(0.05, 60), 'How long it may run (default "2s").'),
    },
}
