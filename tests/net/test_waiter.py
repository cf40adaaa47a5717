"""A task that waits for a turn: resumed within it, cancelled like any other, one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from covey.net.waiter import Waiter

Scenario = Callable[[Waiter], Coroutine[Any, Any, None]]


def run(scenario: Scenario) -> None:
    async def main() -> None:
        await asyncio.wait_for(scenario(Waiter(asyncio.get_running_loop())), 10)

    asyncio.run(main(), debug=True)


async def one_round() -> None:
    await asyncio.sleep(0)


def in_callback(action: Callable[[], object]) -> asyncio.Future[object]:
    """The result of `action`, called by the loop and not by a task."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[object] = loop.create_future()
    loop.call_soon(lambda: future.set_result(action()))
    return future


def test_task_goes_on_before_resume_returns() -> None:
    async def scenario(waiter: Waiter) -> None:
        steps: list[str] = []

        async def waits() -> None:
            for number in range(3):
                await waiter
                steps.append(f"step {number}")

        task = asyncio.create_task(waits())
        await one_round()

        def resume() -> None:
            assert waiter.pending
            waiter.resume()
            steps.append("resumed")

        for _ in range(3):
            await in_callback(resume)
        assert steps == ["step 0", "resumed", "step 1", "resumed", "step 2", "resumed"]
        await task
        assert not waiter.pending

    run(scenario)


def test_resume_without_a_waiting_task_does_nothing() -> None:
    async def scenario(waiter: Waiter) -> None:
        await in_callback(waiter.resume)
        task = asyncio.create_task(wait(waiter))
        await one_round()
        await in_callback(waiter.resume)
        await task
        await in_callback(waiter.resume)

    run(scenario)


async def wait(waiter: Waiter) -> None:
    await waiter


def test_task_that_waits_can_be_cancelled_and_wait_again() -> None:
    async def scenario(waiter: Waiter) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait(waiter), 0.001)
        assert not waiter.pending
        task = asyncio.create_task(wait(waiter))
        await one_round()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        task = asyncio.create_task(wait(waiter))
        await one_round()
        await in_callback(waiter.resume)
        await task

    run(scenario)


def test_cancellation_wins_over_a_resumption_on_its_way() -> None:
    async def scenario(waiter: Waiter) -> None:
        task = asyncio.create_task(wait(waiter))
        await one_round()

        def both() -> None:
            task.cancel()
            waiter.resume()

        await in_callback(both)
        with pytest.raises(asyncio.CancelledError):
            await task

    run(scenario)


def test_second_task_is_refused_and_the_first_still_waits() -> None:
    async def scenario(waiter: Waiter) -> None:
        first = asyncio.create_task(wait(waiter))
        await one_round()
        with pytest.raises(RuntimeError, match="another task"):
            await waiter
        await in_callback(waiter.resume)
        await first

    run(scenario)


def test_task_goes_on_in_its_own_context() -> None:
    async def scenario(waiter: Waiter) -> None:
        name: ContextVar[str] = ContextVar("name", default="nobody's")
        seen: list[str] = []

        async def waits() -> None:
            name.set("its own")
            await waiter
            seen.append(name.get())

        task = asyncio.create_task(waits())
        await one_round()
        await in_callback(waiter.resume)
        await task
        assert seen == ["its own"]
        assert name.get() == "nobody's"

    run(scenario)


def test_error_of_the_task_is_the_tasks() -> None:
    async def scenario(waiter: Waiter) -> None:
        async def fails() -> None:
            await waiter
            raise ValueError("its own")

        task = asyncio.create_task(fails())
        await one_round()
        await in_callback(waiter.resume)
        with pytest.raises(ValueError, match="its own"):
            await task

    run(scenario)
