"""Meeting by a one-time code, between whole endpoints: what it gives, and what others get of it (PROTOCOL 14)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from covey.base.errors import StateError
from covey.core import limits
from covey.core.events import ConnectionLive, Introduced, IntroductionFailed
from covey.core.handshake import Target
from covey.core.introduction import Introduction
from covey.core.path import Route
from covey.crypto.credentials import Credentials, TransportPair
from covey.crypto.keys import TransportKey
from covey.crypto.mac import mac1
from covey.crypto.noise import HandshakeState
from covey.crypto.one_time_code import CodeKeys
from covey.crypto.record import Record
from covey.wire import introduction as wire
from covey.wire.introduction import CONFIRMATION, GREETING, PROOF, REPLY, Greeting, Proof
from tests.core.pair import WALL_START, Address, Side, Wire

A, B, M = ("10.0.0.1", 4000), ("10.0.0.2", 4000), ("10.0.0.3", 4000)
KEYS = CodeKeys(b"\1" * 32, b"\2" * 32)
OTHER_KEYS = CodeKeys(b"\3" * 32, b"\4" * 32)
MINUTE_US = 60_000_000


def side(wire_: Wire, name: str, address: Address) -> Side:
    made = wire_.side(name, address)
    made.endpoint.record = record_of(made.credentials, name)
    return made


def record_of(credentials: Credentials, name: str, made_us: int = WALL_START) -> bytes:
    return Record.make(
        credentials.operational,
        credentials.log,
        credentials.delegation,
        credentials.current.certificate,
        address_nonce=credentials.address_nonce,
        sequence=made_us,
        expires_us=made_us + 60 * MINUTE_US,
        name=name,
    ).raw


def pair(seed: int = 1, **impairments: float) -> tuple[Wire, Side, Side]:
    """`a` opens windows, `b` enters codes."""
    wire_ = Wire(seed, **impairments)  # type: ignore[arg-type]
    wire_.recorded = []
    return wire_, side(wire_, "a", A), side(wire_, "b", B)


def open_window(a: Side, keys: CodeKeys = KEYS, seconds: float = 600.0) -> None:
    a.endpoint.introduction.open(a.wire.now, keys, seconds)


def enter(b: Side, keys: CodeKeys = KEYS, seconds: float = 30.0, to: Address = A) -> None:
    b.endpoint.introduction.enter(b.wire.now, keys, [Route(0, to)], seconds)


def pose(liar: Side, victim: Side) -> None:
    """`liar` shows the record of `victim`, whose transport key it does not have."""
    stolen = victim.credentials.current.certificate
    posing = replace(liar.credentials, transport_keys=(TransportPair(liar.credentials.current.key, stolen),))
    liar.endpoint.credentials, liar.endpoint.record = posing, victim.endpoint.record


def ended(*sides: Side) -> bool:
    return all(each.of(Introduced) or each.of(IntroductionFailed) for each in sides)


def failures(side_: Side) -> list[tuple[str, bool]]:
    return [(event.code, event.opened) for event in side_.of(IntroductionFailed)]


def sent(wire_: Wire, kind: int, source: Address) -> list[bytes]:
    assert wire_.recorded is not None
    return [datagram for origin, _, datagram in wire_.recorded if origin == source and datagram[0] == kind]


def greeting_of(keys: CodeKeys, seed: int) -> bytes:
    """A greeting of somebody who knows the code, on its own."""
    state = HandshakeState(
        "XXpsk0",
        True,
        b"covey introduction 1\0",
        TransportKey(b"\5" * 32),
        TransportKey(bytes([seed]) * 32),
        None,
        keys.psk,
    )
    prefix = Greeting.prefix(seed, state.write_message(wire.GREETING_PAYLOAD))
    return prefix + mac1(keys.mac1_key, prefix)


# --- what it gives --------------------------------------------------------------------------------------------------


def test_introduction_gives_each_side_the_others_record() -> None:
    wire_, a, b = pair()
    open_window(a)
    enter(b)
    assert wire_.run(1.0, lambda: ended(a, b))
    assert a.of(Introduced) == [Introduced(b.endpoint.record, Route(0, B), opened=True)]
    assert b.of(Introduced) == [Introduced(a.endpoint.record, Route(0, A), opened=False)]


def test_introduction_is_four_datagrams_and_leaves_no_session() -> None:
    wire_, a, b = pair()
    open_window(a)
    enter(b)
    wire_.run(30.0)
    assert wire_.recorded is not None
    assert [datagram[0] for _, _, datagram in wire_.recorded] == [GREETING, REPLY, PROOF, CONFIRMATION]
    assert not a.endpoint.connections
    assert not b.endpoint.connections
    assert a.endpoint.introduction.deadline() is None
    assert b.endpoint.introduction.deadline() is None


def test_record_of_an_introduction_leads_to_an_ordinary_handshake() -> None:
    wire_, a, b = pair()
    open_window(a)
    enter(b)
    assert wire_.run(1.0, lambda: ended(a, b))
    event = b.of(Introduced)[0]
    record = Record.parse(event.record)
    b.endpoint.connect(wire_.now, Target(record.identity, record.certificate.public), [event.route])
    assert wire_.run(5.0, lambda: bool(a.of(ConnectionLive) and b.of(ConnectionLive)))


@pytest.mark.parametrize("seed", range(20))
def test_introduction_survives_loss_reordering_and_duplicates(seed: int) -> None:
    wire_, a, b = pair(seed, loss=0.3, duplicate=0.2, jitter=0.3)
    open_window(a)
    enter(b, seconds=60.0)
    assert wire_.run(60.0, lambda: ended(a, b)), seed
    assert (len(a.of(Introduced)), len(b.of(Introduced))) == (1, 1)


def test_window_may_be_opened_after_the_code_was_entered() -> None:
    wire_, a, b = pair()
    enter(b)
    wire_.run(5.0)
    open_window(a)
    assert wire_.run(3.0, lambda: ended(a, b))
    assert b.of(Introduced)


def test_window_is_found_on_the_one_route_that_leads_to_it() -> None:
    wire_, a, b = pair()
    open_window(a)
    enter(b, to=("192.0.2.1", 9))
    wire_.run(1.0)
    b.endpoint.introduction.add_routes([Route(0, A)])
    assert wire_.run(1.0, lambda: ended(a, b))
    assert b.of(Introduced)[0].route == Route(0, A)


def test_responder_may_rotate_its_key_between_two_records() -> None:
    wire_, a, b = pair()
    a.credentials = a.endpoint.credentials = a.credentials.rotate_transport(b"\7" * 32, WALL_START)
    open_window(a)  # the record still names the older key, which is alive
    enter(b)
    assert wire_.run(1.0, lambda: ended(a, b))
    assert b.of(Introduced)


# --- silence ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["never opened", "closed", "expired", "used", "another code"])
def test_greeting_outside_its_window_gets_no_answer(state: str) -> None:
    wire_, a, b = pair()
    if state != "never opened":
        open_window(a, OTHER_KEYS if state == "another code" else KEYS, 10.0)
    if state == "closed":
        a.endpoint.introduction.close()
    if state == "expired":
        wire_.run(11.0)
    if state == "used":
        enter(side(wire_, "c", M))
        assert wire_.run(1.0, lambda: bool(a.of(Introduced)))
        wire_.run(limits.INTRODUCTION_LINGER + 1)
    assert wire_.recorded is not None
    wire_.recorded.clear()
    enter(b, seconds=20.0)
    wire_.run(21.0)
    assert not [each for source, _, each in wire_.recorded if source == A]
    assert failures(a) == ([("window-expired", True)] if state in ("expired", "another code") else [])
    assert failures(b) == [("no-answer", False)]
    assert not b.of(Introduced)


@pytest.mark.parametrize("place", [0, 1, 3, 4, 8, 40, 600, 1127, 1128, 1143])
def test_greeting_with_one_changed_byte_gets_no_answer(place: int) -> None:
    wire_, a, _ = pair()
    open_window(a)
    greeting = bytearray(greeting_of(KEYS, 9))
    greeting[place] ^= 1
    wire_.inject(B, A, bytes(greeting))
    wire_.run(5.0)
    assert not wire_.recorded
    assert a.endpoint.introduction.is_open


def test_greeting_that_says_something_gets_no_answer() -> None:
    wire_, a, _ = pair()
    open_window(a)
    static, ephemeral = TransportKey(b"\5" * 32), TransportKey(b"\6" * 32)
    state = HandshakeState("XXpsk0", True, b"covey introduction 1\0", static, ephemeral, None, KEYS.psk)
    prefix = Greeting.prefix(1, state.write_message(b"x" * len(wire.GREETING_PAYLOAD)))
    wire_.inject(B, A, prefix + mac1(KEYS.mac1_key, prefix))
    wire_.run(5.0)
    assert not wire_.recorded


def test_greeting_with_the_right_mac1_and_another_psk_gets_no_answer() -> None:
    wire_, a, b = pair()
    open_window(a)
    enter(b, replace(KEYS, psk=bytes(32)), 5.0)
    wire_.run(6.0)
    assert not sent(wire_, REPLY, A)


def test_forged_greetings_change_nothing_for_the_true_one() -> None:
    wire_, a, b = pair()
    open_window(a)
    for number in range(2000):
        wire_.inject(M, A, bytes([GREETING, 1, 0, 0]) + wire_.random.randbytes(wire.GREETING_SIZE - 4), number / 1000)
    wire_.run(1.0)
    assert not wire_.recorded
    enter(b)
    assert wire_.run(2.0, lambda: ended(a, b))
    assert b.of(Introduced)


def test_random_datagrams_of_every_kind_and_size_are_dropped() -> None:
    wire_, a, b = pair()
    open_window(a)
    enter(b, seconds=100.0, to=M)
    wire_.run(0.0)
    before = len(wire_.recorded or ())
    for kind in sorted(wire.INTRODUCTION_KINDS):
        for size in (2, 3, 8, 23, 24, 25, 1074, 1110, 1144, 1145, 1400):
            datagram = bytes([kind, 1, 0, 0]) + wire_.random.randbytes(size)
            for target in (A, B):
                wire_.inject(M, target, datagram[:size])
    wire_.run(0.2)
    assert len(wire_.recorded or ()) == before
    assert not a.events
    assert not b.events


# --- one use, few tries ---------------------------------------------------------------------------------------------


def test_repeated_greeting_gets_the_same_reply_and_counts_once() -> None:
    wire_, a, _ = pair()
    open_window(a)
    greeting = greeting_of(KEYS, 9)
    for number in range(50):
        wire_.inject(B, A, greeting, number / 10)
    wire_.run(6.0)
    replies = sent(wire_, REPLY, A)
    assert len(replies) == 50
    assert len(set(replies)) == 1
    assert len(replies[0]) <= len(greeting)
    assert a.endpoint.introduction.is_open


def test_recorded_greeting_repeated_from_everywhere_is_answered_at_a_rate() -> None:
    wire_, a, b = pair()
    open_window(a)
    greeting = greeting_of(KEYS, 9)
    for number in range(5000):
        wire_.inject((f"10.1.{number >> 8}.{number & 255}", 4000), A, greeting, number / 1000)
    wire_.run(5.5)
    assert len(sent(wire_, REPLY, A)) <= limits.INTRODUCTION_ROUTES + 5 * limits.SOURCE_RATE + 1
    enter(b)  # somebody else's greeting has a rate of its own
    assert wire_.run(1.0, lambda: ended(a, b))
    assert b.of(Introduced)


def test_window_closes_after_too_many_tries_of_whoever_knows_the_code() -> None:
    wire_, a, b = pair()
    open_window(a)
    for number in range(limits.INTRODUCTION_TRIES):
        wire_.inject(M, A, greeting_of(KEYS, number + 1), number / 10)
    wire_.run(2.0)
    assert a.endpoint.introduction.is_open
    assert len(set(sent(wire_, REPLY, A))) == limits.INTRODUCTION_TRIES
    enter(b, seconds=5.0)
    wire_.run(6.0)
    assert failures(a) == [("too-many-tries", True)]
    assert failures(b) == [("no-answer", False)]


def test_second_of_two_who_know_the_code_is_not_introduced() -> None:
    wire_, a, b = pair()
    c = side(wire_, "c", M)
    open_window(a)
    enter(b)
    enter(c, seconds=10.0)
    wire_.run(20.0)
    winner, loser = (b, c) if b.of(Introduced) else (c, b)
    assert [event.record for event in a.of(Introduced)] == [winner.endpoint.record]
    assert failures(loser) == [("no-answer", False)]


def test_window_is_forgotten_with_the_process() -> None:
    wire_, a, b = pair()
    open_window(a)
    record = a.endpoint.record
    a.restart()
    a.endpoint.record = record
    enter(b, seconds=5.0)
    wire_.run(6.0)
    assert not sent(wire_, REPLY, A)


def test_lost_confirmation_is_repeated_for_the_same_proof_only() -> None:
    wire_, a, b = pair()
    dropped: list[bytes] = []

    def tap(source: Address, target: Address, datagram: bytes) -> bytes | None:
        if datagram[0] == CONFIRMATION and len(dropped) < 3:
            dropped.append(datagram)
            return None
        return datagram

    wire_.tap = tap
    open_window(a)
    enter(b)
    assert wire_.run(10.0, lambda: ended(a, b))
    assert len(a.of(Introduced)) == len(b.of(Introduced)) == 1
    assert len(set(sent(wire_, CONFIRMATION, A))) == 1


def test_another_proof_after_the_introduction_gets_no_answer() -> None:
    wire_, a, b = pair()
    open_window(a)
    enter(b)
    assert wire_.run(1.0, lambda: ended(a, b))
    proof = sent(wire_, PROOF, B)[0]
    wire_.inject(B, A, proof[:-1] + bytes([proof[-1] ^ 1]))
    wire_.run(1.0)
    assert len(sent(wire_, CONFIRMATION, A)) == 1
    wire_.inject(B, A, proof)
    wire_.run(1.0)
    assert len(sent(wire_, CONFIRMATION, A)) == 2


def test_confirmation_before_any_reply_is_dropped() -> None:
    wire_, _, b = pair()
    enter(b, to=M)
    wire_.run(0.0)
    index = Greeting.parse(sent(wire_, GREETING, B)[0]).sender_index
    wire_.inject(A, B, wire.Confirmation.head(index) + bytes(16))
    wire_.run(0.1)
    assert not b.events


def test_repeated_reply_is_not_answered_again() -> None:
    wire_, a, b = pair()
    wire_.tap = lambda source, target, datagram: None if datagram[0] == PROOF else datagram
    open_window(a)
    enter(b)
    wire_.run(0.03)
    reply = sent(wire_, REPLY, A)[0]
    for _ in range(20):
        wire_.inject(A, B, reply)
    wire_.run(0.1)
    assert len(sent(wire_, PROOF, B)) == 1


def test_entry_without_confirmation_ends_as_no_answer() -> None:
    wire_, a, b = pair()
    wire_.tap = lambda source, target, datagram: None if datagram[0] == CONFIRMATION else datagram
    open_window(a)
    enter(b, seconds=5.0)
    wire_.run(20.0)
    assert len(a.of(Introduced)) == 1
    assert failures(b) == [("no-answer", False)]


# --- an attacker on the path ------------------------------------------------------------------------------------------


def test_recorded_introduction_replayed_into_a_new_window_has_no_effect() -> None:
    wire_, a, b = pair()
    open_window(a)
    enter(b)
    assert wire_.run(1.0, lambda: ended(a, b))
    greeting, proof = sent(wire_, GREETING, B)[0], sent(wire_, PROOF, B)[0]
    wire_.run(limits.INTRODUCTION_LINGER + 1)
    a.events.clear()
    assert wire_.recorded is not None
    wire_.recorded.clear()
    open_window(a, OTHER_KEYS)
    wire_.inject(M, A, greeting)
    wire_.inject(M, A, proof)
    wire_.run(5.0)
    assert not wire_.recorded
    open_window(a)  # the same code twice never happens; even then the proof is of another handshake
    wire_.inject(M, A, greeting)
    wire_.inject(M, A, proof, 0.1)
    wire_.run(5.0)
    assert not a.of(Introduced)


@pytest.mark.parametrize("kind", [GREETING, REPLY, PROOF, CONFIRMATION])
def test_datagram_changed_on_the_way_is_as_good_as_lost(kind: int) -> None:
    wire_, a, b = pair()
    changed: list[int] = []

    def tap(source: Address, target: Address, datagram: bytes) -> bytes | None:
        if datagram[0] == kind and len(changed) < 3:
            changed.append(kind)
            at = wire_.random.randrange(8, len(datagram))
            return datagram[:at] + bytes([datagram[at] ^ 1]) + datagram[at + 1 :]
        return datagram

    wire_.tap = tap
    open_window(a)
    enter(b)
    assert wire_.run(20.0, lambda: ended(a, b))
    assert len(changed) == 3
    assert b.of(Introduced)


def test_man_in_the_middle_without_the_code_learns_no_identity_and_puts_none_in() -> None:
    """It answers `b` in the place of `a`, and greets `a` in the place of `b`, with keys of its own."""
    wire_, a, b = pair()
    m = side(wire_, "m", M)
    open_window(m, OTHER_KEYS)
    open_window(a)
    # Everything of `b` for `a` comes to `m`, and what `m` answers goes to `b` as from `a`.
    seen: list[bytes] = []

    def divert(source: Address, target: Address, datagram: bytes) -> bytes | None:
        if source == B:
            seen.append(datagram)
            wire_.inject(B, M, datagram)
            return None
        return datagram

    wire_.tap = divert
    enter(m, OTHER_KEYS, 20.0)
    enter(b, seconds=20.0)
    wire_.run(25.0)
    assert {datagram[0] for datagram in seen} == {GREETING}  # `b` never says who it is
    assert not sent(wire_, REPLY, A)  # nor does `a`
    assert not any(each.of(Introduced) for each in (a, b, m))


def test_man_in_the_middle_who_passes_all_on_changes_nothing() -> None:
    wire_, a, b = pair()

    def through_m(source: Address, target: Address, datagram: bytes) -> bytes | None:
        wire_.inject(M, A if source == B else B, datagram, 0.01)  # both see each other at the attacker's address
        return None

    wire_.side("m", M)
    wire_.tap = through_m
    open_window(a)
    enter(b)
    wire_.run(2.0)
    assert [event.record for event in b.of(Introduced)] == [a.endpoint.record]


def test_reply_of_an_earlier_try_does_not_open_in_a_later_one() -> None:
    wire_, a, b = pair()
    wire_.tap = lambda source, target, datagram: None if datagram[0] == PROOF else datagram
    open_window(a)
    enter(b, seconds=2.0)
    wire_.run(3.0)
    old, proofs = sent(wire_, REPLY, A)[0], len(sent(wire_, PROOF, B))
    assert proofs
    wire_.tap = None
    enter(b, to=M)
    wire_.run(0.0)
    greeting = Greeting.parse(sent(wire_, GREETING, B)[-1])
    wire_.inject(A, B, old[:8] + greeting.sender_index.to_bytes(4, "big") + old[12:])
    wire_.run(1.0)
    assert len(sent(wire_, PROOF, B)) == proofs


# --- who knows the code but is not who it says ------------------------------------------------------------------------


def test_record_of_somebody_else_is_refused_by_the_window() -> None:
    """Knowing the code is not enough to be introduced as another agent: Noise proves the record's key."""
    wire_, a, b = pair()
    c = side(wire_, "c", M)
    open_window(a)
    pose(b, c)
    enter(b, seconds=5.0)
    wire_.run(6.0)
    assert failures(a) == [("other-identity", True)]
    assert not a.of(Introduced)
    assert failures(b) == [("no-answer", False)]


