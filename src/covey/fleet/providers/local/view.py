"""What a local pool shows of its agents: from files, supervisord's word, probes and the use of processors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from covey.fleet.model import Agent, AgentState
from covey.fleet.providers.local import processes
from covey.fleet.providers.local.keeper import Kept
from covey.fleet.providers.local.probes import Prober, Subject, is_probed
from covey.fleet.providers.local.records import Directory, Marks, Record
from covey.fleet.spec.types import Probe, Workload

__all__ = ["Viewer"]

UP_AFTER: Final = 1.0
"""Seconds that an agent without a probe has to live to be ready."""

CPU_OVER: Final = 1.0
"""Seconds at least over which the use of processors is measured."""


class Viewer:
    """Of one pool."""

    def __init__(
        self,
        pool: str,
        files: Directory,
        *,
        clock: Callable[[], float],
        busy: Callable[[str], bool | None],
        changed: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._files = files
        self._clock = clock
        self._busy = busy
        self._prober = Prober(clock, lambda _agent, _ready: changed())
        self._ends = processes.Ends(changed)
        self._cpu = _Cpu()

    async def agents(
        self, records: Mapping[str, Record], kept: Mapping[str, Kept], workloads: Mapping[str, Workload], now: float
    ) -> tuple[Agent, ...]:
        """Those that are wanted, and those that are going and still run. What happens to any of them from now on is
        told at once (`changed`)."""
        going = {
            agent: record
            for agent in kept
            if agent not in records and (record := self._files.record(agent)) is not None
        }
        probed = {
            agent for agent, record in records.items()
            if record.workload in workloads and is_probed(workloads[record.workload].probe)
        }  # fmt: skip
        self._prober.watch({
            agent: Subject(agent, kept[agent].pid, record.port, workloads[record.workload].probe, record.directory)
            for agent, record in records.items()
            if agent in probed and agent in kept and kept[agent].pid
        })  # fmt: skip
        if any(target.signal == "cpu" for workload in workloads.values() for target in workload.targets):
            self._cpu.measure({agent: process.pid for agent, process in kept.items() if process.pid}, self._clock())
        marks = self._files.marks()
        await self._prober.first_words(marks.ready)
        return tuple(
            self._agent(
                record,
                kept.get(agent),
                probe=workloads[record.workload].probe if agent in probed else None,
                going=agent in going,
                marks=marks,
                now=now,
            )
            for agent, record in {**records, **going}.items()
        )

    def watch(self, pids: Collection[int]) -> None:
        """Tell at once when one of these processes ends."""
        self._ends.watch(pids)

    async def close(self) -> None:
        self._ends.close()
        await self._prober.close()

    def _agent(
        self, record: Record, process: Kept | None, *, probe: Probe | None, going: bool, marks: Marks, now: float
    ) -> Agent:
        # What is on disk is by the time of day, what a turn sees by the controller's clock.
        shift = now - self._clock()
        answers = self._answers(record.id, process, probed=probe is not None)
        ready_at = marks.ready.get(record.id)
        if answers and ready_at is None:
            ready_at = self._clock()
            self._files.set_ready(record.id, ready_at)
        state: AgentState = "starting" if ready_at is None else "ready" if answers else "unready"
        if going or record.id in marks.draining:
            state = "draining"
        answered_at = self._prober.verdict(record.id).answered_at
        used = self._cpu.share(record.id)
        return Agent(
            id=record.id,
            workload=record.workload,
            pool=self._pool,
            offering=record.offering,
            state=state,
            started_at=record.started_at + shift,
            ready_at=None if ready_at is None else ready_at + shift,
            heard_at=None if answered_at is None else answered_at + shift,
            heard_every=None if probe is None else probe.every,
            busy=False if record.id in marks.waiting else self._busy(record.id),
            cpu=None if used is None else used / max(record.cpu, 1e-3),
            version=record.version,
            endpoint=f"127.0.0.1:{record.port}",
        )

    def _answers(self, agent: str, process: Kept | None, *, probed: bool) -> bool:
        if process is None or process.statename not in {"STARTING", "RUNNING"} or not process.pid:
            return False
        if probed:
            return self._prober.verdict(agent).ready
        return process.statename == "RUNNING" or self._clock() - process.start >= UP_AFTER


class _Cpu:
    """Processors that each agent used since it was last measured, 1.0 for one."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, float, float]] = {}
        """By agent: pid, when, seconds used until then."""
        self._shares: dict[str, float] = {}

    def measure(self, pids: Mapping[str, int], now: float) -> None:
        used = processes.cpu_seconds()
        for agent, pid in pids.items():
            seconds = used.get(pid)
            last = self._last.get(agent)
            if seconds is None or (last is not None and last[0] == pid and now - last[1] < CPU_OVER):
                continue
            if last is not None and last[0] == pid and seconds >= last[2]:
                self._shares[agent] = (seconds - last[2]) / (now - last[1])
            self._last[agent] = (pid, now, seconds)
        for agent in self._last.keys() - pids.keys():
            del self._last[agent]
            self._shares.pop(agent, None)

    def share(self, agent: str) -> float | None:
        return self._shares.get(agent)
