from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.types import Identity
from covey.crypto.credentials import Credentials
from covey.crypto.mailbox import MAIL_LIFE_US, MailboxKeys
from covey.crypto.seal import open_sealed, seal
from covey.rendezvous.custodian import Source, make_room, source_of
from covey.rendezvous.limits import Limits
from covey.testing import run
from covey.wire import rendezvous as wire
from tests.rendezvous.world import Agent, World, world

FLOODER = Source("192.0.2.1", Identity(b"f" * 32))
HONEST = Source("198.51.100.1", Identity(b"h" * 32))


def flood(count: int, *, first: int = 1, source: Source = FLOODER) -> list[tuple[int, int, Source]]:
    return [(number, 10, source) for number in range(first, first + count)]


def room(held: list[tuple[int, int, Source]], source: Source, size: int = 10) -> list[int] | None:
    return make_room(held, size, source, letters=4, room=1000)


def test_box_with_room_loses_nothing() -> None:
    assert room(flood(3), HONEST) == []


def test_flooder_is_refused_once_the_box_is_full() -> None:
    assert room(flood(4), FLOODER) is None
    assert room([*flood(2), (9, 10, HONEST), (10, 10, HONEST)], FLOODER) is None


def test_flood_makes_way_newest_first_and_what_came_before_it_stays() -> None:
    held = [(1, 10, HONEST), *flood(3, first=2)]
    other = Source("203.0.113.1", Identity(b"o" * 32))
    assert room(held, other) == [4]


def test_many_identities_of_one_network_are_one_source() -> None:
    crowd = [(number, 10, Source("192.0.2.1", Identity(bytes([number]) * 32))) for number in range(1, 5)]
    assert room(crowd, HONEST) is not None
    newcomer = Source("192.0.2.1", Identity(b"n" * 32))
    assert room(crowd, newcomer) is None


def test_loud_identity_makes_way_for_its_quiet_neighbour() -> None:
    neighbour = Source(FLOODER.network, Identity(b"n" * 32))
    assert room(flood(4), neighbour) == [4]


def test_room_is_counted_in_bytes_too() -> None:
    held = [(1, 600, FLOODER), (2, 300, FLOODER)]
    assert make_room(held, 350, HONEST, letters=10, room=1000) == [2]
    assert make_room(held, 500, HONEST, letters=10, room=1000) == [2, 1]
    assert make_room([(1, 600, FLOODER)], 700, HONEST, letters=10, room=1000) is None


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 400)), max_size=60))
def test_no_order_of_deposits_overfills_a_box_or_takes_an_equal_share(script: list[tuple[int, int, int]]) -> None:
    held: list[tuple[int, int, Source]] = []
    for number, (network, identity, size) in enumerate(script, 1):
        source = Source(str(network), Identity(bytes([identity]) * 32))
        before = sum(taken for _, taken, where in held if where.network != source.network)
        gone = make_room(held, size, source, letters=8, room=1000)
        if gone is None:
            continue
        lost = [each for each in held if each[0] in gone]
        held = [each for each in held if each[0] not in gone]
        held.append((number, size, source))
        assert len(held) <= 8
        assert sum(taken for _, taken, _ in held) <= 1000
        if lost and before:
            mine = sum(taken for _, taken, where in held if where.network == source.network)
            networks = {where.network for _, _, where in lost}
            for network_lost in networks - {source.network}:
                had = sum(taken for _, taken, where in (*held, *lost) if where.network == network_lost)
                assert had >= mine - size


@pytest.mark.parametrize(
    ("endpoint", "network"),
    [
        ("192.0.2.7:99", "192.0.2.7"),
        ("[2001:db8:1:2:3:4:5:6]:99", "2001:db8:1:2::/64"),
        ("[::ffff:192.0.2.7]:99", "192.0.2.7"),
        ("", "-"),
    ],
)
def test_source_of(endpoint: str, network: str) -> None:
    assert source_of(endpoint, HONEST.identity) == Source(network, HONEST.identity)


# --- through the service ---------------------------------------------------------------------------------------


Scenario = Callable[[World], Awaitable[None]]


def play(scenario: Scenario, seed: int, directory: Path, limits: Limits | None = None) -> None:
    async def main() -> None:
        async with world(seed, directory, limits) as made:
            await scenario(made)

    run(main(), seed=seed)


