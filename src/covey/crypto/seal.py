"""Sealed mail: a letter that only its recipient can open, and that names its sender to nobody else (PROTOCOL 23).

    sealed  = version 1 || mailbox key id || expiry || HPKE(info, padded)
    info    = "covey mail 1\\0" || recipient || mailbox key id || expiry
    padded  = u32 size || letter || zeros, up to the next of 256, 512 ... 4096, 5120, 6400 ... bytes
    letter  = sender || delegation || incarnation || number || kind || body || signature

HPKE (RFC 9180) in base mode with X-Wing, HKDF-SHA256 and AES-256-GCM. It has no authenticated mode for X-Wing, so
the sender signs the letter with its operational key, over recipient, key id and expiry too: a recipient cannot seal
it again for somebody else in the sender's name. Who opens a letter knows what it says, not yet who wrote it: that
is `Letter.verify`, with the sender's log.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PublicKey, Suite

from covey.base.codec import Reader, Writer
from covey.base.constants import SEALED_LIMIT
from covey.base.errors import CryptoError, LimitError, ParseError, VerifyError
from covey.base.types import IDENTITY_SIZE, Identity
from covey.crypto.certificates import Delegation
from covey.crypto.credentials import Credentials
from covey.crypto.events import KeyLog
from covey.crypto.kdf import HASH_SIZE
from covey.crypto.keys import SIGNATURE_SIZE, verify
from covey.crypto.mailbox import XWING_PUBLIC_SIZE, MailboxKey, MailboxKeys, xwing_private
from covey.crypto.ratchet import KEM_PUBLIC_SIZE

__all__ = ["ENCAPSULATED_SIZE", "Encrypt", "Letter", "encrypt", "open_sealed", "padded_size", "seal", "sealed_expiry"]

ENCAPSULATED_SIZE: Final = 1120
"""Bytes of an X-Wing ciphertext: 1088 of ML-KEM-768 and 32 of X25519."""

_VERSION: Final = 1
_LABEL: Final = "mail"
_STEP: Final = 256
_STEPS_END: Final = 4096
_TAG_SIZE: Final = 16
_HEADER_SIZE: Final = 1 + HASH_SIZE + 8
_SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)

Encrypt = Callable[[bytes, bytes, bytes], bytes]
"""(X-Wing public key of 1216 bytes, info, plaintext) -> encapsulated key of 1120 bytes || ciphertext.
`CryptoError` for a key that is refused."""


def encrypt(public: bytes, info: bytes, plaintext: bytes) -> bytes:
    """HPKE with the library's own randomness (PROTOCOL 30): the real `Encrypt`."""
    if len(public) != XWING_PUBLIC_SIZE:
        raise CryptoError("the recipient's mailbox key is refused", code="bad-key")
    try:
        key = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public[:KEM_PUBLIC_SIZE]),
            X25519PublicKey.from_public_bytes(public[KEM_PUBLIC_SIZE:]),
        )
        return _SUITE.encrypt(plaintext, key, info)
    except ValueError as error:
        raise CryptoError("the recipient's mailbox key is refused", code="bad-key") from error


