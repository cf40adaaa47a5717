import itertools
from collections.abc import Callable

import pytest

import covey.node.storage.outbox as module
from covey.base.constants import MESSAGE_LIMIT
from covey.base.errors import LimitError, UsageError
from covey.node.storage.database import Database
from covey.node.storage.outbox import RESULT_LIFE_US, Draft, Outbox, Queued

ADA, BOB = b"a" * 32, b"b" * 32


def random() -> Callable[[int], bytes]:
    counter = itertools.count(1)
    return lambda size: next(counter).to_bytes(size, "big")


def mid(n: int) -> bytes:
    return n.to_bytes(16, "big")


@pytest.fixture
def outbox(database: Database) -> Outbox:
    return Outbox(database, random())


def add(outbox: Outbox, n: int, to: bytes = ADA, body: bytes = b"x", expires: int | None = None) -> int:
    return outbox.append(to, mid(n), "text", body, now_us=n, expires_us=expires)


def numbers(outbox: Outbox, to: bytes = ADA) -> list[int]:
    return [message.number for message in outbox.next_batch(to, 0, 1 << 20)]


def test_append_numbers_per_recipient_from_one(outbox: Outbox) -> None:
    assert [add(outbox, 1), add(outbox, 2), add(outbox, 3, BOB), add(outbox, 4)] == [1, 2, 1, 3]
    assert outbox.recipients() == [ADA, BOB]
    assert outbox.counts() == Queued(4, 4)
    assert outbox.counts(BOB) == Queued(1, 1)


def test_append_of_the_same_id_is_the_same_message(outbox: Outbox) -> None:
    assert [add(outbox, 1), add(outbox, 1), add(outbox, 2), add(outbox, 1, BOB)] == [1, 1, 2, 1]
    outbox.mark_delivered(ADA, [1], now_us=9)
    assert add(outbox, 1) == 1
    assert outbox.counts() == Queued(2, 2)
    state = outbox.state(mid(1), ADA)
    assert state is not None
    assert state.result == "delivered"


@pytest.mark.parametrize("delivered", [False, True])
def test_append_of_a_used_id_with_another_body_is_refused(outbox: Outbox, delivered: bool) -> None:
    add(outbox, 1, body=b"one")
    if delivered:
        outbox.mark_delivered(ADA, [1], now_us=2)
    with pytest.raises(UsageError) as caught:
        add(outbox, 1, body=b"three")
    assert caught.value.code == "id-reused"


def test_append_many_is_all_or_nothing(outbox: Outbox) -> None:
    drafts = [Draft(mid(n), "json", b"{}") for n in range(1, 6)]
    assert outbox.append_many(ADA, drafts, 1) == [1, 2, 3, 4, 5]
    assert outbox.append_many(ADA, [*drafts[:2], Draft(mid(9), "text", b"")], 2) == [1, 2, 6]
    with pytest.raises(LimitError) as caught:
        outbox.append_many(ADA, [Draft(mid(10), "text", b""), Draft(mid(11), "binary", bytes(MESSAGE_LIMIT + 1))], 3)
    assert caught.value.code == "message-too-large"
    assert numbers(outbox) == [1, 2, 3, 4, 5, 6]
    assert outbox.append_many(ADA, [], 4) == []
    assert add(outbox, 12) == 7


def test_append_many_takes_an_id_once(outbox: Outbox) -> None:
    assert outbox.append_many(ADA, [Draft(mid(1), "text", b""), Draft(mid(1), "text", b"")], 1) == [1, 1]


def test_append_refuses_a_wrong_id_and_a_full_outbox(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError):
        outbox.append(ADA, b"short", "text", b"", 1)
    add(outbox, 1)
    add(outbox, 2, BOB)
    for name, limit in (("QUEUE_MESSAGES", 2), ("QUEUE_BYTES", 2)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, limit)
            with pytest.raises(LimitError) as caught:
                add(outbox, 3)
            assert caught.value.code == "outbox-full"
    assert outbox.counts() == Queued(2, 2)


def test_next_batch_is_in_order_and_bounded(outbox: Outbox) -> None:
    for n in range(1, 6):
        add(outbox, n, body=bytes(100))
    assert [m.number for m in outbox.next_batch(ADA, 0, 250)] == [1, 2]
    assert [m.number for m in outbox.next_batch(ADA, 2, 300)] == [3, 4, 5]
    assert [m.number for m in outbox.next_batch(ADA, 4, 1)] == [5]
    assert outbox.next_batch(ADA, 5, 1000) == []
    first = outbox.next_batch(ADA, 0, 1)[0]
    assert (first.id, first.type, first.body, first.created_us, first.expires_us) == (
        mid(1),
        "text",
        bytes(100),
        1,
        None,
    )


def test_lowest_alive_and_skips_cover_the_dead(outbox: Outbox) -> None:
    assert outbox.lowest_alive(ADA) == 1
    for n in range(1, 9):
        add(outbox, n)
    assert (outbox.lowest_alive(ADA), outbox.skips(ADA)) == (1, [])
    outbox.mark_delivered(ADA, upto=2, now_us=1)
    outbox.cancel(mid(4), 1)
    outbox.mark_refused(ADA, 6, "inbox-full", 1)
    outbox.mark_delivered(ADA, [7], now_us=1)
    assert (outbox.lowest_alive(ADA), outbox.skips(ADA)) == (3, [4, 6])
    outbox.mark_delivered(ADA, [3], now_us=1)
    assert (outbox.lowest_alive(ADA), outbox.skips(ADA)) == (5, [6])
    outbox.mark_delivered(ADA, [5, 8], now_us=1)
    assert (outbox.lowest_alive(ADA), outbox.skips(ADA)) == (9, [])


