"""An HTTP proxy as companies have them: CONNECT only, to port 443 only, for whoever says the password.

`python proxy.py HOST PORT USER PASSWORD`, with the standard library alone; says READY when it serves.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import sys

READY = "ready"
PORT = 443
_HEAD = 8192
"""Most bytes of a request's head."""
_HEAD_SECONDS = 10.0
_CONNECT_SECONDS = 10.0
_PIECE = 65_536


class Proxy:
    """The server; one instance."""

    def __init__(self, user: str, password: str) -> None:
        self._credentials = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            refusal, host, port = self._judge(head)
            if refusal:
                writer.write(f"HTTP/1.1 {refusal}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
                return
            await self._tunnel(reader, writer, host, port)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        finally:
            writer.close()

    def _judge(self, head: bytes) -> tuple[str, str, int]:
        """A status line's rest, or "" and where to."""
        request, *lines = head.decode("latin-1").split("\r\n")
        words = request.split(" ")
        fields = {name.lower().strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if len(words) != 3:
            return "400 Bad Request", "", 0
        if words[0] != "CONNECT":
            return "405 Method Not Allowed\r\nAllow: CONNECT", "", 0
        if not hmac.compare_digest(fields.get("proxy-authorization", "").encode(), self._credentials.encode()):
            return '407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="lab"', "", 0
        host, _, port = words[1].rpartition(":")
        if port != str(PORT):
            return "403 Forbidden", "", 0
        return "", host.strip("[]"), PORT

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                far_reader, far_writer = await asyncio.open_connection(host, port)
        except (OSError, TimeoutError):
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            far_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_PIECE):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def main() -> None:
    host, port, user, password = sys.argv[1:]
    server = await asyncio.start_server(Proxy(user, password).serve, host, int(port), limit=_HEAD)
    sys.stdout.write(READY + "\n")
    sys.stdout.flush()
    sys.stdout.close()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
