from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.constants import SEALED_LIMIT
from covey.base.errors import CoveyError, CryptoError, LimitError, ParseError, VerifyError
from covey.crypto import seal as module
from covey.crypto.credentials import Credentials
from covey.crypto.events import KeyLog, revoke
from covey.crypto.mailbox import DAY_US, MailboxKey, MailboxKeys, MailboxPair
from covey.crypto.seal import Letter, encrypt, open_sealed, padded_size, seal, sealed_expiry
from tests.crypto.test_mailbox import CREDENTIALS as BOB
from tests.crypto.test_mailbox import KEY, KEYS, NOW, drawn
from tests.crypto.test_mailbox import OTHERS as ADA

EXPIRES = NOW + 7 * DAY_US
CAROL, CAROLS_ROOTS = Credentials.create(drawn("carol"), NOW)
CAROLS_KEYS = MailboxKeys().rotated(CAROL, bytes(32), NOW)


def sealed(body: bytes = b"please trust me", *, sender: Credentials = ADA, key: MailboxKey = KEY) -> bytes:
    return seal(sender, key, expires_us=EXPIRES, incarnation=5, number=9, kind=1, body=body)


def opened(raw: bytes, now_us: int = NOW) -> Letter:
    return open_sealed(raw, BOB.identity, KEYS, now_us)


SEALED = sealed()


def test_letter_comes_out_as_it_went_in() -> None:
    letter = opened(SEALED)
    letter.verify(ADA.log, NOW)
    assert (letter.sender, letter.incarnation, letter.number, letter.kind) == (ADA.identity, 5, 9, 1)
    assert (letter.body, letter.expires_us, letter.delegation) == (b"please trust me", EXPIRES, ADA.delegation)
    assert sealed_expiry(SEALED) == EXPIRES


def test_sealed_mail_has_its_documented_layout() -> None:
    seen: list[bytes] = []

    def record(public: bytes, info: bytes, plaintext: bytes) -> bytes:
        seen.extend((public, info, plaintext))
        return encrypt(public, info, plaintext)

    raw = seal(ADA, KEY, expires_us=EXPIRES, incarnation=5, number=9, kind=1, body=b"body", encrypt=record)
    expiry = EXPIRES.to_bytes(8, "big")
    assert raw[:41] == b"\x01" + KEY.id + expiry
    public, info, plaintext = seen
    assert public == KEY.public
    assert info == b"covey mail 1\0" + BOB.identity + KEY.id + expiry
    letter = ADA.identity + (152).to_bytes(2, "big") + ADA.delegation.raw + (5).to_bytes(8, "big")
    letter += (9).to_bytes(8, "big") + b"\x01" + (4).to_bytes(4, "big") + b"body"
    letter += ADA.operational.sign("mail", BOB.identity + KEY.id + expiry + letter)
    assert plaintext == (len(letter).to_bytes(4, "big") + letter).ljust(512, b"\0")
    assert len(raw) == 41 + 1120 + 512 + 16


@pytest.mark.parametrize(
    ("size", "padded"),
    [(0, 256), (256, 256), (257, 512), (4096, 4096), (4097, 5120), (5121, 6400), (6401, 8000), (12_501, 15_625)],
)
def test_padded_size(size: int, padded: int) -> None:
    assert padded_size(size) == padded


def test_lengths_below_a_step_look_alike() -> None:
    assert len({len(sealed(b"x" * size)) for size in range(0, 200, 20)}) == 1


def test_sealed_mail_names_neither_sender_nor_recipient() -> None:
    for secret in (ADA.identity, BOB.identity, ADA.delegation.raw[:40], b"please trust me"):
        assert secret not in SEALED


def test_two_seals_of_one_letter_differ() -> None:
    assert sealed()[41:] != SEALED[41:]


@given(st.integers(0, len(SEALED) * 8 - 1))
def test_no_bit_of_sealed_mail_can_be_changed(bit: int) -> None:
    raw = bytearray(SEALED)
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises((ParseError, VerifyError)):
        opened(bytes(raw))


def test_mail_for_another_does_not_open() -> None:
    # A custodian that hands it to somebody else, and a recipient who tries it as somebody else's.
    with pytest.raises(CryptoError, match="not here"):
        open_sealed(SEALED, CAROL.identity, CAROLS_KEYS, NOW)
    with pytest.raises(CryptoError, match="does not open"):
        open_sealed(SEALED, CAROL.identity, KEYS, NOW)


def test_recipient_cannot_seal_a_letter_again_for_somebody_else() -> None:
    letter = opened(SEALED)
    bound = CAROL.identity + CAROLS_KEYS.current.id + EXPIRES.to_bytes(8, "big")
    raw = letter.signed[72:] + letter.signature
    plaintext = (len(raw).to_bytes(4, "big") + raw).ljust(padded_size(len(raw) + 4), b"\0")
    box = encrypt(CAROLS_KEYS.current.public, b"covey mail 1\0" + bound, plaintext)
    forwarded = b"\x01" + bound[32:] + box
    again = open_sealed(forwarded, CAROL.identity, CAROLS_KEYS, NOW)
    with pytest.raises(VerifyError) as caught:
        again.verify(ADA.log, NOW)
    assert caught.value.code == "bad-signature"


