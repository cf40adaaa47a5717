"""Which ports a NAT that counts gives its next mappings (DESIGN 6.4).

Such a *sequential* NAT takes a new port for every destination, the last one plus a step. From the last port that
somebody saw, the one that leads to us is near: how near depends on how many mappings were made since.

If only one side counts, the other one tries all ports around the last. If both count, every packet to another port
takes another port itself: the packet that leaves from the port which the peer is aiming at must aim at the port from
which the peer does so. With both walking one port at a time they would pass each other for ever; so one walks twice as
fast, and however far each of the two counters has moved, the walks meet (`walk`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["FIRST_PORT", "PORT_COUNT", "REACH", "around", "newest", "walk"]

FIRST_PORT: Final = 1024
PORT_COUNT: Final = 65_536 - FIRST_PORT
"""External ports: all but the well-known (RFC 4787, REQ-3 a). What counts beyond the last begins with the first."""
REACH: Final = 32
"""Steps before and behind the last port that are tried."""


def newest(observed: Sequence[int], step: int) -> int:
    """Of the ports (at least one) that a counting NAT gave, the one that was given last."""
    found = observed[0]
    for port in observed[1:]:
        ahead = (port - found) * (1 if step > 0 else -1) % PORT_COUNT
        if 0 < ahead < PORT_COUNT // 2:
            found = port
    return found


def around(last: int, step: int) -> list[int]:
    """The ports up to `REACH` steps behind and before `last`, the likeliest first. `last` itself is taken."""
    ports = [_shifted(last, sign * step * far) for far in range(1, REACH + 1) for sign in (1, -1)]
    return list(dict.fromkeys(ports))


def walk(last: int, step: int, *, pace: int) -> list[int]:
    """Ports to send to, in this order, one new mapping each, while the peer does the same with the other pace, 1 or 2.

    With counters that moved by m and n mappings before the first packet of the slow and the fast side, the slow side's
    packet m + 2n and the fast side's m + n, both counted from 0, go between the same two ports.
    """
    return [_shifted(last, step * (1 + pace * count)) for count in range(2 * REACH)]


def _shifted(port: int, by: int) -> int:
    return FIRST_PORT + (port - FIRST_PORT + by) % PORT_COUNT
