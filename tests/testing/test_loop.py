from __future__ import annotations

import asyncio
import threading
import time
from contextvars import copy_context

import pytest

from covey.testing import (
    SimDeadlock,
    SimError,
    SimLeak,
    SimLivelock,
    SimLoop,
    SimTimeLimit,
    SimUnhandled,
    run,
)
from covey.testing.loop import OWNER


def test_virtual_hours_pass_in_a_moment() -> None:
    async def main() -> float:
        for _ in range(100):
            await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    before = time.perf_counter()
    assert run(main(), limit_virtual_s=1e6) == 360_000
    assert time.perf_counter() - before < 1.0


def test_timers_fire_by_time_and_call_soon_in_order() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        order: list[str] = []
        loop.call_later(3, order.append, "three")
        loop.call_later(1, order.append, "one")
        loop.call_later(2, order.append, "cancelled").cancel()
        loop.call_at(2, order.append, "two")
        loop.call_soon(order.append, "soon")
        loop.call_soon(order.append, "then")
        await asyncio.sleep(10)
        return order

    assert run(main()) == ["soon", "then", "one", "two", "three"]


def test_time_stands_still_while_anything_is_ready() -> None:
    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        loop.call_later(0.001, lambda: None)
        for _ in range(1000):
            await asyncio.sleep(0)
        still = loop.time()
        await asyncio.sleep(0.25)
        return still, loop.time()

    assert run(main()) == (0.0, 0.25)


def test_asyncio_as_usual() -> None:
    async def main() -> list[object]:
        loop = asyncio.get_running_loop()
        results: list[object] = []
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 5)
        results.append(loop.time())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.get_running_loop().create_future()
        results.append(loop.time())

        queue: asyncio.Queue[int] = asyncio.Queue(maxsize=2)

        async def produce() -> None:
            for number in range(5):
                await asyncio.sleep(1)
                await queue.put(number)

        async def consume() -> list[int]:
            return [await queue.get() for _ in range(5)]

        async with asyncio.TaskGroup() as group:
            group.create_task(produce())
            consumer = group.create_task(consume())
        results += [consumer.result(), loop.time()]

        task = asyncio.create_task(asyncio.sleep(100))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        results.append(loop.time())

        async with asyncio.Lock(), asyncio.Semaphore(1):
            results.append(await asyncio.gather(asyncio.sleep(2, "b"), asyncio.sleep(1, "a")))
        done, pending = await asyncio.wait(
            [asyncio.create_task(asyncio.sleep(each)) for each in (3, 1, 2)],
            return_when=asyncio.FIRST_COMPLETED,
        )
        results += [len(done), len(pending)]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        results.append(loop.time())
        return results

    assert run(main()) == [5.0, 10.0, [0, 1, 2, 3, 4], 15.0, 16.0, ["b", "a"], 1, 2, 19.0]


def test_sets_of_tasks_have_one_order() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(50)]
        tasks = [asyncio.create_task(asyncio.sleep(1)) for _ in range(50)]
        names = [task.get_name() for task in {*tasks}]
        done, _ = await asyncio.wait(tasks)
        names += [task.get_name() for task in done]
        names += [str(futures.index(future)) for future in {*futures}]
        return names

    first = run(main())
    keep_memory_busy = [bytearray(1000) for _ in range(1000)]
    assert first == run(main())
    assert len(keep_memory_busy) == 1000


def test_seed_gives_the_scenario_its_luck() -> None:
    async def main() -> tuple[int, float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        return loop.seed, loop.random.random()

    assert run(main(), seed=3) == run(main(), seed=3)
    assert run(main(), seed=3)[0] == 3
    assert run(main(), seed=3) != run(main(), seed=4)


def test_deadlock_names_who_waits_and_where() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.create_task(never(), name="the waiter")

    with pytest.raises(SimDeadlock, match=r"main \(test_loop.py:\d+\), the waiter \(test_loop.py:\d+\)"):
        run(main())


def test_livelock_ends_the_run() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        def again() -> None:
            loop.call_soon(again)

        again()
        await asyncio.Event().wait()

    with pytest.raises(SimLivelock, match="main"):
        run(main())


def test_time_limit_ends_the_run() -> None:
    async def main() -> None:
        await asyncio.sleep(61)

    with pytest.raises(SimTimeLimit, match="60"):
        run(main(), limit_virtual_s=60)


def test_tasks_left_behind_fail_the_run_after_they_cleaned_up() -> None:
    cleaned: list[str] = []

    async def behind() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(1)
            cleaned.append("up")

    async def main() -> None:
        left = asyncio.create_task(behind(), name="forgotten")
        await asyncio.sleep(1)
        assert not left.done()

    with pytest.raises(SimLeak, match="forgotten"):
        run(main())
    assert cleaned == ["up"]


def test_task_that_dies_unseen_fails_the_run() -> None:
    async def die() -> None:
        raise LookupError("unseen")

    async def main() -> None:
        kept = asyncio.create_task(die())
        await asyncio.sleep(1)
        assert kept.done()

    with pytest.raises(SimUnhandled, match="LookupError: unseen"):
        run(main())


def test_error_in_a_callback_fails_the_run() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)

    with pytest.raises(SimUnhandled, match="ZeroDivisionError") as caught:
        run(main())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_error_of_main_wins_and_the_others_are_notes() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine") as caught:
        run(main())
    assert "ZeroDivisionError" in caught.value.__notes__[0]


