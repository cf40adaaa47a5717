"""`make ten-minutes`: one stream through two daemons for ten minutes, while every 20 seconds something is cut.

A program at one end holds one socket of its daemon, through which bytes go to the other daemon's echo and come back.
For ten seconds it is the direct path, everything larger than 200 bytes on it, the way to one rendezvous, or all of one
side; or the boxes forget their mappings, an uplink changes, a rendezvous is killed and started again. At the end the
socket was never closed and the SHA-256 of what came back is that of what went.

    python -m benchmarks.paths.cuts [--seconds 600] [--every 20] [--seed 1]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.paths.program import Rendezvous, Trouble, network, trusting
from benchmarks.results import DIRECTORY
from covey.base.paths import Home
from covey.lab import Lab, Machine
from scripts.processes import Api

__all__ = ["main", "run"]

_RATE: Final = 1_000_000
"""Bytes a second that go, and come back."""
_PIECE: Final = 16_384
_CUT_SECONDS: Final = 10.0
_LAST_SECONDS: Final = 60.0
"""What may still be on its way at the end has so long to come."""
_CALL_SECONDS: Final = 30.0


class Daemon:
    """`python -m covey.daemon` in a machine, used through its own sockets."""

    def __init__(self, machine: Machine, directory: Path, ticket: str) -> None:
        environment = {"COVEY_HOME": str(directory / machine.name)}
        options = {"hostname": machine.name, "network": ticket, "foreground": True, "json": True}
        with (directory / f"{machine.name}.err").open("ab") as errors:
            self._process = machine.popen(
                [sys.executable, "-m", "covey.daemon", json.dumps(options)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**trusting(directory), **environment},
            )
        assert self._process.stdout is not None
        said = json.loads(self._process.stdout.readline())
        if not said["ok"]:
            raise Trouble(said["error"]["message"])
        self._api = Api(Home.locate(None, environment, uid=os.getuid()).api_socket, _CALL_SECONDS)

    def post(self, path: str, **body: Any) -> Any:
        answer = self._api.post(path, **body)
        if not answer.ok:
            raise Trouble(f"{path}: {answer.data}")
        return answer.data

    def get(self, path: str) -> Any:
        return self._api.get(path).data

    def close(self) -> None:
        self._api.close()
        self._process.terminate()
        self._process.wait(20)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Echo:
    """A socket whose bytes come back, and what they hash to."""

    def __init__(self, daemon: Daemon, peer: str) -> None:
        offer = daemon.post("/v1/streams", peer=peer, service="echo")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(offer["socket"])
        self._socket.sendall(offer["token"].encode() + b"\n")
        status = b""
        while not status.endswith(b"\n"):
            status += self._socket.recv(1)
        if status != b"ok\n":
            raise Trouble(status.decode())
        self.sent, self.came = hashlib.sha256(), hashlib.sha256()
        self.sent_bytes = self.came_bytes = 0
        self.longest = 0.0
        """Seconds in which nothing came."""
        self.trouble = ""
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._write), threading.Thread(target=self._read)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(_LAST_SECONDS)
        self._socket.close()

    def _write(self) -> None:
        pause, begun = threading.Event(), time.monotonic()
        source = random.Random(self._socket.fileno())
        try:
            while not self._stopping.is_set():
                piece = source.randbytes(_PIECE)
                self._socket.sendall(piece)
                self.sent.update(piece)
                self.sent_bytes += len(piece)
                pause.wait(max(0.0, begun + self.sent_bytes / _RATE - time.monotonic()))
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.trouble = f"writing: {error}"

    def _read(self) -> None:
        last = time.monotonic()
        try:
            while data := self._socket.recv(1 << 18):
                self.came.update(data)
                self.came_bytes += len(data)
                self.longest, last = max(self.longest, time.monotonic() - last), time.monotonic()
        except OSError as error:
            self.trouble = f"reading: {error}"
        if not self._stopping.is_set():
            self.trouble = self.trouble or "the socket was closed"


def run(seconds: float, every: float, seed: int) -> dict[str, Any]:
    """What became of the stream, and what was cut."""
    chance = random.Random(seed)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="covey-cuts-")))
        lab = stack.enter_context(Lab())
        servers = network(lab, directory)
        for server in servers:
            stack.callback(server.kill)
        daemons = []
        for name in ("a", "b"):
            daemons.append(Daemon(lab.agent(name, nat="port-restricted"), directory, servers[-1].network))
            stack.callback(daemons[-1].close)
        one, other = daemons
        identities = [daemon.get("/v1/status")["identity"] for daemon in daemons]
        one.post("/v1/handshake", peer=identities[1], wait=0)
        other.post("/v1/approve", peer=identities[0])
        echo = Echo(one, identities[1])
        done: list[str] = []
        begun = time.monotonic()
        for number in range(1, int(seconds / every)):
            _sleep_until(begun + number * every)
            name, heal = _cut(lab, servers, chance)
            done.append(name)
            print(f"{time.monotonic() - begun:6.1f} s  {name:20} {echo.came_bytes / 1e6:8.1f} MB back", flush=True)
            _sleep_until(begun + number * every + min(_CUT_SECONDS, every / 2))
            heal()
            if echo.trouble:
                break
        _sleep_until(begun + seconds)
        echo.end()
    return {
        "seconds": seconds,
        "cuts": done,
        "sent_bytes": echo.sent_bytes,
        "came_bytes": echo.came_bytes,
        "same": echo.sent.digest() == echo.came.digest(),
        "longest_silence_s": round(echo.longest, 3),
        "trouble": echo.trouble,
    }


def _cut(lab: Lab, servers: list[Rendezvous], chance: random.Random) -> tuple[str, Callable[[], object]]:
    """Something goes; its name, and what brings it back."""
    which = chance.randrange(7)
    if which == 0:
        lab.cut("a", "b")
        return "direct path", lambda: lab.heal("a", "b")
    if which == 1:
        lab.black_hole("a", "b", over=200)
        return "large packets", lambda: lab.heal("a", "b")
    if which == 2:
        lab.cut("a", "r1")
        return "a to r1", lambda: lab.heal("a", "r1")
    if which == 3:
        side = chance.choice("ab")
        lab.cut(side, None)
        return f"all of {side}", lambda: lab.heal(side, None)
    if which == 4:
        for side in "ab":
            lab.forget(side)
        return "mappings", lambda: None
    if which == 5:
        side = chance.choice("ab")
        lab.change_uplink(side)
        return f"uplink of {side}", lambda: None
    server = chance.choice(servers)
    server.kill()
    return f"{server.machine.name} killed", server.start


def _sleep_until(at: float) -> None:
    threading.Event().wait(max(0.0, at - time.monotonic()))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paths.cuts", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--every", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    found = run(given.seconds, given.every, given.seed)
    print(json.dumps(found))
    good = found["same"] and not found["trouble"] and found["sent_bytes"] > 0
    if given.seconds >= 600:
        (DIRECTORY / "ten-minutes.json").write_text(json.dumps(found, indent=1) + "\n")
    print("the socket was never closed, the bytes are the same" if good else "FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
