from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.codec import Writer
from covey.base.errors import ParseError, UsageError, VerifyError
from covey.crypto.certificates import (
    DELEGATION_LIFE_LIMIT_US,
    DELEGATION_LIFE_US,
    SECOND_US,
    TRANSPORT_LIFE_US,
    verify_chain,
)
from covey.crypto.credentials import (
    TRANSPORT_KEYS_LIMIT,
    Credentials,
    Recovery,
    dump_recovery,
    load_recovery,
    load_secrets,
)
from covey.crypto.events import KeyLog, commitment
from covey.crypto.keys import SigningKey

NOW = 1_800_000_000 * SECOND_US
HOUR = 3600 * SECOND_US


def counting(start: int = 1) -> object:
    numbers = iter(range(start, 256))
    return lambda size: bytes([next(numbers)]) * size


MINE, ROOTS = Credentials.create(counting(), NOW)  # type: ignore[arg-type]
OTHER, OTHER_ROOTS = Credentials.create(counting(100), NOW)  # type: ignore[arg-type]
SECRETS = MINE.dump_secrets()
RECOVERY = dump_recovery(MINE.log, ROOTS.next_root)


def same_keys(left: Credentials, right: Credentials) -> None:
    assert left.dump_secrets() == right.dump_secrets()
    assert left.log == right.log
    assert left.current.key.public == right.current.key.public


def holds(credentials: Credentials, now: int) -> None:
    for key, certificate in credentials.transport_keys:
        verify_chain(credentials.log, credentials.delegation, certificate, now)
        assert key.public == certificate.public


def test_create_draws_four_keys_in_the_documented_order() -> None:
    assert ROOTS.root.seed == b"\1" * 32
    assert ROOTS.next_root.seed == b"\2" * 32
    assert MINE.operational.seed == b"\3" * 32
    assert MINE.current.key.private == b"\4" * 32
    assert MINE.root is ROOTS.root


def test_fresh_identity_speaks_for_itself() -> None:
    holds(MINE, NOW)
    assert MINE.log.next_commitment == commitment(ROOTS.next_root.public)
    assert MINE.delegation.until_us - MINE.delegation.from_us == DELEGATION_LIFE_US
    assert MINE.identity == MINE.log.identity


def test_transport_keys_rotate_newest_first_and_die_after_48_hours() -> None:
    mine = MINE
    for step in range(1, 4):
        mine = mine.rotate_transport(bytes([0x10 + step]) * 32, NOW + step * 16 * HOUR)
        holds(mine, NOW + step * 16 * HOUR)
    born = [pair.certificate.from_us for pair in mine.transport_keys]
    assert born == [NOW + step * 16 * HOUR for step in (3, 2, 1)]  # the first died at 48 h
    assert mine.current.certificate.from_us == NOW + 48 * HOUR


def test_at_most_four_transport_keys_live() -> None:
    mine = MINE
    for step in range(6):
        mine = mine.rotate_transport(bytes([0x20 + step]) * 32, NOW + step)
    assert len(mine.transport_keys) == TRANSPORT_KEYS_LIMIT
    assert mine.current.key.private == b"\x25" * 32


def test_live_drops_only_what_is_over() -> None:
    assert MINE.live(NOW + TRANSPORT_LIFE_US - 1) is MINE
    assert MINE.live(NOW - HOUR) is MINE
    dead = MINE.live(NOW + TRANSPORT_LIFE_US)
    assert dead.transport_keys == ()
    with pytest.raises(UsageError):
        _ = dead.current


def test_delegate_keeps_the_transport_keys_under_a_new_operational_key() -> None:
    mine = MINE.rotate_transport(b"\x30" * 32, NOW + HOUR)
    renewed = mine.delegate(ROOTS.root, b"\x31" * 32, NOW + 2 * HOUR)
    holds(renewed, NOW + 2 * HOUR)
    assert renewed.delegation.counter > mine.delegation.counter
    assert [pair.key for pair in renewed.transport_keys] == [pair.key for pair in mine.transport_keys]
    assert [pair.certificate.until_us for pair in renewed.transport_keys] == [
        pair.certificate.until_us for pair in mine.transport_keys
    ]
    assert renewed.address_nonce == mine.address_nonce
    assert renewed.root is mine.root


def test_delegation_counter_rises_whatever_the_clock_does() -> None:
    again = MINE.delegate(ROOTS.root, b"\x32" * 32, NOW - HOUR)
    assert again.delegation.counter == MINE.delegation.counter + 1
    restored = MINE.delegate(ROOTS.root, b"\x33" * 32, NOW + HOUR)
    assert restored.delegation.counter == NOW + HOUR


def test_delegate_refuses_another_root_or_life() -> None:
    with pytest.raises(UsageError):
        MINE.delegate(ROOTS.next_root, b"\x34" * 32, NOW)
    for life in (0, DELEGATION_LIFE_LIMIT_US + 1):
        with pytest.raises(UsageError):
            MINE.delegate(ROOTS.root, b"\x34" * 32, NOW, life)


