"""Trust between agents that are never up at the same time, and a rendezvous that lies about what it keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import pytest

from covey.base.types import Identity
from covey.crypto.credentials import Credentials
from covey.crypto.events import revoke
from covey.crypto.mailbox import MAIL_LIFE_US, MailboxKey, MailboxKeys
from covey.crypto.seal import seal
from covey.node import Node
from covey.rendezvous.bucket import TokenBucket
from covey.rendezvous.custodian import Custodian, Source
from covey.testing.world import SimRendezvous, World
from covey.wire import trust as wire
from tests.node.stage import Play, about, code_of, network, raw, start_odd, trust, two_rendezvous

HOUR = 3600.0
DAY = 24 * HOUR


async def stop(world: World, *names: str) -> None:
    for name in names:
        await world.machines[name].stop()


async def settle(world: World, node: Node) -> None:
    """Until its mailbox is open at every rendezvous it is connected to, and was looked into."""
    agent = node._running
    await world.until(lambda: all(client.connected for client in agent.clients))
    await world.wait(3.0)


async def asked_while_away(world: World) -> tuple[Node, Identity]:
    """`a` has asked `b`, who is down."""
    a, b = await network(world, "a", "b")
    await settle(world, b)
    absent = raw(b)
    await stop(world, "b")
    view = await a.handshake("b", "the weekly report")
    assert (view.trust, view.told) == ("requested", "sealed")
    return a, absent


async def back(world: World, name: str) -> Node:
    """A stopped or crashed node is up again, and has looked into its mailbox."""
    await world.restart(name)
    node = world.node(name)
    await settle(world, node)
    return node


def rendezvous(world: World, name: str = "rendezvous") -> SimRendezvous:
    machine = world.machines[name]
    assert isinstance(machine, SimRendezvous)
    return machine


def waiting(world: World, recipient: Identity, name: str = "rendezvous") -> int:
    return len(rendezvous(world, name).mailboxes.waiting(recipient))


def test_agents_that_are_never_up_together_come_to_trust_each_other(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await asked_while_away(world)
        b_identity = about(a, "b").identity
        shown = about(a, "b")
        assert shown.told_at == ["10.0.1.1:4040"]
        assert shown.told_until is not None
        assert 6.9 * DAY < shown.told_until - a._running.now_us() / 1e6 <= 7 * DAY
        number = shown.safety_number
        await stop(world, "a")
        await world.wait(5 * HOUR)
        b = await back(world, "b")
        (request,) = b.pending()
        assert (request.name, request.reason, request.safety_number) == ("a", "the weekly report", number)
        assert "compare the safety number" in request.warning
        assert request.address == about(b, "a").address != ""
        assert waiting(world, raw(b)) == 0
        approved = await b.approve("a")
        assert (approved.trust, approved.told) == ("trusted", "sealed")
        await stop(world, "b")
        await world.wait(5 * HOUR)
        a = await back(world, "a")
        assert trust(a, "b") == "trusted"
        assert about(a, "b").told == "delivered"  # the answer says that the request was heard
        assert about(a, "b").identity == b_identity
        assert waiting(world, raw(a)) == 0
        sent = await a.send("b", "for later", wait=0)
        assert sent.result == "queued"
        b = await back(world, "b")
        await world.until(lambda: b.view().inbox_unread == 1)
        await world.until(lambda: about(b, "a").told == "delivered")

    play(scenario, limit_s=3 * DAY)


def test_no_comes_back_sealed_too(play: Play) -> None:
    async def scenario(world: World) -> None:
        await asked_while_away(world)
        await stop(world, "a")
        b = await back(world, "b")
        await b.reject("a", "not now")
        await world.until(lambda: about(b, "a").told == "sealed")
        await stop(world, "b")
        a = await back(world, "a")
        assert trust(a, "b") == "rejected"

    play(scenario, limit_s=DAY)


def test_requests_that_cross_in_two_mailboxes_are_mutual_trust(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        await settle(world, b)
        await stop(world, "b")
        assert (await a.handshake("b")).told == "sealed"
        await stop(world, "a")
        # b asks before it has looked: its own request waits for a.
        rendezvous(world).server._service._custodian = Deaf(rendezvous(world))
        b = await back(world, "b")
        assert (await b.handshake("a")).told == "sealed"
        await stop(world, "b")
        rendezvous(world).server._service._custodian = rendezvous(world).server._custodian
        a = await back(world, "a")
        assert trust(a, "b") == "trusted"
        await world.until(lambda: about(a, "b").told == "sealed")
        await stop(world, "a")
        b = await back(world, "b")
        assert trust(b, "a") == "trusted"

    play(scenario, limit_s=DAY)


def test_request_that_was_taken_back_was_never_made(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, absent = await asked_while_away(world)
        await a.untrust("b")
        await world.until(lambda: about(a, "b").told == "sealed")
        assert waiting(world, absent) == 1  # the newer letter is in the place of the older
        seen: list[str] = []
        await world.restart("b")
        b = world.node("b")
        following = asyncio.ensure_future(collect_events(b, seen))
        await settle(world, b)
        following.cancel()
        assert b.pending() == []
        assert "TrustChanged" not in seen
        assert waiting(world, raw(b)) == 0

    async def collect_events(node: Node, seen: list[str]) -> None:
        async for event in node.subscribe():
            seen.append(type(event).__name__)

    play(scenario, limit_s=DAY)


def test_trust_that_is_taken_back_while_the_peer_is_away_reaches_it(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        await world.befriend("a", "b")
        await settle(world, b)
        await stop(world, "b")
        await a.untrust("b")
        await world.until(lambda: about(a, "b").told == "sealed")
        await stop(world, "a")
        b = await back(world, "b")
        assert trust(b, "a") == "rejected"

    play(scenario, limit_s=DAY)


def test_connected_peer_hears_at_once_of_a_letter(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        await settle(world, b)
        await a.find("b")
        # Nothing but the rendezvous between them, and no relay: the letter is the only way.
        agent = a._running
        await agent.book.apply(raw(b), "local-request", "by letter")
        peer = agent.book.get(raw(b))
        assert peer is not None
        await agent.deposits.deposit(peer)
        await world.until(lambda: [each.reason for each in b.pending()] == ["by letter"])

    play(scenario)


def test_request_survives_a_rendezvous_that_is_killed_and_a_node_that_is_killed(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await asked_while_away(world)
        await world.crash("rendezvous")
        await world.crash("a")
        await world.restart("rendezvous")
        b = await back(world, "b")
        await world.until(lambda: len(b.pending()) == 1)
        await b.approve("a")
        await world.until(lambda: about(b, "a").told == "sealed")
        await world.crash("b")
        await world.crash("rendezvous")
        await world.restart("rendezvous")
        await back(world, "a")
        a = world.node("a")
        await world.until(lambda: trust(a, "b") == "trusted")

    play(scenario, limit_s=DAY)


def test_letter_that_nobody_collected_expires_with_its_key(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await asked_while_away(world)
        mailbox_file = world.node("b").home.mailbox_file
        old = mailbox_file.read_bytes()
        identity = raw(a)
        await stop(world, "a")
        await world.wait(8.1 * DAY)
        b = await back(world, "b")
        assert b.pending() == []
        assert b._running.book.get(identity) is None
        assert len(b._running.mailbox._keys.pairs) == 1  # the keys of then are gone, from memory and from the disk
        assert mailbox_file.read_bytes() != old
        assert len(mailbox_file.read_bytes()) == len(old)

    play(scenario, limit_s=30 * DAY)


def test_peer_that_is_away_for_longer_than_letters_wait(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        await settle(world, b)
        await a.find("b")
        await stop(world, "a", "b")
        await world.wait(8.1 * DAY)
        a = await back(world, "a")
        view = await a.handshake(b_text(a))
        assert (view.trust, view.told, view.told_at) == ("requested", "queued", [])
        assert view.told_problem != ""

    def b_text(a: Node) -> str:
        return next(view.identity for view in map(a._peer_view, a._running.book.all()) if view.name == "b")

    play(scenario, limit_s=30 * DAY)


def test_letter_is_sealed_again_under_a_new_delegation(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, absent = await asked_while_away(world)
        agent = a._running
        before = agent.deposits._held[absent]
        credentials = agent.credentials
        assert credentials.root is not None
        fresh = credentials.delegate(credentials.root, agent.host.random(32), agent.now_us())
        agent.transport.endpoint.credentials = fresh
        for client in agent.clients:
            client.publish_soon()
        await world.wait(1.0)
        agent.mail.hope()
        await world.until(lambda: agent.deposits._held[absent].delegation != before.delegation)
        await world.until(lambda: agent.deposits._held[absent].custodians != ())
        assert agent.deposits._held[absent].id == before.id
        assert waiting(world, absent) == 1
        b = await back(world, "b")
        assert [each.name for each in b.pending()] == ["a"]

    play(scenario, limit_s=DAY)


@pytest.mark.parametrize("skew_s", [-300.0, 300.0])
def test_clocks_may_differ_by_minutes(skew_s: float, play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.start_rendezvous()
        b = (await world.start_node("b")).node
        await settle(world, b)
        await stop(world, "b")
        a = await start_odd(world, "a", clock_s=skew_s)
        await world.patiently(lambda: a.find("b"))
        assert (await a.handshake("b")).told == "sealed"
        await stop(world, "a")
        b = await back(world, "b")
        assert [each.name for each in b.pending()] == ["a"]

    play(scenario, limit_s=DAY)


def test_letter_that_was_sealed_to_an_older_key_still_opens(play: Play) -> None:
    async def scenario(world: World) -> None:
        await asked_while_away(world)
        await stop(world, "a")
        await world.wait(5 * DAY)
        b = await back(world, "b")
        assert len(b._running.mailbox._keys.pairs) == 2
        assert [each.name for each in b.pending()] == ["a"]

    play(scenario, limit_s=30 * DAY)


def test_mailbox_key_rotates_daily_and_the_new_one_is_found(play: Play) -> None:
    async def scenario(world: World) -> None:
        (b,) = await network(world, "b")
        await settle(world, b)
        first = b._running.mailbox.key_id
        await world.wait(DAY)
        second = b._running.mailbox.key_id
        assert second != first
        await settle(world, b)
        absent = raw(b)
        await stop(world, "b")
        a = (await world.start_node("a")).node
        assert (await world.patiently(lambda: a.handshake("b"))).told == "sealed"
        ((_, sealed),) = rendezvous(world).mailboxes.collect(absent, 0, 1, 1 << 20, 0)
        assert sealed[1:33] == second

    play(scenario, limit_s=30 * DAY)


def test_agent_with_many_absent_peers_deposits_no_faster_than_its_rendezvous_stores(play: Play) -> None:
    async def scenario(world: World) -> None:
        names = [f"b{number}" for number in range(16)]
        nodes = await network(world, "a", *names)
        a = nodes[0]
        for node in nodes:
            await settle(world, node)
        for name in names:
            await a.find(name)
        await stop(world, *names)
        liar = lying(world, lambda page: page)
        machine = rendezvous(world)
        client = machine.server._clients.live(raw(a))
        assert client is not None
        client.bucket = TokenBucket(20.0, 50.0, machine.host.now())
        await asyncio.gather(*(a.handshake(name) for name in names))
        await world.until(lambda: {about(a, name).told for name in names} == {"sealed"})
        assert liar.deposited == len(names)  # none timed out and was repeated

    play(scenario, limit_s=DAY)


# --- two custodians --------------------------------------------------------------------------------------------


async def two_and_away(world: World) -> tuple[Node, Identity]:
    await two_rendezvous(world)
    a, b = [(await world.start_node(name)).node for name in ("a", "b")]
    await settle(world, a)
    await settle(world, b)
    absent = raw(b)
    await stop(world, "b")
    return a, absent


def test_letter_waits_at_both_homes_and_counts_once(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, absent = await two_and_away(world)
        view = await a.handshake("b", "twice")
        await world.until(lambda: len(about(a, "b").told_at) == 2)
        assert view.told == "sealed"
        letters = [rendezvous(world, name).mailboxes.waiting(absent) for name in ("first", "second")]
        assert [len(each) for each in letters] == [1, 1]
        assert letters[0][0].deposit != letters[1][0].deposit
        b = await back(world, "b")
        assert len(b.pending()) == 1
        assert [waiting(world, absent, name) for name in ("first", "second")] == [0, 0]
        await b.reject("a")
        await settle(world, b)
        assert b.pending() == []

    play(scenario, limit_s=DAY)


@pytest.mark.parametrize("dead", ["first", "second"])
def test_either_custodian_may_die(dead: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await two_and_away(world)
        await a.handshake("b")
        await world.until(lambda: len(about(a, "b").told_at) == 2)
        await world.crash(dead)
        await stop(world, "a")
        await world.restart("b")
        b = world.node("b")
        await world.until(lambda: len(b.pending()) == 1)

    play(scenario, limit_s=DAY)


def test_second_custodian_gets_its_copy_when_it_is_back(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, absent = await two_and_away(world)
        await world.crash("second")
        await world.until(lambda: sum(client.connected for client in a._running.clients) == 1)
        assert (await a.handshake("b")).told_at == ["10.0.1.1:4040"]
        await world.restart("second")
        await world.until(lambda: len(about(a, "b").told_at) == 2)
        assert waiting(world, absent, "second") == 1

    play(scenario, limit_s=DAY)


def test_rendezvous_that_lost_its_letters_is_found_out(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await asked_while_away(world)
        path = rendezvous(world).mailboxes.database.path
        await world.crash("rendezvous")
        for each in path.parent.glob(f"{path.name}*"):
            each.unlink()
        await world.restart("rendezvous")
        # The box is gone with the letters, so nothing waits for b any more but at a itself.
        await world.until(lambda: about(a, "b").told == "queued")
        assert "no mailbox" in about(a, "b").told_problem
        assert "trust-unsent" in [finding.code for finding in a.view().findings]
        await world.restart("b")
        await world.until(lambda: len(world.node("b").pending()) == 1)

    play(scenario, limit_s=DAY)


def test_letter_is_deposited_once_more_in_a_new_session_and_takes_no_room(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, absent = await asked_while_away(world)
        (before,) = rendezvous(world).mailboxes.waiting(absent)
        await world.crash("a")
        await world.restart("a")
        a = world.node("a")
        assert about(a, "b").told == "sealed"
        await world.until(lambda: rendezvous(world).mailboxes.waiting(absent)[0].number > before.number)
        (after,) = rendezvous(world).mailboxes.waiting(absent)
        assert after.deposit == before.deposit
        await world.wait(HOUR)
        assert rendezvous(world).mailboxes.waiting(absent) == [after]

    play(scenario, limit_s=DAY)


def test_letter_of_a_revoked_identity_is_dropped(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, absent = await asked_while_away(world)
        credentials = a._running.credentials
        assert credentials.root is not None
        await stop(world, "a")
        over = revoke(credentials.log, credentials.root)
        rendezvous(world).store.database.execute(
            "UPDATE records SET log = ? WHERE identity = ?", (over.raw, over.identity)
        )
        b = await back(world, "b")
        assert b.pending() == []
        assert waiting(world, absent) == 0

    play(scenario, limit_s=DAY)


# --- a rendezvous that lies ------------------------------------------------------------------------------------

Page = tuple[bool, list[tuple[int, bytes]]]


class Liar(Custodian):
    """Keeps letters like any other, but hands them out as `lie` says."""

    def __init__(self, machine: SimRendezvous, lie: Callable[[Page], Page] = lambda page: page) -> None:
        super().__init__(machine.host, machine.mailboxes, machine.server._limits)
        self.lie = lie
        self.cleared: list[int] = []
        self.deposited = 0

    async def deposit(self, source: Source, deposit_id: bytes, recipient: Identity, sealed: bytes) -> None:
        self.deposited += 1
        await super().deposit(source, deposit_id, recipient, sealed)

    async def collect(self, recipient: Identity, after: int) -> Page:
        return self.lie(await super().collect(recipient, after))

    async def clear(self, recipient: Identity, numbers: Iterable[int]) -> None:
        self.cleared += numbers  # and forgets nothing


class Deaf(Liar):
    """Says that there is nothing."""

    async def collect(self, recipient: Identity, after: int) -> Page:
        return False, []


def lying(world: World, lie: Callable[[Page], Page]) -> Liar:
    machine = rendezvous(world)
    liar = Liar(machine, lie)
    machine.server._service._custodian = liar
    return liar


class Impostor(Liar):
    """Gives a mailbox key of its own choice to who asks for another's."""

    def __init__(self, machine: SimRendezvous, key: bytes) -> None:
        super().__init__(machine)
        self.key = key

    async def ask(self, identity: Identity) -> bytes:
        return self.key


