"""The key-event log: what is accepted, what is refused, and whom to believe."""

from __future__ import annotations

import hashlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.codec import Writer
from covey.base.constants import LOG_LIMIT
from covey.base.errors import LimitError, ParseError, StateError, UsageError, VerifyError
from covey.crypto.events import EVENT_LIMIT, EventKind, KeyLog, commitment, incept, merge, revoke, rotate
from covey.crypto.keys import SigningKey


def key(number: int) -> SigningKey:
    return SigningKey(number.to_bytes(32, "big"))


def commit(number: int) -> bytes:
    return commitment(key(number).public)


LOG = incept(key(0), commit(1))
ROTATED = rotate(LOG, key(1), commit(2))
TWICE = rotate(ROTATED, key(2), commit(3))
REVOKED = revoke(LOG, key(0))
LOGS = {"incept": LOG, "rotated": ROTATED, "twice": TWICE, "revoked": REVOKED, "end": revoke(TWICE, key(2))}


def event(body: bytes, signer: SigningKey) -> bytes:
    return Writer().block16(body + signer.sign("event", body)).bytes()


def rotation(sequence: int, previous: bytes, revealed: SigningKey, next_commitment: bytes) -> bytes:
    body = Writer().u8(2).u32(sequence).raw(previous).raw(revealed.public).raw(next_commitment).bytes()
    return event(body, revealed)


@pytest.mark.parametrize("name", LOGS)
def test_parse_gives_back_the_log(name: str) -> None:
    assert KeyLog.parse(LOGS[name].raw) == LOGS[name]


def test_identity_is_the_labelled_hash_of_incept() -> None:
    body = b"\1" + key(0).public + commit(1)
    assert LOG.identity == hashlib.sha256(b"covey identity 1\0" + body).digest()
    assert LOG.raw == (len(body) + 64).to_bytes(2, "big") + body + key(0).sign("event", body)


def test_identity_survives_every_event() -> None:
    assert {log.identity for log in LOGS.values()} == {LOG.identity}


def test_log_knows_its_head_and_the_key_in_force() -> None:
    cases = {
        "incept": (0, key(0), 1, False),
        "rotated": (1, key(1), 2, False),
        "twice": (2, key(2), 3, False),
        "revoked": (1, key(0), 1, True),
        "end": (3, key(2), 3, True),
    }
    for name, (sequence, root, committed, revoked) in cases.items():
        log = LOGS[name]
        assert log.sequence == sequence, name
        assert log.root_key == root.public, name
        assert log.next_commitment == commit(committed), name
        assert log.revoked is revoked, name
        assert log.head == log.digests[-1], name
        assert not log.forked, name
    assert LOG.head == LOG.identity


def test_commitment_shows_nothing_of_the_key() -> None:
    assert commit(1) == hashlib.sha256(b"covey commitment 1\0" + key(1).public).digest()
    with pytest.raises(ValueError, match="32"):
        commitment(b"short")
    with pytest.raises(ValueError, match="32"):
        incept(key(0), b"short")
    with pytest.raises(ValueError, match="32"):
        rotate(LOG, key(1), b"short")


def test_rotate_needs_the_committed_key() -> None:
    for wrong in (0, 2):
        with pytest.raises(VerifyError) as caught:
            rotate(LOG, key(wrong), commit(9))
        assert caught.value.code == "not-committed"


def test_rotate_takes_the_place_of_a_revoke() -> None:
    assert rotate(REVOKED, key(1), commit(2)) == ROTATED


def test_revoke_needs_the_key_in_force_once() -> None:
    with pytest.raises(UsageError):
        revoke(ROTATED, key(0))
    with pytest.raises(StateError):
        revoke(REVOKED, key(0))


def test_verify_refuses_events_that_do_not_hold() -> None:
    body = b"\3" + (1).to_bytes(4, "big") + LOG.head
    cases = {
        "not-committed": LOG.raw + rotation(1, LOG.head, key(5), commit(2)),
        "bad-link": LOG.raw + rotation(2, LOG.head, key(1), commit(2)),
        "bad-link ": LOG.raw + rotation(1, bytes(32), key(1), commit(2)),
        "bad-link  ": LOG.raw + rotation(0, LOG.head, key(1), commit(2)),
        "bad-signature": LOG.raw + event(body, key(1)),
        "bad-signature ": LOG.raw[:-1] + bytes([LOG.raw[-1] ^ 1]),
        "revoked": REVOKED.raw + rotation(2, REVOKED.head, key(1), commit(2)),
        "revoked ": REVOKED.raw + event(b"\3" + (2).to_bytes(4, "big") + REVOKED.head, key(0)),
    }
    for code, raw in cases.items():
        with pytest.raises(VerifyError) as caught:
            KeyLog.parse(raw)
        assert caught.value.code == code.strip()


