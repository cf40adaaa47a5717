"""Running nodes, real sockets, real system calls; the disk of one of them fails, hangs, and comes back."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from covey.base.errors import CoveyError, StorageError
from covey.node import Node
from tests.faults.live import befriend, rendezvous, started, until
from tests.faults.supervisor import Call, Report, Say, run_supervised

pytestmark = pytest.mark.xdist_group("processes")  # they watch the clock

HANG_SECONDS = 1.0
LARGE = "x" * 50_000
CHANGES = ("write", "truncate", "open", "rename", "mkdir", "unlink")

Scene = Callable[[Node, Node, str, Say], Awaitable[None]]


def play(folder: Path, victim: str, verdict: Callable[[Call], int], scene: Scene) -> Report:
    """`scene(a, b, ticket, say)` in a child; between its words "fail" and "mend" `verdict` rules `victim`'s disk."""
    state = {"failing": False}

    def decide(call: Call) -> int:
        return verdict(call) if state["failing"] and (folder / victim) in call.path.parents else 0

    def hear(word: object) -> None:
        if word in ("fail", "mend"):
            state["failing"] = word == "fail"

    async def main(say: Say) -> None:
        async with (
            rendezvous(folder / "rendezvous") as ticket,
            started(folder / "a", ticket) as a,
            started(folder / "b", ticket) as b,
        ):
            await befriend(a, b)
            await scene(a, b, ticket, say)

    report = run_supervised(lambda say: asyncio.run(main(say)), folder, decide, hear=hear)
    assert report.exit_code == 0, report.words()[-1]
    return report


def full(call: Call) -> int:
    return errno.ENOSPC if call.name in ("write", "truncate", "open") else 0


def read_only(call: Call) -> int:
    return errno.EROFS if call.name in CHANGES else 0


def broken(call: Call) -> int:
    return errno.EIO


def hanging(call: Call) -> int:
    if call.name == "sync":
        threading.Event().wait(HANG_SECONDS)
    return 0


def troubles(node: Node) -> list[str]:
    return [found.code for found in node.view().findings if found.code.startswith(("disk-", "store-"))]


@pytest.mark.parametrize(
    ("verdict", "codes"),
    [(full, {"disk-full"}), (read_only, {"disk-error", "disk-read-only"}), (broken, {"disk-error"})],
)
def test_disk_of_the_recipient_fails_and_comes_back(
    parent: Path, verdict: Callable[[Call], int], codes: set[str]
) -> None:
    async def scene(a: Node, b: Node, ticket: str, say: Say) -> None:
        assert (await a.send("b", "0" + LARGE)).result == "delivered"
        say("fail")
        assert (await a.send("b", "1" + LARGE, wait=1.5)).result == "queued"
        with pytest.raises(StorageError) as caught:
            await b.send("a", LARGE)
        assert caught.value.code in codes
        assert caught.value.next_step
        assert set(troubles(b)) <= codes
        assert troubles(b)
        assert (await a.ping("b")).rtt_ms < 1000
        async with await a.open("b", "sink") as stream:
            await stream.write(b"streams go on")
            await stream.finish()
            assert int.from_bytes((await stream.read_exactly(40))[:8], "big") == 13
        assert (await a.send("b", "2" + LARGE, wait=0.1)).result == "queued"
        say("mend")
        await until(lambda: a.view().outbox_queued == 0)
        assert (await b.send("a", "back")).result == "delivered"
        assert [message.body[0] for message in await b.inbox_list()] == ["0", "1", "2"]
        assert troubles(b) == []

    play(parent, "b", verdict, scene)


def test_disk_that_hangs_holds_up_only_who_waits_for_it(parent: Path) -> None:
    async def scene(a: Node, b: Node, ticket: str, say: Say) -> None:
        say("fail")
        begun = time.monotonic()
        sending = asyncio.ensure_future(a.send("b", "slow", wait=20))
        pings = 0
        while not sending.done():
            assert (await a.ping("b")).rtt_ms < 500
            assert a.view().name == "a"
            pings += 1
            await asyncio.sleep(0.05)
        say(["pings", pings])
        assert (await sending).result == "delivered"
        assert time.monotonic() - begun > HANG_SECONDS
        say("mend")

    report = play(parent, "b", hanging, scene)
    assert [word[1] > 5 for word in report.words() if word[0] == "pings"] == [True]


def test_sender_on_a_hanging_disk_says_queued_only_after_the_disk_did(parent: Path) -> None:
    async def scene(a: Node, b: Node, ticket: str, say: Say) -> None:
        say("fail")
        begun = time.monotonic()
        assert (await a.send("b", "slow", wait=0)).result == "queued"
        assert time.monotonic() - begun > HANG_SECONDS
        say("mend")

    play(parent, "a", hanging, scene)


def test_rendezvous_with_a_full_disk_still_answers_and_takes_records_when_it_can(parent: Path) -> None:
    async def scene(a: Node, b: Node, ticket: str, say: Say) -> None:
        say("fail")
        async with started(parent / "c", ticket) as c:
            found = await c.find("a")
            assert found.identity == a.identity
            assert (await a.send("b", "direct or relayed")).result == "delivered"
            with pytest.raises(CoveyError):
                await a.find("c")
            say("mend")
            while True:
                try:
                    assert (await a.find("c")).identity == c.identity
                    break
                except CoveyError:
                    await asyncio.sleep(0.2)

    play(parent, "rendezvous", broken, scene)
