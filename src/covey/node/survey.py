"""Measures what stands between this machine and the network, with the help of one or more rendezvous.

::

    found = await survey(host, [Server(identity, address), ...], bind="0.0.0.0", report=...)

Sockets of its own ask rendezvous where they are seen (`MIRROR_REQUEST`), at both ports of each. The first round trip
tells how a NAT maps if there are two rendezvous, the second one in any case, and how it chooses ports; about half a
second later it is known whose packets it lets in. It needs no identity and no session. What a rendezvous says is
advice: a lie makes us try in vain, and no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from covey.base.errors import CoveyError
from covey.base.types import Endpoint, Identity
from covey.core.nat import Facts, Sample, judge
from covey.crypto.mac import mac1, mac1_key
from covey.net.host import Host, UdpPort
from covey.wire.control import Mapping, NatTraits
from covey.wire.datagram import MirrorRequest, MirrorResponse

__all__ = ["SERVERS_LIMIT", "Observation", "Server", "Surroundings", "newest_mapping", "survey"]

SERVERS_LIMIT: Final = 3
"""Rendezvous that are asked."""
_SOCKETS: Final = 4
_SEEN, _QUIET, _THIRD, _FOURTH = range(_SOCKETS)
"""One that everybody sees, one that speaks to one port only, and two more that make mappings."""
_TRIES: Final = 4
_TRY_SECONDS: Final = 0.25
"""Between questions, while nobody has answered."""
_ROUND_TRIPS: Final = 3
_PATIENCE: Final = (0.1, 1.0)
"""How long others may take once somebody answered: three times as long as it took, seconds within these bounds."""
_FILTER_SECONDS: Final = 0.3
"""What is let in has arrived after this or after our patience, whichever is longer."""
_NONCE_SIZE: Final = 8
_NOT_MEASURED: Final = NatTraits()

_About = Literal["seen", "other-port", "other-address", "unasked", "hairpin"]


class Server(NamedTuple):
    """A rendezvous, and one address of it."""

    identity: Identity
    address: Endpoint


class Observation(NamedTuple):
    """One answer: who saw us where."""

    kind: Literal["rendezvous", "second-port"]
    observer: Endpoint
    seen: Endpoint
    rtt: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a survey found."""

    traits: NatTraits = _NOT_MEASURED
    observations: tuple[Observation, ...] = ()
    """Of the one socket that everybody saw."""
    udp: bool = False
    """Somebody answered."""
    hairpin: bool | None = None
    newest: Endpoint | None = None
    """Where the newest mapping was seen: the next of a sequence follows it."""


class _Question(NamedTuple):
    about: _About
    socket: int
    """Which of ours the answer comes to, if it gets there."""
    observer: Endpoint | None
    """Whom it comes from; None: it does not matter."""
    asked: float


async def survey(
    host: Host, servers: Sequence[Server], bind: str, report: Callable[[Surroundings], None] = lambda found: None
) -> Surroundings:
    """Asks the servers, which are of the address family of `bind`. `report` is told what is known after each step.

    It takes about a second, also if nobody answers. Raises nothing.
    """
    asker = _Asker(host, servers[:SERVERS_LIMIT], bind)
    try:
        asker.open(_SOCKETS)
        near = await asker.meet()
        report(asker.result())
        if near is not None:
            await asker.compare(near)
            report(asker.result())
            await asker.knock(near)
    except CoveyError:
        pass  # no more sockets: what we know is what there is
    finally:
        asker.close()
    return asker.result()


async def newest_mapping(host: Host, servers: Sequence[Server], bind: str) -> Endpoint | None:
    """Where the mapping is seen that one more socket makes: the next one of a NAT that counts follows it."""
    asker = _Asker(host, servers[:1], bind)
    try:
        asker.open(1)
        await asker.meet()
    except CoveyError:
        return None
    finally:
        asker.close()
    return asker.result().newest


