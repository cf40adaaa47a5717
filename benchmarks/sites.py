"""Sites that are worse than a plain link: with loss, with a delay, or with a third place in between."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.beside import running
from benchmarks.install import debian
from benchmarks.lab import Lab, need_tun
from covey.bench.pair import Failed, Site

__all__ = ["delayed", "lossy", "relayed"]

_ENDS = ("server", "client")
_MTU = 1500
_BUFFERS = "4096 131072 67108864"
"""Least, first and most bytes of a TCP socket on a link with a delay: the usual most of 4 MB would be what is measured
at 50 ms, and Covey's windows are as large."""
_QUEUE = 5000
"""Packets that a device holds before the link takes them."""
_NFT = ("nftables", "libnftables1", "libnftnl11", "libjansson4", "libedit2", "libbsd0", "libmd0")
"""What `nft` needs that does not come with `ip`."""


@contextmanager
def lossy(per_mille: int) -> Iterator[Site]:
    """A veth pair that loses so many of 1000 packets in each direction, none larger than the MTU (PROTOCOL 38)."""
    with _two_ends() as lab:
        lab.link(*_ENDS, mtu=_MTU)
        for end in _ENDS:
            lab.run(end, sys.executable, "-m", "benchmarks.offloads", *lab.devices[end])
        _lose(lab, per_mille)
        lab.name = f"veth without super-packets, {per_mille / 10:g} % lost each way"
        yield lab


@contextmanager
def delayed(one_way_us: int, *, per_mille: int = 0, mbit: float = 0.0, queue: int = 0) -> Iterator[Site]:
    """Two TUN devices with a process between them (`benchmarks.link`). `queue`: bytes that may wait for the limited
    link, packet by packet; 0 for a megabyte of whatever comes."""
    need_tun()
    devices, addresses = ("cvnear", "cvfar"), ("10.77.0.1", "10.77.0.2")
    argv = [sys.executable, "-m", "benchmarks.link", "--devices", *devices, "--delay-us", str(one_way_us)]
    if mbit:
        argv += ["--mbit", str(mbit)]
    if queue:
        argv += ["--queue", str(queue)]
    if per_mille or queue:
        argv.append("--no-offloads")
    with _two_ends() as lab, running(lab, _ENDS[0], argv):
        for device in devices:
            lab.run(_ENDS[0], "ip", "link", "set", device, "txqueuelen", str(_QUEUE))
        lab.join(_ENDS, devices, addresses, _MTU)
        for end in _ENDS:
            for which in ("tcp_rmem", "tcp_wmem"):
                _set(lab, end, which, _BUFFERS)
        if per_mille:
            _lose(lab, per_mille)
        lab.name = f"user-space link, {one_way_us * 2 / 1000:g} ms there and back" + (
            f", {per_mille / 10:g} % lost each way" if per_mille else ""
        )
        yield lab


@contextmanager
def relayed() -> Iterator[Site]:
    """A third place, `relay`, with a veth pair to each end and nothing that forwards: the ends reach only the relay."""
    with _two_ends() as lab:
        lab.add("relay")
        relay, _ = lab.link("relay", "server", mtu=_MTU)
        gateway, _ = lab.link("relay", "client", mtu=_MTU)
        # Both know the relay by one address.
        lab.run("client", "ip", "route", "add", relay, "via", gateway)
        lab.name = "three network namespaces, veth, the ends only by way of the third"
        yield lab


@contextmanager
def _two_ends() -> Iterator[Lab]:
    with Lab() as lab:
        for end in _ENDS:
            lab.add(end)
        yield lab


def _lose(lab: Lab, per_mille: int) -> None:
    nft = _nft()
    rules = (
        "add table inet bench",
        "add chain inet bench loss { type filter hook prerouting priority -300; }",
        f'add rule inet bench loss iifname != "lo" numgen random mod 1000 < {per_mille} drop',
    )
    for end in _ENDS:
        lab.run(end, *nft, "; ".join(rules))


def _nft() -> list[str]:
    if shutil.which("nft"):
        return ["nft"]
    try:
        package = debian(*_NFT)
        libraries = ":".join(str(each) for each in (package.root / "usr/lib").glob("*-linux-gnu"))
        return ["env", f"LD_LIBRARY_PATH={libraries}", package.program("nft")]
    except Failed as failed:
        raise Failed(f"apt-get install nftables, for links with loss ({failed})") from failed


def _set(lab: Lab, end: str, name: str, value: str) -> None:
    """Of a namespace of its own, whoever asks."""
    lab.run(end, "sh", "-c", f"echo {shlex.quote(value)} > /proc/sys/net/ipv4/{name}")
