from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

from covey.crypto.cookie import COOKIE_NONCE_SIZE, COOKIE_SIZE, cookie_key, mac2, seal_cookie
from covey.node.reach import _Question, reach
from covey.testing.world import World
from covey.wire.datagram import MAC_SIZE, RECORD_REQUEST_SIZE, CookieReply, RecordRequest
from covey.wire.ticket import Ticket, TicketEntry
from tests.node.stage import Play

HOUR_US = 3600 * 1_000_000


def entry(world: World) -> TicketEntry:
    return Ticket.parse(world.ticket).entries[0]


def test_rendezvous_that_runs_is_reached_without_an_identity(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.start_rendezvous()
        found = await reach(world.place("a").host, entry(world), 3.0)
        assert (found.problem, found.ahead_us) == ("", 0)
        assert found.rtt_ms is not None
        assert found.rtt_ms > 0
        assert found.endpoint == entry(world).endpoints[0]

    play(scenario)


def test_rendezvous_that_is_down_is_silent_in_time(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.start_rendezvous()
        await world.crash("rendezvous")
        host = world.place("a").host
        begun = host.now()
        found = await reach(host, entry(world), 3.0)
        assert (found.rtt_ms, found.problem) == (None, "no answer")
        assert host.now() - begun <= 3.0

    play(scenario)


def test_second_endpoint_is_asked_when_the_first_is_silent(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.start_rendezvous()
        real = entry(world)
        found = await reach(world.place("a").host, replace(real, endpoints=("10.9.9.9:1", *real.endpoints)), 3.0)
        assert (found.endpoint, found.problem) == (real.endpoints[0], "")

    play(scenario)


def test_somebody_else_at_its_address_is_not_it(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.start_rendezvous("real")
        real = entry(world)
        await world.start_rendezvous("other")
        found = await reach(world.place("a").host, replace(real, endpoints=entry(world).endpoints), 1.0)
        assert found.rtt_ms is None

    play(scenario)


def test_name_that_does_not_exist_is_told(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.start_rendezvous()
        found = await reach(world.place("a").host, replace(entry(world), endpoints=("nowhere.invalid:1",)), 1.0)
        assert found.rtt_ms is None
        assert "nowhere.invalid" in found.problem

    play(scenario)


def test_clocks_that_cannot_both_be_right_are_compared(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.start_rendezvous()
        host = world.place("a").host
        for skew_s, expected in ((-3600, -1), (30 * 24 * 3600, 1), (60, 0)):
            host.clock_offset_us = skew_s * 1_000_000
            found = await reach(host, entry(world), 3.0)
            assert found.rtt_ms is not None
            assert (found.ahead_us > 0) - (found.ahead_us < 0) == expected, skew_s

    play(scenario)


def test_question_is_asked_again_with_the_cookie_of_one_under_load(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.start_rendezvous()
        identity = entry(world).identity
        question = _Question(world.place("a").host, entry(world))
        message, cookie, nonce = question.message, b"c" * COOKIE_SIZE, b"n" * COOKIE_NONCE_SIZE
        sealed = seal_cookie(cookie_key(identity), nonce, cookie, message[-MAC_SIZE:])
        again = question.take_untrusted(CookieReply(message[4:12], nonce, sealed).encode())
        assert again is not None
        assert RecordRequest.parse(again).mac2 == mac2(cookie, message)
        assert question.take_untrusted(CookieReply(b"another!", nonce, sealed).encode()) is None
        assert question.take_untrusted(CookieReply(message[4:12], nonce, bytes(32)).encode()) is None
        assert question.ahead_us is None

    play(scenario)


def test_no_datagram_makes_the_question_fail(play: Play) -> None:
    async def scenario(world: World) -> None:
        machine = await world.start_rendezvous()
        host = world.place("a").host
        question, dice = _Question(host, entry(world)), Random(5)
        port = host.udp(("0.0.0.0", 0))
        port.send(
            memoryview(bytearray(RecordRequest.finish(question.message))), RECORD_REQUEST_SIZE, (machine.host.ip, 4040)
        )
        await asyncio.sleep(1.0)
        received = port.receive()
        assert received is not None
        answer = bytes(received[0])
        for _ in range(3000):
            mutated = bytearray(answer[: dice.randrange(1, len(answer))] if dice.random() < 0.3 else answer)
            for at in dice.sample(range(len(mutated)), min(len(mutated), dice.randrange(1, 4))):
                mutated[at] ^= 1 << dice.randrange(8)
            assert question.take_untrusted(bytes(mutated)) is None
            question.take_untrusted(dice.randbytes(dice.randrange(100)))
            assert question.ahead_us is None
        question.take_untrusted(answer)
        assert question.ahead_us == 0

    play(scenario)
