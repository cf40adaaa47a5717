"""The Grafana dashboard: `python -m covey.fleet.metrics.dashboard > src/covey/fleet/metrics/grafana.json`.

`PANELS` is the whole of it; the rest is Grafana's format (schema 39, Grafana 10 and later). A test compares the file
with what is made here, and asks a real Prometheus every query.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final, NamedTuple

__all__ = ["PANELS", "Panel", "dashboard"]

COLUMNS: Final = 24
"""Of Grafana's grid."""


class Panel(NamedTuple):
    """One panel; `queries` are expressions, each with what its series are called."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 12
    stacked: bool = False


_W: Final = 'workload=~"$workload"'

_Q: Final = "$__rate_interval"


def _sum(by: str, metric: str, more: str = "") -> str:
    return f"sum by ({by}) (covey_fleet_{metric}{{{_W}{more}}})"


def _grown(by: str, counter: str, over: str = _Q) -> str:
    return f"sum by ({by}) (increase(covey_fleet_{counter}_total{{{_W}}}[{over}]))"


def _late(over: str, by: str = "") -> str:
    """The share of requests that had to wait."""
    late = f"sum{by} (increase(covey_fleet_violations_total{{{_W}}}[{over}]))"
    return f"{late} / clamp_min(sum{by} (increase(covey_fleet_requests_total{{{_W}}}[{over}])), 1)"


def _each(by: str) -> str:
    """A legend of labels."""
    return " ".join(f"{{{{{label}}}}}" for label in by.split(", "))


def _by(title: str, by: str, metric: str, *, unit: str = "short", stacked: bool = False, more: str = "") -> Panel:
    return Panel(title, ((_sum(by, metric, more), _each(by)),), unit, stacked=stacked)


def _one(title: str, query: str, unit: str = "short") -> Panel:
    return Panel(title, ((query, ""),), unit, "stat", 4)


_CALLS: Final = f"sum by (pool, kind) (increase(covey_fleet_calls_total[{_Q}]))"
_CALL_SECONDS: Final = f"sum by (pool, kind) (increase(covey_fleet_call_seconds_total[{_Q}]))"
_TURNS: Final = f"sum by (le) (rate(covey_fleet_turn_seconds_bucket[{_Q}]))"
_SIGNAL: Final = "workload, signal"

PANELS: Final[tuple[Panel | str, ...]] = (
    "Now",
    _one("Agents ready", f'sum(covey_fleet_agents{{{_W},state="ready"}})'),
    _one("Standard agents wanted", f"sum(covey_fleet_wanted_agents{{{_W}}})"),
    _one("Cost per hour", f"sum(covey_fleet_cost_usd_per_hour{{{_W}}})", "currencyUSD"),
    _one("Violations, last hour", _late("1h"), "percentunit"),
    _one("Pools without control", "count(covey_fleet_pool_control == 0) or vector(0)"),
    _one("Since the last turn", "time() - max(covey_fleet_last_turn_timestamp_seconds)", "s"),
    "Agents and demand",
    _by("Agents by workload and state", "workload, state", "agents", stacked=True),
    Panel(
        "Wanted, asked for now, bounds",
        tuple(
            (f"covey_fleet_{metric}{{{_W}}}", f"{{{{workload}}}} {words}")
            for metric, words in (
                ("wanted_agents", "wanted"),
                ("asked_agents", "asked"),
                ("forecast_agents", "forecast"),
                ("replicas_min", "min"),
                ("replicas_max", "max"),
            )
        ),
    ),
    Panel(
        "Rates",
        (
            (_sum(_SIGNAL, "signal", ',quantity="arrivals"'), f"{_each(_SIGNAL)} in"),
            (_sum(_SIGNAL, "signal", ',quantity="completions"'), f"{_each(_SIGNAL)} out"),
        ),
        "reqps",
    ),
    _by("Backlog", _SIGNAL, "signal", more=',quantity="backlog"'),
    _by("Other values", _SIGNAL, "signal", more=',quantity=~"value|ongoing"'),
    Panel("Violations", ((_late(_Q, " by (workload)"), "{{workload}}"),), "percentunit"),
    _by("Busy agents", "workload, pool", "agents_busy"),
    Panel(
        "Bursts and holds",
        (
            (f"covey_fleet_burst{{{_W}}}", "{{workload}} burst"),
            (f"covey_fleet_held_down{{{_W}}}", "{{workload}} held"),
        ),
    ),
    "Money",
    Panel(
        "Cost per hour by cloud",
        ((_sum("cloud", "cost_usd_per_hour"), "{{cloud}}"), ("covey_fleet_budget_usd_per_hour", "budget")),
        "currencyUSD",
        stacked=True,
    ),
    _by("Cost per hour by workload", "workload", "cost_usd_per_hour", unit="currencyUSD", stacked=True),
    Panel("Price of an agent", (("covey_fleet_offering_price_usd_per_hour", "{{offering}}"),), "currencyUSD"),
    Panel("Age of prices", (("covey_fleet_price_age_seconds", "{{pool}} spot: {{spot}}"),), "s"),
    _by("Premium of survive", "workload", "survive_premium_usd_per_hour", unit="currencyUSD"),
    _by("Agents without a known price", "workload, pool", "agents_unpriced"),
    "Where",
    _by("Agents by pool", "pool", "agents", stacked=True),
    _by("Share of requests by pool", "workload, pool", "route_share", unit="percentunit", stacked=True),
    Panel(
        "Pools: control and agents",
        (("covey_fleet_pool_control", "{{pool}} control"), ("covey_fleet_pool_agents", "{{pool}} agents")),
    ),
    Panel(
        "Frozen pools, suspended clouds",
        (("covey_fleet_pool_frozen", "{{pool}}"), ("covey_fleet_cloud_suspended", "{{cloud}}")),
    ),
    Panel("Room as last seen", (("covey_fleet_room_agents", "{{offering}}"),)),
    Panel(
        "Blocked scopes, for how much longer",
        (("covey_fleet_blocked_until_timestamp_seconds - time() > 0", "{{scope}} {{shape}}"),),
        "s",
    ),
    "Decisions",
    Panel("Steps", ((_grown("workload, kind, cause", "steps"), _each("workload, kind, cause")),), stacked=True),
    Panel(
        "Coming, silent, held",
        (
            (_sum("workload", "agents_coming"), "{{workload}} coming"),
            (f"covey_fleet_agents_silent{{{_W}}}", "{{workload}} silent"),
            (f"covey_fleet_held{{{_W}}}", "{{workload}} held"),
        ),
    ),
    _by("Shortfalls", "workload, constraint", "shortfall"),
    Panel("Reversals in an hour", ((_grown("workload", "reversals", "1h"), "{{workload}}"),)),
    Panel(
        "Calls of providers",
        ((f"sum by (pool, kind, status) (increase(covey_fleet_calls_total[{_Q}]))", _each("pool, kind, status")),),
        stacked=True,
    ),
    Panel("Seconds of a call", ((f"{_CALL_SECONDS} / {_CALLS}", _each("pool, kind")),), "s"),
    Panel(
        "Orders that are over",
        ((f"sum by (outcome) (increase(covey_fleet_settled_total[{_Q}]))", "{{outcome}}"),),
        stacked=True,
    ),
    "The controller",
    Panel(
        "Seconds of a turn",
        ((f"histogram_quantile(0.5, {_TURNS})", "median"), (f"histogram_quantile(0.99, {_TURNS})", "99 %")),
        "s",
    ),
    Panel("Turns per minute", ((f"60 * rate(covey_fleet_turns_total[{_Q}])", "{{instance}}"),)),
    Panel("Leaders", (("sum(covey_fleet_leader)", "leaders"),)),
    Panel("Pools and signals that cannot be used", (("covey_fleet_problem", "{{name}}"),)),
    Panel("Age of signals", ((f"covey_fleet_signal_age_seconds{{{_W}}}", _each("workload, signal, part")),), "s"),
)


def dashboard() -> dict[str, Any]:
    """Grafana's document, to be imported as it is."""
    panels: list[dict[str, Any]] = []
    x = y = height = 0
    for number, panel in enumerate(PANELS, 1):
        if isinstance(panel, str):
            y, x = y + height, 0
            height = 1
            panels.append({"id": number, "type": "row", "title": panel, "collapsed": False, "panels": [],
                           "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y}})  # fmt: skip
            y, height = y + 1, 0
            continue
        if x + panel.width > COLUMNS:
            x, y, height = 0, y + height, 0
        tall = 4 if panel.kind == "stat" else 8
        panels.append(_panel(panel, number, {"h": tall, "w": panel.width, "x": x, "y": y}))
        x, height = x + panel.width, max(height, tall)
    return {
        "title": "Covey fleet",
        "uid": "covey-fleet",
        "schemaVersion": 39,
        "version": 1,
        "tags": ["covey"],
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_datasource(), _workloads()]},
        "annotations": {"list": []},
        "panels": panels,
    }


def _panel(panel: Panel, number: int, where: dict[str, int]) -> dict[str, Any]:
    custom = {"stacking": {"mode": "normal"}, "fillOpacity": 40} if panel.stacked else {"fillOpacity": 0}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "gridPos": where,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "fieldConfig": {
            "defaults": {"unit": panel.unit} | ({"custom": custom} if panel.kind == "timeseries" else {}),
            "overrides": [],
        },
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": {"type": "prometheus", "uid": "${datasource}"},
                "expr": expression,
                "legendFormat": legend or "__auto",
                "range": True,
            }
            for index, (expression, legend) in enumerate(panel.queries)
        ],
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0}


def _workloads() -> dict[str, Any]:
    return {
        "name": "workload",
        "label": "Workload",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": "label_values(covey_fleet_wanted_agents, workload)", "refId": "workloads"},
        "definition": "label_values(covey_fleet_wanted_agents, workload)",
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "refresh": 2,
        "current": {"text": "All", "value": "$__all"},
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dashboard(), indent=1) + "\n")
