from __future__ import annotations

import json
import subprocess
import sys


def loaded_after(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after `statement`."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(json.loads(result.stdout))


def test_daemon_loads_neither_typer_nor_rich() -> None:
    assert loaded_after("import covey.daemon.program") & {"typer", "rich", "covey.cli"} == set()


def test_loading_structlog_leaves_rich_importable() -> None:
    assert "rich" in loaded_after("import covey.daemon.logs, rich")
