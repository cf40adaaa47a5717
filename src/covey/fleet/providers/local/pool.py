"""The eight verbs of a local pool.

Which agents there should be is in `records`; a verb changes files and lets `mend` make supervisord match them, so that
every one of them is safe to repeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from covey.fleet.errors import Capacity, Denied, Permanent, ProviderError, Temporary
from covey.fleet.model import Offering, PoolView
from covey.fleet.providers.base import Fence, PoolFacts, Right
from covey.fleet.providers.local import limits, processes
from covey.fleet.providers.local.keeper import LOG_BYTES, Keeper, Kept
from covey.fleet.providers.local.mend import Mender
from covey.fleet.providers.local.ports import free_ports, port_range
from covey.fleet.providers.local.records import Directory, Record, check_name
from covey.fleet.providers.local.view import Viewer
from covey.fleet.providers.registry import Surroundings
from covey.fleet.spec.types import Pool, Workload

__all__ = ["SHAPE", "LocalPool"]

SHAPE: Final = "process"
"""The one shape of a local pool."""

LOCK_TIMEOUT: Final = 10.0
"""Seconds to wait for another controller that is changing the pool."""

HEALTH_TIMEOUT: Final = 1.0


class LocalPool:
    """Processes on this machine. Raises `covey.fleet.errors` and nothing else, once it is made."""

    def __init__(self, pool: Pool, surroundings: Surroundings) -> None:
        self.pool = pool
        self._around = surroundings
        self._files = Directory((surroundings.home / "pools" / check_name(pool.name, "pool")).absolute())
        self._keeper = Keeper(self._files.path, pool.name, log_bytes=int(pool.settings.get("logs") or LOG_BYTES))
        self._limits = limits.find(self._files.path) if pool.settings.get("limits") else None
        self._mender = Mender(self._files, self._keeper, self._limits, surroundings.wall)
        self._viewer = Viewer(
            pool.name, self._files, clock=surroundings.wall, busy=surroundings.busy, changed=surroundings.changed
        )
        self._work = Path(pool.settings.get("directory") or surroundings.home / "work").absolute()
        self._ports = port_range(str(pool.settings.get("ports") or ""))
        self._turn = asyncio.Lock()

    # --- what it is ---

    async def describe(self) -> PoolFacts:
        can = ("named-removal", "limits") if self._limits is not None else ("named-removal",)
        return PoolFacts(provider="local", version=f"supervisor {importlib.metadata.version('supervisor')}", can=can)

    async def offerings(self, workload: Workload) -> Sequence[Offering]:
        with self._errors():
            self._files.make()
            return (self._offering(workload, self._files.wanted().values()),)

    async def health(self) -> str:
        """A supervisord that does not run is no trouble: the next look starts it."""
        if self._files.halted:
            return f"{self._files.path}/halt exists: the pool is halted"
        try:
            await asyncio.wait_for(self._keeper.pid(), HEALTH_TIMEOUT)
        except (TimeoutError, ProviderError):
            return f"supervisord in {self._files.path} does not answer"
        return ""

    async def check(self) -> Sequence[Right]:
        """Proven by doing it: a directory, a socket, a supervisord. Limits, where they are asked for."""
        try:
            async with self._changing():
                await self._mender.mend(start=True)
        except ProviderError as error:
            return (Right(name="processes", granted=False, detail=str(error), next_step=error.next_step),)
        rights = [Right(name="processes", granted=True, detail=f"supervisord answers in {self._files.path}")]
        if self.pool.settings.get("limits"):
            rights.append(
                Right(
                    name="limits",
                    granted=self._limits is not None,
                    detail="" if self._limits is not None else "no cgroup that we may write: agents run without limits",
                    next_step="" if self._limits is not None else "run the controller in a unit with Delegate=yes",
                )
            )
        return rights

    # --- what is ---

    async def observe(self, workloads: Iterable[Workload], now: float) -> PoolView:
        wanted = {workload.name: workload for workload in workloads}
        async with self._changing():
            kept = await self._mender.mend()
            records = self._files.wanted()
            self._viewer.watch({process.pid for process in kept.values() if process.pid} | {await self._keeper.pid()})
            agents = await self._viewer.agents(records, kept, wanted, now)
        return PoolView(
            pool=self.pool.name,
            at=now,
            problem=_trouble(kept, self._files.path / "logs"),
            agents=agents,
            offerings={name: (self._offering(workload, records.values()),) for name, workload in wanted.items()},
        )

    def _offering(self, workload: Workload, records: Iterable[Record]) -> Offering:
        return Offering(
            pool=self.pool.name,
            shape=SHAPE,
            cloud=self.pool.cloud,
            region=self.pool.labels.get("region", ""),
            jurisdiction=self.pool.labels.get("jurisdiction", ""),
            # This machine is paid for already.
            price=self.pool.price if self.pool.price is not None else 0.0,
            room=self._room(workload, list(records)),
            speed=self.pool.speeds.get(SHAPE, 1.0),
        )

    def _room(self, workload: Workload, records: list[Record]) -> int:
        """`max_agents` where it is set; else what the machine's processors and memory hold of what is asked for."""
        if self.pool.max_agents is not None:
            return max(0, self.pool.max_agents - len(records))
        cpus = float(self.pool.settings.get("cpus") or os.cpu_count() or 1)
        memory = float(self.pool.settings.get("memory") or _machine_memory())
        by_cpu = (cpus - sum(record.cpu for record in records)) / max(workload.resources.cpu, 1e-3)
        by_memory = (memory - sum(record.memory for record in records)) / max(workload.resources.memory, 1)
        return max(0, int(min(by_cpu, by_memory) + 1e-9))

    # --- what is done ---

    async def scale(self, workload: Workload, offering: Offering, size: int, fence: Fence) -> None:
        if not workload.command:
            raise Permanent(
                f"{workload.name} has no command, and a local pool runs commands",
                next_step=f"give workloads.{workload.name} a command, or keep it off pool {self.pool.name}",
            )
        async with self._changing():
            self._admit(fence)
            records, draining = self._files.wanted(), self._files.marks().draining
            there = sum(
                1 for agent, record in records.items()
                if record.workload == workload.name and record.offering == offering.key and agent not in draining
            )  # fmt: skip
            missing, room = size - there, self._room(workload, list(records.values()))
            for record in self._new_records(workload, offering, min(missing, room), fence):
                self._files.write(record, self._keeper.section(record.id, grace=record.grace))
            await self._mender.mend()
        if missing > room:
            raise Capacity(
                f"pool {self.pool.name} has room for {room} more of {workload.name}, not for {missing}",
                scope=offering.scope,
                shape=SHAPE,
                next_step=f"raise max_agents of pools.{self.pool.name}",
            )

    def _new_records(self, workload: Workload, offering: Offering, count: int, fence: Fence) -> list[Record]:
        if count <= 0:
            return []
        check_name(workload.name, "workload")
        self._work.mkdir(mode=0o700, parents=True, exist_ok=True)
        ports = free_ports(self._around.home, self._ports, count)
        return [
            self._new_record(agent, port, workload, offering, fence)
            for agent, port in zip(self._files.next_ids(workload.name, count), ports, strict=True)
        ]

    def _new_record(self, agent: str, port: int, workload: Workload, offering: Offering, fence: Fence) -> Record:
        resources = workload.resources
        cgroups: tuple[str, ...] = ()
        if self._limits is not None:
            cgroups = self._limits.make(agent, cpu=resources.cpu, memory=resources.memory)
        return Record(
            id=agent,
            workload=workload.name,
            version=workload.version,
            offering=offering.key,
            started_at=self._around.wall(),
            port=port,
            command=workload.command,
            env=workload.env | self._environment(agent, workload, port),
            secrets=workload.secrets,
            directory=str(self._work),
            cpu=resources.cpu,
            memory=resources.memory,
            grace=workload.grace,
            plan=fence.plan,
            epoch=fence.epoch,
            cgroups=cgroups,
        )

    def _environment(self, agent: str, workload: Workload, port: int) -> dict[str, str]:
        return {
            "COVEY_FLEET_AGENT": agent,
            "COVEY_FLEET_WORKLOAD": workload.name,
            "COVEY_FLEET_POOL": self.pool.name,
            "COVEY_FLEET_REPORT": self._around.report_url,
            "COVEY_FLEET_REPORT_FILE": str(self._files.path / "report-url"),
            "COVEY_FLEET_TOKEN_FILE": self._around.token_file(self.pool.name, workload.name),
            "COVEY_FLEET_DRAIN_FILE": str(self._files.path / "drain" / agent),
            processes.MARK: str(self._files.path),
            "PORT": str(port),
        }

    async def drain(self, workload: Workload, ids: Sequence[str], fence: Fence) -> None:
        async with self._changing():
            self._admit(fence)
            kept = await self._mender.mend()
            told = self._files.marks().draining
            new = [agent for agent in ids if agent in self._files.wanted() and agent not in told]
            for agent in new:
                self._files.drain(agent, self._around.wall())
            signal = self.pool.settings.get("drain_signal")
            if signal:
                await self._keeper.signal([agent for agent in new if agent in kept], str(signal))

    async def remove(self, workload: Workload, ids: Sequence[str], fence: Fence, *, grace: float) -> Sequence[str]:
        """A busy agent is drained and left, until its grace is over. One that does not say counts as busy."""
        async with self._changing():
            self._admit(fence)
            await self._mender.mend()
            records, now = self._files.wanted(), self._around.wall()
            for agent in ids:
                if agent in records:
                    self._files.drain(agent, now)
            marks = self._files.marks()
            goes = []
            for agent in ids:
                idle = self._around.busy(agent) is False or agent in marks.waiting
                if agent not in records:
                    goes.append(agent)
                elif idle or now - marks.draining.get(agent, now) >= grace:
                    goes.append(agent)
                    self._files.unwant(agent)
            await self._mender.mend()
        return goes

    def _admit(self, fence: Fence) -> None:
        deposed_by = self._files.admit(fence.epoch)
        if deposed_by is not None:
            raise Denied(
                f"an order of leader epoch {fence.epoch} came after one of epoch {deposed_by}",
                code="deposed",
                next_step="nothing: another controller leads now",
            )

    async def shut_down(self) -> None:
        """End the supervisor as well, and with it whatever still runs: the pool is given up."""
        with self._errors():
            if await self._keeper.pid():
                await self._keeper.shut_down()

    async def close(self) -> None:
        """Agents and their supervisord stay."""
        await self._viewer.close()

    # --- within ---

    @contextlib.asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        """Nobody else changes the pool meanwhile: no task of ours, no other controller."""
        with self._errors():
            self._files.make()
            self._tell_report_url()
            async with self._turn:
                give_up = asyncio.get_running_loop().time() + LOCK_TIMEOUT
                while True:
                    with self._files.lock() as held:
                        if held:
                            yield
                            return
                    if asyncio.get_running_loop().time() > give_up:
                        raise Temporary(f"another controller is busy with pool {self.pool.name}")
                    await asyncio.sleep(0.05)

    def _tell_report_url(self) -> None:
        """Agents outlive the controller whose address is in their environment; this file has the present one."""
        path, url = self._files.path / "report-url", self._around.report_url
        if url and (not path.exists() or path.read_text(encoding="utf-8") != url):
            path.write_text(url, encoding="utf-8")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise Denied(
                f"{error.filename}: {error.strerror}", next_step="look at the rights of the fleet's home"
            ) from error
        except OSError as error:
            raise Temporary(f"{error.filename or self._files.path}: {error.strerror or error}") from error


def _trouble(kept: dict[str, Kept], logs: Path) -> str:
    """Agents that do not stay up, in words."""
    failing = sorted(agent for agent, process in kept.items() if process.statename in {"BACKOFF", "FATAL"})
    if not failing:
        return ""
    first = kept[failing[0]]
    more = f", and {len(failing) - 1} more" if len(failing) > 1 else ""
    # supervisord's own "Exited too quickly" says nothing that the log does not say better.
    said = f" ({first.spawnerr})" if first.spawnerr and not first.spawnerr.startswith("Exited") else ""
    return f"{first.name} does not stay up{said}{more}; why is in {logs / f'{first.name}.log'}"


def _machine_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
