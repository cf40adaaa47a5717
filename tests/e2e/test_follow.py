"""`inbox --follow` and `events --follow` across restarts, with everything real."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.stage import Agent, Stage, eventually, send


class Follower:
    """A command that prints one JSON object a line; its lines so far."""

    def __init__(self, agent: Agent, *arguments: str) -> None:
        self.lines: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "covey.cli", *arguments, "--json"],
            stdout=subprocess.PIPE,
            text=True,
            env=agent.environment,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def end(self) -> None:
        self.process.kill()
        self._reader.join(20)
        self.process.communicate()


@pytest.fixture
def followers() -> Iterator[list[Follower]]:
    found: list[Follower] = []
    yield found
    for each in found:
        each.end()


def test_inbox_follow_misses_nothing_and_shows_nothing_twice_while_the_daemon_dies(
    stage: Stage, followers: list[Follower]
) -> None:
    aws, azure = stage.trusting("aws", "azure")
    send(aws, azure, "unread")
    followers.append(inbox := Follower(azure, "inbox", "--follow"))
    eventually(lambda: len(inbox.lines) == 1, "the unread one is shown")
    followers.append(acker := Follower(azure, "inbox", "--follow", "--ack"))
    eventually(lambda: len(acker.lines) == 1, "it still is unread")
    followers.append(events := Follower(azure, "events", "--follow", "--type", "message.*"))
    eventually(lambda: bool(events.lines), "what happened before is shown")
    sent = ["unread"]
    for round_ in range(3):
        for number in range(5):
            sent.append(f"{round_}.{number}")
            send(aws, azure, sent[-1], wait=0)
        if round_ < 2:
            azure.kill()
            azure.start()
    eventually(lambda: len(inbox.lines) >= len(sent) and len(acker.lines) >= len(sent), "all arrive", 60.0)
    assert [each["body"] for each in inbox.lines] == sent
    assert [each["body"] for each in acker.lines] == sent
    numbers = [each["number"] for each in inbox.lines]
    assert numbers == sorted(set(numbers))
    eventually(lambda: azure.api.get("/v1/inbox").data["items"] == [], "all are acknowledged")
    eventually(lambda: any(each["event"] == "gap" for each in events.lines), "the restart is told")
    assert {each["event"] for each in events.lines} <= {"gap", "message.received"}
