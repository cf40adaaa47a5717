"""The JSON Schema of a spec, for editors, from the very table that the loader reads."""

from __future__ import annotations

from typing import Any

from covey.fleet.spec.fields import SPEC

__all__ = ["schema"]


def schema() -> dict[str, Any]:
    """Draft 2020-12. What only a whole spec can tell (names that must exist) is left to `covey fleet check`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Covey fleet spec",
        **SPEC.schema(),
    }
