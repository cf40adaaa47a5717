from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.errors import CryptoError, ParseError, VerifyError
from covey.crypto import ratchet
from covey.crypto.kdf import hkdf
from covey.crypto.ratchet import (
    ANSWER_SIZE,
    OFFER_SIZE,
    accept_answer,
    answer_offer,
    chain_0,
    epoch_keys,
    make_offer,
    next_chain,
    offer_epoch,
)

SEED, PRIVATE, OTHER = bytes(range(64)), b"\5" * 32, b"\6" * 32


def step(chain: bytes, epoch: int) -> tuple[bytes, bytes]:
    """One whole ratchet step: the chains both sides end at."""
    secret, offer = make_offer(SEED, PRIVATE, epoch)
    answer, dh, ss = answer_offer(offer, OTHER)
    theirs = next_chain(chain, dh, ss, b"h" * 32, epoch, offer, answer)
    dh, ss = accept_answer(secret, answer)
    return next_chain(chain, dh, ss, b"h" * 32, epoch, offer, answer), theirs


def test_sizes_are_those_of_the_specification() -> None:
    secret, offer = make_offer(SEED, PRIVATE, 1)
    answer, dh, ss = answer_offer(offer, OTHER)
    assert (len(offer), len(answer)) == (OFFER_SIZE, ANSWER_SIZE) == (1224, 1128)
    assert (len(dh), len(ss)) == (32, 32)
    assert secret.epoch == offer_epoch(offer) == offer_epoch(answer) == 1


def test_both_sides_reach_the_same_chain_for_many_epochs() -> None:
    mine = theirs = chain_0(bytes(32))
    seen = {bytes(mine)}
    for epoch in range(1, 6):
        assert mine == theirs
        mine, theirs = step(mine, epoch)
        seen.add(bytes(mine))
    assert len(seen) == 6


def test_make_offer_is_a_function_of_its_arguments() -> None:
    assert make_offer(SEED, PRIVATE, 7)[1] == make_offer(SEED, PRIVATE, 7)[1]
    assert make_offer(SEED[::-1], PRIVATE, 7)[1] != make_offer(SEED, PRIVATE, 7)[1]


def test_chain_0_is_the_labelled_hkdf_of_the_chaining_key() -> None:
    assert chain_0(b"c" * 32) == hkdf(b"", b"c" * 32, b"covey chain")


def test_next_chain_depends_on_every_argument() -> None:
    base = [b"c" * 32, b"d" * 32, b"s" * 32, b"h" * 32, 1, b"offer", b"answer"]
    other = [b"C" * 32, b"D" * 32, b"S" * 32, b"H" * 32, 2, b"Offer", b"Answer"]
    chains = {bytes(next_chain(*base))}  # type: ignore[arg-type]
    for at in range(7):
        chains.add(bytes(next_chain(*[*base[:at], other[at], *base[at + 1 :]])))  # type: ignore[arg-type]
    assert len(chains) == 8


def test_epoch_keys_differ_per_direction_and_from_the_chain() -> None:
    chain = chain_0(bytes(32))
    assert len({bytes(each) for each in (chain, *epoch_keys(chain))}) == 3
    assert {len(key) for key in epoch_keys(chain)} == {32}


def test_encapsulation_is_injected() -> None:
    _, offer = make_offer(SEED, PRIVATE, 1)
    seen: list[bytes] = []

    def fake(public: bytes) -> tuple[bytes, bytes]:
        seen.append(public)
        return b"s" * 32, b"c" * 1088

    answer, _, ss = answer_offer(offer, OTHER, encapsulate=fake)
    assert seen == [offer[8 : 8 + 1184]]
    assert ss == b"s" * 32
    assert answer[8 : 8 + 1088] == b"c" * 1088


def test_tampered_ciphertext_gives_another_secret_and_no_error() -> None:
    secret, offer = make_offer(SEED, PRIVATE, 1)
    answer, _, ss = answer_offer(offer, OTHER)
    tampered = answer[:8] + bytes([answer[8] ^ 1]) + answer[9:]
    assert accept_answer(secret, tampered)[1] != ss


def test_answer_for_another_epoch_is_refused() -> None:
    secret, _ = make_offer(SEED, PRIVATE, 2)
    answer, _, _ = answer_offer(make_offer(SEED, PRIVATE, 3)[1], OTHER)
    with pytest.raises(VerifyError):
        accept_answer(secret, answer)


def test_refused_keys_are_crypto_errors() -> None:
    secret, offer = make_offer(SEED, PRIVATE, 1)
    answer, _, _ = answer_offer(offer, OTHER)
    with pytest.raises(CryptoError):
        answer_offer(offer[:-32] + bytes(32), OTHER)
    with pytest.raises(CryptoError):
        answer_offer(offer[:8] + b"\xff" * 1184 + offer[-32:], OTHER)  # coefficients over q: FIPS 203, 7.2
    with pytest.raises(CryptoError):
        accept_answer(secret, answer[:-32] + bytes(32))
    with pytest.raises(CryptoError):
        secret.agree(b"short", answer[-32:])


@pytest.mark.parametrize("size", [0, 7, 8, 1191, 1192, OFFER_SIZE - 1, OFFER_SIZE + 1])
def test_offer_of_another_length_is_a_parse_error(size: int) -> None:
    _, offer = make_offer(SEED, PRIVATE, 1)
    with pytest.raises(ParseError):
        answer_offer((offer + b"\0")[:size], OTHER)


@pytest.mark.parametrize("size", [0, 7, 8, 1095, 1096, ANSWER_SIZE - 1, ANSWER_SIZE + 1])
def test_answer_of_another_length_is_a_parse_error(size: int) -> None:
    secret, offer = make_offer(SEED, PRIVATE, 1)
    answer, _, _ = answer_offer(offer, OTHER)
    with pytest.raises(ParseError):
        accept_answer(secret, (answer + b"\0")[:size])


@given(st.binary(max_size=1300), st.booleans())
def test_ratchet_parsers_raise_only_their_errors(noise: bytes, long_enough: bool) -> None:
    secret, _ = make_offer(SEED, PRIVATE, 1)
    for call, size in ((answer_offer, OFFER_SIZE), (accept_answer, ANSWER_SIZE)):
        raw = (noise + bytes(size))[:size] if long_enough else noise
        try:
            call(raw, OTHER) if call is answer_offer else call(secret, raw)  # type: ignore[operator]
        except (ParseError, VerifyError):
            continue


def test_default_encapsulation_opens_with_the_offer() -> None:
    secret, offer = make_offer(SEED, PRIVATE, 1)
    ss, ciphertext = ratchet.encapsulate(offer[8 : 8 + 1184])
    assert secret.agree(ciphertext, offer[-32:])[1] == ss
