"""Mailbox keys: what mail for an absent agent is sealed to (PROTOCOL 2, 23).

A mailbox key is X-Wing: ML-KEM-768 and X25519 together (draft-connolly-cfrg-xwing-kem), made from a seed of 32
bytes. Its owner signs it with the operational key and publishes it; the record names its digest, which is also
its id. A new one every 24 hours, less up to a tenth so that agents which started together do not rotate together.
Senders seal to the newest, and mail lives seven days, so the private half is destroyed eight days after it was
made: from then on nobody opens what was sealed to it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey

from covey.base.codec import Reader, Writer
from covey.base.constants import MAILBOX_KEY_LIMIT
from covey.base.errors import ParseError, VerifyError
from covey.base.types import IDENTITY_SIZE, Identity
from covey.crypto.certificates import SECOND_US, Delegation, check_life
from covey.crypto.container import pack_file, unpack_file
from covey.crypto.credentials import Credentials
from covey.crypto.events import KeyLog
from covey.crypto.keys import KEY_SIZE, SIGNATURE_SIZE, SigningKey, verify
from covey.crypto.ratchet import KEM_PUBLIC_SIZE, KEM_SEED_SIZE

__all__ = [
    "MAILBOX_LIFE_US",
    "MAILBOX_ROTATE_US",
    "MAIL_LIFE_US",
    "SEED_SIZE",
    "XWING_PUBLIC_SIZE",
    "MailboxKey",
    "MailboxKeys",
    "MailboxPair",
    "xwing_private",
    "xwing_public",
]

SEED_SIZE: Final = 32
"""Bytes of an X-Wing private key (draft-connolly-cfrg-xwing-kem, 5.2)."""

XWING_PUBLIC_SIZE: Final = KEM_PUBLIC_SIZE + KEY_SIZE
"""Bytes of an X-Wing public key: that of ML-KEM-768, then that of X25519."""

DAY_US: Final = 86_400 * SECOND_US

MAILBOX_ROTATE_US: Final = DAY_US
"""Longest time that a mailbox key is the newest, microseconds (PROTOCOL 23)."""

MAIL_LIFE_US: Final = 7 * DAY_US
"""Longest life of sealed mail, microseconds (PROTOCOL 23)."""

MAILBOX_LIFE_US: Final = MAIL_LIFE_US + MAILBOX_ROTATE_US
"""When a mailbox key's private half is destroyed, microseconds after it was made (PROTOCOL 23)."""

_KEYS_LIMIT: Final = 16
"""Keys kept: eight days of one a day, and a new one for each new delegation."""

_LABEL: Final = "mailbox"
_MAGIC: Final = b"covey-mb"


def xwing_private(seed: bytes) -> MLKEM768X25519PrivateKey:
    """The key pair of a 32-byte seed (draft-connolly-cfrg-xwing-kem, 5.2: expandDecapsulationKey)."""
    ml_kem, x25519 = _expand(seed)
    return MLKEM768X25519PrivateKey(ml_kem, x25519)


def xwing_public(seed: bytes) -> bytes:
    """The public half of a seed's key pair, 1216 bytes."""
    ml_kem, x25519 = _expand(seed)
    return ml_kem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()


