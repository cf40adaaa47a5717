"""Carries intents out, each pool's in order, pools side by side.

The order around one call, which makes that none is made twice for nothing and none is lost: the intent is in the
store; `Store.calling` says under our epoch that the call begins; the call; `Store.called` says what came of it. A
crash in between leaves `calling`, which the next controller treats as unknown: it looks before it calls again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from msgspec.structs import replace

from covey.base.errors import CoveyError, StorageError
from covey.fleet.errors import Capacity, Denied, Permanent, ProviderError, Quota, Temporary
from covey.fleet.loop.store import Deposed, Intent, Store
from covey.fleet.model import LaunchFailure, Offering, Step
from covey.fleet.providers.base import Fence, Provider
from covey.fleet.spec.types import Workload

__all__ = ["CALL_SECONDS", "Actor", "Ask", "Targets"]

CALL_SECONDS: Final = 35.0
"""A provider ends its calls within 30 s; one that does not is left, and what it did is unknown."""
_AGAIN_SECONDS: Final = 30.0
"""After a failure that nobody foresaw."""
_LONGEST_AGAIN: Final = 60.0

_log = logging.getLogger(__name__)


class Ask(Protocol):
    """Runs a method of the store, where it may block."""

    async def __call__(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any: ...


class Targets(Protocol):
    """What an intent's names mean now."""

    def provider(self, pool: str) -> Provider | None: ...
    def workload(self, name: str) -> Workload | None: ...
    def offering(self, workload: str, key: str) -> Offering | None: ...


def _nobody_counts(_step: Step, _status: str, _seconds: float) -> None:
    """For those who want no figures of calls."""


