from __future__ import annotations

import hashlib
import hmac

from covey.crypto.mac import MAC_SIZE, NO_PSK_TAG, PSK_TAG_SIZE, mac1, mac1_key, psk_tag, same

PUBLIC = bytes(range(32))


def test_mac1_key_is_the_labelled_hash_of_the_public_key() -> None:
    assert mac1_key(PUBLIC) == hashlib.sha256(b"covey mac1 1\0" + PUBLIC).digest()


def test_mac1_is_truncated_hmac() -> None:
    key = mac1_key(PUBLIC)
    tag = mac1(key, b"datagram")
    assert len(tag) == MAC_SIZE
    assert hmac.new(key, b"datagram", "sha256").digest().startswith(tag)


def test_mac1_matches_rfc_4231_truncated() -> None:
    # RFC 4231, test case 2
    assert mac1(b"Jefe", b"what do ya want for nothing?").hex() == "5bdcc146bf60754e6a042426089575c7"


def test_mac1_takes_any_buffer() -> None:
    assert mac1(PUBLIC, memoryview(b"xdatagramx")[1:9]) == mac1(PUBLIC, bytearray(b"datagram"))


def test_psk_tag_names_a_psk_per_ephemeral() -> None:
    tags = {psk_tag(bytes([psk]) * 32, bytes([ephemeral]) * 32) for psk in range(4) for ephemeral in range(4)}
    assert len(tags) == 16
    assert {len(tag) for tag in tags} == {PSK_TAG_SIZE}
    assert bytes(8) == NO_PSK_TAG


def test_same_compares_buffers_of_any_kind() -> None:
    assert same(b"tag", memoryview(b"tag"))
    assert not same(b"tag", b"tah")
    assert not same(b"tag", b"ta")
