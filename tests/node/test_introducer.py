"""`covey introduce` between whole nodes: who becomes a peer by a code, and who does not."""

from __future__ import annotations

import asyncio

import pytest

from covey.base.errors import CoveyError, StateError, UnreachableError, UsageError
from covey.base.events import IntroductionFailed, kind
from covey.base.schema import IntroductionView
from covey.core import limits
from covey.node import Node
from covey.testing import Link
from covey.testing.nat import SYMMETRIC
from covey.testing.world import World
from tests.node.stage import Play, about, bodies, code_of, network, start_odd, trust, two_rendezvous, user


async def strangers(world: World) -> tuple[Node, Node]:
    """Two nodes of no network."""
    return (await world.start_node("a")).node, (await world.start_node("b")).node


def at(view: IntroductionView, place: str) -> str:
    return f"{view.code}@{place}"


def test_two_agents_without_any_network_meet_trust_and_talk(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await strangers(world)
        view = await a.open_introduction()
        assert (view.state, view.invitation) == ("open", f"{view.code}@{','.join(view.places)}")
        peer = await b.introduce(view.invitation)
        assert (peer.name, peer.trust, peer.identity, peer.address) == ("a", "trusted", a.identity, a.address)
        ended = await a.await_introduction(5.0)
        assert ended.state == "introduced"
        assert ended.peer is not None
        assert (ended.peer.name, ended.peer.trust, ended.peer.identity) == ("b", "trusted", b.identity)
        assert ended.peer.safety_number == peer.safety_number
        assert (ended.code, ended.invitation) == ("", "")
        assert (await b.send("a", "hello")).result == "delivered"
        assert (await a.send("b", "hello too")).result == "delivered"
        assert (await bodies(a), await bodies(b)) == (["hello"], ["hello too"])
        await a.close()
        await b.close()

    play(scenario)


def test_agents_introduced_without_a_network_find_each_other_again_after_a_restart(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await strangers(world)
        await b.introduce((await a.open_introduction()).invitation)
        await world.until(lambda: trust(a, "b") == trust(b, "a") == "trusted")
        for name in ("a", "b"):
            await world.crash(name)
            await world.restart(name)
        assert (await world.node("b").send("a", "again", wait=20.0)).result == "delivered"

    play(scenario)


def test_agents_introduced_without_a_network_find_each_other_after_their_records_are_over(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await strangers(world)
        await b.introduce((await a.open_introduction()).invitation)
        await world.until(lambda: trust(a, "b") == trust(b, "a") == "trusted")
        for name in ("a", "b"):
            await world.crash(name)
        await world.wait(3 * 24 * 3600.0)
        for name in ("a", "b"):
            await world.restart(name)
        assert (await world.node("b").send("a", "days later", wait=20.0)).result == "delivered"
        assert about(world.node("b"), "a").name == "a"

    play(scenario, limit_s=4 * 24 * 3600.0)


@pytest.mark.parametrize("place", ["name", "address", "identity"])
def test_members_of_one_network_meet_through_its_rendezvous(play: Play, place: str) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        view = await a.open_introduction()
        assert view.places[0] == a.address
        peer = await b.introduce(at(view, {"name": "a", "address": a.address, "identity": a.identity}[place]))
        assert peer.trust == "trusted"
        await world.until(lambda: trust(a, "b") == "trusted")

    play(scenario)


def test_agents_behind_the_hardest_boxes_meet_through_the_relay(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.start_rendezvous()
        world.nat("home", SYMMETRIC)
        world.nat("office", SYMMETRIC)
        a = (await world.start_node("a", behind="home")).node
        b = (await world.start_node("b", behind="office")).node
        await world.until(lambda: all(each.view().rendezvous[0].connected for each in (a, b)))
        peer = await b.introduce((await a.open_introduction()).invitation)
        assert peer.trust == "trusted"
        await world.until(lambda: trust(a, "b") == "trusted")

    play(scenario)


def test_a_rendezvous_that_lies_about_the_name_cannot_put_another_agent_in(play: Play) -> None:
    """Two rendezvous disagree who `a` is. The code is asked of both, and only one knows it."""

    async def scenario(world: World) -> None:
        first, second = await two_rendezvous(world)
        a = await start_odd(world, "true", name="a", ticket=first.ticket)
        liar = await start_odd(world, "false", name="a", ticket=second.ticket)
        b = (await world.start_node("b")).node
        await world.wait(3.0)
        assert await code_of(b.find("a")) == "name-disputed"
        await liar.open_introduction()
        peer = await b.introduce(at(await a.open_introduction(), "a"))
        assert peer.identity == a.identity
        assert trust(liar, b) == "unknown"

    play(scenario)


def test_agents_that_know_each_other_already_meet_too(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        await world.befriend("a", "b")
        view = await a.open_introduction()
        assert (await b.introduce(view.invitation)).trust == "trusted"
        assert (await a.await_introduction(5.0)).state == "introduced"
        assert trust(a, b) == trust(b, a) == "trusted"

    play(scenario)


def test_request_that_was_refused_before_is_made_good_by_a_code(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        await a.handshake("b")
        await world.until(lambda: bool(b.pending()))
        await b.reject("a")
        await world.until(lambda: trust(a, "b") == "rejected")
        await b.introduce((await a.open_introduction()).invitation)
        await world.until(lambda: trust(a, b) == trust(b, a) == "trusted")

    play(scenario)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_agents_meet_on_a_bad_line(play: Play, seed: int) -> None:
    async def scenario(world: World) -> None:
        a, b = await strangers(world)
        assert (await b.introduce((await a.open_introduction()).invitation, 60.0)).name == "a"
        await world.until(lambda: trust(a, "b") == trust(b, "a") == "trusted")

    play(scenario, seed=seed, link=Link(latency_s=0.05, jitter_s=0.05, loss=0.2, duplicate=0.1))


@pytest.mark.parametrize("victim", ["a", "b"])
@pytest.mark.parametrize("moment", [0.012, 0.022, 0.042, 0.06])
def test_crash_at_any_moment_is_mended_by_another_introduction(play: Play, victim: str, moment: float) -> None:
    """The four datagrams, the session after them, the writes, the requests for trust: a crash in each of them."""

    async def scenario(world: World) -> None:
        a, b = await strangers(world)
        view = await a.open_introduction()
        entering = user(world, "b", b.introduce(view.invitation))
        await world.wait(moment)
        await world.crash(victim)
        await asyncio.wait((entering,), timeout=60.0)
        await world.restart(victim)
        a, b = world.node("a"), world.node("b")
        again = await code_of(b.introduce(view.invitation, 1.0))
        assert again == "no-answer" or (victim, moment) == ("b", 0.012), "only where the proof had not left yet"
        assert (await b.introduce((await a.open_introduction()).invitation)).trust == "trusted"
        await world.until(lambda: trust(a, "b") == "trusted")
        assert (await a.send("b", "hello", wait=20.0)).result == "delivered"

    play(scenario, link=Link(latency_s=0.005))


# --- consent ----------------------------------------------------------------------------------------------------------


def test_who_wants_to_be_asked_is_asked(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await strangers(world)
        peer = await b.introduce((await a.open_introduction(ask=True)).invitation)
        assert peer.trust == "requested"
        await world.until(lambda: trust(a, "b") == "pending")
        (shown,) = a.pending()
        assert shown.safety_number == peer.safety_number
        await a.approve(shown.safety_number)
        await world.until(lambda: trust(b, "a") == "trusted")

    play(scenario)


def test_who_enters_a_code_may_want_to_be_asked(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await strangers(world)
        assert (await b.introduce((await a.open_introduction()).invitation, ask=True)).trust in ("unknown", "pending")
        await world.until(lambda: trust(b, "a") == "pending")
        assert trust(a, "b") == "requested"

    play(scenario)


def test_neither_side_trusts_if_both_want_to_be_asked(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await strangers(world)
        assert (await b.introduce((await a.open_introduction(ask=True)).invitation, ask=True)).trust == "unknown"
        await world.wait(10.0)
        assert (trust(a, b), trust(b, a)) == ("unknown", "unknown")
        assert (await b.handshake(a.identity)).trust == "requested"
        await world.until(lambda: trust(a, b) == "pending")

    play(scenario)


def test_introduction_puts_nobody_in_the_place_of_a_peer_of_the_same_name(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        await world.befriend("a", "b")
        other = await start_odd(world, "other", name="a")
        peer = await b.introduce((await other.open_introduction()).invitation)
        assert (peer.name, peer.trust) == ("", "trusted")  # so no command that names `a` can mean this one
        assert (await b.send("a", "for the first a")).result == "delivered"
        assert (await bodies(a), await bodies(other)) == (["for the first a"], [])

    play(scenario)


# --- whom a code does not bring in ------------------------------------------------------------------------------------


def test_wrong_used_closed_and_old_codes_all_look_the_same(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await strangers(world)
        c = (await world.start_node("c")).node
        old = await a.open_introduction(5.0)
        await world.wait(6.0)
        closed = await a.open_introduction()
        await a.close_introduction()
        replaced = await a.open_introduction()
        used = await a.open_introduction()
        await c.introduce(used.invitation)
        for view in (old, closed, replaced, used):
            assert await code_of(b.introduce(view.invitation, 3.0)) == "no-answer"
        wrong = await a.open_introduction()
        assert await code_of(b.introduce(at(old, wrong.places[0]), 3.0)) == "no-answer"
        assert trust(b, a) == trust(a, b) == "unknown"
        assert (await b.introduce(wrong.invitation)).trust == "trusted"

    play(scenario)


def test_window_tells_how_it_ended(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await strangers(world)
        assert await code_of(a.await_introduction(1.0)) == "no-introduction"
        await a.open_introduction(5.0)
        assert (await a.await_introduction(1.0)).state == "open"
        expired = await a.await_introduction(60.0)
        assert (expired.state, expired.problem and expired.problem.code) == ("expired", "window-expired")
        await a.open_introduction()
        waiting = asyncio.ensure_future(a.await_introduction(600.0))
        await world.wait(1.0)
        assert (await a.close_introduction()).state == "closed"
        assert (await waiting).state == "closed"
        assert asyncio.get_running_loop().time() < 30

    play(scenario)


def test_restart_forgets_the_window_and_nothing_of_it_is_on_the_disk(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await strangers(world)
        view = await a.open_introduction()
        await world.crash("a")
        await world.restart("a")
        assert await code_of(b.introduce(view.invitation, 3.0)) == "no-answer"
        plain = view.code.replace("-", "").encode()
        for file in world.directory.rglob("*"):
            if file.is_file():
                assert view.code.encode() not in file.read_bytes(), file
                assert plain not in file.read_bytes(), file

    play(scenario)


def test_side_that_dies_after_the_code_was_entered_is_not_trusted(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await strangers(world)
        view = await a.open_introduction()
        machine = a._running.transport.endpoint.introduction
        entering = user(world, "b", b.introduce(view.invitation))
        await world.until(lambda: not machine.is_open, step=0.001)
        await world.crash("b")
        assert await entering is None
        ended = await a.await_introduction(60.0)
        assert (ended.state, ended.problem and ended.problem.code) == ("failed", "introduction-broken")
        assert a.peers() == []

    play(scenario)


def test_window_closed_while_somebody_comes_in_trusts_nobody(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await strangers(world)
        view = await a.open_introduction()
        machine = a._running.transport.endpoint.introduction
        entering = asyncio.ensure_future(code_of(b.introduce(view.invitation)))
        await world.until(lambda: not machine.is_open, step=0.001)
        await a.close_introduction()
        await entering
        await world.wait(5.0)
        assert trust(a, b) in ("unknown", "pending")

    play(scenario)


# --- what users get wrong ---------------------------------------------------------------------------------------------


def test_mistakes_are_told_at_once_and_the_code_is_not_repeated(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await strangers(world)
        view = await a.open_introduction()
        slip = ("0" if view.code[0] != "0" else "1") + view.code[1:]
        cases = {
            slip + "@10.0.0.1:1": ("bad-code", "no-answer"),
            view.code: ("bad-invitation",),
            view.code + "@": ("bad-invitation",),
            view.code + "@" + ",".join(["10.0.0.1:1"] * 9): ("bad-invitation",),
            view.code + "@nowhere.example:1": ("host-not-found",),
            view.code + "@10.0.0.1:99999": ("malformed",),
            view.code + "@azure": ("no-network",),
            view.code + "@Not A Name": ("bad-name",),
            "": ("bad-code",),
        }
        for invitation, codes in cases.items():
            with pytest.raises(CoveyError) as caught:
                await b.introduce(invitation, 1.0)
            assert caught.value.code in codes, invitation
            assert view.code not in caught.value.message + caught.value.next_step
        assert await code_of(a.introduce(view.invitation, 3.0)) == "self"

    play(scenario)


def test_one_code_is_entered_at_a_time(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await strangers(world)
        view = await a.open_introduction()
        entering = asyncio.ensure_future(b.introduce(at(view, "10.0.2.200:9"), 5.0))
        await world.wait(1.0)
        with pytest.raises(StateError) as caught:
            await b.introduce(view.invitation)
        assert caught.value.code == "introduction-running"
        with pytest.raises(UnreachableError):
            await entering
        assert (await b.introduce(view.invitation)).trust == "trusted"

    play(scenario)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 0.5, 3601.0, float("nan")])
def test_window_of_no_sensible_length_is_refused(play: Play, seconds: float) -> None:
    async def scenario(world: World) -> None:
        a, _ = await strangers(world)
        with pytest.raises(UsageError) as caught:
            await a.open_introduction(seconds)
        assert caught.value.code == "bad-window"

    play(scenario)


def test_closing_the_node_ends_the_wait(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await strangers(world)
        view = await a.open_introduction()
        waiting = asyncio.ensure_future(a.await_introduction(600.0))
        entering = asyncio.ensure_future(code_of(b.introduce(at(view, "10.0.2.200:9"), 60.0)))
        await world.wait(1.0)
        await world.machines["a"].stop()  # type: ignore[union-attr]
        await world.machines["b"].stop()  # type: ignore[union-attr]
        assert await entering == "closed"
        with pytest.raises(StateError):
            await waiting

    play(scenario)


def test_followers_hear_of_it_without_the_code(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await strangers(world)
        events = a.subscribe()
        view = await a.open_introduction()
        await b.introduce(view.invitation)
        heard = []
        while not {"peer.introduced", "trust.changed"} <= {kind(event) for event in heard}:
            heard.append(await anext(events))
        assert view.code not in repr(heard)
        await a.open_introduction(1.0)
        while not isinstance(heard[-1], IntroductionFailed):
            heard.append(await anext(events))
        assert heard[-1].reason == "window-expired"
        assert about(a, b).reason == "introduced by a one-time code"

    play(scenario)


def test_status_tells_of_an_open_window_and_of_the_missing_network(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await strangers(world)

        def found() -> list[tuple[str, str]]:
            return [(each.code, each.severity) for each in a.view().findings]

        assert found() == [("no-network", "warning")]
        view = await a.open_introduction()
        assert found() == [("no-network", "warning"), ("introduction-open", "note")]
        assert view.code not in repr(a.view())
        await b.introduce(view.invitation)
        await world.until(lambda: found() == [("no-network", "note")])
        assert not a.view().degraded
        await a.open_introduction(5.0)
        await world.wait(6.0)
        assert found() == [("no-network", "note")]

    play(scenario)


def test_tries_of_a_window_are_bounded_for_whoever_knows_the_code(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await strangers(world)
        view = await a.open_introduction()
        machine = b._running.transport.endpoint.introduction
        for _ in range(limits.INTRODUCTION_TRIES + 2):
            entering = asyncio.ensure_future(code_of(b.introduce(view.invitation, 1.0)))
            await world.until(lambda: machine.deadline() is not None, step=0.001)
            await asyncio.sleep(0.001)
            machine.leave()  # gives up after its greeting has left
            entering.cancel()
            await asyncio.wait((entering,))
            await world.wait(0.2)
        ended = await a.await_introduction(5.0)
        assert (ended.state, ended.problem and ended.problem.code) == ("failed", "too-many-tries")

    play(scenario)
