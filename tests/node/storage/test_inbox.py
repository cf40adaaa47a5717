import pytest

import covey.node.storage.inbox as module
from covey.base.constants import MESSAGE_LIMIT
from covey.base.errors import NotFoundError, ParseError
from covey.node.storage.database import Database
from covey.node.storage.inbox import FORGET_LIMIT, Inbox, InboxCounts, Incoming, Stored

ADA, BOB = b"a" * 32, b"b" * 32
FIRST = (1 << 64) - 1


def mid(n: int) -> bytes:
    return n.to_bytes(16, "big")


@pytest.fixture
def inbox(database: Database) -> Inbox:
    return Inbox(database)


def put(
    inbox: Inbox,
    number: int,
    lowest: int = 1,
    *,
    sender: bytes = ADA,
    incarnation: int = FIRST,
    id: int | None = None,
    body: bytes | None = None,
    at: int = 0,
) -> Stored:
    return inbox.store(
        sender,
        incarnation,
        number,
        lowest,
        mid(number if id is None else id),
        "text",
        b"m%d" % number if body is None else body,
        at or number,
    )


def bodies(inbox: Inbox) -> list[str]:
    return [message.body.decode() for message in inbox.listing()]


def test_store_keeps_each_message_once(inbox: Inbox) -> None:
    assert [put(inbox, n) for n in (1, 2, 2, 1, 3)] == [
        "stored",
        "stored",
        "duplicate",
        "duplicate",
        "stored",
    ]
    assert bodies(inbox) == ["m1", "m2", "m3"]
    first = inbox.get(1)
    assert (first.number, first.id, first.sender, first.type) == (1, mid(1), ADA, "text")
    assert (first.received_us, first.size, first.acknowledged, first.body) == (1, 2, False, b"m1")


def test_store_shows_messages_in_the_senders_order(inbox: Inbox) -> None:
    assert [put(inbox, n) for n in (3, 1, 5, 3)] == ["stored", "stored", "stored", "duplicate"]
    assert bodies(inbox) == ["m1"]
    assert inbox.counts() == InboxCounts(1, 1, 2, 6)
    put(inbox, 2)
    assert bodies(inbox) == ["m1", "m2", "m3"]
    put(inbox, 4)
    assert bodies(inbox) == ["m1", "m2", "m3", "m4", "m5"]
    assert inbox.watermark(ADA, FIRST) == 5
    assert inbox.counts() == InboxCounts(5, 5, 0, 10)


def test_store_keeps_senders_and_incarnations_apart(inbox: Inbox) -> None:
    assert put(inbox, 1) == "stored"
    assert put(inbox, 1, sender=BOB) == "stored"
    assert put(inbox, 1, incarnation=0, id=9) == "stored"
    assert put(inbox, 1) == "duplicate"
    assert inbox.watermark(BOB, FIRST) == 1
    assert inbox.watermark(BOB, 7) == 0


def test_lowest_alive_lets_nothing_wait_for_the_dead(inbox: Inbox) -> None:
    put(inbox, 2)
    put(inbox, 6)
    assert bodies(inbox) == []
    assert put(inbox, 4, lowest=4) == "stored"
    assert bodies(inbox) == ["m2", "m4"]
    assert put(inbox, 3) == "duplicate"
    assert put(inbox, 7, lowest=6) == "stored"
    assert bodies(inbox) == ["m2", "m4", "m6", "m7"]


def test_lowest_alive_above_its_own_message_is_not_believed(inbox: Inbox) -> None:
    assert put(inbox, 3, lowest=99) == "stored"
    assert inbox.watermark(ADA, FIRST) == 3


def test_skip_settles_numbers(inbox: Inbox) -> None:
    put(inbox, 3)
    put(inbox, 5)
    assert inbox.skip(ADA, FIRST, [4], 0) == 0
    assert inbox.skip(ADA, FIRST, [2, 1, 0, -3], 0) == 2
    assert bodies(inbox) == ["m3", "m5"]
    assert [put(inbox, n) for n in (1, 2, 4)] == ["duplicate"] * 3
    put(inbox, 8)
    assert inbox.skip(ADA, FIRST, [], 0, lowest_alive=9) == 1
    assert bodies(inbox) == ["m3", "m5", "m8"]
    assert inbox.watermark(ADA, FIRST) == 8


