from __future__ import annotations

from random import Random

import pytest

from covey.crypto.certificates import CLOCK_SKEW_US, DELEGATION_LIFE_US
from covey.crypto.credentials import TRANSPORT_KEYS_LIMIT, Credentials
from covey.crypto.mailbox import MAILBOX_ROTATE_US, MailboxKeys
from covey.crypto.renewal import (
    DELEGATE_JITTER_US,
    DELEGATE_US,
    MAILBOX_JITTER_US,
    ROTATE_JITTER_US,
    ROTATE_US,
    renewed,
    renewed_mailbox,
)

NOW_US = 1_800_000_000_000_000
MINUTE_US = 60 * 1_000_000
HOUR_US = 60 * MINUTE_US
LIFE_US = 48 * HOUR_US


@pytest.fixture
def credentials() -> Credentials:
    return Credentials.create(Random(1).randbytes, NOW_US)[0]


def test_nothing_is_due_for_fifteen_hours_also_if_the_clock_was_set_back_a_little(credentials: Credentials) -> None:
    for now_us in (NOW_US - CLOCK_SKEW_US, NOW_US, NOW_US + ROTATE_US - ROTATE_JITTER_US - 1):
        assert renewed(credentials, Random(2).randbytes, now_us) is credentials


def test_each_key_has_its_own_moment_within_the_hour_before_sixteen() -> None:
    moments = []
    for seed in range(20):
        credentials = Credentials.create(Random(seed).randbytes, NOW_US)[0]
        minutes = range(15 * 60, 16 * 60 + 1)
        moments.append(
            next(
                minute
                for minute in minutes
                if renewed(credentials, Random(2).randbytes, NOW_US + minute * MINUTE_US) is not credentials
            )
        )
    assert len(set(moments)) > 10, "they rotate together"
    assert max(moments) - min(moments) > 30


def test_at_most_four_keys_are_alive_and_each_goes_at_its_end(credentials: Credentials) -> None:
    random = Random(2).randbytes
    most = 0
    for tenth in range(14 * 24 * 6):
        now_us = NOW_US + tenth * 10 * MINUTE_US
        credentials = renewed(credentials, random, now_us)
        ages = [now_us - pair.certificate.from_us for pair in credentials.transport_keys]
        assert 0 <= ages[0] <= ROTATE_US
        assert ages == sorted(ages)
        assert max(ages) < LIFE_US
        most = max(most, len(ages))
    assert most == TRANSPORT_KEYS_LIMIT


def test_after_a_long_sleep_there_is_one_fresh_key(credentials: Credentials) -> None:
    fresh = renewed(credentials, Random(2).randbytes, NOW_US + 100 * HOUR_US)
    assert [pair.certificate.from_us for pair in fresh.transport_keys] == [NOW_US + 100 * HOUR_US]


def test_a_delegation_is_renewed_before_its_end_if_the_root_is_here(credentials: Credentials) -> None:
    latest = NOW_US + DELEGATION_LIFE_US - DELEGATE_US
    early = latest - DELEGATE_JITTER_US - 1
    assert renewed(credentials, Random(2).randbytes, early).delegation == credentials.delegation
    fresh = renewed(credentials, Random(2).randbytes, latest)
    assert fresh.delegation.until_us == latest + DELEGATION_LIFE_US
    assert fresh.delegation.counter > credentials.delegation.counter
    assert fresh.identity == credentials.identity
    offline = credentials.without_root()
    assert renewed(offline, Random(2).randbytes, latest).delegation == credentials.delegation


def test_what_a_clock_that_was_ahead_has_made_is_replaced_and_not_destroyed(credentials: Credentials) -> None:
    ahead_us = NOW_US + 25 * 365 * 24 * HOUR_US
    spoilt = renewed(credentials, Random(2).randbytes, ahead_us)
    fresh = renewed(spoilt, Random(3).randbytes, NOW_US)
    assert fresh.current.certificate.from_us == NOW_US
    assert fresh.delegation.from_us == NOW_US
    assert fresh.delegation.counter > spoilt.delegation.counter, "others must take it for the newer one"
    assert spoilt.current.key.public in [pair.key.public for pair in fresh.transport_keys]
    assert renewed(fresh, Random(4).randbytes, NOW_US + HOUR_US) is fresh


def test_mailbox_key_is_renewed_within_a_day_and_at_its_own_moment(credentials: Credentials) -> None:
    random = Random(3).randbytes
    moments = set()
    for _ in range(8):
        keys = renewed_mailbox(MailboxKeys(), credentials, random, NOW_US)
        sooner = NOW_US + MAILBOX_ROTATE_US - MAILBOX_JITTER_US - 1
        assert renewed_mailbox(keys, credentials, random, sooner) is keys
        later = renewed_mailbox(keys, credentials, random, NOW_US + MAILBOX_ROTATE_US)
        assert [pair.key.from_us for pair in later.pairs] == [NOW_US + MAILBOX_ROTATE_US, NOW_US]
        moments.add(renewed_mailbox(keys, credentials, random, NOW_US + MAILBOX_ROTATE_US - 45 * MINUTE_US) is keys)
    assert moments == {True, False}


def test_mailbox_key_is_renewed_with_the_delegation(credentials: Credentials) -> None:
    random = Random(3).randbytes
    keys = renewed_mailbox(MailboxKeys(), credentials, random, NOW_US)
    assert credentials.root is not None
    fresh = credentials.delegate(credentials.root, bytes(32), NOW_US)
    again = renewed_mailbox(keys, fresh, random, NOW_US)
    assert again.current.delegation == fresh.delegation
    assert again.pairs[1:] == keys.pairs


def test_mailbox_key_of_a_clock_that_was_ahead_is_replaced(credentials: Credentials) -> None:
    random = Random(3).randbytes
    keys = renewed_mailbox(MailboxKeys(), credentials, random, NOW_US)
    assert renewed_mailbox(keys, credentials, random, NOW_US - HOUR_US) is not keys
    assert renewed_mailbox(keys, credentials, random, NOW_US - CLOCK_SKEW_US) is keys
