"""Trust as two users see it: who asks, what is shown, who may do what, and what a crash leaves of it."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from covey.base.errors import NotFoundError, RefusedError, StateError, UsageError
from covey.core.events import LogLearnt
from covey.crypto.credentials import load_recovery
from covey.crypto.events import KeyLog, commitment, merge, rotate
from covey.crypto.keys import SigningKey
from covey.node import Node
from covey.testing.world import World
from covey.wire import trust as wire
from tests.node.stage import Play, about, bodies, code_of, friends, knock, network, raw, start_odd, steps, trust, user


def test_request_shows_who_asks_and_why_and_approving_it_makes_both_trusted(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        asked = await a.handshake("b", "to process batches")
        assert asked.trust == "requested"
        assert asked.name == "b"
        await world.until(lambda: bool(b.pending()))
        (shown,) = b.pending()
        assert (shown.name, shown.address, shown.identity) == ("a", a.address, a.identity)
        assert shown.reason == "to process batches"
        assert "safety number" in shown.warning
        assert shown.safety_number == asked.safety_number
        assert b.view().peers_pending == 1
        approved = await b.approve("a")
        assert approved.trust == "trusted"
        assert b.pending() == []
        await world.until(lambda: trust(a, "b") == "trusted")
        assert about(a, b).safety_number == about(b, a).safety_number == shown.safety_number
        assert about(a, b).warning == about(b, a).warning == ""
        assert a.view().peers_trusted == b.view().peers_trusted == 1

    play(scenario)


def test_handshake_waits_for_the_answer_when_asked_to(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        asking = asyncio.ensure_future(a.handshake("b", wait=30.0))
        await world.until(lambda: bool(b.pending()))
        await b.approve("a")
        assert (await asking).trust == "trusted"
        assert asyncio.get_running_loop().time() < 2.0

    play(scenario)


def test_handshake_that_waits_in_vain_leaves_nothing_behind(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        for _ in range(5):
            assert (await a.handshake("b", wait=0.5)).trust == "requested"
        assert a._running._waits._waiting == {}
        await b.approve("a")
        await world.until(lambda: trust(a, "b") == "trusted")
        for _ in range(5):
            assert (await a.handshake("b", wait=0.5)).trust == "trusted"
        assert a._running._waits._waiting == {}

    play(scenario)


def test_reject_is_told_and_can_be_asked_again(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        await a.handshake("b")
        await world.until(lambda: bool(b.pending()))
        assert (await b.reject("a")).trust == "unknown"
        await world.until(lambda: trust(a, "b") == "rejected")
        with pytest.raises(RefusedError) as refused:
            await a.send("b", "hello")
        assert refused.value.code == "not-trusted"
        await a.handshake("b", "please")
        await world.until(lambda: bool(b.pending()))
        assert b.pending()[0].reason == "please"

    play(scenario)


def test_requests_that_cross_approve_themselves(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        await asyncio.gather(a.handshake("b"), b.handshake("a"))
        await world.until(lambda: trust(a, "b") == trust(b, "a") == "trusted")
        assert (await a.send("b", "hello")).result == "delivered"
        assert (await b.send("a", "hello")).result == "delivered"

    play(scenario)


def test_asking_one_who_has_asked_is_approving(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        await a.handshake("b")
        await world.until(lambda: bool(b.pending()))
        assert (await b.handshake("a")).trust == "trusted"
        await world.until(lambda: trust(a, "b") == "trusted")

    play(scenario)


def test_request_to_an_absent_peer_is_kept_and_brought_when_it_appears(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await network(world, "a", "b")
        await a.find("b")
        await world.machines["b"].stop()  # type: ignore[union-attr]
        assert (await a.handshake("b", "later")).trust == "requested"
        await asyncio.sleep(90.0)
        await world.crash("a")
        await world.restart("a")
        await asyncio.sleep(30.0)
        await world.restart("b")
        started = asyncio.get_running_loop().time()
        await world.until(lambda: bool(world.node("b").pending()))
        assert asyncio.get_running_loop().time() - started < 2.0
        assert world.node("b").pending()[0].reason == "later"

    play(scenario)


APPROVERS = {
    "name": lambda a, view: "a",
    "address": lambda a, view: a.address,
    "identity": lambda a, view: a.identity,
    "beginning of the identity": lambda a, view: a.identity[:8],
    "safety number": lambda a, view: view.safety_number,
    "safety number without blanks": lambda a, view: view.safety_number.replace(" ", ""),
    "safety number in lines": lambda a, view: "\n".join(view.safety_number.split()),
}


@pytest.mark.parametrize("way", APPROVERS)
def test_approve_takes(way: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        await a.handshake("b")
        await world.until(lambda: bool(b.pending()))
        assert (await b.approve(APPROVERS[way](a, b.pending()[0]))).identity == a.identity
        await world.until(lambda: trust(a, "b") == "trusted")

    play(scenario)


def test_approve_of_nobody_says_what_to_do(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        for text in ("nobody", "0000.0000.0000", "1" * 60):
            with pytest.raises(NotFoundError) as unknown:
                await b.approve(text)
            assert unknown.value.code == "unknown-peer"
            assert unknown.value.next_step
        await a.find("b")
        for action in (a.approve, a.reject):
            with pytest.raises(StateError) as nothing:
                await action("b")
            assert nothing.value.code == "nothing-pending"
            assert nothing.value.next_step == "covey pending"
        with pytest.raises(StateError) as distrusted:
            await a.untrust("b")
        assert distrusted.value.code == "not-trusted"

    play(scenario)


def test_peer_that_cannot_be_meant_is_refused(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await network(world, "a", "b")
        for text in ("a", a.identity, a.address):
            assert await code_of(a.handshake(text)) == "self"
        for text in ("", "UPPER", "with blank", "x" * 64, "a_b", "../../etc"):
            with pytest.raises(UsageError):
                await a.handshake(text)
        assert await code_of(a.handshake("ghost")) == "unknown-peer"
        assert await code_of(a.handshake("b", "x" * 257)) == "reason-too-long"
        assert await code_of(a.handshake("b", "x" * 256)) == ""

    play(scenario)


def test_name_remembered_for_two_strangers_is_asked_of_the_network(play: Play) -> None:
    """The first agent of a name was wiped, another has it now; neither was ever trusted here."""

    async def scenario(world: World) -> None:
        rendezvous = await world.start_rendezvous()
        a = (await world.start_node("a")).node
        first = (await world.start_node("b")).node
        assert (await a.find("b")).identity == first.identity
        before = first.identity
        await world.machines["b"].stop()  # type: ignore[union-attr]
        shutil.rmtree(world.directory / "b")
        rendezvous.store.database.execute("DELETE FROM names")  # its lease is over
        await world.restart("b")
        second = world.node("b")
        assert second.identity != before
        await asyncio.sleep(1.0)
        for _ in range(3):
            assert (await a.find("b")).identity == second.identity
        assert (await a.handshake("b")).identity == second.identity

    play(scenario)


def test_untrust_is_told_and_ends_both_ways(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        assert (await a.untrust("b")).trust == "unknown"
        await world.until(lambda: trust(b, "a") == "rejected")
        for node, other in ((a, "b"), (b, "a")):
            assert await code_of(node.send(other, "hello")) == "not-trusted"
            assert await code_of(node.open(other, "sink")) == "not-trusted"
            assert await code_of(node.ping(other)) == "not-trusted"
        for name in ("a", "b"):
            await world.crash(name)
            await world.restart(name)
        a, b = world.node("a"), world.node("b")
        await asyncio.sleep(30.0)
        assert (trust(a, b), trust(b, a)) == ("unknown", "rejected")

    play(scenario)


def test_untrust_cuts_open_streams_on_both_sides(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        stream = await a.open("b", "sink")
        await stream.write(b"x" * 1000)
        theirs = await b.open("a", "sink")
        readers = [asyncio.ensure_future(code_of(each.read())) for each in (stream, theirs)]
        await asyncio.sleep(0.5)
        await b.untrust("a")
        assert await asyncio.wait_for(asyncio.gather(*readers), 1.0) == ["refused", "stream-closed"]

    play(scenario)


def test_untrust_ends_our_own_reader_though_the_peer_is_gone(play: Play) -> None:
    async def scenario(world: World) -> None:
        _, b = await friends(world, "a", "b")
        reading = asyncio.ensure_future(code_of((await b.open("a", "sink")).read()))
        await asyncio.sleep(0.5)
        await world.crash("a")
        await b.untrust("a")
        assert await asyncio.wait_for(reading, 1.0) == "stream-closed"

    play(scenario)


def test_untrust_refuses_what_is_queued_and_says_so(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        await world.crash("b")
        waiting = asyncio.ensure_future(a.send("b", "one", wait=60.0))
        await asyncio.sleep(1.0)
        assert (await a.send("b", "two", id="ab" * 16, wait=0)).result == "queued"
        assert a.view().outbox_queued == 2
        await a.untrust("b")
        sent = await waiting
        assert (sent.result, sent.reason) == ("refused", "not-trusted")
        assert a.view().outbox_queued == 0
        assert asyncio.get_running_loop().time() < 10.0
        await world.restart("b")
        b = world.node("b")
        await world.until(lambda: trust(b, a) == "rejected")
        await world.befriend("a", "b")
        again = await a.send("b", "two", id="ab" * 16)
        assert (again.result, again.reason) == ("refused", "not-trusted")
        assert await bodies(b) == []

    play(scenario)


@pytest.mark.parametrize("step", range(12))
def test_untrust_refuses_what_is_queued_although_the_node_dies_in_it(step: int, play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        await world.crash("b")
        for number in range(3):
            await a.send("b", f"m{number}", wait=0)
        untrusting = user(world, "a", a.untrust("b"))
        await steps(step)
        await world.crash("a")
        await untrusting
        await world.restart("a")
        a = world.node("a")
        await asyncio.sleep(1.0)
        assert a.view().outbox_queued == (3 if trust(a, "b") == "trusted" else 0)
        await world.restart("b")
        b = world.node("b")
        await asyncio.sleep(30.0)
        if trust(a, b) == "trusted":
            assert await bodies(b) == ["m0", "m1", "m2"]
        else:
            assert (trust(b, a), await bodies(b)) == ("rejected", [])

    play(scenario)


@pytest.mark.parametrize("step", range(8))
def test_message_that_races_with_untrust_is_not_left_lying(step: int, play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        await world.crash("b")
        sending = user(world, "a", a.send("b", "last", wait=5.0))
        await steps(step)
        await a.untrust("b")
        sent = await sending
        assert sent is None or (sent.result, sent.reason) == ("refused", "not-trusted")
        assert a.view().outbox_queued == a._running.mail.outbox.counts().messages == 0

    play(scenario)


def test_peer_that_lost_its_trust_in_us_is_noticed(play: Play) -> None:
    """It was restored from a backup of before: it refuses, and we stop to call it trusted (core.trust)."""

    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        await world.crash("b")
        await a.send("b", "lost on it", wait=0)
        home = world.nodes()[1].home
        for file in (home.database, *home.database.parent.glob(home.database.name + "-*"), home.generation_file):
            file.unlink()
        await world.restart("b")
        await world.until(lambda: trust(a, "b") == "rejected")
        assert a.view().outbox_queued == 0
        await a.handshake("b")
        await world.until(lambda: bool(world.node("b").pending()))

    play(scenario)


CRASHERS = ("asker", "asked", "both")


@pytest.mark.parametrize("who", CRASHERS)
@pytest.mark.parametrize("moment", range(14))
def test_request_and_approval_survive_a_crash_at_any_moment(moment: int, who: str, play: Play) -> None:
    """The crash comes `moment` times 2 ms after the request was made; a link takes 1 ms."""

    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        await a.find("b")
        await a.handshake("b", "reason")
        if moment >= 7:
            await world.until(lambda: bool(b.pending()), step=0.001)
            await b.approve("a")
        await asyncio.sleep(moment % 7 * 0.002)
        victims = {"asker": ["a"], "asked": ["b"], "both": ["a", "b"]}[who]
        for victim in victims:
            await world.crash(victim)
        await asyncio.sleep(1.0)
        for victim in victims:
            await world.restart(victim)
        a, b = world.node("a"), world.node("b")
        if moment < 7:
            await world.until(lambda: bool(b.pending()))
            assert b.pending()[0].reason == "reason"
            await b.approve(a.identity)
        await world.until(lambda: trust(a, b) == trust(b, a) == "trusted")
        await world.until(lambda: not a._running.book.get(raw(b)).action)  # type: ignore[union-attr]
        assert (await a.send(b.identity, "hello")).result in ("delivered", "queued")
        await world.until(lambda: b.view().inbox_unread == 1)

    play(scenario)


# --- strangers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["message", "sink", "custom", "rendezvous", "nonsense"])
def test_stranger_is_refused(service: str, play: Play) -> None:
    served: list[str] = []

    async def custom(stream: object) -> None:
        served.append("custom")

    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        b.serve("custom", custom)  # type: ignore[arg-type]
        stream = await knock(a, b, service)
        await stream.write(b"x" * 100)
        with pytest.raises(RefusedError) as refused:
            await stream.read()
        assert refused.value.code == "refused"
        assert served == []
        assert b.view().inbox_unread == 0

    play(scenario)


def test_asker_that_waits_for_its_answer_is_still_a_stranger(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        await a.handshake("b")
        await world.until(lambda: bool(b.pending()))
        with pytest.raises(RefusedError):
            await (await knock(a, b, "sink")).read()
        with pytest.raises(RefusedError):
            await (await knock(b, a, "sink")).read()

    play(scenario)


def test_trust_service_answers_a_stranger_only_so_often(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        outcomes = []
        for _ in range(10):
            stream = await knock(a, b, "trust")
            await stream.write(wire.TrustAction("request", 1, "a", "again").encode())
            outcomes.append(await code_of(stream.read()))
        assert outcomes == [""] * 3 + ["limit"] * 7
        await asyncio.sleep(10.0)
        stream = await knock(a, b, "trust")
        await stream.write(wire.TrustAction("request", 1, "a", "later").encode())
        assert await code_of(stream.read()) == ""
        assert len(b.pending()) == 1
        assert b.pending()[0].reason == "later"

    play(scenario)


REASONS = {
    "control characters": ("\x1b[2Jrm\r\n-rf\t\u202e\x00/", "[2Jrm -rf /"),
    "only blanks": (" \n\t ", ""),
    "256 letters": ("ä" * 256, "ä" * 256),
}


@pytest.mark.parametrize("case", REASONS)
def test_reason_is_shown_fit_for_a_terminal(case: str, play: Play) -> None:
    said, shown = REASONS[case]

    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        await a.handshake("b", said)
        await world.until(lambda: bool(b.pending()))
        assert b.pending()[0].reason == shown

    play(scenario)


BAD_ACTIONS = {
    "reason of 10 KB": wire.TrustAction("request", 1, "a", "x" * 10_000),
    "reason of 257 letters": wire.TrustAction("request", 1, "a", "x" * 257),
    "name of 64 letters": wire.TrustAction("request", 1, "n" * 64, ""),
}


@pytest.mark.parametrize("case", BAD_ACTIONS)
def test_malformed_request_is_refused_and_not_kept(case: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        stream = await knock(a, b, "trust")
        await stream.write(BAD_ACTIONS[case].encode())
        assert await code_of(stream.read()) == "protocol"
        assert b.pending() == []
        assert b._running.book.get(raw(a)) is None
        assert (await a.handshake("b")).trust == "requested"
        await world.until(lambda: bool(b.pending()))

    play(scenario)


@pytest.mark.parametrize("body", [b"", b"\x01", b"\x00" * 64, b"\xff" * 64, b"\x01\x00\x00\x00\x00"])
def test_bytes_that_are_no_trust_action_hurt_nobody(body: bytes, play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        stream = await knock(a, b, "trust")
        await stream.write(body)
        await stream.finish()
        assert await code_of(stream.read()) == "protocol"
        await world.befriend("a", "b")

    play(scenario)


@pytest.mark.parametrize("action", ["approve", "reject", "untrust"])
def test_answer_that_nobody_asked_for_changes_nothing(action: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        stream = await knock(a, b, "trust")
        await stream.write(wire.TrustAction(action, 1, "a", "").encode())
        assert (await stream.read())[-1] == wire.STATES.index("unknown")
        assert b.peers() == [] or trust(b, a) == "unknown"
        assert b._running.book.get(raw(a)) is None

    play(scenario)


def test_name_of_another_agent_is_not_shown_for_a_requester(play: Play) -> None:
    """m published under the name that a has, so it does not have it; it calls itself so nevertheless."""

    async def scenario(world: World) -> None:
        a, b, m = await network(world, "a", "b", "m")
        stream = await knock(m, b, "trust")
        await stream.write(wire.TrustAction("request", 1, "a", "it is me, a").encode())
        await stream.read()
        (shown,) = b.pending()
        assert (shown.identity, shown.name) == (m.identity, "m")
        await a.handshake("b")
        await world.until(lambda: len(b.pending()) == 2)
        assert {view.name: view.identity for view in b.pending()} == {"a": a.identity, "m": m.identity}

    play(scenario)


def test_record_that_claims_the_name_of_another_agent_is_shown_without_it(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        m = await start_odd(world, "m", name="a")
        await world.until(lambda: any(each.code == "name-taken" for each in m.view().findings))
        await m.handshake("b", "I am a")
        await world.until(lambda: bool(b.pending()))
        (shown,) = b.pending()
        assert (shown.identity, shown.name, shown.address) == (m.identity, "", m.address)
        assert (await b.find("a")).identity == a.identity
        assert await code_of(b.approve("a")) == "nothing-pending"
        assert (await b.approve(m.identity)).trust == "trusted"
        assert about(b, m).name == ""
        assert await code_of(b.send("a", "for the real one")) == "not-trusted"

    play(scenario)


# --- forks ----------------------------------------------------------------------------------------------------------


def test_forked_identity_is_refused_new_trust_and_keeps_the_old(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b, c = await network(world, "a", "b", "c")
        await world.befriend("a", "c")
        await a.handshake("b")
        await world.until(lambda: bool(b.pending()))
        fork = forked(world.nodes()[0].home.recovery_file.read_bytes())
        for node in (b, c):
            learn(node, fork)
        await asyncio.sleep(1.0)
        for again in (False, True):
            if again:
                await world.crash("b")
                await world.restart("b")
                b = world.node("b")
            for action in (b.approve, b.handshake):
                with pytest.raises(RefusedError) as refused:
                    await action(a.identity)
                assert refused.value.code == "forked-identity"
                assert refused.value.next_step
        assert trust(c, a) == "trusted"
        assert trust(b, a) == "pending"

    play(scenario)


def test_request_of_a_forked_identity_is_refused(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        stream = await knock(a, b, "trust")
        learn(b, forked(world.nodes()[0].home.recovery_file.read_bytes()))
        await stream.write(wire.TrustAction("request", 1, "a", "").encode())
        assert await code_of(stream.read()) in ("protocol", "lost-state", "not-verified")
        assert b.pending() == []

    play(scenario)


def learn(node: Node, log: KeyLog) -> None:
    """As when a peer sent it."""
    agent = node._running
    known = agent.transport.endpoint.add_log(log)
    agent._on_event(LogLearnt(agent.transport.endpoint.log_of(log.identity) or known))


def forked(recovery: bytes) -> KeyLog:
    log, next_root = load_recovery(recovery)
    return merge(
        rotate(log, next_root, commitment(SigningKey(bytes(32)).public)),
        rotate(log, next_root, commitment(SigningKey(bytes([1] * 32)).public)),
    )
