"""The n-th system call that changes the disk fails, or the process dies in front of it: for n = 1, 2, 3... to the end.

The calls are the kernel's own, counted and answered in front of it (`supervisor`): SQLite's writes and fsyncs as much
as ours, so a kill comes between any two statements, and also within them. The default tier takes every seventh call,
`-m slow` takes all.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.story import Story, ending, home_in, tell, verify
from tests.faults.supervisor import KILL, Call, Report, run_supervised

CODES = {"disk-full", "disk-read-only", "disk-error", "storage"}

ERRORS = {
    "write": (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG),
    "sync": (errno.EIO, errno.ENOSPC, errno.EDQUOT),
    "truncate": (errno.EIO, errno.ENOSPC),
    "open": (errno.EROFS, errno.ENOSPC, errno.EACCES, errno.EMFILE, errno.EIO),
    "rename": (errno.EIO, errno.ENOSPC, errno.EROFS),
    "unlink": (errno.EIO, errno.EROFS),
    "mkdir": (errno.ENOSPC, errno.EROFS, errno.EACCES),
}
"""What each kind of call can really answer."""

STRIDES = pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def whole(parent: Path) -> dict[str, Any]:
    """How the story ends where nothing fails."""
    home = home_in(parent / "whole")
    run(parent / "whole", lambda call: 0)
    return ending(home, 3)


def run(folder: Path, decide: Callable[[Call], int], seed: int = 1) -> Report:
    """One run of the program, and no failure of its own."""
    folder.mkdir(exist_ok=True)
    report = run_supervised(lambda say: tell(Story(home_in(folder), seed, say)), folder, decide)
    tracebacks = [word for word in report.words() if isinstance(word, str)]
    assert not tracebacks, tracebacks[0]
    return report


def failures(report: Report) -> list[Any]:
    return [word[1:] for word in report.words() if word[0] == "failed"]


def folders(parent: Path, stride: int, offset: int) -> Iterator[tuple[int, Path]]:
    """n and a fresh folder, until the caller stops asking."""
    for n in range(1 + offset % stride, 100_000, stride):
        folder = parent / str(n)
        folder.mkdir()
        yield n, folder


def while_stopping(report: Report, first: int, last: int) -> bool:
    """Was the store being closed at one of these calls? Then its end may not be on the disk."""
    words = [(before, word[0]) for before, word in report.said]
    ends = [before for before, kind in words if kind == "stopping"]
    begins = [before for before, kind in words if kind == "identity"]
    return any(end <= last and all(begin <= end or begin >= first for begin in begins) for end in ends)


def check(folder: Path, said: list[Any], whole: dict[str, Any], context: str, *, unmarked: bool = False) -> None:
    try:
        verify(home_in(folder), said, 2, copied=unmarked)
        run(folder, lambda call: 0, 3)
        assert ending(home_in(folder), 4) == whole
    except AssertionError as error:
        raise AssertionError(f"{context}: {error}") from error


@STRIDES
def test_killed_before_any_call_every_promise_is_kept(parent: Path, whole: dict[str, Any], stride: int) -> None:
    for n, folder in folders(parent, stride, 0):
        report = run(folder, lambda call, n=n: KILL if call.index == n else 0)  # type: ignore[misc]
        if report.exit_code == 0:
            break
        assert report.exit_code == -9
        check(folder, report.words(), whole, f"killed before call {n}")
    assert n > 250


@STRIDES
def test_killed_before_any_call_of_the_start_after_a_kill(parent: Path, whole: dict[str, Any], stride: int) -> None:
    """Recovery itself is killed: SQLite's of its log, and ours of the identity, the generation, the schema."""
    for n, folder in folders(parent, stride, 1):
        first = run(folder, lambda call: KILL if call.index == 200 else 0)
        second = run(folder, lambda call, n=n: KILL if call.index == n else 0, 2)  # type: ignore[misc]
        if second.exit_code == 0:
            break
        check(folder, first.words() + second.words(), whole, f"killed before call {n} of the second start")
    assert n > 150


@STRIDES
def test_one_call_that_fails_is_one_error_with_a_code_and_nothing_else(
    parent: Path, whole: dict[str, Any], stride: int
) -> None:
    hit: list[Call] = []
    for n, folder in folders(parent, stride, 2):
        hit.clear()

        def fail(call: Call, n: int = n) -> int:
            if call.index != n:
                return 0
            hit.append(call)
            return ERRORS[call.name][n % len(ERRORS[call.name])]

        report = run(folder, fail)
        if not hit:
            break
        context = f"call {n}, {hit[0].name} of {hit[0].path.name}"
        assert report.exit_code == 0, context
        assert len(failures(report)) <= 1, context
        assert all(code in CODES and hint for _, code, hint in failures(report)), (context, failures(report))
        check(folder, report.words(), whole, context)
    assert n > 250


@STRIDES
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS], ids=lambda number: errno.errorcode[number])
def test_disk_that_fails_for_a_while_is_waited_for(
    parent: Path, whole: dict[str, Any], stride: int, number: int
) -> None:
    """Thirty calls in a row: every repetition fails until the disk is back, then all goes on in the same process."""
    for n, folder in folders(parent, stride * 3, number):
        hit: list[Call] = []

        def fail(call: Call, n: int = n, hit: list[Call] = hit) -> int:
            if not n <= call.index < n + 30:
                return 0
            hit.append(call)
            return number

        report = run(folder, fail)
        if not hit:
            break
        assert report.exit_code == 0
        assert all(code in CODES and hint for _, code, hint in failures(report)), failures(report)
        unmarked = while_stopping(report, n, n + 30)
        check(folder, report.words(), whole, f"calls {n} to {n + 30}", unmarked=unmarked)
    assert n > 250


@STRIDES
def test_killed_while_the_disk_fails(parent: Path, whole: dict[str, Any], stride: int) -> None:
    """What a failing disk let through is found by the next start, with what was promised before."""
    for n, folder in folders(parent, stride * 3, 3):

        def fail(call: Call, n: int = n) -> int:
            return 0 if call.index < n else KILL if call.index > n + n % 9 else errno.ENOSPC

        report = run(folder, fail)
        if report.exit_code == 0:
            break
        check(folder, report.words(), whole, f"calls {n} to {n + n % 9} failed, then killed")
    assert n > 250
