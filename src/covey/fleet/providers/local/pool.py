"""The eight verbs of a local pool.

Which agents there should be is in `records`; `_mend` makes supervisord match that, and runs whenever somebody looks:
it brings a killed supervisord back (after ending what it left behind), starts what is wanted and absent, ends what is
not wanted, and clears away what has ended. So every verb is a change of files and one `_mend`, and is safe to repeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from covey.fleet.errors import Capacity, Denied, Permanent, ProviderError, Temporary
from covey.fleet.model import Agent, AgentState, Offering, PoolView
from covey.fleet.providers.base import Fence, PoolFacts, Right
from covey.fleet.providers.local import processes
from covey.fleet.providers.local.keeper import Keeper, Kept
from covey.fleet.providers.local.ports import free_ports
from covey.fleet.providers.local.probes import Prober, Subject, is_probed
from covey.fleet.providers.local.records import Directory, Marks, Record, check_name
from covey.fleet.providers.registry import Surroundings
from covey.fleet.spec.types import Pool, Workload

__all__ = ["SHAPE", "LocalPool"]

SHAPE: Final = "process"
"""The one shape of a local pool."""

LOCK_TIMEOUT: Final = 10.0
ORPHAN_GRACE: Final = 5.0
"""Seconds that agents of a killed supervisord have to finish, before the pool is brought up again without them."""

FATAL_RETRY: Final = 60.0
"""Seconds between attempts to start what supervisord gave up."""


class LocalPool:
    """Processes on this machine. Raises `covey.fleet.errors` and nothing else, once it is made."""

    def __init__(self, pool: Pool, surroundings: Surroundings) -> None:
        self.pool = pool
        self._around = surroundings
        self._clock = surroundings.wall
        self._files = Directory((surroundings.home / "pools" / check_name(pool.name, "pool")).absolute())
        self._keeper = Keeper(self._files.path, pool.name)
        self._turn = asyncio.Lock()
        self._prober = Prober(self._clock, self._readiness_changed)
        self._ends = processes.Ends(surroundings.changed)
        self._probed: set[str] = set()
        self._retried: dict[str, float] = {}
        self._work = Path(pool.settings.get("directory") or surroundings.home / "work").absolute()

    # --- what it is ----------------------------------------------------------------------------------------------

    async def describe(self) -> PoolFacts:
        return PoolFacts(provider="local", version=os.uname().release, can=("named-removal",))

    async def offerings(self, workload: Workload) -> Sequence[Offering]:
        with self._errors():
            self._files.make()
            return (self._offering(workload, self._files.wanted().values()),)

    async def health(self) -> str:
        if self._files.halted:
            return f"{self._files.path}/halt exists"
        try:
            await self._keeper.ask("supervisor.getPID")
        except ProviderError as error:
            # One that was never started, or was killed, comes up with the next look.
            return "" if not self._files.path.exists() else str(error)
        return ""

    async def check(self) -> Sequence[Right]:
        """Prove it by doing it: a directory, a socket, a process."""
        try:
            async with self._changing():
                await self._mend()
        except ProviderError as error:
            return (Right(name="processes", granted=False, detail=str(error), next_step=error.next_step),)
        return (Right(name="processes", granted=True, detail=f"supervisord answers in {self._files.path}"),)

    # --- what is ---------------------------------------------------------------------------------------------------

    async def observe(self, workloads: Iterable[Workload], now: float) -> PoolView:
        wanted = list(workloads)
        async with self._changing():
            kept = await self._mend()
            records = self._files.wanted()
            self._ends.watch([process.pid for process in kept.values() if process.pid] + [await self._keeper.pid()])
            agents = self._agents(records, kept, {workload.name: workload for workload in wanted}, now)
        return PoolView(
            pool=self.pool.name,
            at=now,
            agents=agents,
            offerings={workload.name: (self._offering(workload, records.values()),) for workload in wanted},
        )

    def _agents(
        self, records: dict[str, Record], kept: dict[str, Kept], workloads: dict[str, Workload], now: float
    ) -> tuple[Agent, ...]:
        """Those that are wanted, and those that are going and still run."""
        marks = self._files.marks()
        going = {
            agent: record
            for agent in kept
            if agent not in records and (record := self._files.record(agent)) is not None
        }
        self._watch(records, kept, workloads)
        # What is on disk is by the time of day, what a turn sees by the controller's clock.
        shift = now - self._clock()
        return tuple(
            self._agent(record, kept.get(agent), going=agent in going, marks=marks, now=now, shift=shift)
            for agent, record in {**records, **going}.items()
        )

    def _agent(
        self, record: Record, process: Kept | None, *, going: bool, marks: Marks, now: float, shift: float
    ) -> Agent:
        probed = record.id in self._probed
        verdict = self._prober.verdict(record.id)
        # supervisord calls a process up after a second; a probe knows it sooner.
        runs = process is not None and process.statename in ({"RUNNING", "STARTING"} if probed else {"RUNNING"})
        answers = runs and (verdict.ready or not probed)
        ready_at = marks.ready.get(record.id)
        if answers and ready_at is None:
            ready_at = self._clock()
            self._files.set_ready(record.id, ready_at)
        state: AgentState = "starting" if ready_at is None else "ready" if answers else "unready"
        if going or record.id in marks.draining:
            state = "draining"
        answered_at = verdict.answered_at
        return Agent(
            id=record.id,
            workload=record.workload,
            pool=self.pool.name,
            offering=record.offering,
            state=state,
            started_at=record.started_at + shift,
            ready_at=None if ready_at is None else ready_at + shift,
            heard_at=now if runs and not probed else None if answered_at is None else answered_at + shift,
            busy=False if record.id in marks.waiting else self._around.busy(record.id),
            version=record.version,
            endpoint=f"127.0.0.1:{record.port}",
        )

    def _watch(self, records: dict[str, Record], kept: dict[str, Kept], workloads: dict[str, Workload]) -> None:
        """Probe what runs. A workload that left the spec is probed no longer; its agents run on."""
        subjects = {}
        for agent, record in records.items():
            workload, process = workloads.get(record.workload), kept.get(agent)
            if workload is not None and is_probed(workload.probe) and process is not None and process.pid:
                subjects[agent] = Subject(
                    agent, process.pid, record.port, workload.probe, directory=record.directory, env=record.env
                )
        self._probed = {
            agent for agent, record in records.items()
            if record.workload in workloads and is_probed(workloads[record.workload].probe)
        }  # fmt: skip
        self._prober.watch(subjects)

    def _readiness_changed(self, agent: str, ready: bool) -> None:
        self._around.changed()

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
        cpus = float(self.pool.settings.get("capacity_cpu") or os.cpu_count() or 1)
        memory = float(self.pool.settings.get("capacity_memory") or _machine_memory())
        by_cpu = (cpus - sum(record.cpu for record in records)) / max(workload.resources.cpu, 1e-3)
        by_memory = (memory - sum(record.memory for record in records)) / max(workload.resources.memory, 1)
        return max(0, int(min(by_cpu, by_memory) + 1e-9))

    # --- what is done ----------------------------------------------------------------------------------------------

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
            room = self._room(workload, list(records.values()))
            missing = size - there
            for record in self._new_records(workload, offering, min(missing, room), fence):
                self._files.write(record, self._keeper.section(record.id, grace=workload.grace))
            await self._mend()
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
        now, ports = self._clock(), free_ports(self._around.home, self.pool.settings.get("ports"), count)
        return [
            Record(
                id=agent,
                workload=workload.name,
                version=workload.version,
                offering=offering.key,
                started_at=now,
                port=port,
                command=workload.command,
                env=workload.env | self._environment(agent, workload, port),
                secrets=workload.secrets,
                directory=str(self._work),
                cpu=workload.resources.cpu,
                memory=workload.resources.memory,
                grace=workload.grace,
                plan=fence.plan,
                epoch=fence.epoch,
            )
            for agent, port in zip(self._files.next_ids(workload.name, count), ports, strict=True)
        ]

    def _environment(self, agent: str, workload: Workload, port: int) -> dict[str, str]:
        return {
            "COVEY_FLEET_AGENT": agent,
            "COVEY_FLEET_WORKLOAD": workload.name,
            "COVEY_FLEET_POOL": self.pool.name,
            "COVEY_FLEET_REPORT": self._around.report_url,
            "COVEY_FLEET_REPORT_FILE": str(self._files.path / "report-url"),
            "COVEY_FLEET_TOKEN_FILE": self._around.token_file,
            "COVEY_FLEET_DRAIN_FILE": str(self._files.path / "drain" / agent),
            processes.MARK: str(self._files.path),
            "PORT": str(port),
        }

    async def drain(self, workload: Workload, ids: Sequence[str], fence: Fence) -> None:
        async with self._changing():
            self._admit(fence)
            kept = await self._mend()
            self._drain([agent for agent in ids if agent in self._files.wanted()])
            signal = self.pool.settings.get("drain_signal")
            if signal:
                await self._keeper.signal([agent for agent in ids if agent in kept], str(signal))

    def _drain(self, ids: Iterable[str]) -> None:
        now = self._clock()
        for agent in ids:
            self._files.drain(agent, now)

    async def remove(self, workload: Workload, ids: Sequence[str], fence: Fence, *, grace: float) -> Sequence[str]:
        """A busy agent is drained and left, until its grace is over. One that does not say counts as busy."""
        async with self._changing():
            self._admit(fence)
            await self._mend()
            records = self._files.wanted()
            self._drain(agent for agent in ids if agent in records)
            marks = self._files.marks()
            goes = []
            for agent in ids:
                busy = self._around.busy(agent) is not False and agent not in marks.waiting
                in_grace = self._clock() - marks.draining.get(agent, 0.0) < grace
                if agent not in records or not (busy and in_grace):
                    goes.append(agent)
            for agent in goes:
                self._files.unwant(agent)
            await self._mend()
        return goes

    def _admit(self, fence: Fence) -> None:
        deposed_by = self._files.admit(fence.epoch)
        if deposed_by is not None:
            raise Denied(
                f"an order of leader epoch {fence.epoch} came after one of epoch {deposed_by}",
                code="deposed",
                next_step="nothing: another controller leads now",
            )

    async def close(self) -> None:
        """Agents and their supervisord stay."""
        self._ends.close()
        await self._prober.close()

    # --- making it so ----------------------------------------------------------------------------------------------

    async def _mend(self) -> dict[str, Kept]:
        """Make supervisord match the files. Returns what it has, as last seen before it was told anything."""
        if self._files.halted:
            raise Temporary(
                f"pool {self.pool.name} is halted: {self._files.path}/halt exists",
                next_step=f"to bring it back: rm {self._files.path}/halt",
            )
        if not await self._keeper.pid():
            await self._bring_up()
        kept = await self._keeper.processes()
        records = self._files.wanted()
        missing = [agent for agent in records if agent not in kept]
        await self._keeper.add(missing)
        superfluous = {agent: process for agent, process in kept.items() if agent not in records}
        await self._keeper.stop([agent for agent, process in superfluous.items() if process.statename in _RUNNING])
        over = [agent for agent, process in superfluous.items() if process.statename in _ENDED]
        await self._keeper.drop(over)
        for agent in over:
            self._files.forget(agent)
        await self._retry_fatal({agent: kept[agent] for agent in records if agent in kept})
        return kept if not missing else await self._keeper.processes()

    async def _bring_up(self) -> None:
        """A new supervisord. What an old one left behind goes first: nobody would know of it."""
        orphans = await asyncio.to_thread(processes.of_pool, str(self._files.path))
        await processes.end(orphans, grace=ORPHAN_GRACE)
        for agent in self._files.processes():
            if agent not in self._files.wanted():
                self._files.forget(agent)
        await self._keeper.start()

    async def _retry_fatal(self, kept: dict[str, Kept]) -> None:
        now = self._clock()
        due = [
            agent for agent, process in kept.items()
            if process.statename in {"FATAL", "EXITED"} and now - self._retried.get(agent, 0.0) >= FATAL_RETRY
        ]  # fmt: skip
        self._retried = {agent: at for agent, at in self._retried.items() if agent in kept} | dict.fromkeys(due, now)
        await self._keeper.restart(due)

    @contextlib.asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        """Nobody else changes the pool meanwhile: no task of ours, no other controller."""
        with self._errors():
            self._files.make()
            self._tell_report_url()
            async with self._turn:
                deadline = asyncio.get_running_loop().time() + LOCK_TIMEOUT
                while True:
                    with self._files.lock() as held:
                        if held:
                            yield
                            return
                    if asyncio.get_running_loop().time() > deadline:
                        raise Temporary(f"another controller is busy with pool {self.pool.name}")
                    await asyncio.sleep(0.05)

    def _tell_report_url(self) -> None:
        """Agents outlive the controller whose address is in their environment; this file has the present one."""
        path = self._files.path / "report-url"
        url = self._around.report_url
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


_RUNNING: Final = frozenset({"STARTING", "RUNNING", "BACKOFF"})
_ENDED: Final = frozenset({"STOPPED", "EXITED", "FATAL", "UNKNOWN"})


def _machine_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