def test_record_of_somebody_else_is_refused_by_whoever_entered() -> None:
    wire_, a, b = pair()
    c = side(wire_, "c", M)
    pose(a, c)
    open_window(a)
    enter(b)
    wire_.run(5.0)
    assert failures(b) == [("other-identity", False)]
    assert not sent(wire_, PROOF, B)


def test_certificate_that_is_over_is_refused_and_said() -> None:
    wire_, a, b = pair()
    open_window(a)
    a.endpoint.wall = lambda: WALL_START + 49 * 60 * MINUTE_US
    enter(b, seconds=5.0)
    wire_.run(6.0)
    assert failures(a) == [("expired", True)]


def test_introduction_to_ourselves_is_refused() -> None:
    wire_, a, _ = pair()
    open_window(a)
    enter(a, to=A)
    wire_.run(2.0)
    assert failures(a) == [("self", False)]


def test_code_holder_that_sends_rubbish_for_a_record_closes_the_window() -> None:
    wire_, a, _ = pair()
    open_window(a)
    static, ephemeral = TransportKey(b"\5" * 32), TransportKey(b"\6" * 32)
    state = HandshakeState("XXpsk0", True, b"covey introduction 1\0", static, ephemeral, None, KEYS.psk)
    prefix = Greeting.prefix(1, state.write_message(wire.GREETING_PAYLOAD))
    wire_.inject(B, A, prefix + mac1(KEYS.mac1_key, prefix))
    wire_.run(1.0)
    reply = wire.Reply.parse(sent(wire_, REPLY, A)[0])
    state.read_message(reply.noise)
    wire_.inject(B, A, Proof(reply.sender_index, state.write_message(wire.encode_record(b"rubbish"))).encode())
    wire_.run(1.0)
    assert failures(a) == [("malformed", True)]