def test_letter_in_the_name_of_another_does_not_verify() -> None:
    posed = Credentials(ADA.log, ADA.delegation, CAROL.operational, ())
    with pytest.raises(VerifyError) as caught:
        opened(sealed(sender=posed)).verify(ADA.log, NOW)
    assert caught.value.code == "bad-signature"
    with pytest.raises(VerifyError) as caught:
        opened(SEALED).verify(CAROL.log, NOW)
    assert caught.value.code == "other-identity"


def test_letter_of_a_revoked_identity_does_not_verify() -> None:
    raw = sealed(sender=CAROL)
    with pytest.raises(VerifyError) as caught:
        opened(raw).verify(revoke(CAROL.log, CAROLS_ROOTS.root), NOW)
    assert caught.value.code == "revoked"


def test_expired_mail_is_not_opened() -> None:
    assert opened(SEALED, EXPIRES - 1).body == b"please trust me"
    with pytest.raises(VerifyError) as caught:
        opened(SEALED, EXPIRES)
    assert caught.value.code == "expired"


def test_destroyed_key_opens_nothing() -> None:
    later = KEYS.rotated(BOB, bytes(32), NOW + 8 * DAY_US)
    with pytest.raises(CryptoError) as caught:
        open_sealed(SEALED, BOB.identity, later, NOW)
    assert caught.value.code == "unknown-key"


def test_too_large_a_letter_is_refused() -> None:
    assert len(sealed(b"x" * 59_000)) <= SEALED_LIMIT
    with pytest.raises(LimitError):
        sealed(b"x" * 60_000)


def test_mailbox_key_that_the_library_refuses() -> None:
    low_order = MailboxKey.make(
        BOB.operational, BOB.identity, BOB.delegation, KEY.public[:1184] + bytes(32), NOW, NOW + DAY_US
    )
    with pytest.raises(CryptoError):
        sealed(key=low_order)
    with pytest.raises(CryptoError):
        encrypt(b"short", b"", b"")


@given(st.binary(max_size=2048), st.booleans())
def test_open_sealed_raises_covey_errors_and_nothing_else(raw: bytes, known: bool) -> None:
    header = b"\x01" + KEY.id + EXPIRES.to_bytes(8, "big") if known else b""
    with pytest.raises((ParseError, VerifyError)):
        opened(header + raw)


@given(st.binary(max_size=600), st.sampled_from([256, 512, 768, 1024]))
def test_hostile_plaintext_raises_parse_error_and_nothing_else(inside: bytes, size: int) -> None:
    # Anybody can seal anything to a published key.
    info = module._info(BOB.identity + KEY.id + EXPIRES.to_bytes(8, "big"))
    raw = SEALED[:41] + encrypt(KEY.public, info, inside.ljust(size, b"\0"))
    with pytest.raises(ParseError):
        opened(raw)


def test_letter_has_one_padding() -> None:
    info = module._info(BOB.identity + KEY.id + EXPIRES.to_bytes(8, "big"))
    letter = opened(SEALED)
    inside = letter.signed[72:] + letter.signature
    framed = len(inside).to_bytes(4, "big") + inside
    for plaintext in (framed.ljust(768, b"\0"), framed.ljust(511, b"\0") + b"\x01", framed):
        with pytest.raises(ParseError):
            opened(SEALED[:41] + encrypt(KEY.public, info, plaintext))


def test_random_bytes_of_the_right_size_do_not_open() -> None:
    for size in (256, 512, 65_536 - 41 - 1136):
        with pytest.raises(CoveyError):
            opened(SEALED[:41] + os.urandom(1136 + size))


def test_published_letter_opens() -> None:
    published = json.loads((Path(__file__).parents[1] / "vectors" / "protocol.json").read_text())
    vector, sender = published["letter"], published[published["letter"]["from"]]
    key = MailboxKey.parse(bytes.fromhex(vector["mailbox_key"]))
    keys = MailboxKeys((MailboxPair(bytes.fromhex(vector["mailbox_seed"]), key),))
    key.verify(KeyLog.parse(bytes.fromhex(published[vector["to"]]["log"])), published["wall_us"])
    assert key.id.hex() == vector["mailbox_key_id"]
    letter = open_sealed(bytes.fromhex(vector["sealed"]), key.identity, keys, published["wall_us"])
    letter.verify(KeyLog.parse(bytes.fromhex(sender["log"])), published["wall_us"])
    assert (letter.sender.hex(), letter.number, letter.kind) == (sender["identity"], vector["number"], vector["kind"])
    assert (letter.body.hex(), letter.signed.hex()) == (vector["body"], vector["signed"])
