"""Asking several rendezvous one thing: whom first, whom next, and when there are answers enough (DESIGN 7).

None of them is waited for longer than it deserves. One that leaves a request unanswered for its `patience` counts as
silent: whoever asks goes on with the answers of the others, and asks it last from then on. Its late answer, whatever
it says, ends that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from math import inf
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from covey.base.errors import CoveyError

__all__ = ["LINGER_SECONDS", "READ_FROM", "STAGGER_SECONDS", "Asked", "ask"]

LINGER_SECONDS: Final = 0.2
"""Where an answer cannot be wrong, only old, the others get so long to give a newer one."""

READ_FROM: Final = 2
"""Rendezvous whose answers are compared where not all are asked (PROTOCOL 3); fewer if there are fewer."""

STAGGER_SECONDS: Final = (0.0, 0.05, 0.2)
"""When the first, the second and every further rendezvous is asked, if there are not enough answers by then."""

_ALL_SILENT_SECONDS: Final = 0.25
"""While all are silent: how often it is looked whether another one is connected by now."""

T = TypeVar("T")


class Asked(Protocol):
    """What must be known of somebody who is asked: a `RendezvousClient` is one."""

    @property
    def connected(self) -> bool: ...
    @property
    def silent(self) -> bool: ...
    @property
    def rtt(self) -> float:
        """Seconds: the nearest is asked first."""

    @property
    def patience(self) -> float:
        """Seconds until an answer is late."""


C = TypeVar("C", bound=Asked)


class _Question(NamedTuple, Generic[C]):
    client: C
    patient_until: float


async def ask(
    clients: Sequence[C],
    question: Callable[[C], Coroutine[Any, Any, T]],
    *,
    now: Callable[[], float],
    enough: int | None = None,
    linger: float | None = None,
    on_answer: Callable[[C, T], None] | None = None,
) -> list[tuple[C, T]]:
    """Who said what, in the order in which it came.

    Asked are those that are connected and not silent: until `enough` of them have answered, or (None) all. With
    `enough` one after the other, otherwise at the same time. `linger` bounds the seconds that further answers are
    waited for after the first. Where all are silent or fail it is waited until each has. `on_answer` hears of each
    answer as it comes. A CoveyError of a question counts as no answer.
    """
    waiting: list[C] = []
    known: list[C] = []
    asked: dict[asyncio.Task[T], _Question[C]] = {}
    answers: list[tuple[C, T]] = []
    begun = now()
    number = 0
    last = inf
    try:
        while True:
            at = now()
            waiting += sorted(
                (each for each in clients if each.connected and each not in known),
                key=lambda each: (each.silent, each.rtt),
            )
            known += [each for each in waiting if each not in known]
            patient = [each for each in asked.values() if at < each.patient_until]
            due = begun + STAGGER_SECONDS[min(number, len(STAGGER_SECONDS) - 1)]
            if waiting and (enough is None or not patient or at >= due):
                client = waiting.pop(0)
                until = at if client.silent else at + client.patience
                asked[asyncio.ensure_future(question(client))] = _Question(client, until)
                number += 1
                continue
            if not asked or (answers and not patient) or at >= last:
                return answers
            wakes = [last] * bool(answers) + [each.patient_until for each in patient] + [due] * bool(waiting)
            timeout = max(min(wakes) - at, 0.0) if wakes else _ALL_SILENT_SECONDS
            done, _ = await asyncio.wait(asked, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                client = asked.pop(task).client
                if _failed(task):
                    continue
                answers.append((client, task.result()))
                if linger is not None:
                    last = min(last, now() + linger)
                if on_answer is not None:
                    on_answer(client, task.result())
            if enough is not None and len(answers) >= enough:
                return answers
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


def _failed(task: asyncio.Task[Any]) -> bool:
    error = task.exception()
    if error is not None and not isinstance(error, CoveyError):
        raise error
    return error is not None
