"""Real daemons and two real rendezvous, one of which is killed, hangs, or is told to stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.processes import RendezvousProcess
from tests.e2e.stage import Agent, Stage, accepted, befriend, bodies, eventually, send


class Pair:
    """A stage with two rendezvous, whose ticket names both."""

    def __init__(self, directory: Path) -> None:
        self.stage = Stage(directory)
        self.first = self.stage.rendezvous
        self.second = RendezvousProcess(directory / "second", joins=self.first)

    def friends(self) -> tuple[Agent, Agent]:
        self.first.start()
        ticket = self.second.start()
        a, b = self.stage.agent("a", ticket=ticket), self.stage.agent("b", ticket=ticket)
        for agent in (a, b):
            agent.start()
        reached(a, 2)
        reached(b, 2)
        befriend(a, b)
        return a, b

    def end(self) -> None:
        self.stage.end()
        self.second.thaw()
        self.second.end()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    try:
        yield made
    finally:
        made.first.thaw()
        made.end()


def rendezvous(agent: Agent) -> list[dict[str, Any]]:
    return list(agent.api.get("/v1/status").data["rendezvous"])


def reached(agent: Agent, count: int, seconds: float = 30.0) -> None:
    """Until so many rendezvous are connected, answer, and hold its name."""
    eventually(
        lambda: (
            sum(view["connected"] and not view["silent"] and view["name"] == "held" for view in rendezvous(agent))
            == count
        ),
        f"{agent.name} reaches {count} rendezvous",
        seconds,
    )


def codes(agent: Agent) -> set[str]:
    return {finding["code"] for finding in agent.api.get("/v1/status").data["findings"]}


@pytest.mark.parametrize("name", ["first", "second"])
@pytest.mark.parametrize("how", ["killed", "hangs"])
def test_agents_go_on_while_a_rendezvous_is_away_and_it_comes_back(how: str, name: str, pair: Pair) -> None:
    a, b = pair.friends()
    process: RendezvousProcess = getattr(pair, name)
    assert send(a, b, "before")["result"] == "delivered"
    assert process.freeze() if how == "hangs" else process.kill()
    assert send(a, b, "at once")["result"] == "delivered"
    begun = time.monotonic()
    assert [a.api.get("/v1/find/nobody").code for _ in range(3)] == ["unknown-peer"] * 3
    assert time.monotonic() - begun < 5.0
    eventually(lambda: codes(a) & {"rendezvous-away", "rendezvous-silent"}, "status says so")
    b.kill()
    b.start()
    assert send(a, b, "to a fresh start", wait=20.0)["result"] == "delivered"
    if how == "hangs":
        process.thaw()
    else:
        process.start()
    reached(a, 2)
    reached(b, 2)
    assert codes(a) == codes(b) == set()
    assert bodies(b) == ["before", "at once", "to a fresh start"]


def test_rolling_restart_by_drain_loses_nobody(pair: Pair) -> None:
    a, b = pair.friends()
    for number, process in enumerate((pair.first, pair.second) * 2):
        begun = time.monotonic()
        assert process.kill(signal.SIGTERM)
        assert time.monotonic() - begun < 4.0, "its clients left, it need not wait out its drain"
        sent = send(a, b, str(number))
        assert sent["result"] == "delivered"
        process.start()
        reached(a, 2)
        reached(b, 2)
    assert bodies(b) == ["0", "1", "2", "3"]


def test_daemon_starts_and_meets_a_stranger_while_a_rendezvous_hangs(pair: Pair) -> None:
    a, _ = pair.friends()
    pair.second.freeze()
    c = pair.stage.agent("c", ticket=a.ticket)
    c.start()
    begun = time.monotonic()
    eventually(lambda: c.api.post("/v1/handshake", peer=a.name).ok, "c finds a")
    eventually(lambda: a.api.get("/v1/pending").data["items"], "a hears of it")
    assert time.monotonic() - begun < 15.0
    (shown,) = [each for each in accepted(c, "peers")["items"] if each["trust"] == "requested"]
    assert shown["witnesses"] == 1
    assert "only one of 2 rendezvous" in shown["warning"]
