from __future__ import annotations

from random import Random

import pytest

from covey.crypto.certificates import DELEGATION_LIFE_US
from covey.crypto.credentials import Credentials
from covey.rendezvous.renewal import DELEGATE_US, ROTATE_US, renewed

NOW_US = 1_800_000_000_000_000
HOUR_US = 3600 * 1_000_000


@pytest.fixture
def credentials() -> Credentials:
    return Credentials.create(Random(1).randbytes, NOW_US)[0]


def test_nothing_is_due_for_sixteen_hours_also_if_the_clock_was_set_back(credentials: Credentials) -> None:
    for now_us in (NOW_US - 30 * HOUR_US, NOW_US, NOW_US + ROTATE_US - 1):
        assert renewed(credentials, Random(2).randbytes, now_us) is credentials


def test_transport_keys_rotate_and_the_dead_go(credentials: Credentials) -> None:
    random = Random(2).randbytes
    kept = []
    for number in range(1, 7):
        credentials = renewed(credentials, random, NOW_US + number * ROTATE_US)
        kept.append(len(credentials.transport_keys))
    assert kept == [2, 3, 3, 3, 3, 3]


def test_after_a_long_sleep_there_is_one_fresh_key(credentials: Credentials) -> None:
    fresh = renewed(credentials, Random(2).randbytes, NOW_US + 100 * HOUR_US)
    assert [pair.certificate.from_us for pair in fresh.transport_keys] == [NOW_US + 100 * HOUR_US]


def test_a_delegation_is_renewed_before_its_end_if_the_root_is_here(credentials: Credentials) -> None:
    due = NOW_US + DELEGATION_LIFE_US - DELEGATE_US
    assert renewed(credentials, Random(2).randbytes, due - 1).delegation == credentials.delegation
    fresh = renewed(credentials, Random(2).randbytes, due)
    assert fresh.delegation.until_us == due + DELEGATION_LIFE_US
    assert fresh.delegation.counter > credentials.delegation.counter
    assert fresh.identity == credentials.identity
    offline = credentials.without_root()
    assert renewed(offline, Random(2).randbytes, due).delegation == credentials.delegation
