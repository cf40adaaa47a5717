"""What a relay passes on besides packets: no more handshakes than anybody needs, and those made for their target.

Packets cannot be judged, and cost a target next to nothing. A handshake costs it much, so a relay looks at what it can
check itself, because it knows who its clients are and which transport keys they spoke with and published:

==================================== ===============================================================================
INITIATION                           mac1 fits a key of the target's that the relay knows
- of another key                     passes once a second: a target has up to four, a relay that just started knows one
RECORD_REQUEST                       mac1 fits the target's identity
answers, introductions               have a size of theirs
packets                              pass
anything else                        does not
==================================== ===============================================================================

All but packets have a rate for each direction of a circuit.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from covey.core import limits
from covey.core.connection import Connection
from covey.core.rates import Rates
from covey.crypto.credentials import TRANSPORT_KEYS_LIMIT
from covey.crypto.mac import MAC_SIZE, mac1, mac1_key, same
from covey.wire.datagram import (
    COOKIE_REPLY,
    COOKIE_REPLY_SIZE,
    INITIATION,
    INITIATION_SIZE,
    PACKET,
    RECORD_REQUEST,
    RECORD_REQUEST_SIZE,
    RECORD_RESPONSE,
    RESPONSE,
)
from covey.wire.introduction import INTRODUCTION_KINDS

__all__ = ["RelayFilter"]

OTHER_KEYS_RATE: Final = 1.0
OTHER_KEYS_BURST: Final = 2.0
"""Initiations a second, and at once, whose mac1 fits no key that we know."""

_LARGEST: Final = {
    RESPONSE: INITIATION_SIZE,
    COOKIE_REPLY: COOKIE_REPLY_SIZE,
    RECORD_RESPONSE: RECORD_REQUEST_SIZE,
    **dict.fromkeys(INTRODUCTION_KINDS, INITIATION_SIZE),
}


class RelayFilter:
    """Tell it what keys clients have; ask it for every datagram that is no packet."""

    def __init__(self) -> None:
        self._keys: dict[Connection, deque[bytes]] = {}
        self._rates = Rates(limits.SOURCE_RATE, limits.SOURCE_BURST, limits.SOURCES_LIMIT)
        self._others = Rates(OTHER_KEYS_RATE, OTHER_KEYS_BURST, limits.SOURCES_LIMIT)

    def __len__(self) -> int:
        """Clients that keys are known of."""
        return len(self._keys)

    def learn(self, client: Connection, transport_key: bytes) -> None:
        """A transport key of a client, from its session with us or a record it published."""
        known = self._keys.setdefault(client, deque(maxlen=TRANSPORT_KEYS_LIMIT))
        key = mac1_key(transport_key)
        if key not in known:
            known.append(key)

    def forget(self, client: Connection) -> None:
        self._keys.pop(client, None)

    def passes(self, now: float, circuit: int, target: Connection, datagram: memoryview) -> bool:
        """Whether `datagram`, without its relay header, may go to `target` over this circuit."""
        kind = datagram[0]
        if kind == PACKET:
            return True
        direction = (circuit, target.peer)
        if kind == INITIATION:
            if len(datagram) != INITIATION_SIZE:
                return False
            fits = any(_fits(key, datagram) for key in self._keys.get(target, ()))
            return self._rates.take(now, direction) if fits else self._others.take(now, direction)
        if kind == RECORD_REQUEST:
            if len(datagram) != RECORD_REQUEST_SIZE or not _fits(mac1_key(target.peer), datagram):
                return False
        elif len(datagram) > _LARGEST.get(kind, 0):
            return False
        return self._rates.take(now, direction)


def _fits(key: bytes, datagram: memoryview) -> bool:
    return same(mac1(key, datagram[: -2 * MAC_SIZE]), datagram[-2 * MAC_SIZE : -MAC_SIZE])
