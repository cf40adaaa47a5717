"""Work that nobody waits for, until the node closes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from covey.base.errors import CoveyError
from covey.node.transport import Transport

__all__ = ["Background", "only_log"]

_log = logging.getLogger(__name__)


class Background:
    """`start(work)` begins work; after `stop` none begins any more."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.stopped = False

    def start(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        if not self.stopped:
            self._transport.spawn(only_log(work), "background")

    def stop(self) -> None:
        self.stopped = True


async def only_log(work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Runs work nobody waits for; what Covey itself raises is logged, anything else is a bug and surfaces."""
    with contextlib.suppress(asyncio.CancelledError):
        try:
            await work()
        except CoveyError as error:
            _log.warning("background work failed: %s (%s)", error.message, error.code)