def keys(agent: Agent) -> MailboxKeys:
    return MailboxKeys().rotated(agent.credentials, bytes(32), agent.host.wall_us())


async def open_box(agent: Agent) -> MailboxKeys:
    await agent.publish()
    mine = keys(agent)
    assert await agent.call(wire.OpenBox, mine.current.raw) == wire.Done(agent._number)
    return mine


def letter(sender: Credentials, box: MailboxKeys, *, number: int = 1, expires_us: int, body: bytes = b"hello") -> bytes:
    return seal(sender, box.current, expires_us=expires_us, incarnation=1, number=number, kind=1, body=body)


def deposit_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


async def failure(agent: Agent, kind: type[wire.Message], *fields: object) -> str:
    answer = await agent.call(kind, *fields)
    assert isinstance(answer, wire.Failed), answer
    return answer.code


def test_letter_waits_for_an_absent_agent(sim_seed: int, tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        bob = await there.agent()
        box = await open_box(bob)
        await bob.close()
        ada = await there.agent()
        answer = await ada.call(wire.AskBox, bob.identity)
        assert isinstance(answer, wire.Box)
        assert answer.key == box.current.raw
        expires_us = ada.host.wall_us() + MAIL_LIFE_US
        sealed = letter(ada.credentials, box, expires_us=expires_us)
        assert isinstance(await ada.call(wire.Deposit, deposit_id(1), bob.identity, sealed), wire.Stored)
        await ada.close()
        await there.stop()
        await there.start()
        again = there.new_agent(credentials=bob.credentials)
        await again.join(there.ticket)
        answer = await again.call(wire.Collect, 0)
        assert isinstance(answer, wire.Letters)
        ((number, received),) = answer.letters
        assert not answer.more
        opened = open_sealed(received, bob.identity, box, again.host.wall_us())
        opened.verify(ada.credentials.log, again.host.wall_us())
        assert opened.body == b"hello"
        assert await again.call(wire.Collect, 0) == replace(answer, number=again._number)  # until it is cleared
        assert isinstance(await again.call(wire.Clear, (number,)), wire.Done)
        assert await again.call(wire.Collect, 0) == wire.Letters(again._number, False, ())

    play(scenario, sim_seed, tmp_path)


def test_connected_recipient_is_told(sim_seed: int, tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        bob, ada = await there.agent(), await there.agent()
        box = await open_box(bob)
        sealed = letter(ada.credentials, box, expires_us=ada.host.wall_us() + MAIL_LIFE_US)
        await ada.call(wire.Deposit, deposit_id(1), bob.identity, sealed)
        assert await bob.pushed(wire.Mail) == wire.Mail(0)

    play(scenario, sim_seed, tmp_path)


def test_what_is_refused(sim_seed: int, tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        bob, ada = await there.agent(), await there.agent()
        now = ada.host.wall_us()
        box = keys(bob)
        sealed = letter(ada.credentials, box, expires_us=now + MAIL_LIFE_US)
        assert await failure(ada, wire.Deposit, deposit_id(1), bob.identity, sealed) == "no-mailbox"
        assert await ada.call(wire.AskBox, bob.identity) == wire.Box(ada._number, b"")
        await bob.publish()
        assert await failure(ada, wire.OpenBox, box.current.raw) == "not-yours"
        await open_box(bob)
        assert await failure(ada, wire.Deposit, deposit_id(1), bob.identity, b"\1" + sealed[1:200]) == "malformed"
        for expires_us in (now - 1, now + 2 * MAIL_LIFE_US):
            late = letter(ada.credentials, box, expires_us=expires_us)
            assert await failure(ada, wire.Deposit, deposit_id(1), bob.identity, late) == "bad-expiry"
        stale = MailboxKeys().rotated(bob.credentials, bytes(32), now - 20 * MAIL_LIFE_US)
        assert await failure(bob, wire.OpenBox, stale.current.raw) == "expired"
        assert await bob.call(wire.Collect, 2**64 - 1) == wire.Letters(bob._number, False, ())
        assert isinstance(await bob.call(wire.Clear, (2**64 - 1,)), wire.Done)

    play(scenario, sim_seed, tmp_path)


def test_flooder_does_not_keep_an_honest_letter_out(sim_seed: int, tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        bob, flooder, ada = await there.agent(), await there.agent(), await there.agent()
        box = await open_box(bob)
        expires_us = ada.host.wall_us() + MAIL_LIFE_US
        outcomes = []
        for number in range(10):
            sealed = letter(flooder.credentials, box, number=number, expires_us=expires_us)
            outcomes.append(type(await flooder.call(wire.Deposit, deposit_id(number), bob.identity, sealed)))
        assert outcomes == [wire.Stored] * 6 + [wire.Failed] * 4
        sealed = letter(ada.credentials, box, expires_us=expires_us, body=b"honest")
        assert isinstance(await ada.call(wire.Deposit, deposit_id(99), bob.identity, sealed), wire.Stored)
        answer = await bob.call(wire.Collect, 0)
        assert isinstance(answer, wire.Letters)
        opened = [open_sealed(raw, bob.identity, box, bob.host.wall_us()) for _, raw in answer.letters]
        assert [each.sender for each in opened] == [flooder.identity] * 5 + [ada.identity]

    limits = Limits(box_letters=6, network_bytes=40_000, requests_burst=10_000)
    play(scenario, sim_seed, tmp_path, limits)


def test_network_has_a_share_of_all_boxes_that_comes_back(sim_seed: int, tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        bob, carol, ada = await there.agent(), await there.agent(), await there.agent()
        boxes = [await open_box(bob), await open_box(carol)]
        expires_us = ada.host.wall_us() + MAIL_LIFE_US
        for number, (agent, box) in enumerate(zip((bob, carol), boxes, strict=True)):
            sealed = letter(ada.credentials, box, expires_us=expires_us)
            assert isinstance(await ada.call(wire.Deposit, deposit_id(number), agent.identity, sealed), wire.Stored)
        sealed = letter(ada.credentials, boxes[0], expires_us=expires_us)
        assert await failure(ada, wire.Deposit, deposit_id(7), bob.identity, sealed) == "too-much-mail"
        # A newer letter in the place of an older one needs no room.
        assert isinstance(await ada.call(wire.Deposit, deposit_id(0), bob.identity, sealed), wire.Stored)
        answer = await bob.call(wire.Collect, 0)
        assert isinstance(answer, wire.Letters)
        await bob.call(wire.Clear, tuple(number for number, _ in answer.letters))
        assert isinstance(await ada.call(wire.Deposit, deposit_id(7), bob.identity, sealed), wire.Stored)

    play(scenario, sim_seed, tmp_path, Limits(network_bytes=4000))


def test_long_queue_comes_in_pages(sim_seed: int, tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        bob, ada = await there.agent(), await there.agent()
        box = await open_box(bob)
        expires_us = ada.host.wall_us() + MAIL_LIFE_US
        for number in range(150):
            size = 40_000 if number < 8 else 10
            sealed = letter(ada.credentials, box, number=number, expires_us=expires_us, body=bytes(size))
            assert isinstance(await ada.call(wire.Deposit, deposit_id(number), bob.identity, sealed), wire.Stored)
        after, seen, more = 0, [], True
        while more:
            answer = await bob.call(wire.Collect, after)
            assert isinstance(answer, wire.Letters)
            seen += [open_sealed(raw, bob.identity, box, bob.host.wall_us()).number for _, raw in answer.letters]
            after, more = answer.letters[-1][0], answer.more
        assert seen == list(range(150))

    play(scenario, sim_seed, tmp_path, Limits(requests_burst=10_000))


def test_expired_letters_are_forgotten_with_their_sources(sim_seed: int, tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        bob, ada = await there.agent(), await there.agent()
        box = await open_box(bob)
        sealed = letter(ada.credentials, box, expires_us=ada.host.wall_us() + 60_000_000)
        await ada.call(wire.Deposit, deposit_id(1), bob.identity, sealed)
        assert (await there.server.counts())[-2:] == (1, 1)
        assert len(there.server._custodian._sources) == 1
        await asyncio.sleep(2 * 3600)
        assert (await there.server.counts())[-2:] == (1, 0)
        assert there.server._custodian._sources == {}
        assert there.server._custodian._networks == {}

    play(scenario, sim_seed, tmp_path)
