"""Every cacophony vector, both roles; then what a handshake refuses and what is left of it afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.errors import CryptoError, ParseError, StateError
from covey.crypto.keys import TransportKey
from covey.crypto.noise import MESSAGE_LIMIT, NO_PSK, PATTERNS, CipherState, HandshakeState

FILE = Path(__file__).parent.parent / "vectors" / "noise.json"
VECTORS: dict[str, dict[str, Any]] = {
    vector["protocol_name"]: vector for vector in json.loads(FILE.read_text())["vectors"]
}

PROLOGUE = b"covey 1\0" + bytes(32)
STATIC = {True: TransportKey(b"\1" * 32), False: TransportKey(b"\2" * 32)}
EPHEMERAL = {True: TransportKey(b"\3" * 32), False: TransportKey(b"\4" * 32)}


def from_vector(vector: dict[str, Any], initiator: bool) -> HandshakeState:
    side = "init" if initiator else "resp"

    def field(name: str) -> bytes | None:
        return bytes.fromhex(vector[f"{side}_{name}"]) if f"{side}_{name}" in vector else None

    static, ephemeral, prologue = field("static"), field("ephemeral"), field("prologue")
    assert static is not None
    assert ephemeral is not None
    assert prologue is not None
    psks = vector.get(f"{side}_psks", [])
    return HandshakeState(
        vector["protocol_name"].split("_")[1],
        initiator,
        prologue,
        TransportKey(static),
        TransportKey(ephemeral),
        field("remote_static"),
        bytes.fromhex(psks[0]) if psks else None,
    )


def side(pattern: str, initiator: bool, *, prologue: bytes = PROLOGUE, psk: bytes | None = NO_PSK) -> HandshakeState:
    remote = STATIC[False].public if initiator and PATTERNS[pattern].initiator_knows_responder else None
    return HandshakeState(
        pattern,
        initiator,
        prologue,
        STATIC[initiator],
        EPHEMERAL[initiator],
        remote,
        psk if PATTERNS[pattern].psk else None,
    )


def run(initiator: HandshakeState, responder: HandshakeState) -> None:
    pair = [initiator, responder]
    while not (initiator.finished and responder.finished):
        pair[1].read_message(pair[0].write_message(b"payload"))
        pair.reverse()


def test_vectors_name_their_source() -> None:
    assert json.loads(FILE.read_text())["source"].startswith("cacophony test vectors")
    assert len(VECTORS) == 3


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("initiator", [True, False], ids=["initiator", "responder"])
def test_handshake_reproduces_vector(name: str, initiator: bool) -> None:
    vector = VECTORS[name]
    state = from_vector(vector, initiator)
    ciphers: list[CipherState] = []
    for number, message in enumerate(vector["messages"]):
        payload, wire = bytes.fromhex(message["payload"]), bytes.fromhex(message["ciphertext"])
        ours = (number % 2 == 0) == initiator
        if not state.finished:
            got = state.write_message(payload) if ours else state.read_message(wire)
        else:
            ciphers = ciphers or [CipherState(key) for key in state.split()]
            cipher = ciphers[number % 2]
            got = cipher.encrypt(b"", payload) if ours else cipher.decrypt(b"", wire)
        assert got == (wire if ours else payload)
    assert ciphers, "the vector has transport messages"
    assert state.handshake_hash.hex() == vector["handshake_hash"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_both_sides_agree_on_everything(pattern: str) -> None:
    initiator, responder = side(pattern, True), side(pattern, False)
    run(initiator, responder)
    assert initiator.split() == responder.split()
    assert initiator.handshake_hash == responder.handshake_hash
    assert initiator.chaining_key == responder.chaining_key
    assert initiator.remote_static == STATIC[False].public
    assert responder.remote_static == STATIC[True].public
    assert responder.remote_ephemeral == EPHEMERAL[True].public
    assert len({*initiator.split(), initiator.chaining_key, initiator.handshake_hash}) == 4


def test_psk_may_be_set_between_the_messages() -> None:
    psk = b"\7" * 32
    initiator, responder = side("IKpsk2", True, psk=psk), side("IKpsk2", False, psk=None)
    responder.read_message(initiator.write_message(b"one"))
    responder.set_psk(psk)
    assert initiator.read_message(responder.write_message(b"two")) == b"two"


def test_responder_without_psk_cannot_answer() -> None:
    initiator, responder = side("IKpsk2", True), side("IKpsk2", False, psk=None)
    responder.read_message(initiator.write_message())
    with pytest.raises(StateError):
        responder.write_message()


def test_message_1_of_another_prologue_does_not_open() -> None:
    wire = side("IKpsk2", True, prologue=b"covey 1\0" + b"\1" * 32).write_message(b"hello")
    with pytest.raises(CryptoError):
        side("IKpsk2", False).read_message(wire)


def test_message_2_of_another_psk_does_not_open() -> None:
    initiator, responder = side("IKpsk2", True, psk=b"\7" * 32), side("IKpsk2", False)
    responder.read_message(initiator.write_message())
    with pytest.raises(CryptoError):
        initiator.read_message(responder.write_message())


def test_low_order_ephemeral_is_refused() -> None:
    wire = side("IKpsk2", True).write_message(b"hello")
    with pytest.raises(CryptoError):
        side("IKpsk2", False).read_message(bytes(32) + wire[32:])


@pytest.mark.parametrize("size", [0, 1, 31, 32, 79, 80, 95])
def test_message_1_cut_short_is_a_parse_error(size: int) -> None:
    wire = side("IKpsk2", True).write_message()
    assert len(wire) == 32 + 48 + 16
    with pytest.raises(ParseError):
        side("IKpsk2", False).read_message(wire[:size])


def test_message_over_the_limit_is_refused() -> None:
    with pytest.raises(ParseError):
        side("IKpsk2", False).read_message(bytes(MESSAGE_LIMIT + 1))
    with pytest.raises(ValueError, match="too long"):
        side("IKpsk2", True).write_message(bytes(MESSAGE_LIMIT))


@given(st.data())
def test_read_message_raises_only_its_errors(data: st.DataObject) -> None:
    wire = bytearray(side("IKpsk2", True).write_message(b"hello"))
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] ^= data.draw(st.integers(1, 255))
    wire = wire[: data.draw(st.integers(0, len(wire)))] if data.draw(st.booleans()) else wire
    state = side("IKpsk2", False)
    try:
        state.read_message(wire)
    except (CryptoError, ParseError):
        with pytest.raises(StateError):
            state.read_message(wire)
    else:
        # Two flips at one place undid each other, or only the top bit of the ephemeral changed, which X25519
        # ignores (RFC 7748, section 5) but the hash does not: so it must be the original.
        assert bytes(wire) == side("IKpsk2", True).write_message(b"hello")


def test_state_is_unusable_after_an_error_but_its_copy_is_not() -> None:
    initiator, responder = side("IKpsk2", True), side("IKpsk2", False)
    responder.read_message(initiator.write_message())
    answer = responder.write_message(b"answer")
    forged = answer[:-1] + bytes([answer[-1] ^ 1])
    attempt = initiator.copy()
    with pytest.raises(CryptoError):
        attempt.read_message(forged)
    with pytest.raises(StateError):
        attempt.read_message(answer)
    assert initiator.read_message(answer) == b"answer"
    assert initiator.split() == responder.split()


def test_calls_out_of_turn_are_state_errors() -> None:
    initiator, responder = side("IKpsk2", True), side("IKpsk2", False)
    with pytest.raises(StateError):
        responder.write_message()
    with pytest.raises(StateError):
        initiator.read_message(bytes(96))
    with pytest.raises(StateError):
        initiator.split()
    with pytest.raises(StateError):
        _ = initiator.chaining_key
    run(initiator, responder)  # a call out of turn harms nothing
    with pytest.raises(StateError):
        initiator.write_message()
    with pytest.raises(StateError):
        responder.read_message(b"")


def test_ik_needs_its_keys() -> None:
    with pytest.raises(ValueError, match="static key"):
        HandshakeState("IK", True, PROLOGUE, STATIC[True], EPHEMERAL[True])
    with pytest.raises(StateError):
        HandshakeState("IK", False, PROLOGUE, None, EPHEMERAL[False])
    with pytest.raises(ValueError, match="psk"):
        side("IKpsk2", True).set_psk(bytes(31))


def test_cipher_state_counts_and_stays_on_failure() -> None:
    sender, receiver = CipherState(bytes(32)), CipherState(bytes(32))
    first, second = sender.encrypt(b"ad", b"first"), sender.encrypt(b"ad", b"second")
    with pytest.raises(CryptoError):
        receiver.decrypt(b"ad", second)
    assert receiver.decrypt(b"ad", first) == b"first"
    assert receiver.decrypt(b"ad", second) == b"second"
    assert (sender.nonce, receiver.nonce) == (2, 2)


def test_cipher_state_ends_before_the_reserved_nonce() -> None:
    cipher = CipherState(bytes(32))
    cipher.nonce = 2**64 - 1  # reserved for REKEY (section 4.2)
    with pytest.raises(StateError):
        cipher.encrypt(b"", b"")


def test_cipher_state_without_a_key_passes_through() -> None:
    cipher = CipherState()
    assert not cipher.has_key
    assert cipher.encrypt(b"ad", b"plain") == b"plain" == cipher.decrypt(b"ad", b"plain")