def test_mark_delivered_frees_the_body_and_tells_each_once(outbox: Outbox, database: Database) -> None:
    for n in range(1, 6):
        add(outbox, n)
    assert outbox.mark_delivered(ADA, [2, 3, 99], now_us=7) == [mid(2), mid(3)]
    assert outbox.mark_delivered(ADA, [3], now_us=8, upto=2) == [mid(1)]
    assert outbox.mark_delivered(BOB, [4], now_us=8) == []
    assert outbox.mark_delivered(ADA, now_us=8) == []
    assert numbers(outbox) == [4, 5]
    assert outbox.counts() == Queued(2, 2)
    assert database.rows("SELECT count(*) FROM outbox WHERE body IS NOT NULL") == [(2,)]
    state = outbox.state(mid(2))
    assert state is not None
    assert (state.result, state.finished_us, state.number, state.recipient) == ("delivered", 7, 2, ADA)


def test_results_are_final(outbox: Outbox) -> None:
    for n in range(1, 5):
        add(outbox, n, expires=10 if n == 3 else None)
    assert outbox.cancel(mid(1), 5)
    assert outbox.mark_refused(ADA, 2, "inbox-full", 5) == mid(2)
    assert outbox.expire(10) == [mid(3)]
    outbox.mark_delivered(ADA, [4], now_us=5)
    assert not any(outbox.cancel(mid(n), 6) for n in range(1, 5))
    assert [outbox.mark_refused(ADA, n, "no", 6) for n in range(1, 5)] == [None] * 4
    assert outbox.mark_delivered(ADA, upto=4, now_us=6) == []
    results = [outbox.state(mid(n)) for n in range(1, 5)]
    assert [(s.result, s.reason) for s in results if s] == [
        ("cancelled", ""),
        ("refused", "inbox-full"),
        ("expired", ""),
        ("delivered", ""),
    ]
    assert outbox.recipients() == []


def test_cancel_can_spare_other_recipients(outbox: Outbox) -> None:
    add(outbox, 1)
    add(outbox, 1, BOB)
    assert outbox.cancel(mid(1), 2, BOB)
    assert (numbers(outbox), numbers(outbox, BOB)) == ([1], [])
    state = outbox.state(mid(1), BOB)
    assert state is not None
    assert state.result == "cancelled"


def test_expire_ends_what_is_due(outbox: Outbox) -> None:
    add(outbox, 1, expires=100)
    add(outbox, 2, expires=50)
    add(outbox, 3)
    assert outbox.next_expiry() == 50
    assert outbox.expire(49) == []
    assert outbox.expire(50) == [mid(2)]
    assert outbox.expire(1000) == [mid(1)]
    assert outbox.next_expiry() is None
    assert numbers(outbox) == [3]


def test_expire_forgets_old_results_and_too_many(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(1, 6):
        add(outbox, n)
        outbox.mark_delivered(ADA, [n], now_us=n)
    add(outbox, 6)
    outbox.expire(RESULT_LIFE_US + 2)
    assert [n for n in range(1, 7) if outbox.state(mid(n))] == [2, 3, 4, 5, 6]
    monkeypatch.setattr(module, "RESULTS_LIMIT", 2)
    outbox.expire(3)
    assert [n for n in range(1, 7) if outbox.state(mid(n))] == [4, 5, 6]
    assert add(outbox, 1) == 7  # forgotten, so it is new


def test_incarnation_stays_over_restarts(database: Database) -> None:
    drawn = random()
    first = Outbox(database, drawn).incarnation
    assert Outbox(database, drawn).incarnation == first == 1


def test_renumber_begins_anew_in_the_old_order(outbox: Outbox) -> None:
    for n in range(1, 7):
        add(outbox, n)
    add(outbox, 7, BOB)
    outbox.mark_delivered(ADA, [1, 2, 4], now_us=9)
    before = outbox.incarnation
    assert outbox.renumber() == outbox.incarnation != before
    assert [(m.number, m.id) for m in outbox.next_batch(ADA, 0, 1000)] == [
        (1, mid(3)),
        (2, mid(5)),
        (3, mid(6)),
    ]
    assert numbers(outbox, BOB) == [1]
    assert [add(outbox, 8), add(outbox, 1), add(outbox, 3)] == [4, 0, 1]
    state = outbox.state(mid(1))
    assert state is not None
    assert (state.result, state.number) == ("delivered", 0)
    assert outbox.counts() == Queued(5, 5)
    assert outbox.skips(ADA) == []


def test_heard_of_numbers_never_given_begins_anew(outbox: Outbox) -> None:
    add(outbox, 1)
    incarnation = outbox.incarnation
    assert not outbox.heard(ADA, incarnation, 1)
    assert not outbox.heard(ADA, incarnation + 1, 99)
    assert outbox.heard(ADA, incarnation, 2)
    assert outbox.incarnation != incarnation
    assert numbers(outbox) == [1]
    assert not outbox.heard(ADA, incarnation, 2)


def test_state_of_an_unknown_message_is_none(outbox: Outbox) -> None:
    assert outbox.state(mid(1)) is None
