"""A node whose disk fails under it: real SQLite errors, whole nodes, a virtual clock.

`PRAGMA max_page_count` makes SQLite answer as on a full disk, `PRAGMA query_only` as on one that is read-only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from covey.base.errors import StorageError
from covey.node import Node
from covey.testing.world import World
from tests.node.stage import Play, bodies, friends, raw

FULL = ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000", "disk-full")
READ_ONLY = ("PRAGMA query_only = 1", "PRAGMA query_only = 0", "disk-read-only")
FAILURES = pytest.mark.parametrize(("fail", "mend", "code"), [FULL, READ_ONLY], ids=["full", "read-only"])

LARGE = "x" * 100_000
"""More than the free pages of a database take."""


def fault(node: Node, pragma: str) -> None:
    node._running.files.store.database.execute(pragma)


def errors(node: Node) -> list[str]:
    return [finding.code for finding in node.view().findings if finding.severity == "error"]


@FAILURES
def test_send_on_a_failing_disk_is_refused_and_never_called_queued(play: Play, fail: str, mend: str, code: str) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        fault(a, fail)
        for _ in range(3):
            with pytest.raises(StorageError) as caught:
                await a.send("b", LARGE, id="0" * 31 + "1")
            assert (caught.value.code, bool(caught.value.next_step)) == (code, True)
        assert errors(a) == [code]
        assert a.view().outbox_queued == 0
        assert (await a.ping("b")).rtt_ms > 0
        fault(a, mend)
        assert (await a.send("b", LARGE, id="0" * 31 + "1")).result == "delivered"
        assert errors(a) == []
        assert await bodies(b) == [LARGE]

    play(scenario)


@FAILURES
def test_message_for_a_failing_disk_stays_with_its_sender_until_there_is_room(
    play: Play, fail: str, mend: str, code: str
) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        fault(b, fail)
        sent = [await a.send("b", f"{n}{LARGE}", wait=20) for n in range(3)]
        assert [view.result for view in sent] == ["queued"] * 3
        await world.until(lambda: errors(b) == [code])
        assert (await a.ping("b")).rtt_ms > 0
        await asyncio.sleep(600)
        await world.until(lambda: errors(b) == [code])
        assert b.view().inbox_unread == 0
        assert a._running.book.trusts(raw(b))
        assert b._running.book.trusts(raw(a))
        fault(b, mend)
        await world.until(lambda: b.view().inbox_unread == 3)
        assert [body[0] for body in await bodies(b)] == ["0", "1", "2"]
        await world.until(lambda: a.view().outbox_queued == 0 and errors(b) == [])

    play(scenario)


@FAILURES
def test_trouble_ends_by_itself_within_a_minute_of_the_disk_s_return(
    play: Play, fail: str, mend: str, code: str
) -> None:
    async def scenario(world: World) -> None:
        (a, _) = await friends(world, "a", "b")
        fault(a, fail)
        with pytest.raises(StorageError):
            await a.send("b", LARGE)
        fault(a, mend)
        await world.until(lambda: errors(a) == [])

    play(scenario)


@FAILURES
def test_trust_asked_of_a_failing_disk_is_asked_again(play: Play, fail: str, mend: str, code: str) -> None:
    async def scenario(world: World) -> None:
        await world.start_rendezvous()
        a, b = [(await world.start_node(name)).node for name in ("a", "b")]
        await a.find("b")
        fault(b, "PRAGMA query_only = 1")
        await a.handshake("b", "r" * 100)
        await asyncio.sleep(30)
        assert b.pending() == []
        assert [peer.trust for peer in a.peers()] == ["requested"]
        fault(b, "PRAGMA query_only = 0")
        await world.until(lambda: [peer.name for peer in b.pending()] == ["a"])

    play(scenario)


@FAILURES
def test_approval_on_a_failing_disk_is_no_approval(play: Play, fail: str, mend: str, code: str) -> None:
    async def scenario(world: World) -> None:
        await world.start_rendezvous()
        a, b = [(await world.start_node(name)).node for name in ("a", "b")]
        await a.handshake("b")
        await world.until(lambda: len(b.pending()) == 1)
        fault(b, "PRAGMA query_only = 1")
        with pytest.raises(StorageError):
            await b.approve("a")
        assert [peer.trust for peer in b.pending()] == ["pending"]
        assert [peer.trust for peer in a.peers()] == ["requested"]
        fault(b, "PRAGMA query_only = 0")
        await b.approve("a")
        await world.until(lambda: [peer.trust for peer in a.peers()] == ["trusted"])

    play(scenario)


def lose_database(node: Node) -> None:
    node.home.database.unlink()


def lose_directory(node: Node) -> None:
    for path in node.home.state_dir.iterdir():
        path.unlink()
    node.home.state_dir.rmdir()


@pytest.mark.parametrize("lose", [lose_database, lose_directory])
def test_files_that_are_lost_at_run_time_end_the_promises(play: Play, lose: Callable[[Node], None]) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        lose(b)
        assert (await a.send("b", "for nobody", wait=20)).result == "queued"
        with pytest.raises(StorageError) as caught:
            await b.send("a", "into nowhere")
        assert (caught.value.code, errors(b)) == ("store-missing", ["store-missing"])
        assert (await a.ping("b")).rtt_ms > 0
        await asyncio.sleep(200)
        assert errors(b) == ["store-missing"]
        assert a.view().outbox_queued == 1

    play(scenario)


def test_log_that_is_lost_at_run_time_loses_nothing(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        for _ in range(3):
            for path in b.home.state_dir.glob("covey.db-*"):
                path.unlink()
            assert (await a.send("b", "kept")).result == "delivered"
        await world.crash("b")
        await world.restart("b")
        again = world.machines["b"].node  # type: ignore[attr-defined]
        assert await bodies(again) == ["kept"] * 3
        assert again._running.upkeep.storage_trouble is None

    play(scenario)
