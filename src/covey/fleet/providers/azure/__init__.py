"""Azure: virtual machine scale sets of one resource group, through azure-mgmt-compute (`pip install 'covey[azure]'`).

`errors` maps what Azure refuses, `scale_sets` answers for the groups.
"""

from __future__ import annotations

from covey.fleet.providers.azure.scale_sets import ScaleSets
from covey.fleet.providers.groups.pool import GroupPool
from covey.fleet.providers.registry import Surroundings
from covey.fleet.spec.types import Pool

__all__ = ["make"]


def make(pool: Pool, surroundings: Surroundings) -> GroupPool:
    """The provider of one pool on Azure."""
    return GroupPool(pool, ScaleSets(pool, wall=surroundings.wall), surroundings)