def _expand(seed: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    if len(seed) != SEED_SIZE:
        raise ValueError("an X-Wing seed has 32 bytes")
    expanded = hashlib.shake_256(seed).digest(KEM_SEED_SIZE + KEY_SIZE)
    return (
        MLKEM768PrivateKey.from_seed_bytes(expanded[:KEM_SEED_SIZE]),
        X25519PrivateKey.from_private_bytes(expanded[KEM_SEED_SIZE:]),
    )


@dataclass(frozen=True, slots=True)
class MailboxKey:
    """One agent's word that mail for it may be sealed to an X-Wing key. 1482 bytes.

    Stands on its own: with its owner's log it can be verified while the record has long expired. Times are
    microseconds since the Unix epoch.
    """

    identity: Identity
    public: bytes = field(repr=False)
    """X-Wing public key, 1216 bytes."""
    from_us: int
    until_us: int
    """When the private half is destroyed."""
    delegation: Delegation
    raw: bytes = field(repr=False)
    """All of it as signed, the signature at its end."""

    @classmethod
    def make(
        cls,
        operational: SigningKey,
        identity: bytes,
        delegation: Delegation,
        public: bytes,
        from_us: int,
        until_us: int,
    ) -> MailboxKey:
        """Sign a mailbox key. `ValueError` for a value that does not fit its field."""
        if len(identity) != IDENTITY_SIZE or len(public) != XWING_PUBLIC_SIZE:
            raise ValueError("a mailbox key needs a 32-byte identity and a 1216-byte key")
        writer = Writer().raw(identity).raw(public).u64(from_us).u64(until_us).block16(delegation.raw)
        body = writer.bytes()
        return cls.parse(body + operational.sign(_LABEL, body))

    @classmethod
    def parse(cls, raw: bytes) -> MailboxKey:
        """Take foreign bytes apart; `ParseError` and nothing else. Nothing is believed before `verify`."""
        if len(raw) > MAILBOX_KEY_LIMIT:
            raise ParseError(f"a mailbox key of {len(raw)} bytes, at most {MAILBOX_KEY_LIMIT} allowed")
        reader = Reader(raw)
        identity, public = Identity(reader.take(IDENTITY_SIZE)), reader.take(XWING_PUBLIC_SIZE)
        from_us, until_us = reader.u64(), reader.u64()
        delegation = Delegation.parse(reader.block16())
        reader.take(SIGNATURE_SIZE)
        reader.done()
        return cls(identity, public, from_us, until_us, delegation, bytes(raw))

    @property
    def id(self) -> bytes:
        """32 bytes: the digest that the owner's record names."""
        return hashlib.sha256(self.raw).digest()

    def verify(self, log: KeyLog, now_us: int) -> None:
        """Return if the owner of `log` made this and it lives at `now_us`, else `VerifyError`.

        Codes: those of `Delegation.verify`, and `other-identity`, `bad-signature`, `bad-life`, `not-yet-valid`,
        `expired`.
        """
        if self.identity != log.identity:
            raise VerifyError("this mailbox key is another identity's", code="other-identity")
        self.delegation.verify(log, now_us)
        verify(self.delegation.operational, _LABEL, self.raw[:-SIGNATURE_SIZE], self.raw[-SIGNATURE_SIZE:])
        check_life("mailbox key", self.from_us, self.until_us, now_us, MAILBOX_LIFE_US)


class MailboxPair(NamedTuple):
    """A mailbox key and the seed of its private half."""

    seed: bytes
    key: MailboxKey


@dataclass(frozen=True, slots=True)
class MailboxKeys:
    """An agent's own mailbox keys, newest first. A value: write what a change returns to its file, then use it."""

    pairs: tuple[MailboxPair, ...] = field(default=(), repr=False)

    @property
    def current(self) -> MailboxKey:
        """The newest, which is published. `IndexError` before the first `rotated`."""
        return self.pairs[0].key

    def seed(self, key_id: bytes) -> bytes | None:
        """The seed behind a mailbox key's id; None if it is not ours or was destroyed."""
        return next((seed for seed, key in self.pairs if key.id == key_id), None)

    def live(self, now_us: int) -> MailboxKeys:
        """Without the keys whose time is over, `self` if there are none. A clock set back drops nothing early."""
        kept = tuple(pair for pair in self.pairs if now_us < pair.key.until_us)
        return self if len(kept) == len(self.pairs) else replace(self, pairs=kept)

    def rotated(self, credentials: Credentials, seed: bytes, now_us: int) -> MailboxKeys:
        """With a new key from 32 random bytes in front, and without those whose time is over."""
        until_us = min(now_us + MAILBOX_LIFE_US, credentials.delegation.until_us)
        key = MailboxKey.make(
            credentials.operational,
            credentials.identity,
            credentials.delegation,
            xwing_public(seed),
            now_us,
            until_us,
        )
        return MailboxKeys((MailboxPair(seed, key), *self.live(now_us).pairs[: _KEYS_LIMIT - 1]))

    def dump(self) -> bytes:
        """All of it as one file. Secret: mode 0600, written atomically."""
        writer = Writer().u8(len(self.pairs))
        for seed, key in self.pairs:
            writer.raw(seed).block16(key.raw)
        return pack_file(_MAGIC, writer.bytes())

    @classmethod
    def load(cls, raw: bytes, identity: Identity) -> MailboxKeys:
        """The inverse of `dump`. `ParseError` if damaged, `VerifyError` if the keys are another identity's."""
        reader = unpack_file(_MAGIC, raw)
        count = reader.u8()
        if count > _KEYS_LIMIT:
            raise ParseError("a file of too many mailbox keys")
        pairs = tuple(
            MailboxPair(reader.take(SEED_SIZE), MailboxKey.parse(reader.block16(MAILBOX_KEY_LIMIT)))
            for _ in range(count)
        )
        reader.done()
        if any(key.identity != identity or xwing_public(seed) != key.public for seed, key in pairs):
            raise VerifyError("the keys in this mailbox file do not belong together", code="mismatched-keys")
        return cls(pairs)
