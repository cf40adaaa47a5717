"""A rendezvous that lies in every answer: alone, and beside an honest one. A pinned peer: no effect.

`tests/rendezvous/liar.py` is a real rendezvous with a lie at its lips. A lie may keep agents apart while it is the only
one they have; it never brings a message to anybody else, changes a pin, or ends a session of two who trust each other.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from covey.crypto.credentials import Credentials
from covey.crypto.record import Record
from covey.node import Node
from covey.rendezvous.clients import Client
from covey.testing.world import World
from covey.wire import rendezvous as wire
from tests.node.stage import Play, about, bodies, code_of, raw, trust
from tests.rendezvous.liar import HOUR_US, Liar, Raw, start_liar, stream_of

Said = wire.Message | bytes | None


async def changed_record(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    if not isinstance(truth, wire.Found):
        return truth
    broken = []
    for claim in truth.claims:
        record = bytearray(claim.record)
        record[-100] ^= 1
        broken.append(replace(claim, record=bytes(record)))
    return replace(truth, claims=tuple(broken))


async def others_record(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    """Of whoever else it knows, whoever is asked for."""
    if not isinstance(truth, wire.Found):
        return truth
    asked = {Record.parse(claim.record).identity for claim in truth.claims}
    others = [claims[-1] for identity, claims in sorted(liar.published.items()) if identity not in asked]
    return replace(truth, claims=tuple(others[:16]))


async def impostor(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    """Valid keys of its own under the name that is asked for."""
    if not isinstance(request, wire.Lookup):
        return truth
    credentials = Credentials.create(liar.host.random, liar.host.wall_us())[0]
    name = request.key.decode() if request.by == wire.BY_NAME else "b"
    return wire.Found(request.number, (liar.signed(credentials, name),))


async def crowded_claims(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    """The truth, and others beside it: each has a log that would be verified."""
    if not isinstance(truth, wire.Found) or request.by == wire.BY_ADDRESS:  # type: ignore[union-attr]
        return truth
    name = request.key.decode() if request.by == wire.BY_NAME else "b"  # type: ignore[union-attr]
    made = [Credentials.create(liar.host.random, liar.host.wall_us())[0] for _ in range(11)]
    return replace(truth, claims=(*truth.claims, *(liar.signed(each, name) for each in made)))


async def old_record(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    if not isinstance(truth, wire.Found):
        return truth
    first = tuple(liar.published[Record.parse(claim.record).identity][0] for claim in truth.claims)
    return replace(truth, claims=first)


async def future_record(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    if not isinstance(request, wire.Lookup):
        return truth
    credentials = Credentials.create(liar.host.random, liar.host.wall_us())[0]
    return wire.Found(request.number, (liar.signed(credentials, "b", at_us=liar.host.wall_us() + 90 * 24 * HOUR_US),))


async def others_log(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    if not isinstance(truth, wire.Found):
        return truth
    stranger = Credentials.create(liar.host.random, liar.host.wall_us())[0]
    return replace(truth, claims=tuple(replace(claim, log=stranger.log.raw) for claim in truth.claims))


async def broken_log(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    if not isinstance(truth, wire.Found):
        return truth
    return replace(truth, claims=tuple(replace(claim, log=claim.log[:-1]) for claim in truth.claims))


async def knows_nobody(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    match request:
        case wire.Lookup(number, _, _):
            return wire.Found(number, ())
        case wire.Introduce(number, _):
            return wire.Introduced(number, 0)
    return truth


async def false_introduction(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    if isinstance(request, wire.Introduce):
        return wire.Introduced(request.number, int.from_bytes(liar.host.random(4), "big") | 1)
    return truth


async def false_absence_and_presence(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    for identity in [*liar.published, bytes(32)] * 3:
        await liar.push(client, wire.Present(0, identity))  # type: ignore[arg-type]
    return wire.Introduced(request.number, 0) if isinstance(request, wire.Introduce) else truth


async def made_up_addresses(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    for endpoint in ("203.0.113.9:53", "127.0.0.1:22", "[2001:db8::7]:9", "10.0.2.3:1"):
        await liar.push(client, wire.Observed(0, endpoint))
    return truth


async def impossible_addresses(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    endpoints = ("224.0.0.1:9", "0.0.0.0:9", "[::]:1", "10.0.0.1:0", "rendezvous.example:9", "", "x", "[ff02::1]:5")
    endpoint = endpoints[len(liar.asked) % len(endpoints)].encode()
    await stream_of(client).write(wire.encode(Raw(0x21, 0, bytes([len(endpoint)]) + endpoint)))  # type: ignore[arg-type]
    return truth


async def false_registration(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    if isinstance(request, wire.Publish):
        liar.store.database.execute("DELETE FROM records")
        return wire.Published(request.number, wire.NAME_HELD)
    return truth


async def names_are_taken(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    return wire.Published(request.number, wire.NAME_TAKEN) if isinstance(request, wire.Publish) else truth


async def refuses_everything(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    return wire.Failed(request.number, "no-such-code", "\x1b[31mno\x07 " + "x" * 500)


async def answers_something_else(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    return wire.Done(request.number)


async def answers_another_number(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    return replace(truth, number=request.number + 1)


async def says_nothing(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    return None


async def always_draining(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    await liar.push(client, wire.Restarting(0, 1, 1))
    return truth


async def garbage(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    return liar.host.random(200)


async def giant(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    return b"\x7f\xff\xff\xff\x12" + bytes(2000)


async def giant_count(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    if not isinstance(request, wire.Lookup):
        return truth
    return Raw(0x12, request.number, b"\xff" + b"\x03\xe8" * 40_000)  # type: ignore[return-value]


async def never_ending(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    """A frame of the largest size that is allowed, one byte at a time."""
    return b"\x00\x08\x00\x00\x12\x00" if not isinstance(request, wire.Publish) else truth


async def chatter(liar: Liar, client: Client, request: wire.Message, truth: wire.Message) -> Said:
    for number in range(400):
        await liar.push(client, wire.Done(1_000_000 + number))
    return truth


LIES = (
    changed_record,
    others_record,
    impostor,
    crowded_claims,
    old_record,
    future_record,
    others_log,
    broken_log,
    knows_nobody,
    false_introduction,
    false_absence_and_presence,
    made_up_addresses,
    impossible_addresses,
    false_registration,
    names_are_taken,
    refuses_everything,
    answers_something_else,
    answers_another_number,
    says_nothing,
    always_draining,
    garbage,
    giant,
    giant_count,
    never_ending,
    chatter,
)

each_lie = pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)


async def friends_with_liar(world: World, *, honest: bool) -> tuple[Node, Node, Liar]:
    """a and b, who trust each other and can only be relayed; the liar is still honest."""
    if honest:
        await world.start_rendezvous("honest")
    liar = await start_liar(world)
    a, b = [(await world.start_node(name)).node for name in ("a", "b")]
    await world.until(lambda: a.name_view().held == b.name_view().held == 1 + honest)
    world.apart("a", "b")
    await world.befriend("a", "b")
    await a.send("b", "before")
    return a, b, liar


def unchanged(node: Node, other: Node, number: str) -> None:
    view = about(node, other)
    assert (view.safety_number, view.name, view.trust) == (number, other.name, "trusted")
    assert {peer.identity for peer in node.peers()} == {other.identity}


@each_lie
def test_pinned_peers_notice_no_lie_beside_an_honest_rendezvous(lie: object, play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b, liar = await friends_with_liar(world, honest=True)
        number = about(a, b).safety_number
        liar.lie = lie  # type: ignore[assignment]
        for count in range(3):
            sent = await a.send("b", f"open {count}", wait=10.0)
            assert sent.result == "delivered"
        await world.crash("b")
        await world.restart("b")
        b = world.node("b")
        sent = await a.send("b", "to a fresh start", wait=15.0)
        assert (sent.result, sent.elapsed_ms < 6000) == ("delivered", True), sent.elapsed_ms
        await world.crash("a")
        await world.restart("a")
        a = world.node("a")
        sent = await a.send("b", "from a fresh start", wait=15.0)
        assert (sent.result, sent.elapsed_ms < 6000) == ("delivered", True), sent.elapsed_ms
        sent = await b.send("a", "back", wait=15.0)
        assert sent.result == "delivered"
        assert (await a.find(b.identity)).identity == b.identity
        assert (await a.find("b")).identity == b.identity
        await asyncio.sleep(700.0)
        assert (await a.send("b", "much later", wait=15.0)).result == "delivered"
        unchanged(a, b, number)
        unchanged(b, a, number)
        assert len(await bodies(b, all=True)) == 7
        assert len(liar.asked) < 2000, "it does not keep them busy"
        assert liar.asked

    play(scenario)


@each_lie
def test_liar_alone_can_keep_pinned_peers_apart_and_nothing_else(lie: object, play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b, liar = await friends_with_liar(world, honest=False)
        number = about(a, b).safety_number
        liar.lie = lie  # type: ignore[assignment]
        results = [(await a.send("b", f"open {count}", wait=10.0)).result for count in range(3)]
        assert results == ["delivered"] * 3, "the session that exists goes on"
        await world.crash("a")
        await world.restart("a")
        a = world.node("a")
        sent = await a.send("b", "from a fresh start", wait=15.0)
        assert sent.result in ("delivered", "queued")
        assert await code_of(a.find("b")) in ("", "no-rendezvous")
        assert len(liar.asked) < 300, "it does not keep them busy"
        unchanged(a, b, number)
        unchanged(b, a, number)
        liar.lie = None
        await world.until(lambda: b.view().inbox_unread == 5)
        assert (await bodies(b))[-1] == "from a fresh start"
        unchanged(a, b, number)

    play(scenario, limit_s=4000.0)


@each_lie
def test_unknown_peer_under_a_lying_rendezvous_is_at_most_asked_for_trust(lie: object, play: Play) -> None:
    """The name may be answered with another identity. It gets a request, and shows another safety number."""

    async def scenario(world: World) -> None:
        liar = await start_liar(world)
        a, b = [(await world.start_node(name)).node for name in ("a", "b")]
        await world.until(lambda: a.name_view().held == b.name_view().held == 1)
        liar.lie = lie  # type: ignore[assignment]
        code = await code_of(a.handshake("b"))
        assert code in ("", "unknown-peer", "no-rendezvous", "no-such-code")
        await asyncio.sleep(30.0)
        for peer in a.peers():
            assert peer.trust == "requested"
            assert "safety number" in peer.warning
            if peer.identity != b.identity:
                assert peer.safety_number != b._peer_view(await asked_by(b, a)).safety_number
        assert await code_of(a.send("b", "secret")) != ""
        assert await bodies(b) == []

    async def asked_by(node: Node, other: Node):  # type: ignore[no-untyped-def]
        await node._running.book.apply(raw(other), "local-request")
        return node._running.book.get(raw(other))

    play(scenario)


@pytest.mark.parametrize("by", ["name", "address"])
def test_unknown_peer_beside_an_honest_rendezvous_is_disputed(by: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.start_rendezvous("honest")
        liar = await start_liar(world)
        a, b = [(await world.start_node(name)).node for name in ("a", "b")]
        await world.until(lambda: a.name_view().held == b.name_view().held == 2)
        liar.lie = impostor
        if by == "name":
            assert await code_of(a.handshake("b")) == "name-disputed"
        else:
            assert (await a.find(b.address)).identity == b.identity, "an impostor has another address"
            contradictions = {view.endpoint: view.contradictions for view in a.view().rendezvous}
            assert contradictions == {"10.0.1.1:4040": 0, "10.0.1.2:4040": 1}
        assert a.peers() == []

    play(scenario)


def test_rendezvous_with_several_claims_to_one_name_is_believed_in_none(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.start_rendezvous("honest")
        liar = await start_liar(world)
        a, b = [(await world.start_node(name)).node for name in ("a", "b")]
        await world.until(lambda: a.name_view().held == b.name_view().held == 2)
        liar.lie = crowded_claims
        found = await a.find("b")
        assert (found.identity, found.witnesses) == (b.identity, 1)
        assert sorted(view.contradictions for view in a.view().rendezvous) == [0, 1]

    play(scenario)


def test_lies_are_told_with_the_rendezvous_that_said_them(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b, liar = await friends_with_liar(world, honest=True)
        liar.lie = changed_record
        await a._running.directory.compare(raw(b))
        (found,) = a.view().degraded
        assert found.code == "rendezvous-contradiction"
        assert "10.0.1.2:4040 said what no honest rendezvous can" in found.what
        assert {view.endpoint: view.contradictions for view in a.view().rendezvous} == {
            "10.0.1.1:4040": 0,
            "10.0.1.2:4040": 1,
        }
        assert trust(a, b) == "trusted"

    play(scenario)