# --- commands ---------------------------------------------------------------------------------------------------------


def test_without_a_record_there_is_nothing_to_introduce() -> None:
    wire_ = Wire()
    bare = wire_.side("a", A)
    with pytest.raises(StateError) as caught:
        open_window(bare)
    assert caught.value.code == "no-record"
    with pytest.raises(StateError):
        enter(bare, to=B)


def test_new_window_replaces_the_old_one() -> None:
    wire_, a, b = pair()
    open_window(a)
    open_window(a, OTHER_KEYS)
    enter(b, seconds=3.0)
    wire_.run(4.0)
    assert failures(b) == [("no-answer", False)]
    enter(b, OTHER_KEYS)
    assert wire_.run(1.0, lambda: bool(b.of(Introduced)))


def test_who_left_hears_nothing_more() -> None:
    wire_, a, b = pair()
    enter(b)
    b.endpoint.introduction.leave()
    open_window(a)
    wire_.run(60.0)
    assert not b.events


def test_nothing_is_due_without_window_and_entry() -> None:
    machine = Introduction(pair()[1].endpoint)
    assert machine.deadline() is None
    machine.expire(1e9)
    assert not machine.is_open


def test_invitation_with_many_places_is_tried_at_few() -> None:
    wire_, _, b = pair()
    places = [Route(0, ("10.0.9.9", port)) for port in range(1, 101)]
    b.endpoint.introduction.enter(wire_.now, KEYS, places, 30.0)
    for route in places:
        b.endpoint.introduction.add_routes([route])
    wire_.run(0.0)
    assert wire_.recorded is not None
    wire_.recorded.clear()
    wire_.run(0.3)
    assert {target for _, target, _ in wire_.recorded} == {
        route.remote for route in places[-limits.INTRODUCTION_ROUTES :]
    }
