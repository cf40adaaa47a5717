"""UPnP IGD towards one router: SOAP over HTTP, for routers that speak nothing better.

The search is ours (`wire/ssdp.py`); descriptions and calls are those of `async-upnp-client`, an extra (`covey[upnp]`)
that is imported when a router was found that speaks only this: 150 ms and 20 MB. What a router may do to us is bounded
here: every request goes to the router itself, without redirects, and all of them are few, short and soon over.
"""

from __future__ import annotations

import asyncio
import importlib.util
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any, Final

from covey.base.errors import CoveyError, ParseError, RefusedError, UnreachableError
from covey.base.types import Endpoint
from covey.net.asking import Asker
from covey.net.mapping import LEASE_SECONDS, Lease, MethodName, check_external
from covey.net.port_control import PROBE_WAITS
from covey.wire import ssdp

if TYPE_CHECKING:
    from async_upnp_client.client import UpnpAction, UpnpService

__all__ = ["Upnp", "upnp_installed"]

_BODY_LIMIT: Final = 256 * 1024
"""Bytes of one answer. The largest descriptions are a tenth of this."""
_REQUESTS_LIMIT: Final = 64
"""Requests for one mapping: a description, one for each of its services (a dozen), and the calls."""
_REQUEST_SECONDS: Final = 3.0
_MAP_SECONDS: Final = 10.0
_UNMAP_SECONDS: Final = 0.5

_SERVICES: Final = (
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
)
_CONFLICT: Final = 718
_ONLY_PERMANENT: Final = 725
"""Error codes of AddPortMapping (WANIPConnection:1, 2.4.16)."""


def upnp_installed() -> bool:
    """Whether the extra is there. Imports nothing."""
    return importlib.util.find_spec("async_upnp_client") is not None and importlib.util.find_spec("aiohttp") is not None


class Upnp:
    """UPnP's Internet Gateway Device, versions 1 and 2; IPv4 only."""

    name: Final[MethodName] = "upnp"

    def __init__(self, asker: Asker, gateway: str) -> None:
        self._asker = asker
        self._gateway = gateway
        self._url = ""
        self._service: UpnpService | None = None

    async def probe(self) -> None:
        """A router may listen to the group only, or to us alone: it is asked in both ways."""
        remotes = [(self._gateway, ssdp.PORT), (ssdp.GROUP, ssdp.PORT)]
        # A device of version 2 answers searches for version 1, with what was searched for.
        self._url = await self._asker.ask(
            remotes, ssdp.search(), lambda datagram: ssdp.parse_answer(datagram, self._gateway), PROBE_WAITS
        )

    async def map(self, internal: Endpoint, wanted: Endpoint | None) -> Lease:
        if not upnp_installed():
            raise RefusedError(
                "the router speaks UPnP, and the library for that is not installed",
                code="needs-upnp-extra",
                next_step="pip install 'covey[upnp]'",
            )
        try:
            async with asyncio.timeout(_MAP_SECONDS):
                return await self._map(internal, (wanted or internal)[1])
        except CoveyError:
            self._service = None
            raise
        except Exception as error:  # TimeoutError, and whatever a library makes of what a router says
            self._service = None
            raise UnreachableError(f"UPnP of {self._gateway}: {error!r:.200}", code="upnp-failed") from error

    async def unmap(self, lease: Lease) -> None:
        if self._service is None:
            return
        try:
            async with asyncio.timeout(_UNMAP_SECONDS):
                action = self._service.action("DeletePortMapping")
                await action.async_call(NewRemoteHost="", NewExternalPort=lease.external[1], NewProtocol="UDP")
        except Exception as error:
            raise UnreachableError(f"UPnP of {self._gateway}: {error!r:.200}", code="upnp-failed") from error

    async def _map(self, internal: Endpoint, port: int) -> Lease:
        if self._service is None:
            self._service = await _describe(self._url, self._gateway)
        service = self._service
        found = await service.action("GetExternalIPAddress").async_call()
        try:
            host, _ = check_external((str(IPv4Address(str(found["NewExternalIPAddress"]))), port))
        except (KeyError, ValueError) as error:
            raise RefusedError("the router has no external address", code="no-external-address") from error
        add = service.action("AddPortMapping")
        # Two of a network may want the same number; three tries at others are enough where few map anything.
        for external in (port, port % 60_000 + 5000, port % 50_000 + 10_000):
            refusal, seconds = await _add(add, internal, external, LEASE_SECONDS), LEASE_SECONDS
            if refusal == _ONLY_PERMANENT:
                refusal, seconds = await _add(add, internal, external, 0), 0
            if refusal == 0:
                return Lease(self.name, internal, (host, external), seconds)
            if refusal != _CONFLICT:
                raise RefusedError(f"the router refused (UPnP {refusal})", code="refused")
        raise RefusedError("the router has other mappings where we want one", code="conflict")


async def _add(action: UpnpAction, internal: Endpoint, external: int, seconds: int) -> int:
    """0, or the code of the refusal."""
    from async_upnp_client.exceptions import UpnpActionError

    try:
        await action.async_call(
            NewRemoteHost="",
            NewExternalPort=external,
            NewProtocol="UDP",
            NewInternalPort=internal[1],
            NewInternalClient=internal[0],
            NewEnabled=True,
            NewPortMappingDescription="covey",
            NewLeaseDuration=seconds,
        )
    except UpnpActionError as error:
        return int(error.error_code or -1)
    return 0


async def _describe(url: str, gateway: str) -> UpnpService:
    """The service of the router at `url` that maps ports."""
    await asyncio.to_thread(importlib.import_module, "async_upnp_client.client_factory")
    from async_upnp_client.client_factory import UpnpFactory

    device = await UpnpFactory(_requester(gateway), non_strict=True).async_create_device(url)
    services = {service.service_type: service for service in device.all_services}
    for kind in _SERVICES:
        service = services.get(kind)
        if service is not None and service.has_action("AddPortMapping"):
            return service
    raise RefusedError("the router's UPnP maps no ports", code="refused")


def _requester(gateway: str) -> Any:
    """HTTP for the library, to the router and nobody else."""
    import aiohttp
    from async_upnp_client.client import UpnpRequester
    from async_upnp_client.const import HttpRequest, HttpResponse

    class Requester(UpnpRequester):
        requests = 0

        async def async_http_request(self, http_request: HttpRequest) -> HttpResponse:
            self.requests += 1
            ssdp.check_url(http_request.url, gateway)
            if self.requests > _REQUESTS_LIMIT:
                raise ParseError("a device of too many services")
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_REQUEST_SECONDS), trust_env=False) as session,
                session.request(
                    http_request.method,
                    http_request.url,
                    headers=http_request.headers,
                    data=http_request.body,
                    allow_redirects=False,
                ) as response,
            ):
                body = bytearray()
                async for piece in response.content.iter_chunked(16_384):
                    body += piece
                    if len(body) > _BODY_LIMIT:
                        raise ParseError("an answer that is too long")
                return HttpResponse(response.status, dict(response.headers), body.decode("utf-8", "replace"))

    return Requester()
