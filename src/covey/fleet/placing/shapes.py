"""What the name of a machine's shape says about it, where its catalog does not: architecture and what is special.

Families, by each vendor's own naming rules: AWS puts `g` (Graviton) among the letters after the generation (`m7g`,
`c6gn`, `im4gn`); Azure puts `p` among the features after the size (`Standard_D4ps_v5`); GCP names the Arm families
`t2a`, `c4a`, `n4a`, `a4x`.
"""

from __future__ import annotations

import re

__all__ = ["architecture", "special"]

_AWS = re.compile(r"^([a-z]+?)(\d+)([a-z]*)(?:-[a-z0-9-]+)?\.([a-z0-9-]+)$")
_AZURE = re.compile(r"^(?:standard|basic)_([a-z]+)(\d+)(?:-\d+)?([a-z]*)(?:_|$)")
_GCP = re.compile(r"^([a-z]+\d+[a-z]*)-([a-z0-9-]+)$")

_ARM_GCP = frozenset({"t2a", "c4a", "n4a", "a4x"})
_BURSTABLE_GCP = frozenset({"e2-micro", "e2-small", "e2-medium", "f1-micro", "g1-small"})


def architecture(shape: str) -> str:
    """`arm64` or `amd64`, from the family in a shape's name."""
    name = shape.lower()
    if match := _AWS.match(name):
        family, _, letters, _ = match.groups()
        # a1 is the first Graviton; mac2 runs on Apple's own chips.
        return "arm64" if "g" in letters or (family, match[2]) == ("a", "1") or name.startswith("mac2") else "amd64"
    if match := _AZURE.match(name):
        return "arm64" if "p" in match[3] else "amd64"
    if match := _GCP.match(name):
        return "arm64" if match[1] in _ARM_GCP else "amd64"
    return "amd64"


def special(shape: str) -> tuple[str, ...]:
    """Of `burstable` and `bare-metal`, what the name of a shape says."""
    name = shape.lower()
    if match := _AWS.match(name):
        found = ["burstable"] if match[1] == "t" else []
        return tuple([*found, "bare-metal"] if match[4].startswith("metal") else found)
    if match := _AZURE.match(name):
        return ("burstable",) if match[1] == "b" or name.startswith("basic_") else ()
    if name in _BURSTABLE_GCP:
        return ("burstable",)
    return ("bare-metal",) if _GCP.match(name) and name.endswith("-metal") else ()