class _Asker:
    """`open`, then `meet`, `compare` and `knock`, each once and in this order; `result` any time; `close`."""

    def __init__(self, host: Host, servers: Sequence[Server], bind: str) -> None:
        self._host = host
        self._servers = servers
        self._bind = bind
        self._ports: list[UdpPort] = []
        self._arrived = asyncio.Event()
        self._questions: dict[bytes, _Question] = {}
        self._asked: dict[tuple[int, Endpoint], None] = {}
        """(socket, observer) of the questions where a socket is seen, in the order in which they were first sent."""
        self._seen: dict[tuple[int, Endpoint], tuple[Endpoint, float]] = {}
        """Where, and after how many seconds."""
        self._second: dict[Endpoint, Server] = {}
        """The other port of each server that has one, by the first."""
        self._came: set[_About] = set()
        self._facts = Facts()
        self._hairpin: bool | None = None

    def open(self, count: int) -> None:
        """So many more sockets. Raises as `Host.udp`."""
        for _ in range(count):
            port = self._host.udp((self._bind, 0))
            self._ports.append(port)
            port.on_readable(self._arrived.set)

    def close(self) -> None:
        for port in self._ports:
            port.close()

    def result(self) -> Surroundings:
        seconds = {server.address for server in self._second.values()}
        ours = tuple(
            Observation("second-port" if observer in seconds else "rendezvous", observer, *found)
            for (socket, observer), found in self._seen.items()
            if socket == _SEEN
        )
        newest = next((self._seen[each][0] for each in reversed(self._asked) if each in self._seen), None)
        return Surroundings(self._judge(), ours, bool(self._seen), self._hairpin, newest)

    # --- steps -----------------------------------------------------------------------------------------------------

    async def meet(self) -> Server | None:
        """One socket asks every server. Returns who was the quickest to answer; None: nobody."""
        wanted = [(_SEEN, server) for server in self._servers]
        for _ in range(_TRIES):
            self._ask_where(wanted)
            if await self._until(lambda: bool(self._seen), _TRY_SECONDS):
                await self._until(lambda: not self._missing(wanted), self._patience())
                break
        answered = [server for server in self._servers if (_SEEN, server.address) in self._seen]
        return min(answered, key=lambda server: self._seen[_SEEN, server.address][1], default=None)

    async def compare(self, near: Server) -> None:
        """The same socket at second ports, and the others at the nearest server, all at once: new mappings in a row."""
        wanted = [(socket, near) for socket in (_QUIET, _THIRD, _FOURTH)]
        wanted += [(_SEEN, server) for server in self._second.values()]
        for _ in range(2):
            self._ask_where(wanted)
            if await self._until(lambda: not self._missing(wanted), self._patience() / 2):
                return

    async def knock(self, near: Server) -> None:
        """Who gets through to sockets that did not speak to them, and whether one of ours reaches another outside."""
        mapping = self._judge().mapping
        tried = self._attempts(near, mapping)
        for _ in range(2):
            for about, ask in tried.items():
                if about not in self._came:
                    ask()
            if await self._until(lambda: self._came >= tried.keys(), max(_FILTER_SECONDS, self._patience()) / 2):
                break
        answers = {about: about in self._came for about in tried}
        self._facts = Facts(answers.get("other-port"), answers.get("other-address"), answers.get("unasked"))
        self._hairpin = answers.get("hairpin")

    def _attempts(self, near: Server, mapping: Mapping) -> dict[_About, Callable[[], None]]:
        """What may be tried such that its failure says something, and how."""
        found: dict[_About, Callable[[], None]] = {}
        quiet = self._seen.get((_QUIET, near.address))
        second = self._second.get(near.address)
        if quiet is None:
            return found
        if second is not None and (_SEEN, second.address) in self._seen:
            found["other-port"] = lambda: self._ask("other-port", _QUIET, near, _QUIET, second.address, elsewhere=True)
        for far in self._servers:
            if far.address[0] != near.address[0] and (_SEEN, far.address) in self._seen:
                found["other-address"] = lambda far=far: self._ask(  # type: ignore[misc]
                    "other-address", _SEEN, far, _QUIET, far.address, port=quiet[0][1]
                )
                break
        if mapping is Mapping.NONE:
            self.open(1)
            silent = len(self._ports) - 1
            number = self._ports[silent].local[1]
            found["unasked"] = lambda: self._ask("unasked", _SEEN, near, silent, near.address, port=number)
        third, fourth = self._seen.get((_THIRD, near.address)), self._seen.get((_FOURTH, near.address))
        if mapping is Mapping.ENDPOINT_INDEPENDENT and third is not None and fourth is not None:
            found["hairpin"] = lambda: self._hail(third[0], fourth[0])
        return found

    # --- questions and answers -------------------------------------------------------------------------------------

    def _ask_where(self, wanted: Iterable[tuple[int, Server]]) -> None:
        for socket, server in self._missing(wanted):
            self._asked[socket, server.address] = None
            self._ask("seen", socket, server, socket, server.address)

    def _missing(self, wanted: Iterable[tuple[int, Server]]) -> list[tuple[int, Server]]:
        return [(socket, server) for socket, server in wanted if (socket, server.address) not in self._seen]

    def _ask(
        self,
        about: _About,
        socket: int,
        server: Server,
        answers_to: int,
        answers_from: Endpoint,
        *,
        elsewhere: bool = False,
        port: int = 0,
    ) -> None:
        nonce = self._host.random(_NONCE_SIZE)
        message = MirrorRequest.prefix(nonce, elsewhere=elsewhere, port=port)
        self._questions[nonce] = _Question(about, answers_to, answers_from, self._host.now())
        self._send(socket, message + mac1(mac1_key(server.identity), message), server.address)

    def _hail(self, third: Endpoint, fourth: Endpoint) -> None:
        """Two sockets send to where the other is seen: both NAT mappings expect it, whatever the filter."""
        for socket, other, remote in ((_THIRD, _FOURTH, fourth), (_FOURTH, _THIRD, third)):
            nonce = self._host.random(_NONCE_SIZE)
            # Some boxes translate the sender's address for their own hosts, some do not.
            self._questions[nonce] = _Question("hairpin", other, None, self._host.now())
            self._send(socket, MirrorResponse(nonce, 0, remote).encode(), remote)

    def _send(self, socket: int, datagram: bytes, remote: Endpoint) -> None:
        # If the socket is full it is lost, as on a wire.
        self._ports[socket].send(memoryview(bytearray(datagram)), len(datagram), remote)

    async def _until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Takes what arrives, until `done()` or for so many seconds. Whether it is done."""
        try:
            async with asyncio.timeout(seconds):
                while not done():
                    await self._arrived.wait()
                    self._arrived.clear()
                    for socket, port in enumerate(self._ports):
                        while (received := port.receive()) is not None:
                            train, segment, sender = received
                            for at in range(0, len(train), segment):
                                self._take_untrusted(socket, bytes(train[at : at + segment]), sender)
        except TimeoutError:
            return done()
        return True

    def _take_untrusted(self, socket: int, datagram: bytes, sender: Endpoint) -> None:
        try:
            response = MirrorResponse.parse(datagram)
        except CoveyError:
            return
        question = self._questions.get(response.nonce)
        if question is None or question.socket != socket or question.observer not in (None, sender):
            return
        del self._questions[response.nonce]
        self._came.add(question.about)
        if question.about == "seen":
            self._seen.setdefault((socket, sender), (response.seen, self._host.now() - question.asked))
            self._learn_second_port(sender, response.second_port)

    def _learn_second_port(self, address: Endpoint, number: int) -> None:
        for server in self._servers:
            if server.address == address and number not in (0, address[1]):
                self._second[address] = Server(server.identity, (address[0], number))

    def _patience(self) -> float:
        quickest = min(rtt for _, rtt in self._seen.values())
        shortest, longest = _PATIENCE
        return min(max(shortest, _ROUND_TRIPS * quickest), longest)

    def _judge(self) -> NatTraits:
        samples = []
        for socket, observer in self._asked:
            if (socket, observer) in self._seen:
                source = self._bind if self._bind not in _ANY else self._host.source_address(observer)
                local = (source or "", self._ports[socket].local[1])
                samples.append(Sample(local, observer, self._seen[socket, observer][0]))
        return judge(samples, self._facts)


_ANY: Final = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
