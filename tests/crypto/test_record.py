from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.constants import RECORD_LIMIT
from covey.base.errors import LimitError, ParseError, UsageError, VerifyError
from covey.base.types import Identity
from covey.crypto.address import address
from covey.crypto.certificates import (
    CLOCK_SKEW_US,
    DELEGATION_LIFE_US,
    SECOND_US,
    TRANSPORT_LIFE_US,
    Delegation,
)
from covey.crypto.credentials import Credentials
from covey.crypto.events import commitment, merge, revoke, rotate
from covey.crypto.keys import SigningKey
from covey.crypto.record import FLAG_UNLISTED, NO_MAILBOX, RECORD_LIFE_US, Home, Record

NOW = 1_800_000_000 * SECOND_US
HOUR = 3600 * SECOND_US
_seeds = iter(range(1, 9))
MINE, ROOTS = Credentials.create(lambda size: bytes([next(_seeds)]) * size, NOW)
HOMES = (
    Home(Identity(b"\1" * 32), ("192.0.2.1:4040", "[2001:db8::1]:4040")),
    Home(Identity(b"\2" * 32), ("rendezvous.example.org:443",)),
    Home(Identity(b"\3" * 32)),
)


def build(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "address_nonce": 3,
        "sequence": NOW,
        "expires_us": NOW + HOUR,
        "homes": HOMES,
        "name": "azure-processor",
        "tags": ("gpu", "cloud=azure"),
        "mailbox_key_digest": b"\4" * 32,
        "flags": FLAG_UNLISTED,
        "nat_class": 2,
    }
    mine = changes.pop("mine", MINE)
    return Record.make(mine.operational, mine.log, mine.delegation, mine.current.certificate, **fields | changes)


FULL = build()
SMALL = Record.make(
    MINE.operational,
    MINE.log,
    MINE.delegation,
    MINE.current.certificate,
    address_nonce=0,
    sequence=NOW,
    expires_us=NOW + 1,
)


def refused(record: Record, log: object = MINE.log, now: int = NOW) -> str:
    with pytest.raises(VerifyError) as caught:
        record.verify(log, now)  # type: ignore[arg-type]
    return caught.value.code


def resign(body: bytes) -> bytes:
    return body + MINE.operational.sign("record", body)


def test_parse_gives_back_the_record() -> None:
    for record in (FULL, SMALL):
        assert Record.parse(record.raw) == record
        record.verify(MINE.log, NOW)


def test_record_holds_what_was_put_in() -> None:
    assert (FULL.identity, FULL.address_nonce) == (MINE.identity, 3)
    assert (FULL.head_sequence, FULL.head_digest) == (0, MINE.log.head)
    assert (FULL.homes, FULL.name, FULL.tags) == (HOMES, "azure-processor", ("cloud=azure", "gpu"))
    assert (FULL.mailbox_key_digest, FULL.unlisted, FULL.nat_class) == (b"\4" * 32, True, 2)
    assert (SMALL.homes, SMALL.name, SMALL.tags, SMALL.mailbox_key_digest) == ((), "", (), NO_MAILBOX)
    assert FULL.address() == address(MINE.identity, 3)
    assert FULL.address(16) == address(MINE.identity, 3, 16)


def test_order_is_log_then_delegation_then_sequence() -> None:
    assert FULL.order == (0, MINE.delegation.counter, NOW)
    newer = MINE.delegate(ROOTS.root, b"\x21" * 32, NOW)
    rotated = MINE.rotate_root(ROOTS.next_root, bytes(32), b"\x22" * 32, NOW)
    ordered = [build(), build(sequence=NOW + 1), build(mine=newer), build(mine=rotated)]
    assert sorted(ordered, key=lambda record: record.order) == ordered


def test_smallest_record_has_486_bytes() -> None:
    assert len(SMALL.raw) == 486


def test_layout_is_the_documented_one() -> None:
    u64 = NOW.to_bytes(8, "big"), (NOW + 1).to_bytes(8, "big")
    body = b"".join(
        (
            *(MINE.identity, b"\0", b"\0\0\0\0", MINE.log.head),
            *((152).to_bytes(2, "big"), MINE.delegation.raw),
            *((144).to_bytes(2, "big"), MINE.current.certificate.raw),
            *(b"\0", b"\0", b"\0", bytes(32), b"\0", b"\0", *u64),
        )
    )
    assert SMALL.raw == resign(body)


