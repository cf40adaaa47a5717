"""What an endpoint needs to speak as an agent, and how it is kept in files.

`Credentials` is a value: every change returns a new one, which the node writes to its file before it uses it.
The next root key is never part of it; it goes into the recovery blob alone (PROTOCOL 4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from covey.base.codec import Writer
from covey.base.constants import LOG_LIMIT
from covey.base.errors import ParseError, UsageError, VerifyError
from covey.base.types import Identity
from covey.crypto.certificates import (
    DELEGATION_LIFE_LIMIT_US,
    DELEGATION_LIFE_US,
    TRANSPORT_LIFE_US,
    Delegation,
    TransportCertificate,
)
from covey.crypto.container import pack_file, unpack_file
from covey.crypto.events import KeyLog, commitment, incept, rotate
from covey.crypto.keys import KEY_SIZE, SigningKey, TransportKey

__all__ = [
    "TRANSPORT_KEYS_LIMIT",
    "Credentials",
    "Recovery",
    "SecretRoots",
    "TransportPair",
    "dump_recovery",
    "load_recovery",
    "load_secrets",
]

TRANSPORT_KEYS_LIMIT: Final = 4
"""Transport keys alive at once (PROTOCOL 5): 48 hours of life, a new one every 16, and one to spare."""

_SECRETS_MAGIC: Final = b"covey-id"
_RECOVERY_MAGIC: Final = b"covey-rc"

Random = Callable[[int], bytes]
"""n -> n unpredictable bytes."""


class TransportPair(NamedTuple):
    """A transport key and what certifies it."""

    key: TransportKey
    certificate: TransportCertificate


class SecretRoots(NamedTuple):
    """The roots of a new identity. `next_root` belongs in the recovery file and nowhere else."""

    root: SigningKey
    next_root: SigningKey


class Recovery(NamedTuple):
    """What the recovery file holds: the log as it was then, and the key that may rotate it."""

    log: KeyLog
    next_root: SigningKey


@dataclass(frozen=True, slots=True)
class Credentials:
    """An agent's own log, delegation, keys and certificates; `transport_keys` newest first, at most four."""

    log: KeyLog
    delegation: Delegation
    operational: SigningKey = field(repr=False)
    transport_keys: tuple[TransportPair, ...] = field(repr=False)
    address_nonce: int = 0
    root: SigningKey | None = field(default=None, repr=False)
    """The root in force, `None` if it is kept offline."""

    @property
    def identity(self) -> Identity:
        return self.log.identity

    @classmethod
    def create(cls, random: Random, now_us: int) -> tuple[Credentials, SecretRoots]:
        """A fresh identity with a delegation of 30 days and one transport key.

        Draws 32 bytes four times: root, next root, operational key, transport key.
        """
        root, next_root = SigningKey(random(KEY_SIZE)), SigningKey(random(KEY_SIZE))
        log = incept(root, commitment(next_root.public))
        credentials = cls._delegated(log, root, SigningKey(random(KEY_SIZE)), 0, now_us, DELEGATION_LIFE_US)
        return credentials.rotate_transport(random(KEY_SIZE), now_us), SecretRoots(root, next_root)

    @property
    def current(self) -> TransportPair:
        """The newest transport key, named in records and used to initiate. `UsageError` if there is none."""
        if not self.transport_keys:
            raise UsageError("no transport key is left: rotate_transport first", code="no-transport-key")
        return self.transport_keys[0]

    def live(self, now_us: int) -> Credentials:
        """Without the transport keys whose 48 hours are over: write this back, so that they are gone
        (PROTOCOL 5).

        Returns `self` if nothing is over. A clock that was set back drops nothing early.
        """
        keys = tuple(pair for pair in self.transport_keys if now_us < pair.certificate.until_us)
        return self if len(keys) == len(self.transport_keys) else replace(self, transport_keys=keys)

    def rotate_transport(self, private: bytes, now_us: int, life_us: int = TRANSPORT_LIFE_US) -> Credentials:
        """With a new transport key, from 32 random bytes, in front; dead ones and a fifth are dropped."""
        key = TransportKey(private)
        certificate = TransportCertificate.make(self.operational, self.identity, key.public, now_us, now_us + life_us)
        kept = self.live(now_us).transport_keys[: TRANSPORT_KEYS_LIMIT - 1]
        return replace(self, transport_keys=(TransportPair(key, certificate), *kept))

    def delegate(
        self, root: SigningKey, operational_seed: bytes, now_us: int, life_us: int = DELEGATION_LIFE_US
    ) -> Credentials:
        """With a new operational key, made from 32 random bytes, delegated to for `life_us` (at most 400
        days).

        The transport keys stay and are certified again by the new key, for what is left of their lives.
        `UsageError` if `root` is not the root in force. The counter is at least the time, so it also rises
        after a restored backup.
        """
        operational = SigningKey(operational_seed)
        fresh = self._delegated(self.log, root, operational, self.delegation.counter, now_us, life_us)
        return replace(
            fresh,
            address_nonce=self.address_nonce,
            root=self.root,
            transport_keys=tuple(_certify(pair, operational) for pair in self.live(now_us).transport_keys),
        )

    def rotate_root(
        self, next_root: SigningKey, next_commitment: bytes, operational_seed: bytes, now_us: int
    ) -> Credentials:
        """With the committed key as root and a new operational key under it.

        `VerifyError` if `next_root` was not committed to. Write a new recovery file before using the result.
        """
        log = rotate(self.log, next_root, next_commitment)
        return replace(self, log=log, root=next_root).delegate(next_root, operational_seed, now_us)

    def without_root(self) -> Credentials:
        """For an agent whose root is kept offline."""
        return replace(self, root=None)

    def dump_secrets(self) -> bytes:
        """All of it as one file, which ends in a checksum. Secret: mode 0600, written atomically."""
        writer = Writer().u8(self.address_nonce)
        writer.block8(b"" if self.root is None else self.root.seed).raw(self.operational.seed)
        writer.u8(len(self.transport_keys))
        for key, certificate in self.transport_keys:
            writer.raw(key.private).block16(certificate.raw)
        writer.block16(self.delegation.raw).u8(self.log.forked).block32(self.log.raw)
        return pack_file(_SECRETS_MAGIC, writer.bytes())

    @classmethod
    def load_secrets(cls, raw: bytes) -> Credentials:
        """The inverse of `dump_secrets`; see the function `load_secrets`."""
        return load_secrets(raw)

    @classmethod
    def _delegated(
        cls,
        log: KeyLog,
        root: SigningKey,
        operational: SigningKey,
        last_counter: int,
        now_us: int,
        life_us: int,
    ) -> Credentials:
        if root.public != log.root_key:
            raise UsageError("this is not the root key in force", code="wrong-root")
        if not 0 < life_us <= DELEGATION_LIFE_LIMIT_US:
            raise UsageError("a delegation lives at most 400 days", code="bad-life")
        counter = max(last_counter + 1, now_us)
        delegation = Delegation.make(root, log.head, counter, operational.public, now_us, now_us + life_us)
        return cls(log, delegation, operational, (), root=root)


