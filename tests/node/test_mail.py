"""What is promised to callers of `send` and to readers of the inbox, on the simulated network."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from covey.base.constants import MESSAGE_LIMIT
from covey.base.errors import CoveyError, LimitError, NotFoundError, RefusedError, StateError, UsageError
from covey.base.schema import SendView
from covey.node import Node
from covey.node.mail import encode_body
from covey.node.storage import inbox as inbox_storage
from covey.node.transport import Stream
from covey.testing import Link
from covey.testing.world import World
from covey.wire import messages
from covey.wire.framing import FrameReader
from tests.node.stage import Play, bodies, code_of, friends, network, steps, take, trust, user

# --- bodies ---------------------------------------------------------------------------------------------------------

GOOD_BODIES: dict[str, tuple[Any, Any, str, str]] = {
    "text": ("grüße", None, "text", "grüße"),
    "empty text": ("", None, "text", ""),
    "bytes": (b"\x00\xff", None, "binary", base64.b64encode(b"\x00\xff").decode()),
    "bytearray": (bytearray(b"abc"), None, "binary", base64.b64encode(b"abc").decode()),
    "bytes that are text": (b"hello", "text", "text", "hello"),
    "dictionary": ({"command": "run", "n": [1, 2.5, None, True]}, None, "json", ""),
    "number": (17, None, "json", "17"),
    "json as text": ('{"a": 1}', "json", "json", '{"a": 1}'),
    "json with a surrogate pair": ('"\\ud83d\\ude00"', "json", "json", '"\\ud83d\\ude00"'),
}


@pytest.mark.parametrize("case", GOOD_BODIES)
def test_send_brings(case: str, play: Play) -> None:
    body, given, kind, shown = GOOD_BODIES[case]

    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        sent = await a.send("b", body, given)
        assert (sent.result, sent.reason, sent.name, sent.peer) == ("delivered", "", "b", b.identity)
        assert 0 < sent.elapsed_ms < 100
        (message,) = await b.inbox_list()
        assert (message.sender, message.sender_name, message.id) == (a.identity, "a", sent.id)
        assert message.type == kind
        assert message.acknowledged is False
        if shown or not body:
            assert message.body == shown
        else:
            assert json.loads(message.body) == body

    play(scenario)


BAD_BODIES: dict[str, tuple[Any, Any, str]] = {
    "broken json": ("{", "json", "bad-json"),
    "two json values": ("1 2", "json", "bad-json"),
    "empty json": ("", "json", "bad-json"),
    "json of bytes that are no text": (b"\xff", "json", "bad-json"),
    "deep json": ("[" * 100_000, "json", "bad-json"),
    "bytes that are no text": (b"\xff", "text", "bad-text"),
    "half a surrogate pair": ("\ud800", None, "bad-text"),
    "object": (object(), None, "bad-json"),
    "dictionary as text": ({}, "text", "bad-body"),
    "dictionary as binary": ({}, "binary", "bad-body"),
    "half a surrogate pair in json": ({"a": "\ud800"}, None, "bad-json"),
    "an endless list": (lambda endless: endless.append(endless) or endless, None, "bad-json"),
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_body_that_cannot_be_sent_is_the_callers_mistake(case: str, play: Play) -> None:
    body, given, code = BAD_BODIES[case]
    if callable(body):
        body = body([])

    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        with pytest.raises(UsageError) as refused:
            await a.send("b", body, given)
        assert refused.value.code == code
        assert a.view().outbox_queued == 0
        assert a._running.mail._waiting == {}
        await a.send("b", "next")
        assert await bodies(b) == ["next"]

    play(scenario)


def test_body_of_one_mebibyte_is_brought_and_a_byte_more_refused(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        whole = Random(1).randbytes(MESSAGE_LIMIT)
        assert (await a.send("b", whole, wait=60.0)).result == "delivered"
        with pytest.raises(LimitError) as refused:
            await a.send("b", whole + b"!")
        assert (refused.value.code, bool(refused.value.next_step)) == ("message-too-large", True)
        (message,) = await b.inbox_list()
        assert base64.b64decode(message.body) == whole
        assert a.view().outbox_queued == 0

    play(scenario)


def test_encode_body_is_what_send_does() -> None:
    assert encode_body("x", None) == ("text", b"x")
    assert encode_body("1", "json") == ("json", b"1")
    assert encode_body(memoryview(b"x"), None) == ("binary", b"x")
    assert encode_body(None, None) == ("json", b"null")


BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "id too short": ({"id": "ab"}, "bad-id"),
    "id of other characters": ({"id": "x" * 32}, "bad-id"),
    "ttl of nothing": ({"ttl": 0}, "bad-ttl"),
    "negative ttl": ({"ttl": -1.0}, "bad-ttl"),
    "ttl that is no number": ({"ttl": float("nan")}, "bad-ttl"),
    "endless ttl": ({"ttl": float("inf")}, "bad-ttl"),
    "ttl beyond any clock": ({"ttl": 1e18}, "bad-ttl"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_option_that_makes_no_sense_is_refused(case: str, play: Play) -> None:
    options, code = BAD_OPTIONS[case]

    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        assert await code_of(a.send("b", "x", **options)) == code
        assert a.view().outbox_queued == 0
        assert a._running.mail._waiting == {}

    play(scenario)


# --- order, ids, results --------------------------------------------------------------------------------------------


def test_messages_arrive_in_the_order_of_their_calls(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        world.network.default = Link(latency_s=0.02, jitter_s=0.03, loss=0.1, duplicate=0.1)
        sends = [asyncio.ensure_future(a.send("b", f"m{number}", wait=30.0)) for number in range(100)]
        assert {sent.result for sent in await asyncio.gather(*sends)} == {"delivered"}
        assert await bodies(b, limit=1000) == [f"m{number}" for number in range(100)]

    play(scenario)


def test_send_many_is_all_or_nothing_and_in_order(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        sent = await a.send_many("b", [b"%d" % number for number in range(300)], "json")
        assert [each.result for each in sent] == ["delivered"] * 300
        assert await bodies(b, limit=1000) == [str(number) for number in range(300)]
        assert await code_of(a.send_many("b", [b"1", b"{"], "json")) == "bad-json"
        assert await code_of(a.send_many("b", [b"1", b"2"], ids=["ab" * 16])) == "usage"
        assert await code_of(a.send_many("b", [b"1", b"2"], ids=["ab" * 16] * 2)) == "id-reused"
        assert await a.send_many("b", []) == []
        assert a.view().outbox_queued == 0
        assert len(await b.inbox_list(limit=1000)) == 300

    play(scenario)


def test_same_id_is_the_same_message(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b, c = await friends(world, "a", "b", "c")
        same = "0123456789abcdef" * 2
        first = await a.send("b", "once", id=same)
        again = await a.send("b", "once", id=same)
        assert first.id == again.id == same
        assert (again.result, await bodies(b)) == ("delivered", ["once"])
        for other in ("other", b"once"):
            with pytest.raises(UsageError) as reused:
                await a.send("b", other, id=same)
            assert reused.value.code == "id-reused"
        assert (await a.send("c", "other", id=same)).result == "delivered"
        assert await bodies(c) == ["other"]
        await world.crash("a")
        await world.restart("a")
        assert (await world.node("a").send("b", "once", id=same)).result == "delivered"
        assert await bodies(b) == ["once"]

    play(scenario)


def test_same_id_at_the_same_time_is_one_message_and_all_hear_of_it(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        sends = [a.send("b", "once", id="ab" * 16) for _ in range(5)]
        assert [sent.result for sent in await asyncio.gather(*sends)] == ["delivered"] * 5
        assert await bodies(b) == ["once"]
        assert a._running.mail._waiting == {}

    play(scenario)


def test_send_to_one_who_is_not_trusted_says_what_to_do(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        with pytest.raises(RefusedError) as unknown:
            await a.send("b", "hello")
        assert (unknown.value.code, unknown.value.next_step) == ("not-trusted", "covey handshake b")
        await a.handshake("b")
        await world.until(lambda: bool(b.pending()))
        with pytest.raises(RefusedError) as requested:
            await a.send("b", "hello")
        assert requested.value.next_step == "wait for its answer; on its side: covey approve a"
        with pytest.raises(RefusedError) as pending:
            await b.send("a", "hello")
        assert pending.value.next_step == "covey approve a"
        assert await code_of(a.send("ghost", "hello")) == "unknown-peer"
        assert await code_of(a.send("a", "hello")) == "self"

    play(scenario)


def test_message_to_an_absent_peer_is_queued_and_brought_later(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        await world.crash("b")
        begun = asyncio.get_running_loop().time()
        sent = await a.send("b", "later", wait=2.0)
        assert sent.result == "queued"
        assert 1.99 < asyncio.get_running_loop().time() - begun < 2.1
        assert a.view().outbox_queued == 1
        assert a.peers()[0].queued == 1
        await asyncio.sleep(600.0)
        await world.crash("a")
        await world.restart("a")
        assert world.node("a").view().outbox_queued == 1
        await world.restart("b")
        back = asyncio.get_running_loop().time()
        await world.until(lambda: world.node("b").view().inbox_unread == 1)
        assert asyncio.get_running_loop().time() - back < 2.0
        await world.until(lambda: world.node("a").view().outbox_queued == 0)
        again = await world.node("a").send("b", "later", id=sent.id)
        assert (again.result, await bodies(world.node("b"))) == ("delivered", ["later"])

    play(scenario)


def test_delivered_is_said_only_of_what_the_recipient_has_on_its_disk(play: Play) -> None:
    """The recipient dies at the very moment at which the sender hears of the delivery."""

    async def scenario(world: World) -> None:
        await friends(world, "a", "b")
        world.machines["b"].host.disk_s = 0.004
        delivered = []
        for number in range(12):
            sent = await world.node("a").send("b", f"m{number}", wait=30.0)
            assert sent.result == "delivered"
            await world.crash("b")
            delivered.append(f"m{number}")
            await world.restart("b")
            assert await bodies(world.node("b"), all=True) == delivered

    play(scenario)


@pytest.mark.parametrize("moment", range(0, 24, 2))
def test_recipient_that_dies_in_the_middle_gets_it_once(moment: int, play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        world.machines["b"].host.disk_s = 0.005
        sending = asyncio.ensure_future(a.send_many("b", [b"%d" % n for n in range(20)], wait=60.0))
        await asyncio.sleep(moment / 1000)
        await world.crash("b")
        await world.restart("b")
        assert {sent.result for sent in await sending} == {"delivered"}
        assert await bodies(world.node("b")) == [str(n) for n in range(20)]

    play(scenario)


def test_sender_that_is_destroyed_after_delivered_does_not_matter(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        assert (await a.send("b", "legacy")).result == "delivered"
        identity = a.identity
        await world.crash("a")
        shutil.rmtree(world.directory / "a")
        await world.crash("b")
        await world.restart("b")
        (message,) = await world.node("b").inbox_list()
        assert (message.body, message.sender, message.sender_name) == ("legacy", identity, "a")
        assert b is not world.node("b")

    play(scenario)


@pytest.mark.parametrize("moment", range(0, 16, 2))
def test_sender_that_dies_in_the_middle_loses_nothing_that_was_promised(moment: int, play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        world.machines["a"].host.disk_s = 0.003
        sends = [user(world, "a", a.send("b", f"m{n}", wait=0)) for n in range(10)]
        await asyncio.sleep(moment / 1000)
        await world.crash("a")
        promised = [f"m{n}" for n, sent in enumerate(await asyncio.gather(*sends)) if sent is not None]
        await world.restart("a")
        await asyncio.sleep(5.0)
        assert world.node("a").view().outbox_queued == 0
        arrived = await bodies(world.node("b"))
        assert arrived == [f"m{n}" for n in range(len(arrived))]
        assert set(promised) <= set(arrived)

    play(scenario)


# --- expiry ---------------------------------------------------------------------------------------------------------


def test_message_expires_on_time_and_later_ones_still_arrive(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        await world.crash("b")
        loop = asyncio.get_running_loop()
        begun = loop.time()
        dying = asyncio.ensure_future(a.send("b", "short", ttl=20.0, wait=120.0))
        await a.send("b", "long", ttl=3600.0, wait=0)
        await a.send("b", "for ever", wait=0)
        sent = await dying
        assert (sent.result, sent.reason) == ("expired", "")
        assert 20.0 <= loop.time() - begun < 21.0
        assert a.view().outbox_queued == 2
        assert (await a.send("b", "short", id=sent.id)).result == "expired"
        await world.restart("b")
        await world.until(lambda: world.node("b").view().inbox_unread == 2)
        assert await bodies(world.node("b")) == ["long", "for ever"]
        assert (await a.send("b", "now")).result == "delivered"
        assert await bodies(world.node("b")) == ["long", "for ever", "now"]

    play(scenario)


def test_message_is_not_brought_after_its_time(play: Play) -> None:
    """The upkeep runs once a minute; a ttl does not wait for it."""

    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        await world.crash("b")
        await a.send("b", "short", ttl=2.0, wait=0)
        await asyncio.sleep(5.0)
        await world.restart("b")
        await asyncio.sleep(20.0)
        assert await bodies(world.node("b")) == []
        assert a.view().outbox_queued == 0

    play(scenario)


def test_message_that_expired_while_its_sender_was_down_is_not_brought(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        await world.crash("b")
        sent = await a.send("b", "short", ttl=30.0, wait=0)
        await a.send("b", "long", wait=0)
        await world.crash("a")
        await asyncio.sleep(60.0)
        await world.restart("b")
        await world.restart("a")
        await world.until(lambda: world.node("b").view().inbox_unread > 0)
        await asyncio.sleep(1.0)
        assert await bodies(world.node("b")) == ["long"]
        assert (await world.node("a").send("b", "short", id=sent.id)).result == "expired"

    play(scenario)


@pytest.mark.parametrize("ttls", [(10.0, 20.0), (20.0, 10.0)], ids=["in order", "out of order"])
def test_messages_that_expire_behind_a_full_window_hold_up_nothing(ttls: tuple[float, float], play: Play) -> None:
    """Nine large messages fill what may be unsettled; two behind them die in a partition; one lives."""

    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        await a.send("b", "warm")
        world.network.partition([world.machines["b"].host.ip])
        for number in range(9):
            await a.send("b", bytes([number]) * (MESSAGE_LIMIT - 100), wait=0)
        for ttl in ttls:
            await a.send("b", "short", ttl=ttl, wait=0)
        await a.send("b", "long", wait=0)
        await asyncio.sleep(30.0)
        world.network.heal()
        await world.until(lambda: a.view().outbox_queued == 0)
        assert asyncio.get_running_loop().time() < 60.0
        listed = await b.inbox_list(bodies=False)
        assert [message.type for message in listed] == ["text", *["binary"] * 9, "text"]

    play(scenario)


def test_expiry_of_one_message_says_nothing_about_another_with_its_id(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _, _ = await friends(world, "a", "b", "c")
        for name in ("b", "c"):
            await world.crash(name)
        same = "cd" * 16
        short = asyncio.ensure_future(a.send("b", "x", id=same, ttl=5.0, wait=20.0))
        long = asyncio.ensure_future(a.send("c", "x", id=same, wait=20.0))
        assert [(await short).result, (await long).result] == ["expired", "queued"]

    play(scenario)


# --- the inbox ------------------------------------------------------------------------------------------------------


def test_inbox_lists_shows_acknowledges_and_clears(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        sent = [await a.send("b", f"m{number}") for number in range(5)]
        assert b.view().inbox_unread == 5
        listed = await b.inbox_list()
        assert [message.number for message in listed] == [1, 2, 3, 4, 5]
        assert [message.body for message in await b.inbox_list(limit=2, after=2)] == ["m2", "m3"]
        assert [(message.body, message.size) for message in await b.inbox_list(bodies=False)] == [("", 2)] * 5
        assert await b.inbox_get("3") == listed[2]
        assert await b.inbox_get(sent[2].id) == listed[2]
        assert await b.inbox_acknowledge([1, 2, 2, 77]) == 2
        assert await b.inbox_acknowledge([1]) == 0
        assert b.view().inbox_unread == 3
        assert await bodies(b) == ["m2", "m3", "m4"]
        assert await bodies(b, all=True) == ["m0", "m1", "m2", "m3", "m4"]
        assert (await b.inbox_get("1")).acknowledged
        assert await b.inbox_clear() == 2
        assert await bodies(b, all=True) == ["m2", "m3", "m4"]
        assert await b.inbox_clear(all=True) == 3
        assert (await bodies(b, all=True), b.view().inbox_unread) == ([], 0)
        again = await a.send("b", "m2", id=sent[2].id)
        assert (again.result, await bodies(b)) == ("delivered", [])
        await a.send("b", "new")
        assert [message.number for message in await b.inbox_list()] == [6]

    play(scenario)


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ("0", "no-such-message"),
        ("99", "no-such-message"),
        ("9" * 18, "no-such-message"),
        ("9" * 19, "no-such-message"),
        ("0" * 32, "no-such-message"),
        ("ab" * 16, "no-such-message"),
        ("", "bad-id"),
        ("-1", "bad-id"),
        ("²", "bad-id"),
        ("٣", "bad-id"),
        ("one", "bad-id"),
    ],
)
def test_inbox_get_of_what_is_not_there(wanted: str, code: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        (b,) = await network(world, "b")
        with pytest.raises(NotFoundError if code == "no-such-message" else UsageError) as missing:
            await b.inbox_get(wanted)
        assert missing.value.code == code

    play(scenario)


def test_inbox_numbers_beyond_any_inbox_are_no_bug(play: Play) -> None:
    async def scenario(world: World) -> None:
        (b,) = await network(world, "b")
        assert await b.inbox_acknowledge([2**70, -5]) == 0
        assert await b.inbox_list(after=2**70, limit=2**70) == []

    play(scenario)


def test_follower_gets_the_unread_then_every_new_one_and_acknowledges(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        await a.send_many("b", [b"old %d" % number for number in range(250)])
        seen: list[str] = []

        async def follow() -> None:
            async for message in b.inbox():
                seen.append(message.body)

        following = asyncio.ensure_future(follow())
        await world.until(lambda: len(seen) == 250)
        await a.send("b", "new 1")
        await a.send("b", "new 2")
        assert seen == [f"old {number}" for number in range(250)] + ["new 1", "new 2"]
        await world.until(lambda: b.view().inbox_unread == 0)
        await world.machines["b"].stop()  # type: ignore[union-attr]
        await asyncio.wait_for(following, 1.0)

    play(scenario)


def test_message_that_was_being_handled_when_the_program_died_is_given_again(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        for number in range(3):
            await a.send("b", f"m{number}")
        assert [message.body for message in await take(world.node("b"), 2)] == ["m0", "m1"]
        await world.crash("b")
        await world.restart("b")
        assert [message.body for message in await take(world.node("b"), 2)] == ["m1", "m2"]

    play(scenario)


def test_follower_that_does_not_acknowledge_leaves_everything_unread(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        await a.send_many("b", [b"1", b"2", b"3"])
        assert len(await take(b, 3, acknowledge=False)) == 3
        assert b.view().inbox_unread == 3
        assert b._running.mail._followers == set()

    play(scenario)


def test_follower_ends_when_the_node_closes_in_the_middle_of_a_message(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        await a.send_many("b", [b"1", b"2"])
        seen = []
        async for message in b.inbox():
            seen.append(message.body)
            await world.machines["b"].stop()  # type: ignore[union-attr]
        assert seen == ["1"]
        await world.restart("b")
        assert await bodies(world.node("b")) == ["1", "2"]

    play(scenario)


def test_position_goes_on_exactly_where_it_was_whoever_acknowledges_meanwhile(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        dice = Random(7)
        texts = [str(number) for number in range(60)]
        for text in texts[:40]:
            assert (await a.send("b", text)).result == "delivered"
        await b.inbox_acknowledge([3, 7, 8, 40])
        unread = [text for text in texts[:40] if text not in ("2", "6", "7", "39")]
        seen: list[str] = []
        position: str | None = None
        sent = 40
        while len(seen) < len(unread) + 20:
            following = await b.inbox_follow(position)
            position, nothing = await anext(following)
            assert nothing is None
            for _ in range(dice.randrange(6)):  # a reader that comes back again and again
                if len(seen) < len(unread) + sent - 40:
                    position, message = await anext(following)
                    assert message is not None
                    seen.append(message.body)
            await following.aclose()  # type: ignore[attr-defined]
            if len(seen) >= len(unread) and sent < 60:
                assert (await a.send("b", texts[sent])).result == "delivered"
                sent += 1
                if dice.random() < 0.5:
                    await b.inbox_acknowledge([sent])  # by somebody else, before the reader came
                if dice.random() < 0.2:
                    await world.crash("b")
                    await world.restart("b")
                    b = world.node("b")
        assert seen == unread + texts[40:]

    play(scenario)


@pytest.mark.parametrize("position", ["", "x", "1:", ":1", "-1", "1:2:3", "9" * 19, "4", "1:4"])
def test_position_that_cannot_be_is_refused(position: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        for _ in range(3):
            await a.send("b", "x")
        assert await code_of(b.inbox_follow(position)) == "bad-position"

    play(scenario)


def test_position_follower_waits_for_what_comes_and_ends_with_the_node(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        following = await b.inbox_follow()
        assert await anext(following) == ("0", None)
        waiting = asyncio.ensure_future(anext(following))
        await asyncio.sleep(5.0)
        assert not waiting.done()
        await a.send("b", "x")
        position, message = await waiting
        assert message is not None
        assert (position, message.body, message.acknowledged) == ("1", "x", False)
        ending = asyncio.ensure_future(anext(following, None))
        await asyncio.sleep(1.0)
        await world.machines["b"].stop()  # type: ignore[union-attr]
        assert await ending is None

    play(scenario)


def test_full_inbox_refuses_and_takes_again_once_there_is_room(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {**inbox_storage.Inbox.__init__.__kwdefaults__, "messages_limit": 8}
    monkeypatch.setattr(inbox_storage.Inbox.__init__, "__kwdefaults__", small)

    async def scenario(world: World) -> None:
        a, b, c = await friends(world, "a", "b", "c")
        sent = await a.send_many("b", [b"%d" % number for number in range(6)])
        outcomes = [(each.result, each.reason) for each in sent]
        assert outcomes == [("delivered", "")] * 4 + [("refused", "inbox-full")] * 2
        assert (await c.send("b", "there is room for others")).result == "delivered"
        assert a.view().outbox_queued == 0
        await b.inbox_acknowledge([1, 2])
        later = [await a.send("b", f"later {number}") for number in range(3)]
        assert [each.result for each in later] == ["delivered", "delivered", "refused"]
        assert (await a.send("b", "5", id=sent[5].id)).result == "refused", "a result is final"
        mine = [message.body for message in await b.inbox_list() if message.sender == a.identity]
        assert mine == ["2", "3", "later 0", "later 1"]

    play(scenario)


# --- restored, concurrent, given up ---------------------------------------------------------------------------------


def copy_profile(world: World, name: str, to: Path) -> None:
    shutil.copytree(world.directory / name, to, ignore=shutil.ignore_patterns("*.sock"))


def test_restored_sender_loses_and_repeats_nothing_new(play: Play, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        await a.send("b", "before")
        await world.machines["a"].stop()  # type: ignore[union-attr]
        copy_profile(world, "a", tmp_path / "backup")
        await world.restart("a")
        for number in range(5):
            await world.node("a").send("b", f"forgotten {number}")
        await world.crash("a")
        shutil.rmtree(world.directory / "a")
        shutil.copytree(tmp_path / "backup", world.directory / "a")
        await world.restart("a")
        for number in range(5):
            assert (await world.node("a").send("b", f"after {number}")).result == "delivered"
        wanted = ["before", *(f"forgotten {n}" for n in range(5)), *(f"after {n}" for n in range(5))]
        assert await bodies(world.node("b")) == wanted

    play(scenario)


def test_restored_sender_that_does_not_know_it_hears_so_from_the_recipient(play: Play, tmp_path: Path) -> None:
    """A rolled back disk image: the very same files, so that nothing on this side can tell."""

    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        await a.send("b", "before")
        await world.machines["a"].stop()  # type: ignore[union-attr]
        home = world.nodes()[0].home
        backup = home.database.read_bytes()
        await world.restart("a")
        for number in range(5):
            await world.node("a").send("b", f"forgotten {number}")
        await world.machines["a"].stop()  # type: ignore[union-attr]
        token = home.generation_file.read_bytes()
        home.database.write_bytes(backup)
        home.generation_file.write_bytes(token)
        await world.restart("a")
        for number in range(5):
            sent = await world.node("a").send("b", f"after {number}", wait=30.0)
            assert sent.result == "delivered"
        arrived = await bodies(world.node("b"))
        assert arrived == ["before", *(f"forgotten {n}" for n in range(5)), *(f"after {n}" for n in range(5))]

    play(scenario)


async def played(node: Node, behave: Callable[[Stream, FrameReader, int], Awaitable[None]]) -> None:
    """From now on `behave(stream, reader, incarnation)` takes the messages for this node, and none is kept."""

    async def serve(stream: Stream) -> None:
        reader = FrameReader(messages.FRAME_LIMIT)
        while not (frames := reader.feed(await stream.read())):
            pass
        await behave(stream, reader, messages.parse_number(frames[0][1]))
        while await stream.read():
            pass

    node._running.transport.serve(messages.SERVICE, serve)


BEYOND = (1 << 64) - 1
LYING_RECIPIENTS = {
    "resumes in the far future": [messages.encode_number(messages.RESUME, BEYOND)],
    "settles the far future": [
        messages.encode_number(messages.RESUME, 0),
        messages.encode_number(messages.SETTLED, BEYOND),
    ],
    "settles what was not sent": [
        messages.encode_number(messages.RESUME, 0),
        messages.encode_number(messages.SETTLED, 2),
    ],
    "refuses the far future": [messages.encode_number(messages.RESUME, 0), messages.encode_refused(BEYOND, "no")],
    "refuses what was not sent": [messages.encode_number(messages.RESUME, 0), messages.encode_refused(2, "no")],
}


@pytest.mark.parametrize("lie", LYING_RECIPIENTS)
def test_recipient_that_answers_to_numbers_nobody_sent_settles_nothing(lie: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        service = b._running.transport._handlers[messages.SERVICE]

        async def behave(stream: Stream, reader: FrameReader, incarnation: int) -> None:
            for frame in LYING_RECIPIENTS[lie]:
                await stream.write(frame)
                await stream.read()

        await played(b, behave)
        assert (await a.send("b", "one", wait=30.0)).result == "queued"
        b._running.transport.serve(messages.SERVICE, service)
        assert (await a.send("b", "two", wait=300.0)).result == "delivered"
        assert await bodies(b) == ["one", "two"]

    play(scenario)


def test_recipient_that_makes_us_number_anew_cannot_settle_what_others_get(play: Play) -> None:
    """b pretends to know more than we sent while c's answer, in the old numbers, is on its way."""

    async def scenario(world: World) -> None:
        a, b, c = await friends(world, "a", "b", "c")
        for number in range(5):
            await a.send("c", f"early {number}")
        lies: list[int] = []

        async def behave(stream: Stream, reader: FrameReader, incarnation: int) -> None:
            lies.append(incarnation)
            await stream.write(messages.encode_number(messages.RESUME, BEYOND))

        await played(b, behave)
        await a.send("b", "bait", wait=0)
        await asyncio.sleep(0.5)
        await a.send("c", "on its way", wait=0)
        await asyncio.sleep(0.4)
        assert len(lies) == 1
        for number in range(3):
            await a.send("c", f"late {number}", wait=0)
        await asyncio.sleep(60.0)
        assert len(lies) > 3
        assert len(set(lies)) == 2, "believed once: numbering a long outbox anew is work"
        assert await bodies(c) == [*(f"early {n}" for n in range(5)), "on its way", *(f"late {n}" for n in range(3))]
        assert (await a.send("c", "last", wait=60.0)).result == "delivered"

    play(scenario, link=Link(latency_s=0.4))


