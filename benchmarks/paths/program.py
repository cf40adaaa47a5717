"""Agents and rendezvous as processes in the machines of a lab."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final

from covey.lab import Lab, Machine
from tests.net.tls import certificate

__all__ = ["PORT", "Agent", "Rendezvous", "Trouble", "network", "trusting"]

PORT: Final = 4040
WEBSOCKET_PORT: Final = 443
_SECONDS: Final = 60.0
_WORDS: Final = 1000
"""Characters of what a program said that explain its end."""


class Trouble(Exception):
    """A program did not do what it was told; what it said."""


class Agent:
    """`agent.py` in a machine."""

    def __init__(self, machine: Machine, directory: Path) -> None:
        self.machine = machine
        self.home = str(directory / machine.name)
        self._said = directory / f"{machine.name}.err"
        self._errors = self._said.open("ab")
        self._process = machine.popen(
            [sys.executable, "-m", "benchmarks.paths.agent"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=trusting(directory),
        )
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()
        self._take(_SECONDS)

    def begin(self, do: str, **arguments: Any) -> None:
        """Says what to do; `end` has the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()

    def end(self, seconds: float = _SECONDS) -> dict[str, Any]:
        """The answer to what was begun first. Raises Trouble."""
        answer = self._take(seconds)
        if "failed" in answer:
            said = self._said.read_text(errors="replace")[-_WORDS:]
            raise Trouble(f"{self.machine.name}: {answer['failed']}: {answer['why']} {said}")
        return answer

    def do(self, do: str, **arguments: Any) -> dict[str, Any]:
        self.begin(do, **arguments)
        return self.end()

    def start(self, network: str, **settings: Any) -> None:
        """Begins to: `end` gives its identity."""
        self.begin("start", home=self.home, name=self.machine.name, network=network, settings=settings)

    def close(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listening.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(json.loads(line))
        self._answers.put({"failed": "run", "why": "it ended"})

    def _take(self, seconds: float) -> dict[str, Any]:
        try:
            return self._answers.get(timeout=seconds)
        except queue.Empty:
            raise Trouble(f"{self.machine.name} says nothing") from None


class Rendezvous:
    """`covey rendezvous` in a machine; it may be killed and started again."""

    def __init__(self, machine: Machine, directory: Path, join: str = "", *options: str) -> None:
        self.machine = machine
        self._directory = directory
        self._options = [*options, *(["--join", join] if join else [])]
        self.network = self.start()

    def start(self) -> str:
        """The ticket of the whole network."""
        addresses = [f"{self.machine.ip}:{PORT}", *([f"[{self.machine.ip6}]:{PORT}"] if self.machine.ip6 else [])]
        with (self._directory / f"{self.machine.name}.err").open("ab") as errors:
            self._process = self.machine.popen(
                [
                    *(sys.executable, "-m", "covey.rendezvous", "--json", "--log-level", "warning"),
                    *("--listen", f"0.0.0.0:{PORT}"),
                    *(word for address in addresses for word in ("--advertise", address)),
                    *("--home", str(self._directory / self.machine.name), *self._options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self._process.stdout is not None
        said = json.loads(self._process.stdout.readline())
        if "error" in said:
            raise Trouble(said["error"]["message"])
        return str(said["ticket"])

    def kill(self) -> None:
        """As a crash."""
        self.end(signal.SIGKILL)

    def end(self, number: int = signal.SIGTERM) -> None:
        """Once more is fine."""
        if self._process.returncode is not None:
            return
        self._process.send_signal(number)
        self._process.wait(20)
        assert self._process.stdout is not None
        self._process.stdout.close()


def trusting(directory: Path) -> dict[str, str]:
    """The environment of a program that believes the certificate which `network` made there."""
    return {**os.environ, "SSL_CERT_FILE": str(directory / "server-authority.pem")}


def network(lab: Lab, directory: Path, count: int = 2) -> list[Rendezvous]:
    """So many rendezvous in the open; the last one's ticket has them all, and all know it.
    They serve WebSockets, too."""
    made: list[Rendezvous] = []
    machines = [lab.server(f"r{number}") for number in range(1, count + 1)]
    files = certificate(directory, *(machine.ip for machine in machines))
    assert files.authority == trusting(directory)["SSL_CERT_FILE"]
    serving = ("--certificate", files.certificate, "--key", files.key, "--websocket", f"0.0.0.0:{WEBSOCKET_PORT}")
    for machine in machines:
        made.append(Rendezvous(machine, directory, made[-1].network if made else "", *serving))
    return made
