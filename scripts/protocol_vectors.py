"""Writes `tests/vectors/protocol.json`: one session of two agents, datagram by datagram, with every secret.

    PYTHONPATH=src python scripts/protocol_vectors.py > new.json && mv new.json tests/vectors/protocol.json

For other implementations; `docs/protocol.md`, section 16, shows the beginning. Deterministic: keys are
drawn from a counter, time is virtual, and the one thing the library draws itself, the ML-KEM encapsulation,
is the one that `tests/vectors/covey.json` holds; what it draws for the sealed letter is the one in the file itself, as
long as that fits. How frames are packed into packets is our choice; what is
inside them is not.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from covey.base.types import Endpoint as Address
from covey.core.endpoint import Endpoint
from covey.core.events import StreamOffered, StreamReadable
from covey.core.handshake import NO_PSK, PATTERN, Target, prologue
from covey.core.path import Route
from covey.core.session import Session
from covey.crypto.credentials import Credentials
from covey.crypto.keys import TransportKey
from covey.crypto.mailbox import MAIL_LIFE_US, SEED_SIZE, MailboxKeys, xwing_private
from covey.crypto.noise import HandshakeState
from covey.crypto.ratchet import accept_answer, chain_0, epoch_keys, make_offer, next_chain
from covey.crypto.seal import ENCAPSULATED_SIZE, encrypt, open_sealed, seal
from covey.wire import control, frames
from covey.wire.datagram import HEADER, HEADER_SIZE, INITIATION, PACKET, RESPONSE, Initiation, Response
from covey.wire.trust import LETTER_KIND, TrustLetter

WALL_US: Final = 1_800_000_000_000_000
KEM_SEED_SIZE: Final = 64
FIXED: Final = json.loads((Path(__file__).parent.parent / "tests/vectors/covey.json").read_text())["session"]
FILE: Final = Path(__file__).parent.parent / "tests/vectors/protocol.json"
SERVICE: Final = "echo"


def drawn(name: str) -> Callable[[int], bytes]:
    """Random bytes that anybody can make again. The one draw of 64 bytes, the offer's seed, is fixed."""
    numbers = count()

    def random(size: int) -> bytes:
        if size == KEM_SEED_SIZE:
            return bytes.fromhex(FIXED["offer_seed"])
        block = hashlib.sha256(f"{name} {next(numbers)}".encode()).digest()
        return block[:size]

    return random


def encapsulated(public: bytes) -> tuple[bytes, bytes]:
    """The shared secret and ciphertext that `covey.json` holds for its own encapsulation key."""
    assert public == bytes.fromhex(FIXED["offer"])[8:-32]
    return bytes.fromhex(FIXED["ss"]), bytes.fromhex(FIXED["answer"])[8:-32]


class Side:
    """One endpoint at one address, and what it drew."""

    def __init__(self, name: str, address: Address, now: Callable[[], float]) -> None:
        self.name = name
        self.address = address
        self.random = drawn(name)
        self.draws: list[bytes] = []
        self.credentials, self.roots = Credentials.create(self._draw, WALL_US)
        self.endpoint = Endpoint(
            self.credentials,
            wall=lambda: WALL_US + int(now() * 1e6),
            random=self._draw,
            encapsulate=encapsulated,
        )
        self.endpoint.set_ports([(0, 4)])

    def _draw(self, size: int) -> bytes:
        value = self.random(size)
        self.draws.append(value)
        return value

    def keys(self) -> dict[str, Any]:
        return {
            "identity": self.credentials.identity.hex(),
            "root_seed": self.roots.root.seed.hex(),
            "next_root_seed": self.roots.next_root.seed.hex(),
            "operational_seed": self.credentials.operational.seed.hex(),
            "transport_private": self.credentials.current.key.private.hex(),
            "transport_public": self.credentials.current.key.public.hex(),
            "log": self.credentials.log.raw.hex(),
            "delegation": self.credentials.delegation.raw.hex(),
            "transport_certificate": self.credentials.current.certificate.raw.hex(),
        }

    def private_of(self, public: bytes) -> bytes:
        """The drawn X25519 private key that belongs to a public one."""
        return next(each for each in self.draws if len(each) == 32 and TransportKey(each).public == public)


