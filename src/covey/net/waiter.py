"""One task waits for one thing that happens in a turn, and goes on within that turn.

An `asyncio.Future` resumes its task on the loop's next round: one more `epoll_wait`, and one more turn to send what
the task answers. A `Waiter` is resumed by the driver between receiving and transmitting: a question is read, answered
and the answer sent in one round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any

__all__ = ["Waiter"]


class Waiter:
    """What a task awaits again and again: `await waiter` ends with the next `resume()`.

    Future-like as `asyncio.isfuture` has it: a task that awaits one registers its wake-up here and can be cancelled
    as usual. One task at a time. `resume` is called outside of any task.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_cancelled", "_context", "_loop", "pending")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asyncio_future_blocking = False
        self._callback: Callable[[Any], object] | None = None
        self._context: Context | None = None
        self._cancelled = False
        self.pending = False
        """A task waits, and nobody has promised yet to resume it."""

    def resume(self) -> None:
        """The waiting task takes its next step, now. Nothing happens if none waits any more."""
        callback, context = self._callback, self._context
        if callback is not None and context is not None:
            self._callback = self._context = None
            self.pending = False
            context.run(callback, self)

    # --- what asyncio asks of a future -----------------------------------------------------------------------------

    def __await__(self) -> Generator[Waiter, None, None]:
        if self._callback is not None:
            raise RuntimeError("another task waits already")
        self._asyncio_future_blocking = self.pending = True
        self._cancelled = False
        yield self

    __iter__ = __await__

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context) -> None:
        self._callback, self._context = callback, context

    def result(self) -> None:
        if self._cancelled:
            raise asyncio.CancelledError

    def cancel(self, msg: object = None) -> bool:
        if self._callback is None:
            return False
        self._cancelled, self.pending = True, False
        self._loop.call_soon(self.resume)
        return True
