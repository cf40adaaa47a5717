from __future__ import annotations

from covey.base.types import Identity
from covey.node.storage.database import Database
from covey.node.storage.letters import Deposit, Letters
from covey.node.storage.peers import Peers


def identity(number: int) -> Identity:
    return Identity(number.to_bytes(4, "big") * 8)


def test_heard_numbers_only_rise(database: Database) -> None:
    letters = Letters(database)
    assert letters.heard(identity(1)) == 0
    letters.hear(identity(1), 5, 10)
    letters.hear(identity(1), 3, 11)
    assert letters.heard(identity(1)) == 5
    letters.hear(identity(1), (1 << 63) - 1, 12)
    assert letters.heard(identity(1)) == (1 << 63) - 1
    assert letters.heard(identity(2)) == 0


def test_stranger_not_heard_of_for_longest_is_forgotten(database: Database) -> None:
    letters = Letters(database, heard_limit=3)
    Peers(database).apply(identity(1), "local-request", now_us=0)
    for number in range(1, 6):
        letters.hear(identity(number), 7, number)
    # 1 is somebody we asked: what it says later is not forgotten for strangers.
    assert [number for number in range(1, 6) if letters.heard(identity(number))] == [1, 3, 4, 5]


def test_deposits_are_kept_replaced_and_forgotten(database: Database) -> None:
    letters = Letters(database)
    first = Deposit(identity(1), b"i" * 16, 5, b"d" * 32, 100, ())
    letters.set_deposit(first)
    second = Deposit(identity(1), b"i" * 16, 6, b"d" * 32, 100, (identity(8), identity(9)))
    letters.set_deposit(second)
    other = Deposit(identity(2), b"j" * 16, 1, b"d" * 32, 100, (identity(8),))
    letters.set_deposit(other)
    assert letters.deposits() == [second, other]
    letters.forget_deposit(identity(1))
    assert letters.deposits() == [other]
