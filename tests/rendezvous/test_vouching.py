from __future__ import annotations

from covey.base.types import Identity
from covey.rendezvous.vouching import Vouching

A, B, C = (Identity(bytes([number]) * 32) for number in range(3))


def test_both_have_to_ask() -> None:
    vouching = Vouching()
    assert not vouching.ask(0.0, A, B)
    assert not vouching.ask(1.0, A, B)
    assert not vouching.ask(1.0, C, B)
    assert vouching.ask(2.0, B, A)
    assert vouching.ask(2.0, A, B)
    assert not vouching.ask(2.0, A, C)


def test_questions_are_forgotten_after_a_minute() -> None:
    vouching = Vouching()
    vouching.ask(0.0, A, B)
    assert not vouching.ask(61.0, B, A)
    assert len(vouching) == 1


def test_memory_is_bounded() -> None:
    vouching = Vouching()
    for number in range(20_000):
        vouching.ask(0.0, Identity(number.to_bytes(32, "big")), A)
    assert len(vouching) == 16_384
