"""How many handshakes a core can answer (PROTOCOL 37): CPU time of the responder, everything until epoch 1 included.

A handshake here is message 1 and 2, the initiator's first packet, OFFER and ANSWER of the ratchet (ML-KEM-768 and
X25519) and the first packet of epoch 1, between two endpoints in this process that hand each other bytes: no socket,
no loop. What the responder spends is the CPU time of this thread inside its calls.

============== ======================================================================================================
pinned         the peer is trusted, its log is at hand and its certificates were seen before: every reconnection
cold chain     the same with the log at hand, but delegation and certificate are met for the first time
stranger       the log is fetched within the session and verified too
both sides     pinned, initiator and responder together
refused        message 1 by somebody who knows the responder's key (mac1 is right) and whose sealed part is garbage: the
               dearest thing that is refused, X25519 included
============== ======================================================================================================
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from covey.core.endpoint import Endpoint
from covey.core.events import ConnectionLive
from covey.core.handshake import Target
from covey.core.path import Route
from covey.crypto.credentials import Credentials
from covey.crypto.mac import mac1, mac1_key
from covey.wire.datagram import Initiation

__all__ = ["handshakes_per_cpu_s"]

T = TypeVar("T")

RESPONDER = ("192.0.2.1", 4000)
INITIATOR = ("192.0.2.2", 4000)
PEERS = 20
"""Identities that take turns."""
WALL_US = 1_800_000_000_000_000


@dataclass
class Clocks:
    """CPU seconds spent so far; the world's time, which goes on by itself."""

    initiator: float = 0.0
    responder: float = 0.0
    now: float = 1000.0
    out: memoryview = field(default_factory=lambda: memoryview(bytearray(65_536)))

    def wall(self) -> int:
        return WALL_US + int(self.now * 1e6)


def handshakes_per_cpu_s(handshakes: int) -> dict[str, float]:
    """So many handshakes of each kind: how many the CPU time of one second is enough for, by kind."""
    clocks = Clocks()
    agents = [Credentials.create(os.urandom, WALL_US)[0] for _ in range(PEERS)]
    own = Credentials.create(os.urandom, WALL_US)[0]
    per_second: dict[str, float] = {}

    def responder(*, known: bool) -> Endpoint:
        endpoint = _endpoint(own, clocks)
        for agent in agents if known else ():
            endpoint.pin(agent.identity)
            endpoint.add_log(agent.log)
        return endpoint

    def measure(target: Endpoint, count: int) -> tuple[float, float]:
        clocks.initiator = clocks.responder = 0.0
        for number in range(count):
            _shake_hands(agents[number % PEERS], target, clocks)
        return clocks.initiator, clocks.responder

    pinned = responder(known=True)
    measure(pinned, PEERS)
    initiator, spent = measure(pinned, handshakes)
    per_second["pinned"] = handshakes / spent
    per_second["both_sides"] = handshakes / (initiator + spent)
    for name, known in (("cold_chain", True), ("stranger", False)):
        rounds = max(1, handshakes // PEERS)
        total = sum(measure(responder(known=known), PEERS)[1] for _ in range(rounds))
        per_second[name] = rounds * PEERS / total
    clocks.responder = 0.0
    for number in range(handshakes):
        _be_refused(agents[number % PEERS], pinned, clocks)
    per_second["refused"] = handshakes / clocks.responder
    return per_second


def _endpoint(credentials: Credentials, clocks: Clocks) -> Endpoint:
    endpoint = Endpoint(credentials, wall=clocks.wall, random=os.urandom)
    endpoint.set_ports([(0, 4)])
    return endpoint


def _shake_hands(agent: Credentials, responder: Endpoint, clocks: Clocks) -> None:
    """One agent, just started, connects; afterwards the responder has forgotten it."""
    clocks.now += 1.0
    own = responder.credentials
    initiator = _endpoint(agent, clocks)
    initiator.add_log(own.log)
    target = Target(own.identity, own.current.key.public)
    began = time.thread_time()
    connection = initiator.connect(clocks.now, target, [Route(0, RESPONDER)])
    clocks.initiator += time.thread_time() - began
    live = 0
    while True:
        clocks.now += 0.001
        there = _move(initiator, responder, INITIATOR, clocks, ours=True)
        back = _move(responder, initiator, RESPONDER, clocks, ours=False)
        live += sum(isinstance(event, ConnectionLive) for event in responder.events())
        session = connection.session
        if not there and not back and live and session is not None and session.epochs.epoch == 1:
            break
    responder.close(clocks.now, responder.connections[agent.identity])
    while responder.transmit(clocks.now, clocks.out) is not None:
        pass
    responder.events()


def _be_refused(agent: Credentials, responder: Endpoint, clocks: Clocks) -> None:
    clocks.now += 1.0
    own = responder.credentials
    initiator = _endpoint(agent, clocks)
    initiator.connect(clocks.now, Target(own.identity, own.current.key.public), [Route(0, RESPONDER)])
    train = initiator.transmit(clocks.now, clocks.out)
    assert train is not None
    sent = Initiation.parse(bytes(clocks.out[: train.size]))
    spoiled = sent.noise[:-1] + bytes([sent.noise[-1] ^ 1])
    prefix = Initiation.prefix(sent.sender_index, sent.psk_tag, spoiled)
    message = Initiation.finish(prefix + mac1(mac1_key(own.current.key.public), prefix))
    _timed(clocks, False, partial(responder.receive, clocks.now, memoryview(message), len(message), 0, INITIATOR))
    while True:
        deadline = responder.deadline()
        if deadline > clocks.now:
            break
        _timed(clocks, False, partial(responder.expire, clocks.now))
    answered = responder.transmit(clocks.now, clocks.out)
    assert answered is None, "it is refused without a word"


def _move(source: Endpoint, target: Endpoint, address: tuple[str, int], clocks: Clocks, *, ours: bool) -> bool:
    """Everything `source` has to say now, to `target`. The time of each call goes to whom it belongs."""
    sent = False
    while True:
        train = _timed(clocks, ours, partial(source.transmit, clocks.now, clocks.out))
        if train is None:
            break
        sent = True
        view = memoryview(bytes(clocks.out[: train.size]))
        _timed(clocks, not ours, partial(target.receive, clocks.now, view, train.segment, 0, address))
    for endpoint, mine in ((target, not ours), (source, ours)):
        deadline = endpoint.deadline()
        if deadline <= clocks.now:
            _timed(clocks, mine, partial(endpoint.expire, clocks.now))
    return sent


def _timed(clocks: Clocks, initiator: bool, call: Callable[[], T]) -> T:
    began = time.thread_time()
    result = call()
    spent = time.thread_time() - began
    if initiator:
        clocks.initiator += spent
    else:
        clocks.responder += spent
    return result
