"""The local API: the table of its routes and what each does.

`ROUTES` is the one place that names a path; `http.py` serves it, `openapi.py` describes it,
`docs/reference-api.md` is checked against it. A handler gets the running `Service` and its decoded request
and returns a structure; it knows nothing of HTTP, raises `CoveyError`, and is a test's function call away.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec

from covey.base.config import Value
from covey.base.constants import MESSAGE_LIMIT
from covey.base.errors import LimitError, NotFoundError, UsageError
from covey.base.events import AnyEvent, RecentEvents, kind
from covey.base.schema import (
    CountView,
    IntroductionView,
    Items,
    MessageView,
    NameView,
    NetcheckView,
    NetworkView,
    NodeView,
    PeerView,
    PingView,
    SendView,
    SettingView,
    StreamView,
)
from covey.daemon import openapi, requests
from covey.daemon.options import Settings
from covey.daemon.sse import Push
from covey.node import Node, Stream
from covey.node.bus import Follower

__all__ = ["BATCH_BODY_LIMIT", "BODY_LIMIT", "ROUTES", "Route", "Service"]

BODY_LIMIT = 2 * 1024 * 1024
"""Largest request body, bytes: one message of `MESSAGE_LIMIT` in base64, with room. Ours."""

BATCH_BODY_LIMIT = 16 * 1024 * 1024
"""Largest batch body, bytes. Ours."""


T = TypeVar("T")


class Service(Protocol):
    """What the handlers may use of the running daemon."""

    node: Node
    chosen: Settings

    def offer_stream(self, stream: Stream) -> StreamView:
        """Keep an open stream until somebody attaches to it on `stream.sock`."""

    def stop(self) -> None:
        """Begin to drain; returns at once."""

    def until_stopped(self, source: AsyncIterator[T]) -> AsyncIterator[T]:
        """What `source` gives until the daemon stops."""


@dataclass(frozen=True)
class Route:
    """One request of the API. `answer` is the type that `handle` returns."""

    method: str
    path: str
    handle: Callable[[Service, Any], Awaitable[Any]]
    request: type[msgspec.Struct]
    answer: Any
    summary: str
    limit: int = BODY_LIMIT
    pushes: bool = False
    """`handle` returns an iterator of `sse.Push`, sent as server-sent events whose data is of type `answer`."""


async def status(service: Service, request: requests.Nothing) -> NodeView:
    return service.node.view()


async def show_network(service: Service, request: requests.Nothing) -> NetworkView:
    return service.node.network_view()


async def netcheck(service: Service, request: requests.Nothing) -> NetcheckView:
    return await service.node.netcheck()


async def show_name(service: Service, request: requests.Nothing) -> NameView:
    return service.node.name_view()


async def set_name(service: Service, request: requests.NameRequest) -> NameView:
    return await service.node.set_name(request.name, wait=request.wait)


async def release_name(service: Service, request: requests.ReleaseRequest) -> NameView:
    return await service.node.release_name(wait=request.wait)


async def config(service: Service, request: requests.Nothing) -> Items[SettingView]:
    return Items([_setting_view(key, value, service.node.view()) for key, value in service.chosen.values.items()])


async def list_peers(service: Service, request: requests.Nothing) -> Items[PeerView]:
    return Items(service.node.peers())


async def list_pending(service: Service, request: requests.Nothing) -> Items[PeerView]:
    return Items(service.node.pending())


async def show_peer(service: Service, request: requests.PeerRequest) -> PeerView:
    matches = [peer for peer in service.node.peers() if _is_named(peer, request.peer)]
    trusted = [peer for peer in matches if peer.trust == "trusted"]
    if len(trusted) == 1:
        return trusted[0]
    if not matches:
        raise NotFoundError(
            f"this agent does not know {request.peer!r}",
            code="unknown-peer",
            next_step=f"covey find {request.peer}",
        )
    if len(matches) > 1:
        raise UsageError(
            f"{len(matches)} peers are called {request.peer!r}",
            code="ambiguous-peer",
            next_step="covey peers, then use the identity",
        )
    return matches[0]


async def find(service: Service, request: requests.PeerRequest) -> PeerView:
    return await service.node.find(request.peer)


async def handshake(service: Service, request: requests.HandshakeRequest) -> PeerView:
    return await service.node.handshake(request.peer, request.reason, request.wait)


async def approve(service: Service, request: requests.PeerRequest) -> PeerView:
    return await service.node.approve(request.peer)


async def reject(service: Service, request: requests.RejectRequest) -> PeerView:
    return await service.node.reject(request.peer, request.reason)


async def untrust(service: Service, request: requests.PeerRequest) -> PeerView:
    return await service.node.untrust(request.peer)


async def open_introduction(service: Service, request: requests.IntroductionRequest) -> IntroductionView:
    return await service.node.open_introduction(request.seconds, ask=request.ask)


async def await_introduction(service: Service, request: requests.WaitRequest) -> IntroductionView:
    return await service.node.await_introduction(request.wait)


async def close_introduction(service: Service, request: requests.Nothing) -> IntroductionView:
    return await service.node.close_introduction()


async def introduce(service: Service, request: requests.IntroduceRequest) -> PeerView:
    return await service.node.introduce(request.invitation, request.wait, ask=request.ask)


async def ping(service: Service, request: requests.PeerRequest) -> PingView:
    return await service.node.ping(request.peer)


async def send(service: Service, request: requests.SendRequest) -> SendView:
    body = _body_bytes(request.body, request.body_b64)
    return await service.node.send(request.peer, body, request.type, id=request.id, ttl=request.ttl, wait=request.wait)


async def send_batch(service: Service, request: requests.BatchRequest) -> Items[SendView]:
    bodies = [_body_bytes(message.body, message.body_b64) for message in request.messages]
    ids = [message.id for message in request.messages if message.id is not None]
    if ids and len(ids) != len(bodies):
        raise UsageError("either every message of a batch has an id, or none")
    if len(set(ids)) != len(ids):
        raise UsageError("two messages of a batch have the same id")
    return Items(
        await service.node.send_many(request.peer, bodies, request.type, ids or None, request.ttl, request.wait)
    )


async def inbox_list(service: Service, request: requests.InboxRequest) -> Items[MessageView]:
    return Items(
        await service.node.inbox_list(all=request.all, limit=request.limit, after=request.after, bodies=request.bodies)
    )


async def inbox_show(service: Service, request: requests.MessageRequest) -> MessageView:
    return await service.node.inbox_get(request.id)


async def inbox_acknowledge(service: Service, request: requests.AcknowledgeRequest) -> CountView:
    return CountView(await service.node.inbox_acknowledge(request.numbers))


async def inbox_clear(service: Service, request: requests.ClearRequest) -> CountView:
    return CountView(await service.node.inbox_clear(all=request.all))


async def open_stream(service: Service, request: requests.StreamRequest) -> StreamView:
    return service.offer_stream(await service.node.open(request.peer, request.service, traffic=request.traffic))


async def inbox_follow(service: Service, request: requests.FollowRequest) -> AsyncIterator[Push]:
    return service.until_stopped(_message_pushes(await service.node.inbox_follow(request.last_event_id)))


async def events(service: Service, request: requests.EventsRequest) -> AsyncIterator[Push]:
    return service.until_stopped(_event_pushes(service.node.subscribe(request.chosen, after=request.last_event_id)))


async def recent_events(service: Service, request: requests.RecentEventsRequest) -> RecentEvents:
    return service.node.recent_events(request.chosen, limit=request.limit)


async def stop(service: Service, request: requests.Nothing) -> requests.StopView:
    service.stop()
    return requests.StopView(stopping=True, pid=os.getpid())


async def describe(service: Service, request: requests.Nothing) -> dict[str, Any]:
    return openapi.document(ROUTES, version=service.node.view().version)


_Peers = Items[PeerView]
_Sent = Items[SendView]
_Messages = Items[MessageView]

ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/v1/status",
        status,
        requests.Nothing,
        NodeView,
        "This node: identity, network, counts, findings.",
    ),
    Route(
        "GET",
        "/v1/network",
        show_network,
        requests.Nothing,
        NetworkView,
        "The network it is in: NAT, observers, candidates.",
    ),
    Route(
        "POST",
        "/v1/netcheck",
        netcheck,
        requests.Nothing,
        NetcheckView,
        "Measure now what the network allows, with each peer.",
    ),
    Route("GET", "/v1/name", show_name, requests.Nothing, NameView, "This agent's name, and who holds it for us."),
    Route("PUT", "/v1/name", set_name, requests.NameRequest, NameView, "Take another name, give up the old one."),
    Route("DELETE", "/v1/name", release_name, requests.ReleaseRequest, NameView, "Give the name up."),
    Route(
        "GET", "/v1/config", config, requests.Nothing, Items[SettingView], "The settings in force, and their origins."
    ),
    Route("GET", "/v1/peers", list_peers, requests.Nothing, _Peers, "Known peers."),
    Route("GET", "/v1/peers/{peer}", show_peer, requests.PeerRequest, PeerView, "One known peer."),
    Route(
        "GET",
        "/v1/pending",
        list_pending,
        requests.Nothing,
        _Peers,
        "Trust requests that wait for an answer.",
    ),
    Route("GET", "/v1/find/{peer}", find, requests.PeerRequest, PeerView, "Look a peer up in the network."),
    Route(
        "POST",
        "/v1/handshake",
        handshake,
        requests.HandshakeRequest,
        PeerView,
        "Ask a peer for mutual trust.",
    ),
    Route("POST", "/v1/approve", approve, requests.PeerRequest, PeerView, "Accept a trust request."),
    Route("POST", "/v1/reject", reject, requests.RejectRequest, PeerView, "Decline a trust request."),
    Route("POST", "/v1/untrust", untrust, requests.PeerRequest, PeerView, "End the trust in a peer."),
    Route(
        "POST",
        "/v1/introduction",
        open_introduction,
        requests.IntroductionRequest,
        IntroductionView,
        "Give out a one-time code to meet somebody by.",
    ),
    Route(
        "POST",
        "/v1/introduction/wait",
        await_introduction,
        requests.WaitRequest,
        IntroductionView,
        "What came of the code that was given out last.",
    ),
    Route(
        "POST",
        "/v1/introduction/close",
        close_introduction,
        requests.Nothing,
        IntroductionView,
        "Make the code worthless.",
    ),
    Route("POST", "/v1/introduce", introduce, requests.IntroduceRequest, PeerView, "Enter somebody else's code."),
    Route("POST", "/v1/ping", ping, requests.PeerRequest, PingView, "One round trip to a trusted peer."),
    Route("POST", "/v1/messages", send, requests.SendRequest, SendView, "Send one message."),
    Route(
        "POST",
        "/v1/messages/batch",
        send_batch,
        requests.BatchRequest,
        _Sent,
        "Send up to 256 messages in order.",
        limit=BATCH_BODY_LIMIT,
    ),
    Route("GET", "/v1/inbox", inbox_list, requests.InboxRequest, _Messages, "Messages that arrived."),
    Route(
        "GET",
        "/v1/inbox/follow",
        inbox_follow,
        requests.FollowRequest,
        MessageView,
        "The unread messages and every new one, as server-sent events.",
        pushes=True,
    ),
    Route(
        "GET",
        "/v1/inbox/{id}",
        inbox_show,
        requests.MessageRequest,
        MessageView,
        "One message, with its body.",
    ),
    Route(
        "POST",
        "/v1/inbox/acknowledge",
        inbox_acknowledge,
        requests.AcknowledgeRequest,
        CountView,
        "Mark messages as handled.",
    ),
    Route(
        "POST",
        "/v1/inbox/clear",
        inbox_clear,
        requests.ClearRequest,
        CountView,
        "Remove the acknowledged messages, or all.",
    ),
    Route(
        "POST",
        "/v1/streams",
        open_stream,
        requests.StreamRequest,
        StreamView,
        "Open a stream to a service.",
    ),
    Route(
        "GET",
        "/v1/events",
        events,
        requests.EventsRequest,
        AnyEvent,
        "Everything that changes, as server-sent events.",
        pushes=True,
    ),
    Route(
        "GET",
        "/v1/events/recent",
        recent_events,
        requests.RecentEventsRequest,
        RecentEvents,
        "The events that are remembered, the oldest first.",
    ),
    Route("POST", "/v1/stop", stop, requests.Nothing, requests.StopView, "Stop the daemon, cleanly."),
    Route("GET", "/v1/openapi.json", describe, requests.Nothing, dict[str, Any], "This description."),
)


async def _event_pushes(follower: Follower) -> AsyncIterator[Push]:
    yield Push(follower.position)
    async for event in follower:
        yield Push(event.id, kind(event), event)


async def _message_pushes(source: AsyncIterator[tuple[str, MessageView | None]]) -> AsyncIterator[Push]:
    async for position, message in source:
        yield Push(position, "message" if message else "", message)


def _setting_view(key: str, value: Value, node: NodeView) -> SettingView:
    """A setting as it is now: names and networks may have been remembered, or changed since the start."""
    text, origin, where = value
    now = {"hostname": node.name, "network": node.network}.get(key, text)
    if now != text:
        text, origin, where = now, "remembered", ""
    return SettingView(key, text or "", origin, where)


def _is_named(peer: PeerView, text: str) -> bool:
    return text in (peer.identity, peer.name, peer.address, peer.safety_number)


def _body_bytes(text: str | None, encoded: str | None) -> bytes:
    if (text is None) == (encoded is None):
        raise UsageError("give exactly one of `body` and `body_b64`")
    if text is not None:
        body = text.encode()
    else:
        assert encoded is not None
        try:
            body = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise UsageError("`body_b64` is not base64") from error
    if len(body) > MESSAGE_LIMIT:
        raise LimitError(
            f"the message has {len(body):,} bytes, the limit is {MESSAGE_LIMIT:,}",
            code="message-too-large",
            next_step="send it in parts, or open a stream",
        )
    return body
