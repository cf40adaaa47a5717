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

_GROUPS: Final = Field(
    ListOf(_WORD, least=1, most=256, unique=True), "Groups that are used; every one with our tag unless given."
)
_ENDPOINT: Final = Field(_ADDRESS, "Another address of the API: a private endpoint, or a fake.")
_POLL: Final = Field(duration(0.01, 600), 'How often a slow operation is asked for (default "5s").')
_REGION: Final = Field(_WORD, "The cloud's name of the region; the label `region` unless given.")

PROVIDER_SETTINGS: Final[Mapping[str, Mapping[str, Field]]] = {
    "local": {
        "cpus": Field(Number(0, 100_000, "CPUs,", above=True), "What agents may ask for in all; this machine's."),
        "memory": Field(memory(1 << 20, 1 << 50), "What agents may ask for in all; this machine's."),
        "directory": Field(_WORD, "Where agents run; a folder in the fleet's home unless given."),
        "ports": Field(Text("ports such as 20000-20999", r"[0-9]{1,5}-[0-9]{1,5}"), "Which may be given to agents."),
        "drain_signal": Field(Text("a signal such as SIGUSR1", r"SIG[A-Z0-9]{2,10}"), "What tells an agent to drain."),
        "limits": Field(Flag(), "Hold agents to their `resources` by cgroups, where this machine lets us."),
        "logs": Field(memory(1 << 12, 1 << 40), 'Of each agent, and once more for the file before (default "10Mi").'),
    },
    "kubernetes": {
        "context": Field(_WORD, "A context of the kubeconfig; its current one unless given."),
        "kubeconfig": Field(_WORD, "The kubeconfig's path; KUBECONFIG or ~/.kube/config unless given."),
        "namespace": Field(Text("a namespace", r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"), "Default: the context's."),
        "node_selector": Field(MapOf(_WORD), "Labels that nodes must have."),
        "service_account": Field(_WORD, "The account that agents run as."),
        "pull_secrets": Field(ListOf(_WORD), "Secrets for the image registry."),
        "report": Field(_ADDRESS, "Where agents in this cluster reach the controller."),
        "autoscaled": Field(Flag(), "Nodes come when pods wait: room is unknown, and waiting is no failure for 5 min."),
    },
    "aws": {
        "region": _REGION,
        "groups": _GROUPS,
        "profile": Field(_WORD, "A profile of the AWS configuration."),
        "endpoint": _ENDPOINT,
    },
    "azure": {
        "region": _REGION,
        "groups": _GROUPS,
        "resource_group": Field(_WORD, "The resource group.", required=True),
        "subscription": Field(_WORD, "The subscription's id.", required=True),
        "poll": _POLL,
        "endpoint": _ENDPOINT,
    },
    "gcp": {
        "region": _REGION,
        "zone": Field(_WORD, "Of zonal groups; regional ones have a region alone."),
        "groups": _GROUPS,
        "project": Field(_WORD, "The project's id.", required=True),
        "poll": _POLL,
        "endpoint": _ENDPOINT,
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
        "scrape_interval": Field(
            duration(0.1, 3600),
            'How often Prometheus scrapes what is asked for (default "15s"); 2 s or less sees bursts.',
        ),
        "token_file": Field(_WORD, "A file with a bearer token."),
        "ca_file": Field(_WORD, "A file with the certificates to believe."),
        "timeout": Field(duration(0.05, 60), 'How long one query may take (default "2s").'),
    },
    "cloudwatch": {
        "namespace": Field(_WORD, "The metric's namespace.", required=True),
        "metric": Field(_WORD, "The metric's name.", required=True),
        "dimensions": Field(MapOf(_WORD, most=30), "The metric's dimensions."),
        "statistic": Field(
            Choice(("Average", "Sum", "Maximum", "Minimum", "SampleCount")), 'Default "Sum" for a rate, else "Average".'
        ),
        "period": Field(Integer(1, 86_400), "Of one data point, seconds (default 60)."),
        "region": Field(_WORD, "Where the metric is kept."),
        "profile": Field(_WORD, "A profile of the AWS configuration."),
        "endpoint": Field(_ADDRESS, "Another address of the API."),
    },
    "kubernetes": {
        "metric": Field(Text("a metric's name", r"[A-Za-z0-9_.:|-]{1,253}"), "Of the pods; their CPU unless given."),
        "external": Field(Flag(), "The metric is of the namespace (external.metrics.k8s.io), as KEDA's are."),
        "selector": Field(_WORD, "Labels of what is asked for; the workload's pods unless given."),
        "pools": Field(MapOf(_WORD), "Contexts of the kubeconfig by pool: each cluster gives its own part."),
        "context": Field(_WORD, "One context of the kubeconfig; its current one unless given."),
        "kubeconfig": Field(_WORD, "The kubeconfig's path; KUBECONFIG or ~/.kube/config unless given."),
        "namespace": Field(Text("a namespace", r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"), "Default: the context's."),
    },
    "command": {
        "timeout": Field(duration(0.05, 60), 'How long it may run (default "2s").'),
    },
}
