"""The ratchet: how a session's keys become post-quantum and stay fresh (PROTOCOL 18).

    chain_0     = HKDF(salt = "",      ikm = Noise chaining key, info = "covey chain")
    chain_{n+1} = HKDF(salt = chain_n, ikm = dh || ss, info = "covey ratchet 1" || h || u64 n+1 ||
    SHA-256(offer || answer))
    key         = HKDF(salt = "",      ikm = chain_n, info = "covey keys 1 initiator" or "... responder")

with HKDF-SHA256 and 32 bytes of output throughout, h the handshake hash, `dh` the X25519 secret of the two
fresh keys and `ss` the ML-KEM-768 secret (FIPS 203). Epoch 0 does not use `key`: its keys are Noise's
Split(). Offer and answer are the bodies below, retransmitted byte for byte. Who starts, what is in flight and
when old keys die is the session's business.

    offer  (1224): u64 epoch || ML-KEM-768 public key (1184) || X25519 public key (32)
    answer (1128): u64 epoch || ML-KEM-768 ciphertext (1088) || X25519 public key (32)
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey

from covey.base.codec import Reader
from covey.base.errors import CryptoError, VerifyError
from covey.crypto.kdf import hkdf_secret
from covey.crypto.keys import KEY_SIZE, TransportKey

__all__ = [
    "ANSWER_SIZE",
    "KEM_CIPHERTEXT_SIZE",
    "KEM_PUBLIC_SIZE",
    "KEM_SEED_SIZE",
    "OFFER_SIZE",
    "Encapsulate",
    "OfferSecret",
    "accept_answer",
    "answer_offer",
    "chain_0",
    "encapsulate",
    "epoch_keys",
    "make_offer",
    "next_chain",
    "offer_epoch",
]

KEM_SEED_SIZE: Final = 64
"""Bytes from which an ML-KEM key pair is made: d || z (FIPS 203, 7.1)."""

KEM_PUBLIC_SIZE: Final = 1184
"""Bytes of an ML-KEM-768 encapsulation key (FIPS 203, table 3)."""

KEM_CIPHERTEXT_SIZE: Final = 1088
"""Bytes of an ML-KEM-768 ciphertext (FIPS 203, table 3)."""

OFFER_SIZE: Final = 8 + KEM_PUBLIC_SIZE + KEY_SIZE
ANSWER_SIZE: Final = 8 + KEM_CIPHERTEXT_SIZE + KEY_SIZE

Encapsulate = Callable[[bytes], tuple[bytes, bytes]]
"""public key (1184) -> (shared secret (32), ciphertext (1088)); `CryptoError` for a key that is refused."""

_U64 = struct.Struct(">Q")


def encapsulate(public: bytes) -> tuple[bytes, bytes]:
    """ML-KEM-768 encapsulation with the library's own randomness (PROTOCOL 30): the real `Encapsulate`."""
    try:
        return MLKEM768PublicKey.from_public_bytes(public).encapsulate()
    except ValueError as error:
        raise CryptoError("the peer's ML-KEM key is refused", code="bad-key") from error


class OfferSecret:
    """The private half of an offer. Forget it as soon as the answer is accepted or the session ends."""

    __slots__ = ("_exchange", "_kem", "epoch")

    def __init__(self, kem: MLKEM768PrivateKey, exchange: TransportKey, epoch: int) -> None:
        self._kem = kem
        self._exchange = exchange
        self.epoch: Final = epoch

    def agree(self, ciphertext: bytes, public: bytes) -> tuple[bytes, bytes]:
        """(dh, ss), 32 bytes each. `CryptoError` for a refused key or ciphertext.

        A ciphertext that was tampered with gives another `ss` and no error (FIPS 203, 6.3): the first packet
        will not open.
        """
        try:
            ss = self._kem.decapsulate(ciphertext)
        except ValueError as error:
            raise CryptoError("the peer's ML-KEM ciphertext is refused", code="bad-key") from error
        return self._exchange.exchange(public), ss


def make_offer(seed: bytes, x25519_private: bytes, epoch: int) -> tuple[OfferSecret, bytes]:
    """Offer `epoch` (64 bits), with 64 + 32 fresh random bytes: (the secret to keep, the body to send)."""
    kem = MLKEM768PrivateKey.from_seed_bytes(seed)
    exchange = TransportKey(x25519_private)
    body = _U64.pack(epoch) + kem.public_key().public_bytes_raw() + exchange.public
    return OfferSecret(kem, exchange, epoch), body


def offer_epoch(body: bytes) -> int:
    """The epoch that an offer or an answer is for. `ParseError` if it is cut short."""
    return Reader(body).u64()


def answer_offer(
    offer_body: bytes, x25519_private: bytes, encapsulate: Encapsulate = encapsulate
) -> tuple[bytes, bytes, bytes]:
    """Answer a peer's offer with 32 fresh random bytes: (answer body, dh, ss).

    The caller has checked `offer_epoch`. `ParseError` for a malformed offer, `CryptoError` for a refused key.
    """
    reader = Reader(offer_body)
    epoch, kem_public, public = reader.u64(), reader.take(KEM_PUBLIC_SIZE), reader.take(KEY_SIZE)
    reader.done()
    exchange = TransportKey(x25519_private)
    dh = exchange.exchange(public)
    ss, ciphertext = encapsulate(kem_public)
    return _U64.pack(epoch) + ciphertext + exchange.public, dh, ss


def accept_answer(secret: OfferSecret, answer_body: bytes) -> tuple[bytes, bytes]:
    """(dh, ss) from the peer's answer.

    `ParseError` if malformed, `VerifyError` if for another epoch, `CryptoError` for a refused key.
    """
    reader = Reader(answer_body)
    epoch, ciphertext, public = reader.u64(), reader.take(KEM_CIPHERTEXT_SIZE), reader.take(KEY_SIZE)
    reader.done()
    if epoch != secret.epoch:
        raise VerifyError(f"an answer for epoch {epoch} to an offer of epoch {secret.epoch}")
    return secret.agree(ciphertext, public)


def chain_0(noise_chaining_key: bytes) -> bytearray:
    """The chain that belongs to epoch 0, from `HandshakeState.chaining_key`. 32 bytes."""
    return hkdf_secret(b"", noise_chaining_key, b"covey chain")


def next_chain(
    chain: bytearray, dh: bytes, ss: bytes, handshake_hash: bytes, epoch: int, offer: bytes, answer: bytes
) -> bytearray:
    """The chain of `epoch` (n+1) from that of the epoch before. 32 bytes; overwrite `chain`, forget `dh` and `ss`."""
    transcript = hashlib.sha256(offer + answer).digest()
    info = b"covey ratchet 1" + handshake_hash + _U64.pack(epoch) + transcript
    return hkdf_secret(chain, dh + ss, info)


def epoch_keys(chain: bytearray) -> tuple[bytearray, bytearray]:
    """An epoch's packet keys (epoch >= 1): initiator to responder, responder to initiator. 32 bytes each."""
    return (
        hkdf_secret(b"", chain, b"covey keys 1 initiator"),
        hkdf_secret(b"", chain, b"covey keys 1 responder"),
    )
