"""The Noise Protocol Framework (revision 34, noiseprotocol.org) for 25519, AESGCM and SHA256.

A pattern is a row of the table `PATTERNS`; everything else is sections 5.1 to 5.3 and 9 of the specification,
in its words: CipherState, SymmetricState, HandshakeState. Covey itself speaks `IKpsk2` (DESIGN 4) and, inside
an introduction window, `XXpsk0` (ADR 0011).
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from covey.base.errors import CryptoError, ParseError, StateError
from covey.crypto.kdf import HASH_SIZE, hkdf
from covey.crypto.keys import KEY_SIZE, TransportKey

__all__ = [
    "MESSAGE_LIMIT",
    "NO_PSK",
    "PATTERNS",
    "CipherState",
    "HandshakeState",
    "Pattern",
    "SymmetricState",
]

Token = Literal["e", "s", "ee", "es", "se", "ss", "psk"]

MESSAGE_LIMIT: Final = 65_535
"""Longest Noise message, bytes (section 3)."""

NO_PSK: Final = bytes(32)
"""The psk outside every enclave (DESIGN 4)."""

_TAG: Final = 16
_NONCE = struct.Struct(">4xQ")
_NONCE_END: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Pattern:
    """One handshake pattern (section 7): what is known before, and the tokens of each message."""

    messages: tuple[tuple[Token, ...], ...]
    initiator_knows_responder: bool = False

    @property
    def psk(self) -> bool:
        """Whether a pre-shared key takes part (section 9), which also mixes every ephemeral into the key."""
        return any("psk" in message for message in self.messages)


PATTERNS: Final[dict[str, Pattern]] = {
    "IK": Pattern((("e", "es", "s", "ss"), ("e", "ee", "se")), initiator_knows_responder=True),
    "IKpsk2": Pattern((("e", "es", "s", "ss"), ("e", "ee", "se", "psk")), initiator_knows_responder=True),
    "XX": Pattern((("e",), ("e", "ee", "s", "es"), ("s", "se"))),
    "XXpsk0": Pattern((("psk", "e"), ("e", "ee", "s", "es"), ("s", "se"))),
}


class CipherState:
    """A key and its nonce counter (section 5.1). Without a key it passes bytes through."""

    __slots__ = ("_aead", "nonce")

    def __init__(self, key: bytes | None = None) -> None:
        self._aead = None if key is None else AESGCM(key)
        self.nonce = 0

    @property
    def has_key(self) -> bool:
        return self._aead is not None

    def copy(self) -> CipherState:
        twin = CipherState()
        twin._aead, twin.nonce = self._aead, self.nonce
        return twin

    def encrypt(self, ad: bytes, plain: bytes) -> bytes:
        """Seal with the next nonce: `len(plain) + 16` bytes. `StateError` when the nonces are used up."""
        if self._aead is None:
            return plain
        sealed = self._aead.encrypt(self._next(), plain, ad)
        self.nonce += 1
        return sealed

    def decrypt(self, ad: bytes, sealed: bytes) -> bytes:
        """Open with the next nonce. `CryptoError` if it does not open; the nonce then stays where it was."""
        if self._aead is None:
            return sealed
        try:
            plain = self._aead.decrypt(self._next(), sealed, ad)
        except InvalidTag:
            raise CryptoError("the Noise message does not open") from None
        self.nonce += 1
        return plain

    def _next(self) -> bytes:
        if self.nonce >= _NONCE_END:
            raise StateError("all nonces of this key are used")
        return _NONCE.pack(self.nonce)


class SymmetricState:
    """The running hash and chaining key of a handshake (section 5.2)."""

    __slots__ = ("chaining_key", "cipher", "hash")

    def __init__(self, protocol_name: bytes) -> None:
        if len(protocol_name) <= HASH_SIZE:
            self.hash = protocol_name.ljust(HASH_SIZE, b"\0")
        else:
            self.hash = hashlib.sha256(protocol_name).digest()
        self.chaining_key = self.hash
        self.cipher = CipherState()

    def copy(self) -> SymmetricState:
        twin = object.__new__(SymmetricState)
        twin.hash, twin.chaining_key = self.hash, self.chaining_key
        twin.cipher = self.cipher.copy()
        return twin

    def mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + data).digest()

    def mix_key(self, ikm: bytes) -> None:
        output = hkdf(self.chaining_key, ikm, size=2 * HASH_SIZE)
        self.chaining_key = output[:HASH_SIZE]
        self.cipher = CipherState(output[HASH_SIZE:])

    def mix_key_and_hash(self, ikm: bytes) -> None:
        output = hkdf(self.chaining_key, ikm, size=3 * HASH_SIZE)
        self.chaining_key = output[:HASH_SIZE]
        self.mix_hash(output[HASH_SIZE : 2 * HASH_SIZE])
        self.cipher = CipherState(output[2 * HASH_SIZE :])

    def encrypt_and_hash(self, plain: bytes) -> bytes:
        sealed = self.cipher.encrypt(self.hash, plain)
        self.mix_hash(sealed)
        return sealed

    def decrypt_and_hash(self, sealed: bytes) -> bytes:
        plain = self.cipher.decrypt(self.hash, sealed)
        self.mix_hash(sealed)
        return plain

    def split(self) -> tuple[bytes, bytes]:
        output = hkdf(self.chaining_key, b"", size=2 * HASH_SIZE)
        return output[:HASH_SIZE], output[HASH_SIZE:]


class HandshakeState:
    """One side of one handshake (section 5.3).

    Inputs: the pattern's name, the role, the prologue both sides must share, this side's static key (`None`
    only if the pattern never needs it), a fresh ephemeral (drawn by the caller, never used for a second
    handshake), the peer's static public key where the pattern says the initiator knows it, the psk.

    Order of calls: `write_message` and `read_message` in turn, the initiator first, until `finished`; then
    `split`, `handshake_hash` and `chaining_key`. `set_psk` may come any time before the message that uses it:
    a responder reads message 1, learns from its tag which psk is meant, sets it and writes message 2. After
    the message that carries it, `remote_static` is the peer's static public key; what it is worth is the
    caller's to check.

    Errors: `ParseError` for a message too short or too long for its pattern, `CryptoError` for one that does
    not open or holds a refused key, `StateError` for a call out of turn or without the key it needs.

    State after an error from `write_message` or `read_message`: unusable, every further call is a
    `StateError`. So whoever waits for one good message among forged ones reads each with a `copy()` and keeps
    the copy that could.
    """

    __slots__ = (
        "_alive",
        "_ephemeral",
        "_initiator",
        "_pattern",
        "_psk",
        "_static",
        "_symmetric",
        "_turn",
        "remote_ephemeral",
        "remote_static",
    )

    def __init__(
        self,
        pattern: str,
        initiator: bool,
        prologue: bytes,
        static: TransportKey | None,
        ephemeral: TransportKey,
        remote_static: bytes | None = None,
        psk: bytes | None = None,
    ) -> None:
        self._pattern = PATTERNS[pattern]
        self._initiator = initiator
        self._static = static
        self._ephemeral = ephemeral
        self._psk: bytes | None = None
        self._turn = 0
        self._alive = True
        self.remote_static = remote_static
        self.remote_ephemeral: bytes | None = None
        self._symmetric = SymmetricState(f"Noise_{pattern}_25519_AESGCM_SHA256".encode("ascii"))
        self._symmetric.mix_hash(prologue)
        if self._pattern.initiator_knows_responder:
            known = remote_static if initiator else self._own_static().public
            if known is None or len(known) != KEY_SIZE:
                raise ValueError(f"{pattern} needs the responder's 32-byte static key")
            self._symmetric.mix_hash(known)
        if psk is not None:
            self.set_psk(psk)

    @property
    def finished(self) -> bool:
        """Whether every message of the pattern was written or read."""
        return self._alive and self._turn == len(self._pattern.messages)

    @property
    def handshake_hash(self) -> bytes:
        """32 bytes that both sides share, and that no other handshake has (section 11.2)."""
        return self._done().hash

    @property
    def chaining_key(self) -> bytes:
        """The final 32-byte chaining key: what the ratchet grows from (PROTOCOL 18). Secret."""
        return self._done().chaining_key

    def copy(self) -> HandshakeState:
        """The same handshake at the same point, to try a message on. Costs no key operation."""
        twin = object.__new__(HandshakeState)
        for name in self.__slots__:
            setattr(twin, name, getattr(self, name))
        twin._symmetric = self._symmetric.copy()
        return twin

    def set_psk(self, psk: bytes) -> None:
        """Set the 32-byte pre-shared key before the message that needs it. `ValueError` if it is not 32."""
        if len(psk) != 32:
            raise ValueError("a psk has 32 bytes")
        self._psk = psk

    def write_message(self, payload: bytes = b"") -> bytes:
        """The next message, carrying `payload`."""
        tokens = self._begin(writing=True)
        symmetric = self._symmetric
        out = bytearray()
        for token in tokens:
            match token:
                case "e":
                    out += self._ephemeral.public
                    self._mix_ephemeral(self._ephemeral.public)
                case "s":
                    out += symmetric.encrypt_and_hash(self._own_static().public)
                case _:
                    self._mix(token)
        out += symmetric.encrypt_and_hash(payload)
        if len(out) > MESSAGE_LIMIT:
            raise ValueError("payload too long for a Noise message")
        self._end()
        return bytes(out)

    def read_message(self, data: bytes | bytearray | memoryview) -> bytes:
        """The payload of the peer's next message."""
        tokens = self._begin(writing=False)
        symmetric = self._symmetric
        if len(data) > MESSAGE_LIMIT:
            raise ParseError("longer than a Noise message can be")
        rest = bytes(data)
        for token in tokens:
            match token:
                case "e":
                    self.remote_ephemeral, rest = _cut(rest, KEY_SIZE)
                    self._mix_ephemeral(self.remote_ephemeral)
                case "s":
                    sealed, rest = _cut(rest, KEY_SIZE + (_TAG if symmetric.cipher.has_key else 0))
                    self.remote_static = symmetric.decrypt_and_hash(sealed)
                case _:
                    self._mix(token)
        if symmetric.cipher.has_key and len(rest) < _TAG:
            raise ParseError("Noise message cut short")
        payload = symmetric.decrypt_and_hash(rest)
        self._end()
        return payload

    def split(self) -> tuple[bytes, bytes]:
        """The two 32-byte keys: initiator to responder, responder to initiator."""
        return self._done().split()

    def _begin(self, *, writing: bool) -> tuple[Token, ...]:
        if not self._alive:
            raise StateError("this handshake has failed")
        if self._turn == len(self._pattern.messages):
            raise StateError("this handshake is finished")
        if writing != (self._initiator == (self._turn % 2 == 0)):
            raise StateError("it is the other side's turn")
        self._alive = False  # until `_end`: whatever is raised in between leaves the state unusable
        return self._pattern.messages[self._turn]

    def _end(self) -> None:
        self._turn += 1
        self._alive = True

    def _done(self) -> SymmetricState:
        if not self.finished:
            raise StateError("this handshake is not finished")
        return self._symmetric

    def _own_static(self) -> TransportKey:
        if self._static is None:
            raise StateError("this pattern needs a static key")
        return self._static

    def _mix_ephemeral(self, public: bytes) -> None:
        self._symmetric.mix_hash(public)
        if self._pattern.psk:
            self._symmetric.mix_key(public)

    def _mix(self, token: Token) -> None:
        match token:
            case "psk":
                if self._psk is None:
                    raise StateError("the psk was not set before the message that needs it")
                self._symmetric.mix_key_and_hash(self._psk)
            case _:
                self._mix_exchange(token)

    def _mix_exchange(self, token: Token) -> None:
        # The first letter names the initiator's key, the second the responder's (section 7.1).
        mine, theirs = (token[0], token[1]) if self._initiator else (token[1], token[0])
        own = self._ephemeral if mine == "e" else self._own_static()
        remote = self.remote_ephemeral if theirs == "e" else self.remote_static
        if remote is None:
            raise StateError("the peer's key is not known yet")
        agree = own.exchange_static if mine == theirs == "s" else own.exchange
        self._symmetric.mix_key(agree(remote))


def _cut(data: bytes, size: int) -> tuple[bytes, bytes]:
    if len(data) < size:
        raise ParseError("Noise message cut short")
    return data[:size], data[size:]
