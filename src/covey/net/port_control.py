"""PCP and NAT-PMP towards one router (`wire/pcp.py`, `wire/nat_pmp.py`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from covey.base.errors import RefusedError
from covey.base.types import Endpoint
from covey.net.asking import Asker
from covey.net.mapping import LEASE_SECONDS, Lease, MethodName, check_external
from covey.wire import nat_pmp, pcp

__all__ = ["PROBE_WAITS", "EpochWatch", "NatPmp", "Pcp"]

PROBE_WAITS: Final = (0.05, 0.1, 0.35, 0.5)
"""Between two probes, and after the last. Ours: three within the 250 ms of the race, so that one lost does not decide
it; whoever is slower is heard for another 750."""
_MAP_WAITS: Final = (0.25, 0.5, 1.0, 2.0)
"""RFC 6886, 3.1, up to where a router in the same room has answered."""
_UNMAP_WAITS: Final = (0.1, 0.15)

_REASONS: Final = {
    pcp.PcpResult.NOT_AUTHORIZED: "not-authorized",
    pcp.PcpResult.NO_RESOURCES: "no-resources",
    pcp.PcpResult.USER_EX_QUOTA: "quota",
    pcp.PcpResult.ADDRESS_MISMATCH: "double-nat",
}


class EpochWatch:
    """Whether a router has lost its mappings, by the clock that it started when it did (RFC 6887, 8.5)."""

    def __init__(self) -> None:
        self._epoch: int | None = None
        self._at = 0.0

    def lost(self, now: float, epoch: int) -> bool:
        """Whether it lost them between the last answer and this one, which says `epoch`. Rules of RFC 6887, 8.5."""
        before, at = self._epoch, self._at
        self._epoch, self._at = epoch, now
        if before is None:
            return False
        if epoch < before - 1:
            return True
        ours, theirs = now - at, epoch - before
        return ours + 2 < theirs - theirs / 16 or theirs + 2 < ours - ours / 16


class Pcp:
    """PCP: also opens a port of an IPv6 firewall."""

    name: Final[MethodName] = "pcp"

    def __init__(self, asker: Asker, gateway: str, client_ip: str, nonce: bytes, told: Callable[[int], None]) -> None:
        """`nonce`: 12 random bytes, the same as long as a mapping is to be renewed. `told` gets each answer's epoch."""
        self._asker = asker
        self._remote = (gateway, pcp.PORT)
        self._client_ip = client_ip
        self._nonce = nonce
        self._told = told

    async def probe(self) -> None:
        def parse(datagram: bytes) -> pcp.PcpAnswer | None:
            answer = pcp.PcpAnswer.parse(datagram)
            return answer if answer.opcode == pcp.ANNOUNCE else None

        answer = await self._asker.ask([self._remote], pcp.announce(self._client_ip), parse, PROBE_WAITS)
        if answer.result == pcp.PcpResult.SUCCESS:
            self._told(answer.epoch)
        elif answer.result != pcp.PcpResult.UNSUPP_OPCODE:  # one that has MAP and no ANNOUNCE is there too
            raise _refused(answer.result)

    async def map(self, internal: Endpoint, wanted: Endpoint | None) -> Lease:
        answer = await self._ask(pcp.MapRequest(self._nonce, internal, LEASE_SECONDS, wanted), _MAP_WAITS)
        if answer.external is None or not answer.lifetime:
            raise RefusedError("the router maps nothing", code="refused")
        return Lease(self.name, internal, check_external(answer.external), answer.lifetime)

    async def unmap(self, lease: Lease) -> None:
        await self._ask(pcp.MapRequest(self._nonce, lease.internal, 0), _UNMAP_WAITS)

    async def _ask(self, request: pcp.MapRequest, waits: tuple[float, ...]) -> pcp.PcpAnswer:
        def parse(datagram: bytes) -> pcp.PcpAnswer | None:
            answer = pcp.PcpAnswer.parse(datagram)
            ours = (answer.nonce, answer.internal_port) == (self._nonce, request.internal[1])
            # A failure need not repeat the body. What lacks it can deny us a mapping, not give us a false one.
            return answer if answer.opcode == pcp.MAP and (ours or not answer.nonce) else None

        answer = await self._asker.ask([self._remote], request.encode(), parse, waits)
        self._told(answer.epoch)
        if answer.result != pcp.PcpResult.SUCCESS:
            raise _refused(answer.result)
        return answer


class NatPmp:
    """NAT-PMP: IPv4 only."""

    name: Final[MethodName] = "nat-pmp"

    def __init__(self, asker: Asker, gateway: str, told: Callable[[int], None]) -> None:
        self._asker = asker
        self._remote = (gateway, pcp.PORT)
        self._told = told
        self._address = ""

    async def probe(self) -> None:
        await self._ask_address(PROBE_WAITS)

    async def map(self, internal: Endpoint, wanted: Endpoint | None) -> Lease:
        await self._ask_address(_MAP_WAITS)
        port = (wanted or internal)[1]
        answer = await self._ask_mapping(internal[1], port, LEASE_SECONDS, _MAP_WAITS)
        if not answer.external_port or not answer.lifetime:
            raise RefusedError("the router maps nothing", code="refused")
        external = check_external((self._address, answer.external_port))
        return Lease(self.name, internal, external, answer.lifetime)

    async def unmap(self, lease: Lease) -> None:
        await self._ask_mapping(lease.internal[1], 0, 0, _UNMAP_WAITS)

    async def _ask_address(self, waits: tuple[float, ...]) -> None:
        answer = await self._ask(nat_pmp.ask_address(), nat_pmp.ADDRESS, lambda answer: True, waits)
        self._address = answer.address

    async def _ask_mapping(
        self, port: int, external: int, lifetime: int, waits: tuple[float, ...]
    ) -> nat_pmp.PmpAnswer:
        question = nat_pmp.ask_mapping(port, external, lifetime)
        return await self._ask(question, nat_pmp.MAP_UDP, lambda answer: answer.internal_port == port, waits)

    async def _ask(
        self, question: bytes, opcode: int, ours: Callable[[nat_pmp.PmpAnswer], bool], waits: tuple[float, ...]
    ) -> nat_pmp.PmpAnswer:
        def parse(datagram: bytes) -> nat_pmp.PmpAnswer | None:
            answer = nat_pmp.PmpAnswer.parse(datagram)
            if answer.opcode != opcode:
                return None
            return answer if answer.result != nat_pmp.SUCCESS or ours(answer) else None

        answer = await self._asker.ask([self._remote], question, parse, waits)
        self._told(answer.epoch)
        if answer.result != nat_pmp.SUCCESS:
            codes = {2: "not-authorized", 3: "no-external-address", 4: "no-resources"}
            raise RefusedError(
                f"the router refused (NAT-PMP {answer.result})", code=codes.get(answer.result, "refused")
            )
        return answer


def _refused(result: int) -> RefusedError:
    code = next((code for each, code in _REASONS.items() if each == result), "refused")
    return RefusedError(f"the router refused (PCP {result})", code=code)
