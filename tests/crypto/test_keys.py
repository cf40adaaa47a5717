"""RFC 8032 and RFC 7748 vectors through our wrappers, and what the wrappers refuse."""

from __future__ import annotations

import pytest

from covey.base.errors import CryptoError, VerifyError
from covey.crypto.keys import SigningKey, TransportKey, signed_bytes, verify

ED25519 = {  # RFC 8032, section 7.1: seed, public key, message, signature
    "test 1": (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
            "d25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    "test 2": (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
            "387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    "test 3": (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
            "4a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
}

X25519 = {  # RFC 7748: private key, the other's public key, shared secret
    "5.2, first": (
        "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
        "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
        "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
    ),
    "6.1, Alice": (
        "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
        "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
        "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
    ),
    "6.1, Bob": (
        "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
        "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
    ),
}

LOW_ORDER = {  # RFC 7748, section 6.1 asks for the check; the points are those of cr.yp.to/ecdh.html
    "zero": "00" * 32,
    "one": "01" + "00" * 31,
    "order 8": "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "order 8, other": "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "p - 1": "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "p": "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "p + 1": "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}

ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493


@pytest.mark.parametrize("case", ED25519)
def test_signing_key_matches_rfc_8032(case: str) -> None:
    seed, public, message, signature = (bytes.fromhex(text) for text in ED25519[case])
    key = SigningKey(seed)
    assert key.public == public
    assert key.seed == seed
    assert key._key.sign(message) == signature


@pytest.mark.parametrize("case", X25519)
def test_transport_key_matches_rfc_7748(case: str) -> None:
    private, public, shared = (bytes.fromhex(text) for text in X25519[case])
    key = TransportKey(private)
    assert key.exchange(public) == shared
    assert key.private == private


def test_transport_key_public_matches_rfc_7748() -> None:
    assert TransportKey(bytes.fromhex(X25519["6.1, Alice"][0])).public.hex() == X25519["6.1, Bob"][1]


@pytest.mark.parametrize("case", LOW_ORDER)
def test_exchange_refuses_low_order_points(case: str) -> None:
    with pytest.raises(CryptoError):
        TransportKey(bytes(range(32))).exchange(bytes.fromhex(LOW_ORDER[case]))


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_keys_of_a_wrong_length_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="32"):
        SigningKey(bytes(size))
    with pytest.raises(ValueError, match="32"):
        TransportKey(bytes(size))
    with pytest.raises(CryptoError):
        TransportKey(bytes(range(32))).exchange(bytes(size))


def test_signed_bytes_are_label_version_and_body() -> None:
    assert signed_bytes("record", b"body") == b"covey record 1\0body"


def test_verify_accepts_what_was_signed() -> None:
    key = SigningKey(bytes(32))
    verify(key.public, "record", b"body", key.sign("record", b"body"))


def test_verify_refuses_everything_else() -> None:
    key, other = SigningKey(bytes(32)), SigningKey(bytes(31) + b"\1")
    good = key.sign("record", b"body")
    s = int.from_bytes(good[32:], "little") + ED25519_ORDER
    cases = {
        "another key": (other.public, "record", b"body", good),
        "another label": (key.public, "delegation", b"body", good),
        "another body": (key.public, "record", b"bodY", good),
        "a changed signature": (key.public, "record", b"body", good[:-1] + bytes([good[-1] ^ 1])),
        "s + L, the second encoding of s": (
            key.public,
            "record",
            b"body",
            good[:32] + s.to_bytes(32, "little"),
        ),
        "a short signature": (key.public, "record", b"body", good[:-1]),
        "no signature": (key.public, "record", b"body", b""),
        "a short key": (key.public[:-1], "record", b"body", good),
        "no point of the curve": (b"\2" + bytes(31), "record", b"body", good),
    }
    for name, (public, label, body, signature) in cases.items():
        with pytest.raises(VerifyError) as caught:
            verify(public, label, body, signature)
        assert caught.value.code == "bad-signature", name


def test_repr_shows_no_secret() -> None:
    seed = bytes(range(32))
    for key in (SigningKey(seed), TransportKey(seed)):
        assert seed.hex() not in repr(key)
        assert repr(seed) not in repr(key)


def test_static_keys_agree_on_the_same_again_and_remember_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covey.crypto.keys.AGREED_LIMIT", 2)
    own, others = TransportKey(bytes(31) + b"\1"), [TransportKey(bytes(31) + bytes([number])) for number in range(2, 6)]
    for _ in range(2):
        for other in others:
            assert own.exchange_static(other.public) == own.exchange(other.public) == other.exchange(own.public)
            assert len(own._agreed) <= 2
    with pytest.raises(CryptoError):
        own.exchange_static(bytes(32))
