"""The two databases of a rendezvous, killed and without power at any system call.

Letters are promised, records are a cache: power may take the last of those, but never make the rest untrue.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, get_args

import pytest

from covey.base.errors import StorageError
from covey.rendezvous.mailboxes import MailboxStore
from covey.rendezvous.store import RendezvousStore
from tests.faults.machine import Disk, Loss
from tests.faults.supervisor import KILL, Call, Say, run_supervised

STRIDES = pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])

pytestmark = pytest.mark.timeout(900)


def who(n: int) -> bytes:
    return bytes([n]) * 32


def serve(folder: Path, say: Say) -> None:
    """Records, names and letters come and go; each step may be repeated."""
    store = RendezvousStore(folder / "rendezvous.db")
    letters = MailboxStore(folder / "mailboxes.db")
    for database in (store.database, letters.database):
        database.row("PRAGMA wal_autocheckpoint = 8")
    for n in range(1, 9):
        store.put(
            who(n),
            address=b"a" * 6,
            name=f"name-{n % 5}",
            order=(0, 0, n),
            record=b"record %d" % n,
            log=b"log" * 300,
            expires_us=100 * n,
            now_us=n,
        )
        say(["record", n])
        letters.open_box(who(n), b"key", 10**9)
        number = letters.put(who(n), b"deposit", b"sealed %d" % n * 200, 10**9)
        say(["letter", n])
        if n % 3 == 0:
            letters.clear(who(n), [number])
            say(["cleared", n])
    store.expire(200 + 7 * 24 * 3600 * 1_000_000)
    say(["expired", 1])
    store.close()
    letters.close()


def check(folder: Path, said: list[Any], *, power: bool, context: str) -> None:
    try:
        store = RendezvousStore(folder / "rendezvous.db")
        letters = MailboxStore(folder / "mailboxes.db")
    except StorageError as error:
        raise AssertionError(f"{context}: {error}") from error
    gone = {1, 2} if ["expired", 1] in said else set()
    for kind, n, *_ in said:
        if kind == "record" and not power:
            entry = store.by_identity(who(n))
            assert (entry is not None) or n <= 2, context
            assert entry is None or n not in gone, context
        if kind == "letter":
            held = letters.collect(who(n), 0, 10, 1 << 20, 0)
            assert [sealed for _, sealed in held] in ([b"sealed %d" % n * 200], [] if n % 3 == 0 else None), context
        if kind == "cleared":
            assert letters.collect(who(n), 0, 10, 1 << 20, 0) == [], context
    for database in (store.database, letters.database):
        assert database.rows("PRAGMA integrity_check") == [("ok",)], context
    rows = store.database.row("SELECT count(*) FROM records")
    assert rows == (store.counts()[0],), context
    assert letters.counts()[1:] == letters.database.row("SELECT count(*), total(size) FROM letters"), context
    assert store.database.rows("SELECT 1 FROM names WHERE identity NOT IN (SELECT identity FROM records)") == [], (
        context
    )
    store.close()
    letters.close()


@STRIDES
def test_killed_before_any_call_a_rendezvous_comes_back(parent: Path, stride: int) -> None:
    for n in range(1, 10_000, stride):
        folder = parent / str(n)
        folder.mkdir()

        def decide(call: Call, n: int = n) -> int:
            return KILL if call.index == n else 0

        report = run_supervised(lambda say, folder=folder: serve(folder, say), folder, decide)  # type: ignore[misc]
        assert report.exit_code in (0, -9), report.words()[-1]
        check(folder, report.words(), power=False, context=f"killed before call {n}")
        serve(folder, lambda word: None)
        check(folder, [["letter", 8], ["expired", 1]], power=False, context=f"killed before call {n}, then run again")
        if report.exit_code == 0:
            break
    assert n > 150


@STRIDES
def test_power_lost_before_any_call_a_rendezvous_comes_back(parent: Path, stride: int) -> None:
    recorded = parent / "recorded"
    recorded.mkdir()
    report = run_supervised(lambda say: serve(recorded, say), recorded, data=True)
    assert report.exit_code == 0, report.words()[-1]
    disk = Disk(recorded)
    for call in report.calls:
        if call.index % stride == 0:
            said = [word for before, word in report.said if before < call.index]
            for loss in get_args(Loss):
                found = parent / f"{call.index}-{loss}"
                found.mkdir()
                disk.write_into(found, loss, random.Random(call.index))
                check(found, said, power=True, context=f"power lost before call {call.index}, losing {loss}")
        disk.apply(call)
