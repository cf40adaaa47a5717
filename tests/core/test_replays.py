from __future__ import annotations

from covey.base.types import Identity
from covey.core.replays import Replays

ADA, BOB = Identity(bytes(32)), Identity(b"\1" * 32)


def test_newest_only_rises_and_is_kept_per_key() -> None:
    replays = Replays()
    assert replays.newest(ADA, b"k") == -1
    assert [replays.confirm(ADA, b"k", timestamp) for timestamp in (10, 30, 20)] == [10, 30, 30]
    assert replays.confirm(ADA, b"other", 5) == 5
    assert (replays.newest(ADA, b"k"), replays.newest(ADA, b"other"), replays.newest(BOB, b"k")) == (30, 5, -1)


def test_memory_is_bounded_by_the_peers_and_keeps_the_keys_in_use() -> None:
    replays = Replays()
    for number in range(1000):
        replays.confirm(ADA, b"in use", number)
        replays.confirm(ADA, b"%d" % number, number)
        replays.confirm(BOB, b"%d" % number, number)
    assert len(replays) == 16
    assert replays.newest(ADA, b"in use") == 999
    assert replays.newest(ADA, b"999") == 999
    replays.forget(ADA)
    assert replays.newest(ADA, b"in use") == -1
    assert len(replays) == 8
