"""Agents as processes behind real boxes: one that both trust relays for them when the rendezvous is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.paths.program import Agent, Rendezvous, network
from covey.lab import Lab


@contextmanager
def three(lab: Lab, directory: Path, boxes: str) -> Iterator[tuple[Rendezvous, list[Agent], list[str]]]:
    """`a` and `b` behind such boxes and `r`, which relays, in the open; they trust each other. And their identities."""
    with ExitStack() as stack:
        [server] = network(lab, directory, 1)
        stack.callback(server.kill)
        agents = []
        for name, kind in (("a", boxes), ("b", boxes), ("r", "none")):
            agent = Agent(lab.agent(name, nat=kind), directory)
            stack.callback(agent.close)
            settings: dict[str, Any] = {"relaying": {"serves": "trusted"}} if name == "r" else {}
            agent.start(server.network, **settings)
            agents.append(agent)
        identities = [agent.end()["identity"] for agent in agents]
        for one in range(3):
            for two in range(one):
                agents[two].begin("approve", peer=identities[one])
                agents[one].do("befriend", peer=identities[two])
                agents[two].end()
        yield server, agents, identities


def test_agent_that_relays_takes_over_when_the_rendezvous_dies(lab: Lab, tmp_path: Path) -> None:
    with three(lab, tmp_path, "symmetric") as (server, (a, b, r), (_, peer, _)):
        a.do("load", peer=peer, bulk_rate=1e6, run="x")
        a.do("backed", peer=peer)
        a.do("settled", since=time.monotonic(), seconds=0.5, patience=20.0)
        since = time.monotonic()
        server.kill()
        gap = a.do("settled", since=since, seconds=1.0, patience=20.0)["gap"]
        assert gap is not None
        assert gap < 1.0
        [active] = [path for path in a.do("peer", peer=peer)["peer"] if path["active"]]
        assert (active["kind"], active["remote"].rpartition(":")[0]) == ("relay", r.machine.ip)
        done = a.do("unload")
        assert (done["answers"], done["bulk"]["same"]) == (done["requests"], True)
        assert b.do("messages", run="x", count=done["messages"])["twice"] == []