def padded_size(size: int) -> int:
    """What `size` bytes are padded to: a multiple of 256 up to 4096, then powers of 1.25, rounded down each time."""
    if size <= _STEPS_END:
        return max(-(-size // _STEP), 1) * _STEP
    padded = _STEPS_END
    while padded < size:
        padded = padded * 5 // 4
    return padded


@dataclass(frozen=True, slots=True)
class Letter:
    """What was inside of sealed mail. Who wrote it is a claim until `verify` returns."""

    sender: Identity
    delegation: Delegation
    incarnation: int
    """64 random bits: one life of the sender's database (PROTOCOL 22)."""
    number: int
    """Rises with every letter of one kind from this sender to this recipient in one incarnation."""
    kind: int
    body: bytes = field(repr=False)
    expires_us: int
    signed: bytes = field(repr=False)
    """What the signature covers."""
    signature: bytes = field(repr=False)

    def verify(self, log: KeyLog, now_us: int) -> None:
        """Return if the owner of `log` wrote this, with keys that hold at `now_us`; else `VerifyError`.

        Codes: those of `Delegation.verify`, `other-identity`, `bad-signature`.
        """
        if self.sender != log.identity:
            raise VerifyError("this letter is another identity's", code="other-identity")
        self.delegation.verify(log, now_us)
        verify(self.delegation.operational, _LABEL, self.signed, self.signature)


def seal(
    credentials: Credentials,
    key: MailboxKey,
    *,
    expires_us: int,
    incarnation: int,
    number: int,
    kind: int,
    body: bytes,
    encrypt: Encrypt = encrypt,
) -> bytes:
    """A letter from the owner of `credentials` to the owner of `key`, which the caller has verified.

    `LimitError` if it would be longer than `SEALED_LIMIT`, `CryptoError` for a key that the library refuses.
    """
    content = Writer().raw(credentials.identity).block16(credentials.delegation.raw)
    content.u64(incarnation).u64(number).u8(kind).block32(body)
    bound = _bound(key.identity, key.id, expires_us)
    signature = credentials.operational.sign(_LABEL, bound + content.bytes())
    letter = content.raw(signature).bytes()
    size = padded_size(len(letter) + 4)
    if _HEADER_SIZE + ENCAPSULATED_SIZE + size + _TAG_SIZE > SEALED_LIMIT:
        raise LimitError(f"sealed mail has at most {SEALED_LIMIT} bytes", code="mail-too-large")
    plaintext = Writer().block32(letter).bytes().ljust(size, b"\0")
    header = Writer().u8(_VERSION).raw(key.id).u64(expires_us).bytes()
    return header + encrypt(key.public, _info(bound), plaintext)


def sealed_expiry(raw: bytes) -> int:
    """When sealed mail expires, wall microseconds: all that a custodian may know of its inside. `ParseError`."""
    return _header(raw)[1]


def open_sealed(raw: bytes, recipient: Identity, keys: MailboxKeys, now_us: int) -> Letter:
    """Open mail for `recipient`, whose mailbox keys are `keys`.

    `ParseError` for what is no letter, `CryptoError` for what does not open (``unknown-key`` if it was sealed to a
    key that we do not have or destroyed), `VerifyError` ``expired``. Nothing else.
    """
    key_id, expires_us, box = _header(raw)
    seed = keys.seed(key_id)
    if seed is None:
        raise CryptoError("sealed to a mailbox key that is not here", code="unknown-key")
    if now_us >= expires_us:
        raise VerifyError("this letter has expired", code="expired")
    bound = _bound(recipient, key_id, expires_us)
    try:
        plaintext = _SUITE.decrypt(box, xwing_private(seed), _info(bound))
    except (InvalidTag, ValueError) as error:
        raise CryptoError("this letter does not open", code="does-not-open") from error
    return _letter(_unpadded(plaintext), bound, expires_us)


def _header(raw: bytes) -> tuple[bytes, int, bytes]:
    if len(raw) > SEALED_LIMIT:
        raise ParseError(f"sealed mail of {len(raw)} bytes, at most {SEALED_LIMIT} allowed")
    reader = Reader(raw)
    if reader.u8() != _VERSION:
        raise ParseError("sealed mail of another version")
    key_id, expires_us, box = reader.take(HASH_SIZE), reader.u64(), reader.rest()
    if len(box) < ENCAPSULATED_SIZE + _STEP + _TAG_SIZE:
        raise ParseError("sealed mail cut short")
    return key_id, expires_us, box


def _unpadded(plaintext: bytes) -> bytes:
    reader = Reader(plaintext)
    letter = reader.block32(SEALED_LIMIT)
    if len(plaintext) != padded_size(len(letter) + 4) or any(reader.rest()):
        raise ParseError("a letter with another padding")
    return letter


def _letter(letter: bytes, bound: bytes, expires_us: int) -> Letter:
    reader = Reader(letter)
    sender, delegation = Identity(reader.take(IDENTITY_SIZE)), Delegation.parse(reader.block16())
    incarnation, number, kind = reader.u64(), reader.u64(), reader.u8()
    body = reader.block32(SEALED_LIMIT)
    signed = bound + letter[: reader.position]
    signature = reader.take(SIGNATURE_SIZE)
    reader.done()
    return Letter(sender, delegation, incarnation, number, kind, body, expires_us, signed, signature)


def _bound(recipient: bytes, key_id: bytes, expires_us: int) -> bytes:
    return Writer().raw(recipient).raw(key_id).u64(expires_us).bytes()


def _info(bound: bytes) -> bytes:
    return b"covey mail 1\0" + bound
