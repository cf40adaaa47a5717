"""Outbox and inbox together against a dictionary, over a network that repeats, reorders, delays and loses."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from covey.node.storage.database import Database
from covey.node.storage.inbox import Inbox, Incoming
from covey.node.storage.migrations import MIGRATIONS
from covey.node.storage.outbox import Outbox

SENDER, RECIPIENT = b"s" * 32, b"r" * 32
T = TypeVar("T")

PICK = st.integers(0, 1 << 16)
PICKS = st.lists(st.tuples(st.integers(0, 7), st.booleans()), min_size=1, max_size=8)
"""Which of what is on its way comes next, and whether a copy of it stays on its way."""


class Packet(NamedTuple):
    """One message, or (message None) a SKIP, on its way."""

    incarnation: int
    message: Incoming | None
    skips: tuple[int, ...] = ()
    lowest_alive: int = 1


class Acknowledgement(NamedTuple):
    incarnation: int
    number: int
    refused: bool = False


def draw(things: list[T], picks: list[tuple[int, bool]]) -> Iterator[T]:
    for pick, keep in picks:
        if things:
            index = pick % len(things)
            yield things[index] if keep else things.pop(index)


class Model(NamedTuple):
    """What the sender's user was told, per id in the order of sending."""

    results: dict[bytes, str]

    def copy(self) -> Model:
        return Model(dict(self.results))


