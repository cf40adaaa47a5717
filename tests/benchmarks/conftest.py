from __future__ import annotations

from typing import Any

import pytest

from covey.bench.rows import row


def made_run(commit: str = "aaaaaaaaaaaa", bulk: float = 3.0, **changed: Any) -> dict[str, Any]:
    """A run as `benchmarks.results.keep` takes it."""
    of_all = {"raw_tcp": [10.0, 12.0], "asyncio_tls": [4.0, 5.0], "covey": [bulk, bulk * 1.1]}
    rows = [row("bulk_gbit_s", "Gbit/s", values, of_all, peer=peer) for peer, values in of_all.items()]
    rows.append(row("rtt64_us_p50", "us", [100.0, 110.0], peer="covey"))
    rows.append(row("bulk_gbit_s", "Gbit/s", [0.3], of_all, peer="rival 1.0"))
    machine = {
        "processor": "one",
        "cores": 2,
        "kernel": "Linux 6",
        "python": "3.11",
        "cryptography": "48",
        "tcp_congestion_control": "bbr",
    }
    return {
        "commit": commit,
        "time": "2026-01-02T03:04:05+00:00",
        "quick": False,
        "runs": 2,
        "machine": machine,
        "sites": {"": "two network namespaces"},
        "doubts": [],
        "failures": [],
        "rows": rows,
        **changed,
    }


@pytest.fixture
def run() -> dict[str, Any]:
    return made_run()
