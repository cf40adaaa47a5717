"""What people say to the controller, while there is none."""

from __future__ import annotations

import socket
import time
from contextlib import closing
from pathlib import Path

import pytest

from covey.fleet.loop.database import SqliteDatabase
from covey.fleet.loop.memory import encode_views
from covey.fleet.loop.store import Store, orders_at
from covey.fleet.model import Agent, Decision, Orders, Pin, PoolView, Step, Wanted
from tests.fleet.commands.conftest import Fleet


def orders() -> Orders:
    store = Store(SqliteDatabase(Path("home/fleet.db")))
    try:
        return orders_at(store.orders(time.time()))
    finally:
        store.close()


CASES = {
    "pause": (("pause", "work"), Orders(paused=frozenset({"work"}))),
    "pause all": (("pause", "--all"), Orders(paused=frozenset({"*"}))),
    "freeze a pool": (("freeze", "a"), Orders(frozen=frozenset({"a"}))),
    "drain a pool": (("drain", "a"), Orders(draining_pools=frozenset({"a"}))),
    "drain an agent": (("drain", "a/work-1"), Orders(draining_agents=frozenset({"a/work-1"}))),
}


@pytest.mark.parametrize("name", CASES)
def test_order_holds_until_resume(applied: Fleet, name: str) -> None:
    words, expected = CASES[name]
    said = applied(*words)
    assert (said.code, orders()) == (0, expected)
    assert "No controller runs here" in said.out
    assert f"order: {words[0]}" in applied("status").out
    subject = "--all" if "--all" in words else words[1]
    assert applied("resume", subject, "--json").data["ended"]
    assert orders() == Orders()
    assert applied("resume", subject).code == 4


def test_pin_ends_by_itself(applied: Fleet) -> None:
    applied("pin", "work=3", "--until", "1h")
    pin = orders().pins["work"]
    assert pin == Pin(agents=3, until=pin.until)
    assert abs((pin.until or 0) - time.time() - 3600) < 60
    applied("pin", "work=4", "--until", "300ms")
    assert [each["kind"] for each in applied("history", "--json").data["items"]] == ["spec", "order", "order"]


WRONG = {
    "no such workload": (("pause", "wokr"), "no-workload"),
    "no such pool": (("drain", "c"), "no-pool"),
    "nobody named": (("pause",), "usage"),
    "both": (("pause", "work", "--all"), "usage"),
    "pin without a number": (("pin", "work", "--until", "1h"), "usage"),
    "pin above max": (("pin", "work=9", "--until", "1h"), "usage"),
    "pin for good": (("pin", "work=3"), "usage"),
    "no time": (("pause", "work", "--until", "soon"), "usage"),
    "past": (("pause", "work", "--until", "2020-01-01 10:00"), "usage"),
    "nothing proposed": (("approve", "work"), "nothing-to-approve"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_order_is_refused_in_words(applied: Fleet, name: str) -> None:
    words, code = WRONG[name]
    said = applied(*words, "--json")
    assert said.code != 0
    assert said.error["code"] == code
    assert orders() == Orders()


def test_an_agent_that_nobody_saw_is_not_drained(applied: Fleet, tmp_path: Path) -> None:
    agent = Agent(id="work-000001", workload="work", pool="a", offering="a/p", state="ready", started_at=0.0)
    with closing(Store(SqliteDatabase(tmp_path / "home" / "fleet.db"))) as store:
        pieces = encode_views({"a": PoolView(pool="a", at=0.0, agents=(agent,))}, {})
        epoch = store.lead("test", 0.0)
        store.journal(epoch, turn=1, plan="1", at=0.0, state=dict(pieces), decisions=[], steps=[], settled=[])
    said = applied("drain", "a/work-000009")
    assert said.code == 4
    assert "there is no agent 'work-000009'; there is work-000001" in said.err
    assert applied("drain", "a/work-000001").code == 0


def test_the_only_pool_of_a_workload_is_not_drained(applied: Fleet) -> None:
    text = Path("fleet.toml").read_text()
    Path("fleet.toml").write_text(text + 'place = { pools = ["a"] }\n')
    applied("apply")
    assert applied("drain", "a", "--json").error["code"] == "nowhere-else"
    assert applied("drain", "b").code == 0


def test_commands_without_a_fleet_say_so(fleet: Fleet) -> None:
    for words in (("status",), ("history",), ("pause", "--all"), ("explain", "work"), ("rollback",)):
        said = fleet(*words, "--json")
        assert (said.code, said.error["code"]) == (4, "no-fleet")
    assert not Path("home").exists()


def test_command_wakes_the_controller(applied: Fleet) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as controller:
        controller.bind("home/nudge")
        controller.settimeout(10)
        said = applied("pause", "work")
        assert controller.recv(16)
    assert "No controller" not in said.out


STEP = Step(
    kind="scale", workload="work", pool="a", offering="a/process/on-demand", size=2, cause="demand", reason="3 wait"
)


def decide(turn: int, *steps: Step) -> None:
    store = Store(SqliteDatabase(Path("home/fleet.db")))
    epoch = store.lead("test", time.time())
    wanted = Wanted(agents=2, binding="queue", reason="10/s at 5/s each")
    decision = Decision(at=time.time(), turn=turn, workload="work", mode="recommend", wanted=wanted, steps=steps)
    store.journal(epoch, turn=turn, plan="p", at=time.time(), state={}, decisions=[decision], steps=[], settled=[])
    store.close()


def test_approve_hands_over_the_steps_that_were_shown(applied: Fleet) -> None:
    decide(1, STEP)
    assert "1 steps to approve" in applied("status").out
    assert applied("approve", "work", "--turn", "2", "--json").error["code"] == "plan-changed"
    assert orders() == Orders()
    said = applied("approve", "work", "--turn", "1")
    assert said.code == 0
    assert "a/process/on-demand to 2 agents (demand: 3 wait)" in said.out
    assert orders().approved == {"work": (STEP,)}
