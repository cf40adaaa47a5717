"""Looks at pools and reads signals, each on its own, so that a slow one holds nobody up.

A turn takes the newest of what there is. What comes late wakes the loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from covey.base.errors import CoveyError
from covey.fleet.model import Agent, Offering, PoolView, Reading
from covey.fleet.providers.base import Provider
from covey.fleet.signals.base import Source
from covey.fleet.spec.types import Workload

__all__ = ["LOOK_SECONDS", "Observer", "SourceReader"]

LOOK_SECONDS: Final = 2.0
"""How long a turn waits for pools to answer; who takes longer is taken as last seen, and wakes the loop later."""
_CALL_SECONDS: Final = 35.0
"""A provider ends its calls within 30 s."""
_READ_SECONDS: Final = 12.0
"""A source ends within 10 s."""

_log = logging.getLogger(__name__)


class Observer:
    """The newest view of each pool. One look at a time for each: a view is never older than the one before."""

    def __init__(self, *, clock: Callable[[], float], late: Callable[[], None]) -> None:
        self._clock = clock
        self._late = late
        self._views: dict[str, PoolView] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}

    async def look(self, providers: Mapping[str, Provider], workloads: Iterable[Workload]) -> dict[str, PoolView]:
        """One look at each pool, as far as it answers within `LOOK_SECONDS`; then the newest view of each that was
        ever seen."""
        workloads = tuple(workloads)
        for pool, provider in providers.items():
            if pool not in self._looks:
                self._looks[pool] = asyncio.create_task(self._look(pool, provider, workloads), name=f"look at {pool}")
        if self._looks:
            _, slow = await asyncio.wait(self._looks.values(), timeout=LOOK_SECONDS)
            for task in slow:
                task.add_done_callback(lambda _: self._late())
        return {pool: self._views[pool] for pool in providers if pool in self._views}

    def restore(self, views: Mapping[str, PoolView]) -> None:
        """What an earlier controller saw, for pools that were not seen yet."""
        self._views = {**views, **self._views}

    def offering(self, workload: str, key: str) -> Offering | None:
        """By its key, as last seen."""
        pool = key.partition("/")[0]
        view = self._views.get(pool)
        for offering in view.offerings.get(workload, ()) if view is not None else ():
            if offering.key == key:
                return offering
        return None

    async def close(self) -> None:
        looks = list(self._looks.values())
        for task in looks:
            task.cancel()
        await asyncio.gather(*looks, return_exceptions=True)

    async def _look(self, pool: str, provider: Provider, workloads: Sequence[Workload]) -> None:
        began = self._clock()
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                view = await provider.observe(workloads, began)
            self._views[pool] = replace(view, pool=pool, at=began)
        except TimeoutError:
            self._lost(pool, began, f"no answer within {_CALL_SECONDS:g} s")
        except CoveyError as error:
            self._lost(pool, began, str(error))
        except Exception as error:  # a provider's own fault must not end the controller
            _log.exception("looking at %s", pool)
            self._lost(pool, began, f"{type(error).__name__} in the provider")
        finally:
            del self._looks[pool]

    def _lost(self, pool: str, at: float, problem: str) -> None:
        known = self._views.get(pool, PoolView(pool=pool, at=at))
        self._views[pool] = replace(known, at=at, control=False, problem=problem)


class SourceReader:
    """Reads one source again and again, and keeps the newest reading of each part."""

    def __init__(
        self, source: Source, agents: Callable[[], Sequence[Agent]], *, clock: Callable[[], float], name: str
    ) -> None:
        self.readings: dict[str, Reading] = {}
        self.problem = ""
        """Why the last try failed; "" when it did not."""
        self._source = source
        self._agents = agents
        self._clock = clock
        self.name = name
        self._task = asyncio.create_task(self._run(), name=f"read {name}")

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._source.close()

    async def _run(self) -> None:
        while True:
            began = self._clock()
            try:
                async with asyncio.timeout(_READ_SECONDS):
                    self.readings |= await self._source.read(self._agents(), began)
                self.problem = ""
            except TimeoutError:
                self.problem = f"no answer within {_READ_SECONDS:g} s"
            except CoveyError as error:
                self.problem = str(error)
            except Exception as error:  # a source's own fault must not end the controller
                _log.exception("reading %s", self._task.get_name())
                self.problem = f"{type(error).__name__} in the source"
            await asyncio.sleep(max(0.05, began + self._source.every - self._clock()))
