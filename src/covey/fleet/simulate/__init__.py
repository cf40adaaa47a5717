"""A virtual clock, simulated pools and recorded demand around the very same turn; baselines, bounds, reports."""
