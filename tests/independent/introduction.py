"""Entering a one-time code, from `docs/protocol.md` alone: the side that types it [4, "Introduction by one-time code"].

As `client.py`: the standard library, `cryptography`, and nothing of `covey`.
"""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import time

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.independent.client import Me, Noise, Refused, ask, block16, digest, hkdf, lives, mac, public, sign, take16

GREETING, REPLY, PROOF, CONFIRMATION = 8, 9, 10, 11
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def read_code(text: str) -> str:
    """The twelve characters. ValueError if the check character is another."""
    code = text.lower().replace("-", "").replace(" ", "").replace("o", "0").replace("i", "1").replace("l", "1")
    check = ALPHABET[digest(b"covey code check 1\0" + code[:-1].encode())[0] % 32]
    if len(code) != 12 or code[-1] != check:
        raise ValueError("not a code")
    return code


def code_keys(code: str) -> tuple[bytes, bytes]:
    """The key of mac1, and the psk."""
    salt = b"covey one-time code 1"
    secret = hashlib.scrypt(code.encode(), salt=salt, n=1 << 15, r=8, p=3, dklen=32, maxmem=1 << 26)
    return hkdf(b"", secret, b"covey introduction 1 mac1"), hkdf(b"", secret, b"covey introduction 1 psk")


def record_of(me: Me, name: str, now_us: int) -> bytes:
    """Our record [2]: no homes, no tags, no mailbox, good for an hour."""
    body = me.identity + b"\0" + struct.pack(">I", 0) + me.identity + block16(me.delegation) + block16(me.certificate)
    body += b"\0" + bytes((len(name),)) + name.encode() + b"\0" + bytes(32) + b"\0\0"
    return sign(me.operational, b"record", body + struct.pack(">QQ", now_us, now_us + 3600 * 10**6))


class Entering(Noise):
    """The initiator of Noise_XXpsk0_25519_AESGCM_SHA256."""

    def __init__(self, static: X25519PrivateKey, keys: tuple[bytes, bytes], ephemeral: bytes, index: bytes) -> None:
        super().__init__(b"Noise_XXpsk0_25519_AESGCM_SHA256", b"covey introduction 1\0")
        self._static, self._ephemeral = static, X25519PrivateKey.from_private_bytes(ephemeral)
        mac1_key, psk = keys
        self.index, own = index, public(self._ephemeral)
        self.mix_psk(psk)
        self.mix_ephemeral(own)
        greeting = bytes((GREETING, 1, 0, 0)) + index + own + self.seal(bytes(1072))
        self.greeting = greeting + mac(mac1_key, greeting)[:16]

    def read_reply(self, reply: bytes) -> tuple[bytes, bytes]:
        """The other side's record, and the transport key it proved to hold. InvalidTag without the code."""
        self._peer_index, self._theirs = reply[4:8], reply[12:44]
        self.mix_ephemeral(self._theirs)
        self.mix_dh(self._ephemeral, self._theirs)
        static = self.open(reply[44:92])
        self.mix_dh(self._ephemeral, static)
        record, _ = take16(self.open(reply[92:]), 0)
        return record, static

    def proof(self, record: bytes) -> bytes:
        static = self.seal(public(self._static))
        self.mix_dh(self._static, self._theirs)
        return bytes((PROOF, 1, 0, 0)) + self._peer_index + static + self.seal(block16(record).ljust(1002, b"\0"))

    def confirmed(self, confirmation: bytes) -> None:
        """InvalidTag if it is not the other side's."""
        AESGCM(self.split()[1]).decrypt(bytes(12), confirmation[8:], confirmation[:8])


def enter(sock: socket.socket, me: Me, record: bytes, code: str) -> tuple[bytes, bytes]:
    """Meets whoever opened the window: their identity and transport key, to shake hands with.

    TimeoutError if nobody answers. That the record is theirs shows in the handshake, as with any other.
    """
    entering = Entering(me.transport, code_keys(read_code(code)), os.urandom(32), os.urandom(4))
    expected = bytes((REPLY, 1, 0, 0))
    reply = ask(sock, b"", lambda _: entering.greeting, lambda each: each[:4] + each[8:12] == expected + entering.index)
    theirs, static = entering.read_reply(reply)
    proof, confirmation = entering.proof(record), bytes((CONFIRMATION, 1, 0, 0)) + entering.index
    entering.confirmed(ask(sock, b"", lambda _: proof, lambda each: each[:8] == confirmation))
    identity, (_, at) = theirs[:32], take16(theirs, 69)
    certificate, _ = take16(theirs, at)
    if certificate[:64] != identity + static or not lives(certificate, 64, time.time_ns() // 1000):
        raise Refused("a record whose certificate is for another key, or does not live")
    return identity, static
