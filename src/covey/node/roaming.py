"""Noticing that this machine is somewhere else: another uplink, another address, or the same ones after a sleep.

Whether something changed is judged by what we depend on: the address that packets leave from towards each of the
endpoints in use. The system says when to look, where it can (`Host.watch_network`); besides we look now and then, and
that this took longer than it should is how a sleep is noticed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from covey.base.types import Endpoint
from covey.net.host import Host

__all__ = ["Roaming"]

_POLL_SECONDS: Final = 15.0
_POLL_ALONE_SECONDS: Final = 5.0
"""How often we look, where the system tells of changes and where it does not."""
_SLEPT_SECONDS: Final = 2.0
"""A pause that lasted so much longer than asked for was a sleep, or as good as one."""
_SETTLE_SECONDS: Final = 0.05
"""News come in bursts: an address, then its routes."""
_REMOTES_LIMIT: Final = 16


class Roaming:
    """`remotes` gives the endpoints in use; `on_change` is called when we reach them from elsewhere, or slept;
    `on_addresses` when this machine has other addresses, whether we use them or not.

    `run` never ends by itself.
    """

    def __init__(
        self,
        host: Host,
        remotes: Callable[[], Iterable[Endpoint]],
        on_change: Callable[[], None],
        on_addresses: Callable[[], None] = lambda: None,
    ) -> None:
        self._host = host
        self._remotes = remotes
        self._on_change = on_change
        self._on_addresses = on_addresses
        self._news = asyncio.Event()
        self._sources: dict[Endpoint, str | None] = {}
        self._addresses: list[str] = host.local_addresses()

    async def run(self) -> None:
        watch = self._host.watch_network(self._news.set)
        pause = _POLL_ALONE_SECONDS if watch is None else _POLL_SECONDS
        try:
            self._look()
            while True:
                slept = await self._wait(pause)
                addresses = self._host.local_addresses()
                if addresses != self._addresses:
                    self._addresses = addresses
                    self._on_addresses()
                if self._look() or slept:
                    self._on_change()
        finally:
            if watch is not None:
                watch.close()

    async def _wait(self, pause: float) -> bool:
        """Until there are news or it is time to look; whether the machine slept meanwhile."""
        began = self._host.now()
        try:
            async with asyncio.timeout(pause):
                await self._news.wait()
                await asyncio.sleep(_SETTLE_SECONDS)
        except TimeoutError:
            pass
        self._news.clear()
        return self._host.now() - began > pause + _SLEPT_SECONDS

    def _look(self) -> bool:
        """Whether an endpoint that was in use before is reached from another address now."""
        before = self._sources
        remotes = list(dict.fromkeys(self._remotes()))[:_REMOTES_LIMIT]
        self._sources = {remote: self._host.source_address(remote) for remote in remotes}
        return any(remote in before and before[remote] != source for remote, source in self._sources.items())
