from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from covey.base.errors import UsageError
from covey.fleet.errors import Capacity, Denied, Permanent, Temporary
from covey.fleet.model import PoolView
from covey.fleet.providers.base import Fence
from covey.fleet.providers.local import LocalPool, keeper, limits, processes, records
from covey.fleet.providers.local.ports import free_ports
from covey.fleet.providers.registry import Surroundings
from covey.fleet.spec.load import parse
from covey.fleet.spec.settings import PROVIDER_SETTINGS
from covey.fleet.spec.types import Pool, Probe, Resources, Target, Workload

pytestmark = pytest.mark.xdist_group("processes")


def workload(*command: str, probe: Probe | None = None, **other: Any) -> Workload:
    return Workload(
        name="web",
        command=command,
        probe=probe or Probe(),
        grace=5.0,
        resources=Resources(cpu=0.05, memory=64 << 20),
        **other,
    )


SERVER = workload(
    "sh", "-c", "exec python3 -S -m http.server --bind 127.0.0.1 $PORT", probe=Probe(http="/", every=0.05)
)


class Bench:
    """A real pool, and what a controller would know."""

    def __init__(self, home: Path, pool: Pool) -> None:
        self.busy: dict[str, bool] = {}
        self.happened = asyncio.Event()
        self.now = 1000.0
        surroundings = Surroundings(home=home, busy=self.busy.get, changed=self.happened.set, wall=lambda: self.now)
        self.pool = LocalPool(pool, surroundings)

    async def scale(self, size: int, what: Workload = SERVER, epoch: int = 1) -> None:
        (offering,) = await self.pool.offerings(what)
        await self.pool.scale(what, offering, size, Fence(plan="plan", epoch=epoch))

    async def drain(self, *ids: str) -> None:
        await self.pool.drain(SERVER, ids, Fence(plan="plan", epoch=1))

    async def remove(self, *ids: str, grace: float = 0.0) -> list[str]:
        return list(await self.pool.remove(SERVER, ids, Fence(plan="plan", epoch=1), grace=grace))

    async def until(self, true: Callable[[PoolView], bool], what: Workload = SERVER) -> PoolView:
        """Looks again when something happened, and ten times a second since supervisord tells nobody what it does."""
        async with asyncio.timeout(20):
            while True:
                self.happened.clear()
                view = await self.pool.observe([what], self.now)
                if true(view):
                    return view
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.happened.wait(), 0.1)

    def pids(self) -> dict[str, int]:
        return {agent: process.pid for agent, process in self.pool._files.processes().items()}

    def log(self, agent: str) -> str:
        return (self.pool._files.path / "logs" / f"{agent}.log").read_text()


@asynccontextmanager
async def bench(home: Path, **settings: Any) -> AsyncIterator[Bench]:
    made = Bench(home, Pool(name="here", provider="local", **settings))
    try:
        yield made
    finally:
        await made.pool.close()
        await end(made.pool)


async def end(pool: LocalPool) -> None:
    """Hard, since supervisord takes its time."""
    pid = await pool._keeper.pid()
    if pid:
        os.kill(pid, signal.SIGKILL)
        await ended(pid)
    await processes.end(processes.of_pool(str(pool._files.path)), grace=0.0)


async def ended(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, gone.set)
    try:
        await asyncio.wait_for(gone.wait(), 20)
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


def run(home: Path, story: Callable[[Bench], Awaitable[None]], **settings: Any) -> None:
    async def whole() -> None:
        async with bench(home, **settings) as given:
            await story(given)

    asyncio.run(whole())


def states(view: PoolView) -> dict[str, str]:
    return {agent.id: agent.state for agent in view.agents}


def ready(count: int) -> Callable[[PoolView], bool]:
    return lambda view: sorted(states(view).values()) == ["ready"] * count


