"""How much one client, and all of them, may have of a rendezvous. Every number is our choice.

A client is an identity, and identities cost nothing to make; addresses cost something. These limits keep one broken
client from hurting the others and put a bound on memory, and one network address from taking every place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from covey.base.constants import LOG_LIMIT, RECORD_LIMIT

__all__ = [
    "DEPOSIT_TOKENS",
    "ERROR_TEXT_LIMIT",
    "LOG_BYTES_PER_TOKEN",
    "LOOK_SECONDS",
    "REQUEST_BYTES",
    "STREAMS_AT_ONCE",
    "Limits",
]

REQUEST_BYTES: Final = RECORD_LIMIT + LOG_LIMIT + 16
"""Largest body of a request: a PUBLISH with the longest record and log."""

LOG_BYTES_PER_TOKEN: Final = 700
"""A log that must be verified costs one token for so many bytes: four events, or 0.3 ms of Ed25519."""

DEPOSIT_TOKENS: Final = 10.0
"""A letter costs as much as ten other requests: an fsync of its own if nothing else is under way."""

STREAMS_AT_ONCE: Final = 4
"""Streams of one client that are not done here yet. Each may wait with a request for tokens, also after it ended: a
client that opens streams faster than its tokens come would fill our memory with them."""

LOOK_SECONDS: Final = 0.05
"""How often a client that is behind is looked at; one timer, and only while it is behind."""

ERROR_TEXT_LIMIT: Final = 200
"""Characters of a FAILED's message."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Numbers of one rendezvous; tests make them small. Times are seconds."""

    clients: int = 10_000
    """Clients served at a time; further ones hear `busy` ..."""
    clients_per_network: int = 2_500
    """... and so do further ones of one IPv4 address or IPv6 /64: room for a company behind one NAT."""
    requests_per_second: float = 50.0
    requests_burst: float = 200.0
    """A client's token bucket. Who asks faster is read more slowly: nothing is refused or queued here."""
    watches: int = 1024
    """Agents that one client may wait for ..."""
    watches_total: int = 500_000
    """... and all of them together: 250 MB at most."""
    untaken_bytes: int = 64 * 1024
    """Answers and pushes that a client has not acknowledged; beyond them its next request waits ..."""
    untaken_seconds: float = 10.0
    """... for so long, then its stream is reset."""
    turned_away_seconds: float = 10.0
    """How long we listen to a client that we have no room for, in order to say so."""
    keepalive_seconds: float = 60.0
    """A silent client is pinged after so long, so that a dead one is not introduced for hours. Clients ping
    more often because of their NATs, so this costs nothing as long as they live."""
    absent_seconds: float = 120.0
    """A client that stopped answering, or has no stream for the service, keeps its place so long."""
    sweep_seconds: float = 30.0
    boxes: int = 200_000
    """Mailboxes: as many as records."""
    box_letters: int = 256
    """Letters that wait for one agent. From two custodians half as many as the requests that an agent keeps."""
    box_bytes: int = 4 * 1024 * 1024
    network_bytes: int = 16 * 1024 * 1024
    """Letters from one IPv4 address or IPv6 /64, in all boxes."""
    mail_bytes: int = 1024 * 1024 * 1024
    """All letters."""
