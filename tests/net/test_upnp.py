"""What a router that speaks UPnP may do to us: nothing but waste ten seconds. The real one is in `tests/lab`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from covey.base.errors import CoveyError, ParseError
from covey.net.asking import Asker
from covey.net.real import RealHost
from covey.net.upnp import Upnp, _requester

pytest.importorskip("async_upnp_client")

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

DEVICE = """<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><friendlyName>r</friendlyName>
<manufacturer>m</manufacturer><modelName>m</modelName><UDN>uuid:1</UDN><serviceList>{services}</serviceList>
</device></root>"""
SERVICE = """<service><serviceType>urn:schemas-upnp-org:service:{kind}:1</serviceType>
<serviceId>urn:upnp-org:serviceId:{kind}</serviceId><SCPDURL>{url}</SCPDURL><controlURL>/c</controlURL>
<eventSubURL>/e</eventSubURL></service>"""
BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefgh", "bcdefghi", strict=True)
) + "]><x>&i;</x>"  # fmt: skip


def body(text: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


def says(raw: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)

    return answer


async def pours(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x" * 65_536)
        await writer.drain()


def device(*services: str) -> Answer:
    return says(body(DEVICE.format(services="".join(services))))


def service(kind: str, url: str) -> str:
    return SERVICE.format(kind=kind, url=url)


HOSTILE = {
    "no http": says(b"hello\r\n\r\n"),
    "an error": says(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"),
    "elsewhere": says(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.2:1/\r\nContent-Length: 0\r\n\r\n"),
    "without end": pours,
    "no xml": says(body("hello")),
    "a bomb": says(body(BOMB)),
    "a device without services": device(),
    "a service elsewhere": device(service("WANIPConnection", "http://127.0.0.2/x")),
    "a service that is no service": device(service("WANIPConnection", "/x")),
    "hundreds of services": device(*(service(f"S{number}", f"/{number}") for number in range(300))),
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_whatever_the_router_says_is_one_error_of_ours(answer: Answer) -> None:
    async def scenario() -> None:
        connections = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            try:
                await answer(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            upnp = Upnp(Asker(RealHost(), "127.0.0.1"), "127.0.0.1")
            upnp._url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/root.xml"
            with pytest.raises(CoveyError):
                await upnp.map(("127.0.0.1", 4242), None)
            assert connections <= 64

    asyncio.run(scenario())


def test_requests_go_to_the_router_only() -> None:
    from async_upnp_client.const import HttpRequest

    async def scenario() -> None:
        for url in ("http://127.0.0.2:1/x", "https://127.0.0.1/x", "http://localhost/x", "file:///etc/hosts"):
            with pytest.raises(ParseError):
                await _requester("127.0.0.1").async_http_request(HttpRequest("GET", url, {}, None))

    asyncio.run(scenario())
