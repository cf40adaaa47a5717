"""What the local API takes: one structure per request, and the answers that only the API gives.

Path and query parameters are fields too. Unknown fields are refused, so that a misspelt option is an error
and not silence; the answers are the structures of `covey.base.schema`, lists wrapped as `{"items": [...]}` so
that they can grow fields.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from covey.base.constants import INTRODUCTION_LIMIT_SECONDS, INTRODUCTION_SECONDS
from covey.base.schema import MessageType

__all__ = [
    "BATCH_LIMIT",
    "AcknowledgeRequest",
    "BatchMessage",
    "BatchRequest",
    "ClearRequest",
    "EventsRequest",
    "FollowRequest",
    "HandshakeRequest",
    "InboxRequest",
    "IntroduceRequest",
    "IntroductionRequest",
    "MessageRequest",
    "NameRequest",
    "Nothing",
    "PeerRequest",
    "RecentEventsRequest",
    "RejectRequest",
    "ReleaseRequest",
    "SendRequest",
    "StopView",
    "StreamRequest",
    "WaitRequest",
]

BATCH_LIMIT = 256
"""Most messages in one batch request. Ours: a few megabytes of typical messages, one fsync."""

PeerText = Annotated[str, Meta(min_length=1, max_length=200, description="A name, address, identity or safety number.")]
MessageId = Annotated[str, Meta(pattern="^[0-9a-f]{32}$", description="32 hex digits, made by the sender.")]
Seconds = Annotated[float, Meta(ge=0)]
ReasonText = Annotated[str, Meta(max_length=1000)]
EventTypes = Annotated[str, Meta(max_length=1000, description="Names, or families as `message.*`; commas between.")]


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request without parameters."""


class NameRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another name for this agent."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    wait: Seconds = 5.0
    """Seconds to wait until every connected rendezvous knows."""


class ReleaseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Gives the name up."""

    wait: Seconds = 5.0


class PeerRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names one peer."""

    peer: PeerText


class HandshakeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Asks a peer for trust."""

    peer: PeerText
    reason: ReasonText = ""
    wait: Seconds = 0.0
    """Seconds to wait for the peer's answer."""


class IntroductionRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Opens a window for one introduction."""

    seconds: Annotated[float, Meta(ge=1, le=INTRODUCTION_LIMIT_SECONDS)] = INTRODUCTION_SECONDS
    """How long the code is good for."""
    ask: bool = False
    """Leave trust to `approve`."""


class IntroduceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Enters the code of somebody else's window."""

    invitation: Annotated[str, Meta(max_length=1000, description="CODE@PLACE,PLACE...")]
    wait: Annotated[float, Meta(gt=0, le=INTRODUCTION_LIMIT_SECONDS)] = 20.0
    """Seconds to try."""
    ask: bool = False
    """Leave trust to `approve`."""


class WaitRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Waits for something to happen."""

    wait: Seconds = 0.0
    """At most so many seconds."""


class RejectRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Declines a peer."""

    peer: PeerText
    reason: ReasonText = ""


class SendRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message; exactly one of `body` (text or JSON text) and `body_b64` (bytes of any type)."""

    peer: PeerText
    type: MessageType = "text"
    body: str | None = None
    body_b64: str | None = None
    id: MessageId | None = None
    ttl: Annotated[float, Meta(gt=0)] | None = None
    """Seconds after which an undelivered message is given up."""
    wait: Seconds = 5.0
    """Seconds to wait for the delivery before the answer is `queued`."""


class BatchMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message of a batch; exactly one of `body` and `body_b64`."""

    body: str | None = None
    body_b64: str | None = None
    id: MessageId | None = None


class BatchRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Up to 256 messages of one type to one peer, kept in this order."""

    peer: PeerText
    messages: Annotated[list[BatchMessage], Meta(min_length=1, max_length=BATCH_LIMIT)]
    type: MessageType = "text"
    ttl: Annotated[float, Meta(gt=0)] | None = None
    wait: Seconds = 5.0


class InboxRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A page of the inbox."""

    all: bool = False
    """Also those that are acknowledged."""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    after: Annotated[int, Meta(ge=0)] = 0
    """Only messages with a higher number: the last number seen asks for the next page."""
    bodies: bool = True


class MessageRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message of the inbox."""

    id: Annotated[str, Meta(pattern="^([0-9]{1,18}|[0-9a-f]{32})$", description="The number in the inbox, or the id.")]


class AcknowledgeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Messages by their numbers."""

    numbers: Annotated[list[Annotated[int, Meta(ge=1)]], Meta(min_length=1, max_length=10_000)]


class ClearRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to remove from the inbox."""

    all: bool = False
    """Also those that are not acknowledged."""


class FollowRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to begin in the inbox: the `id` of the last message that was handled; without one, the unread ones."""

    last_event_id: str | None = None


class EventsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which events, and after which."""

    types: EventTypes = ""
    last_event_id: str | None = None
    """Also taken from the header `Last-Event-ID`."""

    @property
    def chosen(self) -> list[str]:
        return _words(self.types)


class RecentEventsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which of the remembered events."""

    types: EventTypes = ""
    limit: Annotated[int, Meta(ge=1, le=1024)] = 1024

    @property
    def chosen(self) -> list[str]:
        return _words(self.types)


class StreamRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stream to a service of a peer."""

    peer: PeerText
    service: Annotated[str, Meta(min_length=1, max_length=200)]
    traffic: Literal["interactive", "default", "bulk"] = "default"


class StopView(msgspec.Struct, frozen=True):
    """The daemon drains and ends; `pid` is what to wait for."""

    stopping: bool
    pid: int


def _words(text: str) -> list[str]:
    return [word for word in (part.strip() for part in text.split(",")) if word]