class Recorder:
    """Moves datagrams between two sides and keeps them, opened."""

    def __init__(self) -> None:
        self.now = 0.0
        self.initiator = Side("initiator", ("192.0.2.1", 4040), lambda: self.now)
        self.responder = Side("responder", ("192.0.2.2", 4040), lambda: self.now)
        self.datagrams: list[dict[str, Any]] = []
        self.handshake: dict[str, str] = {}
        self.crypto = {"initiator": b"", "responder": b""}
        """The CRYPTO streams; nothing is lost here, so their frames come in order."""
        self._out = memoryview(bytearray(65_536))

    def run(self, until: Callable[[], bool]) -> None:
        """Time goes on in steps of a millisecond: one way of the network."""
        for _ in range(10_000):
            if until():
                return
            self.now += 0.001
            for side, other in ((self.initiator, self.responder), (self.responder, self.initiator)):
                deadline = side.endpoint.deadline()
                if deadline is not None and deadline <= self.now:
                    side.endpoint.expire(self.now)
                self._dispatch(side)
                while (train := side.endpoint.transmit(self.now, self._out)) is not None:
                    for start in range(0, train.size, train.segment):
                        datagram = bytes(self._out[start : min(start + train.segment, train.size)])
                        self._keep(side, other, datagram)
                        other.endpoint.receive(
                            self.now, memoryview(bytearray(datagram)), len(datagram), 0, side.address
                        )
        raise AssertionError("the session does not come to its end")

    def payload_of(self, initiation: bytes) -> bytes:
        """The payload of message 1, as the responder reads it."""
        own = self.responder.credentials
        state = HandshakeState(
            PATTERN,
            False,
            prologue(own.identity),
            own.current.key,
            TransportKey(bytes(31) + b"\1"),
            None,
            NO_PSK,
        )
        return state.read_message(Initiation.parse(initiation).noise)

    def _dispatch(self, side: Side) -> None:
        for event in side.endpoint.events():
            if isinstance(event, StreamOffered | StreamReadable) and side is self.responder:
                data = event.stream.read()
                if data:
                    event.stream.write(data)
                if event.stream.at_end:
                    event.stream.finish()

    def _keep(self, sender: Side, receiver: Side, raw: bytes) -> None:
        entry: dict[str, Any] = {"from": sender.name, "bytes": raw.hex()}
        if raw[0] == INITIATION:
            ephemeral = Initiation.parse(raw).noise[:32]
            self.handshake["initiator_ephemeral_private"] = sender.private_of(ephemeral).hex()
            entry["name"] = "INITIATION"
        elif raw[0] == RESPONSE:
            ephemeral = Response.parse(raw).noise[:32]
            self.handshake["responder_ephemeral_private"] = sender.private_of(ephemeral).hex()
            entry["name"] = "RESPONSE"
        elif raw[0] == PACKET:
            entry |= self._opened(sender, receiver, raw)
        self.datagrams.append(entry)

    def _opened(self, sender: Side, receiver: Side, raw: bytes) -> dict[str, Any]:
        _, path, epoch, index, counter = HEADER.unpack_from(raw)
        # The keys are what a vector is about. The receiver of the first packet has no session yet, the sender of the
        # last one has none any more.
        session: Session | None = receiver.endpoint._sessions.get(index)
        if session is None:
            (session,) = (each for each in sender.endpoint._sessions.values() if each.peer_index == index)
            assert session.epochs.wire_epoch == epoch
            key = session.epochs.key
        else:
            key = session.epochs.receiving[epoch]
        plain = key.open(path, counter, raw[:HEADER_SIZE], raw[HEADER_SIZE:])
        opened = list(frames.parse_frames(plain))
        for frame in opened:
            if isinstance(frame, frames.CryptoFrame):
                self.crypto[sender.name] += bytes(frame.data)
        return {
            "name": "PACKET",
            "path": path,
            "epoch": epoch,
            "counter": counter,
            "frames": [_frame(frame) for frame in opened],
            "plain": plain.hex(),
        }


def _frame(frame: frames.Frame) -> str:
    """A frame in words; the bytes are in `plain`."""
    match frame:
        case frames.AckFrame(path=path, delay=delay, ranges=ranges):
            return f"ACK path {path} delay {delay} ranges {ranges}"
        case frames.CryptoFrame(offset=offset, data=data):
            return f"CRYPTO offset {offset} length {len(data)}"
        case frames.StreamFrame(stream=stream, offset=offset, data=data, fin=fin):
            return f"STREAM {stream} offset {offset} length {len(data)}{' FIN' if fin else ''}"
        case frames.CloseFrame(code=code, reason=reason):
            return f"CLOSE {code} {reason!r}"
        case _:
            return type(frame).__name__.removesuffix("Frame").upper()


