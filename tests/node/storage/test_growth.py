"""Years of use in a minute: what a busy node's files grow to."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from covey.base.paths import Home
from covey.node.storage import Incoming, Retention, Store, prepare
from covey.node.storage.database import WAL_LIMIT

HOUR_US = 3600 * 1_000_000
ADA = b"a" * 32
BODY = bytes(3000)


def test_files_of_a_busy_node_stay_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """40,000 messages each way, a few an hour, read the day after: about 240 MB pass through."""
    monkeypatch.setattr("covey.node.storage.outbox.RESULTS_LIMIT", 2000)
    home = Home.locate(None, {"COVEY_HOME": str(tmp_path)}, uid=0, temporary=Path("/tmp"))
    prepare(home)
    counter = itertools.count(1)
    store = Store.open(
        home, lambda size: next(counter).to_bytes(size, "big"), 0, durable=False, retention=Retention(30, 500)
    )
    store.inbox._removed_limit = 1000
    sizes, logs = [], []
    for turn in range(1000):
        now_us = turn * 12 * HOUR_US
        numbers = range(turn * 40 + 1, turn * 40 + 41)
        with store.database.transaction():
            for n in numbers:
                store.outbox.append(ADA, n.to_bytes(16, "big"), "binary", BODY, now_us)
            arrived = [Incoming(n, 1, n.to_bytes(16, "big"), "binary", BODY) for n in numbers]
            assert store.inbox.store_many(ADA, 1, arrived, now_us) == ["stored"] * 40
        store.outbox.mark_delivered(ADA, upto=numbers[-1], now_us=now_us)
        store.inbox.acknowledge(range(numbers[0] - 40, numbers[0]))
        store.maintain(now_us, now_us)
        sizes.append(home.database.stat().st_size)
        logs.append(home.database.with_name("covey.db-wal").stat().st_size)
    store.close()
    assert max(sizes[500:]) <= max(sizes[100:500]) * 1.05, "it still grows"
    assert max(sizes) < 16 << 20
    assert max(logs) <= WAL_LIMIT


def test_space_of_a_burst_comes_back(tmp_path: Path) -> None:
    home = Home.locate(None, {"COVEY_HOME": str(tmp_path)}, uid=0, temporary=Path("/tmp"))
    prepare(home)
    counter = itertools.count(1)
    store = Store.open(home, lambda size: next(counter).to_bytes(size, "big"), 0, durable=False)
    for start in range(1, 5001, 100):
        arrived = [Incoming(n, 1, n.to_bytes(16, "big"), "binary", BODY * 3) for n in range(start, start + 100)]
        store.inbox.store_many(ADA, 1, arrived, 1)
    store.inbox.clear(everything=True)
    store.database.row("PRAGMA wal_checkpoint(TRUNCATE)")
    before = home.database.stat().st_size
    for minute in range(20):
        store.maintain(minute, minute)
    store.database.row("PRAGMA wal_checkpoint(TRUNCATE)")
    after = home.database.stat().st_size
    store.close()
    assert before > 40 << 20
    assert after < 6 << 20
