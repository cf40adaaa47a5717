"""What happened in the core, in order. The node takes events with `Endpoint.events()` once per turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from covey.base.types import Endpoint as Address
from covey.base.types import Identity

if TYPE_CHECKING:
    from covey.core.connection import Connection
    from covey.core.path import Route
    from covey.core.stream import Stream
    from covey.crypto.events import KeyLog
    from covey.wire.relay import Relaying

__all__ = [
    "AddressInDoubt",
    "ConnectionClosed",
    "ConnectionLive",
    "ConnectionStalled",
    "DatagramsReceived",
    "Event",
    "HandshakeConfirmed",
    "HandshakeFailed",
    "Introduced",
    "IntroductionFailed",
    "LastPathSuspected",
    "LogLearnt",
    "PathsChanged",
    "Ponged",
    "PortsUnused",
    "PortsWanted",
    "RecordReceived",
    "Reflected",
    "RelayingTold",
    "RelaysTold",
    "RoundAhead",
    "SeenByPeer",
    "StreamOffered",
    "StreamReadable",
    "StreamReset",
    "StreamWritable",
    "StreamsAllowed",
]


class Event:
    """Base of all events."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class AddressInDoubt(Event):
    """The peer says that it is at this address, to which we would send much. Who can tell calls `Endpoint.vouch`."""

    connection: Connection
    host: str


@dataclass(frozen=True, slots=True)
class RoundAhead(Event):
    """A direct path is looked for once more: peers should know by then where we are seen."""


@dataclass(frozen=True, slots=True)
class PortsWanted(Event):
    """`count` more local ports of a family (4 or 6) are wanted for this connection alone: `Endpoint.lend_ports`."""

    connection: Connection
    family: int
    count: int


@dataclass(frozen=True, slots=True)
class PortsUnused(Event):
    """Ports that were lent and may be closed."""

    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ConnectionLive(Event):
    """A session with a verified peer carries this connection; `resumed`: it carried it before too."""

    connection: Connection
    resumed: bool


@dataclass(frozen=True, slots=True)
class ConnectionStalled(Event):
    """No path of the connection answers. It waits for `Endpoint.connect` with fresh routes, or for the peer."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class ConnectionClosed(Event):
    """Gone, with its streams. `code` and `reason` are the peer's, or say what happened here."""

    connection: Connection
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class HandshakeFailed(Event):
    """An attempt of ours ended without a session. `code`: `no-answer` or that of the check that failed."""

    identity: Identity
    code: str


@dataclass(frozen=True, slots=True)
class HandshakeConfirmed(Event):
    """Replay state to persist for a pinned peer: message 1 of (identity, key) had this timestamp (PROTOCOL 11)."""

    identity: Identity
    key: bytes
    timestamp: int


@dataclass(frozen=True, slots=True)
class LogLearnt(Event):
    """A peer's key-event log, verified: keep it."""

    log: KeyLog


@dataclass(frozen=True, slots=True)
class RecordReceived(Event):
    """An agent answered a record request. Unverified bytes: `record` and `log` (which may be empty)."""

    identity: Identity
    record: bytes
    log: bytes


@dataclass(frozen=True, slots=True)
class Reflected(Event):
    """Who is at the other end of `route` sees what we send on it come from `seen`. Advice, as everything it says."""

    route: Route
    seen: Address


@dataclass(frozen=True, slots=True)
class SeenByPeer(Event):
    """A trusted peer says that what we send it on `route`, directly, comes from `seen`. Advice."""

    connection: Connection
    route: Route
    seen: Address


@dataclass(frozen=True, slots=True)
class RelayingTold(Event):
    """The peer relays for us from now on, or no longer."""

    connection: Connection
    relaying: Relaying


@dataclass(frozen=True, slots=True)
class RelaysTold(Event):
    """The relays that the peer may use towards us: its round trip to each in milliseconds, by tag."""

    connection: Connection
    round_trips: dict[bytes, int]


@dataclass(frozen=True, slots=True)
class Introduced(Event):
    """Whoever sent `record` from `route` knows the one-time code and holds the record's transport key.

    The record's signature is not verified yet: that needs the log, which a session fetches. `opened`: it was our own
    window, else the one whose code we entered.
    """

    record: bytes
    route: Route
    opened: bool


@dataclass(frozen=True, slots=True)
class IntroductionFailed(Event):
    """Our window (`opened`) or our entry of a code ended without anybody. `code`: see `core.introduction`."""

    code: str
    opened: bool


@dataclass(frozen=True, slots=True)
class PathsChanged(Event):
    """A path appeared, died, or another one became the active one."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class LastPathSuspected(Event):
    """Data gets no answer on the active path, and there is no other. Perhaps it will be stalled soon."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class StreamsAllowed(Event):
    """The peer allows more streams than before."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class StreamOffered(Event):
    """The peer opened a stream for `stream.service`. Use it, or `reset(REFUSED)`."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class StreamReadable(Event):
    """Bytes, the end, or both can be read. Not said again before something was read."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class StreamWritable(Event):
    """A writer that found no room finds some again."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class StreamReset(Event):
    """The peer (or the loss of the connection's state) ended the stream."""

    stream: Stream
    code: int


@dataclass(frozen=True, slots=True)
class DatagramsReceived(Event):
    """Unreliable pieces of bytes that belong to a stream's service: those of one packet, in order."""

    stream: Stream
    datagrams: list[bytes]


@dataclass(frozen=True, slots=True)
class Ponged(Event):
    """The answer to `Connection.ping(token)`: seconds there and back."""

    connection: Connection
    token: int
    rtt: float
