"""Two or three places for a benchmark, joined by veth pairs: `covey.lab`'s namespaces without its internet.

Offloads stay as the kernel has them, addresses are private, and nothing but `ip` is needed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path

from covey.base.errors import CoveyError
from covey.bench.pair import Failed, Loopback, Site
from covey.lab.namespaces import ROOT, Namespaces

__all__ = ["Lab", "best_site", "need_tun"]

_TUN = Path("/dev/net/tun")


class Lab:
    """Namespaces by name and the links between them. A context manager; raises Failed if the system does not let us."""

    def __init__(self) -> None:
        self.name = "network namespaces"
        self.namespaces: Namespaces | None = None
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
        if self.namespaces is None:
            try:
                self.namespaces = self._stack.enter_context(Namespaces.make())
            except CoveyError as error:
                raise Failed(f"{error}: {error.next_step}") from error
        self._build(ROOT, f"ip netns add {end} && ip -n {end} link set lo up")

    def link(self, one: str, other: str, *, mtu: int = 1500) -> tuple[str, str]:
        """A veth pair between two namespaces: the address of each. Offloads stay as the kernel has them."""
        self._links += 1
        names = (f"cv{self._links}a", f"cv{self._links}b")
        addresses = (f"10.77.{self._links}.1", f"10.77.{self._links}.2")
        self._build(one, f"ip link add name {names[0]} type veth peer name {names[1]}")
        self.join((one, other), names, addresses, mtu)
        return addresses

    def join(self, ends: tuple[str, str], devices: tuple[str, str], addresses: tuple[str, str], mtu: int) -> None:
        """Gives the two devices of a link, which stand in the first namespace, to each its own."""
        self._build(ends[0], f"ip link set {devices[1]} netns {ends[1]}")
        for end, device, address in zip(ends, devices, addresses, strict=True):
            self._build(end, f"ip address add {address}/30 dev {device} && ip link set {device} mtu {mtu} up")
            self._addresses.setdefault(end, []).append(address)
            self.devices.setdefault(end, []).append(device)

    def _build(self, end: str, script: str) -> None:
        try:
            self._made().build((end, script))
        except CoveyError as error:
            raise Failed(str(error)) from error

    def _made(self) -> Namespaces:
        if self.namespaces is None:
            raise Failed("add a namespace first")
        return self.namespaces

    # --- using -----------------------------------------------------------------------------------------------------

    def address(self, end: str) -> str:
        """The first address of a namespace."""
        return self._addresses[end][0]

    def command(self, end: str, argv: Sequence[str]) -> list[str]:
        return self._made().command(end, argv)

    def run(self, end: str, *argv: str) -> str:
        """Runs a program to its end in a namespace; what it printed. Failed if it does not work."""
        try:
            return self._made().run(end, *argv)
        except CoveyError as error:
            raise Failed(str(error)) from error


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
