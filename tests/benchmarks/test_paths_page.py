from __future__ import annotations

import json
from pathlib import Path

from benchmarks import page
from benchmarks.paths.page import write

MACHINE = {"commit": "abc", "machine": {"cores": 2, "processor": "P", "kernel": "K", "python": "3.11"}}
CELL = {"a": "symmetric", "b": "none", "runs": 20, "connected": 20, "direct": 19, "first_byte_ms_p50": 31.0}
MATRIX = CELL | {"first_byte_ms_max": 80.0, "direct_ms_p50": 50.0, "direct_ms_p95": 70.0, "reason": "direct"}
FAULT = {
    "fault": "relay",
    "trials": 50,
    "lost": 0,
    "limit_s": 1.0,
    "gap_s_p50": 0.2,
    "gap_s_p95": 0.4,
    "gap_s_max": 0.5,
    "bulk_gap_s_p50": 0.1,
    "bulk_gap_s_p95": 0.3,
}


def test_tables_are_put_where_they_belong(tmp_path: Path) -> None:
    files = {
        "nat-matrix.json": [MATRIX],
        "nat-matrix-run.json": MACHINE,
        "nat-matrix-nebula.json": [CELL | {"peer": "Nebula 1", "gap_s": [60.0]}],
        "failover.json": [FAULT],
        "failover-run.json": MACHINE,
        "ten-minutes.json": {
            "seconds": 600.0,
            "cuts": ["x"] * 29,
            "came_bytes": 6e8,
            "same": True,
            "longest_silence_s": 4.8,
            "trouble": "",
        },
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    target = tmp_path / "page.md"
    begin = "<!-- written by `python -m benchmarks.paths.page`: {} -->\nold\n" + page.END
    target.write_text(f"# A\n{begin.format('matrix')}\n# B\n{begin.format('failover')}\nend\n")
    write(tmp_path, target)
    text = target.read_text()
    assert "old" not in text
    assert "| symmetric | none | 20/20 | 19/20 | 31 (80) | 50 | 70 | direct |" in text
    assert "| symmetric | 19/20 direct, 31 ms | - | - | - |" in text
    assert "nothing for at least 60 s" in text
    assert "| relay | 50 | 0 | 0.2 | 0.4 | 0.5 | 0.1 | 0.3 | 1.0 |" in text
    assert "29 cuts, 600 MB there and back, the same bytes. The program's socket was never closed" in text
    write(tmp_path, target)
    assert target.read_text() == text
