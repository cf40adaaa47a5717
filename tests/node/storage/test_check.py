from __future__ import annotations

import itertools
import os
import random as randomness
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from covey.base.paths import Home
from covey.crypto.credentials import Credentials, dump_recovery
from covey.crypto.mailbox import MailboxKeys
from covey.node.storage import Draft, Incoming, Lock, Store, load_or_create, prepare, save_mailbox
from covey.node.storage.check import CODES, INVARIANTS, check_files, check_identity, check_store, in_use
from covey.node.storage.settings import WALL_CLOCK

NOW_US = 1_800_000_000_000_000
HOUR_US = 3600 * 1_000_000
ADA, BOB = b"a" * 32, b"b" * 32
OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"


def unpredictable(seed: int) -> Callable[[int], bytes]:
    return randomness.Random(seed).randbytes


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home.locate(None, {"COVEY_HOME": str(tmp_path / "h")}, uid=0, temporary=tmp_path)
    prepare(home)
    load_or_create(home, unpredictable(1), NOW_US)
    return home


@pytest.fixture
def used(home: Home) -> Home:
    """A profile with a bit of everything in it, and closed."""
    store = Store.open(home, unpredictable(2), NOW_US, durable=False)
    ids = map(bytes, zip(*[iter(itertools.cycle(range(7)))] * 16, strict=False))
    fill(store, randomness.Random(3), ids)
    store.settings.raise_clock(NOW_US)
    store.close()
    return home


def fill(store: Store, dice: randomness.Random, ids: object, turns: int = 60) -> None:
    """Random, legal doings of a node."""
    for turn in range(turns):
        peer = dice.choice((ADA, BOB))
        body = dice.randbytes(dice.randrange(50))
        identifier = dice.randbytes(16)
        match dice.randrange(8):
            case 0 | 1:
                expires = NOW_US + turn if dice.random() < 0.3 else None
                store.outbox.append_many(peer, [Draft(identifier, "binary", body, expires)], NOW_US)
            case 2:
                store.outbox.mark_delivered(peer, [dice.randrange(1, 20)], now_us=NOW_US, upto=dice.randrange(3))
            case 3:
                store.outbox.mark_refused(peer, dice.randrange(1, 20), "no", NOW_US)
            case 4 | 5:
                number = dice.randrange(1, 30)
                store.inbox.store_many(
                    peer,
                    dice.randrange(2),
                    [Incoming(number, dice.randrange(1, 4), identifier, "binary", body)],
                    NOW_US,
                )
            case 6:
                store.inbox.skip(peer, 0, [dice.randrange(1, 30)], NOW_US)
                store.inbox.acknowledge([dice.randrange(1, 10)])
            case 7:
                doing = dice.randrange(3)
                if doing == 0:
                    store.inbox.clear()
                elif doing == 1:
                    store.outbox.renumber()
                else:
                    store.maintain(NOW_US + turn, NOW_US)


def codes(home: Home, now_us: int = NOW_US) -> list[str]:
    found = check_store(home, now_us)
    assert all(each.code in CODES and each.what for each in found)
    return [each.code for each in found]


def change(home: Home, sql: str) -> None:
    with sqlite3.connect(home.database) as database:
        assert database.execute(sql).rowcount
    database.close()


def tree(home: Home) -> dict[Path, tuple[bytes, int]]:
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in home.state_dir.parent.rglob("*")
        if path.is_file() and not path.name.endswith("-shm")
    }


# --- what is whole -------------------------------------------------------------------------------------------------


def test_whole_profile_has_no_findings_and_is_not_touched(used: Home) -> None:
    before = tree(used)
    assert codes(used) == []
    assert tree(used) == before


def test_profile_of_a_killed_node_is_whole_too_and_not_touched(used: Home, short_path: Path) -> None:
    store = Store.open(used, unpredictable(4), NOW_US, durable=False)
    store.outbox.append(ADA, b"i" * 16, "text", b"in the log only", NOW_US)
    killed = Home.locate(None, {"COVEY_HOME": str(short_path / "killed")}, uid=0, temporary=short_path)
    shutil.copytree(used.state_dir.parent, killed.state_dir.parent)
    store.close()
    assert killed.database.with_name("covey.db-wal").stat().st_size > 0
    before = tree(killed)
    assert codes(killed) == []
    assert tree(killed) == before


def test_running_node_is_checked_beside_it(used: Home) -> None:
    with Lock(used.lock_file):
        store = Store.open(used, unpredictable(4), NOW_US, durable=False)
        assert in_use(used) == os.getpid()
        with store.database.transaction():
            store.outbox.append(ADA, b"i" * 16, "text", b"not committed yet", NOW_US)
            assert codes(used) == []
        store.close()
    assert in_use(used) is None


