from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from covey.base.events import MessageReceived, TrustChanged
from covey.cli.follow import Frame, frames
from tests.cli.conftest import Covey
from tests.daemon.memory import RunningDaemon, running_daemon


class Command:
    """A `covey` that goes on until it is interrupted."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "covey.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "COVEY_HOME": str(home)},
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def remark(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.readline().rstrip("\n")

    def interrupt(self) -> tuple[int, str, str]:
        """Exit code, and what else was on standard output and error."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


@pytest.fixture
def commands() -> Iterator[list[Command]]:
    found: list[Command] = []
    yield found
    for command in found:
        command.process.kill()
        command.process.communicate()


def test_inbox_follow_shows_what_is_unread_and_what_arrives_until_interrupted(
    daemon: RunningDaemon, environment: Path, commands: list[Command]
) -> None:
    daemon.call(lambda: daemon.node.receive("before"))
    commands.append(command := Command(environment, "inbox", "--follow"))
    assert command.line().endswith("azure-processor  before")
    daemon.call(lambda: daemon.node.receive("two\x1b[31m\nlines"))
    assert command.line().endswith("azure-processor  two\\x1b[31m\\nlines")
    daemon.call(lambda: daemon.node.receive("AAE=", "binary"))
    assert command.line().endswith("(binary, 4 bytes)")
    assert command.interrupt() == (130, "", "")
    assert daemon.node.acknowledged == []


def test_inbox_follow_json_is_one_message_a_line(
    daemon: RunningDaemon, environment: Path, commands: list[Command]
) -> None:
    commands.append(command := Command(environment, "inbox", "--follow", "--json", "--ack"))
    for number in (1, 2, 3):
        daemon.call(lambda: daemon.node.receive("x"))
        assert json.loads(command.line())["number"] == number
    while len(daemon.node.acknowledged) < 3:  # it is acknowledged after it was written
        pass
    assert daemon.node.acknowledged == [1, 2, 3]
    assert command.interrupt() == (130, "", "")


def test_inbox_follow_begins_after_a_number(daemon: RunningDaemon, environment: Path, commands: list[Command]) -> None:
    for text in ("one", "two", "three"):
        daemon.call(lambda text=text: daemon.node.receive(text))
    commands.append(command := Command(environment, "inbox", "--follow", "--after", "2"))
    assert command.line().endswith("three")


def test_inbox_follow_waits_for_a_daemon_that_went_away(environment: Path, commands: list[Command]) -> None:
    with running_daemon(environment) as first:
        commands.append(command := Command(environment, "inbox", "--follow"))
        first.call(lambda: first.node.receive("one"))
        assert command.line().endswith("one")
    assert command.remark() == "the daemon is away; going on when it is back"
    with running_daemon(environment) as second:
        second.call(lambda: second.node.receive("one"))  # the inbox of the first run, and one more
        second.call(lambda: second.node.receive("two"))
        assert command.line().endswith("two")
        assert command.remark() == "the daemon is back"


def test_inbox_follow_gives_up_after_the_timeout(environment: Path, commands: list[Command]) -> None:
    with running_daemon(environment) as first:
        commands.append(command := Command(environment, "inbox", "--follow", "--json", "--timeout", "0.2"))
        first.call(lambda: first.node.receive("one"))
        assert json.loads(command.line())["body"] == "one"
    assert json.loads(command.line())["error"]["code"] == "not-running"
    assert command.process.wait(20) == 3


@pytest.mark.parametrize("words", [("inbox", "--follow"), ("events", "--follow"), ("events",)])
def test_follow_needs_a_daemon_to_begin_with(covey: Covey, words: tuple[str, ...]) -> None:
    result = covey(*words, "--json")
    assert (result.code, result.document["error"]["code"]) == (3, "not-running")


def test_ack_without_follow_is_refused(covey: Covey, daemon: RunningDaemon) -> None:
    result = covey("inbox", "--ack", "--json")
    assert (result.code, result.document["error"]["code"]) == (2, "usage")


def test_events_shows_what_happened(covey: Covey, daemon: RunningDaemon) -> None:
    assert covey("events").err == "nothing happened yet in this run of the daemon\n"
    daemon.call(
        lambda: daemon.node.bus.publish(TrustChanged(peer="b" * 52, name="azure", state="pending", reason="hi"), 1.0)
    )
    daemon.call(lambda: daemon.node.bus.publish(MessageReceived(count=2), 2.0))
    result = covey("events")
    assert [line.split()[2:] for line in result.out.splitlines()] == [
        ["trust.changed", "azure", "state=pending", "reason=hi"],
        ["message.received", "count=2"],
    ]
    data = covey("events", "--json", "--type", "message.*", "-n", "1").document["data"]
    assert [(each["event"], each["count"]) for each in data["items"]] == [("message.received", 2)]
    wrong = covey("events", "--type", "massage.*", "--json")
    assert (wrong.code, wrong.document["error"]["code"]) == (2, "unknown-event")


def test_events_follow_goes_on_after_what_was_shown_and_tells_of_a_restart(
    environment: Path, commands: list[Command]
) -> None:
    with running_daemon(environment) as first:
        first.call(lambda: first.node.bus.publish(MessageReceived(count=1), 1.0))
        commands.append(command := Command(environment, "events", "--follow", "--json"))
        assert json.loads(command.line())["count"] == 1
        first.call(lambda: first.node.bus.publish(MessageReceived(count=2), 1.0))
        assert json.loads(command.line())["count"] == 2
    with running_daemon(environment) as second:
        second.call(lambda: second.node.bus.publish(MessageReceived(count=3), 1.0))
        gap, after = json.loads(command.line()), json.loads(command.line())
        assert (gap["event"], gap["reason"]) == ("gap", "restarted")
        assert after["count"] == 3
    assert command.interrupt() == (130, "", "")


def test_frames_are_read_as_browsers_read_them() -> None:
    raw = b": subscribed\nid: 1-0\n\n: still here\n\nid: 1-1\nevent: tick\ndata: {}\n\nid: 1-2\nevent: cut"
    assert list(frames(iter(raw.splitlines(keepends=True)))) == [Frame("1-0", "", b""), Frame("1-1", "tick", b"{}")]
