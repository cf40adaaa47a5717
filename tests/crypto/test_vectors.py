"""Our own vectors, for other implementations: `tests/vectors/covey.json` is what this code computes.

A change of that file is a change of the protocol. After one that was meant::

    PYTHONPATH=src python tests/crypto/test_vectors.py > tests/vectors/covey.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from covey.base.types import Identity
from covey.crypto.address import address
from covey.crypto.certificates import (
    DELEGATION_LIFE_US,
    TRANSPORT_LIFE_US,
    Delegation,
    TransportCertificate,
    verify_chain,
)
from covey.crypto.cookie import cookie_key, mac2, seal_cookie
from covey.crypto.events import KeyLog, commitment, incept, revoke, rotate
from covey.crypto.keys import SigningKey, TransportKey
from covey.crypto.mac import mac1, mac1_key, psk_tag
from covey.crypto.noise import CipherState, HandshakeState
from covey.crypto.one_time_code import derive_code_keys, make_code, parse_code
from covey.crypto.packet import PacketKey
from covey.crypto.ratchet import accept_answer, chain_0, epoch_keys, make_offer, next_chain
from covey.crypto.record import Home, Record
from covey.crypto.safety import safety_number
from covey.wire.introduction import GREETING_PAYLOAD, Confirmation, Greeting, Proof, Reply, encode_record

FILE = Path(__file__).parent.parent / "vectors" / "covey.json"
NOW = 1_800_000_000_000_000


def _identity() -> tuple[dict[str, Any], KeyLog, SigningKey]:
    roots = [SigningKey(bytes([number]) * 32) for number in (1, 2, 3)]
    log = incept(roots[0], commitment(roots[1].public))
    rotated = rotate(log, roots[1], commitment(roots[2].public))
    values = {
        "root_seeds": [root.seed.hex() for root in roots],
        "root_publics": [root.public.hex() for root in roots],
        "commitments": [commitment(root.public).hex() for root in roots[1:]],
        "identity": log.identity.hex(),
        "addresses": [{"nonce": nonce, "address": address(log.identity, nonce).hex()} for nonce in (0, 1, 255)],
        "log_incept": log.raw.hex(),
        "log_incept_rotate": rotated.raw.hex(),
        "log_incept_rotate_head": rotated.head.hex(),
        "log_incept_rotate_revoke": revoke(rotated, roots[1]).raw.hex(),
        "safety_number_with_32_zero_bytes": safety_number(log.identity, bytes(32)),
    }
    return values, rotated, roots[1]


def _signed(log: KeyLog, root: SigningKey) -> dict[str, Any]:
    operational, transport = SigningKey(b"\4" * 32), TransportKey(b"\5" * 32)
    delegation = Delegation.make(root, log.head, 7, operational.public, NOW, NOW + DELEGATION_LIFE_US)
    certificate = TransportCertificate.make(operational, log.identity, transport.public, NOW, NOW + TRANSPORT_LIFE_US)
    home = Home(Identity(b"\6" * 32), ("192.0.2.1:4040", "[2001:db8::1]:4040"))
    record = Record.make(
        operational, log, delegation, certificate,
        address_nonce=1, sequence=NOW, expires_us=NOW + 3_600_000_000, homes=[home], name="azure-processor",
        tags=["gpu", "cloud=azure"], mailbox_key_digest=b"\7" * 32, flags=1, nat_class=2,
    )  # fmt: skip
    verify_chain(log, delegation, certificate, NOW)
    record.verify(log, NOW)
    return {
        "now_us": NOW,
        "operational_seed": operational.seed.hex(),
        "transport_private": transport.private.hex(),
        "transport_public": transport.public.hex(),
        "delegation": delegation.raw.hex(),
        "transport_certificate": certificate.raw.hex(),
        "record": record.raw.hex(),
    }


def _session() -> dict[str, Any]:
    chaining_key, handshake_hash, public = b"\x10" * 32, b"\x11" * 32, b"\x12" * 32
    secret, offer = make_offer(bytes(range(64)), b"\x13" * 32, 1)
    # Nobody made this ciphertext: decapsulation rejects it implicitly (FIPS 203, 6.3), with a fixed result.
    answer = (1).to_bytes(8, "big") + b"\x14" * 1088 + TransportKey(b"\x15" * 32).public
    dh, ss = accept_answer(secret, answer)
    chain = next_chain(chain_0(chaining_key), dh, ss, handshake_hash, 1, offer, answer)
    sealed = bytearray(5 + 16)
    PacketKey(epoch_keys(chain)[0]).seal_into(3, 9, bytes(range(16)), b"hello", sealed)
    return {
        "noise_chaining_key": chaining_key.hex(),
        "handshake_hash": handshake_hash.hex(),
        "offer_seed": bytes(range(64)).hex(),
        "offer_x25519_private": (b"\x13" * 32).hex(),
        "offer": offer.hex(),
        "answer": answer.hex(),
        "dh": dh.hex(),
        "ss": ss.hex(),
        "chain_0": chain_0(chaining_key).hex(),
        "chain_1": chain.hex(),
        "key_initiator_to_responder": epoch_keys(chain)[0].hex(),
        "key_responder_to_initiator": epoch_keys(chain)[1].hex(),
        "packet_path": 3,
        "packet_counter": 9,
        "packet_header": bytes(range(16)).hex(),
        "packet_plain": b"hello".hex(),
        "packet_sealed": sealed.hex(),
        "mac1_public": public.hex(),
        "mac1_key": mac1_key(public).hex(),
        "mac1_of_hello": mac1(mac1_key(public), b"hello").hex(),
        "psk_tag_of_psk_11_and_ephemeral_12": psk_tag(handshake_hash, public).hex(),
    }


def _cookie() -> dict[str, Any]:
    responder, cookie, nonce = b"\x14" * 32, b"\x15" * 16, b"\x16" * 12
    tag = mac1(mac1_key(responder), b"hello")
    return {
        "responder": responder.hex(),
        "cookie_key": cookie_key(responder).hex(),
        "cookie": cookie.hex(),
        "nonce": nonce.hex(),
        "mac1_of_hello": tag.hex(),
        "sealed": seal_cookie(cookie_key(responder), nonce, cookie, tag).hex(),
        "mac2_of_hello_and_mac1": mac2(cookie, b"hello" + tag).hex(),
    }


def _introduction() -> dict[str, Any]:
    random = bytes(range(100, 111))
    code = make_code(random)
    keys = derive_code_keys(parse_code(code))
    private = [bytes([number]) * 32 for number in (0x21, 0x22, 0x23, 0x24)]
    statics, ephemerals = [TransportKey(key) for key in private[:2]], [TransportKey(key) for key in private[2:]]
    enters, window = (
        HandshakeState("XXpsk0", side == 0, b"covey introduction 1\0", statics[side], ephemerals[side], None, keys.psk)
        for side in (0, 1)
    )
    prefix = Greeting.prefix(0x31, enters.write_message(GREETING_PAYLOAD))
    greeting = prefix + mac1(keys.mac1_key, prefix)
    window.read_message(Greeting.parse(greeting).noise)
    reply = Reply(0x32, 0x31, window.write_message(encode_record(b"record of the window's side"))).encode()
    enters.read_message(Reply.parse(reply).noise)
    proof = Proof(0x32, enters.write_message(encode_record(b"record of the other"))).encode()
    head = Confirmation.head(0x31)
    return {
        "code_random": random.hex(),
        "code": code,
        "mac1_key": keys.mac1_key.hex(),
        "psk": keys.psk.hex(),
        "enters_static": private[0].hex(),
        "window_static": private[1].hex(),
        "enters_ephemeral": private[2].hex(),
        "window_ephemeral": private[3].hex(),
        "window_record": b"record of the window's side".hex(),
        "enters_record": b"record of the other".hex(),
        "greeting": greeting.hex(),
        "reply": reply.hex(),
        "proof": proof.hex(),
        "confirmation": (head + CipherState(enters.split()[1]).encrypt(head, b"")).hex(),
    }


def compute() -> dict[str, Any]:
    identity, log, root = _identity()
    return {
        "source": "Covey's own vectors, protocol version 1, computed by tests/crypto/test_vectors.py",
        "identity": identity,
        "signed": _signed(log, root),
        "session": _session(),
        "cookie": _cookie(),
        "introduction": _introduction(),
    }


@pytest.mark.parametrize("part", ["source", "identity", "signed", "session", "cookie", "introduction"])
def test_published_vectors_are_what_we_compute(part: str) -> None:
    assert compute()[part] == json.loads(FILE.read_text())[part]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(compute(), indent=1) + "\n")