incept_event = LOG.raw[2:]
MALFORMED = {
    "nothing": b"",
    "one byte": b"\0",
    "an empty event": b"\0\0",
    "cut short": ROTATED.raw[:-1],
    "a byte too many": ROTATED.raw + b"\0",
    "an event with a byte too many": Writer().block16(incept_event + b"\0").bytes(),
    "beginning with ROTATE": ROTATED.raw[len(LOG.raw) :],
    "a second INCEPT": LOG.raw + LOG.raw,
    "an unknown kind": LOG.raw + event(b"\4" + bytes(36), key(0)),
    "kind 0": event(b"\0" + key(0).public + commit(1), key(0)),
    "too long": LOG.raw + bytes(LOG_LIMIT),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_parse_refuses_malformed_logs(name: str) -> None:
    with pytest.raises(ParseError):
        KeyLog.parse(MALFORMED[name])


def test_log_holds_256_events_and_no_more() -> None:
    log = LOG
    for number in range(1, EVENT_LIMIT):
        log = rotate(log, key(number), commit(number + 1))
    assert log.sequence == 255
    assert len(log.raw) < LOG_LIMIT
    assert KeyLog.parse(log.raw) == log
    with pytest.raises(LimitError):
        rotate(log, key(EVENT_LIMIT), commit(EVENT_LIMIT + 1))
    with pytest.raises(LimitError):
        revoke(log, key(EVENT_LIMIT - 1))
    with pytest.raises(ParseError):
        KeyLog.parse(log.raw + rotation(256, log.head, key(256), commit(257)))


OTHER_ROTATE = rotate(LOG, key(1), commit(7))
OTHER_TWICE = rotate(OTHER_ROTATE, key(7), commit(8))
END = revoke(ROTATED, key(1))

MERGES: dict[str, tuple[KeyLog, KeyLog, KeyLog, bool]] = {  # known, offered, believed, forked
    "the same": (ROTATED, ROTATED, ROTATED, False),
    "an extension": (LOG, ROTATED, ROTATED, False),
    "a longer extension": (LOG, TWICE, TWICE, False),
    "a revocation": (ROTATED, END, END, False),
    "a rollback": (TWICE, LOG, TWICE, False),
    "a rollback of a revocation": (REVOKED, LOG, REVOKED, False),
    "a ROTATE after the thief's REVOKE": (REVOKED, ROTATED, ROTATED, False),
    "more after the thief's REVOKE": (REVOKED, TWICE, TWICE, False),
    "a ROTATE after a later REVOKE": (END, TWICE, TWICE, False),
    "the thief's REVOKE after the ROTATE": (ROTATED, REVOKED, ROTATED, False),
    "the thief's REVOKE after more": (TWICE, REVOKED, TWICE, False),
    "the thief's later REVOKE after more": (TWICE, END, TWICE, False),
    "another ROTATE at one sequence": (ROTATED, OTHER_ROTATE, ROTATED, True),
    "another, longer branch": (ROTATED, OTHER_TWICE, ROTATED, True),
    "another, shorter branch": (OTHER_TWICE, ROTATED, OTHER_TWICE, True),
    "a branch that was revoked": (OTHER_TWICE, END, OTHER_TWICE, True),
    "a branch seen by a revoked one": (END, OTHER_TWICE, END, True),
}


@pytest.mark.parametrize("name", MERGES)
def test_merge_believes(name: str) -> None:
    known, offered, believed, forked = MERGES[name]
    result = merge(known, offered)
    assert (result.raw, result.forked) == (believed.raw, forked)


def test_merge_never_forgets_a_fork() -> None:
    forked = merge(ROTATED, OTHER_ROTATE)
    assert merge(forked, TWICE).forked
    assert merge(forked, ROTATED).forked
    assert merge(ROTATED, forked).forked
    assert merge(forked, TWICE).raw == TWICE.raw


def test_merge_refuses_another_identity() -> None:
    with pytest.raises(VerifyError) as caught:
        merge(LOG, incept(key(50), commit(51)))
    assert caught.value.code == "other-identity"


def test_merge_ignores_who_signed_twice() -> None:
    # Only the digest of the body counts: a second signature over one event is the same event.
    resigned = KeyLog(**{name: getattr(LOG, name) for name in KeyLog.__slots__} | {"raw": b"other signature"})
    assert merge(LOG, resigned) is LOG


def _honest(actions: list[bool]) -> KeyLog:
    log, number = LOG, 0
    for is_revoke in actions:
        if is_revoke and not log.revoked:
            log = revoke(log, key(number))
        elif not is_revoke:
            number += 1
            log = rotate(log, key(number), commit(number + 1))
    return log


@given(st.lists(st.booleans(), max_size=4), st.lists(st.booleans(), max_size=4))
def test_merge_of_one_owners_logs_never_forks_and_never_loses_a_rotation(one: list[bool], two: list[bool]) -> None:
    left, right = _honest(one), _honest(two)
    result, mirrored = merge(left, right), merge(right, left)
    assert not result.forked
    assert result == mirrored
    assert {left.root_key, right.root_key} >= {result.root_key}
    rotations = max(one.count(False), two.count(False))
    assert result.root_key == key(rotations).public


@given(st.data())
def test_parse_refuses_every_change(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(LOGS)))
    raw = bytearray(LOGS[name].raw)
    at = data.draw(st.integers(0, len(raw) - 1))
    kind = data.draw(st.sampled_from(["flip", "drop", "insert", "cut"]))
    if kind == "flip":
        raw[at] ^= data.draw(st.integers(1, 255))
    elif kind == "drop":
        del raw[at]
    elif kind == "insert":
        raw.insert(at, data.draw(st.integers(0, 255)))
    else:
        del raw[at:]
    try:
        parsed = KeyLog.parse(bytes(raw))
    except (ParseError, VerifyError):
        return
    # What still parses is the log itself (a byte put beside its equal) or a beginning of it.
    assert LOGS[name].raw.startswith(parsed.raw)
    assert parsed.raw == bytes(raw)


@given(st.binary(max_size=400))
def test_parse_raises_only_its_errors(raw: bytes) -> None:
    for data in (raw, LOG.raw + raw):
        with suppress(ParseError, VerifyError):
            KeyLog.parse(data)


def test_kinds_are_those_of_the_wire() -> None:
    assert [(kind.name, int(kind)) for kind in EventKind] == [("INCEPT", 1), ("ROTATE", 2), ("REVOKE", 3)]
