"""The keys of this agent, as far as they may be shown: fingerprints and dates, and never a private byte."""

from __future__ import annotations

import hashlib
from typing import Final

from covey.base.errors import StorageError
from covey.base.paths import Home
from covey.base.schema import FindingView, KeysView, KeyView
from covey.base.types import address_text, identity_text
from covey.crypto.address import address
from covey.crypto.credentials import Credentials
from covey.crypto.renewal import DELEGATE_US, ROTATE_US
from covey.node.storage.files import read_private

__all__ = ["fingerprint", "keys_view", "load_keys"]

_FINGERPRINT_SIZE: Final = 16
"""Bytes of a key's digest that are shown: 128 bits, enough to compare by."""


def fingerprint(public: bytes) -> str:
    """The beginning of SHA-256 over a public key, in groups of four hexadecimal digits."""
    digits = hashlib.sha256(public).digest()[:_FINGERPRINT_SIZE].hex()
    return " ".join(digits[start : start + 4] for start in range(0, len(digits), 4))


def load_keys(home: Home, now_us: int) -> KeysView:
    """From the identity file, which a running node keeps up to date. StorageError, ParseError, VerifyError."""
    raw = read_private(home.identity_file)
    if raw is None:
        raise StorageError(
            f"there is no identity file {home.identity_file}", code="identity-missing", next_step="covey up makes one"
        )
    return keys_view(Credentials.load_secrets(raw), home, now_us)


def keys_view(credentials: Credentials, home: Home, now_us: int) -> KeysView:
    """`now_us`: wall time, microseconds."""
    log, delegation = credentials.log, credentials.delegation
    newest = credentials.transport_keys[0].certificate if credentials.transport_keys else None
    renewal_us = delegation.until_us - DELEGATE_US if credentials.root is not None else None
    return KeysView(
        identity=identity_text(credentials.identity),
        address=address_text(address(credentials.identity, credentials.address_nonce)),
        log_sequence=log.sequence,
        log_head=log.head.hex(),
        revoked=log.revoked,
        root=KeyView(fingerprint(log.root_key)),
        root_here=credentials.root is not None,
        next_root=KeyView(" ".join(log.next_commitment[:16].hex()[at : at + 4] for at in range(0, 32, 4))),
        operational=KeyView(fingerprint(delegation.operational), delegation.from_us / 1e6, delegation.until_us / 1e6),
        transport=[
            KeyView(
                fingerprint(each.certificate.public), each.certificate.from_us / 1e6, each.certificate.until_us / 1e6
            )
            for each in credentials.transport_keys
        ],
        next_operational=None if renewal_us is None else renewal_us / 1e6,
        next_transport=None if newest is None else (newest.from_us + ROTATE_US) / 1e6,
        recovery_file=str(home.recovery_file),
        recovery_here=home.recovery_file.exists(),
        findings=list(_findings(credentials, home, now_us)),
    )


def _findings(credentials: Credentials, home: Home, now_us: int) -> list[FindingView]:
    found = []
    if home.recovery_file.exists():
        found.append(
            FindingView(
                "recovery-file-here",
                "note",
                f"the next root key is on this machine ({home.recovery_file}): whoever takes over the machine "
                "takes the identity for good",
                f"move it where this machine cannot read it, and keep it: mv {home.recovery_file} /media/...",
            )
        )
    left_us = credentials.delegation.until_us - now_us
    if credentials.root is None and left_us < DELEGATE_US:
        found.append(
            FindingView(
                "operational-key-ends",
                "error" if left_us <= 0 else "warning",
                "the operational key is over"
                if left_us <= 0
                else f"the operational key ends in {left_us / 8.64e10:.1f} days",
                "bring the root key back: only it can name another",
            )
        )
    return found
