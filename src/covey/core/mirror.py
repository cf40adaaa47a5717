"""Where datagrams come from: `Mirror` tells whoever asks, at two ports of a rendezvous; `Reflections` asks.

What a NAT does shows when one socket of an agent is seen from several places (RFC 5780), and when somebody answers whom
the socket never spoke to. A request therefore may ask for an answer from our other port, or to another port of the
sender's own address. Nothing is remembered, and no answer is longer than its request: a forged source gains nothing
that sending to the victim itself would not have given.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from covey.base.errors import ParseError
from covey.base.types import Identity
from covey.core import limits
from covey.core.events import Event, Reflected
from covey.core.path import Route
from covey.core.rates import Rates, network
from covey.crypto.mac import mac1, mac1_key, same
from covey.wire.datagram import MirrorRequest, MirrorResponse

__all__ = ["Mirror", "Reflections"]

_ASKED_LIMIT = 32
"""Questions of ours that may still be answered."""


class Mirror:
    """`ports`: for the index of each of our ports, index and number of the other one; or {} with only one.

    `send` queues a datagram. `receive` raises nothing: whatever is wrong with a request, silence.
    """

    def __init__(
        self, identity: Identity, ports: Mapping[int, tuple[int, int]], send: Callable[[Route, bytes], None]
    ) -> None:
        self._key = mac1_key(identity)
        self._ports = ports
        self._send = send
        self._rates = Rates(limits.MIRROR_RATE, limits.MIRROR_BURST, limits.SOURCES_LIMIT)
        self._total = Rates(limits.MIRROR_TOTAL_RATE, limits.MIRROR_TOTAL_BURST, 1)

    def receive(self, now: float, datagram: memoryview, route: Route) -> None:
        """A MIRROR_REQUEST, or what looks like one."""
        try:
            request = MirrorRequest.parse(datagram)
        except ParseError:
            return
        if route.relayed or not same(mac1(self._key, request.authenticated), request.mac1):
            return
        if not (self._rates.take(now, network(route.remote)) and self._total.take(now, None)):
            return
        local = route.local
        other, number = self._ports.get(local, (local, 0))
        if request.elsewhere:
            if number == 0:
                return
            local = other
        host, port = route.remote
        target = Route(local, (host, request.port or port))
        self._send(target, MirrorResponse(request.nonce, number, (host.partition("%")[0], port)).encode())


class Reflections:
    """Our own questions, asked from the ports that sessions use. `Reflected` is emitted for every answer, once.

    `random` gives bytes, `send` queues a datagram. An answer counts if it comes from whom we asked, to the port that we
    asked from, with the eight bytes that nobody else saw.
    """

    def __init__(
        self,
        random: Callable[[int], bytes],
        send: Callable[[Route, bytes], None],
        emit: Callable[[Event], None],
    ) -> None:
        self._random = random
        self._send = send
        self._emit = emit
        self._asked: OrderedDict[bytes, Route] = OrderedDict()

    def ask(self, identity: Identity, route: Route) -> None:
        """Asks the rendezvous with that identity, once."""
        nonce = self._random(8)
        self._asked[nonce] = route
        while len(self._asked) > _ASKED_LIMIT:
            self._asked.popitem(last=False)
        prefix = MirrorRequest.prefix(nonce)
        self._send(route, prefix + mac1(mac1_key(identity), prefix))

    def receive(self, datagram: memoryview, route: Route) -> None:
        """A MIRROR_RESPONSE, or what looks like one."""
        try:
            response = MirrorResponse.parse(datagram)
        except ParseError:
            return
        if self._asked.get(response.nonce) == route:
            del self._asked[response.nonce]
            self._emit(Reflected(route, response.seen))
