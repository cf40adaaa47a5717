"""Real kernels, real devices: what the networks below us carry is found and used, and nothing is lost for their size.

Each test lays network namespaces of its own, without root. Devices that would carry super-packets past a small MTU have
that turned off (PROTOCOL 38).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from benchmarks.lab import Lab, two_ends
from covey.bench.pair import Failed

MEBIBYTE = 1 << 20


class Underlay:
    """Two ends, `one` and `two`, with a transport in each once `start` was called."""

    def __init__(self, stack: ExitStack) -> None:
        self.lab = stack.enter_context(Lab())
        self._stack = stack
        self.lab.add("one")
        self.lab.add("two")

    def direct(self, mtu: int) -> None:
        self.lab.link("one", "two", mtu=mtu)
        self.plain("one", "two")

    def through_switch(self, mtu: int) -> None:
        """Devices of 1500 bytes, and a switch between them with a port that swallows what is larger than `mtu`."""
        self.lab.add("switch")
        for end in ("one", "two"):
            self.lab.link(end, "switch")
        self.lab.run("switch", "ip", "link", "add", "name", "bridge", "type", "bridge")
        for device in self.lab.devices["switch"]:
            self.lab.run("switch", "ip", "address", "flush", "dev", device)
            self.lab.run("switch", "ip", "link", "set", device, "master", "bridge")
        self.lab.run("switch", "ip", "link", "set", "bridge", "up")
        for end, address in (("one", "10.88.0.1"), ("two", "10.88.0.2")):
            device = self.lab.devices[end][0]
            self.lab.run(end, "ip", "address", "flush", "dev", device)
            self.lab.run(end, "ip", "address", "add", f"{address}/24", "dev", device)
        self.plain("one", "two", "switch")
        self.set_mtu("switch", mtu)

    def set_mtu(self, end: str, mtu: int) -> None:
        """Of the last device at that place."""
        self.lab.run(end, "ip", "link", "set", self.lab.devices[end][-1], "mtu", str(mtu))

    def add_ipv6(self) -> None:
        for number, end in enumerate(("one", "two"), 1):
            device = self.lab.devices[end][0]
            self.lab.run(end, "ip", "address", "add", f"fd00::{number}/64", "dev", device, "nodad")

    def plain(self, *ends: str) -> None:
        for end in ends:
            self.lab.run(end, sys.executable, "-m", "benchmarks.offloads", *self.lab.devices[end])

    def start(self, host: str) -> None:
        self._server = self._program("two", "serve", host)
        where = self._hear(self._server)
        self._asker = self._program("one", "ask", host, str(where["port"]), where["identity"], where["key"])

    def echo(self, size: int) -> dict[str, Any]:
        """Sends random bytes there and back; both directions at once. What `one` says of it."""
        self._tell(self._asker, str(size))
        heard = self._hear(self._asker)
        assert (heard["got"], heard["same"]) == (size, True)
        return heard

    def mtus(self) -> tuple[int, int]:
        """What `one` and `two` found, each in its direction."""
        self._tell(self._server, "")
        there = self._hear(self._server)["mtu"]
        return self.echo(1)["mtu"][0], there[0]

    def _program(self, end: str, *argv: str) -> subprocess.Popen[str]:
        program = subprocess.Popen(
            self.lab.command(end, [sys.executable, "-m", "tests.node.underlay", *argv]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._stack.enter_context(program)  # closes its input and waits
        self._stack.callback(program.terminate)
        return program

    @staticmethod
    def _tell(program: subprocess.Popen[str], line: str) -> None:
        assert program.stdin is not None
        program.stdin.write(line + "\n")
        program.stdin.flush()

    @staticmethod
    def _hear(program: subprocess.Popen[str]) -> dict[str, Any]:
        assert program.stdout is not None
        heard = program.stdout.readline()
        assert heard, "the program ended"
        found: dict[str, Any] = json.loads(heard)
        return found


@pytest.fixture(scope="module")
def namespaces() -> None:
    try:
        with two_ends():
            pass
    except Failed as failed:
        pytest.skip(str(failed))


@pytest.fixture
def underlay(namespaces: None) -> Iterator[Underlay]:
    with ExitStack() as stack:
        yield Underlay(stack)


def test_underlay_of_1280_bytes_carries_a_mebibyte_both_ways(underlay: Underlay) -> None:
    underlay.direct(1280)
    underlay.start(underlay.lab.address("two"))
    underlay.echo(MEBIBYTE)
    assert underlay.mtus() == (1252, 1252)


def test_underlay_of_1280_bytes_only_in_the_middle_carries_a_mebibyte_both_ways(underlay: Underlay) -> None:
    """Both ends believe in 1500, and nobody tells them: no ICMP."""
    underlay.through_switch(1280)
    underlay.start("10.88.0.2")
    underlay.echo(MEBIBYTE)
    assert underlay.mtus() == (1252, 1252)


def test_ipv6_underlay_of_1280_bytes_carries_a_mebibyte_both_ways(underlay: Underlay) -> None:
    underlay.direct(1280)
    underlay.add_ipv6()
    underlay.start("fd00::2")
    underlay.echo(MEBIBYTE)
    assert underlay.mtus() == (1232, 1232)


def test_underlay_of_jumbo_frames_is_used_until_it_shrinks(underlay: Underlay) -> None:
    """Under our hands: first the switch's port, which tells nobody, then the device itself, which refuses to send."""
    underlay.through_switch(9000)
    for end in ("one", "two", "switch"):
        for device in underlay.lab.devices[end]:
            underlay.lab.run(end, "ip", "link", "set", device, "mtu", "9000")
    underlay.start("10.88.0.2")
    underlay.echo(4 * MEBIBYTE)
    assert underlay.mtus() == (8972, 8972)
    underlay.set_mtu("switch", 1280)
    assert underlay.echo(MEBIBYTE)["suspect"] == [False]
    assert max(underlay.mtus()) <= 1252
    underlay.set_mtu("one", 1280)
    underlay.echo(MEBIBYTE)
    assert max(underlay.mtus()) <= 1252