def test_scale_starts_real_processes_that_answer_and_does_so_once(short_path: Path) -> None:
    async def story(given: Bench) -> None:
        await given.scale(3)
        view = await given.until(ready(3))
        assert list(states(view)) == ["web-000001", "web-000002", "web-000003"]
        assert len({agent.endpoint for agent in view.agents}) == 3
        for agent in view.agents:
            _, writer = await asyncio.open_connection("127.0.0.1", int(agent.endpoint.rpartition(":")[2]))
            writer.close()
            await writer.wait_closed()
        await given.scale(3)
        await given.scale(1)
        assert states(await given.until(lambda _: True)) == states(view)

    run(short_path, story)


def test_remove_leaves_busy_agents_until_their_grace_is_over(short_path: Path) -> None:
    async def story(given: Bench) -> None:
        await given.scale(3)
        await given.until(ready(3))
        given.busy.update({"web-000001": False, "web-000002": True})
        # Idle, busy, one that does not say, one that never was.
        every = ("web-000001", "web-000002", "web-000003", "web-000009")
        assert await given.remove(*every, grace=10.0) == ["web-000001", "web-000009"]
        given.now += 9.9
        assert await given.remove("web-000002", "web-000003", grace=10.0) == []
        assert states(await given.until(lambda view: len(view.agents) == 2)) == {
            "web-000002": "draining",
            "web-000003": "draining",
        }
        given.now += 0.2
        assert await given.remove("web-000002", "web-000003", grace=10.0) == ["web-000002", "web-000003"]
        await given.until(lambda view: not view.agents)
        await given.scale(1)
        assert list(states(await given.until(ready(1)))) == ["web-000004"], "ids are never used again"

    run(short_path, story)


def test_a_drained_agent_is_not_counted_and_not_started_again(short_path: Path) -> None:
    async def story(given: Bench) -> None:
        agent = workload(
            "sh", "-c", 'echo up; while [ ! -e "$COVEY_FLEET_DRAIN_FILE" ]; do sleep 0.05; done; echo finished'
        )
        await given.scale(1, agent)
        await given.until(lambda view: "web-000001" in given.pids(), agent)
        await given.drain("web-000001", "web-unknown")
        view = await given.until(lambda view: view.agents[0].busy is False, agent)
        assert states(view) == {"web-000001": "draining"}
        assert given.log("web-000001") == "up\nfinished\n"
        await given.scale(1, agent)
        assert states(await given.until(lambda view: len(view.agents) == 2, agent)) == {
            "web-000001": "draining",
            "web-000002": "starting",
        }
        assert await given.remove("web-000001", grace=100.0) == ["web-000001"], "what ended by itself is not busy"

    run(short_path, story)


def test_a_killed_agent_comes_back_under_its_name_and_is_told_at_once(short_path: Path) -> None:
    async def story(given: Bench) -> None:
        await given.scale(1)
        await given.until(ready(1))
        before = given.pids()["web-000001"]
        given.happened.clear()
        os.kill(before, signal.SIGKILL)
        await asyncio.wait_for(given.happened.wait(), 10)
        view = await given.until(lambda view: ready(1)(view) and given.pids()["web-000001"] != before)
        assert list(states(view)) == ["web-000001"]

    run(short_path, story)


def test_agents_survive_the_controller(short_path: Path) -> None:
    async def first() -> dict[str, int]:
        given = Bench(short_path, Pool(name="here", provider="local"))
        await given.scale(2)
        await given.until(ready(2))
        await given.pool.close()
        return given.pids()

    before = asyncio.run(first())

    async def second(given: Bench) -> None:
        assert given.pids() == before
        view = await given.pool.observe([SERVER], given.now)
        assert ready(2)(view), "the first look already knows that they are ready"
        assert [agent.ready_at for agent in view.agents] == [1000.0, 1000.0]
        assert given.pids() == before

    run(short_path, second)


def test_what_a_killed_supervisord_left_behind_is_ended_and_started_again(short_path: Path) -> None:
    async def story(given: Bench) -> None:
        await given.scale(2)
        await given.until(ready(2))
        orphans = list(given.pids().values())
        given.happened.clear()
        os.kill(await given.pool._keeper.pid(), signal.SIGKILL)
        await asyncio.wait_for(given.happened.wait(), 10)
        await given.until(lambda view: ready(2)(view) and not set(orphans) & set(given.pids().values()))
        for pid in orphans:
            await ended(pid)

    run(short_path, story)