HOME_1 = Home(Identity(b"\1" * 32), ("192.0.2.1:4040",))
UNFIT: dict[str, dict[str, Any]] = {
    "a bad name": {"name": "Not A Name"},
    "four homes": {"homes": [replace(HOME_1, identity=Identity(bytes([n]) * 32)) for n in range(4)]},
    "one home twice": {"homes": [HOME_1, HOME_1]},
    "three endpoints": {"homes": [Home(HOME_1.identity, ("192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"))]},
    "a short identity": {"homes": [Home(Identity(b"\1"), ())]},
    "no port": {"homes": [Home(HOME_1.identity, ("192.0.2.1",))]},
    "port 0": {"homes": [Home(HOME_1.identity, ("192.0.2.1:0",))]},
    "a second spelling": {"homes": [Home(HOME_1.identity, ("192.0.2.1:04040",))]},
    "a control character": {"homes": [Home(HOME_1.identity, ("a\x1b[2J:4040",))]},
    "half a bracket": {"homes": [Home(HOME_1.identity, ("[:4040",))]},
    "a capital": {"homes": [Home(HOME_1.identity, ("Example.org:4040",))]},
    "a long endpoint": {"homes": [Home(HOME_1.identity, ("a" * 60 + ":4040",))]},
    "nine tags": {"tags": [f"tag{number}" for number in range(9)]},
    "a long tag": {"tags": ["a" * 33]},
    "an empty tag": {"tags": [""]},
    "a tag for terminals": {"tags": ["\x1b[31m"]},
}


@pytest.mark.parametrize("name", UNFIT)
def test_make_refuses_what_a_record_cannot_hold(name: str) -> None:
    with pytest.raises(UsageError):
        build(**UNFIT[name])


def test_make_refuses_over_1000_bytes() -> None:
    homes = [
        Home(Identity(bytes([n]) * 32), ("a" * 50 + ".example:4040", "b" * 50 + ".example:4040")) for n in range(3)
    ]
    with pytest.raises(LimitError):
        build(homes=homes, name="n" * 63, tags=[f"{n}" * 32 for n in range(8)])


def test_make_refuses_keys_that_do_not_belong_together() -> None:
    with pytest.raises(UsageError):
        Record.make(
            SigningKey(b"\x30" * 32), MINE.log, MINE.delegation, MINE.current.certificate,
            address_nonce=0, sequence=NOW, expires_us=NOW + 1,
        )  # fmt: skip
    with pytest.raises(ValueError, match="fit"):
        build(sequence=2**64)
    with pytest.raises(ValueError, match="32"):
        build(mailbox_key_digest=b"")


