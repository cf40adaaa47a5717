"""The handlers, called as functions: no socket, no HTTP."""

from __future__ import annotations

import asyncio
import base64
import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest

from covey.base.config import ConfigFile
from covey.base.constants import MESSAGE_LIMIT
from covey.base.errors import CoveyError, LimitError, NotFoundError, UsageError
from covey.base.schema import StreamView
from covey.daemon import api
from covey.daemon.api import ROUTES
from covey.daemon.options import Options, settings
from tests.daemon.memory import PEER_IDENTITY, PEER_NAME, SAFETY_NUMBER, MemoryNode, MemoryStream


class FakeService:
    def __init__(self) -> None:
        self.node = MemoryNode()
        self.offered: list[MemoryStream] = []
        self.stopped = False
        self.chosen = settings(Options(listen="127.0.0.1:1"), ConfigFile(), {})

    def offer_stream(self, stream: MemoryStream) -> StreamView:
        self.offered.append(stream)
        return StreamView("token", "/stream.sock", 30.0)

    def stop(self) -> None:
        self.stopped = True

    def until_stopped(self, source: AsyncIterator[Any]) -> AsyncIterator[Any]:
        return source


def call(service: FakeService, handler: Any, /, **fields: Any) -> Any:
    route = next(route for route in ROUTES if route.handle is handler)
    return asyncio.run(handler(service, msgspec.convert(fields, route.request)))


def test_routes_are_unique_and_typed() -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    for route in ROUTES:
        hints = get_type_hints(route.handle)
        assert hints["request"] is route.request
        if not route.pushes:
            assert hints["return"] == route.answer


def test_routes_name_each_path_parameter_in_the_request() -> None:
    for route in ROUTES:
        fields = {field.name for field in msgspec.structs.fields(route.request)}
        names = {part[1:-1] for part in route.path.split("/") if part.startswith("{")}
        assert names <= fields


def test_handlers_are_coroutine_functions() -> None:
    assert all(inspect.iscoroutinefunction(route.handle) for route in ROUTES)


@pytest.mark.parametrize("name", [PEER_NAME, PEER_IDENTITY, "1111.2222.3333", SAFETY_NUMBER])
def test_show_peer_knows_a_peer_by(name: str) -> None:
    assert call(FakeService(), api.show_peer, peer=name).identity == PEER_IDENTITY


def test_show_peer_prefers_the_trusted_one_of_a_name() -> None:
    service = FakeService()
    node = service.node
    stranger = msgspec.structs.replace(node.peers()[0], identity="c" * 52)
    friend = msgspec.structs.replace(node.peers()[0], identity="d" * 52, trust="trusted")
    node.peers = lambda: [stranger, friend]  # type: ignore[method-assign]
    assert call(service, api.show_peer, peer=PEER_NAME) is friend


def test_show_peer_does_not_choose_between_strangers() -> None:
    service = FakeService()
    node = service.node
    both = [msgspec.structs.replace(node.peers()[0], identity=letter * 52) for letter in "cd"]
    node.peers = lambda: both  # type: ignore[method-assign]
    with pytest.raises(UsageError) as caught:
        call(service, api.show_peer, peer=PEER_NAME)
    assert caught.value.code == "ambiguous-peer"


def test_show_peer_says_how_to_find_an_unknown_one() -> None:
    with pytest.raises(NotFoundError) as caught:
        call(FakeService(), api.show_peer, peer="nobody")
    assert (caught.value.code, caught.value.next_step) == ("unknown-peer", "covey find nobody")


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ({"body": "héllo"}, "héllo".encode()),
        ({"body_b64": base64.b64encode(b"\x00\xff").decode(), "type": "binary"}, b"\x00\xff"),
        ({"body": ""}, b""),
    ],
)
def test_send_passes_the_bytes_on(fields: dict[str, Any], body: bytes) -> None:
    service = FakeService()
    view = call(service, api.send, peer=PEER_NAME, id="a" * 32, ttl=60.0, wait=1.0, **fields)
    assert view.id == "a" * 32
    assert service.node.sent == [(PEER_NAME, body, fields.get("type", "text"), "a" * 32, 60.0, 1.0)]


@pytest.mark.parametrize(
    ("fields", "cls", "code"),
    [
        ({}, UsageError, "usage"),
        ({"body": "a", "body_b64": "YQ=="}, UsageError, "usage"),
        ({"body_b64": "no base64!"}, UsageError, "usage"),
        ({"body_b64": "YQ"}, UsageError, "usage"),
        ({"body": "x" * (MESSAGE_LIMIT + 1)}, LimitError, "message-too-large"),
        ({"body": "é" * (MESSAGE_LIMIT // 2 + 1)}, LimitError, "message-too-large"),
    ],
)
def test_send_refuses(fields: dict[str, Any], cls: type[CoveyError], code: str) -> None:
    service = FakeService()
    with pytest.raises(cls) as caught:
        call(service, api.send, peer=PEER_NAME, **fields)
    assert caught.value.code == code
    assert service.node.sent == []


def test_send_batch_keeps_order_and_ids() -> None:
    service = FakeService()
    messages = [{"body": str(number), "id": f"{number:032x}"} for number in range(3)]
    answer = call(service, api.send_batch, peer=PEER_NAME, messages=messages, wait=0.0)
    assert [view.id for view in answer.items] == [message["id"] for message in messages]
    assert [body for _, body, *_ in service.node.sent] == [b"0", b"1", b"2"]


@pytest.mark.parametrize("ids", [["a" * 32, None], ["a" * 32, "a" * 32]], ids=["some-without", "the-same-twice"])
def test_send_batch_refuses_ids_that_are(ids: list[str | None]) -> None:
    with pytest.raises(UsageError):
        call(
            FakeService(),
            api.send_batch,
            peer=PEER_NAME,
            messages=[{"body": "x", "id": each} for each in ids],
        )


def test_send_batch_takes_at_most_256() -> None:
    with pytest.raises(msgspec.ValidationError):
        call(FakeService(), api.send_batch, peer=PEER_NAME, messages=[{"body": "x"}] * 257)


def test_inbox_pages_by_the_last_number() -> None:
    service = FakeService()
    for number in range(5):
        service.node.receive(str(number))
    first = call(service, api.inbox_list, limit=2).items
    second = call(service, api.inbox_list, limit=2, after=first[-1].number).items
    assert [message.number for message in first + second] == [1, 2, 3, 4]


def test_open_stream_offers_it() -> None:
    service = FakeService()
    view = call(service, api.open_stream, peer=PEER_NAME, service="echo")
    assert view.token == "token"
    assert service.offered == service.node.streams


def test_name_is_shown_set_and_released() -> None:
    service = FakeService()
    assert call(service, api.set_name, name="fourth").name == "fourth"
    assert call(service, api.show_name).chosen
    assert not call(service, api.release_name).chosen


def test_stop_begins_to_drain() -> None:
    service = FakeService()
    assert call(service, api.stop).stopping
    assert service.stopped


def test_reference_page_names_every_route() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference-api.md").read_text()
    assert [f"{route.method} {route.path}" for route in ROUTES if f"`{route.method} {route.path}`" not in page] == []