@pytest.mark.parametrize("lie", ["its own", "rubbish", "none", "signed by another", "an older one"])
def test_lie_about_a_mailbox_key_gets_no_letter(lie: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        await two_rendezvous(world)
        a, b = [(await world.start_node(name)).node for name in ("a", "b")]
        await settle(world, a)
        await settle(world, b)
        mailbox, now_us = b._running.mailbox, b._running.now_us()
        other = Credentials.create(a._running.host.random, now_us)[0]
        false = MailboxKeys().rotated(other, bytes(32), now_us).current
        posed = MailboxKey.make(
            other.operational, raw(b), b._running.credentials.delegation, false.public, now_us, now_us + 10**12
        )
        older = mailbox._keys.current.raw
        if lie == "an older one":
            mailbox._keys = mailbox._keys.rotated(b._running.credentials, bytes(32), now_us)
            b._running.announcement.mailbox_key_id = mailbox.key_id
            for client in b._running.clients:
                client.publish_soon()
            await settle(world, b)
        key = {
            "its own": false.raw,
            "rubbish": bytes(1482),
            "none": b"",
            "signed by another": posed.raw,
            "an older one": older,
        }[lie]
        machine = rendezvous(world, "first")
        machine.server._service._custodian = liar = Impostor(machine, key)
        await stop(world, "b")
        await a.handshake("b")
        await world.until(lambda: about(a, "b").told == "sealed")
        assert about(a, "b").told_at == ["10.0.1.2:4040"]  # the other one
        assert liar.deposited == 0

    play(scenario, limit_s=DAY)


def repeated(page: Page) -> Page:
    return True, [(number + copy, sealed) for number, sealed in page[1] for copy in range(3)]


def for_ever(page: Page) -> Page:
    return True, page[1] or [(1, b"x")]


def flipped(page: Page) -> Page:
    return page[0], [(number, bytes([*sealed[:-1], sealed[-1] ^ 1])) for number, sealed in page[1]]


def cut(page: Page) -> Page:
    return page[0], [(number, sealed[: len(sealed) // 2]) for number, sealed in page[1]]


def postponed(page: Page) -> Page:
    """A later expiry than the sender's."""
    later = (1 << 62).to_bytes(8, "big")
    return page[0], [(number, sealed[:33] + later + sealed[41:]) for number, sealed in page[1]]


def rubbish(page: Page) -> Page:
    return False, [(number, bytes([number % 256]) * 2000) for number in range(1, 100)]


def dropped(page: Page) -> Page:
    return False, []


@pytest.mark.parametrize("lie", [flipped, cut, postponed, rubbish, dropped])
def test_lie_about_a_letter_has_no_effect_but_refusal(lie: Callable[[Page], Page], play: Play) -> None:
    async def scenario(world: World) -> None:
        await asked_while_away(world)
        await stop(world, "a")
        lying(world, lie)
        b = await back(world, "b")
        assert b.pending() == []
        assert b.peers() == []
        assert b.view().findings == [each for each in b.view().findings if each.code == "single-rendezvous"]

    play(scenario, limit_s=DAY)


@pytest.mark.parametrize("lie", [repeated, for_ever])
def test_letter_that_is_repeated_counts_once(lie: Callable[[Page], Page], play: Play) -> None:
    async def scenario(world: World) -> None:
        await asked_while_away(world)
        await stop(world, "a")
        lying(world, lie)
        b = await back(world, "b")
        await world.until(lambda: len(b.pending()) == 1)
        await b.reject("a")
        await stop(world, "b")
        b = await back(world, "b")
        assert b.pending() == []

    play(scenario, limit_s=DAY)


def test_letter_for_somebody_else_is_dropped(play: Play) -> None:
    async def scenario(world: World) -> None:
        _, absent = await asked_while_away(world)
        ((_, sealed),) = rendezvous(world).mailboxes.collect(absent, 0, 1, 1 << 20, 0)
        liar = lying(world, lambda page: (False, [(5, sealed)]))
        c = (await world.start_node("c")).node
        await settle(world, c)
        assert c.pending() == []
        assert 5 in liar.cleared

    play(scenario, limit_s=DAY)


def test_letter_that_was_held_back_counts_no_more(play: Play) -> None:
    """The rendezvous keeps a request for later; meanwhile it was made, granted and taken back in person."""

    async def scenario(world: World) -> None:
        a, absent = await asked_while_away(world)
        held = rendezvous(world).mailboxes.collect(absent, 0, 1, 1 << 20, 0)
        lying(world, dropped)
        b = await back(world, "b")
        await world.until(lambda: len(b.pending()) == 1)  # in person
        await b.approve("a")
        await world.until(lambda: trust(a, "b") == "trusted")
        await a.untrust("b")
        await world.until(lambda: trust(b, "a") == "rejected")
        await b.untrust("a")
        lying(world, lambda page: (False, held))
        await stop(world, "b")
        b = await back(world, "b")
        assert trust(b, "a") == "unknown"
        assert b.pending() == []

    play(scenario, limit_s=DAY)


def test_letter_waits_until_its_sender_can_be_verified(play: Play) -> None:
    async def scenario(world: World) -> None:
        await asked_while_away(world)
        await stop(world, "a")
        machine = rendezvous(world)
        records = machine.store.database.rows("SELECT * FROM records")
        names = machine.store.database.rows("SELECT * FROM names")
        machine.store.database.execute("DELETE FROM records")
        b = await back(world, "b")
        assert b.pending() == []
        assert waiting(world, raw(b)) == 1
        machine.store.database.execute_many(f"INSERT OR IGNORE INTO records VALUES ({','.join('?' * 8)})", records)
        machine.store.database.execute_many("INSERT OR IGNORE INTO names VALUES (?, ?, ?)", names)
        await world.wait(HOUR + 5)
        assert [each.name for each in b.pending()] == ["a"]
        assert waiting(world, raw(b)) == 0

    play(scenario, limit_s=DAY)


def test_flood_of_letters_neither_keeps_a_request_out_nor_fills_anything(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        flooder = (await world.start_node("f")).node
        await settle(world, b)
        key = b._running.mailbox._keys.current
        await stop(world, "b")
        custodian = rendezvous(world).server._custodian
        source = Source("192.0.2.66", raw(flooder))
        credentials = flooder._running.credentials
        now_us = rendezvous(world).host.wall_us()
        for number in range(300):
            letter = seal(
                credentials,
                key,
                expires_us=now_us + MAIL_LIFE_US,
                incarnation=1,
                number=number + 1,
                kind=wire.LETTER_KIND if number % 3 else 77,
                body=wire.TrustLetter("request", "f", "spam", 0).encode() if number % 2 else bytes(50),
            )
            code = await code_of(custodian.deposit(source, number.to_bytes(16, "big"), key.identity, letter))
            assert code == ("" if number < 256 else "mailbox-full")
        assert waiting(world, key.identity) == 256
        assert (await a.handshake("b", "honest")).told == "sealed"
        await stop(world, "a", "f")
        b = await back(world, "b")
        await world.until(lambda: {each.reason for each in b.pending()} == {"honest", "spam"})
        assert len(b._running.book.all()) == 2

    play(scenario, limit_s=DAY)