def test_threads_are_refused() -> None:
    async def main() -> None:
        with pytest.raises(SimError, match=r"Host\.blocking"):
            await asyncio.to_thread(print)
        with pytest.raises(SimError):
            await asyncio.get_running_loop().getaddrinfo("localhost", 80)

    run(main())


def test_threads_that_call_in_are_refused() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        caught: list[BaseException] = []

        def call_in() -> None:
            try:
                loop.call_soon_threadsafe(print)
            except SimError as error:
                caught.append(error)

        thread = threading.Thread(target=call_in)
        thread.start()
        thread.join()
        assert len(caught) == 1
        heard: list[str] = []
        loop.call_soon_threadsafe(heard.append, "own thread")
        await asyncio.sleep(0)
        assert heard == ["own thread"]

    run(main())


def test_task_that_will_not_end_is_reported() -> None:
    async def stubborn() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    async def main() -> None:
        left = asyncio.create_task(stubborn(), name="stubborn")
        await asyncio.sleep(1)
        assert not left.done()

    with pytest.raises(SimLeak, match="stubborn"):
        run(main())


def test_sockets_and_subprocesses_are_refused() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(NotImplementedError):
            loop.add_reader(0, print)
        with pytest.raises(NotImplementedError):
            await asyncio.create_subprocess_exec("true")

    run(main())


def test_late_clock_makes_timers_late() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        fired: list[float] = []
        loop.call_at(1.0, lambda: fired.append(loop.time()))
        loop.advance(5.0)
        await asyncio.sleep(1)
        return fired

    assert run(main()) == [5.0]


def test_close_runs_what_was_asked_for_last_first() -> None:
    order: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        loop.at_close(lambda: order.append(1))
        loop.at_close(lambda: order.append(2))

    run(main())
    assert order == [2, 1]


def test_closed_loop_takes_no_task() -> None:
    loop = SimLoop()
    loop.close()
    loop.close()
    coroutine = asyncio.sleep(0)
    with pytest.raises(SimError):
        loop.create_task(coroutine)
    coroutine.close()


def test_frozen_owner_does_nothing_and_goes_on_where_it_was() -> None:
    async def main() -> list[tuple[float, str]]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        owner, seen = object(), []

        async def machine() -> None:
            loop.call_later(4.0, lambda: seen.append((loop.time(), "timer")))
            loop.call_later(4.5, lambda: seen.append((loop.time(), "cancelled"))).cancel()
            for number in range(3):
                await asyncio.sleep(1.0)
                seen.append((loop.time(), f"tick {number}"))
            await woken
            loop.call_soon(lambda: seen.append((loop.time(), "woken")))
            await asyncio.sleep(0)

        woken = loop.create_future()
        context = copy_context()
        context.run(OWNER.set, owner)
        task = loop.create_task(machine(), context=context)
        await asyncio.sleep(1.5)
        loop.freeze(owner)
        await asyncio.sleep(100.0)
        assert [what for _, what in seen] == ["tick 0"]
        loop.thaw(owner)
        await asyncio.sleep(1.7)
        loop.freeze(owner)
        woken.set_result(None)
        await asyncio.sleep(10.0)
        assert "woken" not in [what for _, what in seen]
        loop.thaw(owner)
        await task
        await asyncio.sleep(2.0)
        return [(round(at, 6), what) for at, what in seen]

    assert run(main()) == [
        (1.0, "tick 0"),
        (102.0, "tick 1"),
        (103.0, "tick 2"),
        (113.2, "woken"),
        (114.0, "timer"),
    ]


def test_freezing_in_the_middle_of_a_round_loses_no_callback() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        owner, seen = object(), []
        context = copy_context()
        context.run(OWNER.set, owner)
        loop.call_soon(loop.freeze, owner)
        for number in range(10):
            loop.call_soon(seen.append, number, context=context if number % 2 else None)
        await asyncio.sleep(1.0)
        assert seen == [0, 2, 4, 6, 8]
        loop.thaw(owner)
        await asyncio.sleep(1.0)
        return seen

    assert run(main()) == [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]
