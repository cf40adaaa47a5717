"""The processes of one round, and its log of events."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Final

from scripts.processes import Agent, RendezvousProcess, eventually

__all__ = ["Stage"]

TRUST_SECONDS: Final = 30.0


class Stage:
    """The processes of one round, and its log of events."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        first = RendezvousProcess(directory / "r1")
        self.rendezvous = {"R1": first, "R2": RendezvousProcess(directory / "r2", joins=first)}
        self.a = Agent(directory, "a", "kill-a")
        self.b = Agent(directory, "b", "kill-b")
        self.agents = {"A": self.a, "B": self.b}
        self.victims: dict[str, Agent | RendezvousProcess] = {**self.agents, **self.rendezvous}
        self.begun = time.monotonic()
        self.together: list[tuple[float, float]] = []
        """Wall times between which everything ran."""
        self._up: set[str] = set()
        self._together_since = 0.0
        self._events = (directory / "events.log").open("w")
        self._lock = threading.Lock()

    def log(self, text: str) -> None:
        with self._lock:
            if not self._events.closed:
                self._events.write(f"{time.time():.6f} {time.monotonic() - self.begun:9.3f} {text}\n")
                self._events.flush()

    def is_up(self, name: str) -> None:
        with self._lock:
            if name not in self._up:
                self._up.add(name)
                self._together_since = time.time()

    def is_down(self, name: str) -> None:
        with self._lock:
            if len(self._up) == len(self.victims):
                self.together.append((self._together_since, time.time()))
            self._up.discard(name)

    def seconds_together(self) -> float:
        return sum(last - first for first, last in self.together)

    def longest_together(self, begin: float, end: float) -> float:
        """The longest stretch between two moments in which everything ran."""
        return max((min(end, last) - max(begin, first) for first, last in self.together), default=0.0)

    def set_up(self) -> None:
        """Starts everything and makes the agents trust each other."""
        for each in self.rendezvous.values():
            ticket = each.start()  # the last one's names all
        for agent in self.agents.values():
            agent.ticket = ticket
            agent.start()
        eventually(lambda: self.a.api.post("/v1/handshake", peer=self.b.name).ok, "A asks B", TRUST_SECONDS, 0.1)
        eventually(lambda: self.b.api.post("/v1/handshake", peer=self.a.name).ok, "B asks A", TRUST_SECONDS, 0.1)
        for agent in self.agents.values():
            eventually(lambda agent=agent: _trusts_all(agent), f"{agent.name} trusts", TRUST_SECONDS, 0.1)
            eventually(lambda agent=agent: _reaches_all(agent), f"{agent.name} reaches both", TRUST_SECONDS, 0.1)
        for name in self.victims:
            self.is_up(name)

    def end(self) -> None:
        for process in (*self.agents.values(), *self.rendezvous.values()):
            process.end()
        with self._lock:
            self._events.close()


def _trusts_all(agent: Agent) -> bool:
    peers = agent.api.get("/v1/peers").data["items"]
    return bool(peers) and all(peer["trust"] == "trusted" for peer in peers)


def _reaches_all(agent: Agent) -> bool:
    return all(view["connected"] for view in agent.api.get("/v1/status").data["rendezvous"])
