"""Is a rendezvous there? One question to each of its endpoints, without an identity and without a session.

The question is the one every agent asks before its first handshake (RECORD_REQUEST, PROTOCOL 5). The signed answer
proves who gave it; its dates also bound the time at the other end.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Final

from covey.base.errors import CoveyError
from covey.base.schema import FindingView
from covey.base.types import endpoint_text, identity_text, parse_endpoint
from covey.crypto.cookie import cookie_key, mac2, open_cookie
from covey.crypto.events import KeyLog
from covey.crypto.mac import mac1, mac1_key
from covey.crypto.record import Record
from covey.net.host import Host, UdpPort
from covey.wire.datagram import COOKIE_REPLY, MAC_SIZE, CookieReply, RecordRequest, RecordResponse
from covey.wire.ticket import TicketEntry

__all__ = ["Reached", "clock_finding", "reach"]

_TRIES: Final = 3
_NONCE_SIZE: Final = 8


@dataclass(frozen=True, slots=True)
class Reached:
    """What asking one rendezvous gave."""

    identity: str
    endpoint: str
    """The one that answered, else the first of the ticket."""
    rtt_ms: float | None = None
    """None: no answer."""
    problem: str = ""
    ahead_us: int = 0
    """Our clock is at least so much later than that of the rendezvous; earlier, if negative. 0: they may agree."""


async def reach(host: Host, entry: TicketEntry, seconds: float) -> Reached:
    """Ask each endpoint of `entry` up to three times, for at most `seconds` in all. Raises nothing."""
    silent = Reached(identity_text(entry.identity), entry.endpoints[0], problem="no answer")
    try:
        async with asyncio.timeout(seconds):
            for text in entry.endpoints:
                for address in await host.resolve(*parse_endpoint(text)):
                    found = await _ask(host, entry, address, seconds / _TRIES / len(entry.endpoints))
                    if found is not None:
                        return found
    except TimeoutError:
        pass
    except CoveyError as error:
        return Reached(silent.identity, silent.endpoint, problem=error.message)
    return silent


def clock_finding(reached: Reached) -> FindingView | None:
    """What is to be said if the two clocks cannot both be right."""
    if not reached.ahead_us:
        return None
    seconds = abs(reached.ahead_us) / 1e6
    if reached.ahead_us > 0:
        code, word = "clock-ahead-of-rendezvous", "ahead of"
    else:
        code, word = "clock-behind-rendezvous", "behind"
    what = f"this machine's clock is at least {seconds:.0f} s {word} that of {reached.endpoint}: one of them is wrong"
    return FindingView(code, "warning", what, "compare it: timedatectl status")


async def _ask(host: Host, entry: TicketEntry, address: tuple[str, int], patience: float) -> Reached | None:
    try:
        port = host.udp(("::" if ":" in address[0] else "0.0.0.0", 0))  # noqa: S104 - a port to ask from
    except CoveyError:
        return None  # an address family that this machine does not have
    arrived = asyncio.Event()
    port.on_readable(arrived.set)
    try:
        for _ in range(_TRIES):
            question = _Question(host, entry)
            _send(port, RecordRequest.finish(question.message), address)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    while question.ahead_us is None:
                        await arrived.wait()
                        arrived.clear()
                        for datagram in _received(port):
                            again = question.take_untrusted(datagram)
                            if again is not None:
                                _send(port, again, address)
            if question.ahead_us is not None:
                rtt_ms = round((host.now() - question.asked) * 1000, 3)
                return Reached(
                    identity_text(entry.identity), endpoint_text(address), rtt_ms, ahead_us=question.ahead_us
                )
    finally:
        port.close()
    return None


class _Question:
    """One question and what came of it. `ahead_us` is None until the answer is there."""

    def __init__(self, host: Host, entry: TicketEntry) -> None:
        self.asked = host.now()
        self.ahead_us: int | None = None
        self._host = host
        self._identity = entry.identity
        self._nonce = host.random(_NONCE_SIZE)
        prefix = RecordRequest.prefix(self._nonce, self._identity)
        self.message = prefix + mac1(mac1_key(self._identity), prefix)

    def take_untrusted(self, datagram: bytes) -> bytes | None:
        """What to send now: the question with a cookie, if one under load wants to know that we are where we seem."""
        try:
            if datagram[:1] == bytes([COOKIE_REPLY]):
                return self._with_cookie(CookieReply.parse(datagram))
            response = RecordResponse.parse(datagram)
            record = Record.parse(response.record)
            if response.nonce == self._nonce and record.identity == self._identity:
                # Judged at its own time: whether the two clocks agree is what we want to know.
                record.verify(KeyLog.parse(response.log), record.sequence)
                self.ahead_us = _ahead(record, self._host.wall_us())
        except CoveyError:
            return None
        return None

    def _with_cookie(self, reply: CookieReply) -> bytes | None:
        if reply.reference != self._nonce:
            return None
        cookie = open_cookie(cookie_key(self._identity), reply.nonce, reply.sealed, self.message[-MAC_SIZE:])
        return RecordRequest.finish(self.message, mac2(cookie, self.message))


def _ahead(record: Record, now_us: int) -> int:
    """How far ahead our clock is at least: a record is signed at its sequence and renewed before it expires."""
    if now_us < record.sequence:
        return now_us - record.sequence
    return max(0, now_us - record.expires_us)


def _send(port: UdpPort, datagram: bytes, address: tuple[str, int]) -> None:
    port.send(memoryview(bytearray(datagram)), len(datagram), address)


def _received(port: UdpPort) -> list[bytes]:
    """Everything that waits, datagram by datagram."""
    found = []
    while (received := port.receive()) is not None:
        train, segment, _ = received
        found += [bytes(train[at : at + segment]) for at in range(0, len(train), segment)]
    return found
