"""Two endpoints with a relay between them: who sends what to whom, when one of them is behind a hard NAT."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from covey.core.events import AddressInDoubt, ConnectionLive, PortsUnused, PortsWanted
from covey.core.why import path_reason
from covey.wire import control, frames
from covey.wire.birthday import Birthday, Word
from covey.wire.control import Candidate, CandidateKind, Filtering, Mapping, NatTraits, Ports
from tests.core.mallory import Lone
from tests.core.pair import Address, Side
from tests.core.test_paths import World

HARD_AT, EASY_AT = ("203.0.113.7", 40_000), ("198.51.100.9", 4000)
SYMMETRIC = NatTraits(Mapping.ADDRESS_AND_PORT_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT, Ports.RANDOM)
COUNTING = NatTraits(Mapping.ADDRESS_AND_PORT_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT, Ports.SEQUENTIAL, 2)
STRICT = NatTraits(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT, Ports.PRESERVED)


class Scene:
    """`a` is behind a hard NAT, `b` behind an ordinary one. Nothing passes between them but over the relay."""

    def __init__(self, *, hard: NatTraits = SYMMETRIC, consents: tuple[bool, bool] = (True, True)) -> None:
        self.world = World(candidates=False)
        self.wire = self.world.wire
        self.sent: list[tuple[Address, Address]] = []
        self.wire.blocked = self._blocked
        self.opened: list[int] = []
        self.closed: list[int] = []
        self.vouches = True
        self.doubted: list[tuple[str, str]] = []
        for side in (self.world.a, self.world.b):
            side.on_event = self._answering(side)
        for side, at, traits, consent in (
            (self.world.a, HARD_AT, hard, consents[0]),
            (self.world.b, EASY_AT, STRICT, consents[1]),
        ):
            side.endpoint.set_candidates([Candidate(CandidateKind.REFLEXIVE, at)], traits, consents=consent)
        self.flow = self.world.connection.open("flow")

    def _blocked(self, source: Address, target: Address) -> bool:
        if target[0] in (HARD_AT[0], EASY_AT[0]):
            self.sent.append((source, target))
            return True
        return False

    def _answering(self, side: Side) -> Callable[[object], None]:
        def answer(event: object) -> None:
            match event:
                case ConnectionLive(connection, _):
                    connection.admit()
                case AddressInDoubt(connection, host):
                    self.doubted.append((side.name, host))
                    if self.vouches:
                        side.endpoint.vouch(self.wire.now, connection, host)
                case PortsWanted(connection, 4, count):
                    ports = range(100 + len(self.opened), 100 + len(self.opened) + count)
                    self.opened += ports
                    side.endpoint.lend_ports(self.wire.now, connection, list(ports))
                case PortsUnused(ports):
                    self.closed += ports

        return answer

    def run(self, seconds: float) -> None:
        """Time passes, and something is said every second."""
        until = self.wire.now + seconds
        while self.wire.now < until:
            self.flow.write(b"x")
            self.wire.run(1.0)

    def to(self, host: str) -> list[Address]:
        return [target for _, target in self.sent if target[0] == host]

    @property
    def why(self) -> str:
        return path_reason(self.wire.now, self.world.connection, self.world.session.active)


def test_run_tries_random_ports_and_opens_256_once_an_hour() -> None:
    scene = Scene()
    scene.run(20)
    assert scene.why == "probing"
    scene.run(20)
    assert scene.why == "birthday-failed"
    assert len(set(scene.to(HARD_AT[0]))) == pytest.approx(2049, abs=2)
    assert len(scene.opened) == 256
    assert sorted(scene.closed) == scene.opened
    assert set(scene.to(EASY_AT[0])) == {EASY_AT}
    assert len(scene.to(EASY_AT[0])) == pytest.approx(5 * 256, abs=30)
    scene.sent.clear()
    scene.run(300)
    assert len(scene.to(HARD_AT[0])) + len(scene.to(EASY_AT[0])) < 100


@pytest.mark.parametrize("consents", [(False, False), (True, False), (False, True)])
def test_run_needs_the_consent_of_both(consents: tuple[bool, bool]) -> None:
    scene = Scene(consents=consents)
    scene.run(30)
    assert not scene.opened
    assert not scene.doubted
    assert set(scene.to(HARD_AT[0])) == {HARD_AT}


def test_run_that_nobody_vouches_for_never_begins() -> None:
    scene = Scene()
    scene.vouches = False
    scene.run(100)
    assert not scene.opened
    assert set(scene.to(HARD_AT[0])) == {HARD_AT}
    assert 2 <= len(scene.doubted) <= 16


def test_predicted_ports_are_probed_without_consent_but_not_without_a_voucher() -> None:
    scene = Scene(hard=COUNTING, consents=(False, False))
    scene.vouches = False
    scene.run(20)
    assert set(scene.to(HARD_AT[0])) == {HARD_AT}
    scene = Scene(hard=COUNTING, consents=(False, False))
    scene.run(20)
    assert set(scene.to(HARD_AT[0])) == {(HARD_AT[0], HARD_AT[1] + 2 * far) for far in range(-32, 33)}


def test_run_ends_when_the_connection_does() -> None:
    scene = Scene()
    scene.run(5)
    assert len(scene.opened) == 256
    scene.world.a.endpoint.close(scene.wire.now, scene.world.connection)
    scene.wire.run(1.0)
    assert sorted(scene.closed) == scene.opened
    scene.sent.clear()
    scene.wire.run(30.0)
    assert not scene.sent


def test_run_ends_when_trust_does() -> None:
    scene = Scene()
    scene.run(5)
    scene.world.b.connection(scene.world.a).direct = False
    scene.sent.clear()
    scene.run(10)
    assert len(scene.to(HARD_AT[0])) < 5


def test_peer_that_names_another_address_than_its_own_is_not_helped() -> None:
    scene = Scene(consents=(False, True))
    scene.run(5)
    session = scene.world.session
    for host in ("192.0.2.1", "198.51.100.9"):
        session.send_control(control.BIRTHDAY, Birthday(Word.ASK, host).encode())
    session.send_control(control.BIRTHDAY, Birthday(Word.GO, EASY_AT[0]).encode())
    scene.run(5)
    assert not scene.opened
    assert not [target for _, target in scene.sent if target not in (HARD_AT, EASY_AT)]


def test_peer_that_keeps_moving_has_few_rounds_of_probes() -> None:
    scene = Scene(consents=(False, False))
    for number in range(100):
        victim = Candidate(CandidateKind.REFLEXIVE, ("203.0.113.7", 1024 + number))
        scene.world.a.endpoint.set_candidates([victim], SYMMETRIC)
        scene.run(6)
    # 16 at once and one in 20 seconds, of nine probes each.
    assert len(scene.to(HARD_AT[0])) < (16 + 600 / 20 + 2) * 9


def test_candidates_of_strangers_leave_nothing_behind() -> None:
    stranger, somewhere = Lone(), Candidate(CandidateKind.HOST, HARD_AT)
    body = control.encode_control(control.CANDIDATES, control.Candidates((somewhere,)).encode())
    stranger.say(frames.CRYPTO_HEAD.pack(frames.CRYPTO, 0, len(body)) + body)
    assert stranger.session.paths.remote_candidates == (somewhere,)
    assert not stranger.endpoint.runs._rounds


def test_peer_with_many_addresses_makes_us_ask_about_few() -> None:
    scene = Scene(hard=COUNTING)
    scene.vouches = False
    places = [Candidate(CandidateKind.REFLEXIVE, (f"203.0.113.{number}", 40_000)) for number in range(1, 33)]
    scene.world.a.endpoint.set_candidates(places, COUNTING)
    scene.run(20)
    assert 0 < len({host for name, host in scene.doubted if name == "b"}) <= 5
