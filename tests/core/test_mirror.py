"""A rendezvous tells where a datagram comes from, and nobody can use it to hit somebody else harder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.types import Endpoint, Identity
from covey.core import limits
from covey.core.events import Event, Reflected
from covey.core.mirror import Mirror, Reflections
from covey.core.path import Route
from covey.crypto.mac import mac1, mac1_key
from covey.wire.datagram import MIRROR_SIZE, MirrorRequest, MirrorResponse

OWN: Final = Identity(bytes(range(32)))
NONCE: Final = b"12345678"
FIRST, SECOND = (0, 4040), (1, 4041)
CLIENT: Final[Endpoint] = ("198.51.100.7", 5000)
DIRECT: Final = Route(0, CLIENT)


@dataclass
class Desk:
    """A mirror, and what it sent."""

    ports: dict[int, tuple[int, int]] = field(default_factory=lambda: {0: SECOND, 1: FIRST})

    def __post_init__(self) -> None:
        self.sent: list[tuple[Route, bytes]] = []
        self.mirror = Mirror(OWN, self.ports, lambda route, datagram: self.sent.append((route, datagram)))

    def ask(self, *, route: Route = DIRECT, now: float = 0.0, of: bytes = OWN, **said: int) -> None:
        prefix = MirrorRequest.prefix(NONCE, **said)  # type: ignore[arg-type]
        self.mirror.receive(now, memoryview(prefix + mac1(mac1_key(of), prefix)), route)

    def answer(self) -> tuple[Route, MirrorResponse]:
        [(route, datagram)] = self.sent
        assert len(datagram) == MIRROR_SIZE
        return route, MirrorResponse.parse(datagram)


@pytest.mark.parametrize(
    ("route", "said", "answered_on", "second"),
    [
        (Route(0, CLIENT), {}, Route(0, CLIENT), 4041),
        (Route(1, CLIENT), {}, Route(1, CLIENT), 4040),
        (Route(0, CLIENT), {"elsewhere": True}, Route(1, CLIENT), 4041),
        (Route(0, CLIENT), {"port": 7}, Route(0, (CLIENT[0], 7)), 4041),
        (Route(0, ("fe80::1%2", 5000)), {}, Route(0, ("fe80::1%2", 5000)), 4041),
    ],
)
def test_mirror_says_where_the_request_came_from(
    route: Route, said: dict[str, int], answered_on: Route, second: int
) -> None:
    desk = Desk()
    desk.ask(route=route, **said)
    seen = (route.remote[0].partition("%")[0], route.remote[1])
    assert desk.answer() == (answered_on, MirrorResponse(NONCE, second, seen))


def test_mirror_with_one_port_says_so_and_answers_from_it_only() -> None:
    desk = Desk({})
    desk.ask(elsewhere=True)
    assert desk.sent == []
    desk.ask()
    assert desk.answer()[1].second_port == 0


def test_mirror_is_silent_for_whoever_does_not_know_it_and_through_relays() -> None:
    desk = Desk()
    desk.ask(of=bytes(32))
    desk.ask(route=Route(0, CLIENT, 5))
    assert desk.sent == []


def test_mirror_answers_one_source_so_often_and_all_together_so_often() -> None:
    desk = Desk()
    for _ in range(500):
        desk.ask()
    assert len(desk.sent) == limits.MIRROR_BURST
    for host in range(500):
        desk.ask(route=Route(0, (f"203.0.113.{host % 250}", 1 + host)))
    assert len(desk.sent) == limits.MIRROR_TOTAL_BURST
    desk.ask(now=1.0)
    assert len(desk.sent) == limits.MIRROR_TOTAL_BURST + 1


@given(st.binary(max_size=40))
def test_mirror_says_nothing_to_noise(noise: bytes) -> None:
    desk = Desk()
    desk.mirror.receive(0.0, memoryview(noise), Route(0, CLIENT))
    assert desk.sent == []


def test_reflections_believe_whom_they_asked_once() -> None:
    sent: list[tuple[Route, bytes]] = []
    events: list[Event] = []
    reflections = Reflections(lambda size: NONCE[:size], lambda *each: sent.append(each), events.append)
    reflections.ask(OWN, DIRECT)
    [(route, datagram)] = sent
    desk = Desk()
    desk.mirror.receive(0.0, memoryview(datagram), Route(0, CLIENT))
    answer = memoryview(desk.sent[0][1])
    for wrong, noise in ((Route(1, CLIENT), answer), (Route(0, ("192.0.2.9", 1)), answer), (route, answer[:-1])):
        reflections.receive(noise, wrong)
    assert events == []
    reflections.receive(answer, route)
    reflections.receive(answer, route)
    assert events == [Reflected(route, CLIENT)]


def test_reflections_remember_so_many_questions() -> None:
    numbers = iter(range(1000))
    events: list[Event] = []
    asked: list[bytes] = []

    def random(size: int) -> bytes:
        asked.append(next(numbers).to_bytes(size, "big"))
        return asked[-1]

    reflections = Reflections(random, lambda *_: None, events.append)
    for _ in range(100):
        reflections.ask(OWN, DIRECT)
    for nonce in asked:
        reflections.receive(memoryview(MirrorResponse(nonce, 0, CLIENT).encode()), DIRECT)
    assert len(events) == 32
