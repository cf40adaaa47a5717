"""What a cloud must answer for its instance groups to be a pool. Calls block; `GroupPool` makes them in threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from covey.fleet.providers.base import PoolFacts, Right

__all__ = ["DRAINING_TAG", "EPOCH_TAG", "WORKLOAD_TAG", "Failure", "Group", "GroupApi", "Instance", "Life"]

WORKLOAD_TAG = "covey:workload"
"""On a group, by its owner: the workload that its instances serve. Without it a group is not ours."""
EPOCH_TAG = "covey:epoch"
"""On a group, by us: the epoch of the leader that last ordered something there."""
DRAINING_TAG = "covey:draining"
"""On an instance, by us: when its drain began, seconds since 1970."""

Life = Literal["pending", "running", "unhealthy", "leaving"]
"""`leaving`: it is being taken away, by whomever; it is nobody's agent any more."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One launch that the cloud accepted and could not carry out."""

    kind: Literal["capacity", "quota"]
    at: float
    reason: str


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One machine of a group."""

    id: str
    life: Life
    zone: str = ""
    launched_at: float
    draining_since: float | None = None
    notice_at: float | None = None
    """When the cloud said that it will take it away; None: it has not."""
    address: str = ""
    version: str = ""
    unplaced: bool = False
    """It has a name and no machine: its allocation failed, or is still being tried."""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """One group: one workload on one shape, spot or on demand. It is an offering."""

    name: str
    workload: str
    shape: str
    size: int
    """What the cloud was last asked for, machines that drain included."""
    least: int = 0
    most: int
    spot: bool = False
    zones: tuple[str, ...] = ()
    arch: str = "amd64"
    special: tuple[str, ...] = ()
    gpu: int = 0
    instances: tuple[Instance, ...] = ()
    failures: tuple[Failure, ...] = ()
    epoch: int = 0
    path: str = ""
    """What the cloud calls it, if not by its name: a zone or a resource group."""

    @property
    def zone(self) -> str:
        """Its zone if it has exactly one; a group over several is one offering of the region."""
        return self.zones[0] if len(self.zones) == 1 else ""


class GroupApi(Protocol):
    """Every call may raise `covey.fleet.errors` and nothing else."""

    def facts(self) -> PoolFacts: ...

    def groups(self) -> Sequence[Group]:
        """All groups of ours with their instances and the failed launches of the last minutes."""
        ...

    def ping(self) -> None:
        """The cheapest call that shows that the API answers and knows us."""
        ...

    def prepare(self, group: Group) -> None:
        """Make sure that the cloud itself removes nothing: rebalancing suspended, machines protected. Idempotent."""
        ...

    def resize(self, group: Group, size: int, epoch: int) -> None:
        """Ask for `size` machines, more than now; mark the group with the epoch first."""
        ...

    def withdraw(self, group: Group, size: int, epoch: int) -> None:
        """Lower `size` to no less than the machines there are: take back an order that was not filled."""
        ...

    def mark_draining(self, group: Group, ids: Sequence[str], at: float) -> None: ...

    def delete(self, group: Group, ids: Sequence[str], epoch: int) -> Sequence[str]:
        """End these machines and lower the size with them; returns those that go or were gone."""
        ...

    def rights(self, groups: Sequence[Group]) -> Sequence[Right]: ...
