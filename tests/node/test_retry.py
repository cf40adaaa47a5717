from __future__ import annotations

import asyncio

import pytest

from covey.node.retry import Retry
from covey.testing import run


def pauses(byte: int, count: int) -> list[float]:
    async def scenario() -> list[float]:
        loop, retry, found = asyncio.get_running_loop(), Retry(lambda size: bytes([byte]) * size), []
        for _ in range(count):
            begun = loop.time()
            await retry.pause()
            found.append(loop.time() - begun)
        return found

    return run(scenario())


def test_pauses_double_up_to_fifteen_seconds() -> None:
    assert pauses(255, 9) == pytest.approx([0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0])


def test_pauses_are_at_least_half_of_that() -> None:
    assert pauses(0, 9) == pytest.approx([0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 7.5, 7.5, 7.5])


def test_hope_ends_the_running_pause_and_only_that() -> None:
    async def scenario() -> None:
        loop, retry = asyncio.get_running_loop(), Retry(lambda size: b"\xff" * size)
        for _ in range(6):
            await retry.pause()
        pausing = asyncio.ensure_future(retry.pause())
        await asyncio.sleep(1.0)
        retry.hope()
        begun = loop.time()
        await pausing
        assert loop.time() == begun
        await retry.pause()
        assert loop.time() - begun == pytest.approx(15.0)

    run(scenario())


def test_hope_before_the_pause_skips_it() -> None:
    """It came while the try that failed was under way: what it tells may be newer than the try."""

    async def scenario() -> None:
        loop, retry = asyncio.get_running_loop(), Retry(lambda size: b"\xff" * size)
        retry.hope()
        await retry.pause()
        assert loop.time() == 0.0

    run(scenario())


def test_reset_begins_anew() -> None:
    async def scenario() -> None:
        loop, retry = asyncio.get_running_loop(), Retry(lambda size: b"\xff" * size)
        for _ in range(6):
            await retry.pause()
        retry.hope()
        retry.reset()
        begun = loop.time()
        await retry.pause()
        assert loop.time() - begun == pytest.approx(0.25)

    run(scenario())


def test_hope_that_deceives_every_time_is_believed_more_slowly() -> None:
    """A rendezvous may say without end that a peer is there."""

    async def scenario() -> None:
        loop, retry = asyncio.get_running_loop(), Retry(lambda size: b"\xff" * size)
        tries = 0
        while loop.time() < 60.0:
            retry.hope()
            await retry.pause()
            tries += 1
        assert tries < 25
        retry.reset()
        begun = loop.time()
        retry.hope()
        await retry.pause()
        assert loop.time() == begun

    run(scenario())
