"""The contract between the loop and whatever runs agents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from covey.fleet.model import Offering, PoolView
from covey.fleet.spec.types import Pool, Workload

__all__ = ["Fence", "PoolFacts", "Provider", "Right"]


class PoolFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a pool is: found out once, shown by `covey fleet status`."""

    provider: str
    version: str = ""
    labels: dict[str, str] = {}
    """Found by asking (region, zones); what the spec says wins."""
    can: tuple[str, ...] = ()
    """What not every pool can: `spot`, `named-removal`, `deletion-cost`, `disruption-budgets`, `limits`."""


class Right(msgspec.Struct, frozen=True, kw_only=True):
    """One right that the provider needs, proven by asking for it without effect (dry run, SelfSubjectAccessReview)."""

    name: str
    granted: bool
    detail: str = ""
    next_step: str = ""


class Fence(msgspec.Struct, frozen=True, kw_only=True):
    """Whose call this is. The controller checks the epoch in the store just before each call; a provider that can
    (tags, annotations, idempotency tokens) carries `plan` and `epoch` with the call, so that a late one changes
    nothing."""

    plan: str
    epoch: int


class Provider(Protocol):
    """One pool. Every call may raise `covey.fleet.errors` and nothing else; it ends within its own time-out (30 s at
    most).

    All calls are idempotent: `scale` names an absolute size, the others name agents. After an error whether the call
    took effect is unknown; the loop observes before it repeats.
    """

    pool: Pool

    async def describe(self) -> PoolFacts: ...

    async def offerings(self, workload: Workload) -> Sequence[Offering]:
        """What the pool could run it on, with prices as far as the pool knows them and room as last seen."""
        ...

    async def observe(self, workloads: Iterable[Workload], now: float) -> PoolView:
        """One look at everything of ours in the pool. Raises when its control does not answer. What was accepted and
        failed later for lack of capacity is in the view's `failures`."""
        ...

    async def scale(self, workload: Workload, offering: Offering, size: int, fence: Fence) -> None:
        """Raise workload x offering to `size` agents (not counting those that drain). Never lowers: a size below the
        present one does nothing. Returns when the order is accepted, not when the agents are up."""
        ...

    async def drain(self, workload: Workload, ids: Sequence[str], fence: Fence) -> None:
        """Tell agents to finish what they have and take nothing new; from then on `observe` shows them as draining.
        Agents also learn it from the answer to their report. Unknown ids are no error: they are gone."""
        ...

    async def remove(self, workload: Workload, ids: Sequence[str], fence: Fence, *, grace: float) -> Sequence[str]:
        """End these agents and no others, lowering the size with them. Each is looked at again first: a busy one within
        its grace is left. Returns the ids that go (or were gone); the rest was left running."""
        ...

    async def health(self) -> str:
        """ "" when the pool's control answers, else what is wrong in words. Cheaper than `observe`; at most 1 s."""
        ...

    async def check(self) -> Sequence[Right]:
        """Prove every right that the other verbs need, changing nothing."""
        ...

    async def close(self) -> None: ...
