"""A link with a delay, in a process of its own: `python -m benchmarks.link`, because not every kernel has netem.

    --devices NEAR FAR  --delay-us N  [--mbit N]  [--queue BYTES]  [--no-offloads]

Makes two TUN devices, which whoever started it moves to their namespaces. What enters one leaves the other `delay`
later, in order, at most at the rate of `--mbit`, behind a queue that drops its tail. Prints `ready` once both devices
are there; ends with its input and then says, as one JSON object, what it carried and what that cost.

With offloads the kernel hands over whole super-packets of TCP and UDP (`virtio_net_hdr`, up to 64 KB: 45 datagrams of
ours) and takes them back the same way, 0.8 CPU seconds for a GB: 8 Gbit/s of TCP beside its two ends on two cores, 4.5
with 50 ms. Without offloads every packet passes alone: 0.5 Gbit/s.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import json
import os
import select
import struct
import sys
import time
from collections import deque
from contextlib import suppress

__all__ = ["main"]

# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_CSUM_AND_TSO = 0x01 | 0x02 | 0x04
_USO = 0x20 | 0x40
"""UDP super-packets, since Linux 6.2; without, the kernel cuts them before we see them."""

_READ = 65_535 + 10
"""Bytes: the longest IP packet behind a virtio_net_hdr."""
_BATCH = 64
"""Packets taken from one device before what is due is handed to the other."""
_PR_SET_TIMERSLACK = 29


class Way:
    """One direction."""

    def __init__(self, source: int, sink: int, delay_ns: int, byte_ns: float, queue: int) -> None:
        self.source = source
        self.carried = [0, 0, 0]
        """Packets, bytes, packets dropped."""
        self._sink = sink
        self._delay_ns = delay_ns
        self._byte_ns = byte_ns
        """How long a byte keeps the link busy; 0 for no limit."""
        self._queue_ns = queue * byte_ns
        self._free_ns = 0.0
        """When the link has sent all that it took."""
        self._flying: deque[tuple[int, bytes]] = deque()

    def take(self) -> None:
        """Takes what waits at the source, up to a batch."""
        for _ in range(_BATCH):
            try:
                packet = os.read(self.source, _READ)
            except BlockingIOError:
                return
            leaves = time.monotonic_ns()
            if self._byte_ns:
                begins = max(leaves, self._free_ns)
                if begins - leaves > self._queue_ns:
                    self.carried[2] += 1
                    continue
                self._free_ns = begins + len(packet) * self._byte_ns
                leaves = int(self._free_ns)
            self._flying.append((leaves + self._delay_ns, packet))

    def give(self) -> float | None:
        """Hands over what has arrived; seconds until the next arrival, None if nothing is under way."""
        flying = self._flying
        while flying:
            due, packet = flying[0]
            early = due - time.monotonic_ns()
            if early > 0:
                return early / 1e9
            flying.popleft()
            try:
                os.write(self._sink, packet)
            except OSError:  # the device is down or full: lost, as on a wire
                self.carried[2] += 1
            else:
                self.carried[0] += 1
                self.carried[1] += len(packet)
        return None


def carry(ways: list[Way], until: int) -> None:
    """Until there is something to read, or an end, at the descriptor `until`."""
    by_source = {way.source: way for way in ways}
    sources = [*by_source, until]
    while True:
        waits = [wait for way in ways if (wait := way.give()) is not None]
        # Not epoll, which counts in milliseconds.
        readable, _, _ = select.select(sources, (), (), min(waits) if waits else None)
        if until in readable:
            return
        for source in readable:
            by_source[source].take()


def tun(name: str, *, offloads: bool) -> int:
    """A new TUN device; its descriptor. OSError if we may not."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR))
    fcntl.ioctl(descriptor, _TUNSETOFFLOAD, _CSUM_AND_TSO if offloads else 0)
    if offloads:
        with suppress(OSError):
            fcntl.ioctl(descriptor, _TUNSETOFFLOAD, _CSUM_AND_TSO | _USO)
    return descriptor


def main() -> int:
    arguments = _arguments()
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1_000, 0, 0, 0)  # nanoseconds; 50,000 otherwise
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)  # whoever waits for a core here delays everybody
    near, far = (tun(name, offloads=not arguments.no_offloads) for name in arguments.devices)
    delay_ns, byte_ns = arguments.delay_us * 1_000, 8_000 / arguments.mbit if arguments.mbit else 0.0
    ways = [Way(source, sink, delay_ns, byte_ns, arguments.queue) for source, sink in ((near, far), (far, near))]
    print("ready", flush=True)
    carry(ways, sys.stdin.fileno())
    print(json.dumps({"ways": [way.carried for way in ways], "cpu_s": round(time.process_time(), 3)}))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.link", description=__doc__)
    parser.add_argument("--devices", nargs=2, required=True)
    parser.add_argument("--delay-us", type=int, required=True, help="one way, in microseconds")
    parser.add_argument("--mbit", type=float, default=0.0, help="Mbit/s each way; 0 for no limit")
    parser.add_argument("--queue", type=int, default=1_000_000, help="bytes that may wait for a limited link")
    parser.add_argument("--no-offloads", action="store_true", help="every packet alone, so that loss hits single ones")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
