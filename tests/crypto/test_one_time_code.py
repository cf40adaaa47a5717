"""The one-time code: what people may do to it on the way, and what both sides make of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.errors import UsageError
from covey.crypto.one_time_code import CODE_RANDOM_SIZE, derive_code_keys, make_code, parse_code

RANDOM = bytes(range(100, 111))
CODE = "4567-89ab-cdem"
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def test_code_of_known_bytes_is_the_documented_one() -> None:
    assert make_code(RANDOM) == CODE


def test_keys_of_known_code_are_the_documented_ones() -> None:
    keys = derive_code_keys(parse_code(CODE))
    assert keys.mac1_key.hex() == "240b0b60ab1e32866d0206802ca4122a32663b63cbdc2958ee4bd40b2edd90d2"
    assert keys.psk.hex() == "ecb2ff8b3be2880277882827fd68eee76ce9c120a09bf54cfdc90ef6177f003c"


def test_keys_are_not_in_their_text() -> None:
    keys = derive_code_keys(parse_code(CODE))
    assert repr(keys) == "CodeKeys()"


@pytest.mark.parametrize(
    "spelling",
    [CODE, CODE.upper(), CODE.replace("-", ""), CODE.replace("-", " "), f"  {CODE}\n", "45 67 89AB cdem"],
)
def test_parse_code_takes_every_spelling_of_one_code(spelling: str) -> None:
    assert parse_code(spelling) == CODE.replace("-", "")


def test_parse_code_reads_letters_that_look_like_digits_as_digits() -> None:
    code = make_code(bytes([0, 1] * 5 + [0]))
    assert (
        parse_code(code) == parse_code(code.replace("0", "O").replace("1", "l")) == parse_code(code.replace("1", "I"))
    )


@pytest.mark.parametrize(
    "text", ["", "4567-89ab-cde", "4567-89ab-cdem7", "4567-89ab-cdeu", "4567-89ab-cdén", "x" * 10_000]
)
def test_parse_code_refuses_what_is_none_and_does_not_repeat_it(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_code(text)
    assert caught.value.code == "bad-code"
    assert "cde" not in caught.value.message


def test_check_character_tells_most_slips() -> None:
    code = parse_code(CODE)
    slips = {code[:place] + other + code[place + 1 :] for place in range(len(code)) for other in ALPHABET} - {code}
    slips |= {code[:place] + code[place + 1] + code[place] + code[place + 2 :] for place in range(len(code) - 1)}
    passed = [slip for slip in slips if _parses(slip)]
    assert len(passed) < 0.06 * len(slips)  # one in 32 by design


def _parses(text: str) -> bool:
    try:
        parse_code(text)
    except UsageError:
        return False
    return True


@given(st.binary(min_size=CODE_RANDOM_SIZE, max_size=CODE_RANDOM_SIZE))
def test_codes_are_read_back(random: bytes) -> None:
    code = make_code(random)
    assert parse_code(code) == code.replace("-", "")
    assert [ALPHABET.index(character) for character in parse_code(code)[:-1]] == [byte % 32 for byte in random]


@given(st.text(max_size=40))
def test_parse_code_raises_only_its_error(text: str) -> None:
    _parses(text)


@pytest.mark.parametrize("size", [0, CODE_RANDOM_SIZE - 1, CODE_RANDOM_SIZE + 1])
def test_make_code_refuses_another_number_of_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="random bytes"):
        make_code(bytes(size))
