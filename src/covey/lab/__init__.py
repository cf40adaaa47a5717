"""Agents behind every kind of NAT on one machine: network namespaces, the real kernel, nftables, and no root.

A product, not a fixture: `covey lab`, `python -m covey.lab`, `from covey.lab import Lab`, and the pytest plugin
`covey.lab.plugin`. It imports nothing of Covey but `base`; whatever runs in a lab is started as a program.
"""

from __future__ import annotations

from covey.lab.kinds import KINDS, Kind
from covey.lab.lab import Lab
from covey.lab.machine import Machine

__all__ = ["KINDS", "Kind", "Lab", "Machine"]
