from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.errors import ParseError, VerifyError
from covey.crypto.certificates import (
    CLOCK_SKEW_US,
    DELEGATION_LIFE_LIMIT_US,
    DELEGATION_LIFE_US,
    SECOND_US,
    TRANSPORT_LIFE_US,
    Delegation,
    TransportCertificate,
    verify_chain,
)
from covey.crypto.events import commitment, incept, revoke, rotate
from covey.crypto.keys import SigningKey, TransportKey

NOW = 1_800_000_000 * SECOND_US
ROOT, NEXT, OPERATIONAL, STRANGER = (SigningKey(bytes([number]) * 32) for number in range(1, 5))
TRANSPORT = TransportKey(b"\5" * 32)
LOG = incept(ROOT, commitment(NEXT.public))
ROTATED = rotate(LOG, NEXT, commitment(STRANGER.public))
DELEGATION = Delegation.make(ROOT, LOG.head, 7, OPERATIONAL.public, NOW, NOW + DELEGATION_LIFE_US)
CERTIFICATE = TransportCertificate.make(OPERATIONAL, LOG.identity, TRANSPORT.public, NOW, NOW + TRANSPORT_LIFE_US)


def refused(call: Callable[..., None], *arguments: object) -> str:
    with pytest.raises(VerifyError) as caught:
        call(*arguments)
    return caught.value.code


def test_delegation_layout() -> None:
    body = (
        LOG.head
        + (7).to_bytes(8, "big")
        + OPERATIONAL.public
        + NOW.to_bytes(8, "big")
        + (NOW + DELEGATION_LIFE_US).to_bytes(8, "big")
    )
    assert DELEGATION.raw == body + ROOT.sign("delegation", body)
    assert len(DELEGATION.raw) == Delegation.SIZE == 152


def test_certificate_layout() -> None:
    body = LOG.identity + TRANSPORT.public + NOW.to_bytes(8, "big") + (NOW + TRANSPORT_LIFE_US).to_bytes(8, "big")
    assert CERTIFICATE.raw == body + OPERATIONAL.sign("transport", body)
    assert len(CERTIFICATE.raw) == TransportCertificate.SIZE == 144


def test_parse_gives_back_the_statement() -> None:
    assert Delegation.parse(DELEGATION.raw) == DELEGATION
    assert TransportCertificate.parse(CERTIFICATE.raw) == CERTIFICATE


@pytest.mark.parametrize("change", [-152, -1, 1])
def test_parse_refuses_another_length(change: int) -> None:
    for kind, raw in ((Delegation, DELEGATION.raw), (TransportCertificate, CERTIFICATE.raw)):
        with pytest.raises(ParseError):
            kind.parse(raw + b"\0" if change > 0 else raw[:change])


def test_make_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="32"):
        Delegation.make(ROOT, b"short", 1, OPERATIONAL.public, NOW, NOW + 1)
    with pytest.raises(ValueError, match="fit"):
        Delegation.make(ROOT, LOG.head, 2**64, OPERATIONAL.public, NOW, NOW + 1)
    with pytest.raises(ValueError, match="32"):
        TransportCertificate.make(OPERATIONAL, LOG.identity, b"short", NOW, NOW + 1)


def test_chain_holds() -> None:
    verify_chain(LOG, DELEGATION, CERTIFICATE, NOW)


@pytest.mark.parametrize(
    ("offset", "code"),
    [
        (-CLOCK_SKEW_US - 1, "not-yet-valid"),
        (-CLOCK_SKEW_US, ""),
        (0, ""),
        (DELEGATION_LIFE_US - 1, ""),
        (DELEGATION_LIFE_US, "expired"),
    ],
)
def test_delegation_lives_from_ten_minutes_early_to_just_before_its_end(offset: int, code: str) -> None:
    if code:
        assert refused(DELEGATION.verify, LOG, NOW + offset) == code
    else:
        DELEGATION.verify(LOG, NOW + offset)


