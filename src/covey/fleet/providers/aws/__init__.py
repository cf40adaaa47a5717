"""AWS: Auto Scaling groups of one region, through boto3 (`pip install 'covey[aws]'`).

`errors` maps what AWS refuses, `autoscaling` answers for the groups.
"""

from __future__ import annotations

from covey.fleet.providers.aws.autoscaling import AutoScaling
from covey.fleet.providers.groups.pool import GroupPool
from covey.fleet.providers.registry import Surroundings
from covey.fleet.spec.types import Pool

__all__ = ["make"]


def make(pool: Pool, surroundings: Surroundings) -> GroupPool:
    """The provider of one pool on AWS."""
    return GroupPool(pool, AutoScaling(pool), surroundings)
