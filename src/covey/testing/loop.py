"""An event loop that never waits: when nothing is ready, its clock jumps to the next timer.

An hour of timers passes in milliseconds, and always in the same order. There is no real socket, thread or
subprocess in it; what would need one raises `SimError` at once, because while one thread worked for 50 ms
the virtual clock could run for a day.

What makes two runs equal: timers fire by time; tasks and futures hash by their number in the run, not by
their memory address, so that a set of them (`asyncio.wait`, `TaskGroup`) has one order; and tasks without a
name are called by number. What the loop cannot give: an order to a `set` of strings or bytes under another
PYTHONHASHSEED. Sort those.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
import traceback
import weakref
from asyncio import base_events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from pathlib import PurePath
from random import Random
from typing import Any, Final, NoReturn, TypeVar, TypeVarTuple

__all__ = [
    "OWNER",
    "SimDeadlock",
    "SimError",
    "SimLeak",
    "SimLivelock",
    "SimLoop",
    "SimTimeLimit",
    "SimUnhandled",
    "run",
]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

SPIN_LIMIT: Final = 100_000
"""Rounds of the loop at one instant (about a second of real time) before the simulation counts as stuck."""


GRACE_S: Final = 60.0
"""Virtual seconds that cancelled tasks have for cleaning up."""


class SimError(Exception):
    """Base of everything the simulator raises about the run itself."""


class SimDeadlock(SimError):  # says what was found, not what broke; so do its siblings
    """Nothing is ready and no timer is set: the tasks named wait for something that cannot happen."""


class SimLivelock(SimError):
    """The loop turns and turns and the clock stands still: the tasks named keep each other busy."""


class SimTimeLimit(SimError):
    """The virtual time allowed is over."""


class SimLeak(SimError):
    """The main task ended and left tasks behind."""


class SimUnhandled(SimError):
    """Something raised where nobody was to catch it; the first such error is the cause."""


OWNER: ContextVar[object] = ContextVar("covey-sim-owner", default=None)
"""Whose task it is: set it before a node starts, and every task the node makes (and those of these) is marked."""


class _Numbered:
    """Hash by number in the run. Equality stays identity."""

    number: int

    def __hash__(self) -> int:
        return self.number


class _SimTask(_Numbered, asyncio.Task[T]):
    def __init__(self, coro: Coroutine[Any, Any, T], *, number: int, **options: Any) -> None:
        self.number = number
        self.owner: object = None
        super().__init__(coro, **options)


class _SimFuture(_Numbered, asyncio.Future[Any]):
    def __init__(self, *, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self.number = number
        super().__init__(loop=loop)


class _JumpingSelector:
    """Stands where a selector would: instead of waiting for `timeout` seconds it moves the clock by them."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self.spins = 0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise SimDeadlock(f"nothing is ready and no timer is set; waiting: {self._loop.waiting()}")
        if timeout <= 0:
            self.spins += 1
            if self.spins > SPIN_LIMIT:
                raise SimLivelock(f"{SPIN_LIMIT} rounds at {self._loop.time()} s; busy: {self._loop.waiting()}")
            return []
        self.spins = 0
        self._loop.advance(timeout)
        return []

    def close(self) -> None:
        pass


