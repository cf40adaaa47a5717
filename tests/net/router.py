"""A home router for the simulator that speaks PCP and NAT-PMP, written from the RFCs and not from our codecs."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from covey.testing.network import Endpoint, SimNetwork

PORT = 5351
ADDRESS = "192.168.1.1"


class Mapping(NamedTuple):
    external: int
    until: float
    nonce: bytes


class Router:
    """`speaks` is a set of "pcp" and "nat-pmp", and may be changed; so may what it grants."""

    def __init__(self, network: SimNetwork, speaks: set[str], *, public: str = "203.0.113.5") -> None:
        self.network = network
        self.speaks = speaks
        self.public = public
        self.lifetime_limit = 86_400
        self.pcp_result = 0
        self.delay = {"pcp": 0.0, "nat-pmp": 0.0}
        self.mappings: dict[Endpoint, Mapping] = {}
        self.requests: list[tuple[float, str, int]] = []
        """(when, protocol, lifetime) of every request for a mapping."""
        self.started = self._now()
        network.attach(ADDRESS, self)

    def reboot(self, *, tells: Sequence[str] = ()) -> None:
        """Forgets everything, and says so to these hosts."""
        self.mappings.clear()
        self.started = self._now()
        for ip in tells:
            if "pcp" in self.speaks:
                self.network.outbound((ADDRESS, PORT), (ip, 5350), [self._pcp_head(0, 0, 0)])
            if "nat-pmp" in self.speaks:
                told = struct.pack(">BBHI4s", 0, 128, 0, self._epoch(), socket.inet_aton(self.public))
                self.network.outbound((ADDRESS, PORT), (ip, 5350), [told])

    def inbound(self, source: Endpoint, target: Endpoint, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            if target[1] == PORT and payload:
                name = {2: "pcp", 0: "nat-pmp"}.get(payload[0], "")
                if name in self.speaks:
                    answer = self._pcp(source, payload) if name == "pcp" else self._nat_pmp(source, payload)
                    back = (ADDRESS, PORT), source, [answer]
                    asyncio.get_running_loop().call_later(self.delay[name], self.network.outbound, *back)

    def _pcp(self, source: Endpoint, request: bytes) -> bytes:
        opcode, lifetime, client = request[1], struct.unpack_from(">I", request, 4)[0], request[20:24]
        assert client == socket.inet_aton(source[0])
        if opcode == 0:
            return self._pcp_head(0, 0, 0)
        nonce, (protocol, internal, wanted) = request[24:36], struct.unpack_from(">B3xHH", request, 36)
        assert (opcode, protocol) == (1, 17)
        self.requests.append((self._now(), "pcp", lifetime))
        key = (source[0], internal)
        if self.pcp_result or (key in self.mappings and self.mappings[key].nonce != nonce):
            return self._pcp_head(1, self.pcp_result or 2, 1800) + request[24:60]
        external, granted = self._map(key, wanted, lifetime, nonce)
        body = nonce + struct.pack(">B3xHH", 17, internal, external) + bytes(10) + b"\xff\xff"
        return self._pcp_head(1, 0, granted) + body + socket.inet_aton(self.public)

    def _nat_pmp(self, source: Endpoint, request: bytes) -> bytes:
        if request[1] == 0:
            return struct.pack(">BBHI4s", 0, 128, 0, self._epoch(), socket.inet_aton(self.public))
        _, opcode, internal, wanted, lifetime = struct.unpack(">BBxxHHI", request)
        assert opcode == 1
        self.requests.append((self._now(), "nat-pmp", lifetime))
        external, granted = self._map((source[0], internal), wanted, lifetime, b"")
        return struct.pack(">BBHIHHI", 0, 129, 0, self._epoch(), internal, external, granted)

    def _map(self, key: Endpoint, wanted: int, lifetime: int, nonce: bytes) -> tuple[int, int]:
        if not lifetime:
            self.mappings.pop(key, None)
            return 0, 0
        granted = min(lifetime, self.lifetime_limit)
        taken = {each.external for other, each in self.mappings.items() if other != key}
        external = wanted if wanted and wanted not in taken else 50_000
        self.mappings[key] = Mapping(external, self._now() + granted, nonce)
        return external, granted

    def _pcp_head(self, opcode: int, result: int, lifetime: int) -> bytes:
        return struct.pack(">BBBBII12x", 2, 128 | opcode, 0, result, lifetime, self._epoch())

    def _epoch(self) -> int:
        return int(self._now() - self.started)

    def _now(self) -> float:
        return self.network.loop.time()
