"""The parts of a handshake by themselves; what whole endpoints do with them is in `test_handshakes`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from covey.base.errors import CoveyError, ParseError, VerifyError
from covey.core.handshake import Attempt, HalfOpenTable, Target, matching_key, own_payload, prologue
from covey.core.path import Route
from covey.crypto.keys import TransportKey
from covey.wire.datagram import Initiation, Response
from tests.core.pair import WALL_START, Side, Wire

ROUTE = Route(0, ("10.0.0.2", 4000))


def pair() -> tuple[Wire, Side, Side]:
    wire = Wire(1)
    return wire, wire.side("a"), wire.side("b")


def test_prologue_names_the_responder() -> None:
    _, a, _ = pair()
    assert prologue(a.identity) == b"covey 1\0" + a.identity


def test_payload_says_who_we_are() -> None:
    _, a, _ = pair()
    payload = own_payload(a.credentials, a.credentials.current, 7, b"h" * 8)
    assert (payload.timestamp, payload.half, payload.identity) == (7, b"h" * 8, a.identity)
    assert (payload.log_sequence, payload.log_head) == (a.credentials.log.sequence, a.credentials.log.head)


def test_attempt_refuses_answers_that_are_not_its_own() -> None:
    _wire, a, b = pair()
    attempt = Attempt(b.target, bytes(8), [], 0.0, 0.0)
    attempt.initiate(0.0, a.credentials, TransportKey(b"\1" * 32), 5, 1)
    with pytest.raises(ParseError):
        attempt.accept(Response(1, 6, bytes(100)))
    with pytest.raises(CoveyError):
        attempt.accept(Response(1, 5, bytes(100)))
    assert len(attempt.tries) == 1


def test_table_refuses_an_unknown_psk() -> None:
    _wire, a, b = pair()
    attempt = Attempt(b.target, bytes(8), [], 0.0, 0.0)
    attempt.initiate(0.0, a.credentials, TransportKey(b"\1" * 32), 5, 1)
    raw = attempt.datagram(0.0, ROUTE)
    message = replace(Initiation.parse(raw), psk_tag=b"12345678")
    with pytest.raises(VerifyError) as info:
        HalfOpenTable().accept(
            0.0,
            WALL_START,
            message,
            b.credentials.current,
            b.credentials,
            lambda _: bytes(8),
            lambda *_: True,
            lambda *_: -1,
            TransportKey(b"\2" * 32),
            1,
        )
    assert info.value.code == "unknown-psk"


def test_matching_key_is_the_one_mac1_was_made_for() -> None:
    _wire, a, b = pair()
    old = b.credentials.current
    credentials = b.credentials.rotate_transport(b"\7" * 32, WALL_START)
    for wanted in (old, credentials.current):
        attempt = Attempt(Target(b.identity, wanted.key.public), bytes(8), [], 0.0, 0.0)
        attempt.initiate(0.0, a.credentials, TransportKey(b"\1" * 32), 1, 1)
        raw = attempt.datagram(0.0, ROUTE)
        found = matching_key(credentials, Initiation.parse(raw))
        assert found is not None
        assert found.key.public == wanted.key.public
    assert matching_key(a.credentials, Initiation.parse(raw)) is None
