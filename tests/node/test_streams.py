"""Streams between two nodes: both ways, bounded, and through whatever happens below them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from covey.base.errors import CoveyError, LimitError, RefusedError, StateError, UnreachableError, UsageError
from covey.crypto.events import revoke
from covey.node import Node
from covey.node.transport import Stream
from covey.testing import Link
from covey.testing.loop import SimLoop
from covey.testing.world import World
from tests.node.stage import Play, about, code_of, friends, raw

MIB = 1 << 20


async def echo(stream: Stream) -> None:
    while data := await stream.read():
        await stream.write(data)


async def send_to_sink(node: Node, peer: str, data: bytes) -> bytes:
    """What the sink says about it: {size 8, SHA-256 32}."""
    stream = await node.open(peer, "sink")
    await stream.write(data)
    await stream.finish()
    answer = await stream.read_exactly(40)
    assert await stream.read() == b""
    return answer


def receipt(data: bytes) -> bytes:
    return len(data).to_bytes(8, "big") + hashlib.sha256(data).digest()


async def direct(world: World, node: Node, peer: str) -> None:
    """Until the path to a trusted peer does not take the relay."""
    await node.ping(peer)
    await world.until(lambda: any(p.active and p.kind == "direct" for p in about(node, peer).paths))


def test_stream_carries_bytes_both_ways_and_ends_each_way_apart(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        got: list[bytes] = []

        async def talk(stream: Stream) -> None:
            await stream.write(b"hello first")
            while data := await stream.read():
                got.append(data)
            await stream.write(b" and bye")

        b.serve("talk", talk)
        stream = await a.open("b", "talk")
        assert (stream.service, stream.peer) == ("talk", a._running.book.all()[0].identity)
        assert await stream.read_exactly(11) == b"hello first"
        await stream.write(b"one ")
        await stream.write(b"two")
        await stream.finish()
        assert await stream.read_exactly(8) == b" and bye"
        assert await stream.read() == b""
        assert b"".join(got) == b"one two"
        assert await code_of(stream.write(b"more")) == "stream-closed"

    play(scenario)


def test_streams_that_ended_are_forgotten_beside_many_that_stay(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        b.serve("echo", echo)
        stay = [await a.open("b", "echo") for _ in range(100)]
        for _ in range(400):
            async with await a.open("b", "echo") as stream:
                await stream.write(b"x")
                await stream.finish()
                assert [await stream.read(), await stream.read()] == [b"x", b""]
        for node in (a, b):
            assert 100 <= len(node._running.transport._streams) <= 250
        for stream in stay:
            await stream.write(b"y")
            assert await stream.read() == b"y"

    play(scenario)


def test_write_now_takes_all_or_nothing(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        b.serve("echo", echo)
        stream = await a.open("b", "echo")
        for _ in range(3):
            assert stream.write_now(b"question")
            assert await stream.read_exactly(8) == b"question"
        world.network.partition([world.machines["a"].host.ip])
        piece = bytes(1_000_000)
        count = sum(stream.write_now(piece) for _ in range(100))
        assert 0 < count < 100
        assert not stream.write_now(piece)
        world.network.heal()
        assert await stream.read_exactly(count * len(piece)) == bytes(count * len(piece))
        await stream.finish()
        assert not stream.write_now(b"late")
        assert await code_of(stream.write(b"late")) == "stream-closed"

    play(scenario)


def test_datagrams_of_a_stream_go_both_ways_until_it_ends(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        heard: list[bytes] = []

        async def mirror(stream: Stream) -> None:
            await stream.write(b"here")
            while datagrams := await stream.receive_datagrams():
                for datagram in datagrams:
                    heard.append(datagram)
                    stream.send_datagram(datagram[::-1])

        b.serve("mirror", mirror)
        stream = await a.open("b", "mirror")
        assert await stream.read_exactly(4) == b"here"
        sent = [b"%d" % number + bytes(number % 1100) for number in range(200)]
        back: list[bytes] = []
        for datagram in sent:
            stream.send_datagram(datagram)
            back += await stream.receive_datagrams()
        assert heard == sent
        assert back == [datagram[::-1] for datagram in sent]
        stream.send_datagram(bytes(1136))
        assert [len(each) for each in await stream.receive_datagrams()] == [1136]
        with pytest.raises(LimitError) as caught:
            stream.send_datagram(bytes(1137))
        assert caught.value.code == "datagram-too-large"
        waiting = asyncio.create_task(stream.receive_datagrams())
        await asyncio.sleep(0.1)
        await stream.finish()
        assert await waiting == []
        await asyncio.sleep(1.0)
        with pytest.raises(StateError):
            stream.send_datagram(b"late")

    play(scenario)


def test_of_datagrams_that_nobody_receives_the_newest_stay(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        streams: list[Stream] = []

        async def idle(stream: Stream) -> None:
            streams.append(stream)
            await stream.write(b"here")
            await stream.read()

        b.serve("idle", idle)
        stream = await a.open("b", "idle")
        assert await stream.read_exactly(4) == b"here"
        for number in range(3000):
            stream.send_datagram(b"%d" % number)
            if number % 100 == 0:
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)
        assert await streams[0].receive_datagrams() == [b"%d" % number for number in range(3000 - 1024, 3000)]
        stream.abort()
        with pytest.raises(CoveyError):
            await streams[0].receive_datagrams()

    play(scenario)


def test_both_sides_serve_and_open_at_the_same_time(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        for node in (a, b):
            node.serve("echo", echo)

        async def ask(node: Node, peer: str, number: int) -> None:
            async with await node.open(peer, "echo") as stream:
                text = b"%d" % number * 5000
                await stream.write(text)
                assert await stream.read_exactly(len(text)) == text

        asked = [ask(node, peer, number) for number in range(40) for node, peer in ((a, "b"), (b, "a"))]
        await asyncio.gather(*asked)

    play(scenario)


def test_more_streams_than_the_peer_allows_wait_for_their_turn(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        b.serve("echo", echo)

        async def ask(number: int) -> bytes:
            async with await a.open("b", "echo") as stream:
                await stream.write(b"%d" % number)
                return await stream.read()

        assert await asyncio.gather(*map(ask, range(600))) == [b"%d" % number for number in range(600)]

    play(scenario)


def test_slow_reader_holds_the_writer_back(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        opened: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
        ended = asyncio.Event()

        async def slow(stream: Stream) -> None:
            opened.set_result(stream)
            await ended.wait()

        b.serve("slow", slow)
        stream = await a.open("b", "slow")
        data = Random(2).randbytes(24 * MIB)
        written = 0

        async def write() -> None:
            nonlocal written
            for start in range(0, len(data), MIB):
                await stream.write(data[start : start + MIB])
                written += MIB
            await stream.finish()

        writing = asyncio.ensure_future(write())
        reader = await opened
        await asyncio.sleep(60.0)
        assert written <= 8 * MIB, "nobody has read a byte"
        assert await reader.read_exactly(4 * MIB) == data[: 4 * MIB]
        await asyncio.sleep(60.0)
        assert written <= 16 * MIB
        assert hashlib.sha256(await reader.read_exactly(20 * MIB)).digest() == hashlib.sha256(data[4 * MIB :]).digest()
        assert await reader.read() == b""
        ended.set()
        await writing

    play(scenario)


def test_service_that_is_not_offered_is_refused_at_the_first_read(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        stream = await a.open("b", "nothing")
        with pytest.raises(RefusedError) as refused:
            await stream.read()
        assert refused.value.code == "refused"

    play(scenario)


@pytest.mark.parametrize("service", ["trust", "message", "rendezvous"])
def test_service_of_covey_itself_is_not_for_programs(service: str, play: Play) -> None:
    with pytest.raises(UsageError) as refused:
        Node("x").serve(service, echo)
    assert refused.value.code == "reserved-service"


@pytest.mark.parametrize("service", ["", "x" * 129, "with blank", "grüße", "new\nline"])
def test_service_name_that_cannot_be_one_is_the_callers_mistake(service: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        with pytest.raises(UsageError) as refused:
            await a.open("b", service)
        assert refused.value.code == "bad-service"
        with pytest.raises(UsageError):
            b.serve(service, echo)
        assert (await a.send("b", "still friends")).result == "delivered"

    play(scenario)


def test_handler_that_raises_resets_the_stream_and_is_reported(play: Play) -> None:
    async def scenario(world: World) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        a, b = await friends(world, "a", "b")

        async def broken(stream: Stream) -> None:
            await stream.read()
            raise ZeroDivisionError("a bug in the program")

        async def refusing(stream: Stream) -> None:
            raise UsageError("not like this")

        b.serve("broken", broken)
        b.serve("refusing", refusing)
        stream = await a.open("b", "broken")
        await stream.write(b"x")
        with pytest.raises(UnreachableError) as failed:
            await stream.read()
        assert failed.value.code == "peer-failed"
        assert isinstance(loop.unhandled.pop()["exception"], ZeroDivisionError)
        assert await code_of((await a.open("b", "refusing")).read()) == "protocol"
        assert loop.unhandled == []

    play(scenario)


def test_handler_is_cancelled_by_nothing_but_its_end(play: Play) -> None:
    """A reset by the peer is an error at the next use, not a cancellation."""

    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        ends: list[str] = []

        async def served(stream: Stream) -> None:
            ends.append(await code_of(stream.read_exactly(10)))

        b.serve("served", served)
        for end in (Stream.reset, Stream.finish):
            stream = await a.open("b", "served")
            await stream.write(b"12345")
            await asyncio.sleep(0.1)
            await end(stream)
            await asyncio.sleep(0.1)
        assert ends == ["cancelled", "stream-ended"]

    play(scenario)


def test_stream_as_context_is_reset_by_an_error_and_finished_without(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        ends: list[str] = []

        async def served(stream: Stream) -> None:
            while True:
                try:
                    if not await stream.read():
                        ends.append("end")
                        return
                except CoveyError as error:
                    ends.append(error.code)
                    return

        b.serve("served", served)
        with pytest.raises(KeyError):
            async with await a.open("b", "served") as stream:
                await stream.write(b"x")
                await asyncio.sleep(0.1)
                raise KeyError
        await asyncio.sleep(0.1)
        async with await a.open("b", "served") as stream:
            await stream.write(b"x")
        await asyncio.sleep(0.1)
        assert ends == ["cancelled", "end"]

    play(scenario)


@pytest.mark.parametrize("seed", [1, 2])
def test_five_megabytes_both_ways_by_relay_then_direct(seed: int, play: Play) -> None:
    data = Random(seed).randbytes(5_000_000)

    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        lan = [world.machines[name].host.ip for name in ("a", "b")]
        world.network.partition(lan[:1], lan[1:])
        await asyncio.sleep(10.0)
        await a.ping("b")
        answers = await asyncio.gather(send_to_sink(a, "b", data), send_to_sink(b, "a", data))
        assert answers == [receipt(data)] * 2
        assert [path.kind for path in about(a, "b").paths if path.active] == ["relay"]
        world.network.heal()
        assert await send_to_sink(a, "b", data) == receipt(data)
        for _ in range(24):  # ways around a relay are looked for while there is something to carry
            assert await send_to_sink(a, "b", data[:1000]) == receipt(data[:1000])
            await asyncio.sleep(5.0)
        await direct(world, a, "b")
        answers = await asyncio.gather(send_to_sink(a, "b", data), send_to_sink(b, "a", data))
        assert answers == [receipt(data)] * 2

    play(scenario, seed=seed)


Disturbance = Callable[[World], Awaitable[None]]


def partition(seconds: float, *names: str) -> Disturbance:
    async def disturb(world: World) -> None:
        world.network.partition([world.machines[name].host.ip for name in names])
        await asyncio.sleep(seconds)
        world.network.heal()

    return disturb


async def crash_rendezvous(world: World) -> None:
    await world.crash("rendezvous")
    await asyncio.sleep(20.0)
    await world.restart("rendezvous")


async def crash_rendezvous_for_good(world: World) -> None:
    await world.crash("rendezvous")


DISTURBANCES: dict[str, Disturbance] = {
    "partition of 3 s": partition(3.0, "b"),
    "partition of 60 s": partition(60.0, "b"),
    "both alone for 60 s": partition(60.0, "a", "b"),
    "rendezvous crashes and comes back": crash_rendezvous,
    "rendezvous crashes for good": crash_rendezvous_for_good,
}


@pytest.mark.parametrize("case", DISTURBANCES)
def test_stream_survives(case: str, play: Play) -> None:
    data = Random(3).randbytes(3_000_000)

    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        b.serve("echo", echo)
        await direct(world, a, "b")
        world.network.default = Link(latency_s=0.01, rate_bits_s=20e6)
        stream = await a.open("b", "echo")

        async def write() -> None:
            for start in range(0, len(data), 10_000):
                await stream.write(data[start : start + 10_000])
            await stream.finish()

        writing = asyncio.ensure_future(write())
        first = await stream.read_exactly(100_000)
        await DISTURBANCES[case](world)
        rest = await stream.read_exactly(len(data) - 100_000)
        await writing
        assert first + rest == data
        assert asyncio.get_running_loop().time() < 150.0

    play(scenario)


def test_stream_survives_the_loss_of_its_direct_path(play: Play) -> None:
    data = Random(4).randbytes(3_000_000)

    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        await direct(world, a, "b")
        world.network.default = Link(latency_s=0.01, rate_bits_s=20e6)
        sending = asyncio.ensure_future(send_to_sink(a, "b", data))
        await asyncio.sleep(0.3)
        world.network.partition([world.machines["a"].host.ip], [world.machines["b"].host.ip])
        assert await sending == receipt(data)
        assert asyncio.get_running_loop().time() < 20.0
        assert [path.kind for path in about(a, "b").paths if path.active] == ["relay"]

    play(scenario)


@pytest.mark.parametrize("how", ["crash", "stop"])
def test_stream_ends_with_a_clear_error_when_its_peer_restarts(how: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        b.serve("echo", echo)
        stream = await a.open("b", "echo")
        await stream.write(b"x")
        assert await stream.read() == b"x"
        reading = asyncio.ensure_future(code_of(stream.read()))
        if how == "crash":
            await world.crash("b")
        else:
            await world.machines["b"].stop()  # type: ignore[union-attr]
        await world.restart("b")
        await world.node("b").ping("a")
        code = {"crash": "lost-state", "stop": "cancelled"}[how]  # one that stops gives its streams up
        assert await asyncio.wait_for(reading, 30.0) == code
        assert await code_of(stream.write(b"y")) == code
        world.node("b").serve("echo", echo)
        again = await a.open("b", "echo")
        await again.write(b"y")
        assert await again.read() == b"y"

    play(scenario)


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.1, 1.0, 60.0])
def test_goodbye_ends_the_connection_whatever_sessions_it_still_has(after_s: float, play: Play) -> None:
    """Handshakes that crossed leave one side two sessions for a while; the other says goodbye on the one it has."""

    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        stream = await a.open("b", "sink")
        reading = asyncio.ensure_future(code_of(stream.read()))
        await asyncio.sleep(after_s)
        await world.machines["b"].stop()  # type: ignore[union-attr]
        assert await asyncio.wait_for(reading, 0.5) != ""
        await asyncio.sleep(0.1)
        assert about(a, "b").paths == []

    play(scenario)


def test_ping_leaves_a_path_that_died(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        await direct(world, a, "b")
        world.network.partition([world.machines["a"].host.ip], [world.machines["b"].host.ip])
        assert (await a.ping("b")).path.kind == "relay"

    play(scenario)


def test_reader_hears_that_its_own_node_closes(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        stream = await a.open("b", "sink")
        reading = asyncio.ensure_future(code_of(stream.read()))
        await asyncio.sleep(1.0)
        await world.machines["a"].stop()  # type: ignore[union-attr]
        assert await asyncio.wait_for(reading, 1.0) != ""
        assert await code_of(stream.read()) != ""
        assert await code_of(stream.write(b"x")) != ""
        await stream.finish()
        await stream.reset()

    play(scenario)


@pytest.mark.sim_seeds(10)
def test_reader_hears_that_its_own_node_closes_also_with_a_full_socket(play: Play, sim_seed: int) -> None:
    """The goodbye could not be sent, and the reader waited for ever: once in 200 closes with a normal socket."""

    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        stream = await a.open("b", "sink")
        reading = asyncio.ensure_future(code_of(stream.read()))
        await asyncio.sleep(1.0)
        world.machines["a"].host.full_share = 0.9
        await world.machines["a"].stop()  # type: ignore[union-attr]
        assert await asyncio.wait_for(reading, 1.0) != ""

    play(scenario, seed=sim_seed)


def test_writer_that_waits_hears_that_its_own_node_closes(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        stream = await a.open("b", "sink")
        world.network.partition([world.machines["b"].host.ip])
        writing = asyncio.ensure_future(code_of(stream.write(bytes(64 * MIB))))
        await asyncio.sleep(1.0)
        assert not writing.done()
        await world.machines["a"].stop()  # type: ignore[union-attr]
        assert await asyncio.wait_for(writing, 1.0) != ""

    play(scenario)


def test_action_that_waits_for_a_connection_hears_that_its_own_node_closes(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        transport, peer = a._running.transport, raw(b)
        await world.crash("b")
        transport.close_connection(transport.endpoint.connections[peer])
        actions = [a.ping("b"), a.open("b", "sink"), a.open("b", "sink")]
        waiting = [asyncio.ensure_future(code_of(action)) for action in actions]
        await asyncio.sleep(0.5)
        await world.machines["a"].stop()  # type: ignore[union-attr]
        codes = await asyncio.wait_for(asyncio.gather(*waiting), 6.0)
        assert set(codes) <= {"closed", "no-answer", "peer-offline", "connection-closed"}

    play(scenario)


def test_ping_measures_the_round_trip_and_names_the_path(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        await direct(world, a, "b")
        world.network.default = Link(latency_s=0.05)
        await asyncio.sleep(60.0)
        answer = await a.ping("b")
        assert (answer.name, answer.identity, answer.path.kind, answer.path.active) == ("b", b.identity, "direct", True)
        assert 100 <= answer.rtt_ms < 110
        await world.crash("b")
        begun = asyncio.get_running_loop().time()
        with pytest.raises(UnreachableError) as lost:
            await a.ping("b")
        assert lost.value.code in ("no-answer", "peer-offline")
        assert lost.value.next_step
        assert asyncio.get_running_loop().time() - begun < 16.0

    play(scenario)


def test_streams_of_a_revoked_peer_are_cut_and_no_new_ones_are_opened(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        b.serve("echo", echo)
        stream = await a.open("b", "echo")
        await stream.write(b"still here")
        assert await stream.read_exactly(10) == b"still here"
        theirs = await b.open("a", "sink")
        reading = asyncio.ensure_future(code_of(theirs.read()))
        await asyncio.sleep(1.0)
        credentials = b._running.credentials
        assert credentials.root is not None
        agent = a._running
        agent.transport.endpoint.add_log(revoke(credentials.log, credentials.root))
        begun = asyncio.get_running_loop().time()
        assert await code_of(stream.read()) == "not-verified"
        assert await reading == "not-verified", "the other side is told"
        assert asyncio.get_running_loop().time() - begun < 30.0
        assert await code_of(a.open("b", "echo")) == "revoked"
        assert (await a.send("b", "for nobody", wait=5.0)).result == "queued"

    play(scenario)


def test_class_of_traffic_is_one_of_three_and_each_side_sets_its_own(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        served: list[Stream] = []

        async def serve(stream: Stream) -> None:
            served.append(stream)
            stream.traffic = "bulk"
            await stream.write(b"ready")

        b.serve("files", serve)
        assert await code_of(a.open("b", "files", traffic="urgent")) == "bad-traffic"
        async with await a.open("b", "files", traffic="interactive") as stream:
            assert await stream.read_exactly(5) == b"ready"
            assert (stream.traffic, served[0].traffic) == ("interactive", "bulk")

    play(scenario)


def test_stream_ends_although_its_handler_did_not_read_it(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")

        async def hasty(stream: Stream) -> None:
            await stream.write(b"no, thanks")

        b.serve("hasty", hasty)
        for _ in range(300):
            async with await a.open("b", "hasty") as stream:
                await stream.write(bytes(1000))
                await stream.finish()
                assert await stream.read_exactly(10) == b"no, thanks"
                assert await stream.read() == b""
        connection = next(iter(b._running.transport.endpoint.connections.values()))
        await world.until(lambda: not any(each.service == "hasty" for each in connection.streams.values()))

    play(scenario)


def test_streams_beyond_the_limit_open_as_soon_as_others_end(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        b.serve("echo", echo)
        held = [await a.open("b", "echo") for _ in range(250)]
        more = [asyncio.ensure_future(a.open("b", "echo")) for _ in range(50)]
        await asyncio.sleep(1)
        assert not all(each.done() for each in more), "the peer allows 256"
        for stream in held:
            await stream.finish()
            assert await stream.read() == b""
        late = await asyncio.wait_for(asyncio.gather(*more), 1)
        await late[-1].write(b"here")
        assert await late[-1].read_exactly(4) == b"here"

    play(scenario)
