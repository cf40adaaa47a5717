"""A day in the life of a node's files, in steps that may each be repeated, and what must be true after any of them.

Every step does what a daemon does, by the same functions, and says what it promised once it would have told anybody:
`queued`, `delivered`, `trusted`... `verify` then looks whether what is on the disk keeps these promises.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from covey.base.errors import CoveyError, StorageError
from covey.base.paths import Home
from covey.crypto.credentials import Credentials
from covey.node.storage import Incoming, Lock, Store, load_or_create, prepare, save
from covey.node.storage.check import INVARIANTS

__all__ = ["Story", "ending", "home_in", "tell", "verify"]

ADA: Final = b"a" * 32
BOB: Final = b"b" * 32
INCARNATION: Final = 7
"""Of Ada's outbox, as she says."""
START_US: Final = 1_800_000_000_000_000
TRIES: Final = 40
"""Of each step: more than any disk of these tests fails in a row."""

Say = Callable[[Any], None]


def home_in(folder: Path) -> Home:
    return Home.locate(None, {"COVEY_HOME": str(folder)}, uid=0, temporary=Path("/tmp"))


def message(n: int) -> bytes:
    return n.to_bytes(16, "big")


def body(n: int) -> bytes:
    return b"%d " % n * 700


class Story:
    """One run of the program over `home`. `seed`: of its randomness, another one in each run."""

    def __init__(self, home: Home, seed: int, say: Say = lambda word: None) -> None:
        self.home = home
        self.say = say
        self.random = random.Random(seed).randbytes
        self.store: Store
        self.credentials: Credentials
        self.lock = Lock(home.lock_file)

    def steps(self) -> list[Callable[[], None]]:
        return [
            self.start,
            self.remember,
            self.meet,
            self.send,
            self.receive,
            self.hear_of_delivery,
            self.read,
            self.rotate_keys,
            self.receive_late,
            self.expire,
            self.clear,
            self.learn_of_a_fork,
            self.stop,
            self.start,
            self.send_more,
            self.stop,
        ]

    def start(self) -> None:
        prepare(self.home)
        self.lock.acquire()
        try:
            self.credentials = load_or_create(self.home, self.random, START_US)
            self.store = self.open_store()
        except BaseException:
            self.lock.release()
            raise
        # Often, so that the story has many of them.
        self.store.database.row("PRAGMA wal_autocheckpoint = 12")
        self.say(["identity", self.credentials.identity.hex()])
        self.say(["incarnation", self.store.outbox.incarnation])

    def open_store(self) -> Store:
        return Store.open(self.home, self.random, START_US)

    def remember(self) -> None:
        self.commit(lambda: self.store.settings.set("name", "ada"))
        self.say(["name", "ada"])

    def meet(self) -> None:
        peers = self.store.peers

        def meet() -> None:
            peers.upsert(ADA, now_us=1, address=b"adress", name="ada", order=(0, 0, 1), record=b"record", log=b"log")
            if peers.all("trusted") == []:
                peers.apply(ADA, "remote-request", now_us=2, reason="hello")
                peers.apply(ADA, "local-approve", now_us=3)

        self.commit(meet)
        self.say(["trusted", "ada"])

    def send(self) -> None:
        """Three callers whose messages share a transaction."""
        outbox = self.store.outbox
        self.commit(*(lambda n=n: outbox.append(ADA, message(n), "text", body(n), START_US) for n in (1, 2, 3)))  # type: ignore[misc]
        for n in (1, 2, 3):
            self.say(["queued", n])

    def receive(self) -> None:
        self._receive(1, 2, 4)

    def receive_late(self) -> None:
        self._receive(3, 5)

    def _receive(self, *numbers: int) -> None:
        arrived = [Incoming(n, 1, message(100 + n), "text", body(n)) for n in numbers]
        self.commit(lambda: self.store.inbox.store_many(ADA, INCARNATION, arrived, START_US))
        for n in numbers:
            self.say(["settled", n])

    def hear_of_delivery(self) -> None:
        outbox = self.store.outbox

        def settle() -> None:
            state = outbox.state(message(1), ADA)
            assert state is not None
            if state.result == "queued":
                outbox.mark_delivered(ADA, [state.number], now_us=START_US)

        self.commit(settle)
        self.say(["delivered", 1])

    def read(self) -> None:
        inbox = self.store.inbox
        first = [each.number for each in inbox.listing() if each.id == message(101)]
        self.commit(lambda: inbox.acknowledge(first))
        self.say(["read", 1])

    def rotate_keys(self) -> None:
        fresh = self.credentials.rotate_transport(self.random(32), START_US + 1)
        save(self.home, fresh)
        self.credentials = fresh
        self.say(["keys", fresh.current.certificate.public.hex()])

    def expire(self) -> None:
        outbox = self.store.outbox
        self.commit(lambda: outbox.append(BOB, message(4), "text", body(4), START_US, START_US + 1))
        self.commit(lambda: self.store.maintain(START_US + 2, START_US + 2))
        self.say(["expired", 4])

    def clear(self) -> None:
        self.commit(self.store.inbox.clear)
        self.say(["cleared", 1])

    def learn_of_a_fork(self) -> None:
        self.commit(lambda: self.store.peers.set_log(ADA, b"log", forked=True))
        self.say(["forked", "ada"])

    def send_more(self) -> None:
        outbox = self.store.outbox
        self.commit(lambda: outbox.append(ADA, message(5), "text", body(5) * 10, START_US))
        self.say(["queued", 5])

    def stop(self) -> None:
        self.say(["stopping", 0])
        self.store.close()
        self.lock.release()

    def commit(self, *jobs: Callable[[], object]) -> None:
        """As `Committer` does."""
        for result in self.store.database.batch(jobs):
            if isinstance(result, Exception):
                raise result


