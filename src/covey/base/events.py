"""What a node tells whoever follows it: the events of `GET /v1/events`, `covey events` and `Node.subscribe`.

Schema version 1: types and fields are only ever added, so a reader ignores what it does not know. Identities, times
and the rest are written as in `covey.base.schema`. `docs/reference-api.md` lists every type and field; a test holds it
against `EVENTS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from covey.base.errors import UsageError
from covey.base.schema import SCHEMA_VERSION, TrustState

__all__ = [
    "EVENTS",
    "AnyEvent",
    "Event",
    "Gap",
    "IntroductionFailed",
    "MessageDelivered",
    "MessageExpired",
    "MessageReceived",
    "MessageRefused",
    "NameChanged",
    "NetworkChanged",
    "PeerConnected",
    "PeerDisconnected",
    "PeerEvent",
    "PeerForked",
    "PeerIntroduced",
    "PeerKeys",
    "PeerPath",
    "RecentEvents",
    "RendezvousChanged",
    "RendezvousContradiction",
    "TrustChanged",
    "chosen_types",
    "kind",
]


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """Something that happened. The node gives it `id` and `time` when it is published."""

    schema: int = SCHEMA_VERSION
    id: str = ""
    """Its place in this run of the node: what to send as `Last-Event-ID` to go on after it."""
    time: float = 0.0


class PeerEvent(Event, frozen=True, kw_only=True):
    """Something that happened with a peer."""

    peer: str = ""
    """Identity."""
    name: str = ""
    """What this node calls it; "" if it has no name here."""


class PeerConnected(PeerEvent, frozen=True, kw_only=True, tag="peer.connected"):
    """A session with the peer is up."""

    resumed: bool
    """The connection is the one that stalled before: its streams go on."""


class PeerDisconnected(PeerEvent, frozen=True, kw_only=True, tag="peer.disconnected"):
    """The connection with the peer is over."""

    reason: str


class PeerPath(PeerEvent, frozen=True, kw_only=True, tag="peer.path"):
    """Packets to a trusted peer take another way, or the same for another reason, or a way in reserve came or went."""

    direct: bool
    """False: through a relay."""
    remote: str
    """HOST:PORT they are sent to."""
    reason: str = ""
    """Why: a code of `docs/reasons.md`."""
    relay: str = ""
    """The name of the peer that relays, or `rendezvous`; "" if it is direct."""
    transport: Literal["udp", "websocket"] = "udp"
    paths: int = 1
    """How many ways work, this one included."""


class PeerForked(PeerEvent, frozen=True, kw_only=True, tag="peer.forked"):
    """Two different key rotations of the peer's identity exist: one of its keys is in foreign hands."""


class PeerIntroduced(PeerEvent, frozen=True, kw_only=True, tag="peer.introduced"):
    """The peer and this agent met by a one-time code. Trust is told apart."""


class IntroductionFailed(Event, frozen=True, kw_only=True, tag="introduction.failed"):
    """A one-time code that this agent gave out, or entered, came to nothing."""

    reason: str
    """`window-expired`, `too-many-tries`, `no-answer`, or the code of the check that somebody failed who had it."""


class PeerKeys(PeerEvent, frozen=True, kw_only=True, tag="peer.keys"):
    """A trusted peer's root key was rotated or revoked, as a rendezvous told; what the old one vouched for ends."""

    sequence: int
    """Of its key-event log."""
    revoked: bool


class TrustChanged(PeerEvent, frozen=True, kw_only=True, tag="trust.changed"):
    """The trust in a peer is in another state."""

    state: TrustState
    reason: str
    """Of the request or the refusal."""


class MessageReceived(PeerEvent, frozen=True, kw_only=True, tag="message.received"):
    """Messages of the peer are in the inbox; `GET /v1/inbox` has them."""

    count: int


class MessageDelivered(PeerEvent, frozen=True, kw_only=True, tag="message.delivered"):
    """The peer has our message on its disk."""

    message: str
    """The message's id, 32 hex digits."""


class MessageRefused(PeerEvent, frozen=True, kw_only=True, tag="message.refused"):
    """The peer will never take our message."""

    message: str
    """The message's id, 32 hex digits."""
    reason: str


class MessageExpired(PeerEvent, frozen=True, kw_only=True, tag="message.expired"):
    """The time to live of our message was over before the peer had it."""

    message: str
    """The message's id, 32 hex digits."""


class NameChanged(Event, frozen=True, kw_only=True, tag="name.changed"):
    """This agent goes by another name."""

    name: str
    before: str


class RendezvousChanged(Event, frozen=True, kw_only=True, tag="rendezvous.changed"):
    """A rendezvous was connected, was lost, or sees this node elsewhere: `GET /v1/status` says which."""

    connected: int
    rendezvous: int
    """Of the network."""


class NetworkChanged(Event, frozen=True, kw_only=True, tag="network.changed"):
    """What stands between this machine and the network was measured to be other than before."""

    nat: str
    """`none`, `full-cone`, `port-restricted`, `symmetric`... as `covey netcheck` calls it."""
    before: str
    """"" if it is the first measurement of this run."""
    udp: bool | None
    """A rendezvous answered over UDP."""
    public: list[str]
    """The IP addresses at which others see us."""


class RendezvousContradiction(Event, frozen=True, kw_only=True, tag="rendezvous.contradiction"):
    """A rendezvous said what cannot be true, and was not believed. Again once an hour while it goes on."""

    rendezvous: str
    """Identity."""
    endpoint: str
    kind: str
    """`invalid`, `rollback`, `behind`, `two-records` or `fork`: `docs/security.md`."""
    peer: str
    """The identity it was about, or ""."""
    name: str
    count: int


class Gap(Event, frozen=True, kw_only=True, tag="gap"):
    """Events are missing here. It is never filtered out; read again what is followed."""

    reason: Literal["too-slow", "too-old", "restarted"]
    """`too-slow`: this reader did not keep up. `too-old`: what came after the given id is no longer remembered.
    `restarted`: the id is from another run of the node."""
    lost: int | None
    """How many events of any type; None if that is not known."""


AnyEvent = (
    PeerConnected
    | PeerDisconnected
    | PeerPath
    | PeerForked
    | PeerIntroduced
    | IntroductionFailed
    | PeerKeys
    | TrustChanged
    | MessageReceived
    | MessageDelivered
    | MessageRefused
    | MessageExpired
    | NameChanged
    | NetworkChanged
    | RendezvousChanged
    | RendezvousContradiction
    | Gap
)

EVENTS: Final[dict[str, type[Event]]] = {str(each.__struct_config__.tag): each for each in AnyEvent.__args__}
"""Every type by its name."""


class RecentEvents(msgspec.Struct, frozen=True):
    """What is remembered, the oldest first, and the id after which what is new begins."""

    items: list[AnyEvent]
    position: str


def kind(event: Event) -> str:
    """The name of its type: `trust.changed`."""
    return str(event.__struct_config__.tag)


def chosen_types(patterns: Iterable[str]) -> frozenset[str]:
    """The types that `patterns` name: exactly, or all of a family as `peer.*`; all types if there is none.

    UsageError `unknown-event` for a pattern that names nothing. `gap` is always among them.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        family = pattern.removesuffix("*")
        named = {each for each in EVENTS if each == pattern or (family != pattern and each.startswith(family))}
        if not named:
            raise UsageError(
                f"there is no event {pattern!r}; there are {', '.join(EVENTS)}",
                code="unknown-event",
                next_step="name one of them, or a family: message.*",
            )
        chosen |= named
    return frozenset(chosen | {"gap"}) if chosen else frozenset(EVENTS)
