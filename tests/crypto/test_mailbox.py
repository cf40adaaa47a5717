from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.constants import MAILBOX_KEY_LIMIT
from covey.base.errors import ParseError, VerifyError
from covey.crypto.certificates import SECOND_US, Delegation
from covey.crypto.credentials import Credentials
from covey.crypto.events import commitment, revoke, rotate
from covey.crypto.keys import SigningKey
from covey.crypto.mailbox import (
    DAY_US,
    MAILBOX_LIFE_US,
    XWING_PUBLIC_SIZE,
    MailboxKey,
    MailboxKeys,
    xwing_public,
)

NOW = 1_800_000_000 * SECOND_US


def drawn(seed: str) -> Callable[[int], bytes]:
    counter = iter(range(1000))
    return lambda size: hashlib.shake_256(f"{seed} {next(counter)}".encode()).digest(size)


CREDENTIALS, ROOTS = Credentials.create(drawn("ada"), NOW)
OTHERS, _ = Credentials.create(drawn("bob"), NOW)
SEED = bytes(range(32))
KEYS = MailboxKeys().rotated(CREDENTIALS, SEED, NOW)
KEY = KEYS.current


def refused(key: MailboxKey, log: object = CREDENTIALS.log, now_us: int = NOW) -> str:
    with pytest.raises(VerifyError) as caught:
        key.verify(log, now_us)  # type: ignore[arg-type]
    return caught.value.code


def test_xwing_public_is_that_of_the_draft() -> None:
    # draft-connolly-cfrg-xwing-kem, test vectors: the first seed, and the ends of its public key.
    public = xwing_public(bytes.fromhex("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26"))
    assert len(public) == XWING_PUBLIC_SIZE == 1216
    assert public[:8].hex() == "e2236b35a8c24b39"


def test_key_has_its_documented_layout() -> None:
    delegation = CREDENTIALS.delegation.raw
    times = NOW.to_bytes(8, "big") + (NOW + MAILBOX_LIFE_US).to_bytes(8, "big")
    body = CREDENTIALS.identity + xwing_public(SEED) + times + len(delegation).to_bytes(2, "big") + delegation
    assert KEY.raw == body + CREDENTIALS.operational.sign("mailbox", body)
    assert len(KEY.raw) == 1482 <= MAILBOX_KEY_LIMIT
    assert KEY.id == hashlib.sha256(KEY.raw).digest()
    assert MailboxKey.parse(KEY.raw) == KEY


def test_key_verifies_for_its_eight_days() -> None:
    KEY.verify(CREDENTIALS.log, NOW)
    KEY.verify(CREDENTIALS.log, NOW + 8 * DAY_US - 1)
    assert refused(KEY, now_us=NOW + 8 * DAY_US) == "expired"
    assert refused(KEY, now_us=NOW - 3600 * SECOND_US) == "not-yet-valid"


def test_key_of_another_is_refused() -> None:
    assert refused(KEY, OTHERS.log) == "other-identity"
    forged = MailboxKey.make(
        OTHERS.operational, CREDENTIALS.identity, CREDENTIALS.delegation, KEY.public, NOW, NOW + DAY_US
    )
    assert refused(forged) == "bad-signature"
    posed = MailboxKey.make(OTHERS.operational, CREDENTIALS.identity, OTHERS.delegation, KEY.public, NOW, NOW + DAY_US)
    assert refused(posed) == "unknown-head"


def test_key_dies_with_its_delegation() -> None:
    assert refused(KEY, revoke(CREDENTIALS.log, ROOTS.root)) == "revoked"
    further = SigningKey(bytes(32))
    assert refused(KEY, rotate(CREDENTIALS.log, ROOTS.next_root, commitment(further.public))) == "superseded"


def test_key_that_lives_too_long_is_refused() -> None:
    long = MailboxKey.make(
        CREDENTIALS.operational,
        CREDENTIALS.identity,
        CREDENTIALS.delegation,
        KEY.public,
        NOW,
        NOW + MAILBOX_LIFE_US + 1,
    )
    assert refused(long) == "bad-life"


@given(st.integers(0, len(KEY.raw) * 8 - 1))
def test_no_bit_of_a_key_can_be_changed(bit: int) -> None:
    raw = bytearray(KEY.raw)
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises((ParseError, VerifyError)):
        MailboxKey.parse(bytes(raw)).verify(CREDENTIALS.log, NOW)


@given(st.one_of(st.binary(max_size=1600), st.integers(0, len(KEY.raw) - 2).map(lambda end: KEY.raw[:end] + b"\0")))
def test_parsers_raise_parse_error_and_nothing_else(raw: bytes) -> None:
    for parse in (MailboxKey.parse, lambda raw: MailboxKeys.load(raw, CREDENTIALS.identity)):
        with suppress(ParseError):
            parse(raw)


def test_keys_live_eight_days_and_then_are_gone() -> None:
    keys = KEYS
    for day in range(1, 12):
        keys = keys.rotated(CREDENTIALS, bytes([day]) * 32, NOW + day * DAY_US)
    assert [key.from_us for _, key in keys.pairs] == [NOW + day * DAY_US for day in range(11, 3, -1)]
    assert keys.seed(keys.current.id) == bytes([11]) * 32
    assert keys.seed(KEY.id) is None
    assert keys.live(NOW + 19 * DAY_US).pairs == ()
    assert keys.live(NOW) is keys


def test_key_does_not_outlive_its_delegation() -> None:
    short = CREDENTIALS.delegate(ROOTS.root, bytes(32), NOW, 2 * DAY_US)
    assert KEYS.rotated(short, SEED, NOW).current.until_us == NOW + 2 * DAY_US


def test_dump_and_load() -> None:
    keys = KEYS.rotated(CREDENTIALS, bytes(32), NOW + DAY_US)
    assert MailboxKeys.load(keys.dump(), CREDENTIALS.identity) == keys
    assert MailboxKeys.load(MailboxKeys().dump(), CREDENTIALS.identity) == MailboxKeys()


def test_load_refuses_the_keys_of_another_and_seeds_that_do_not_fit() -> None:
    with pytest.raises(VerifyError):
        MailboxKeys.load(KEYS.dump(), OTHERS.identity)
    swapped = MailboxKeys((KEYS.pairs[0]._replace(seed=bytes(32)),))
    with pytest.raises(VerifyError):
        MailboxKeys.load(swapped.dump(), CREDENTIALS.identity)


def test_seeds_are_not_shown() -> None:
    assert SEED.hex() not in repr(KEYS)
    assert repr(SEED) not in repr(KEYS)


def test_delegation_in_a_key_is_checked_as_any_other() -> None:
    expired = Delegation.make(ROOTS.root, CREDENTIALS.log.head, 1, CREDENTIALS.operational.public, NOW - 2, NOW - 1)
    key = MailboxKey.make(CREDENTIALS.operational, CREDENTIALS.identity, expired, KEY.public, NOW, NOW + DAY_US)
    assert refused(key) == "expired"
