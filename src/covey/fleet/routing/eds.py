"""The routes as Envoy reads them: one ClusterLoadAssignment for each workload, in xDS v3 JSON.

Envoy is told every locality's weight as it is now, so that its own failover (health checks, outlier detection) only
has to bridge the time until the next table. `cluster` is a matching cluster: it makes Envoy honour the weights of
localities, pick the less loaded of two, eject as `routing.ejection` does, and start slowly. Its panic threshold is 0 on
purpose: with 50 %, one failed check of a cluster with two hosts makes Envoy ignore the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from covey.fleet.model import Route
from covey.fleet.routing.routes import OVERPROVISION, SLOW_START

__all__ = ["cluster", "eds"]

_TYPE = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


def eds(routes: Mapping[str, Route], version: str = "1") -> dict[str, Any]:
    """A DiscoveryResponse for Envoy's `path_config_source`, or the answer of a REST management server. Agents without
    a usable address are left out; a workload without any is an empty assignment, which takes its old endpoints away."""
    return {
        "version_info": version,
        "type_url": _TYPE,
        "resources": [_assignment(route) for _, route in sorted(routes.items())],
    }


def _assignment(route: Route) -> dict[str, Any]:
    localities = [
        {
            "locality": {"region": pool},
            "load_balancing_weight": route.localities[pool],
            "lb_endpoints": [
                {
                    "endpoint": {"address": {"socket_address": _socket(each.address)}},
                    "load_balancing_weight": each.weight,
                }
                for each in route.endpoints[pool]
                if _socket(each.address)
            ],
        }
        for pool in sorted(route.endpoints)
        # Envoy knows no weight 0: such a locality is left out.
        if route.localities.get(pool, 0) > 0
    ]
    return {
        "@type": _TYPE,
        "cluster_name": route.workload,
        "endpoints": localities,
        "policy": {"overprovisioning_factor": round(OVERPROVISION * 100)},
    }


def _socket(address: str) -> dict[str, Any]:
    """Empty for what is no `host:port`: one bad address must not cost the others their table."""
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port[:6]) < 65536:
        return {}
    return {"address": host.strip("[]"), "port_value": int(port)}


def cluster(workload: str, path: str) -> dict[str, Any]:
    """A cluster for Envoy's bootstrap that reads `eds` of one workload from a file that is replaced by renaming."""
    return {
        "name": workload,
        "type": "EDS",
        "connect_timeout": "1s",
        "eds_cluster_config": {
            "service_name": workload,
            "eds_config": {"resource_api_version": "V3", "path_config_source": {"path": path}},
        },
        "lb_policy": "LEAST_REQUEST",
        "least_request_lb_config": {
            "choice_count": 2,
            "slow_start_config": {"slow_start_window": f"{SLOW_START:.0f}s", "min_weight_percent": {"value": 10}},
        },
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}, "locality_weighted_lb_config": {}},
        "outlier_detection": {
            "consecutive_5xx": 5,
            "interval": "10s",
            "base_ejection_time": "30s",
            "max_ejection_time": "300s",
            "max_ejection_percent": 50,
            "success_rate_stdev_factor": 1900,
        },
    }
