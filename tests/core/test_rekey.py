"""New keys under load: bulk flows both ways through one ratchet after another, and nobody notices."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from covey.core.events import ConnectionLive, ConnectionStalled, Event, StreamReadable
from covey.core.limits import LIFETIMES, OFFER_SECONDS, Lifetimes
from covey.core.session import Session
from covey.wire import control
from tests.core.pair import Side, Wire, admit

SIZE = 1_000_000
PIECE = 6_000
PAUSE = 0.002
"""24 Mbit/s each way."""
OFTEN = {
    "packets": Lifetimes(rekey_packets=100),
    "bytes": Lifetimes(rekey_bytes=120_000),
    "time": Lifetimes(rekey_seconds=0.02),
}


class Bulk:
    """Random bytes from one side to the other, read as they come; `gap` is the longest silence after the beginning."""

    def __init__(self, wire: Wire, source: Side, target: Side) -> None:
        self.data = random.Random(source.name).randbytes(SIZE)
        self.got = bytearray()
        self.gap = 0.0
        self._begun = self._last = wire.now
        self._wire = wire
        self._stream = source.connection(target).open("bulk")
        target.on_event = self._on_event
        self._write(0)

    def _write(self, at: int) -> None:
        self._stream.write(self.data[at : at + PIECE])
        if at + PIECE < SIZE:
            self._wire.after(PAUSE, lambda: self._write(at + PIECE))

    def _on_event(self, event: Event) -> None:
        if isinstance(event, StreamReadable) and event.stream.id == self._stream.id:
            now = self._wire.now
            if now > self._begun + 0.2:
                self.gap = max(self.gap, now - self._last)
            self._last = now
            self.got += event.stream.read()

    @property
    def done(self) -> bool:
        return len(self.got) >= SIZE


def session_of(side: Side, other: Side) -> Session:
    session = side.connection(other).session
    assert session is not None
    return session


def connected(lifetimes: Lifetimes, **impairments: float) -> tuple[Wire, Side, Side]:
    wire = Wire(1, lifetimes=lifetimes, mtu=1472, **impairments)  # type: ignore[arg-type]
    a, b = wire.side("a"), wire.side("b")
    for side in (a, b):
        side.on_event = admit
    a.connect(b)
    assert wire.run(10, until=lambda: bool(a.of(ConnectionLive) and b.of(ConnectionLive)))
    wire.run(0.5)
    return wire, a, b


def transfer(lifetimes: Lifetimes, **impairments: float) -> tuple[float, int]:
    """Bulk both ways at once: the longest silence of either, and how many ratchets there were."""
    wire, a, b = connected(lifetimes, **impairments)
    session = session_of(a, b)
    before = session.epochs.epoch
    forth, back = Bulk(wire, a, b), Bulk(wire, b, a)
    assert wire.run(60, until=lambda: forth.done and back.done)
    assert forth.got == forth.data
    assert back.got == back.data
    assert session is session_of(a, b)
    assert not a.of(ConnectionStalled) + b.of(ConnectionStalled)
    assert session.active.recovery.lost_bytes == 0 or impairments
    return max(forth.gap, back.gap), session.epochs.epoch - before


@pytest.mark.parametrize("often", OFTEN)
def test_ratchet_under_bulk_both_ways_makes_no_stall(often: str) -> None:
    quiet, none = transfer(LIFETIMES)
    gap, ratchets = transfer(OFTEN[often])
    assert none == 0
    assert ratchets >= 4
    assert gap <= quiet + 0.005


@pytest.mark.parametrize("often", OFTEN)
def test_ratchet_under_bulk_loses_nothing_on_a_bad_path(often: str) -> None:
    # As often as it may be asked for, since this takes seconds.
    lifetimes = Lifetimes(rekey_seconds=OFFER_SECONDS) if often == "time" else OFTEN[often]
    _, ratchets = transfer(lifetimes, loss=0.02, jitter=0.004, duplicate=0.05, corrupt=0.01)
    assert ratchets >= 4


def test_packets_of_both_epochs_open_while_the_switch_is_under_way() -> None:
    """Nothing that was in flight when the keys changed is sent again: old packets open for as long as they travel."""
    wire, a, b = connected(OFTEN["packets"], jitter=0.02)
    seen: dict[Any, list[int]] = {a.address: [], b.address: []}

    def note(source: Any, target: Any, datagram: bytes) -> bytes:
        if datagram[0] == 4:
            seen[source].append(datagram[3])
        return datagram

    wire.tap = note
    forth, back = Bulk(wire, a, b), Bulk(wire, b, a)
    assert wire.run(60, until=lambda: forth.done and back.done)
    assert min(len(set(epochs)) for epochs in seen.values()) > 4
    # A sender never goes back to an epoch it has left.
    assert all(epochs == sorted(epochs) for epochs in seen.values())


def test_wish_for_new_keys_that_crosses_their_offer_is_met_by_it() -> None:
    """Both sides have worn the key at once: one ratchet, not a second one a moment later."""
    wire, a, b = connected(LIFETIMES)
    ours, theirs = session_of(a, b), session_of(b, a)
    before = ours.epochs.epoch
    ours.start_ratchet()
    theirs.send_control(control.WANT_REKEY)
    wire.run(5)
    assert ours.epochs.epoch == theirs.epochs.epoch == before + 1
    theirs.send_control(control.WANT_REKEY)
    wire.run(5)
    assert ours.epochs.epoch == before + 2


def test_bulk_goes_on_while_the_epochs_on_the_wire_wrap() -> None:
    wire, a, b = connected(replace(OFTEN["bytes"], epochs=1 << 40))
    for side, other in ((a, b), (b, a)):
        epochs = session_of(side, other).epochs
        epochs.receiving = {0xFFFD: epochs.receiving[epochs.wire_epoch]}
        epochs._retire.clear()
        epochs.epoch = epochs._latest = epochs._previous = 0xFFFD
    session = session_of(a, b)
    forth, back = Bulk(wire, a, b), Bulk(wire, b, a)
    assert wire.run(60, until=lambda: forth.done and back.done)
    assert forth.got == forth.data
    assert back.got == back.data
    assert session is session_of(a, b)
    assert session.epochs.epoch > 0x1_0001
    assert session.epochs.wire_epoch < 0x100
