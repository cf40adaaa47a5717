"""Everything the controller knows, for Prometheus: `names` is the table of metrics, `gather` fills them from turns and
calls, `dashboard` makes `grafana.json`, and `alerts.yml` says when somebody should look."""

from __future__ import annotations

from covey.fleet.metrics.gather import Metrics

__all__ = ["Metrics"]
