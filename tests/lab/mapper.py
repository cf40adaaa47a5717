"""Keeps a port mapped where it stands, and says how it stands, one JSON list a line, until its input ends.

python tests/lab/mapper.py [ADDRESS...] PORT
"""

from __future__ import annotations

import asyncio
import json
import sys

from covey.net.portmap import PortMapper
from covey.net.real import RealHost


async def main(addresses: list[str], port: int) -> None:
    loop = asyncio.get_running_loop()

    def say() -> None:
        states = [(each.method, each.external, each.problem) for each in mapper.mappings]
        sys.stdout.write(json.dumps(states) + "\n")
        sys.stdout.flush()

    mapper = PortMapper(RealHost(), [(address, port) for address in addresses], b"nonce-of-us!", say)
    mapper.start(lambda coroutine, name: loop.create_task(coroutine, name=name))
    await asyncio.to_thread(sys.stdin.read)
    await mapper.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:-1], int(sys.argv[-1])))
