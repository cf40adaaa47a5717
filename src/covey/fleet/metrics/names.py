"""The metrics, as a table: what `gather` fills, the documentation lists and the dashboard may ask for.

Counters begin at 0 with each controller; everything else is what the last turn saw or decided. Times are Unix seconds,
money is USD.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

__all__ = ["METRICS", "Metric"]


class Metric(NamedTuple):
    """One metric. Counters are exposed with `_total` at the end."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    help: str


METRICS: Final = (
    # --- the controller ---
    Metric("covey_fleet_leader", "gauge", (), "1 while this controller leads."),
    Metric("covey_fleet_last_turn_timestamp_seconds", "gauge", (), "When it last decided."),
    Metric("covey_fleet_turns", "counter", (), "Turns of the loop."),
    Metric("covey_fleet_turn_seconds", "histogram", (), "What a turn took, looking included."),
    Metric("covey_fleet_problem", "gauge", ("name",), "1 for each pool or signal that cannot be used."),
    # --- agents ---
    Metric("covey_fleet_agents", "gauge", ("workload", "pool", "cloud", "state"), "Agents, by state."),
    Metric("covey_fleet_agents_coming", "gauge", ("workload", "pool"), "Ordered and not seen yet."),
    Metric("covey_fleet_agents_busy", "gauge", ("workload", "pool"), "Agents that say they are busy."),
    Metric("covey_fleet_agents_silent", "gauge", ("workload",), "Suspect and dead agents: they count 0."),
    Metric("covey_fleet_agents_unpriced", "gauge", ("workload", "pool"), "Agents whose price is not known."),
    Metric("covey_fleet_replicas_min", "gauge", ("workload",), "The spec's lower bound."),
    Metric("covey_fleet_replicas_max", "gauge", ("workload",), "The spec's upper bound."),
    # --- demand ---
    Metric("covey_fleet_wanted_agents", "gauge", ("workload",), "Standard agents wanted, before min and max."),
    Metric("covey_fleet_asked_agents", "gauge", ("workload",), "What the targets ask for now, before windows."),
    Metric("covey_fleet_forecast_agents", "gauge", ("workload",), "What the prediction says, used or not."),
    Metric("covey_fleet_burst", "gauge", ("workload",), "1 during a burst."),
    Metric("covey_fleet_held_down", "gauge", ("workload",), "1 while nothing may be removed for lack of demand."),
    Metric(
        "covey_fleet_signal", "gauge", ("workload", "signal", "part", "quantity"),
        "The newest reading: arrivals and completions per second, backlog, value, ongoing.",
    ),
    Metric("covey_fleet_signal_age_seconds", "gauge", ("workload", "signal", "part"), "How old that reading is."),
    Metric("covey_fleet_requests", "counter", ("workload",), "Requests that arrived, as far as a rate signal tells."),
    Metric(
        "covey_fleet_violations", "counter", ("workload",),
        "Those that found more than 5 s of backlog, or no ready agent.",
    ),
    # --- money ---
    Metric("covey_fleet_cost_usd_per_hour", "gauge", ("workload", "pool", "cloud"), "Of all agents, known prices."),
    Metric("covey_fleet_budget_usd_per_hour", "gauge", (), "The spec's budget."),
    Metric("covey_fleet_survive_premium_usd_per_hour", "gauge", ("workload",), "What `survive` costs more."),
    Metric("covey_fleet_offering_price_usd_per_hour", "gauge", ("offering",), "The list price of one agent."),
    Metric("covey_fleet_price_age_seconds", "gauge", ("pool", "spot"), "Age of the oldest price of a pool."),
    # --- pools ---
    Metric("covey_fleet_pool_control", "gauge", ("pool", "cloud"), "1 while the pool's API answers."),
    Metric("covey_fleet_pool_agents", "gauge", ("pool", "cloud"), "1 while most of its agents are heard."),
    Metric("covey_fleet_pool_frozen", "gauge", ("pool",), "1 while it neither gains nor loses agents."),
    Metric("covey_fleet_cloud_suspended", "gauge", ("cloud",), "1 for a cloud of which nothing lives."),
    Metric("covey_fleet_room_agents", "gauge", ("offering",), "How many more agents fit, where that is known."),
    Metric("covey_fleet_blocked", "gauge", ("scope", "shape"), "1 while it is blocked for lack of capacity or quota."),
    Metric("covey_fleet_blocked_until_timestamp_seconds", "gauge", ("scope", "shape"), "Until when."),
    # --- decisions ---
    Metric("covey_fleet_steps", "counter", ("workload", "kind", "cause"), "Steps that were decided."),
    Metric("covey_fleet_reversals", "counter", ("workload",), "Changes of direction, for demand, within 10 min."),
    Metric("covey_fleet_held", "gauge", ("workload",), "What the filter did not let through in the last turn."),
    Metric("covey_fleet_shortfall", "gauge", ("workload", "constraint"), "What is missing, in the constraint's unit."),
    Metric("covey_fleet_settled", "counter", ("outcome",), "Orders that are over: seen, superseded, failed..."),
    Metric("covey_fleet_calls", "counter", ("pool", "kind", "status"), "Calls of providers."),
    Metric("covey_fleet_call_seconds", "counter", ("pool", "kind"), "What those calls took in all."),
    Metric("covey_fleet_route_share", "gauge", ("workload", "pool"), "The share of requests that a pool gets."),
)  # fmt: skip
