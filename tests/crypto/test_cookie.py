from __future__ import annotations

import pytest

from covey.base.errors import CryptoError
from covey.crypto.cookie import (
    COOKIE_SECONDS,
    COOKIE_SIZE,
    SEALED_COOKIE_SIZE,
    CookieJar,
    cookie_key,
    mac2,
    open_cookie,
    seal_cookie,
)
from covey.crypto.mac import MAC_SIZE

NOW = 1000 * COOKIE_SECONDS + 7.0
BODY = b"an initiation, its mac1 included"


def test_cookie_proves_the_source_it_was_made_for() -> None:
    jar = CookieJar(bytes(32))
    cookie = jar.cookie(NOW, b"here")
    assert len(cookie) == COOKIE_SIZE
    assert jar.proves(NOW, b"here", BODY, mac2(cookie, BODY))
    assert not jar.proves(NOW, b"there", BODY, mac2(cookie, BODY))


def test_cookie_of_another_process_proves_nothing() -> None:
    cookie = CookieJar(bytes(32)).cookie(NOW, b"here")
    assert not CookieJar(b"\1" * 32).proves(NOW, b"here", BODY, mac2(cookie, BODY))


@pytest.mark.parametrize("tag", [bytes(16), b"\xff" * 16, mac2(bytes(16), BODY), b""])
def test_made_up_tag_proves_nothing(tag: bytes) -> None:
    assert not CookieJar(bytes(32)).proves(NOW, b"here", BODY, tag)


def test_tag_covers_every_byte_before_it() -> None:
    jar = CookieJar(bytes(32))
    tag = mac2(jar.cookie(NOW, b"here"), BODY)
    assert len(tag) == MAC_SIZE
    for at in range(len(BODY)):
        assert not jar.proves(NOW, b"here", BODY[:at] + bytes([BODY[at] ^ 1]) + BODY[at + 1 :], tag)


def test_cookie_lives_for_two_minutes_at_least_and_four_at_most() -> None:
    jar = CookieJar(bytes(32))
    start = NOW // COOKIE_SECONDS * COOKIE_SECONDS
    for made in (start, start + COOKIE_SECONDS - 0.001):
        tag = mac2(jar.cookie(made, b"here"), BODY)
        assert jar.proves(made + COOKIE_SECONDS, b"here", BODY, tag)
        assert not jar.proves(start + 2 * COOKIE_SECONDS, b"here", BODY, tag)


def test_sealed_cookie_opens_with_the_same_key_and_mac1_only() -> None:
    key, nonce, cookie, mac1 = cookie_key(b"\2" * 32), b"n" * 12, b"c" * 16, b"m" * 16
    sealed = seal_cookie(key, nonce, cookie, memoryview(mac1))
    assert len(sealed) == SEALED_COOKIE_SIZE
    assert open_cookie(key, nonce, sealed, mac1) == cookie
    for wrong in (
        (cookie_key(b"\3" * 32), nonce, sealed, mac1),
        (key, b"N" * 12, sealed, mac1),
        (key, nonce, b"\0" + sealed[1:], mac1),
        (key, nonce, sealed, b"M" * 16),
    ):
        with pytest.raises(CryptoError):
            open_cookie(*wrong)
