from __future__ import annotations

import pytest

from covey.base.errors import LimitError
from covey.base.types import Identity
from covey.rendezvous.watches import Watches

A, B, C, D = (Identity(bytes([number]) * 32) for number in range(4))


def test_watchers_are_told_once_in_the_order_they_came() -> None:
    watches = Watches(10, 100)
    watches.add(B, A)
    watches.add(C, A)
    watches.add(B, A)
    assert A in watches
    assert watches.take(A) == [B, C]
    assert watches.take(A) == []
    assert A not in watches


def test_forgetting_a_watcher_leaves_the_others() -> None:
    watches = Watches(10, 100)
    for watched in (C, D):
        watches.add(A, watched)
        watches.add(B, watched)
    watches.forget(A)
    watches.forget(A)
    assert len(watches) == 2
    assert watches.take(C) == [B]
    assert watches.take(D) == [B]
    assert len(watches) == 0


def test_the_limit_is_for_each_watcher_and_counts_what_still_waits() -> None:
    watches = Watches(2, 100)
    watches.add(A, B)
    watches.add(A, C)
    watches.add(A, B)
    with pytest.raises(LimitError) as caught:
        watches.add(A, D)
    assert caught.value.code == "too-many-watches"
    watches.add(B, D)
    watches.take(B)
    watches.add(A, D)
    assert len(watches) == 3


def test_many_watchers_together_have_a_limit_too() -> None:
    """Identities cost nothing: ten thousand clients with a thousand watches each would be 5 GB."""
    watches = Watches(10, 3)
    watches.add(A, B)
    watches.add(A, C)
    watches.add(B, C)
    watches.add(B, C)
    with pytest.raises(LimitError):
        watches.add(C, D)
    assert len(watches) == 3
    assert watches.take(C) == [A, B]
    watches.add(C, D)
    watches.forget(A)
    watches.forget(C)
    assert len(watches) == 0
    assert watches.take(D) == []
