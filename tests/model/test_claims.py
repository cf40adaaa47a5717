"""What `docs/security.md` claims of handshake and ratchet, against every set of stolen secrets there is.

Letters: s is a transport key, e an ephemeral, x and kem the fresh secrets of a ratchet; i is the initiator, r the
responder. An attacker in the place of one of them chose that one's ephemerals: they are given.
"""

from __future__ import annotations

import random

import pytest

from covey.crypto import noise
from covey.crypto.keys import TransportKey
from tests.model.schedule import Term, breaking_sets, schedule

IK = schedule("IKpsk2", psk=False)
ENCLAVE = schedule("IKpsk2", psk=True)
CODE = schedule("XXpsk0", psk=True)
AS_INITIATOR = ("e_i", "x_i1", "kem_i1", "x_i2", "kem_i2")
AS_RESPONDER = ("e_r", "x_r1", "kem_r1", "x_r2", "kem_r2")
STATICS = ("s_i", "s_r")

CLAIMS: dict[str, tuple[Term, tuple[str, ...], bool, set[str]]] = {
    # what: (key, what the attacker has, quantum, the smallest sets that are missing, as words)
    "secrecy of epoch 0": (IK.epochs[0], (), False, {"e_i s_i", "e_r s_r"}),
    "forward secrecy: both transport keys stolen later": (IK.epochs[0], STATICS, False, {"e_i", "e_r"}),
    "message 1 hides its sender from all but the transport key": (IK.payloads[0], (), False, {"s_r", "e_i s_i"}),
    "message 2 hides its sender as epoch 0 does": (IK.payloads[1], (), False, {"e_i s_i", "e_r s_r"}),
    "authentication of the initiator": (IK.epochs[0], AS_INITIATOR, False, {"s_i", "e_r s_r"}),
    "authentication of the responder": (IK.epochs[0], AS_RESPONDER, False, {"s_r", "e_i s_i"}),
    "KCI: the responder's own key, to appear as an initiator": (
        IK.epochs[0],
        (*AS_INITIATOR, "s_r"),
        False,
        {"s_i", "e_r"},
    ),
    "KCI: the initiator's own key, to appear as a responder": (
        IK.epochs[0],
        (*AS_RESPONDER, "s_i"),
        False,
        {"s_r", "e_i"},
    ),
    "quantum recording of epoch 0": (IK.epochs[0], (), True, {""}),
    "quantum recording of epoch 1": (IK.epochs[1], (), True, {"kem_i1", "kem_r1"}),
    "quantum recording of epoch 2 needs both": (
        IK.epochs[2],
        (),
        True,
        {"kem_i1 kem_i2", "kem_i1 kem_r2", "kem_r1 kem_i2", "kem_r1 kem_r2"},
    ),
    "all long-term keys and no ratchet's secrets": (
        IK.epochs[1],
        (*STATICS, "e_i", "e_r"),
        False,
        {"x_i1 kem_i1", "x_i1 kem_r1", "x_r1 kem_i1", "x_r1 kem_r1"},
    ),
    "healing: everything up to chain 1 stolen, who only listens": (
        IK.epochs[2],
        (*STATICS, "chain_1"),
        False,
        {"x_i2 kem_i2", "x_i2 kem_r2", "x_r2 kem_i2", "x_r2 kem_r2"},
    ),
    "no healing: everything up to chain 1 stolen, who takes a side": (
        IK.epochs[2],
        (*AS_INITIATOR, "chain_1"),
        False,
        {""},
    ),
    "the past: a later chain says nothing of an earlier epoch": (
        IK.epochs[0],
        (*STATICS, "chain_1", "chain_2", "keys_1", "keys_2"),
        False,
        {"e_i", "e_r"},
    ),
    "one epoch's keys say nothing of the next": (
        IK.epochs[1],
        (*STATICS, "keys_0"),
        False,
        {f"{e} {x} {kem}" for e in ("e_i", "e_r") for x in ("x_i1", "x_r1") for kem in ("kem_i1", "kem_r1")},
    ),
    "psk as a hedge: a quantum recording of epoch 0": (ENCLAVE.epochs[0], (), True, {"psk"}),
    "psk is no authorisation: the key is needed besides": (
        ENCLAVE.epochs[0],
        (*AS_INITIATOR, "psk"),
        False,
        {"s_i", "e_r s_r"},
    ),
    "introduction: nobody answers without the code": (CODE.payloads[1], (*AS_RESPONDER, "s_r"), False, {"psk"}),
    "introduction: nobody asks without the code": (CODE.epochs[0], (*AS_INITIATOR, "s_i"), False, {"psk"}),
    "introduction: the code alone opens no recording": (
        CODE.epochs[0],
        ("psk",),
        False,
        {"e_i s_i", "e_i e_r", "e_r s_r"},
    ),
    "introduction: a name is told only to who knows the code": (
        CODE.payloads[1],
        (),
        False,
        {"e_i psk", "e_r psk s_r"},
    ),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_claim_holds_against_every_set_of_stolen_secrets(claim: str) -> None:
    target, given, quantum, expected = CLAIMS[claim]
    assert breaking_sets(target, given=given, quantum=quantum) == {frozenset(words.split()) for words in expected}


@pytest.mark.parametrize("pattern", ["IKpsk2", "XXpsk0"])
def test_code_mixes_what_the_model_says(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real handshake, whose every mixed secret is recognised: the model's order, nothing left out, nothing more."""
    source = random.Random(1)
    keys = {name: TransportKey(source.randbytes(32)) for name in ("s_i", "s_r", "e_i", "e_r")}
    psk = source.randbytes(32)
    names = {psk: "psk"} | {key.public: "public" for key in keys.values()}
    for token, (ours, theirs) in {
        "ee": ("e_i", "e_r"),
        "es": ("e_i", "s_r"),
        "se": ("s_i", "e_r"),
        "ss": STATICS,
    }.items():
        names[keys[ours].exchange(keys[theirs].public)] = token
    mixed: list[str] = []
    for method in ("mix_key", "mix_key_and_hash"):
        real = getattr(noise.SymmetricState, method)

        def noted(self: noise.SymmetricState, material: bytes, real: object = real) -> None:
            mixed.append(names[bytes(material)])
            real(self, material)  # type: ignore[operator]

        monkeypatch.setattr(noise.SymmetricState, method, noted)
    knows = noise.PATTERNS[pattern].initiator_knows_responder
    initiator = noise.HandshakeState(
        pattern, True, b"p", keys["s_i"], keys["e_i"], keys["s_r"].public if knows else None, psk
    )
    responder = noise.HandshakeState(pattern, False, b"p", keys["s_r"], keys["e_r"], None, psk)
    sides = [initiator, responder]
    while not initiator.finished:
        written = len(mixed)
        message = sides[0].write_message(b"")
        read = len(mixed)
        sides[1].read_message(message)
        assert mixed[written:read] == mixed[read:], "both sides mix the same"
        del mixed[read:]
        sides.reverse()
    assert tuple(each for each in mixed if each != "public") == schedule(pattern, psk=True).mixed
    assert initiator.split() == responder.split()
