"""How many handshakes a core can answer (PROTOCOL 37): CPU time of the responder, everything until epoch 1 included.

A handshake here is message 1 and 2, the initiator's first packet, OFFER and ANSWER of the ratchet (ML-KEM-768 and
X25519) and the first packet of epoch 1, between two endpoints in this process that hand each other bytes: no socket,
no loop. What the responder spends is the CPU time of this thread inside its calls.

============== ======================================================================================================
pinned         the peer is trusted, its log is at hand and its certificates were seen before: every reconnection
cold chain     the same with the log at hand, but delegation and certificate are met for the first time
stranger       the log is fetched within the session and verified too
both sides     pinned, initiator and responder together
============== ======================================================================================================
"""

from __future__ import annotations

import cProfile
import os
import pstats
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from covey.bench.rows import Row, row
from covey.core.endpoint import Endpoint
from covey.core.events import ConnectionLive
from covey.core.handshake import Target
from covey.core.path import Route
from covey.crypto.credentials import Credentials

__all__ = ["handshake_rows"]

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
    profile: cProfile.Profile | None = None
    out: memoryview = field(default_factory=lambda: memoryview(bytearray(65_536)))

    def wall(self) -> int:
        return WALL_US + int(self.now * 1e6)


def handshake_rows(
    runs: int, progress: Callable[[str], None], *, handshakes: int = 400, profile: bool = False
) -> list[Row]:
    """`runs` times so many handshakes of each kind. `profile` prints where the responder's time goes, and slows it."""
    figures: dict[str, list[float]] = {}
    profiler = cProfile.Profile() if profile else None
    for run in range(runs):
        progress(f"run {run + 1} of {runs}: handshakes")
        for name, per_second in _run(handshakes, profiler).items():
            figures.setdefault(name, []).append(per_second)
    if profiler is not None:
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(35)
    return [row(f"handshakes_{name}_per_cpu_s", "1/s", values) for name, values in figures.items()]


def _run(handshakes: int, profile: cProfile.Profile | None) -> dict[str, float]:
    """Handshakes per CPU-second by name."""
    clocks = Clocks(profile=None)
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
    clocks.profile = profile
    initiator, spent = measure(pinned, handshakes)
    clocks.profile = None
    per_second["pinned"] = handshakes / spent
    per_second["both_sides"] = handshakes / (initiator + spent)
    for name, known in (("cold_chain", True), ("stranger", False)):
        rounds = max(1, handshakes // PEERS)
        total = sum(measure(responder(known=known), PEERS)[1] for _ in range(rounds))
        per_second[name] = rounds * PEERS / total
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
    profile = None if initiator else clocks.profile
    if profile is not None:
        profile.enable()
    began = time.thread_time()
    result = call()
    spent = time.thread_time() - began
    if profile is not None:
        profile.disable()
    if initiator:
        clocks.initiator += spent
    else:
        clocks.responder += spent
    return result
