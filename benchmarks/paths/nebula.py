"""Nebula from Debian in the same lab: `python -m benchmarks.paths.nebula [--runs 5]`.

Its lighthouse stands in the open and relays, as our rendezvous do; both hosts punch and may use the relay. In each
cell both are started anew behind boxes that remember nothing; once each said that the lighthouse knows it, one sends
numbered datagrams to the other's address in the tunnel, a hundred a second, which come back. `first_byte_ms` is until
the first came back; relayed or direct is told by what the lighthouse's host forwards meanwhile. For the gap, the boxes'
direct way is dropped, and the longest time without an answer is taken.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.beside import run as run_program
from benchmarks.install import Debian, debian
from benchmarks.lab import need_tun
from benchmarks.paths.matrix import SQUARE
from benchmarks.results import DIRECTORY
from covey.lab import Lab, Machine

__all__ = ["main", "measure"]

_PORT: Final = 4242
_INSIDE: Final = {"r1": "10.78.0.1", "a": "10.78.0.2", "b": "10.78.0.3"}
_GIVE_UP: Final = 20.0
_LONGEST_GAP: Final = 60.0
_STEADY_SECONDS: Final = 10.0
_A_SECOND: Final = 100
"""Datagrams that are sent in one."""
_ANSWER_PORT: Final = 7
_GAP_CELL: Final = ("port-restricted", "port-restricted")
_TUN_SECONDS: Final = 10.0

_CONFIG: Final = """\
pki: {{ca: {directory}/ca.crt, cert: {directory}/{name}.crt, key: {directory}/{name}.key}}
static_host_map: {{"{lighthouse}": ["{at}:{port}"]}}
lighthouse: {{am_lighthouse: {am}, interval: 60, hosts: [{hosts}]}}
listen: {{host: 0.0.0.0, port: {listen}}}
punchy: {{punch: true, respond: true}}
relay: {{am_relay: {am}, use_relays: {relay}, relays: [{hosts}]}}
tun: {{dev: cv-tun, mtu: 1300}}
logging: {{level: info, format: json}}
firewall:
  outbound: [{{port: any, proto: any, host: any}}]
  inbound: [{{port: any, proto: any, host: any}}]
"""

_ANSWER: Final = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", {port}))
print("ready", flush=True)
while True:
    data, at = s.recvfrom(2048)
    s.sendto(data, at)
"""

_ASK: Final = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("{to}", {port}))
s.setblocking(False)
number, begun = 0, time.monotonic()
print("begun", begun, flush=True)
while True:
    try:
        s.send(number.to_bytes(64, "big"))
    except OSError:
        pass
    number += 1
    until = begun + number * 0.01
    while time.monotonic() < until:
        try:
            s.recv(2048)
            print("came", time.monotonic(), flush=True)
        except OSError:
            time.sleep(0.001)
"""


class _Asked:
    """When answers came."""

    def __init__(self, machine: Machine) -> None:
        program = _ASK.format(to=_INSIDE["b"], port=_ANSWER_PORT)
        self._process = machine.popen(
            [sys.executable, "-c", program], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=False
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._rest = b""
        self.begun = 0.0
        self.came: list[float] = []

    def look(self) -> None:
        assert self._process.stdout is not None
        self._rest += self._process.stdout.read() or b""
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            word, at = line.split()
            if word == b"begun":
                self.begun = float(at)
            else:
                self.came.append(float(at))

    def wait(self, seconds: float, *, since: float = 0.0) -> bool:
        """Until an answer comes."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.look()
            if self.came and self.came[-1] > since:
                return True
            _pause(0.01)
        return False

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def measure(package: Debian, a: str, b: str, runs: int, *, relay: bool, gap: bool) -> dict[str, Any]:
    """One cell: a row beside those of `nat-matrix.json`."""
    first: list[float] = []
    gaps: list[float] = []
    direct = 0
    with TemporaryDirectory(prefix="covey-nebula-") as text, Lab() as lab:
        directory = Path(text)
        machines = {"r1": lab.server("r1"), "a": lab.agent("a", nat=a), "b": lab.agent("b", nat=b)}
        run_program([package.program("nebula-cert"), "ca", "-name", "lab"], directory)
        for name in machines:
            _configure(package, directory, name, machines["r1"].ip, relay=relay)
        for _ in range(runs):
            for name in ("a", "b"):
                if machines[name].box is not None:
                    lab.forget(name)
            with _nebula(package, directory, machines), _answering(machines["b"]):
                asked = _Asked(machines["a"])
                try:
                    if not asked.wait(_GIVE_UP):
                        continue
                    first.append((asked.came[0] - asked.begun) * 1000)
                    is_direct = _goes_direct(machines["r1"])
                    direct += is_direct
                    if gap and is_direct:
                        asked.look()
                        cut_at = time.monotonic()
                        lab.cut("a", "b")
                        came = asked.wait(_LONGEST_GAP, since=cut_at + 0.1)
                        lab.heal("a", "b")
                        last = max(at for at in asked.came if at < cut_at + 0.1)
                        after = [at for at in asked.came if at >= cut_at + 0.1]
                        gaps.append(after[0] - last if came else _LONGEST_GAP)
                finally:
                    asked.end()
    return {
        "peer": f"Nebula {package.version('nebula')}" + ("" if relay else " without relay"),
        "a": a,
        "b": b,
        "runs": runs,
        "connected": len(first),
        "direct": direct,
        "first_byte_ms_p50": round(statistics.median(first), 1) if first else None,
        "gap_s": [round(each, 2) for each in gaps],
    }


