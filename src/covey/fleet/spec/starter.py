"""The commented starting point of `covey fleet init`: a toy service that runs on this machine and nothing else."""

from __future__ import annotations

import json
from typing import Final

from covey.fleet.toy import LOAD, QUEUE, WORK

__all__ = ["starter"]

_TEXT: Final = """\
# A fleet: pools, where agents can run, and workloads, what is scaled.
# A wrong field is told with its line: covey fleet check. All fields: covey fleet schema, and docs/fleet/spec.md.
#
#   covey fleet apply      make this the fleet's spec
#   covey fleet plan       what would be done now, why, and what it costs before and after
#   covey fleet run        the controller: keeps doing it until Ctrl-C
#   covey fleet status     what runs;  covey fleet explain worker   why

[pools.here]
provider = "local"                  # processes on this machine; also: kubernetes, aws, azure, gcp
max_agents = 10
price = 0.05                        # USD for an agent and hour; the clouds' prices come from the catalog
labels = { cloud = "here" }         # cloud, region, zone and jurisdiction mean something to the placer

# [pools.eks-use1]
# provider = "kubernetes"
# context = "prod-eks"              # of your kubeconfig
# labels = { cloud = "aws", region = "us-east-1", jurisdiction = "us" }

# [budget]
# hourly_usd = 40                   # new agents above min are refused beyond it; busy ones are never stopped for it

[workloads.worker]
mode = "act"                        # observe (what you get without this line): journal only; recommend: you approve
command = @WORK@
resources = { cpu = 0.1, memory = "64Mi" }
replicas = { min = 1, max = 8 }
policy_settings = { down_window = 60 }   # s of less demand before agents go; 300 unless given, and wiser for real work
cold_start = "2s"                   # from start to ready
grace = "10s"                       # how long a busy agent may work on when it has to go
probe = { http = "/healthz" }       # ready when it answers; each agent listens on its own PORT

# Several targets: the highest wins upward, downward all must agree.
[[workloads.worker.targets]]
signal = "queue"                    # also: cpu, agents, prometheus, cloudwatch, kubernetes, command
source = "@QUEUE@"                    # a directory here; an http:// address or sqs:NAME elsewhere
rate_per_agent = "5/s"              # what one agent can do
utilisation = 0.7                   # how full it should be
drain_within = "10s"                # how soon a backlog must be gone
every = "1s"                        # 2 s or faster also sees bursts

# [[workloads.worker.targets]]
# signal = "cpu"
# value = 0.7

# [workloads.worker.place]
# pools = ["here", "eks-use1"]
# survive = { clouds = 1, keep = "min" }           # ready capacity outside each cloud; or keep = 0.7, a share of demand
# spot = { max_share = 0.5, base_on_demand = 2 }
# jurisdictions = ["eu"]

# [workloads.worker.traffic]
# weights = { azure = 20, aws = 80 }               # or prefer = "latency" | "cost"

[workloads.load]                    # what keeps the workers busy: jobs that come faster and slower, in waves
mode = "act"
command = @LOAD@
resources = { cpu = 0.1, memory = "64Mi" }
cold_start = "2s"
replicas = { min = 1, max = 1 }     # no targets: it has its min

[controller]
listen = "127.0.0.1:9464"           # agents report here, Prometheus scrapes /metrics
removals_share = 0.5                # a brake: so much of a workload may go in 5 min (0.25 unless given)
fleet_removals_share = 0.5          # and of the fleet (0.1 unless given, for fleets larger than this one)
"""


def starter() -> str:
    """The text."""
    return _TEXT.replace("@WORK@", _list(WORK)).replace("@LOAD@", _list(LOAD)).replace("@QUEUE@", QUEUE)


def _list(words: tuple[str, ...]) -> str:
    return f"[{', '.join(json.dumps(word) for word in words)}]"
