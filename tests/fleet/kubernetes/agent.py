"""What runs in the pods: serves HTTP on the pod's address, reports to the controller, finishes what it has on SIGTERM.

GET / answers at once, unless `?seconds=S` asks for work that lasts; GET /busy tells whether there is some.
"""

from __future__ import annotations

import asyncio
import os
import urllib.parse

from covey.fleet.reporting import Reporter


async def main() -> None:
    async with Reporter.from_environment() as reporter:

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while line := (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n", 1)[0].decode():
                    target = urllib.parse.urlsplit(line.split(" ")[1])
                    seconds = float(urllib.parse.parse_qs(target.query).get("seconds", ["0"])[0])
                    if target.path == "/healthz":
                        body = b"draining" if reporter.draining else b"ok"
                    else:
                        with reporter.working():
                            await asyncio.sleep(seconds)
                        body = reporter.agent.encode()
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                    await writer.drain()
            except (OSError, ValueError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        async with await asyncio.start_server(serve, os.environ["COVEY_FLEET_IP"], int(os.environ["PORT"])):
            await reporter.drained()
            while reporter.report().in_flight:  # noqa: ASYNC110  another program, whose end is what is waited for
                await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main())
