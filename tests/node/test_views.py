from __future__ import annotations

from pathlib import Path

from covey.base.types import Identity
from covey.node import views
from covey.node.storage import InboxMessage
from covey.testing.world import World
from tests.node.stage import Play, about, friends, network, trust


def message(**changes: object) -> InboxMessage:
    fields = {
        "number": 7,
        "id": bytes(range(16)),
        "sender": Identity(bytes(32)),
        "type": "text",
        "received_us": 1_500_000,
        "size": 3,
        "acknowledged": False,
        "body": b"abc",
    }
    return InboxMessage(**{**fields, **changes})  # type: ignore[arg-type]


def test_message_view_shows_text_as_it_is_and_binary_in_base64() -> None:
    shown = views.message_view(message(), "b")
    assert (shown.number, shown.id, shown.sender_name) == (7, bytes(range(16)).hex(), "b")
    assert (shown.received, shown.body, shown.size) == (1.5, "abc", 3)
    assert views.message_view(message(type="binary", body=b"\xff\x00"), "").body == "/wA="
    assert views.message_view(message(body=b"\xff"), "").body == "\ufffd", "what a peer sent may be no text at all"


def test_safety_digits_are_those_of_the_safety_number() -> None:
    one, two = Identity(bytes(32)), Identity(bytes([1] * 32))
    assert views.safety_digits(one, two) == views.safety_digits(two, one)
    assert len(views.safety_digits(one, two)) == 60


def test_peer_view_follows_the_connection(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        await a.send("b", "x")
        view = about(a, "b")
        assert view.connected
        assert sum(path.active for path in view.paths) == 1
        assert view.since is not None
        await world.until(lambda: any(p.active and p.kind == "direct" for p in about(a, "b").paths))
        kinds = {path.kind: path.reason for path in about(a, "b").paths}
        assert kinds["direct"] == "direct"
        assert (a.view().peers_connected, a.view().peers_direct) == (1, 1)
        await world.machines["b"].stop()  # type: ignore[union-attr]
        await world.until(lambda: not about(a, "b").connected)
        assert about(a, "b").paths == []
        assert a.view().peers_connected == 0

    play(scenario)


def test_peers_lists_whom_there_is_something_to_say_about(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _, _, d = await network(world, "a", "b", "c", "d")
        await world.befriend("a", "b")
        await a.handshake("c")
        await d.handshake("a")
        await world.until(lambda: bool(a.pending()))
        await a.find("c")
        assert [(view.name, view.trust) for view in a.peers()] == [
            ("b", "trusted"),
            ("c", "requested"),
            ("d", "pending"),
        ]
        await a.reject("d")
        await a.untrust("c")
        await world.until(lambda: trust(d, a) == "rejected")
        for name in ("c", "d"):
            await world.crash(name)
        await world.until(lambda: [view.name for view in a.peers()] == ["b"])

    play(scenario, limit_s=2000.0)


def test_version_is_that_of_the_package() -> None:
    assert views.version()
    assert Path(views.__file__).exists()