def _key_schedule(recorder: Recorder) -> dict[str, str]:
    """Every step from the two Noise messages to the keys of epoch 1, computed once more."""
    initiator, responder = recorder.initiator, recorder.responder
    ephemeral = bytes.fromhex(recorder.handshake["initiator_ephemeral_private"])
    state = HandshakeState(
        PATTERN,
        True,
        prologue(responder.credentials.identity),
        initiator.credentials.current.key,
        TransportKey(ephemeral),
        responder.credentials.current.key.public,
        NO_PSK,
    )
    first, second = (bytes.fromhex(each["bytes"]) for each in recorder.datagrams[:2])
    payload = recorder.payload_of(first)
    assert state.write_message(payload) == Initiation.parse(first).noise
    state.read_message(Response.parse(second).noise)
    split = state.split()
    offer = _control_body(recorder.crypto[initiator.name], control.OFFER)
    answer = _control_body(recorder.crypto[responder.name], control.ANSWER)
    exchange = initiator.private_of(offer[-32:])
    secret, again = make_offer(bytes.fromhex(FIXED["offer_seed"]), exchange, 1)
    assert again == offer
    dh, ss = accept_answer(secret, answer)
    before = chain_0(state.chaining_key)
    after = next_chain(before, dh, ss, state.handshake_hash, 1, offer, answer)
    keys = epoch_keys(after)
    values = {
        "payload_1": payload,
        "handshake_hash": state.handshake_hash,
        "chaining_key": state.chaining_key,
        "epoch_0_initiator": split[0],
        "epoch_0_responder": split[1],
        "offer_kem_seed": bytes.fromhex(FIXED["offer_seed"]),
        "offer_x25519_private": exchange,
        "offer": offer,
        "answer": answer,
        "dh": dh,
        "ss": ss,
        "chain_0": before,
        "chain_1": after,
        "epoch_1_initiator": keys[0],
        "epoch_1_responder": keys[1],
    }
    return {name: value.hex() for name, value in values.items()}


def _control_body(stream: bytes, wanted: int) -> bytes:
    """The body of the first message of this type in a CRYPTO stream."""
    return next(body for kind, body in control.ControlReader().feed(stream) if kind == wanted)


def _sealed_letter(sender: Side, recipient: Side) -> dict[str, Any]:
    """A trust request as a sealed letter. What the library draws for HPKE is kept from the file as it is."""
    keys = MailboxKeys().rotated(recipient.credentials, drawn("mailbox")(SEED_SIZE), WALL_US)
    key, identity = keys.current, recipient.credentials.identity
    expires_us = WALL_US + MAIL_LIFE_US
    seen: dict[str, bytes] = {}

    def recorded(public: bytes, info: bytes, plaintext: bytes) -> bytes:
        seen.update(info=info, plaintext=plaintext)
        kept = (
            bytes.fromhex(json.loads(FILE.read_text()).get("letter", {}).get("encrypted", "")) if FILE.exists() else b""
        )
        return kept if _opens(kept, keys, info, plaintext) else encrypt(public, info, plaintext)

    body = TrustLetter("request", "initiator", "the weekly report", 0).encode()
    sealed = seal(
        sender.credentials,
        key,
        expires_us=expires_us,
        incarnation=1,
        number=WALL_US,
        kind=LETTER_KIND,
        body=body,
        encrypt=recorded,
    )
    letter = open_sealed(sealed, identity, keys, WALL_US)
    letter.verify(sender.credentials.log, WALL_US)
    return {
        "from": sender.name,
        "to": recipient.name,
        "mailbox_seed": keys.pairs[0].seed.hex(),
        "mailbox_key": key.raw.hex(),
        "mailbox_key_id": key.id.hex(),
        "expires_us": expires_us,
        "incarnation": letter.incarnation,
        "number": letter.number,
        "kind": letter.kind,
        "body": body.hex(),
        "signed": letter.signed.hex(),
        "signature": letter.signature.hex(),
        "info": seen["info"].hex(),
        "plaintext": seen["plaintext"].hex(),
        "encrypted": sealed[-(len(seen["plaintext"]) + 16 + ENCAPSULATED_SIZE) :].hex(),
        "sealed": sealed.hex(),
    }


def _opens(kept: bytes, keys: MailboxKeys, info: bytes, plaintext: bytes) -> bool:
    try:
        suite = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
        return suite.decrypt(kept, xwing_private(keys.pairs[0].seed), info) == plaintext
    except (InvalidTag, ValueError):
        return False


def transcript() -> dict[str, Any]:
    """The whole file."""
    recorder = Recorder()
    initiator, responder = recorder.initiator, recorder.responder
    target = Target(responder.credentials.identity, responder.credentials.current.key.public)
    connection = initiator.endpoint.connect(0.0, target, [Route(0, responder.address)])
    stream = connection.open(SERVICE)
    stream.write(b"hello")
    stream.finish()
    recorder.run(lambda: stream.incoming.available == len(b"hello"))
    assert stream.read() == b"hello"
    initiator.endpoint.close(recorder.now, connection)
    recorder.run(lambda: not initiator.endpoint.connections and not responder.endpoint.connections)
    return {
        "source": "Covey: scripts/protocol_vectors.py",
        "wall_us": WALL_US,
        "initiator": initiator.keys(),
        "responder": responder.keys(),
        "handshake": recorder.handshake,
        "keys": _key_schedule(recorder),
        "datagrams": recorder.datagrams,
        "letter": _sealed_letter(initiator, responder),
    }


if __name__ == "__main__":
    json.dump(transcript(), sys.stdout, indent=1)
    sys.stdout.write("\n")