class Messages(RuleBasedStateMachine):
    """A crash is closing the database without a commit. A restore is the sender's file of long ago."""

    @initialize(remembered=st.sampled_from([0, 100]))
    def begin(self, remembered: int) -> None:
        self.remembered = remembered
        self.folder = Path(tempfile.mkdtemp(prefix="covey-messages-"))
        self.seed = 0
        self.now = 1
        self.network: list[Packet] = []
        self.answers: list[Acknowledgement] = []
        self.model = Model({})
        self.backup: Model | None = None
        self.restored = False
        self.read: list[bytes] = []
        self.given = 0
        self.sender = self._open("sender")
        self.recipient = self._open("recipient")
        self.outbox = Outbox(self.sender, self._random)
        self.inbox = self._inbox()

    def _open(self, name: str) -> Database:
        return Database(self.folder / f"{name}.db", MIGRATIONS, synchronous="OFF")

    def _inbox(self) -> Inbox:
        return Inbox(self.recipient, messages_limit=24, removed_limit=self.remembered)

    def _random(self, size: int) -> bytes:
        self.seed += 1
        return self.seed.to_bytes(size, "big")

    def _new_id(self) -> bytes:
        self.given += 1
        return self.given.to_bytes(16, "big")

    # What the users do.

    @rule(count=st.integers(1, 4), ttl=st.none() | st.integers(1, 5))
    def send(self, count: int, ttl: int | None) -> None:
        for _ in range(count):
            new = self._new_id()
            self.outbox.append(RECIPIENT, new, "text", new, self.now, None if ttl is None else self.now + ttl)
            self.model.results[new] = "queued"

    @rule(pick=PICK)
    @precondition(lambda self: self.model.results)
    def send_again(self, pick: int) -> None:
        known = list(self.model.results)[pick % len(self.model.results)]
        self.outbox.append(RECIPIENT, known, "text", known, self.now)

    @rule()
    def send_and_crash(self) -> None:
        self.sender.execute("BEGIN IMMEDIATE")
        self.sender._depth = 1
        self.outbox.append(RECIPIENT, self._new_id(), "text", b"never promised", self.now)
        self._restart_sender()

    @rule(pick=PICK)
    @precondition(lambda self: self.model.results)
    def cancel(self, pick: int) -> None:
        known = list(self.model.results)[pick % len(self.model.results)]
        if self.outbox.cancel(known, self.now):
            assert self.model.results[known] == "queued"
            self.model.results[known] = "cancelled"

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        for gone in self.outbox.expire(self.now):
            assert self.model.results[gone] == "queued"
            self.model.results[gone] = "expired"

    @rule(upto=st.integers(0, 20))
    def read_and_clear(self, upto: int) -> None:
        """With nothing remembered, only the numbers can tell a repetition from now on; then no restores."""
        visible = self.inbox.listing(limit=upto)
        self.inbox.acknowledge(message.number for message in visible)
        assert self.inbox.clear() == len(visible)
        self.read += [message.id for message in visible]

    # What the nodes and the network do.

    @rule(after=st.sampled_from([0, 0, 0, 1, 2, 5]), size=st.sampled_from([16, 64, 1000]))
    def transmit(self, after: int, size: int) -> None:
        lowest = self.outbox.lowest_alive(RECIPIENT)
        for message in self.outbox.next_batch(RECIPIENT, after, size):
            incoming = Incoming(message.number, lowest, message.id, message.type, message.body)
            self.network.append(Packet(self.outbox.incarnation, incoming))

    @rule()
    def transmit_skip(self) -> None:
        lowest, skips = self.outbox.lowest_alive(RECIPIENT), tuple(self.outbox.skips(RECIPIENT))
        self.network.append(Packet(self.outbox.incarnation, None, skips, lowest))

    @rule(picks=PICKS, crash=st.sampled_from([False, False, False, True]))
    @precondition(lambda self: self.network)
    def arrive(self, picks: list[tuple[int, bool]], crash: bool) -> None:
        if crash:
            self.recipient.execute("BEGIN IMMEDIATE")
            self.recipient._depth = 1
        answers: list[Acknowledgement] = []
        for packet in draw(self.network, picks):
            answers += self._take(packet)
        if crash:
            self._restart_recipient()
        else:
            self.answers += answers

    def _take(self, packet: Packet) -> list[Acknowledgement]:
        if packet.message is None:
            self.inbox.skip(SENDER, packet.incarnation, packet.skips, self.now, packet.lowest_alive)
            return []
        stored = self.inbox.store_many(SENDER, packet.incarnation, [packet.message], self.now)[0]
        if stored == "too-early":
            return []
        return [Acknowledgement(packet.incarnation, packet.message.number, stored == "inbox-full")]

    @rule(picks=PICKS)
    @precondition(lambda self: self.answers)
    def answer(self, picks: list[tuple[int, bool]]) -> None:
        for answer in draw(self.answers, picks):
            self._hear(answer)

    def _hear(self, answer: Acknowledgement) -> None:
        if answer.incarnation != self.outbox.incarnation:
            return
        if answer.refused:
            if any(not a.refused and a.number == answer.number for a in self.answers):
                return  # the ordered stream between real nodes cannot bring these two in the wrong order
            gone = self.outbox.mark_refused(RECIPIENT, answer.number, "inbox-full", self.now)
            done = [] if gone is None else [gone]
        else:
            done = self.outbox.mark_delivered(RECIPIENT, [answer.number], now_us=self.now)
        for known in done:
            assert self.model.results[known] == "queued"
            self.model.results[known] = "refused" if answer.refused else "delivered"

    @rule()
    def restart(self) -> None:
        self._restart_sender()
        self._restart_recipient()

    @rule()
    @precondition(lambda self: self.backup is None)
    def back_up(self) -> None:
        self.sender.execute("VACUUM INTO ?", (str(self.folder / "backup.db"),))
        self.backup = self.model.copy()

    @rule()
    @precondition(lambda self: self.backup is not None and self.remembered)
    def restore(self) -> None:
        """The store has noticed (test_store), so a new incarnation begins."""
        self.sender.close()
        for suffix in ("-wal", "-shm"):
            (self.folder / f"sender.db{suffix}").unlink(missing_ok=True)
        shutil.copy(self.folder / "backup.db", self.folder / "sender.db")
        self.sender = self._open("sender")
        self.outbox = Outbox(self.sender, self._random)
        self.outbox.renumber()
        assert self.backup is not None
        self.model, self.restored = self.backup.copy(), True

    def _restart_sender(self) -> None:
        self.sender.close()
        self.sender = self._open("sender")
        self.outbox = Outbox(self.sender, self._random)

    def _restart_recipient(self) -> None:
        self.recipient.close()
        self.recipient = self._open("recipient")
        self.inbox = self._inbox()

    # What must hold at every moment.

    @invariant()
    def nothing_twice_and_in_order(self) -> None:
        seen = self.read + [message.id for message in self.inbox.listing(limit=1 << 20)]
        assert len(seen) == len(set(seen))
        if not self.restored:
            assert seen == sorted(seen)

    @invariant()
    def delivered_means_stored(self) -> None:
        here = {message.id for message in self.inbox.listing(limit=1 << 20)}
        here |= {row[0] for row in self.recipient.rows("SELECT id FROM inbox_gaps WHERE id IS NOT NULL")}
        for known, result in self.model.results.items():
            assert result != "delivered" or known in here or known in self.read
        assert self.inbox.counts().total + self.inbox.counts().waiting == len(here)

    @invariant()
    def results_are_what_the_user_was_told(self) -> None:
        for known, result in self.model.results.items():
            outcome = self.outbox.state(known)
            assert outcome is not None
            assert outcome.result == result
        queued = sum(result == "queued" for result in self.model.results.values())
        assert self.outbox.counts(RECIPIENT).messages == queued == self.outbox.counts().messages

    def teardown(self) -> None:
        """Once the network works, everything queued arrives, in order, and nothing waits for the dead."""
        if not hasattr(self, "folder"):
            return
        self.inbox = Inbox(self.recipient)  # and there is room
        for _ in range(3):
            self.transmit_skip()
            self.transmit(0, 1 << 20)
            for packet in self.network[-1 - len(self.model.results) :]:
                self.answers += self._take(packet)
            for answer in self.answers:
                if not answer.refused:
                    self._hear(answer)
            self.answers.clear()
        self.transmit_skip()
        self._take(self.network[-1])
        self.nothing_twice_and_in_order()
        self.delivered_means_stored()
        assert "queued" not in self.model.results.values()
        last = self.outbox.incarnation.to_bytes(8, "big")
        waiting = "SELECT count(*) FROM inbox_gaps WHERE id IS NOT NULL AND incarnation = ?"
        assert self.recipient.row(waiting, (last,)) == (0,)
        self.sender.close()
        self.recipient.close()
        shutil.rmtree(self.folder)


TestMessages = Messages.TestCase
TestMessages.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