def load_secrets(raw: bytes) -> Credentials:
    """Credentials from the bytes of `dump_secrets`.

    `ParseError` for a file that is cut short, damaged or of another kind; `VerifyError` if its parts do not
    belong together. Whether anything has expired is not looked at: see `Credentials.live` and
    `Delegation.verify`.
    """
    reader = unpack_file(_SECRETS_MAGIC, raw)
    address_nonce = reader.u8()
    seed = reader.block8()
    operational = SigningKey(reader.take(KEY_SIZE))
    count = reader.u8()
    if len(seed) not in (0, KEY_SIZE) or count > TRANSPORT_KEYS_LIMIT:
        raise ParseError("an identity file with an impossible root or too many transport keys")
    pairs = tuple(
        TransportPair(TransportKey(reader.take(KEY_SIZE)), TransportCertificate.parse(reader.block16()))
        for _ in range(count)
    )
    delegation, forked = Delegation.parse(reader.block16()), reader.u8()
    if forked > 1:
        raise ParseError("a flag that is neither 0 nor 1")
    log = replace(KeyLog.parse(reader.block32(LOG_LIMIT)), forked=bool(forked))
    reader.done()
    root = SigningKey(seed) if seed else None
    if (
        (root is not None and root.public != log.root_key)
        or delegation.operational != operational.public
        or any(key.public != certificate.public or certificate.identity != log.identity for key, certificate in pairs)
    ):
        raise VerifyError("the keys in this identity file do not belong together", code="mismatched-keys")
    return Credentials(log, delegation, operational, pairs, address_nonce, root)


def dump_recovery(log: KeyLog, next_root: SigningKey) -> bytes:
    """The recovery file, the only place of the next root; a new one after every rotation.

    `UsageError` if the log commits to another key.
    """
    if commitment(next_root.public) != log.next_commitment:
        raise UsageError("the log does not commit to this key", code="not-committed")
    return pack_file(_RECOVERY_MAGIC, Writer().raw(next_root.seed).block32(log.raw).bytes())


def load_recovery(raw: bytes) -> Recovery:
    """The inverse of `dump_recovery`. `ParseError` if damaged, `VerifyError` if it contradicts itself."""
    reader = unpack_file(_RECOVERY_MAGIC, raw)
    next_root = SigningKey(reader.take(KEY_SIZE))
    log = KeyLog.parse(reader.block32(LOG_LIMIT))
    reader.done()
    if commitment(next_root.public) != log.next_commitment:
        raise VerifyError("the key in this recovery file is not the one its log commits to", code="not-committed")
    return Recovery(log, next_root)


def _certify(pair: TransportPair, operational: SigningKey) -> TransportPair:
    old = pair.certificate
    fresh = TransportCertificate.make(operational, old.identity, old.public, old.from_us, old.until_us)
    return TransportPair(pair.key, fresh)