class SimLoop(base_events.BaseEventLoop):
    """The virtual loop. `time()` is seconds since the start of the run and moves only between callbacks.

    Built on `BaseEventLoop`, whose socket, pipe, signal and subprocess methods all say NotImplementedError.
    Use `run` unless a test needs the loop itself; then close it.
    """

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, seed: int = 0, limit_virtual_s: float = float("inf")) -> None:
        super().__init__()
        self.seed = seed
        self.random = Random(f"loop/{seed}")
        """Seeded randomness for the scenario itself."""
        self.unhandled: list[dict[str, Any]] = []
        """Contexts of everything that reached the loop's exception handler."""
        self._now = 0.0
        self._limit = limit_virtual_s
        self._thread = threading.get_ident()
        self._numbers = 0
        self._tasks: weakref.WeakSet[_SimTask[Any]] = weakref.WeakSet()
        self._at_close: list[Callable[[], None]] = []
        self._frozen: dict[object, list[tuple[asyncio.Handle, float | None]]] = {}
        """What waits for each frozen owner: callbacks, and timers with the seconds that are left of them."""
        self._selector = _JumpingSelector(self)
        self.set_exception_handler(lambda _, context: self.unhandled.append(context))

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock. For the selector; a test that calls it makes every timer late, as a busy machine
        does.

        Raises `SimTimeLimit` instead of passing the limit.
        """
        if self._now + seconds > self._limit:
            raise SimTimeLimit(f"{self._limit} virtual seconds are over; waiting: {self.waiting()}")
        self._now += seconds

    def grant(self, seconds: float) -> None:
        """Allow this much virtual time from now on, whatever the limit was, and forget that the loop spun."""
        self._limit = self._now + seconds
        self._selector.spins = 0

    def at_close(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the loop closes, last come first served."""
        self._at_close.append(callback)

    def waiting(self) -> str:
        """The unfinished tasks by name, each with the line it waits at."""
        return ", ".join(_place(task) for task in self.pending()) or "no task"

    def pending(self) -> list[asyncio.Task[Any]]:
        """The unfinished tasks, oldest first."""
        tasks = [task for task in self._tasks if not task.done()]
        return [*sorted(tasks, key=lambda task: task.number)]

    def tasks_of(self, owner: object) -> list[asyncio.Task[Any]]:
        """The unfinished tasks that were made while `OWNER` was `owner`, oldest first: what dies with it."""
        return [task for task in self.pending() if getattr(task, "owner", None) is owner]

    def unretrieved(self) -> list[BaseException]:
        """Errors of finished tasks that nobody has looked at, oldest first."""
        lost = [task for task in self._tasks if task.done() and getattr(task, "_log_traceback", False)]
        errors = [task.exception() for task in sorted(lost, key=lambda task: task.number)]
        return [error for error in errors if error is not None]

    def freeze(self, owner: object) -> None:
        """Nothing of this owner runs from now on, as on a machine that sleeps; its timers stand still."""
        shelf = self._frozen.setdefault(owner, [])
        for place, handle in enumerate(self._ready):
            if _owner_of(handle) is owner and not handle.cancelled():
                shelf.append((handle, None))
                # The round that we are in counted it: something must stay in its place.
                self._ready[place] = gap = asyncio.Handle(_nothing, (), self)
                gap.cancel()
        for timer in [timer for timer in self._scheduled if _owner_of(timer) is owner]:
            self._shelve(timer)

    def thaw(self, owner: object) -> None:
        """It goes on where it was; the clock is later."""
        for handle, left in self._frozen.pop(owner):
            if handle.cancelled():
                continue
            if left is None:
                self._ready.append(handle)
            else:
                assert isinstance(handle, asyncio.TimerHandle)
                handle._when = self._now + left  # type: ignore[attr-defined]
                handle._scheduled = True  # type: ignore[attr-defined]
                heapq.heappush(self._scheduled, handle)

    def _shelve(self, timer: asyncio.TimerHandle) -> None:
        self._scheduled.remove(timer)
        heapq.heapify(self._scheduled)
        timer._scheduled = False  # type: ignore[attr-defined]
        self._frozen[_owner_of(timer)].append((timer, timer.when() - self._now))

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = super().call_soon(callback, *args, context=context)
        if self._frozen and _owner_of(handle) in self._frozen:
            self._ready.remove(handle)
            self._frozen[_owner_of(handle)].append((handle, None))
        return handle

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = super().call_at(when, callback, *args, context=context)
        if self._frozen and _owner_of(timer) in self._frozen:
            self._shelve(timer)
        return timer

    def create_task(  # type: ignore[override]  # typeshed still knows generators as tasks
        self, coro: Coroutine[Any, Any, T], *, name: object = None, context: Any = None, **options: Any
    ) -> asyncio.Task[T]:
        if self.is_closed():
            raise SimError("the simulated loop is closed")
        number = self._number()
        name = f"task-{number}" if name is None else str(name)
        task = _SimTask(coro, number=number, loop=self, name=name, context=context, **options)
        task.owner = OWNER.get() if context is None else context.get(OWNER)
        self._tasks.add(task)
        return task

    def create_future(self) -> asyncio.Future[Any]:
        return _SimFuture(number=self._number(), loop=self)

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        if threading.get_ident() != self._thread:
            raise SimError("a thread called into the simulated loop; there are no threads in virtual time")
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(self, _: Any, func: Any, *__: Any) -> NoReturn:  # type: ignore[override]
        raise SimError(f"no threads in virtual time: run_in_executor({func!r}); Host.blocking runs inline here")

    async def shutdown_default_executor(self, _: float | None = None) -> None:
        """Nothing to do: there is none."""

    def close(self) -> None:
        if not self.is_closed():
            while self._at_close:
                self._at_close.pop()()
        super().close()

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _process_events(self, event_list: list[Any]) -> None:
        """Called by `BaseEventLoop` with what `select` returned, which is never anything."""


