"""What holds for every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Seeds for simulated tests: `sim_seed`, `--sim-seed`, `--sim-seeds`.
pytest_plugins = ["covey.testing.plugin"]

# No deadline and no slowness check: both measure the machine, and this one may be busy. pytest's timeout
# catches a hang. A failure prints the line that replays it.
settings.register_profile("covey", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("covey")