def tell(story: Story) -> None:
    """Every step, each repeated when the disk would not have it, as the daemon and its users do."""
    for step in story.steps():
        for _ in range(TRIES):
            try:
                step()
                break
            except StorageError as error:
                story.say(["failed", step.__name__, error.code, error.next_step])
        else:
            raise AssertionError(f"{step.__name__} failed {TRIES} times")


def verify(home: Home, said: list[Any], seed: int, *, copied: bool = False) -> None:
    """What was promised is so, and nothing is half done; else AssertionError.

    `copied`: the files are a copy, which is rightly taken for a restored backup.
    """
    story = Story(home, seed)
    try:
        story.start()
    except CoveyError as error:
        raise AssertionError(f"the next start failed: {error} ({error.code})") from error
    try:
        assert copied or not story.store.restored, "a crash was taken for a restored backup"
        _check_promises(story, [word for word in said if word[0] != "incarnation" or not story.store.restored])
        _check_books(story.store)
    finally:
        story.stop()


def ending(home: Home, seed: int) -> dict[str, Any]:
    """What is there, without what is random: the same after every story that came to its end."""
    story = Story(home, seed)
    story.start()
    store = story.store
    try:
        return {
            "outbox": {n: _result(store, n) for n in (1, 2, 3, 4, 5)},
            "waiting": [each.id for each in store.outbox.next_batch(ADA, 0, 1 << 20)],
            "inbox": [(each.id, each.size, each.acknowledged) for each in store.inbox.listing()],
            "watermark": store.inbox.watermark(ADA, INCARNATION),
            "peers": [(each.identity, each.trust, each.pinned_name, each.forked) for each in store.peers.all()],
            "files": sorted(path.name for path in home.state_dir.iterdir() if not path.name.startswith("covey.db-")),
            "recovery": sorted(path.name for path in home.recovery_dir.iterdir()),
        }
    finally:
        story.stop()


def _result(store: Store, n: int) -> str | None:
    state = store.outbox.state(message(n))
    return None if state is None else state.result


def _check_promises(story: Story, said: list[Any]) -> None:
    store = story.store
    assert store.damaged is None
    incarnation = story.store.outbox.incarnation
    for kind, what, *_ in (word for word in said if isinstance(word, list)):
        match kind:
            case "identity":
                assert story.credentials.identity.hex() == what
            case "incarnation":
                assert incarnation == what
            case "keys":
                assert what in [pair.certificate.public.hex() for pair in story.credentials.transport_keys]
            case "name":
                assert store.settings.get_text("name") == what
            case "trusted":
                assert [(peer.trust, peer.name) for peer in store.peers.all()] == [("trusted", what)]
            case "forked":
                assert store.peers.all()[0].forked
            case "queued":
                assert _result(store, what) in ("queued", "delivered")
                waiting = {each.id: each.body for each in store.outbox.next_batch(ADA, 0, 1 << 20)}
                assert _result(store, what) == "delivered" or waiting[message(what)].startswith(body(what))
            case "delivered" | "expired":
                assert _result(store, what) == kind
            case "settled":
                again = Incoming(what, 1, message(100 + what), "text", body(what))
                assert store.inbox.store_many(ADA, INCARNATION, [again], START_US) == ["duplicate"]
            case "read":
                assert message(101) not in [each.id for each in store.inbox.listing(unread=True)]
            case "cleared":
                assert message(101) not in [each.id for each in store.inbox.listing()]
    settled = {what for kind, what, *_ in said if kind == "settled"}
    present = [int.from_bytes(each.id, "big") - 100 for each in store.inbox.listing()]
    assert len(set(present)) == len(present), "a message is there twice"
    in_order = [n for n in present if n <= store.inbox.watermark(ADA, INCARNATION)]
    assert in_order == sorted(in_order)
    gone = {1} if {"read"} & {kind for kind, *_ in said} else set()
    visible = {n for n in settled if n <= store.inbox.watermark(ADA, INCARNATION)}
    assert visible - gone <= set(present), "a message that was called delivered is not there"


def _check_books(store: Store) -> None:
    """What `covey store check` finds in the database: nothing."""
    assert store.database.rows("PRAGMA integrity_check") == [("ok",)]
    for invariant in INVARIANTS:
        assert store.database.rows(invariant.broken) == [(0,)], invariant.what
