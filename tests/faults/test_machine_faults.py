"""The machine loses its power in front of the n-th system call, for n = 1, 2, 3...: what was synced is there.

Of the rest anything may be: see `machine`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from covey.node.storage import Store
from tests.faults.machine import Disk, Loss
from tests.faults.story import Story, ending, home_in, tell, verify
from tests.faults.supervisor import Report, run_supervised

STRIDES = pytest.mark.parametrize("stride", [11, pytest.param(1, marks=pytest.mark.slow)])

pytestmark = pytest.mark.timeout(900)


class OnVolatileDisk(Story):
    """A node that does not wait for the platters."""

    def open_store(self) -> Store:
        return Store.open(self.home, self.random, 0, durable=False)


def record(folder: Path, kind: type[Story] = Story) -> Report:
    folder.mkdir()
    report = run_supervised(lambda say: tell(kind(home_in(folder), 1, say)), folder, data=True)
    assert report.exit_code == 0, report.words()[-1]
    return report


def crashes(report: Report, recorded: Path, parent: Path, stride: int) -> Iterator[tuple[str, Path, list[Any]]]:
    """Of each crash: what it was, what is found on the disk, and what had been said."""
    disk = Disk(recorded)
    for call in report.calls:
        if call.index % stride == 0:
            said = [word for before, word in report.said if before < call.index]
            for loss in get_args(Loss):
                found = parent / f"{call.index}-{loss}"
                found.mkdir()
                disk.write_into(found, loss, random.Random(call.index))
                yield (
                    f"power lost before call {call.index}, {call.name} of {call.path.name}, losing {loss}",
                    found,
                    said,
                )
        disk.apply(call)


@STRIDES
def test_power_lost_before_any_call_every_promise_is_kept(parent: Path, stride: int) -> None:
    report = record(parent / "recorded")
    whole = ending(home_in(parent / "recorded"), 3)
    count = 0
    for context, found, said in crashes(report, parent / "recorded", parent, stride):
        count += 1
        try:
            verify(home_in(found), said, 2, copied=True)
            tell(Story(home_in(found), 3))
            assert ending(home_in(found), 4) == whole
        except AssertionError as error:
            raise AssertionError(f"{context}: {error}") from error
    assert count > 3 * 250 // stride


def test_power_lost_is_noticed_where_nothing_was_synced(parent: Path) -> None:
    """The check above can fail: without fsync it does."""
    report = record(parent / "recorded", OnVolatileDisk)
    broken = 0
    for _, found, said in crashes(report, parent / "recorded", parent, 7):
        try:
            verify(home_in(found), said, 2, copied=True)
        except AssertionError:
            broken += 1
    assert broken > 20
