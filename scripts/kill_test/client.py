"""A careful program that uses one agent's API while it dies and comes back."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from scripts.kill_test.killer import Killer
from scripts.kill_test.plan import GIVE_UP_SECONDS, PROMISES, Message, Plan, body_field, body_of, make_body
from scripts.kill_test.stage import Stage
from scripts.processes import Answer, Gone

__all__ = ["Client"]

RETRY_SECONDS: Final = 0.05
"""Between tries of a client whose daemon is away."""


class Round(Protocol):
    """What a client needs of the round it is part of."""

    plan: Plan
    stage: Stage
    killer: Killer
    ended: threading.Event
    begun: float
    violation: Callable[[str], None]
    count: Callable[[str, int], None]


class Client:
    """Sends its share of messages to the other agent, one call after the other, and keeps the ledger."""

    def __init__(self, round: Round, side: str, lane: int, count: int) -> None:
        self._round = round
        self._side = side
        self._other = "B" if side == "A" else "A"
        self._lane = lane
        self._count = count
        self._random = random.Random(f"{round.plan.seed} {side} {lane}")
        self._api = round.stage.agents[side].new_api()
        self._far = round.stage.agents[self._other].new_api()
        self._pause_mean = 0.0
        self.ledger: list[Message] = []

    def run(self) -> None:
        """Until all are sent, or the round failed."""
        try:
            while len(self.ledger) < self._count and not self._round.ended.is_set():
                batch = self._make(self._size())
                repeat = self._random.random() >= 0.04  # else: a client that does not care
                views = self._send(batch, repeat=repeat)
                if views is not None:
                    self._after(batch, views)
                self._pause(len(batch))
        except Exception as error:
            self._round.violation(f"client {self._side}{self._lane}: {type(error).__name__}: {error}")
        finally:
            self._api.close()
            self._far.close()

    def _size(self) -> int:
        left = self._count - len(self.ledger)
        return 1 if self._random.random() < 0.7 else min(left, self._random.randint(2, 24))

    def _make(self, count: int) -> list[Message]:
        kind = self._random.choice(("text", "json", "binary"))
        batch = []
        for _ in range(count):
            index = len(self.ledger)
            message = Message(
                id=secrets.token_hex(16),
                lane=(self._side, self._lane),
                index=index,
                type=kind,
                body=make_body(self._random, kind, f"{self._side}{self._lane}-{index}"),
            )
            self.ledger.append(message)
            batch.append(message)
        return batch

    def _send(self, batch: list[Message], *, repeat: bool) -> list[str] | None:
        """The results of the messages, as promised; None if the call died and is not repeated."""
        wait = self._random.choice((0, 0, 0.05, 0.3, 1))
        deadline = time.monotonic() + GIVE_UP_SECONDS
        for message in batch:
            message.begun = time.time()
        while not self._round.ended.is_set():
            try:
                answer = self._call(batch, wait)
            except Gone:
                self._note(batch, ["gone"] * len(batch))
                if not repeat:
                    return None
                if time.monotonic() > deadline:
                    raise
                self._round.ended.wait(RETRY_SECONDS)
                continue
            if not answer.ok:
                self._note(batch, [answer.code] * len(batch))
                self._round.violation(f"{self._side}{self._lane}: {answer.status} {answer.data}")
                return None
            views = answer.data["items"] if len(batch) > 1 else [answer.data]
            results = [view["result"] for view in views]
            self._note(batch, results)
            if [view["id"] for view in views] != [message.id for message in batch]:
                self._round.violation(f"{self._side}{self._lane}: the answer is about other messages")
            return results
        return None

    def _call(self, batch: list[Message], wait: float) -> Answer:
        peer = self._round.stage.agents[self._other].name
        if len(batch) == 1:
            return self._api.post(
                "/v1/messages",
                peer=peer,
                type=batch[0].type,
                id=batch[0].id,
                wait=wait,
                **body_field(batch[0]),
            )
        messages = [{"id": message.id, **body_field(message)} for message in batch]
        return self._api.post("/v1/messages/batch", peer=peer, type=batch[0].type, messages=messages, wait=wait)

    def _note(self, batch: list[Message], results: list[str]) -> None:
        now = time.time()
        for message, result in zip(batch, results, strict=True):
            message.answers.append(result)
            if result in PROMISES and not message.promised:
                message.promised = now
            elif result not in PROMISES and result != "gone":
                self._round.violation(f"{message.lane} {message.index} {message.id}: {result}")
        first, last = batch[0], batch[-1]
        self._round.stage.log(
            f"{self._side}{self._lane} {first.index}..{last.index} {first.id[:8]} {dict(Counter(results))}"
        )

    def _after(self, batch: list[Message], results: list[str]) -> None:
        """Sometimes: who promised dies at once, or the same call comes again, or we look at once."""
        dice = self._random.random()
        delivered = [message for message, result in zip(batch, results, strict=True) if result == "delivered"]
        if dice < 0.04:
            self._send(batch, repeat=True)
            self._round.count("repeated on purpose", len(batch))
        elif dice < 0.06:
            self._round.killer.kill_at_once(self._side, self._random.uniform(0, 0.3))
        elif delivered and dice < 0.08:
            self._round.killer.kill_at_once(self._other, self._random.uniform(0, 0.3))
            self._look(delivered[-1], "recipient killed at once")
        elif delivered and dice < 0.09:
            self._look_while_sender_is_dead(delivered[-1])
        elif delivered and dice < 0.2:
            self._look(delivered[-1], "at once")

    def _look_while_sender_is_dead(self, message: Message) -> None:
        killer = self._round.killer
        with killer.holding[self._side]:
            killer.kill(self._side)
            self._look(message, "sender dead")
            killer.restart(self._side)

    def _look(self, message: Message, when: str) -> None:
        """A delivered message is in the inbox as soon as that can be read."""
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while not self._round.ended.is_set():
            try:
                answer = self._far.get(f"/v1/inbox/{message.id}")
            except Gone:
                if time.monotonic() > deadline:
                    raise
                self._round.ended.wait(RETRY_SECONDS)
                continue
            if not answer.ok:
                self._round.violation(
                    f"{message.lane} {message.index} {message.id} was delivered, and is not in the inbox: "
                    f"{answer.status} {answer.code}"
                )
            elif body_of(answer.data) != message.body:
                self._round.violation(f"{message.lane} {message.index} {message.id} was altered")
            self._round.count(f"looked up, {when}", 1)
            return

    def _pause(self, sent: int) -> None:
        """In bursts, and on the whole so that the sending takes as long as was asked for."""
        plan = self._round.plan
        due = plan.seconds * len(self.ledger) / self._count
        ahead = due - (time.monotonic() - self._round.begun)
        if ahead > 0 and self._random.random() < 0.5:
            self._round.ended.wait(min(ahead, self._random.expovariate(2.0)))
