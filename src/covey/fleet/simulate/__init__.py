"""A virtual clock, simulated pools and recorded demand around the very same turn; baselines, bounds, reports.

`api.simulate` is what `covey fleet simulate` calls: one trace, one spec, every baseline beside it. `backtest` runs
whole folders. `world` has the fluid queue and the agents, `turning` flies them with `loop.turn`, `pilots` with one
demand policy and a plain actuator; `oracle` is the bound.
"""
