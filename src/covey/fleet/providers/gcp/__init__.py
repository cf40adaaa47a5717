"""GCP: managed instance groups of one zone or region, through google-cloud-compute (`pip install 'covey[gcp]'`).

`errors` maps what GCP refuses, `instance_groups` answers for the groups.
"""

from __future__ import annotations

from covey.fleet.providers.gcp.instance_groups import InstanceGroups
from covey.fleet.providers.groups.pool import GroupPool
from covey.fleet.providers.registry import Surroundings
from covey.fleet.spec.types import Pool

__all__ = ["make"]


def make(pool: Pool, surroundings: Surroundings) -> GroupPool:
    """The provider of one pool on GCP."""
    return GroupPool(pool, InstanceGroups(pool, wall=surroundings.wall), surroundings)
