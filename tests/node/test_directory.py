"""Names, addresses and identities over one rendezvous or several, honest or not."""

from __future__ import annotations

import asyncio

import pytest

from covey.base.errors import CoveyError, NotFoundError, UnreachableError
from covey.base.types import Identity, parse_identity
from covey.core import events
from covey.crypto.credentials import Credentials
from covey.crypto.events import KeyLog
from covey.crypto.record import Record
from covey.node import Node
from covey.node.transport import Stream, Transport
from covey.testing import SimHost
from covey.testing.world import SimRendezvous, World
from covey.wire import rendezvous as wire
from covey.wire.framing import FrameReader
from covey.wire.ticket import Ticket, TicketEntry
from tests.node.stage import (
    Play,
    about,
    bodies,
    code_of,
    friends,
    network,
    raw,
    start_odd,
    together,
    trust,
    two_rendezvous,
)

HOUR_US = 3600 * 1_000_000


def connected(node: Node) -> int:
    return sum(view.connected for view in node.view().rendezvous)


def test_find_takes_name_address_and_identity(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        found = [await a.find(text) for text in ("b", b.address, b.identity)]
        assert {(view.identity, view.name, view.address) for view in found} == {(b.identity, "b", b.address)}
        assert found[0].witnesses == 1
        assert found[0].trust == "unknown"
        assert a.peers() == []

    play(scenario)


@pytest.mark.parametrize("text", ["ghost", "0000.0000.0001", "a" * 52])
def test_find_of_nobody(text: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        (a,) = await network(world, "a")
        with pytest.raises(NotFoundError) as unknown:
            await a.find(text)
        assert (unknown.value.code, bool(unknown.value.next_step)) == ("unknown-peer", True)

    play(scenario)


def test_find_just_after_a_start_waits_for_one_who_is_just_starting(play: Play) -> None:
    async def scenario(world: World) -> None:
        (a,) = await network(world, "a")
        finding = asyncio.ensure_future(a.find("b"))
        await asyncio.sleep(1.0)
        b = (await world.start_node("b")).node
        assert (await finding).identity == b.identity

    play(scenario)


def test_find_without_a_network_says_so(play: Play) -> None:
    async def scenario(world: World) -> None:
        a = (await world.start_node("a")).node
        with pytest.raises(UnreachableError) as alone:
            await a.find("b")
        assert alone.value.code == "no-network"
        assert "covey up --network" in alone.value.next_step
        assert [finding.code for finding in a.view().findings] == ["no-network"]

    play(scenario)


def test_find_without_a_rendezvous_that_answers_says_so_in_time(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.start_rendezvous()
        await world.crash("rendezvous")
        a = (await world.start_node("a")).node
        with pytest.raises(UnreachableError) as alone:
            await a.find("b")
        assert alone.value.code == "no-rendezvous"
        assert asyncio.get_running_loop().time() < 6.0
        await asyncio.sleep(10.0)
        (finding,) = a.view().degraded
        assert (finding.code, finding.severity) == ("rendezvous-away", "error")
        assert "does not answer" in finding.what

    play(scenario)


def test_name_that_another_agent_has_is_a_problem_shown(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        second = await start_odd(world, "other-profile", name="b")
        await world.until(lambda: any(each.code == "name-taken" for each in second.view().findings))
        assert len(second.view().degraded) == 1
        assert b.view().degraded == a.view().degraded == []
        assert (await a.find("b")).identity == b.identity
        found = await a.find(second.identity)
        assert (found.identity, found.name) == (second.identity, "")
        assert (await a.handshake(second.address)).identity == second.identity
        await world.until(lambda: bool(second.pending()))
        await second.approve("a")
        await world.until(lambda: trust(a, second) == "trusted")
        assert (await a.send(second.identity, "found by identity")).result == "delivered"

    play(scenario)


def test_name_that_two_rendezvous_give_to_different_agents_is_disputed(play: Play) -> None:
    async def scenario(world: World) -> None:
        first, second = await two_rendezvous(world)
        one = await start_odd(world, "one", name="b", ticket=first.ticket)
        two = await start_odd(world, "two", name="b", ticket=second.ticket)
        a = (await world.start_node("a")).node
        await world.until(lambda: connected(a) == 2)
        with pytest.raises(NotFoundError) as disputed:
            await a.handshake("b")
        assert disputed.value.code == "name-disputed"
        assert one.identity in disputed.value.message
        assert two.identity in disputed.value.message
        assert disputed.value.next_step
        assert (await a.find(one.identity)).identity == one.identity
        assert (await a.handshake(two.identity)).identity == two.identity
        await world.until(lambda: bool(two.pending()))

    play(scenario)


def test_pinned_name_is_not_disputed_by_what_a_rendezvous_says_later(play: Play) -> None:
    async def scenario(world: World) -> None:
        first, second = await two_rendezvous(world)
        b = await start_odd(world, "one", name="b", ticket=first.ticket)
        a = await start_odd(world, "a", ticket=together(first.ticket, second.ticket))
        await a.handshake("b")
        await b.handshake("a")
        await world.until(lambda: trust(a, b) == "trusted")
        await start_odd(world, "two", name="b", ticket=second.ticket)
        await asyncio.sleep(5.0)
        assert (await a.send("b", "to the pinned one")).peer == b.identity
        assert await bodies(b) == ["to the pinned one"]

    play(scenario)


def test_two_rendezvous_both_witness_and_one_may_die(play: Play) -> None:
    async def scenario(world: World) -> None:
        await two_rendezvous(world)
        a, b = [(await world.start_node(name)).node for name in ("a", "b")]
        await world.until(lambda: connected(a) == connected(b) == 2)
        await asyncio.sleep(0.5)
        assert (await a.find("b")).witnesses == 2
        assert a.view().findings == []
        await a.handshake("b")
        await world.until(lambda: bool(b.pending()))
        assert b.pending()[0].warning == ""
        await b.approve("a")
        await world.crash("first")
        await asyncio.sleep(60.0)
        assert connected(a) == 1
        (finding,) = a.view().findings
        assert (finding.code, finding.severity) == ("rendezvous-away", "warning")
        assert "10.0.1.1:4040 is not connected" in finding.what
        c = (await world.start_node("c")).node
        await world.until(lambda: connected(c) == 1)
        await asyncio.sleep(0.5)
        begun = asyncio.get_running_loop().time()
        assert (await a.find("c")).identity == c.identity
        assert asyncio.get_running_loop().time() - begun < 6.0
        await world.crash("b")
        await world.restart("b")
        assert (await a.send("b", "still there", wait=30.0)).result == "delivered"
        await world.restart("first")
        await world.until(lambda: connected(a) == 2)
        assert a.view().findings == []

    play(scenario)


def test_stale_record_of_a_known_peer_is_not_accepted(play: Play) -> None:
    """A rendezvous that was rolled back to an older record of b."""

    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        rendezvous = world.machines["rendezvous"]
        assert isinstance(rendezvous, SimRendezvous)
        database, peer = rendezvous.store.database, raw(b)
        old = database.rows("SELECT * FROM records")
        await asyncio.sleep(700.0)
        await a._running.directory.refresh(peer)
        newest = a._running.book.get(peer)
        assert newest is not None
        columns = ", ".join("?" * len(old[0]))
        await world.crash("b")
        for row in old:
            database.execute(f"INSERT OR REPLACE INTO records VALUES ({columns})", row)
        record = await a._running.directory.refresh(peer)
        assert record is not None
        assert record.raw == newest.record
        assert a._running.book.get(peer) == newest

    play(scenario)


# --- a lying rendezvous ---------------------------------------------------------------------------------------------


class Liar:
    """Speaks the protocol well and lies where it can: `claims` answers look-ups, names are whoever's it says."""

    def __init__(self, world: World, ip: str) -> None:
        self.host = SimHost(world.network, ip)
        self.credentials = Credentials.create(self.host.random, self.host.wall_us())[0]
        self.transport = Transport(
            self.host, self.credentials, allow=lambda connection, service: True, on_event=self._on_event
        )
        self.transport.bind((ip, 4040))
        self.transport.serve(wire.SERVICE, self._serve)
        self.transport.endpoint.record = self.signed(self.credentials, "").record
        self.ticket = str(Ticket((TicketEntry(self.credentials.identity, (f"{ip}:4040",)),)))
        self.published: dict[bytes, wire.Signed] = {}
        self.claims: list[wire.Signed] = []
        """What it says to every look-up."""
        self.looked_up: list[bytes] = []
        self.circuit = 0
        self.present: list[Identity] = []

    def signed(self, credentials: Credentials, name: str, *, at_us: int = 0) -> wire.Signed:
        at_us = at_us or self.host.wall_us()
        record = Record.make(
            credentials.operational,
            credentials.log,
            credentials.delegation,
            credentials.current.certificate,
            address_nonce=credentials.address_nonce,
            sequence=at_us,
            expires_us=at_us + 24 * HOUR_US,
            name=name,
        )
        return wire.Signed(record.raw, credentials.log.raw)

    def _on_event(self, event: events.Event) -> None:
        pass

    async def _serve(self, stream: Stream) -> None:
        reader = FrameReader(wire.FRAME_LIMIT)
        while data := await stream.read():
            for kind, body in reader.feed(data):
                await stream.write(wire.encode(self._answer(wire.parse(kind, body))))
            for identity in self.present:
                await stream.write(wire.encode(wire.Present(0, identity)))
            await stream.write(wire.encode(wire.Observed(0, "203.0.113.1:9")))

    def _answer(self, request: wire.Message) -> wire.Message:
        match request:
            case wire.Publish(number, signed):
                self.published[Record.parse(signed.record).identity] = signed
                return wire.Published(number, wire.NAME_HELD)
            case wire.Lookup(number, _, key):
                self.looked_up.append(key)
                return wire.Found(number, tuple(self.claims))
            case wire.Introduce(number, _):
                return wire.Introduced(number, self.circuit)
        return wire.Done(request.number)

    async def close(self) -> None:
        await self.transport.close()


def test_lying_rendezvous_cannot_put_another_in_the_place_of_a_pinned_peer(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        liar = Liar(world, "10.0.9.1")
        impostor = Credentials.create(liar.host.random, liar.host.wall_us())[0]
        honest = world.ticket
        assert honest is not None
        number = about(a, b).safety_number
        liar.present = [raw(a), raw(b), impostor.identity]
        for name in ("a", "b"):
            await world.machines[name].stop()  # type: ignore[union-attr]
        world.ticket = liar.ticket
        liar.claims = [liar.signed(impostor, "b")]
        liar.circuit = 77
        for name in ("a", "b"):
            await world.restart(name)
        a, b = world.node("a"), world.node("b")
        await world.until(lambda: connected(a) == 1)
        sent = await a.send("b", "for b alone", wait=15.0)
        assert (await a.find("b")).identity == about(a, b).identity == b.identity
        assert about(a, b).safety_number == number
        assert trust(a, b) == "trusted"
        listed = await bodies(b)
        assert listed == (["for b alone"] if sent.result == "delivered" else [])
        assert a._running.book.get(impostor.identity) is None
        world.ticket = honest
        for name in ("a", "b"):
            await world.crash(name)
            await world.restart(name)
        await world.until(lambda: world.node("b").view().inbox_unread == 1)
        await liar.close()

    play(scenario)


def test_lying_rendezvous_can_answer_an_unknown_name_but_the_safety_number_tells(play: Play) -> None:
    async def scenario(world: World) -> None:
        liar = Liar(world, "10.0.9.1")
        impostor = Credentials.create(liar.host.random, liar.host.wall_us())[0]
        world.ticket = liar.ticket
        a, b = [(await world.start_node(name)).node for name in ("a", "b")]
        liar.claims = [liar.signed(impostor, "b")]
        shown = await a.handshake("b")
        assert parse_identity(shown.identity) == impostor.identity
        assert "compare the safety number" in shown.warning
        mine = b._peer_view(b._running.book.get(raw(a)) or await b_sees(b, a))
        assert shown.safety_number != mine.safety_number
        assert await code_of(a.send("b", "secret")) == "not-trusted"
        await liar.close()

    async def b_sees(b: Node, a: Node) -> object:
        await b._running.book.apply(raw(a), "local-request")
        return b._running.book.get(raw(a))

    play(scenario)


LIES = (
    "the record of another identity under the wanted name",
    "a record that was changed",
    "another's log",
    "rubbish",
    "the asker itself",
    "a record from the future",
    "a name nobody asked for",
)


@pytest.mark.parametrize("lie", LIES)
def test_answer_that_does_not_hold_is_no_answer(lie: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        liar = Liar(world, "10.0.9.1")
        world.ticket = liar.ticket
        a = (await world.start_node("a")).node
        await world.until(lambda: bool(liar.published))
        someone, other = (Credentials.create(liar.host.random, liar.host.wall_us())[0] for _ in range(2))
        good = liar.signed(someone, "b")
        changed = bytearray(good.record)
        changed[-70] ^= 1
        liar.claims = {
            LIES[0]: [liar.signed(someone, "c")],
            LIES[1]: [wire.Signed(bytes(changed), good.log)],
            LIES[2]: [wire.Signed(good.record, liar.signed(other, "b").log)],
            LIES[3]: [wire.Signed(b"\xff" * 300, b"\x00" * 50)] * 16,
            LIES[4]: [liar.published[raw(a)]],
            LIES[5]: [liar.signed(someone, "b", at_us=liar.host.wall_us() + HOUR_US)],
            LIES[6]: [liar.signed(someone, "")],
        }[lie]
        assert await code_of(a.find("b")) == "unknown-peer"
        assert await code_of(a.find("0123.4567.89ab")) == "unknown-peer"
        assert await code_of(a.find(a.identity)) == "self"
        assert a._running.book.all() == []
        await liar.close()

    play(scenario)


def test_one_liar_among_honest_ones_is_a_dispute_and_no_answer(play: Play) -> None:
    async def scenario(world: World) -> None:
        honest = await world.start_rendezvous()
        liar = Liar(world, "10.0.9.1")
        impostor = Credentials.create(liar.host.random, liar.host.wall_us())[0]
        liar.claims = [liar.signed(impostor, "b")]
        b = await start_odd(world, "b", ticket=honest.ticket)
        a = await start_odd(world, "a", ticket=together(honest.ticket, liar.ticket))
        await world.until(lambda: connected(a) == 2)
        assert await code_of(a.find("b")) == "name-disputed"
        found = await a.find(b.identity)
        assert (found.identity, found.name) == (b.identity, ""), "its name is disputed, so it is not shown"
        await liar.close()

    play(scenario)


def test_rendezvous_that_answers_nothing_of_use_hurts_nobody(play: Play) -> None:
    """Wrong answers, wrong numbers, bytes that do not parse: the client drops the session and tries again."""

    async def scenario(world: World) -> None:
        liar = Liar(world, "10.0.9.1")
        answers = [
            lambda request: wire.Published(request.number, wire.NAME_HELD),
            lambda request: wire.Done(request.number),
            lambda request: wire.Done(request.number + 1),
            lambda request: wire.Failed(request.number, "no", "no"),
            lambda request: wire.Restarting(0, 1, 1),
            lambda request: wire.Publish(request.number, wire.Signed(b"", b"")),
        ]
        counter = 0

        def answer(request: wire.Message) -> wire.Message:
            nonlocal counter
            counter += 1
            return answers[counter % len(answers)](request)

        liar._answer = answer  # type: ignore[method-assign]
        world.ticket = liar.ticket
        a = (await world.start_node("a")).node
        for _ in range(10):
            assert await code_of(a.find("b")) in ("no-rendezvous", "unknown-peer")
            await asyncio.sleep(2.0)
        assert len(a._running.clients[0]._calls) == 0
        await liar.close()

    play(scenario)


def test_log_is_parsed_in_full_before_it_is_believed() -> None:
    with pytest.raises(CoveyError):
        KeyLog.parse(b"")


def test_record_that_a_peer_gave_of_itself_is_kept_if_it_is_true_and_newer(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        directory, book = a._running.directory, a._running.book
        await world.wait(1.0)
        agent, ours = b._running, book.get(raw(b))
        assert ours is not None
        old = ours.record
        agent.announcement.name = "impostor"  # what it calls itself now is for the network to say
        signed = agent.announcement.signed()
        stranger = (await world.start_node("c")).node
        elsewhere = stranger._running.announcement.signed()
        broken = signed.record[:-1] + bytes([signed.record[-1] ^ 1])
        for record in (b"", b"rubbish", broken, elsewhere.record):
            assert not await directory.learn(events.RecordReceived(raw(b), record, b""))
        assert not await directory.learn(events.RecordReceived(raw(b), signed.record, b"rubbish"))
        assert not await directory.learn(events.RecordReceived(raw(stranger), elsewhere.record, elsewhere.log))
        assert book.get(raw(b)) == ours
        assert await directory.learn(events.RecordReceived(raw(b), signed.record, b""))
        assert not await directory.learn(events.RecordReceived(raw(b), old, b""))
        learnt = book.get(raw(b))
        assert learnt is not None
        assert (learnt.record, learnt.name, learnt.claimed_name) == (signed.record, "b", "b")
        assert book.get(raw(stranger)) is None

    play(scenario)
