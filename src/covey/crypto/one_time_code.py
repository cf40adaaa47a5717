"""The one-time code of an introduction: what people say to each other, and the keys both sides make of it (ADR 0011).

Twelve characters of Crockford's base32, `k7mp-3xqd-9vhr`: eleven carry 55 random bits, the last one is a check, so
that a slip of the tongue is told at once and not after a minute of silence. Case, hyphens and blanks do not count, and
the letters that are read as digits are digits.

Whoever records an introduction can try codes against it at leisure, because mac1 must be keyed by the code alone. So
the code is stretched by scrypt before anything is keyed by it. What that costs such a guesser is in the ADR.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from covey.base.errors import UsageError
from covey.crypto.kdf import hkdf

__all__ = ["CODE_RANDOM_SIZE", "CodeKeys", "derive_code_keys", "make_code", "parse_code"]

CODE_RANDOM_SIZE: Final = 11
"""Random bytes that `make_code` takes; five bits of each are used."""

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_SPOKEN: Final = str.maketrans({"o": "0", "i": "1", "l": "1", "-": None, " ": None})
_CODE_LENGTH: Final = CODE_RANDOM_SIZE + 1
_GROUP: Final = 4

_SCRYPT_COST: Final = 1 << 15
_SCRYPT_BLOCK: Final = 8
_SCRYPT_PARALLEL: Final = 3
"""32 MiB and 0.2 s of one core, once per side: the row of OWASP's password storage cheat sheet that fits beside a
daemon of 60 MB (RFC 7914 names the three N, r, p)."""
_SALT: Final = b"covey one-time code 1"


@dataclass(frozen=True, slots=True)
class CodeKeys:
    """What an introduction is keyed by. Equal for equal codes, and for no others."""

    mac1_key: bytes = field(repr=False)
    """32 bytes: the key of mac1, without which a node is silent (PROTOCOL 14)."""
    psk: bytes = field(repr=False)
    """32 bytes: the pre-shared key of `XXpsk0`."""


def make_code(random: bytes) -> str:
    """The code that stands for `random`, `CODE_RANDOM_SIZE` uniform bytes, as people write it."""
    if len(random) != CODE_RANDOM_SIZE:
        raise ValueError(f"a code is made of {CODE_RANDOM_SIZE} random bytes")
    body = "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in random)
    code = body + _check(body)
    return "-".join(code[start : start + _GROUP] for start in range(0, _CODE_LENGTH, _GROUP))


def parse_code(text: str) -> str:
    """The one spelling of what somebody typed or dictated. UsageError (`bad-code`), which never repeats it."""
    code = text.strip().lower().translate(_SPOKEN)
    if len(code) != _CODE_LENGTH or not set(code) <= set(_ALPHABET) or _check(code[:-1]) != code[-1]:
        raise UsageError(
            "this is not a one-time code: a character is wrong, missing or too many",
            code="bad-code",
            next_step="have it read to you again; it looks like k7mp-3xqd-9vhr",
        )
    return code


def derive_code_keys(code: str) -> CodeKeys:
    """The keys of a parsed code. Takes 0.2 s of CPU and 32 MiB: not on the event loop."""
    scrypt = Scrypt(_SALT, 32, _SCRYPT_COST, _SCRYPT_BLOCK, _SCRYPT_PARALLEL)
    secret = scrypt.derive(code.encode("ascii"))
    return CodeKeys(hkdf(b"", secret, b"covey introduction 1 mac1"), hkdf(b"", secret, b"covey introduction 1 psk"))


def _check(body: str) -> str:
    digest = hashlib.sha256(b"covey code check 1\0" + body.encode("ascii")).digest()
    return _ALPHABET[digest[0] % len(_ALPHABET)]
