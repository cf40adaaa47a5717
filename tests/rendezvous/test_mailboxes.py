from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from covey.rendezvous.mailboxes import MailboxStore, Waiting

ADA, BOB = b"a" * 32, b"b" * 32


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MailboxStore]:
    opened = MailboxStore(tmp_path / "mailboxes.db", synchronous="OFF")
    yield opened
    opened.close()


def put(store: MailboxStore, number: int, recipient: bytes = ADA, *, size: int = 10, expires: int = 100) -> int:
    return store.put(recipient, bytes([number]) * 16, bytes([number]) * size, expires)


def test_box_is_open_until_its_key_ends(store: MailboxStore) -> None:
    assert store.key(ADA, 0) is None
    store.open_box(ADA, b"first", 10)
    store.open_box(ADA, b"second", 20)
    assert store.key(ADA, 19) == b"second"
    assert store.key(ADA, 20) is None
    assert store.key(BOB, 0) is None
    assert store.counts() == (1, 0, 0)


def test_letters_come_in_order_and_stay_until_they_are_cleared(store: MailboxStore) -> None:
    numbers = [put(store, each) for each in (1, 2, 3)]
    put(store, 4, BOB)
    assert numbers == sorted(numbers)
    letters = [(number, bytes([each]) * 10) for number, each in zip(numbers, (1, 2, 3), strict=True)]
    assert store.collect(ADA, 0, 10, 1000, 0) == letters
    assert store.collect(ADA, 0, 10, 1000, 0) == letters
    assert store.collect(ADA, numbers[0], 1, 1000, 0) == letters[1:2]
    assert store.collect(ADA, 0, 10, 25, 0) == letters[:2]
    assert store.collect(ADA, 0, 10, 1, 0) == letters[:1]
    store.clear(ADA, numbers[:2])
    assert store.waiting(ADA) == [Waiting(numbers[2], b"\3" * 16, 10)]
    assert store.holds(ADA, numbers[1], 0)
    assert not store.holds(ADA, numbers[2], 0)
    assert store.counts() == (0, 2, 20)


def test_nobody_clears_the_letters_of_another(store: MailboxStore) -> None:
    number = put(store, 1)
    store.clear(BOB, [number, 77])
    assert store.known([number, 77]) == {number}


def test_second_deposit_with_one_id_replaces_the_first(store: MailboxStore) -> None:
    first = put(store, 1)
    second = put(store, 1, size=12)
    assert second > first
    assert store.collect(ADA, 0, 10, 1000, 0) == [(second, b"\1" * 12)]
    put(store, 1, BOB)
    assert store.counts() == (0, 2, 22)


def test_number_of_a_letter_is_never_used_again(store: MailboxStore) -> None:
    number = put(store, 1)
    store.clear(ADA, [number])
    assert put(store, 2) > number


def test_what_expired_is_not_handed_out_and_then_gone(store: MailboxStore) -> None:
    number, other = put(store, 1, expires=50), put(store, 2, expires=60)
    store.open_box(ADA, b"key", 55)
    assert [each for each, _ in store.collect(ADA, 0, 10, 1000, 50)] == [other]
    store.expire(55)
    assert store.known([number, other]) == {other}
    assert store.counts() == (0, 1, 10)


def test_columns_say_nothing_of_a_sender(store: MailboxStore) -> None:
    columns = {
        table: [row[1] for row in store.database.rows(f"PRAGMA table_info({table})")] for table in ("boxes", "letters")
    }
    assert columns == {
        "boxes": ["recipient", "key", "until_us"],
        "letters": ["number", "recipient", "deposit", "size", "expires_us", "sealed"],
    }


KILLED = """
import os, signal, sys
from pathlib import Path
from covey.rendezvous.mailboxes import MailboxStore
store = MailboxStore(Path(sys.argv[1]))
print(store.put(b"a" * 32, b"i" * 16, b"sealed", 100), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_stored_letter_survives_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "mailboxes.db"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    store = MailboxStore(path)
    assert store.collect(ADA, 0, 10, 1000, 0) == [(int(done.stdout), b"sealed")]
    assert store.database.row("PRAGMA synchronous") == (2,)
    store.close()
