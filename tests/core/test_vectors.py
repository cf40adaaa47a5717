"""`tests/vectors/protocol.json`, which other implementations test against, is what this one really sends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_protocol_vectors_are_what_the_endpoints_send() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "scripts/protocol_vectors.py"], check=True, capture_output=True, text=True
    )
    assert json.loads(made.stdout) == json.loads((ROOT / "tests/vectors/protocol.json").read_text())