class Actor:
    """The queue of each pool and whoever works on it.

    `finished` is told after each call, `called` its outcome and seconds; `deposed` once when another controller leads,
    after which nothing is called.
    """

    def __init__(
        self,
        store: Store,
        epoch: int,
        targets: Targets,
        *,
        ask: Ask,
        clock: Callable[[], float],
        finished: Callable[[], None],
        deposed: Callable[[], None],
        called: Callable[[Step, str, float], None] = _nobody_counts,
    ) -> None:
        self._store = store
        self._epoch = epoch
        self._targets = targets
        self._ask = ask
        self._clock = clock
        self._finished = finished
        self._deposed = deposed
        self._called = called
        self._queues: dict[str, deque[Intent]] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._queued: set[int] = set()
        self._over = False

    @property
    def queued(self) -> frozenset[int]:
        """Intents that wait for their call or are being called."""
        return frozenset(self._queued)

    def submit(self, intent: Intent) -> None:
        """To be called once it is in the store. One that is queued already stays where it is."""
        if self._over or intent.id in self._queued:
            return
        pool = intent.step.pool
        self._queued.add(intent.id)
        self._queues.setdefault(pool, deque()).append(intent)
        if pool not in self._workers:
            self._workers[pool] = asyncio.create_task(self._work(pool), name=f"act on {pool}")

    async def idle(self) -> None:
        """Until nothing is queued."""
        while self._workers:
            await asyncio.gather(*self._workers.values(), return_exceptions=True)

    async def close(self) -> None:
        """Begins no call any more and abandons those on their way: their intents stay `calling`."""
        self._over = True
        workers = list(self._workers.values())
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, pool: str) -> None:
        queue = self._queues[pool]
        try:
            while queue and not self._over:
                intent = queue.popleft()
                try:
                    await self._carry_out(intent)
                except Deposed:
                    self._over = True
                    self._deposed()
                except StorageError as error:
                    # Before the call: it is not made. After it: the intent stays `calling`, and is looked at again.
                    _log.error("intent %d: %s", intent.id, error)
                finally:
                    self._queued.discard(intent.id)
                self._finished()
        finally:
            del self._workers[pool]
            self._queued.difference_update(intent.id for intent in queue)
            queue.clear()

    async def _carry_out(self, intent: Intent) -> None:
        if not await self._ask(self._store.calling, self._epoch, intent.id, self._clock()):
            return
        began = asyncio.get_running_loop().time()
        said = await self._call(intent)
        self._called(intent.step, said["status"], asyncio.get_running_loop().time() - began)
        await self._ask(self._store.called, self._epoch, intent.id, self._clock(), **said)

    async def _call(self, intent: Intent) -> Mapping[str, Any]:
        """The arguments of `Store.called`."""
        step = intent.step
        provider, workload = self._targets.provider(step.pool), self._targets.workload(step.workload)
        if provider is None or workload is None:
            return _settled("superseded", "its pool or workload is no longer in the spec")
        fence = Fence(plan=intent.plan, epoch=self._epoch)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                if step.kind == "scale":
                    offering = self._targets.offering(step.workload, step.offering)
                    if offering is None:
                        return _settled("superseded", f"{step.offering} is no longer offered")
                    return await _accepted(provider.scale(workload, offering, step.size, fence))
                if step.kind == "drain":
                    return await _accepted(provider.drain(workload, step.ids, fence))
                gone = await provider.remove(workload, step.ids, fence, grace=step.grace)
                return _removed(step, frozenset(gone))
        except TimeoutError:
            return self._unknown(intent, f"no answer within {CALL_SECONDS:g} s", after=0.0)
        except Temporary as error:
            return self._unknown(intent, str(error), after=error.after)
        except (Capacity, Quota, Denied, Permanent) as error:
            if error.code == Deposed.default_code:
                raise Deposed(str(error)) from error  # the pool has seen a later epoch than ours
            return {"status": "refused", "detail": str(error), "refused": self._refused(step, error)}
        except CoveyError as error:
            return self._unknown(intent, str(error), after=_AGAIN_SECONDS)
        except Exception as error:  # a provider's own fault must not end the controller
            _log.exception("%s of %s in %s", step.kind, step.workload, step.pool)
            return self._unknown(intent, f"{type(error).__name__} in the provider", after=_AGAIN_SECONDS)

    def _unknown(self, intent: Intent, detail: str, *, after: float) -> Mapping[str, Any]:
        wait = min(max(after, 1.0) * 2 ** min(intent.tries, 6), max(_LONGEST_AGAIN, after))
        return {"status": "unknown", "detail": detail, "again_at": self._clock() + wait}

    def _refused(self, step: Step, error: ProviderError) -> LaunchFailure:
        offering = self._targets.offering(step.workload, step.offering)
        scope = offering.scope if offering is not None else step.pool
        shape = offering.shape if offering is not None else ""
        now, reason = self._clock(), str(error)
        if isinstance(error, Capacity):
            return LaunchFailure(
                scope=error.scope or scope, shape=error.shape, at=now, reason=reason, workload=step.workload
            )
        if isinstance(error, Quota):
            return LaunchFailure(
                scope=error.scope or scope, shape="", at=now, reason=reason, workload=step.workload, kind="quota"
            )
        return LaunchFailure(
            scope=scope,
            shape=shape,
            at=now,
            reason=reason,
            workload=step.workload,
            kind="denied" if isinstance(error, Denied) else "permanent",
        )


async def _accepted(call: Awaitable[None]) -> Mapping[str, Any]:
    await call
    return {"status": "accepted"}


def _removed(step: Step, gone: frozenset[str]) -> Mapping[str, Any]:
    """Agents that were found busy stay, and the next turn decides about them."""
    left = [agent for agent in step.ids if agent not in gone]
    if not left:
        return {"status": "accepted"}
    detail = f"still busy, left: {', '.join(left[:10])}"
    if len(left) == len(step.ids):
        return _settled("left", detail)
    return {
        "status": "accepted",
        "detail": detail,
        "step": replace(step, ids=tuple(agent for agent in step.ids if agent in gone)),
    }


def _settled(outcome: str, detail: str) -> Mapping[str, Any]:
    return {"status": "settled", "outcome": outcome, "detail": detail}
