"""What the crypto layer costs on this machine: best of several runs, per call, one thread.

    PYTHONPATH=src python benchmarks/crypto_micro.py [--json]

`bare` rows are the library's AEAD with a nonce made beforehand: the difference is what Covey's Python adds.
"""

from __future__ import annotations

import json
import os
import sys
import timeit
from collections.abc import Callable

from covey.core.limits import TRAIN_BYTES
from covey.core.trains import TrainOpener, TrainSealer, numbers, run_length
from covey.crypto.certificates import verify_chain
from covey.crypto.credentials import Credentials
from covey.crypto.events import KeyLog
from covey.crypto.kdf import hkdf
from covey.crypto.keys import SigningKey, TransportKey, verify
from covey.crypto.mac import mac1, mac1_key
from covey.crypto.noise import NO_PSK, HandshakeState
from covey.crypto.packet import NONCE, TAG_SIZE, PacketKey
from covey.crypto.ratchet import accept_answer, answer_offer, chain_0, epoch_keys, make_offer, next_chain
from covey.crypto.record import Record
from covey.crypto.safety import safety_half
from covey.wire import frames
from covey.wire.datagram import PACKET, PACKET_OVERHEAD

NOW_US = 1_800_000_000_000_000
HOUR_US = 3_600_000_000


def best_ns(call: Callable[[], object], number: int) -> float:
    """Nanoseconds per call: the fastest of seven runs, which is the one least disturbed by other programs."""
    return min(timeit.repeat(call, number=number, repeat=7)) / number * 1e9


def packet_rows(size: int) -> dict[str, float]:
    key = PacketKey(os.urandom(32))
    header, plain = os.urandom(16), os.urandom(size)
    sealed, opened = bytearray(size + TAG_SIZE), bytearray(size)
    key.seal_into(0, 7, header, plain, sealed)
    nonce = NONCE.pack(0, 7)
    seal, unseal = key.aead.encrypt_into, key.aead.decrypt_into
    rows: dict[str, Callable[[], object]] = {
        "bare seal": lambda: seal(nonce, plain, header, sealed),
        "seal_into": lambda: key.seal_into(0, 7, header, plain, sealed),
        "bare open": lambda: unseal(nonce, sealed, header, opened),
        "open_into": lambda: key.open_into(0, 7, header, sealed, opened),
        "open": lambda: key.open(0, 7, header, sealed),
    }
    return {f"{name}, {size} B": best_ns(call, 20_000) for name, call in rows.items()}


def train_rows(segment: int) -> dict[str, float]:
    """Per datagram of a full train of bulk traffic: headers, frame heads, copies and AEAD."""
    key = PacketKey(os.urandom(32))
    count = TRAIN_BYTES // segment
    chunk = segment - PACKET_OVERHEAD - frames.STREAM_HEAD.size
    out, train = memoryview(bytearray(65_536)), memoryview(bytearray(count * segment))
    header, frame = PACKET << 56 | 7, frames.STREAM << 120 | chunk
    data = [memoryview(os.urandom(count * chunk))]
    sealer, opener = TrainSealer(bytearray(65_536)), TrainOpener()

    def seal() -> None:
        sealer.seal(key.aead.encrypt_into, out, 0, count, segment, 0, header, 1000, frame, data)

    def unseal() -> None:
        run_length(numbers(count, segment).unpack_from(train), 0, 1)
        assert opener.open(key.aead.decrypt_into, train, count, segment, 0, header, 1000) == count
        opener.data(0, run_length(opener.heads, 0, chunk << 16))

    seal()
    train[:] = out[: len(train)]
    return {
        f"{name}, train of {segment} B datagrams": best_ns(call, 500) / count
        for name, call in (("seal", seal), ("open", unseal))
    }


def handshake_rows() -> dict[str, float]:
    static_i, static_r = TransportKey(os.urandom(32)), TransportKey(os.urandom(32))
    payload, prologue = bytes(500), b"covey 1\0" + bytes(32)

    def initiator() -> HandshakeState:
        ephemeral = TransportKey(os.urandom(32))
        return HandshakeState("IKpsk2", True, prologue, static_i, ephemeral, static_r.public, NO_PSK)

    message_1 = initiator().write_message(payload)

    def responder() -> tuple[bytes, bytes]:
        state = HandshakeState("IKpsk2", False, prologue, static_r, TransportKey(os.urandom(32)), psk=NO_PSK)
        state.read_message(message_1)
        state.write_message(payload)
        return state.split()

    secret, offer = make_offer(os.urandom(64), os.urandom(32), 1)
    answer, dh, ss = answer_offer(offer, os.urandom(32))
    chain = chain_0(bytes(32))

    def ratchet_responder() -> object:
        body, dh, ss = answer_offer(offer, os.urandom(32))
        return epoch_keys(next_chain(chain, dh, ss, bytes(32), 1, offer, body))

    return {
        "Noise IKpsk2, initiator's message 1": best_ns(lambda: initiator().write_message(payload), 300),
        "Noise IKpsk2, all of the responder": best_ns(responder, 300),
        "ratchet, make_offer": best_ns(lambda: make_offer(os.urandom(64), os.urandom(32), 1), 300),
        "ratchet, all of the responder": best_ns(ratchet_responder, 300),
        "ratchet, accept_answer": best_ns(lambda: accept_answer(secret, answer), 300),
        "ratchet, next_chain": best_ns(lambda: next_chain(chain, dh, ss, bytes(32), 1, offer, answer), 3000),
    }


def identity_rows() -> dict[str, float]:
    mine, _ = Credentials.create(os.urandom, NOW_US)
    log, delegation, certificate = mine.log, mine.delegation, mine.current.certificate
    record = Record.make(
        mine.operational, log, delegation, certificate,
        address_nonce=0, sequence=NOW_US, expires_us=NOW_US + HOUR_US, name="azure-processor",
    )  # fmt: skip
    key, body = SigningKey(bytes(32)), bytes(100)
    signature = key.sign("record", body)
    tag_key = mac1_key(bytes(32))
    return {
        "Ed25519 sign": best_ns(lambda: key.sign("record", body), 1000),
        "Ed25519 verify": best_ns(lambda: verify(key.public, "record", body, signature), 1000),
        "KeyLog.parse, one event": best_ns(lambda: KeyLog.parse(log.raw), 300),
        "verify_chain": best_ns(lambda: verify_chain(log, delegation, certificate, NOW_US), 300),
        "Record.parse": best_ns(lambda: Record.parse(record.raw), 1000),
        "Record.verify": best_ns(lambda: record.verify(log, NOW_US), 300),
        "mac1 over 700 bytes": best_ns(lambda: mac1(tag_key, bytes(700)), 10_000),
        "HKDF to 64 bytes": best_ns(lambda: hkdf(bytes(32), bytes(32), size=64), 10_000),
        "safety_half, not cached": best_ns(lambda: safety_half.__wrapped__(bytes(32)), 5),
    }


def main() -> None:
    packets = packet_rows(64) | packet_rows(1400) | train_rows(1472) | train_rows(8972)
    rows = packets | handshake_rows() | identity_rows()
    if "--json" in sys.argv:
        print(json.dumps({name: round(value) for name, value in rows.items()}, indent=1))
        return
    for name, value in rows.items():
        print(f"{name:<40} {value:>12,.0f} ns")


if __name__ == "__main__":
    main()
