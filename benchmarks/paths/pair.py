"""Two agents that trust each other, each behind a box of its own, and the rendezvous they share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.paths.program import Agent, Rendezvous, network
from covey.lab import Lab

__all__ = ["Pair", "pair"]

NAMES: Final = ("a", "b")


class Pair:
    """Agents `a` and `b`. Each `start` is their first time in this network: what they knew of each other is trust."""

    def __init__(
        self, lab: Lab, directory: Path, rendezvous: list[Rendezvous], agents: list[Agent], settings: dict[str, Any]
    ) -> None:
        self.lab = lab
        self.rendezvous = rendezvous
        self.agents = agents
        self.a, self.b = agents
        self._directory = directory
        self._settings = settings
        self._ticket = rendezvous[-1].network
        self.identities: list[str] = []
        self._acquaint()

    def start(self) -> None:
        """Both are up and connected to their rendezvous."""
        for agent in self.agents:
            shutil.rmtree(agent.home, ignore_errors=True)
            shutil.copytree(self._kept(agent), agent.home, symlinks=True)
            if agent.machine.box is not None:
                self.lab.forget(agent.machine.name)
            agent.start(self._ticket, **self._settings)
        for agent in self.agents:
            agent.end()

    def stop(self) -> None:
        for agent in self.agents:
            agent.begin("stop")
        for agent in self.agents:
            agent.end()

    def _acquaint(self) -> None:
        for agent in self.agents:
            agent.start(self._ticket, **self._settings)
        self.identities = [agent.end()["identity"] for agent in self.agents]
        self.b.begin("approve", peer=self.identities[0])
        self.a.do("befriend", peer=self.identities[1])
        self.b.end()
        self.stop()
        for agent in self.agents:
            agent.do("forget", home=agent.home)
            shutil.move(agent.home, self._kept(agent))

    def _kept(self, agent: Agent) -> str:
        return f"{agent.home}.kept"


@contextmanager
def pair(a: str, b: str, *, lab: Lab | None = None, rendezvous: int = 2, **settings: Any) -> Iterator[Pair]:
    """Behind boxes of these kinds (`covey.lab`), in an empty lab. `settings` go to both nodes."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="covey-paths-")))
        lab = lab or stack.enter_context(Lab())
        servers = network(lab, directory, rendezvous)
        for server in servers:
            stack.callback(server.kill)
        agents = []
        for name, kind in zip(NAMES, (a, b), strict=True):
            agent = Agent(lab.agent(name, nat=kind), directory)
            stack.callback(agent.close)
            agents.append(agent)
        yield Pair(lab, directory, servers, agents, settings)
