"""How many standard agents a workload needs now: pure functions of readings, agents and what is remembered.

`policy` is the interface; `covey` our own; `hpa`, `kpa`, `skyserve`, `rayserve`, `threshold` the alternatives, as their
projects define them, so that users can compare and choose.
"""
