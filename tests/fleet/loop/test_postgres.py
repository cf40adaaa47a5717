"""The store and the leader's lock in a real PostgreSQL, Debian's (`apt-get install postgresql`), started here on a
socket of its own. `make fleet-postgres`."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from covey.base.errors import StorageError
from covey.fleet.loop.controller import Controller
from covey.fleet.loop.postgres import AdvisoryLock, PostgresDatabase
from covey.fleet.loop.store import Deposed, Store
from covey.fleet.model import Decision, Step, Wanted
from covey.fleet.spec.types import Place
from tests.fleet.loop.fleets import pool, spec, workload
from tests.fleet.loop.pools import Ground, GroundProvider

pytest.importorskip("psycopg")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

TAKE_OVER = 10.0
"""s (FLEET 6)."""


def binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    named = shutil.which("initdb")
    return Path(named).parent if named else None


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a new server. It refuses to be root, so root runs it as somebody else."""
    where = binaries()
    if where is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    root = os.getuid() == 0
    user = pwd.getpwnam("nobody") if root else pwd.getpwuid(os.getuid())
    folder = Path(tempfile.mkdtemp(prefix="covey-pg-"))
    if root:
        os.chown(folder, user.pw_uid, user.pw_gid)
    as_user: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if root else {}
    common: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **as_user}
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C"}
    data = folder / "data"
    subprocess.run(
        [where / "initdb", "-D", data, "-U", "covey", "-A", "trust", "-N"], check=True, env=environment, **common
    )
    process = subprocess.Popen(
        [where / "postgres", "-D", data, "-k", folder, "-h", "", "-F"], env=environment, **common
    )
    url = f"postgresql:///postgres?host={folder}&user=covey"
    try:
        wait_until(lambda: answers(url), 30.0)
        yield url
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def answers(url: str) -> bool:
    try:
        PostgresDatabase(url).close()
    except StorageError:
        return False
    return True


