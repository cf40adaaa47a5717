from itertools import product
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.errors import StateError
from covey.base.schema import TrustState
from covey.core.trust import (
    ACTIONS,
    REASON_LIMIT,
    TRANSITIONS,
    Admission,
    Decision,
    TokenBucket,
    TrustAction,
    TrustEvent,
    clean_reason,
    decide,
)

STATES: tuple[TrustState, ...] = get_args(TrustState)
EVENTS: tuple[TrustEvent, ...] = get_args(TrustEvent)
REMOTE: dict[TrustAction, TrustEvent] = {
    "request": "remote-request",
    "approve": "remote-approve",
    "reject": "remote-reject",
    "untrust": "remote-untrust",
}


@pytest.mark.parametrize(("state", "event"), list(product(STATES, EVENTS)))
def test_decide_is_total_but_for_the_users_mistakes(state: TrustState, event: TrustEvent) -> None:
    if (state, event) in TRANSITIONS:
        assert decide(state, event) == TRANSITIONS[state, event]
    else:
        assert event.startswith("local-")
        with pytest.raises(StateError) as caught:
            decide(state, event)
        assert caught.value.code in ("nothing-pending", "not-trusted")
        assert caught.value.next_step


@pytest.mark.parametrize(("state", "event"), list(TRANSITIONS))
def test_decide_never_lets_a_peer_make_itself_trusted(state: TrustState, event: TrustEvent) -> None:
    if decide(state, event).state == "trusted" and event.startswith("remote-"):
        assert state in ("requested", "rejected", "trusted")


@pytest.mark.parametrize(("state", "event"), list(TRANSITIONS))
def test_decide_takes_a_repeated_remote_event_as_one(state: TrustState, event: TrustEvent) -> None:
    """Actions are repeated until acknowledged, so the second copy must not change anything more."""
    if event.startswith("remote-"):
        once = decide(state, event)
        twice = decide(once.state, event)
        assert twice.state == once.state
        assert twice.notice is None


@pytest.mark.parametrize(("state", "event"), list(TRANSITIONS))
def test_decide_notifies_only_of_changes(state: TrustState, event: TrustEvent) -> None:
    decision = decide(state, event)
    if decision.notice is not None:
        assert decision.state != state
    if event.startswith("local-") and decision.state != state and decision.state != "unknown":
        assert decision.action is not None


@pytest.mark.parametrize(
    ("path", "end"),
    [
        (["local-request", "remote-approve"], "trusted"),
        (["remote-request", "local-approve"], "trusted"),
        (["local-request", "remote-request"], "trusted"),
        (["remote-request", "local-request"], "trusted"),
        (["local-request", "remote-reject"], "rejected"),
        (["remote-request", "local-reject"], "unknown"),
        (["remote-request", "remote-untrust"], "unknown"),
        (["local-request", "local-untrust", "remote-approve"], "unknown"),
        (["local-request", "remote-approve", "remote-untrust"], "rejected"),
        (["local-request", "remote-approve", "local-untrust"], "unknown"),
        (["local-request", "remote-reject", "remote-request", "local-approve"], "trusted"),
        (["remote-approve"], "unknown"),
    ],
)
def test_decide_walks(path: list[TrustEvent], end: TrustState) -> None:
    state: TrustState = "unknown"
    for event in path:
        state = decide(state, event).state
    assert end == state


class Side:
    """One side as the node keeps it: a state, and at most one action that waits for its acknowledgement."""

    def __init__(self) -> None:
        self.state: TrustState = "unknown"
        self.action: TrustAction | None = None

    def happens(self, event: TrustEvent) -> None:
        try:
            decision = decide(self.state, event)
        except StateError:
            return
        self.state = decision.state
        if decision.action is not None:
            self.action = decision.action


def exchange(sender: Side, receiver: Side, acknowledged: bool) -> None:
    action = sender.action
    if action is not None:
        receiver.happens(REMOTE[action])
        if acknowledged and sender.action == action:
            sender.action = None


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from([e for e in EVENTS if e.startswith("local-")]))
        | st.tuples(st.integers(0, 1), st.booleans()),
        max_size=12,
    )
)
def test_decide_brings_two_sides_together(script: list[tuple[int, TrustEvent | bool]]) -> None:
    """Whatever both users do and however often actions are repeated: in the end both trust, or neither
    does."""
    sides = Side(), Side()
    for index, step in script:
        if isinstance(step, bool):
            exchange(sides[index], sides[1 - index], acknowledged=step)
        else:
            sides[index].happens(step)
    for _ in range(8):
        exchange(sides[0], sides[1], acknowledged=True)
        exchange(sides[1], sides[0], acknowledged=True)
    assert [side.action for side in sides] == [None, None]
    assert (sides[0].state == "trusted") == (sides[1].state == "trusted")
    if "pending" in (sides[0].state, sides[1].state):
        assert {side.state for side in sides} in ({"pending", "requested"}, {"pending", "rejected"})
    if "requested" in (sides[0].state, sides[1].state):
        assert {side.state for side in sides} == {"pending", "requested"}


def test_actions_are_the_remote_events() -> None:
    assert {f"remote-{action}" for action in ACTIONS} == {e for e in EVENTS if e.startswith("remote-")}


def test_decision_is_a_value() -> None:
    assert Decision("unknown") == Decision("unknown", None, None)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("", ""),
        ("hello", "hello"),
        ("  two\n\nlines\t ", "two lines"),
        ("\x1b[31mred\x1b[0m", "[31mred [0m"),
        ("a\u202eb", "a b"),
        ("x" * 300, "x" * REASON_LIMIT),
        ("Grüße 🌍", "Grüße 🌍"),
    ],
)
def test_clean_reason_is_fit_for_a_terminal(reason: str, expected: str) -> None:
    assert expected == clean_reason(reason)


def test_token_bucket_allows_a_burst_then_the_rate() -> None:
    bucket = TokenBucket(0.1, 3.0, now=100.0)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(now) for now in (109.0, 110.0, 110.0, 120.5)] == [False, True, False, True]


def test_token_bucket_never_holds_more_than_its_burst() -> None:
    bucket = TokenBucket(1.0, 2.0, now=0.0)
    assert [bucket.take(1e9) for _ in range(3)] == [True, True, False]


def test_token_bucket_survives_a_clock_that_goes_back() -> None:
    bucket = TokenBucket(1.0, 1.0, now=100.0)
    assert [bucket.take(now) for now in (100.0, 50.0, 100.5, 101.0)] == [True, False, False, True]


def test_admission_limits_each_identity() -> None:
    admission = Admission(now=0.0)
    assert [admission.admit(b"a", 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert admission.admit(b"b", 0.0)
    assert admission.admit(b"a", 10.0)
    assert not admission.admit(b"a", 10.0)


def test_admission_limits_all_together() -> None:
    admission = Admission(now=0.0)
    assert sum(admission.admit(bytes([i]), 0.0) for i in range(100)) == 20
    assert sum(admission.admit(bytes([100 + i]), 1.0) for i in range(100)) == 20


def test_admission_does_not_let_one_loud_identity_use_the_room_of_others() -> None:
    admission = Admission(now=0.0)
    for _ in range(1000):
        admission.admit(b"loud", 0.0)
    assert sum(admission.admit(bytes([i]), 0.0) for i in range(17)) == 17


def test_admission_memory_is_bounded() -> None:
    admission = Admission(now=0.0)
    for i in range(10_000):
        admission.admit(i.to_bytes(4, "big"), 0.0)
    assert len(admission._each) == 4096