body = SMALL.raw[:-64]
head, tail = body[: 69 + 154 + 146], body[69 + 154 + 146 + 3 :]
none, home = b"\0", b"\1" * 32
MALFORMED = {
    "too long": SMALL.raw + bytes(RECORD_LIMIT),
    "a byte too many": SMALL.raw + b"\0",
    "cut short": SMALL.raw[:-1],
    "a short delegation": body[:69] + b"\0\1\0" + body[69 + 154 :] + bytes(64),
    "four homes": resign(head + b"\4" + (home + b"\0") * 4 + none * 2 + tail),
    "one home twice": resign(head + b"\2" + (home + b"\0") * 2 + none * 2 + tail),
    "three endpoints": resign(head + b"\1" + home + b"\3" + b"\3a:1\3a:2\3a:3" + none * 2 + tail),
    "endpoint without port": resign(head + b"\1" + home + b"\1" + b"\1a" + none * 2 + tail),
    "endpoint with a space": resign(head + b"\1" + home + b"\1" + b"\4a :1" + none * 2 + tail),
    "endpoint in another spelling": resign(head + b"\1" + home + b"\1" + b"\4a:01" + none * 2 + tail),
    "endpoint in Unicode digits": resign(head + b"\1" + home + b"\1" + b"\4a:\xc2\xb2" + none * 2 + tail),
    "a name in capitals": resign(head + none + b"\1A" + none + tail),
    "a name that is no UTF-8": resign(head + none + b"\1\xff" + none + tail),
    "nine tags": resign(head + none * 2 + b"\x09" + b"".join(b"\1%d" % n for n in range(9)) + tail),
    "tags out of order": resign(head + none * 2 + b"\2\1b\1a" + tail),
    "a tag twice": resign(head + none * 2 + b"\2\1a\1a" + tail),
    "an empty tag": resign(head + none * 2 + b"\1\0" + tail),
    "an unknown flag": resign(head + none * 3 + bytes(32) + b"\2" + tail[33:]),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_parse_refuses_a_second_encoding_and_nonsense(name: str) -> None:
    with pytest.raises(ParseError):
        Record.parse(MALFORMED[name])
    assert Record.parse(resign(head + none * 3 + tail)).raw == SMALL.raw


def test_record_from_the_future_is_refused() -> None:
    ahead = build(sequence=NOW + CLOCK_SKEW_US, expires_us=NOW + HOUR)
    ahead.verify(MINE.log, NOW)
    assert refused(ahead, now=NOW - 1) == "from-the-future"


@pytest.mark.parametrize("life", [-1, 0, RECORD_LIFE_US + 1])
def test_record_of_an_impossible_life_is_refused(life: int) -> None:
    assert refused(build(expires_us=NOW + life)) == "bad-life"


def test_expired_record_still_verifies_as_a_hint() -> None:
    later = NOW + 365 * 24 * HOUR
    assert not FULL.expired(NOW + HOUR - 1)
    assert FULL.expired(NOW + HOUR)
    FULL.verify(MINE.log, later)


def test_record_expires_with_its_transport_key_and_its_delegation() -> None:
    late = NOW + TRANSPORT_LIFE_US - HOUR
    record = build(sequence=late, expires_us=late + 10 * HOUR)
    assert not record.expired(NOW + TRANSPORT_LIFE_US - 1)
    assert record.expired(NOW + TRANSPORT_LIFE_US)
    fresh = MINE.rotate_transport(b"\x40" * 32, NOW + DELEGATION_LIFE_US - HOUR)
    late = NOW + DELEGATION_LIFE_US - HOUR
    record = build(mine=fresh, sequence=late, expires_us=late + 10 * HOUR)
    assert record.expired(NOW + DELEGATION_LIFE_US)


def test_record_made_outside_its_chain_is_refused() -> None:
    early = build(sequence=NOW - CLOCK_SKEW_US - 1, expires_us=NOW + HOUR)
    assert refused(early) == "not-yet-valid"
    late = NOW + TRANSPORT_LIFE_US
    assert refused(build(sequence=late, expires_us=late + HOUR), now=late) == "expired"


def test_clock_skew_is_tolerated_once_not_twice() -> None:
    # A delegation that begins 15 minutes from now, in a record dated 10 minutes ahead.
    ahead = MINE.delegate(ROOTS.root, b"\x41" * 32, NOW + 15 * 60 * SECOND_US)
    ahead = replace(ahead, transport_keys=ahead.rotate_transport(b"\x42" * 32, NOW).transport_keys)
    record = build(mine=ahead, sequence=NOW + CLOCK_SKEW_US, expires_us=NOW + HOUR)
    assert refused(record) == "not-yet-valid"


def test_record_under_another_log_is_refused() -> None:
    other = Credentials.create(lambda size: b"\x50" * size, NOW)[0]
    assert refused(FULL, other.log) == "other-identity"
    rotated = rotate(MINE.log, ROOTS.next_root, commitment(b"\1" * 32))
    assert refused(FULL, rotated) == "superseded"
    assert refused(FULL, revoke(MINE.log, ROOTS.root)) == "superseded"
    ahead = MINE.rotate_root(ROOTS.next_root, bytes(32), b"\x51" * 32, NOW)
    record = build(mine=ahead)
    record.verify(ahead.log, NOW)
    assert refused(record, MINE.log) == "log-behind"
    assert refused(record, merge(rotated, ahead.log)) == "unknown-head"


def test_record_of_another_key_is_refused() -> None:
    body = FULL.raw[:-64]
    assert refused(Record.parse(body + SigningKey(b"\x60" * 32).sign("record", body))) == "bad-signature"
    assert refused(Record.parse(body + MINE.operational.sign("transport", body))) == "bad-signature"


def test_record_with_a_forged_delegation_is_refused() -> None:
    thief = SigningKey(b"\x61" * 32)
    forged = Delegation.make(thief, MINE.log.head, 99, thief.public, NOW, NOW + DELEGATION_LIFE_US)
    stolen = replace(MINE, delegation=forged, operational=thief, transport_keys=()).rotate_transport(b"\x62" * 32, NOW)
    assert refused(build(mine=stolen)) == "bad-signature"


@given(st.data())
def test_every_changed_byte_is_refused(data: st.DataObject) -> None:
    raw = bytearray(FULL.raw)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises((ParseError, VerifyError)):
        Record.parse(bytes(raw)).verify(MINE.log, NOW)


@given(st.data())
def test_parse_raises_only_parse_errors_and_keeps_every_byte(data: st.DataObject) -> None:
    raw = bytearray(FULL.raw if data.draw(st.booleans()) else SMALL.raw)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=40))
    with suppress(ParseError):
        assert Record.parse(bytes(raw)).raw == raw


@given(st.binary(max_size=1100))
def test_parse_of_noise_raises_only_parse_errors(raw: bytes) -> None:
    for data in (raw, SMALL.raw[:369] + raw):
        with suppress(ParseError):
            Record.parse(data)
