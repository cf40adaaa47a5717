"""A rendezvous and agents as real processes, and what tests ask of them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from covey.base.schema import ErrorView
from scripts.processes import Agent, RendezvousProcess, eventually

__all__ = [
    "Agent",
    "Stage",
    "accepted",
    "befriend",
    "bodies",
    "eventually",
    "lines_of",
    "online",
    "refused",
    "said",
    "send",
    "shaped",
    "trust",
]

TRUST_SECONDS = 20.0


class Stage:
    """Where a test's processes are. `end` stops all of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.rendezvous = RendezvousProcess(directory / "rendezvous")
        self._agents: list[Agent] = []

    def agent(self, profile: str, name: str | None = None, *, ticket: str | None = None, **environment: str) -> Agent:
        """An agent, not started yet. Its ticket is the rendezvous', which is started for it if need be."""
        found = self.rendezvous.start() if ticket is None else ticket
        agent = Agent(self.directory, profile, name or profile, found, **environment)
        self._agents.append(agent)
        return agent

    def started(self, *profiles: str) -> list[Agent]:
        """Agents that run and are on the network: others find them by name."""
        agents = [self.agent(profile) for profile in profiles]
        with ThreadPoolExecutor(len(agents)) as pool:
            list(pool.map(Agent.start, agents))
        for agent in agents:
            online(agent)
        return agents

    def trusting(self, one: str, other: str) -> tuple[Agent, Agent]:
        """Two that run and trust each other."""
        a, b = self.started(one, other)
        befriend(a, b)
        return a, b

    def end(self) -> None:
        for process in (*self._agents, self.rendezvous):
            process.end()


def online(agent: Agent) -> None:
    """Waits until its rendezvous has its record."""
    eventually(
        lambda: any(each["connected"] for each in agent.api.get("/v1/status").data["rendezvous"]),
        f"{agent.name} is connected to the rendezvous",
    )
    eventually(lambda: agent.api.get(f"/v1/find/{agent.name}").code == "self", f"{agent.name} answers")


def befriend(a: Agent, b: Agent) -> None:
    """Both ask, which is mutual trust, and wait for it."""
    for one, other in ((a, b), (b, a)):
        eventually(lambda one=one, other=other: one.api.post("/v1/handshake", peer=other.name).ok, "it asks")
    for one, other in ((a, b), (b, a)):
        eventually(lambda one=one, other=other: trust(one, other) == "trusted", "both trust", TRUST_SECONDS)


def trust(agent: Agent, peer: Agent) -> str:
    """What `agent` holds of `peer`."""
    return str(agent.api.get(f"/v1/peers/{peer.name}").data.get("trust", ""))


def send(agent: Agent, peer: Agent, body: str, wait: float = 10.0, **fields: Any) -> dict[str, Any]:
    """One text message over the API; the answer."""
    answer = agent.api.post("/v1/messages", peer=peer.name, body=body, wait=wait, id=secrets.token_hex(16), **fields)
    assert answer.ok, answer.data
    return dict(answer.data)


def bodies(agent: Agent) -> list[str]:
    """All messages of its inbox."""
    return [item["body"] for item in agent.api.get("/v1/inbox?all=true&limit=1000").data["items"]]


def accepted(agent: Agent, *words: str, **options: Any) -> Any:
    """`covey ... --json`, which must succeed: its data."""
    done = agent.cli(*words, "--json", **options)
    document = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, ""), (words, done.stdout, done.stderr)
    assert (document["schema"], document["ok"], set(document)) == (1, True, {"schema", "ok", "data"})
    return document["data"]


def refused(agent: Agent, *words: str, **options: Any) -> tuple[int, ErrorView]:
    """`covey ... --json`, which must fail: exit code and error."""
    done = agent.cli(*words, "--json", **options)
    document = json.loads(done.stdout)
    assert (document["schema"], document["ok"], done.stderr) == (1, False, "")
    return done.returncode, msgspec.convert(document["error"], ErrorView)


def shaped(data: Any, kind: type[Any]) -> Any:
    """`data` as the structure it must be, with every field of it and no other."""
    assert set(data) == set(kind.__struct_fields__)
    return msgspec.convert(data, kind)


def said(agent: Agent, *words: str, exit_code: int = 0, **options: Any) -> str:
    """What a person reads: standard output, then standard error."""
    done = agent.cli(*words, **options)
    assert done.returncode == exit_code, (words, done.stdout, done.stderr)
    return done.stdout + done.stderr


def lines_of(text: str) -> Sequence[str]:
    return [line.strip() for line in text.splitlines()]
