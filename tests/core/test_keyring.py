"""Which claims of a peer are believed: the newest delegation, the log that supersedes, the branch seen first."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from covey.base.errors import VerifyError
from covey.core import keyring as module
from covey.core.handshake import own_payload
from covey.core.keyring import Keyring
from covey.crypto.credentials import Credentials, SecretRoots
from covey.crypto.events import commitment, revoke
from covey.crypto.keys import SigningKey
from covey.wire.handshake import HandshakePayload

NOW = 1_800_000_000_000_000
DAY = 24 * 3600 * 1_000_000


def agent(seed: int = 1) -> tuple[Credentials, SecretRoots]:
    return Credentials.create(Random(seed).randbytes, NOW)


def claims(credentials: Credentials) -> tuple[HandshakePayload, bytes]:
    """What an agent says of itself in a handshake, and the key it proves to hold."""
    pair = credentials.current
    return own_payload(credentials, pair, 0, bytes(8)), pair.key.public


def check(ring: Keyring, credentials: Credentials, now_us: int = NOW) -> bool:
    return ring.check(*claims(credentials), now_us)


def test_check_without_a_log_asks_for_it() -> None:
    assert check(Keyring(()), agent()[0]) is False


def test_check_with_the_log_at_hand_verifies() -> None:
    ring, (credentials, _) = Keyring(()), agent()
    ring.add(credentials.log)
    assert check(ring, credentials) is True


def test_check_refuses_a_certificate_for_another_key() -> None:
    ring, (credentials, _) = Keyring(()), agent()
    ring.add(credentials.log)
    payload, _ = claims(credentials)
    with pytest.raises(VerifyError) as caught:
        ring.check(payload, agent(2)[0].current.key.public, NOW)
    assert caught.value.code == "other-identity"


def test_check_refuses_an_older_delegation_once_a_newer_one_was_seen() -> None:
    ring, (credentials, roots) = Keyring(()), agent()
    ring.add(credentials.log)
    renewed = credentials.delegate(roots.root, bytes(range(32)), NOW + DAY)
    assert check(ring, credentials, NOW + DAY)
    assert check(ring, renewed, NOW + DAY)
    with pytest.raises(VerifyError) as caught:
        check(ring, credentials, NOW + DAY)
    assert caught.value.code == "older-delegation"
    assert check(ring, renewed, NOW + DAY)


def test_check_refuses_an_older_delegation_than_a_record_showed() -> None:
    ring, (credentials, _) = Keyring(()), agent()
    ring.add(credentials.log)
    ring.saw_delegation(credentials.identity, 0, credentials.delegation.counter + 1)
    with pytest.raises(VerifyError) as caught:
        check(ring, credentials)
    assert caught.value.code == "older-delegation"


def test_saw_delegation_of_nobody_known_is_not_kept() -> None:
    ring, (credentials, _) = Keyring(()), agent()
    ring.saw_delegation(credentials.identity, 0, 2**63)
    ring.add(credentials.log)
    assert check(ring, credentials)


def test_rotation_ends_what_the_old_root_delegated_whatever_its_counter() -> None:
    ring, (credentials, roots) = Keyring(()), agent()
    rotated = credentials.rotate_root(roots.next_root, commitment(bytes(32)), bytes(range(32)), NOW)
    thief = credentials.delegate(roots.root, bytes(32), NOW + DAY)
    ring.add(rotated.log)
    with pytest.raises(VerifyError) as caught:
        check(ring, thief, NOW + DAY)
    assert caught.value.code == "superseded"
    assert check(ring, rotated, NOW + DAY)


def test_owner_who_rotated_over_a_thiefs_revocation_is_asked_for_its_log() -> None:
    ring, (credentials, roots) = Keyring(()), agent()
    ring.add(revoke(credentials.log, roots.root))
    rotated = credentials.rotate_root(roots.next_root, commitment(bytes(32)), bytes(range(32)), NOW)
    assert rotated.log.sequence == 1
    assert check(ring, rotated) is False
    chosen = ring.add(rotated.log)
    assert not chosen.revoked
    assert not chosen.forked
    assert check(ring, rotated) is True


def test_two_rotations_of_one_root_are_a_fork_and_the_first_stays() -> None:
    ring, (credentials, roots) = Keyring(()), agent()
    first = credentials.rotate_root(roots.next_root, commitment(bytes(32)), bytes(32), NOW)
    other = credentials.rotate_root(roots.next_root, commitment(SigningKey(bytes(32)).public), bytes(32), NOW)
    ring.add(first.log)
    chosen = ring.add(other.log)
    assert chosen.head == first.log.head
    assert chosen.forked


def test_logs_are_bounded_but_pinned_and_busy_ones_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOGS_LIMIT", 2)
    agents = [agent(seed)[0] for seed in range(6)]
    ring = Keyring({agents[1].identity})
    ring.pin(agents[0].identity)
    for each in agents:
        ring.add(each.log)
    assert ring.log_of(agents[0].identity) is not None
    assert ring.log_of(agents[1].identity) is not None
    assert sum(ring.log_of(each.identity) is not None for each in agents) == 3


def test_followed_claims_are_forgotten_with_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOGS_LIMIT", 2)
    ring = Keyring(())
    for seed in range(6):
        credentials, _ = agent(seed)
        ring.add(credentials.log)
        assert check(ring, credentials)
    assert len(ring._chains) == 2


def followed(seed: int = 1) -> tuple[Keyring, Credentials, SecretRoots]:
    """A ring that has followed an agent's claims once."""
    ring, (credentials, roots) = Keyring(()), agent(seed)
    ring.add(credentials.log)
    assert check(ring, credentials)
    assert list(ring._chains) == [credentials.identity]
    return ring, credentials, roots


def test_claims_that_were_followed_before_need_no_signature_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ring, credentials, _ = followed()
    checked: list[str] = []
    monkeypatch.setattr("covey.crypto.certificates.verify", lambda _key, label, *_: checked.append(label))
    assert check(ring, credentials)
    assert checked == []
    assert check(ring, credentials.rotate_transport(bytes(32), NOW))
    assert checked == ["delegation", "transport"]


def test_claims_that_were_followed_before_still_expire() -> None:
    ring, credentials, _ = followed()
    with pytest.raises(VerifyError) as caught:
        check(ring, credentials, credentials.current.certificate.until_us)
    assert caught.value.code == "expired"
    with pytest.raises(VerifyError) as caught:
        check(ring, credentials, credentials.current.certificate.from_us - 11 * 60_000_000)
    assert caught.value.code == "not-yet-valid"


def test_claims_that_were_followed_before_hold_for_their_own_key_only() -> None:
    ring, credentials, _ = followed()
    payload, _ = claims(credentials)
    with pytest.raises(VerifyError) as caught:
        ring.check(payload, agent(2)[0].current.key.public, NOW)
    assert caught.value.code == "other-identity"


@pytest.mark.parametrize("part", ["delegation", "certificate"])
def test_claims_with_one_changed_byte_are_not_those_that_were_followed(part: str) -> None:
    ring, credentials, _ = followed()
    payload, static = claims(credentials)
    raw = getattr(payload, part)
    for at in (0, 33, 65, 75, len(raw) - 1):
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        with pytest.raises(VerifyError):
            ring.check(replace(payload, **{part: changed}), static, NOW)


def test_claims_that_were_followed_before_end_with_the_log_they_were_followed_from() -> None:
    ring, credentials, roots = followed()
    ring.add(revoke(credentials.log, roots.root))
    with pytest.raises(VerifyError) as caught:
        check(ring, credentials)
    assert caught.value.code == "revoked"
