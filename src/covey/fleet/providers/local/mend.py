"""Making supervisord match the files.

`Mender.mend` runs whenever somebody looks or has changed a file, under the pool's lock. It brings a killed supervisord
back, starts what is wanted and absent, ends what is not wanted, and clears away what has ended. Whoever died in the
middle of anything left files; the next `mend` goes on from them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from covey.fleet.errors import Temporary
from covey.fleet.providers.local import processes
from covey.fleet.providers.local.keeper import Keeper, Kept
from covey.fleet.providers.local.limits import Limits
from covey.fleet.providers.local.records import Directory

__all__ = ["Mender"]

ORPHAN_GRACE: Final = 5.0
"""Seconds that agents of a killed supervisord have to finish, before a new one starts them again."""

FATAL_RETRY: Final = 60.0
"""Seconds between attempts to start what supervisord gave up."""

_RUNNING: Final = frozenset({"STARTING", "RUNNING", "BACKOFF"})
_ENDED: Final = frozenset({"STOPPED", "EXITED", "FATAL", "UNKNOWN"})


class Mender:
    """Of one pool. Nothing here decides: the files say what there should be."""

    def __init__(self, files: Directory, keeper: Keeper, limits: Limits | None, clock: Callable[[], float]) -> None:
        self._files = files
        self._keeper = keeper
        self._limits = limits
        self._clock = clock
        self._given_up: dict[str, float] = {}
        """When supervisord gave it up, or was asked again."""

    async def mend(self, *, start: bool = False) -> dict[str, Kept]:
        """What supervisord has now. It is only started when there is anything for it to do, or with `start`: a look at
        an empty pool changes nothing. Raises `Temporary` when the pool is halted or supervisord does not come up."""
        if self._files.halted:
            raise Temporary(
                f"{self._files.path}/halt exists: the pool is halted",
                next_step=f"to bring it back: rm {self._files.path}/halt",
            )
        if not await self._keeper.pid():
            if not (start or self._files.wanted() or self._files.processes()):
                return {}
            await self._bring_up()
        kept = await self._keeper.processes()
        records = self._files.wanted()
        missing = [agent for agent in records if agent not in kept]
        await self._keeper.add(missing)
        going = {agent: process for agent, process in kept.items() if agent not in records}
        await self._keeper.stop([agent for agent, process in going.items() if process.statename in _RUNNING])
        await self._clear([agent for agent, process in going.items() if process.statename in _ENDED])
        await self._retry({agent: process for agent, process in kept.items() if agent in records})
        return await self._keeper.processes() if missing or going else kept

    async def _bring_up(self) -> None:
        """A new supervisord. What an old one left behind goes first: nobody would know of it."""
        await self._end_orphans()
        self._files.unwant_unreadable()
        wanted = self._files.wanted()
        for agent in self._files.processes():
            if agent not in wanted:
                self._forget(agent)
        for agent, record in wanted.items():
            # Anew, since the path of Python or of the launcher may be another after an upgrade.
            self._files.write_section(agent, self._keeper.section(agent, grace=record.grace))
        await self._keeper.start()

    async def _end_orphans(self) -> None:
        found = await asyncio.to_thread(processes.of_pool, str(self._files.path))
        await processes.end(found, grace=ORPHAN_GRACE)

    async def _clear(self, agents: list[str]) -> None:
        if not agents:
            return
        await self._keeper.drop(agents)
        # What an agent started and did not end has the agent's name in its environment.
        found = await asyncio.to_thread(processes.of_pool, str(self._files.path))
        await processes.end((pid for pid, agent in found.items() if agent in agents), grace=0.0)
        for agent in agents:
            self._forget(agent)

    def _forget(self, agent: str) -> None:
        self._files.forget(agent)
        if self._limits is not None:
            self._limits.forget(agent)

    async def _retry(self, kept: dict[str, Kept]) -> None:
        """supervisord gives up after a minute of trying; we do not."""
        now = self._clock()
        given_up = [agent for agent, process in kept.items() if process.statename == "FATAL"]
        since = {agent: self._given_up.get(agent, now) for agent in given_up}
        due = [agent for agent, at in since.items() if now - at >= FATAL_RETRY]
        self._given_up = since | dict.fromkeys(due, now)
        await self._keeper.restart(due)