def _configure(package: Debian, directory: Path, name: str, at: str, *, relay: bool) -> None:
    run_program(
        [package.program("nebula-cert"), "sign", "-name", name, "-ip", f"{_INSIDE[name]}/24"],
        directory,
    )
    lighthouse = name == "r1"
    (directory / f"{name}.yml").write_text(
        _CONFIG.format(
            directory=directory,
            name=name,
            lighthouse=_INSIDE["r1"],
            at=at,
            port=_PORT,
            am="true" if lighthouse else "false",
            relay="true" if relay else "false",
            hosts="" if lighthouse else f'"{_INSIDE["r1"]}"',
            listen=_PORT if lighthouse else 0,
        )
    )


@contextmanager
def _nebula(package: Debian, directory: Path, machines: dict[str, Machine]) -> Iterator[None]:
    started = []
    try:
        for name, machine in machines.items():
            with (directory / f"{name}.log").open("wb") as log:
                argv = [package.program("nebula"), "-config", str(directory / f"{name}.yml")]
                started.append(machine.popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        for name, machine in machines.items():
            _until_up(machine, _INSIDE[name])
        for name in ("a", "b"):
            _until_said(directory / f"{name}.log", "Handshake message received")
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


@contextmanager
def _answering(machine: Machine) -> Iterator[None]:
    program = _ANSWER.format(port=_ANSWER_PORT)
    process = machine.popen(
        [sys.executable, "-c", program], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _until_up(machine: Machine, inside: str) -> None:
    until = time.monotonic() + _TUN_SECONDS
    while inside not in machine.run("ip", "address", "show"):
        if time.monotonic() > until:
            raise TimeoutError("nebula makes no device")
        _pause(0.05)


def _until_said(log: Path, words: str) -> None:
    until = time.monotonic() + _TUN_SECONDS
    while words not in log.read_text():
        if time.monotonic() > until:
            return  # where the lighthouse cannot be reached, nothing will be
        _pause(0.05)


def _passed(machine: Machine) -> int:
    """Packets that the host has sent so far."""
    devices = json.loads(machine.run("ip", "-json", "-statistics", "link"))
    return sum(device["stats64"]["tx"]["packets"] for device in devices if device["ifname"] not in ("lo", "cv-tun"))


def _goes_direct(relay: Machine) -> bool:
    """Whether what goes to and fro passes the relay no more, within `_STEADY_SECONDS`."""
    until = time.monotonic() + _STEADY_SECONDS
    while time.monotonic() < until:
        before = _passed(relay)
        _pause(1.0)
        if _passed(relay) - before < _A_SECOND:
            return True
    return False


def _pause(seconds: float) -> None:
    time.sleep(seconds)  # noqa: TID251 - a program that has no events


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paths.nebula", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cells", nargs="*", metavar="A/B", help="only these")
    given = parser.parse_args(arguments)
    need_tun()
    package = debian("nebula")
    cells = [tuple(cell.split("/")) for cell in given.cells or ()] or [*SQUARE, ("udp-blocked", "none")]
    rows = []
    for a, b in cells:
        for relay in (True, False):
            row = measure(package, a, b, given.runs, relay=relay, gap=(a, b) == _GAP_CELL)
            print(json.dumps(row), flush=True)
            rows.append(row)
    if not given.cells:
        lines = ",\n".join(json.dumps(row) for row in rows)
        (DIRECTORY / "nat-matrix-nebula.json").write_text(f"[\n{lines}\n]\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