@pytest.mark.parametrize(
    ("offset", "code"),
    [
        (-CLOCK_SKEW_US - 1, "not-yet-valid"),
        (-CLOCK_SKEW_US, ""),
        (TRANSPORT_LIFE_US - 1, ""),
        (TRANSPORT_LIFE_US, "expired"),
    ],
)
def test_certificate_lives_from_ten_minutes_early_to_just_before_its_end(offset: int, code: str) -> None:
    if code:
        assert refused(CERTIFICATE.verify, DELEGATION, NOW + offset) == code
    else:
        CERTIFICATE.verify(DELEGATION, NOW + offset)


@pytest.mark.parametrize("life", [-1, 0, DELEGATION_LIFE_LIMIT_US + 1])
def test_delegation_of_an_impossible_life_is_refused(life: int) -> None:
    made = Delegation.make(ROOT, LOG.head, 1, OPERATIONAL.public, NOW, NOW + life)
    assert refused(made.verify, LOG, NOW) == "bad-life"


@pytest.mark.parametrize("life", [-1, 0, TRANSPORT_LIFE_US + 1])
def test_certificate_of_an_impossible_life_is_refused(life: int) -> None:
    made = TransportCertificate.make(OPERATIONAL, LOG.identity, TRANSPORT.public, NOW, NOW + life)
    assert refused(made.verify, DELEGATION, NOW) == "bad-life"


def test_offline_root_may_delegate_for_400_days() -> None:
    made = Delegation.make(ROOT, LOG.head, 1, OPERATIONAL.public, NOW, NOW + DELEGATION_LIFE_LIMIT_US)
    made.verify(LOG, NOW + DELEGATION_LIFE_LIMIT_US - 1)


def test_delegation_is_refused_after_the_root_changed() -> None:
    assert refused(DELEGATION.verify, ROTATED, NOW) == "superseded"
    assert refused(DELEGATION.verify, revoke(LOG, ROOT), NOW) == "revoked"
    ahead = Delegation.make(NEXT, ROTATED.head, 8, OPERATIONAL.public, NOW, NOW + DELEGATION_LIFE_US)
    ahead.verify(ROTATED, NOW)
    assert refused(ahead.verify, LOG, NOW) == "unknown-head"


def test_old_root_cannot_delegate_under_the_new_head() -> None:
    stolen = Delegation.make(ROOT, ROTATED.head, 99, STRANGER.public, NOW, NOW + DELEGATION_LIFE_US)
    assert refused(stolen.verify, ROTATED, NOW) == "bad-signature"


def test_certificate_of_another_key_or_identity_is_refused() -> None:
    forged = TransportCertificate.make(STRANGER, LOG.identity, TRANSPORT.public, NOW, NOW + TRANSPORT_LIFE_US)
    assert refused(verify_chain, LOG, DELEGATION, forged, NOW) == "bad-signature"
    other = TransportCertificate.make(OPERATIONAL, bytes(32), TRANSPORT.public, NOW, NOW + TRANSPORT_LIFE_US)
    assert refused(verify_chain, LOG, DELEGATION, other, NOW) == "other-identity"


def test_signatures_are_not_interchangeable() -> None:
    body = CERTIFICATE.raw[:-64]
    swapped = TransportCertificate.parse(body + OPERATIONAL.sign("record", body))
    assert refused(swapped.verify, DELEGATION, NOW) == "bad-signature"


@given(st.integers(0, 151), st.integers(1, 255))
def test_every_changed_byte_is_refused(at: int, change: int) -> None:
    raw = bytearray(DELEGATION.raw)
    raw[at] ^= change
    refused(verify_chain, LOG, Delegation.parse(bytes(raw)), CERTIFICATE, NOW)
    if at < len(CERTIFICATE.raw):
        raw = bytearray(CERTIFICATE.raw)
        raw[at] ^= change
        refused(verify_chain, LOG, DELEGATION, TransportCertificate.parse(bytes(raw)), NOW)


@given(st.binary(min_size=140, max_size=156))
def test_parsers_raise_only_parse_errors_and_keep_every_byte(raw: bytes) -> None:
    for kind in (Delegation, TransportCertificate):
        with suppress(ParseError):
            assert kind.parse(raw).raw == raw
