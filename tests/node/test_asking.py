"""Whom first, whom next, and when there are answers enough: sources that answer when they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from covey.base.errors import UnreachableError
from covey.node.asking import LINGER_SECONDS, STAGGER_SECONDS, ask
from covey.testing import run

NEVER = 1000.0


@dataclass(eq=False)
class Source:
    """Answers its name after `takes` seconds, or fails then; gives up after five, as a client does."""

    name: str
    takes: float
    fails: bool = False
    connected: bool = True
    silent: bool = False
    rtt: float = 0.0
    patience: float = 1.0
    asked_at: list[float] = field(default_factory=list)

    async def answer(self) -> str:
        loop = asyncio.get_running_loop()
        self.asked_at.append(loop.time())
        await asyncio.sleep(min(self.takes, 5.0))
        if self.fails or self.takes >= 5.0:
            raise UnreachableError("no answer", code="no-rendezvous")
        return self.name


def asked(
    sources: Sequence[Source], *, enough: int | None = None, linger: float | None = None
) -> tuple[list[str], float]:
    """The answers, and the seconds it took."""

    async def scenario() -> tuple[list[str], float]:
        loop = asyncio.get_running_loop()
        answers = await ask(sources, Source.answer, now=loop.time, enough=enough, linger=linger)
        assert [source.name for source, _ in answers] == [name for _, name in answers]
        return [name for _, name in answers], loop.time()

    return run(scenario())


def test_nobody_to_ask_is_no_answer_at_once() -> None:
    assert asked([]) == ([], 0.0)
    assert asked([Source("a", 0.1, connected=False)]) == ([], 0.0)


def test_all_are_asked_at_once_and_waited_for() -> None:
    sources = [Source("a", 0.3), Source("b", 0.1), Source("c", 0.2)]
    assert asked(sources) == (["b", "c", "a"], pytest.approx(0.3))
    assert [source.asked_at for source in sources] == [[0.0]] * 3


def test_two_are_read_from_the_second_once_the_first_has_answered_or_at_its_time() -> None:
    first, second, third = Source("a", 0.01), Source("b", 0.01), Source("c", 0.01)
    assert asked([first, second, third], enough=2) == (["a", "b"], pytest.approx(0.02))
    assert (second.asked_at, third.asked_at) == ([pytest.approx(0.01)], [])
    sources = [Source(name, 0.5) for name in "abcd"]
    assert asked(sources, enough=2) == (["a", "b"], pytest.approx(0.55))
    assert [source.asked_at for source in sources] == [
        [pytest.approx(STAGGER_SECONDS[0])],
        [pytest.approx(STAGGER_SECONDS[1])],
        [pytest.approx(STAGGER_SECONDS[2])],
        [pytest.approx(STAGGER_SECONDS[2])],
    ]


def test_nearest_is_asked_first_and_the_silent_last() -> None:
    sources = [Source("far", 0.0, rtt=0.3), Source("mute", 0.0, rtt=0.1, silent=True), Source("near", 0.0, rtt=0.2)]
    assert asked(sources, enough=3)[0] == ["near", "far"]


@pytest.mark.parametrize("enough", [None, 2])
def test_one_that_falls_silent_is_waited_for_as_long_as_it_deserves(enough: int | None) -> None:
    answers, seconds = asked([Source("mute", NEVER, patience=1.5), Source("b", 0.1)], enough=enough)
    assert (answers, seconds) == (["b"], pytest.approx(1.5))


def test_one_that_is_silent_already_is_asked_and_not_waited_for() -> None:
    mute = Source("mute", NEVER, silent=True)
    assert asked([mute, Source("b", 0.1)]) == (["b"], pytest.approx(0.1))
    assert mute.asked_at == [0.0], "it may be back"


def test_silent_ones_are_waited_for_if_there_is_nobody_else() -> None:
    assert asked([Source("late", 3.0)]) == (["late"], pytest.approx(3.0))
    assert asked([Source("mute", NEVER), Source("mute too", NEVER)]) == ([], pytest.approx(5.0))


def test_failure_is_no_answer_and_the_next_is_asked_at_once() -> None:
    sources = [Source("a", 0.01, fails=True), Source("b", 0.01), Source("c", 0.01)]
    assert asked(sources, enough=2) == (["b", "c"], pytest.approx(0.03))


def test_after_the_first_answer_others_are_waited_for_no_longer_than_to_linger() -> None:
    assert asked([Source("a", 0.1), Source("b", 0.9)], linger=LINGER_SECONDS) == (["a"], pytest.approx(0.3))
    assert asked([Source("a", 0.1), Source("b", 0.25)], linger=LINGER_SECONDS) == (["a", "b"], pytest.approx(0.25))


def test_one_that_is_connected_while_all_others_are_silent_is_asked() -> None:
    late = Source("late", 0.1, connected=False)

    async def scenario() -> tuple[list[str], float]:
        loop = asyncio.get_running_loop()
        loop.call_later(2.0, lambda: setattr(late, "connected", True))
        answers = await ask([Source("mute", NEVER), late], Source.answer, now=loop.time)
        return [name for _, name in answers], loop.time()

    names, seconds = run(scenario())
    assert names == ["late"]
    assert 2.1 <= seconds < 2.5


def test_answers_are_told_as_they_come_and_what_is_no_error_of_ours_is_raised() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        heard: list[tuple[str, float]] = []
        await ask(
            [Source("a", 0.1), Source("b", 0.2)],
            Source.answer,
            now=loop.time,
            on_answer=lambda source, name: heard.append((name, loop.time())),
        )
        assert heard == [("a", pytest.approx(0.1)), ("b", pytest.approx(0.2))]

        async def broken(source: Source) -> str:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await ask([Source("a", 0.1)], broken, now=loop.time)

    run(scenario())


def test_whoever_asks_and_is_cancelled_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        asking = asyncio.ensure_future(ask([Source("a", NEVER)], Source.answer, now=loop.time))
        await asyncio.sleep(0.1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    run(scenario())