@pytest.mark.parametrize("seed", range(12))
def test_whatever_a_node_does_keeps_the_invariants(home: Home, seed: int) -> None:
    store = Store.open(home, unpredictable(seed), NOW_US, durable=False)
    for _ in range(8):
        fill(store, randomness.Random(seed), iter(()), turns=40)
        assert codes(home) == [], f"seed {seed}"
    store.close()


def test_profile_that_was_never_used_is_only_noted(tmp_path: Path) -> None:
    home = Home.locate(None, {"COVEY_HOME": str(tmp_path / "new")}, uid=0, temporary=tmp_path)
    assert codes(home) == ["missing-directory", "identity-missing"]
    assert {each.severity for each in check_store(home, NOW_US)} == {"note"}


# --- what is broken ------------------------------------------------------------------------------------------------

BREAKS = {
    "a message that waits": "UPDATE outbox SET body = NULL WHERE result = 'queued'",
    "a message with a result": "UPDATE outbox SET finished_us = NULL WHERE result <> 'queued'",
    "the size of a message in the outbox": "UPDATE outbox SET body = body || x'00' WHERE body IS NOT NULL",
    "what is counted as waiting": "UPDATE outbox_recipients SET queued = queued + 1 WHERE recipient <> x''",
    "every recipient of a message": "DELETE FROM outbox_recipients WHERE recipient <> x''",
    "no number of the outbox": "UPDATE outbox_recipients SET last = 0",
    "the sum over all recipients": "UPDATE outbox_recipients SET bytes = bytes + 1 WHERE recipient = x''",
    "the size of a message in the inbox": "UPDATE inbox SET body = body || x'00'",
    "a message is in the inbox once": "UPDATE inbox SET id = x'00', sender = (SELECT min(sender) FROM inbox)",
    "what is settled above": "UPDATE inbox_watermarks SET watermark = 1000",
    "no sender holds more gaps": (
        "WITH RECURSIVE n(x) AS (SELECT 5000 UNION ALL SELECT x + 1 FROM n WHERE x < 9100)"
        " INSERT INTO inbox_gaps (sender, incarnation, number)"
        " SELECT (SELECT min(sender) FROM inbox_watermarks), x'0000000000000000', x FROM n"
    ),
    "a waiting message is whole": "UPDATE inbox_gaps SET id = x'00' WHERE id IS NULL",
    "what is counted as a sender's": "UPDATE inbox_usage SET messages = messages + 1 WHERE sender <> x''",
    "every sender of a message": "DELETE FROM inbox_usage WHERE sender <> x''",
    "the sum over all senders": "UPDATE inbox_usage SET bytes = bytes + 1 WHERE sender = x''",
    "no number of the inbox": "UPDATE sqlite_sequence SET seq = 0 WHERE name = 'inbox'",
    "identities have": "UPDATE inbox SET sender = x'00'",
    "the outbox has its incarnation": "DELETE FROM settings WHERE key = 'outbox-incarnation'",
}


def test_every_invariant_has_a_test() -> None:
    assert len(BREAKS) == len(INVARIANTS)
    for invariant in INVARIANTS:
        assert sum(invariant.what.startswith(beginning) for beginning in BREAKS) == 1, invariant.what


@pytest.mark.parametrize("beginning", BREAKS)
def test_broken_invariant_is_found(used: Home, beginning: str) -> None:
    change(used, BREAKS[beginning])
    found = check_store(used, NOW_US)
    assert {each.code for each in found} == {"store-inconsistent"}
    assert any(f"times that {beginning}" in each.what for each in found)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda raw: raw[:8192] + b"\xff" * 8192 + raw[16384:], "store-corrupt"),
        (lambda raw: raw[: len(raw) // 2], "store-corrupt"),
        (lambda raw: b"not a database at all" * 100, "store-corrupt"),
        (lambda raw: b"", "store-empty"),
    ],
    ids=["overwritten", "cut", "foreign", "empty"],
)
def test_damaged_database_is_found(used: Home, damage: Callable[[bytes], bytes], code: str) -> None:
    used.database.write_bytes(damage(used.database.read_bytes()))
    assert codes(used) == [code]


def test_lost_database_is_found(used: Home) -> None:
    used.database.unlink()
    assert codes(used) == ["store-missing"]


@pytest.mark.parametrize(("version", "code"), [(999, "store-too-new"), (1, "store-old")])
def test_database_of_another_schema_is_told(used: Home, version: int, code: str) -> None:
    with sqlite3.connect(used.database) as database:
        database.execute(f"PRAGMA user_version = {version}")
    database.close()
    assert codes(used) == [code]


