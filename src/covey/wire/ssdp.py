"""SSDP, as far as it finds the router that maps ports (UPnP Device Architecture 1.1, section 1.3).

A search is one datagram of HTTP-like lines; whoever feels meant answers with one that names the URL of its description.
"""

from __future__ import annotations

import re
from typing import Final

from covey.base.errors import ParseError

__all__ = ["GROUP", "PORT", "check_url", "parse_answer", "search"]

PORT: Final = 1900
GROUP: Final = "239.255.255.250"

_DEVICES: Final = (
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
)
_SIZE_LIMIT: Final = 2048
_URL: Final = re.compile(r"http://(?P<host>[0-9.]+)(:(?P<port>[0-9]{1,5}))?(/[!-~]*)?")
_URL_LIMIT: Final = 256


def search(version: int = 1) -> bytes:
    """Who is an internet gateway device, of IGD version 1 or 2? To be answered within a second."""
    lines = (
        "M-SEARCH * HTTP/1.1",
        f"HOST: {GROUP}:{PORT}",
        'MAN: "ssdp:discover"',
        "MX: 1",
        f"ST: {_DEVICES[version - 1]}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def parse_answer(raw: bytes, sender: str) -> str:
    """The URL of the description of the gateway device that `sender` (an IPv4 literal) says it is.

    ParseError for anything else, also for a URL that is not on `sender` itself: whoever answers a search must not be
    able to make us call somebody else.
    """
    if len(raw) > _SIZE_LIMIT:
        raise ParseError("too long for SSDP")
    try:
        head, *lines = raw.decode("ascii").split("\r\n")
    except UnicodeDecodeError as error:
        raise ParseError("SSDP is ASCII") from error
    if head.split()[:2] != ["HTTP/1.1", "200"]:
        raise ParseError("not an answer of SSDP")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("st") not in _DEVICES:
        raise ParseError("not a gateway device")
    return check_url(headers.get("location", ""), sender)


def check_url(url: str, host: str) -> str:
    """A plain HTTP URL on the IPv4 literal `host`. ParseError.

    Every parser of URLs finds the same host in what this expression lets through.
    """
    match = _URL.fullmatch(url)
    if match is None or match["host"] != host or len(url) > _URL_LIMIT:
        raise ParseError("a URL that is not the sender's own")
    if not 0 < int(match["port"] or 80) < 65_536:
        raise ParseError("a URL without a port")
    return url
