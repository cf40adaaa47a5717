"""The kernel tells of changes: in a network namespace of its own, where they can be made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from covey.net.changes import watch_network

_PROGRAM = """
import asyncio, subprocess
from covey.net.changes import watch_network

async def main():
    news = asyncio.Event()
    watch = watch_network(news.set)
    for command in ("link set lo up", "addr add 192.0.2.1/32 dev lo", "route add 198.51.100.0/24 dev lo",
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


def test_every_change_of_addresses_and_routes_is_told() -> None:
    source = Path(sys.modules[watch_network.__module__].__file__ or "").parents[2]
    done = subprocess.run(
        ["unshare", "-Urn", sys.executable, "-c", _PROGRAM],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": str(source), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    assert done.stdout == "told\n", done.stderr
