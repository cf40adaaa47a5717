"""Network namespaces joined by veth pairs, without root: the place where both ends of a benchmark stand.

A namespace lives as long as its holder, a `cat` that waits for the end of its input; when this process goes, however it
goes, so do they. Everything runs in one user namespace of our own (`unshare -Urn`), in which we may do what root may.
Where that is not allowed and we are root already, it works without one.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path

from covey.bench.pair import Failed, Loopback, Site

__all__ = ["Lab", "best_site", "need_tun"]

_SECONDS = 10.0
_TUN = Path("/dev/net/tun")
_READY = "ready"
_HOLD = f"ip link set lo up && echo {_READY} && exec cat"
_PROGRAMS = {"ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux"}
"""What we need, and the Debian package that has it."""


class Lab:
    """Namespaces by name and the links between them. A context manager; raises Failed if the system does not let us."""

    def __init__(self) -> None:
        self.name = "network namespaces"
        self._holders: dict[str, subprocess.Popen[str]] = {}
        self._rootless = True
        self._addresses: dict[str, list[str]] = {}
        self.devices: dict[str, list[str]] = {}
        """Of each namespace, in the order of its addresses."""
        self._links = 0
        self._stack = ExitStack()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # --- building --------------------------------------------------------------------------------------------------

    def add(self, end: str) -> None:
        """One more namespace."""
        missing = missing_programs()
        if missing:
            raise Failed(missing)
        if self._holders:
            self._hold(end, self._enter(next(iter(self._holders)), ["unshare", "-n"]))
            return
        try:
            self._hold(end, ["unshare", "-Urn"])
        except Failed:
            self._rootless = False
            self._hold(end, ["unshare", "-n"])

    def link(self, one: str, other: str, *, mtu: int = 1500) -> tuple[str, str]:
        """A veth pair between two namespaces: the address of each. Offloads stay as the kernel has them."""
        self._links += 1
        names = (f"cv{self._links}a", f"cv{self._links}b")
        addresses = (f"10.77.{self._links}.1", f"10.77.{self._links}.2")
        self.run(one, "ip", "link", "add", "name", names[0], "type", "veth", "peer", "name", names[1])
        self.join((one, other), names, addresses, mtu)
        return addresses

    def join(self, ends: tuple[str, str], devices: tuple[str, str], addresses: tuple[str, str], mtu: int) -> None:
        """Gives the two devices of a link, which stand in the first namespace, to each its own."""
        self.run(ends[0], "ip", "link", "set", devices[1], "netns", str(self._holders[ends[1]].pid))
        for end, device, address in zip(ends, devices, addresses, strict=True):
            self.run(end, "ip", "address", "add", f"{address}/30", "dev", device)
            self.run(end, "ip", "link", "set", device, "mtu", str(mtu), "up")
            self._addresses.setdefault(end, []).append(address)
            self.devices.setdefault(end, []).append(device)

    # --- using -----------------------------------------------------------------------------------------------------

    def address(self, end: str) -> str:
        """The first address of a namespace."""
        return self._addresses[end][0]

    def command(self, end: str, argv: Sequence[str]) -> list[str]:
        return self._enter(end, argv)

    def run(self, end: str, *argv: str) -> str:
        """Runs a program to its end in a namespace; what it printed. Failed if it does not work."""
        done = subprocess.run(
            self.command(end, argv),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            raise Failed(f"{' '.join(argv)}: {done.stderr.strip() or done.returncode}")
        return done.stdout

    # --- namespaces ------------------------------------------------------------------------------------------------

    def _enter(self, end: str, argv: Sequence[str]) -> list[str]:
        target = str(self._holders[end].pid)
        user = ["-U", "--preserve-credentials"] if self._rootless else []
        return ["nsenter", "-t", target, *user, "-n", *argv]

    def _hold(self, end: str, inside: list[str]) -> None:
        holder = subprocess.Popen(
            [*inside, "sh", "-c", _HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stderr is not None
        if holder.stdout.readline().strip() != _READY:
            holder.stdin.close()
            why = holder.stderr.read().strip()
            _end(holder)
            raise Failed(f"no network namespaces: {why}")
        self._holders[end] = holder
        self._stack.callback(_end, holder)


def _end(holder: subprocess.Popen[str]) -> None:
    for pipe in (holder.stdin, holder.stdout, holder.stderr):
        if pipe is not None:
            pipe.close()
    try:
        holder.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        holder.kill()
        holder.wait()


def missing_programs() -> str:
    """What to install before a lab can be built, as a sentence; "" if nothing."""
    packages = sorted({package for program, package in _PROGRAMS.items() if shutil.which(program) is None})
    return f"apt-get install {' '.join(packages)}, for network namespaces" if packages else ""


def need_tun() -> None:
    """Makes /dev/net/tun where it is missing and we may. Raises Failed."""
    if not _TUN.exists():
        try:
            _TUN.parent.mkdir(exist_ok=True)
            os.mknod(_TUN, stat.S_IFCHR | 0o600, os.makedev(10, 200))
        except OSError as error:
            raise Failed(f"mkdir -p {_TUN.parent} && mknod {_TUN} c 10 200, as root ({error.strerror})") from error
    if not os.access(_TUN, os.R_OK | os.W_OK):
        raise Failed(f"chmod a+rw {_TUN}, as root: without it, no links with a delay and no tunnels")


@contextmanager
def two_ends(mtu: int = 1500) -> Iterator[Site]:
    """A server and a client, each in a namespace of its own, with one link."""
    with Lab() as lab:
        lab.add("server")
        lab.add("client")
        lab.link("server", "client", mtu=mtu)
        lab.name = f"two network namespaces, veth, MTU {mtu}"
        yield lab


def best_site() -> tuple[Callable[[int], Callable[[], AbstractContextManager[Site]]], str]:
    """What gives a site for an MTU: namespaces, or loopback and why."""
    try:
        with two_ends():
            pass
    except Failed as failed:
        return lambda _: lambda: nullcontext(Loopback()), str(failed)
    return lambda mtu: partial(two_ends, mtu), ""
