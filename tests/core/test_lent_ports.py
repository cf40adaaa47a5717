from __future__ import annotations

from typing import cast

from covey.core.connection import Connection
from covey.core.lent_ports import LentPorts

ONE, TWO = (cast(Connection, object()) for _ in range(2))


def test_ports_that_are_given_back_are_closed_once() -> None:
    lent = LentPorts()
    lent.lend(ONE, [4, 5, 6])
    assert lent.give_back([5, 6, 7]) == [5, 6]
    assert lent.give_back([5]) == []
    assert len(lent) == 1


def test_ports_end_with_their_connection() -> None:
    lent = LentPorts()
    lent.lend(ONE, [4, 5])
    lent.lend(TWO, [6])
    assert lent.closed(ONE) == [4, 5]
    assert lent.closed(ONE) == []
    assert len(lent) == 1


def test_port_goes_when_nobody_used_it_for_two_sweeps() -> None:
    lent = LentPorts()
    lent.lend(ONE, [4, 5])
    assert lent.sweep(lambda _: {4}) == []
    assert lent.sweep(lambda _: {4}) == [5]
    assert lent.sweep(lambda _: set()) == []
    assert lent.sweep(lambda _: {4}) == []
    assert lent.sweep(lambda _: set()) == []
    assert lent.sweep(lambda _: set()) == [4]
    assert len(lent) == 0