def test_skip_from_an_unknown_sender_is_remembered(inbox: Inbox) -> None:
    assert inbox.skip(ADA, FIRST, [1, 2], 0) == 0
    assert [put(inbox, n) for n in (2, 3)] == ["duplicate", "stored"]
    assert bodies(inbox) == ["m3"]


def test_skip_is_bounded(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GAP_LIMIT", 4)
    inbox.skip(ADA, FIRST, [*range(10, 100), 1 << 63, 1 << 80], 0)
    assert [put(inbox, n) for n in (13, 14, 1)] == ["duplicate", "too-early", "stored"]


def test_gaps_are_bounded(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GAP_LIMIT", 3)
    assert [put(inbox, n) for n in (2, 4, 6, 8, 4)] == ["stored"] * 3 + ["too-early", "duplicate"]
    assert [put(inbox, n) for n in (1, 8)] == ["stored", "stored"]
    assert bodies(inbox) == ["m1", "m2"]


def test_gaps_that_were_passed_are_not_counted(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GAP_LIMIT", 2)
    messages = [Incoming(n, 1, mid(n), "text", b"") for n in (2, 3, 1, 5, 6, 8)]
    assert inbox.store_many(ADA, FIRST, messages, 1) == ["stored"] * 5 + ["too-early"]


def test_release_shows_what_waited_too_long_and_takes_the_missing_late(inbox: Inbox) -> None:
    put(inbox, 5, at=50)
    put(inbox, 3, at=40)
    put(inbox, 7, at=90)
    assert inbox.release(60) == 2
    assert bodies(inbox) == ["m3", "m5"]
    assert put(inbox, 5) == "duplicate"
    assert [put(inbox, n) for n in (1, 2, 4)] == ["stored"] * 3
    assert bodies(inbox) == ["m3", "m5", "m1", "m2", "m4"]
    put(inbox, 6)
    assert bodies(inbox)[5:] == ["m6", "m7"]


def test_new_incarnation_ends_the_waiting_of_the_old(inbox: Inbox) -> None:
    put(inbox, 2)
    assert put(inbox, 1, incarnation=5, id=20, body=b"new") == "stored"
    assert bodies(inbox) == ["m2", "new"]
    assert put(inbox, 2) == "duplicate"
    assert put(inbox, 1, id=21, body=b"late") == "stored"
    assert bodies(inbox) == ["m2", "new", "late"]


@pytest.mark.parametrize("waiting", [False, True])
def test_id_that_is_still_here_is_not_stored_again(inbox: Inbox, waiting: bool) -> None:
    """A sender restored from a backup repeats messages under new numbers."""
    put(inbox, 2 if waiting else 1, id=7)
    assert put(inbox, 1, incarnation=2, id=7) == "duplicate"
    assert put(inbox, 3, incarnation=2, id=7) == "duplicate"
    assert put(inbox, 2, incarnation=2, id=8) == "stored"
    assert inbox.watermark(ADA, 2) == 3
    assert put(inbox, 1, sender=BOB, id=7) == "stored"
    assert inbox.counts().total == 3


def test_id_of_a_removed_message_is_remembered_for_a_while(database: Database) -> None:
    inbox = Inbox(database, removed_limit=3)
    for n in range(1, 5):
        put(inbox, n)
    inbox.acknowledge([1])
    inbox.clear()
    inbox.clear(everything=True)
    assert inbox.clear(everything=True) == 0
    assert [put(inbox, n, incarnation=2) for n in (1, 2, 3, 4)] == ["stored"] + ["duplicate"] * 3


def test_numbers_alone_recognise_a_repetition(database: Database) -> None:
    """Ids are for people: the watermark is what is kept for ever."""
    inbox = Inbox(database, removed_limit=0)
    for n in (1, 2, 4):
        put(inbox, n)
    inbox.release(99)
    inbox.clear(everything=True)
    assert [put(inbox, n) for n in (1, 2, 4, 3)] == ["duplicate"] * 3 + ["stored"]


def test_incarnations_are_bounded_and_the_oldest_is_forgotten(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INCARNATIONS_LIMIT", 2)
    assert [put(inbox, 1, incarnation=n, id=n, at=n) for n in (1, 2, 3)] == ["stored"] * 3
    assert [inbox.watermark(ADA, n) for n in (1, 2, 3)] == [0, 1, 1]
    assert put(inbox, 9, incarnation=4, id=9, at=4) == "stored"
    inbox.skip(ADA, 5, [7], 5)
    inbox.skip(ADA, 6, [1], 6)
    assert [inbox.watermark(ADA, n) for n in (2, 3, 4, 5, 6)] == [0, 0, 0, 0, 1]
    assert bodies(inbox) == ["m1", "m1", "m1", "m9"]
    assert inbox.counts() == InboxCounts(4, 4, 0, 8)


@pytest.mark.parametrize("number", [0, -1, 1 << 63, 1 << 64])
def test_store_refuses_impossible_numbers(inbox: Inbox, number: int) -> None:
    with pytest.raises(ParseError):
        inbox.store(ADA, FIRST, number, 1, mid(1), "text", b"", 1)
    assert inbox.watermark(ADA, FIRST) == 0


def test_store_refuses_impossible_sizes_and_keeps_nothing(inbox: Inbox) -> None:
    large = Incoming(2, 1, mid(2), "binary", bytes(MESSAGE_LIMIT + 1))
    with pytest.raises(ParseError):
        inbox.store_many(ADA, FIRST, [Incoming(1, 1, mid(1), "text", b""), large], 1)
    assert inbox.counts().total == 0


def test_store_at_the_largest_numbers(inbox: Inbox) -> None:
    top = (1 << 63) - 1
    assert put(inbox, top - 1, lowest=top - 1) == "stored"
    assert put(inbox, top, lowest=top) == "stored"
    assert put(inbox, top) == "duplicate"


def test_store_many_reports_each(inbox: Inbox) -> None:
    messages = [Incoming(n, 1, mid(n), "json", b"{}") for n in (1, 3, 1, 2, 2)]
    assert inbox.store_many(ADA, FIRST, messages, 1) == [
        "stored",
        "stored",
        "duplicate",
        "stored",
        "duplicate",
    ]
    assert [message.id for message in inbox.listing()] == [mid(1), mid(2), mid(3)]


def test_quota_is_half_for_one_sender(database: Database) -> None:
    inbox = Inbox(database, messages_limit=4, bytes_limit=1000)
    assert [put(inbox, n) for n in (1, 2, 3)] == ["stored", "stored", "inbox-full"]
    assert [put(inbox, n, sender=BOB) for n in (1, 3, 2)] == ["stored", "stored", "inbox-full"]
    assert put(inbox, 1, sender=b"c" * 32) == "inbox-full"
    assert inbox.counts() == InboxCounts(3, 3, 1, 8)


def test_quota_counts_bytes(database: Database) -> None:
    inbox = Inbox(database, messages_limit=100, bytes_limit=20)
    assert put(inbox, 1, body=bytes(10)) == "stored"
    assert put(inbox, 2, body=b"x") == "inbox-full"
    assert put(inbox, 2, body=b"") == "stored"
    assert put(inbox, 1, sender=BOB, body=bytes(11)) == "inbox-full"


def test_quota_refusal_is_not_a_duplicate_later(database: Database) -> None:
    inbox = Inbox(database, messages_limit=4)
    assert [put(inbox, n) for n in (1, 2, 3)] == ["stored", "stored", "inbox-full"]
    inbox.clear(everything=True)
    assert put(inbox, 3) == "stored"


def test_quota_makes_room_from_acknowledged_messages(database: Database) -> None:
    inbox = Inbox(database, messages_limit=8)
    for n in range(1, 5):
        put(inbox, n)
        put(inbox, n, sender=BOB)
    assert put(inbox, 5) == "inbox-full"
    inbox.acknowledge([1, 2])
    assert put(inbox, 5) == "stored"
    assert inbox.counts() == InboxCounts(8, 7, 0, 16)
    assert put(inbox, 5, sender=BOB) == "stored"
    assert put(inbox, 1) == "duplicate"


def test_listing_pages_and_filters(inbox: Inbox) -> None:
    for n in range(1, 8):
        put(inbox, n)
    assert inbox.acknowledge([2, 3, 99, 2]) == 2
    assert inbox.acknowledge([2]) == 0
    assert [m.number for m in inbox.listing(unread=True, limit=3)] == [1, 4, 5]
    assert [m.number for m in inbox.listing(unread=True, limit=3, after=5)] == [6, 7]
    assert [m.acknowledged for m in inbox.listing(limit=3)] == [False, True, True]
    bare = inbox.listing(bodies=False, limit=1)[0]
    assert (bare.body, bare.size) == (b"", 2)
    assert inbox.counts() == InboxCounts(7, 5, 0, 14)


def test_clear_removes_and_numbers_are_never_reused(inbox: Inbox) -> None:
    for n in range(1, 4):
        put(inbox, n)
    inbox.acknowledge([1])
    assert inbox.clear() == 1
    assert [m.number for m in inbox.listing()] == [2, 3]
    assert inbox.clear(everything=True) == 2
    assert inbox.counts() == InboxCounts(0, 0, 0, 0)
    assert put(inbox, 3) == "duplicate"
    put(inbox, 4)
    assert [m.number for m in inbox.listing()] == [4]
    assert inbox.last() == 4


def test_get_and_by_id(inbox: Inbox) -> None:
    assert inbox.last() == 0
    put(inbox, 1, id=77)
    assert inbox.by_id(mid(77)) == inbox.get(1)
    for ask in (lambda: inbox.get(2), lambda: inbox.by_id(mid(1))):
        with pytest.raises(NotFoundError) as caught:
            ask()
        assert caught.value.code == "no-such-message"


def test_inbox_survives_a_restart(database: Database) -> None:
    put(Inbox(database), 1)
    put(Inbox(database), 3)
    assert put(Inbox(database), 3) == "duplicate"
    assert put(Inbox(database), 2) == "stored"
    assert bodies(Inbox(database)) == ["m1", "m2", "m3"]


def fill_read(database: Database, count: int, age_us: int = 1) -> Inbox:
    inbox = Inbox(database)
    arrived = [Incoming(n, 1, mid(n), "text", b"x") for n in range(1, count + 1)]
    for message in arrived:
        inbox.store_many(ADA, 1, [message], message.number * age_us)
    inbox.acknowledge(message.number for message in inbox.listing(limit=count - 2))
    return inbox


def test_forget_read_takes_the_old_ones(database: Database) -> None:
    inbox = fill_read(database, 10)
    assert inbox.forget_read(5, 100) == 4
    assert [message.number for message in inbox.listing()] == [5, 6, 7, 8, 9, 10]
    assert inbox.forget_read(100, 100) == 4
    assert [(message.number, message.acknowledged) for message in inbox.listing()] == [(9, False), (10, False)]
    assert inbox.counts()[:2] == (2, 2)


def test_forget_read_takes_what_is_too_many(database: Database) -> None:
    inbox = fill_read(database, 10)
    assert inbox.forget_read(0, 3) == 5
    assert [message.number for message in inbox.listing()] == [6, 7, 8, 9, 10]
    assert inbox.forget_read(0, 3) == 0
    assert inbox.forget_read(0, 0) == 3


def test_forget_read_never_lets_a_message_come_twice(database: Database) -> None:
    inbox = fill_read(database, 5)
    inbox.forget_read(100, 0)
    again = [Incoming(1, 1, mid(1), "text", b"x")]
    assert inbox.store_many(ADA, 1, again, 9) == ["duplicate"]
    assert inbox.store_many(ADA, 2, again, 9) == ["duplicate"]


def test_forget_read_does_little_at_a_time(database: Database) -> None:
    inbox = fill_read(database, FORGET_LIMIT + 10)
    assert inbox.forget_read(0, 0) == FORGET_LIMIT
    assert inbox.forget_read(0, 0) == 8