def wait_until(true: Any, seconds: float) -> float:
    """How long it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, "it did not happen in time"
        subprocess.run([sys.executable, "-c", ""], check=True)  # the time of a process, and no busy loop
    return time.monotonic() - began


@pytest.fixture
def url(server: str) -> str:
    """The same server with nothing in it."""
    database = PostgresDatabase(server)
    for (name,) in database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        database.execute(f"DROP TABLE {name}")
    database.close()
    return server


def journal(store: Store, epoch: int) -> None:
    step = Step(
        kind="scale", workload="web", pool="aws", offering="aws/m/on-demand", size=2, cause="repair", reason="r"
    )
    decision = Decision(at=5.0, turn=1, workload="web", mode="act", wanted=Wanted(agents=2, binding="min", reason="r"))
    (intent,) = store.journal(
        epoch, turn=1, plan="1-1", at=5.0, state={"loop": "{}"}, decisions=[decision], steps=[step], settled=[]
    )
    assert store.calling(epoch, intent.id, 6.0)
    store.called(epoch, intent.id, 7.0, "unknown", detail="100 % throttled?", again_at=9.0)
    (found,) = store.intents()
    assert (found.step, found.status, found.tries, found.again_at) == (step, "unknown", 1, 9.0)
    assert store.decisions("web") == [decision]
    assert store.state() == {"loop": "{}"}


def test_store_keeps_in_postgresql_what_it_keeps_in_sqlite(url: str) -> None:
    store = Store(PostgresDatabase(url))
    given = spec([pool("aws")], [workload()])
    assert store.add_spec(given, text="a = 1", name="fleet.toml", at=1.0) == 1
    assert store.spec().spec == given
    store.add_order("pin", "web", at=2.0, value=3, until=100.0)
    assert [order.kind for order in store.orders(50.0)] == ["pin"]
    assert store.orders(200.0) == []
    journal(store, store.lead("one", 1.0))
    store.close()


def test_deposed_leader_writes_nothing_and_calls_nothing(url: str) -> None:
    one, two = Store(PostgresDatabase(url)), Store(PostgresDatabase(url))
    first = one.lead("one", 1.0)
    journal(one, first)
    two.lead("two", 2.0)
    with pytest.raises(Deposed):
        one.journal(first, turn=2, plan="1-2", at=8.0, state={"loop": "late"}, decisions=[], steps=[], settled=[])
    with pytest.raises(Deposed):
        one.calling(first, 1, 9.0)
    assert two.state() == {"loop": "{}"}
    one.close()
    two.close()


def test_lock_is_one_session_s_and_free_when_that_ends(url: str) -> None:
    one, two = AdvisoryLock(url), AdvisoryLock(url)
    assert one.try_acquire()
    assert one.try_acquire()
    assert not two.try_acquire()
    killer = PostgresDatabase(url)
    killer.execute(
        "SELECT pg_terminate_backend(l.pid) FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.pid <> 0"
    )
    killer.close()
    assert not one.held()
    wait_until(two.try_acquire, TAKE_OVER)
    assert not one.try_acquire()
    two.release()
    wait_until(one.try_acquire, TAKE_OVER)
    one.release()


def test_controller_turns_on_it_and_its_calls_are_its_epoch_s(url: str) -> None:
    ground = Ground("aws", time.time, cold_start=0.0)

    async def story() -> None:
        store = Store(PostgresDatabase(url))
        store.add_spec(spec([pool("aws")], [workload()]), text="", name="fleet.toml", at=1.0)
        controller = Controller(
            store,
            AdvisoryLock(url),
            clock=time.time,
            holder="one",
            make_provider=lambda each: GroundProvider(each, ground),
            make_source=lambda *_: pytest.fail("no sources here"),
        )
        assert await controller.lead()
        await controller.turn()
        await controller.settle()
        assert len(ground.agents) == 2
        store.lead("another", 2.0)
        with pytest.raises(Deposed):
            await controller.turn()
        await controller.close()
        store.close()

    asyncio.run(story())
    assert [call[:3] for call in ground.calls] == [("scale", "web", 2)]


def test_pools_that_answer_at_once_do_not_write_into_each_other_s_transactions(url: str) -> None:
    names = [f"pool-{number}" for number in range(8)]
    grounds = {name: Ground(name, time.time, cold_start=0.0) for name in names}

    async def story() -> list[str]:
        store = Store(PostgresDatabase(url))
        workloads = [workload(f"on-{name}", place=Place(pools=(name,))) for name in names]
        store.add_spec(spec([pool(name) for name in names], workloads), text="", name="fleet.toml", at=1.0)
        controller = Controller(
            store,
            AdvisoryLock(url),
            clock=time.time,
            holder="one",
            make_provider=lambda each: GroundProvider(each, grounds[each.name]),
            make_source=lambda *_: pytest.fail("no sources here"),
        )
        assert await controller.lead()
        for _ in range(3):
            await asyncio.gather(controller.turn(), controller.settle())
        await controller.settle()
        await controller.turn()
        statuses = [intent.outcome for intent in store.intent_history()]
        await controller.close()
        store.close()
        return statuses

    assert asyncio.run(story()) == ["seen"] * len(names)
    assert {name: len(ground.agents) for name, ground in grounds.items()} == dict.fromkeys(names, 2)


SPEC = """
[pools.here]
provider = "local"

[workloads.idle]
command = ["sleep", "1000"]
replicas = { min = 0, max = 1 }
"""


def test_follower_takes_over_within_ten_seconds_of_a_kill(url: str, tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(SPEC)
    environment = os.environ | {"COVEY_FLEET_STORE": url, "PYTHONUNBUFFERED": "1"}

    def fleet(*words: str, home: str) -> list[str]:
        return [sys.executable, "-P", "-m", "covey.fleet", *words, "--home", str(tmp_path / home)]

    def start(home: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            fleet("run", "--json", home=home), cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
        )

    def said(process: subprocess.Popen[str], event: str) -> float:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line).get("event") == event:
                return time.monotonic()
        raise AssertionError(f"it ended without {event}")

    subprocess.run(fleet("apply", home="one"), cwd=tmp_path, env=environment, check=True, stdout=subprocess.DEVNULL)
    first = start("one")
    second = None
    try:
        said(first, "leads")
        second = start("two")
        said(second, "standby")
        killed = time.monotonic()
        first.kill()
        assert said(second, "leads") - killed < TAKE_OVER
    finally:
        for process in (first, second):
            if process is not None:
                process.terminate()
                process.communicate(timeout=30)
