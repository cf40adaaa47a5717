from __future__ import annotations

from itertools import count

import pytest

from covey.testing import Trace, TraceDiffers, replay


def trace(*kinds: str) -> Trace:
    made = Trace(count().__next__)
    for kind in kinds:
        made.record(kind, "10.0.0.1", 4040, len(kind))
    return made


def test_equal_traces_have_equal_digests() -> None:
    one, two = trace("send", "arrive"), trace("send", "arrive")
    one.check_same(two)
    assert one.digest() == two.digest() != trace("send").digest()
    assert (one.count("send"), one.count("lost")) == (1, 0)


@pytest.mark.parametrize(
    ("other", "shown"),
    [
        (["send", "lost"], "entry 1:\n    0.000000000 send 10.0.0.1 4040 4\n  - 1.000000000 arrive"),
        (["send"], "+ the end"),
        (["send", "arrive", "send"], "- the end"),
    ],
)
def test_difference_is_shown_where_it_begins(other: list[str], shown: str) -> None:
    with pytest.raises(TraceDiffers) as caught:
        trace("send", "arrive").check_same(trace(*other))
    assert shown in str(caught.value)


def test_replay_runs_twice_and_compares() -> None:
    runs = iter([trace("a"), trace("a"), trace("a"), trace("b")])
    assert replay(runs.__next__).count("a") == 1
    with pytest.raises(TraceDiffers):
        replay(runs.__next__)