def run(main: Coroutine[Any, Any, T], *, seed: int = 0, limit_virtual_s: float = 24 * 3600.0) -> T:
    """Run `main` to its end in virtual time and close everything; its result or its exception.

    `asyncio.get_running_loop()` in it is the `SimLoop`, whose `seed` is the one given here. When `main`
    returns, no other task may be left (`SimLeak`) and nothing may have reached the loop's exception handler
    or died unseen (`SimUnhandled`). When `main` raises, its error wins and the others are added to it as
    notes. `SimDeadlock`, `SimLivelock` and `SimTimeLimit` end the run wherever it is.
    """
    loop = SimLoop(seed, limit_virtual_s)
    try:
        try:
            result = loop.run_until_complete(loop.create_task(main, name="main"))
        except BaseException as error:
            for finding in _findings(loop):
                error.add_note(f"also: {finding}")
            raise
        finally:
            leaked = loop.waiting() if loop.pending() else ""
            _cancel_all(loop)
        if leaked:
            raise SimLeak(f"left behind: {leaked}")
        findings = _findings(loop)
        if findings:
            cause = next((each["exception"] for each in loop.unhandled if "exception" in each), None)
            raise SimUnhandled("\n".join(findings)) from cause
        return result
    finally:
        loop.close()


def _owner_of(handle: asyncio.Handle) -> object:
    """Whose code it calls: see `OWNER`."""
    return handle._context.get(OWNER)  # type: ignore[attr-defined]


def _nothing() -> None:
    """Of a handle that is only a place."""


def _cancel_all(loop: SimLoop) -> None:
    """Cancel what is left and let it clean up, within bounds; then finish the async generators."""
    loop.grant(GRACE_S)
    tasks = loop.pending()
    for task in tasks:
        task.cancel()
    try:
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        loop.run_until_complete(loop.shutdown_asyncgens())
    except SimError as error:
        loop.unhandled.append({"message": "cleaning up did not end", "exception": error})


def _findings(loop: SimLoop) -> list[str]:
    """What went wrong without anybody noticing, as text."""
    for error in loop.unretrieved():
        loop.unhandled.append({"message": "a task failed and nobody looked", "exception": error})
    found = []
    for context in loop.unhandled:
        failure: BaseException | None = context.get("exception")
        detail = repr(context) if failure is None else "".join(traceback.format_exception(failure)).rstrip()
        found.append(f"{context['message']}\n{detail}")
    return found


def _place(task: asyncio.Task[Any]) -> str:
    """`name (file:line)` of the innermost line outside asyncio that the task waits at."""
    place = ""
    coroutine: Any = task.get_coro()
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        path = PurePath(frame.f_code.co_filename)
        if not place or path.parent.name != "asyncio":
            place = f" ({path.name}:{frame.f_lineno})"
        coroutine = coroutine.cr_await
    return task.get_name() + place
