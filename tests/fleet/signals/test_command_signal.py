from __future__ import annotations

import asyncio
import contextlib
import os
import select
from pathlib import Path

import pytest

from covey.fleet.errors import Permanent, ProviderError, Temporary
from covey.fleet.model import Reading
from covey.fleet.providers.registry import Surroundings
from covey.fleet.signals.registry import make_source
from covey.fleet.spec.types import Target, Workload


def read(home: Path, *command: str, timeout: float = 20.0, value: float | None = None) -> Reading:
    target = Target(
        signal="command",
        command=command,
        rate_per_agent=None if value else 5.0,
        value=value,
        settings={"timeout": timeout},
    )
    source = make_source(Workload(name="w", targets=(target,)), target, Surroundings(home=home))
    return asyncio.run(source.read((), 7.0))[""]


def test_a_number_is_a_rate_for_rate_per_agent(tmp_path: Path) -> None:
    assert read(tmp_path, "echo", "31.5") == Reading(at=7.0, arrivals=31.5)


def test_a_number_is_the_value_for_other_targets(tmp_path: Path) -> None:
    assert read(tmp_path, "echo", "0.5", value=0.7) == Reading(at=7.0, value=0.5)


def test_json_says_more(tmp_path: Path) -> None:
    assert read(tmp_path, "echo", '{"rate": 2, "backlog": 12}') == Reading(at=7.0, arrivals=2.0, backlog=12.0)


@pytest.mark.parametrize(
    ("command", "error", "words"),
    [
        (("echo", "many"), Permanent, "not understood"),
        (("echo", "-1"), Permanent, "no count"),
        (("echo", "1e308"), Permanent, "no count"),
        (("echo", '{"speed": 1}'), Permanent, "not understood"),
        (("sh", "-c", "exit 3"), Temporary, "exit status 3"),
        (("no-such-program",), Permanent, "cannot be started"),
        (("sh", "-c", "yes"), Permanent, "prints more than"),
    ],
    ids=["words", "negative", "no-sum", "unknown-field", "fails", "missing", "endless"],
)
def test_what_goes_wrong_is_one_of_the_five_errors(
    tmp_path: Path, command: tuple[str, ...], error: type[ProviderError], words: str
) -> None:
    with pytest.raises(error, match=words):
        read(tmp_path, *command)


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    with pytest.raises(Temporary, match=r"longer than 0\.3 s"):
        read(tmp_path, "sh", "-c", "sleep 60 & echo $! > child; wait", timeout=0.3)
    child = int((tmp_path / "work" / "child").read_text())
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(child)
        try:
            assert select.select([descriptor], [], [], 10.0)[0], "the child lives"
        finally:
            os.close(descriptor)