def test_a_supervisord_that_is_too_busy_to_answer_is_not_taken_for_dead(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(given: Bench) -> None:
        await given.scale(2)
        await given.until(ready(2))
        before, supervisord = given.pids(), await given.pool._keeper.pid()
        os.kill(supervisord, signal.SIGSTOP)
        try:
            with monkeypatch.context() as patched:
                patched.setattr(keeper, "CALL_TIMEOUT", 0.1)
                with pytest.raises(Temporary, match="does not answer"):
                    await given.pool.observe([SERVER], given.now)
                assert "does not answer" in await given.pool.health()
        finally:
            os.kill(supervisord, signal.SIGCONT)
        await given.until(ready(2))
        assert (given.pids(), await given.pool._keeper.pid()) == (before, supervisord)

    run(short_path, story)


def test_what_an_agent_started_ends_with_it(short_path: Path) -> None:
    async def story(given: Bench) -> None:
        agent = workload("sh", "-c", "setsid sleep 300 & echo $! > child; wait")
        await given.scale(1, agent)
        child = short_path / "work" / "child"
        await given.until(lambda view: child.exists() and bool(child.read_text()), agent)
        assert await given.remove("web-000001") == ["web-000001"]
        await given.until(lambda view: not view.agents, agent)
        await ended(int(child.read_text()))

    run(short_path, story)


def test_a_command_that_ends_at_once_is_told_and_tried_again_with_back_off(short_path: Path) -> None:
    async def story(given: Bench) -> None:
        agent = workload("sh", "-c", "echo broken; exit 3")
        await given.scale(1, agent)
        view = await given.until(lambda view: bool(view.problem), agent)
        assert view.problem.startswith("web-000001 does not stay up; why is in ")
        assert view.problem.endswith("/logs/web-000001.log")
        assert states(view) == {"web-000001": "starting"}
        assert given.log("web-000001").startswith("broken\n")

    run(short_path, story)


def test_an_order_that_was_interrupted_is_completed_by_the_next_look(short_path: Path) -> None:
    async def story(given: Bench) -> None:
        (offering,) = await given.pool.offerings(SERVER)
        one, two = given.pool._new_records(SERVER, offering, 2, Fence(plan="plan", epoch=1))
        files, keeper = given.pool._files, given.pool._keeper
        files.write(one, keeper.section(one.id, grace=1.0))
        files.write(two, keeper.section(two.id, grace=1.0))
        (files.path / "agents" / f"{two.id}.conf").unlink()  # died between the two files
        view = await given.until(ready(1))
        assert list(states(view)) == [one.id]
        files.unwant(one.id)  # died before supervisord was told
        await given.until(lambda view: not view.agents)

    run(short_path, story)


def test_whichever_write_of_an_order_fails_nothing_is_started_twice_and_nothing_is_forgotten(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(given: Bench) -> None:
        agent = workload("sleep", "300")
        await given.scale(1, agent)
        size, fail_at, seen, failed = 1, 0, {"web-000001"}, True
        while failed:
            size, fail_at = size + 2, fail_at + 1
            failed = await fails(given, monkeypatch, fail_at, size, agent)
            await given.scale(size, agent)
            view = await given.until(lambda view: len(given.pids()) == size, agent)  # noqa: B023 - awaited here
            assert len(view.agents) == size
            assert seen < set(states(view)), "those that ran before run on"
            seen = set(states(view))
        assert fail_at == 6, "the counter, and two files for each of two agents, failed in turn"

    async def fails(given: Bench, monkeypatch: pytest.MonkeyPatch, at: int, size: int, what: Workload) -> bool:
        calls = 0
        replace = records._replace

        def failing(path: Path, data: bytes, *, durable: bool = False) -> None:
            nonlocal calls
            calls += 1
            if calls == at:
                raise OSError(28, "No space left on device", str(path))
            replace(path, data, durable=durable)

        with monkeypatch.context() as patched:
            patched.setattr(records, "_replace", failing)
            try:
                await given.scale(size, what)
            except Temporary:
                return True
        return False

    run(short_path, story, max_agents=50)


def test_pools_of_one_home_never_give_the_same_id(short_path: Path) -> None:
    async def story(given: Bench) -> None:
        there = LocalPool(Pool(name="there", provider="local"), Surroundings(home=short_path))
        there._files.make()
        given.pool._files.make()
        ids = [*given.pool._files.next_ids("web", 2), *there._files.next_ids("web", 1)]
        (there._files.path / "logs" / "web-000007.log").touch()
        (short_path / "pools" / ".counter").unlink()
        ids += given.pool._files.next_ids("web", 1)
        assert ids == ["web-000001", "web-000002", "web-000003", "web-000008"]

    run(short_path, story)


def test_a_deposed_leader_changes_nothing(short_path: Path) -> None:
    async def story(given: Bench) -> None:
        await given.scale(1, epoch=2)
        with pytest.raises(Denied) as raised:
            await given.scale(5, epoch=1)
        assert raised.value.code == "deposed"
        with pytest.raises(Denied):
            await given.remove("web-000001")
        with pytest.raises(Denied):
            await given.drain("web-000001")
        assert len((await given.until(ready(1))).agents) == 1

    run(short_path, story)


def test_scale_beyond_the_room_starts_what_fits_and_says_so(short_path: Path) -> None:
    async def story(given: Bench) -> None:
        with pytest.raises(Capacity) as raised:
            await given.scale(3)
        assert (raised.value.scope, raised.value.shape) == ("here/on-demand", "process")
        view = await given.until(lambda view: len(view.agents) == 2)
        assert [offering.room for offering in view.offerings["web"]] == [0]

    run(short_path, story, max_agents=2)


def test_a_look_at_an_empty_pool_starts_nothing(short_path: Path) -> None:
    async def story(given: Bench) -> None:
        view = await given.pool.observe([SERVER], given.now)
        assert (view.agents, await given.pool._keeper.pid()) == ((), 0)
        assert [right.granted for right in await given.pool.check()] == [True]
        assert await given.pool._keeper.pid()

    run(short_path, story)


def test_room_is_what_is_left_of_processors_and_memory(short_path: Path) -> None:
    pool = LocalPool(as_written('cpus = 1\nmemory = "640Mi"'), Surroundings(home=short_path))
    assert [offering.room for offering in asyncio.run(pool.offerings(SERVER))] == [10]


def as_written(settings: str) -> Pool:
    """As the reader of specs gives it: it and the provider must mean the same words."""
    text = f"[pools.here]\nprovider = 'local'\n{settings}\n[workloads.web]\ncommand = ['x']\n"
    return parse(text).pools["here"]


def test_every_setting_of_a_spec_is_taken(short_path: Path) -> None:
    settings = (
        f"cpus = 2\nmemory = '1Gi'\nlimits = false\nlogs = '1Mi'\ndirectory = '{short_path}'\n"
        f"drain_signal = 'SIGUSR1'\nports = '23000-23009'"
    )
    pool = as_written(settings)
    assert set(pool.settings) == set(PROVIDER_SETTINGS["local"])
    made = LocalPool(pool, Surroundings(home=short_path))
    assert (made._ports, made._keeper._log_bytes, made._work) == ((23000, 23009), 1 << 20, short_path)
    assert free_ports(short_path, made._ports, 3)[0] in range(23000, 23010)
    with pytest.raises(UsageError, match="no range of ports"):
        LocalPool(as_written("ports = '23009-23000'"), Surroundings(home=short_path))


def test_a_halted_pool_is_lost_until_the_file_goes(short_path: Path) -> None:
    async def story(given: Bench) -> None:
        await given.scale(1)
        halt = given.pool._files.path / "halt"
        halt.touch()
        with pytest.raises(Temporary, match="halted"):
            await given.pool.observe([SERVER], 1.0)
        assert "halted" in await given.pool.health()
        halt.unlink()
        assert await given.pool.health() == ""
        await given.until(ready(1))

    run(short_path, story)


def test_an_agent_gets_its_secrets_and_nothing_of_the_controllers(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (short_path / "password").write_text("swordfish\n")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the operator's")
    monkeypatch.setenv("GIVEN", "from the environment")
    agent = workload(
        "sh", "-c", "env; exec sleep 300",
        env={"MODE": "100% plain", "QUOTED": "a \"b\" ; # 'c'\nd"},
        secrets={"PASSWORD": f"file:{short_path}/password", "PASSED": "env:GIVEN"},
    )  # fmt: skip

    async def story(given: Bench) -> None:
        await given.scale(1, agent)
        await given.until(lambda view: "PASSWORD" in given.log("web-000001"), agent)
        log = given.log("web-000001")
        for line in (
            "MODE=100% plain",
            "QUOTED=a \"b\" ; # 'c'\nd\n",
            "PASSWORD=swordfish\n",
            "PASSED=from the environment",
            "COVEY_FLEET_AGENT=web-000001",
            "COVEY_FLEET_WORKLOAD=web",
        ):
            assert line in log
        assert "operator" not in log
        for path in given.pool._files.path.rglob("*"):
            if path.is_file() and path.suffix != ".log":
                assert b"swordfish" not in path.read_bytes(), path

    run(short_path, story)


def test_a_program_that_is_not_there_is_named_in_the_log(short_path: Path) -> None:
    async def story(given: Bench) -> None:
        agent = workload("no-such-program")
        await given.scale(1, agent)
        await given.until(lambda view: "cannot be started" in given.log("web-000001"), agent)
        assert given.log("web-000001").startswith("covey: no-such-program cannot be started: No such file")

    run(short_path, story)


def test_a_workload_without_a_command_is_refused(short_path: Path) -> None:
    async def story(given: Bench) -> None:
        with pytest.raises(Permanent, match="has no command"):
            await given.scale(1, Workload(name="web", image="registry.invalid/web"))

    run(short_path, story)


def test_the_use_of_processors_is_a_share_of_what_was_asked_for(short_path: Path) -> None:
    async def story(given: Bench) -> None:
        agent = workload("sh", "-c", "while :; do :; done", targets=(Target(signal="cpu", value=0.7),))
        await given.scale(1, agent)
        await given.until(lambda view: "web-000001" in given.pids(), agent)

        def used(view: PoolView) -> bool:
            given.now += 1.0
            return bool(view.agents[0].cpu)

        assert (await given.until(used, agent)).agents[0].cpu

    run(short_path, story)


def test_agents_are_held_to_their_memory_or_it_is_said_that_they_cannot_be(short_path: Path) -> None:
    async def refused(given: Bench) -> None:
        """No cgroup that we may write, as in a container: agents run, and the check says that they are not held."""
        assert "limits" not in (await given.pool.describe()).can
        (right,) = [each for each in await given.pool.check() if each.name == "limits"]
        assert not right.granted
        assert right.next_step
        await given.scale(1, workload("sleep", "600"))
        await given.until(lambda view: bool(given.pids()), workload("sleep", "600"))

    async def story(given: Bench) -> None:
        glutton = workload("python3", "-S", "-c", "b = bytearray(200 << 20); print('had it all', flush=True); input()")
        await given.scale(1, glutton)
        await given.until(lambda view: "does not stay up" in view.problem, glutton)
        assert "had it all" not in given.log("web-000001")
        await given.remove("web-000001")
        await given.until(lambda view: not view.agents, glutton)
        assert given.pool._limits is not None
        assert not any((parent / "web-000001").exists() for parent in given.pool._limits._parents.values())
        for parent in given.pool._limits._parents.values():
            parent.rmdir()

    run(short_path, refused if limits.find(short_path) is None else story, settings={"limits": True})