def test_rotate_root_moves_everything_under_the_next_root() -> None:
    rotated = MINE.rotate_root(ROOTS.next_root, commitment(b"\5" * 32), b"\x35" * 32, NOW + HOUR)
    holds(rotated, NOW + HOUR)
    assert rotated.identity == MINE.identity
    assert rotated.log.sequence == 1
    assert rotated.root is ROOTS.next_root
    with pytest.raises(VerifyError):
        MINE.rotate_root(ROOTS.root, bytes(32), b"\x36" * 32, NOW)


def test_secrets_survive_the_file() -> None:
    more = replace(MINE.rotate_transport(b"\x40" * 32, NOW + 1), address_nonce=200)
    more = replace(more, log=replace(more.log, forked=True))
    for mine in (MINE, MINE.without_root(), more, MINE.live(NOW + TRANSPORT_LIFE_US)):
        loaded = load_secrets(mine.dump_secrets())
        assert loaded.dump_secrets() == mine.dump_secrets()
        assert loaded.log == mine.log
        assert (loaded.root is None) == (mine.root is None)
        assert loaded.address_nonce == mine.address_nonce
    same_keys(Credentials.load_secrets(SECRETS), MINE)


def test_offline_root_is_not_in_the_file_and_the_next_never_is() -> None:
    assert ROOTS.root.seed in SECRETS
    assert ROOTS.root.seed not in MINE.without_root().dump_secrets()
    assert ROOTS.next_root.seed not in SECRETS
    assert ROOTS.next_root.seed in RECOVERY


def test_recovery_survives_the_file() -> None:
    assert load_recovery(RECOVERY).log == MINE.log
    assert load_recovery(RECOVERY).next_root.seed == ROOTS.next_root.seed
    assert isinstance(load_recovery(RECOVERY), Recovery)


def test_recovery_is_only_for_the_next_root() -> None:
    with pytest.raises(UsageError):
        dump_recovery(MINE.log, ROOTS.root)


def test_half_written_and_damaged_files_are_parse_errors() -> None:
    for whole, load in ((SECRETS, load_secrets), (RECOVERY, load_recovery)):
        for size in range(len(whole)):
            with pytest.raises(ParseError):
                load(whole[:size])
        for at in range(len(whole)):
            with pytest.raises(ParseError):
                load(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(ParseError):
            load(whole + b"\0")


def test_files_of_another_kind_are_parse_errors() -> None:
    with pytest.raises(ParseError, match="another kind"):
        load_secrets(RECOVERY)
    with pytest.raises(ParseError, match="another kind"):
        load_recovery(SECRETS)


MIXED = {
    "another root": replace(MINE, root=OTHER.root),
    "another operational key": replace(MINE, operational=OTHER.operational),
    "another identity's transport keys": replace(MINE, transport_keys=OTHER.transport_keys),
    "another identity's log": replace(MINE.without_root(), log=OTHER.log),
}


@pytest.mark.parametrize("name", MIXED)
def test_parts_that_do_not_belong_together_are_refused(name: str) -> None:
    with pytest.raises(VerifyError):
        load_secrets(MIXED[name].dump_secrets())


def test_repr_shows_no_secret() -> None:
    for seed in (ROOTS.root.seed, MINE.operational.seed, MINE.current.key.private):
        for text in (repr(MINE), repr(ROOTS), repr(MINE.current), repr(load_recovery(RECOVERY))):
            assert repr(seed) not in text
            assert seed.hex() not in text


def file(magic: bytes, version: int, body: bytes) -> bytes:
    content = Writer().raw(magic).u8(version).block32(body).bytes()
    return content + hashlib.sha256(content).digest()


BODY = SECRETS[13:-32]
FORK_FLAG = len(BODY) - len(MINE.log.raw) - 5
STRANGE_FILES = {
    "a later version": file(b"covey-id", 2, BODY),
    "a root of 31 bytes": file(b"covey-id", 1, BODY[:1] + b"\x1f" + BODY[3:]),
    "five transport keys": file(b"covey-id", 1, BODY[:66] + b"\5" + BODY[67:]),
    "a flag of 2": file(b"covey-id", 1, BODY[:FORK_FLAG] + b"\2" + BODY[FORK_FLAG + 1 :]),
    "a byte too many": file(b"covey-id", 1, BODY + b"\0"),
}


@pytest.mark.parametrize("name", STRANGE_FILES)
def test_files_with_a_good_checksum_and_strange_content_are_parse_errors(name: str) -> None:
    assert file(b"covey-id", 1, BODY) == SECRETS
    with pytest.raises(ParseError):
        load_secrets(STRANGE_FILES[name])


def test_recovery_file_that_contradicts_itself_is_refused() -> None:
    body = RECOVERY[13:-32]
    with pytest.raises(VerifyError):
        load_recovery(file(b"covey-rc", 1, ROOTS.root.seed + body[32:]))


@given(st.binary(max_size=800))
def test_loaders_raise_only_their_errors(raw: bytes) -> None:
    for load in (load_secrets, load_recovery):
        for data in (raw, SECRETS[:13] + raw, RECOVERY[:13] + raw):
            with suppress(ParseError, VerifyError):
                load(data)


def test_log_in_the_file_is_verified_again() -> None:
    forged = replace(MINE.log, raw=OTHER.log.raw)
    with pytest.raises(VerifyError):
        load_secrets(replace(MINE, log=forged).dump_secrets())
    assert KeyLog.parse(MINE.log.raw) == MINE.log
    assert isinstance(ROOTS.root, SigningKey)