def test_concurrent_sends_share_transactions(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        world.machines["a"].host.disk_s = 0.01
        database = a._running.files.store.database
        transactions = 0
        batch = database.batch

        def counted(jobs: Any) -> Any:
            nonlocal transactions
            transactions += 1
            return batch(jobs)

        database.batch = counted  # type: ignore[method-assign]
        await asyncio.gather(*(a.send("b", f"m{number}", wait=0) for number in range(200)))
        assert transactions < 15
        await world.until(lambda: b.view().inbox_unread == 200)

    play(scenario)


@pytest.mark.parametrize("count", range(12))
def test_send_given_up_by_its_caller_leaves_nothing_lying_in_the_outbox(count: int, play: Play) -> None:
    """A caller's time may be over (`Covey-Timeout`, `asyncio.timeout`) at any step of a send."""

    async def scenario(world: World) -> tuple[int, int, int]:
        a, b = await friends(world, "a", "b")
        sending = asyncio.ensure_future(a.send("b", "never mind", wait=30.0))
        await steps(count)
        sending.cancel()
        await asyncio.wait((sending,))
        await asyncio.sleep(20.0)
        assert a._running.mail._waiting == {}
        return a._running.mail.outbox.counts().messages, a.view().outbox_queued, len(await b.inbox_list())

    on_disk, shown, arrived = play(scenario)
    assert (on_disk, shown) == (0, 0)
    assert arrived == 0 if count == 0 else 1 if count == 11 else arrived in (0, 1)


def test_send_that_waits_hears_at_once_that_its_node_closes(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        await world.crash("b")
        sending = asyncio.ensure_future(a.send("b", "kept", wait=300.0))
        await asyncio.sleep(1.0)
        await world.machines["a"].stop()  # type: ignore[union-attr]
        assert (await asyncio.wait_for(sending, 1.0)).result == "queued"
        await world.restart("a")
        await world.restart("b")
        await world.until(lambda: world.node("b").view().inbox_unread == 1)

    play(scenario)


@pytest.mark.parametrize("count", range(10))
def test_send_into_a_closing_node_is_promised_or_fails(count: int, play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        await world.crash("b")
        sending = asyncio.ensure_future(outcome(a.send("b", "m", wait=5.0)))
        await steps(count)
        await world.machines["a"].stop()  # type: ignore[union-attr]
        result = await asyncio.wait_for(sending, 10.0)
        await world.restart("a")
        queued = world.node("a").view().outbox_queued
        assert (result, queued) in [("queued", 1), ("failed", 0), ("failed", 1)]

    async def outcome(sending: Any) -> str:
        try:
            sent: SendView = await sending
        except CoveyError:
            return "failed"
        return sent.result

    play(scenario)


@pytest.mark.parametrize("moment", range(0, 40, 4))
def test_waiter_hears_of_a_delivery_although_the_stream_ends_while_it_is_written_down(moment: int, play: Play) -> None:
    """The sender's disk is slow; trust ends while the settlement waits for it."""

    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        world.machines["a"].host.disk_s = 0.01
        sending = asyncio.ensure_future(a.send("b", "m", wait=30.0))
        await world.until(lambda: b.view().inbox_unread == 1, step=0.001)
        await asyncio.sleep(moment / 1000)
        await b.untrust("a")
        await world.until(lambda: trust(a, b) == "rejected")
        sent = await sending
        assert asyncio.get_running_loop().time() < 10.0
        assert sent.result in ("delivered", "refused")
        assert a.view().outbox_queued == a._running.mail.outbox.counts().messages == 0

    play(scenario)


def test_long_life_leaves_nothing_growing(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")

        def sizes(node: Any) -> dict[str, int]:
            agent, mail = node._running, node._running.mail
            transport = agent.transport
            return {
                "waiting": len(mail._waiting),
                "couriers": len(mail._couriers),
                "queued": len(mail.queued),
                "followers": len(mail._followers),
                "trust waits": len(agent._waits._waiting),
                "tasks": len(transport._tasks),
                "pings": len(transport._pings),
                "connections": len(transport._waiting) + len(agent.connector._bringing),
                "hopes": len(agent.connector._hopes) + len(agent.connector._reviving),
                "calls": len(agent.clients[0]._calls),
            }

        async def live() -> None:
            for number in range(20):
                await a.send("b", f"m{number}")
                await b.send("a", f"m{number}")
                stream = await a.open("b", "sink")
                await stream.finish()
                await stream.read_exactly(40)
                await a.ping("b")
                await a.find("b")

        await live()
        before = [sizes(node) for node in (a, b)]
        for _ in range(5):
            await live()
        assert [sizes(node) for node in (a, b)] == before
        assert all(len(node._running.transport._streams) < 70 for node in (a, b))

    play(scenario)


def test_state_error_before_start_and_after_close(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        await world.machines["a"].stop()  # type: ignore[union-attr]
        with pytest.raises(StateError) as refused:
            await a.send("b", "hello")
        assert (refused.value.code, refused.value.next_step) == ("not-running", "await node.start()")

    play(scenario)
