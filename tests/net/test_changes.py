"""The kernel tells of changes: in a lab, where they can be made."""

from __future__ import annotations

from covey.lab import Lab

_PROGRAM = """
import asyncio, subprocess
from covey.net.changes import watch_network

async def main():
    news = asyncio.Event()
    watch = watch_network(news.set)
    for command in ("addr add 192.0.2.1/32 dev lo", "route add 198.51.100.0/24 dev lo",
                    "addr del 192.0.2.1/32 dev lo"):
        news.clear()
        subprocess.run(["ip", *command.split()], check=True)
        async with asyncio.timeout(10):
            await news.wait()
    watch.close()
    watch.close()
    print("told")

asyncio.run(main())
"""


def test_every_change_of_addresses_and_routes_is_told(lab: Lab) -> None:
    assert lab.server("changing").python(_PROGRAM) == "told\n"
