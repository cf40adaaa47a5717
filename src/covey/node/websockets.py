"""The WebSockets of one endpoint: who waits while one of them is full, and what ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from covey.core.endpoint import Endpoint
from covey.net.host import Host, WebSocket
from covey.net.turn import Driver

__all__ = ["WebSockets"]

_ALL_BYTES: Final = 256 * 1024 * 1024
"""What may wait in all full connections together, each with its share: they are as many as somebody likes."""
_MOST_BYTES: Final = 512 * 1024
_LEAST_BYTES: Final = 64 * 1024

_PRESSED_SECONDS: Final = 0.25
"""The longest that nothing is read from one connection because what it sends meets a full one. Whoever does not read
must not stop others for good: from then on what is too much for it is lost."""


class WebSockets:
    """By index of their ports. A full one holds back our own sessions (`Endpoint.hold`) and, if we relay, whoever
    sends to it by another WebSocket (`press`). What comes by UDP cannot be held back: the port keeps some, the rest is
    lost.
    """

    def __init__(self, host: Host, endpoint: Endpoint, driver: Driver[Any]) -> None:
        self._host = host
        self._endpoint = endpoint
        self._driver = driver
        self._loop = asyncio.get_running_loop()
        self._ports: dict[int, WebSocket] = {}
        self._pressed: dict[int, set[int]] = {}
        """Full ports, and those that are not read until they are not."""
        self._stuck: set[int] = set()
        """Ports that have been full for so long that nobody waits for them."""
        self._full: set[int] = set()
        self._timers: dict[int, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._ports)

    def add(self, port: WebSocket, on_lost: Callable[[], None]) -> int:
        """Uses a connection that is open; its index. `on_lost` is called when it ended by itself."""
        index = self._driver.add_connection(port)

        def congested(full: bool) -> None:
            (self._fill if full else self._relieve)(index)

        def lost() -> None:
            self.remove(index)
            on_lost()

        self._ports[index] = port
        port.on_congestion(congested)
        port.on_closed(lost)
        return index

    def remove(self, index: int) -> None:
        """Closes a connection; the paths over it are gone. Twice is fine."""
        if self._ports.pop(index, None) is None:
            return
        self._relieve(index)
        for others in self._pressed.values():
            others.discard(index)
        self._driver.remove_port(index)
        self._endpoint.lose_port(self._host.now(), index)
        self._driver.wake()

    def press(self, source: int, target: int) -> None:
        """Something from port `source` was passed on to port `target`, which may be full."""
        port = self._ports.get(target)
        if port is None or not port.congested or target in self._stuck or source == target:
            return
        waiting = self._pressed.setdefault(target, set())
        if source not in waiting and source in self._ports:
            waiting.add(source)
            self._ports[source].hold()

    def _fill(self, index: int) -> None:
        self._endpoint.hold(index)
        self._full.add(index)
        self._ports[index].send_limit = max(_LEAST_BYTES, min(_MOST_BYTES, _ALL_BYTES // len(self._full)))
        self._timers[index] = self._loop.call_later(_PRESSED_SECONDS, self._give_up, index)

    def _relieve(self, index: int) -> None:
        self._endpoint.release(index)
        timer = self._timers.pop(index, None)
        if timer is not None:
            timer.cancel()
        self._stuck.discard(index)
        self._full.discard(index)
        self._let_go(index)
        self._driver.wake()

    def _give_up(self, index: int) -> None:
        self._stuck.add(index)
        self._let_go(index)

    def _let_go(self, index: int) -> None:
        for source in self._pressed.pop(index, ()):
            port = self._ports.get(source)
            if port is not None and not any(source in others for others in self._pressed.values()):
                port.release()