def test_peer_whose_log_does_not_verify_is_found(used: Home) -> None:
    other, _ = Credentials.create(unpredictable(9), NOW_US)
    columns = "(identity, since_us, log) VALUES"
    change(used, f"INSERT INTO peers {columns} (x'{other.identity.hex()}', 0, x'{other.log.raw.hex()}')")
    assert codes(used) == []
    change(used, f"INSERT INTO peers {columns} (x'{ADA.hex()}', 0, x'{other.log.raw.hex()}')")
    change(used, f"INSERT INTO peers {columns} (x'{BOB.hex()}', 0, x'00')")
    assert codes(used) == ["peer-damaged", "peer-damaged"]


def test_clock_that_was_far_ahead_is_told(used: Home) -> None:
    store = Store.open(used, unpredictable(4), NOW_US, durable=False)
    store.settings.set(WALL_CLOCK, NOW_US + 5 * HOUR_US)
    store.close()
    (finding,) = check_store(used, NOW_US)
    assert finding.code == "clock-behind"
    assert "5.0 hours" in finding.what


# --- identity and files --------------------------------------------------------------------------------------------


def test_damaged_identity_is_found(used: Home) -> None:
    raw = used.identity_file.read_bytes()
    used.identity_file.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert [each.code for each in check_identity(used, NOW_US)] == ["identity-damaged"]
    used.identity_file.unlink()
    (finding,) = check_identity(used, NOW_US)
    assert (finding.code, finding.severity) == ("identity-missing", "error")


def test_keys_that_are_over_are_renewed_or_an_error(used: Home) -> None:
    (finding,) = check_identity(used, NOW_US + 31 * 24 * HOUR_US)
    assert (finding.code, finding.severity) == ("identity-expired", "note")
    credentials = Credentials.load_secrets(used.identity_file.read_bytes()).without_root()
    used.identity_file.write_bytes(credentials.dump_secrets())
    (finding,) = check_identity(used, NOW_US + 31 * 24 * HOUR_US)
    assert (finding.code, finding.severity) == ("identity-expired", "error")


def test_mailbox_keys_are_read_too(used: Home) -> None:
    save_mailbox(used, MailboxKeys())
    assert check_identity(used, NOW_US) == []
    used.mailbox_file.write_bytes(b"x" * 50)
    assert [(each.code, each.severity) for each in check_identity(used, NOW_US)] == [("mailbox-damaged", "warning")]


def test_recovery_file_is_read_too(used: Home) -> None:
    other, roots = Credentials.create(unpredictable(9), NOW_US)
    used.recovery_file.write_bytes(dump_recovery(other.log, roots.next_root))
    assert [each.code for each in check_identity(used, NOW_US)] == ["recovery-foreign"]
    used.recovery_file.write_bytes(b"x")
    assert [each.code for each in check_identity(used, NOW_US)] == ["recovery-damaged"]
    used.recovery_file.unlink()
    assert check_identity(used, NOW_US) == []


@pytest.mark.parametrize("name", ["identity_file", "database", "generation_file", "recovery_file", "state_dir"])
def test_file_that_others_may_read_is_found(used: Home, name: str) -> None:
    path = getattr(used, name)
    path.chmod(0o755 if path.is_dir() else 0o644)
    (finding,) = check_files(used)
    assert (finding.code, finding.severity) == ("bad-permissions", "error")
    assert finding.hint == f"chmod {'700' if path.is_dir() else '600'} {path}"
    assert "identity-damaged" not in codes(used)


def test_copy_that_others_may_read_is_found(used: Home) -> None:
    for name in ("daemon.log.1", "covey.db.schema-1", "mailbox-keys", ".identity.new"):
        (used.state_dir / name).write_bytes(b"")
        (used.state_dir / name).chmod(0o640)
    assert [each.code for each in check_files(used)] == ["bad-permissions"] * 4


def test_symbolic_link_is_found(used: Home) -> None:
    moved = used.identity_file.rename(used.identity_file.with_name("elsewhere"))
    used.identity_file.symlink_to(moved)
    assert [each.code for each in check_files(used)] == ["bad-permissions"]


def test_what_was_moved_aside_is_told(used: Home) -> None:
    moved = used.database.with_name("covey.db.damaged-20260101T000000Z")
    moved.touch(0o600)
    (finding,) = check_files(used)
    assert (finding.code, finding.severity) == ("database-damaged", "warning")


def test_lock_of_nobody_is_not_in_use(home: Home) -> None:
    assert in_use(home) is None
    home.lock_file.write_text("1\n")
    assert in_use(home) is None, "a lock file without a lock is what every stopped node leaves"


def test_operations_page_explains_every_code() -> None:
    section = OPERATIONS.read_text().partition("| `covey store check` says |")[2].partition("\n\n")[0]
    listed = {
        code
        for cell in re.findall(r"^\| ([^|]*) \|", section, re.MULTILINE)
        for code in re.findall(r"`([a-z-]+)`", cell)
    }
    assert listed == CODES
