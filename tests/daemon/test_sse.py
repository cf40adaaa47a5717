from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from covey.base.events import Event, MessageReceived, TrustChanged
from covey.daemon import sse
from covey.daemon.sse import Push
from covey.node.bus import RING
from covey.testing import run
from tests.daemon.memory import RunningDaemon
from tests.daemon.test_http import UnixConnection, request


class Reader:
    """Reads one stream frame by frame, as an EventSource would."""

    def __init__(self, daemon: RunningDaemon, path: str = "/v1/events", last: str | None = None) -> None:
        self.connection = UnixConnection(daemon.home.api_socket)
        self.connection.request("GET", path, headers={} if last is None else {"Last-Event-ID": last})
        self.response: http.client.HTTPResponse = self.connection.getresponse()
        assert self.response.getheader("content-type", "").startswith("text/event-stream")
        self.begin = self.frame()

    def frame(self) -> dict[str, str]:
        found: dict[str, str] = {}
        while line := self.response.readline().decode().rstrip("\n"):
            field, _, value = line.partition(": ")
            found[field] = value
        return found

    def data(self) -> Any:
        frame = self.frame()
        value = json.loads(frame["data"])
        if "event" in value:
            assert (value["id"], value["event"]) == (frame["id"], frame["event"])
        return value

    def close(self) -> None:
        self.connection.close()


def publish(daemon: RunningDaemon, event: Event, time: float = 1.5) -> None:
    daemon.call(lambda: daemon.node.bus.publish(event, time))


def test_events_arrive_as_they_happen(daemon: RunningDaemon) -> None:
    reader = Reader(daemon)
    assert set(reader.begin) == {"", "id"}
    assert reader.begin[""] == "subscribed"
    publish(daemon, TrustChanged(state="pending", reason="hello"))
    assert reader.data() == {
        "event": "trust.changed",
        "schema": 1,
        "id": "0-1",
        "time": 1.5,
        "peer": "",
        "name": "",
        "state": "pending",
        "reason": "hello",
    }
    reader.close()


def test_events_go_on_after_the_last_one_seen(daemon: RunningDaemon) -> None:
    begin = Reader(daemon)
    for count in range(1, 4):
        publish(daemon, MessageReceived(count=count))
    again = Reader(daemon, last=begin.begin["id"])
    assert [again.data()["count"] for _ in range(3)] == [1, 2, 3]
    third = Reader(daemon, last="0-2")
    assert third.data()["count"] == 3
    for reader in (begin, again, third):
        reader.close()


def test_events_that_are_forgotten_are_a_gap_and_never_silence(daemon: RunningDaemon) -> None:
    for count in range(RING + 5):
        daemon.node.bus.publish(MessageReceived(count=count), 1.0)
    reader = Reader(daemon, "/v1/events?types=message.received", last="0-2")
    gap = reader.data()
    assert (gap["event"], gap["reason"], gap["lost"], gap["id"]) == ("gap", "too-old", 3, "0-5")
    assert reader.data()["count"] == 5
    other = Reader(daemon, "/v1/events?types=trust.changed", last="ffff-2")
    gap = other.data()
    assert (gap["event"], gap["reason"], gap["lost"]) == ("gap", "restarted", None)
    reader.close()
    other.close()


def test_events_are_chosen_by_type_or_family(daemon: RunningDaemon) -> None:
    one, family = Reader(daemon, "/v1/events?types=trust.changed"), Reader(daemon, "/v1/events?types=name.*,message.*")
    publish(daemon, MessageReceived(count=1))
    publish(daemon, TrustChanged(state="trusted", reason=""))
    assert one.data()["event"] == "trust.changed"
    assert family.data()["event"] == "message.received"
    one.close()
    family.close()


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/events?types=nothing", "unknown-event"),
        ("/v1/events?types=*", None),
        ("/v1/events?last_event_id=x", "bad-event-id"),
        ("/v1/events/recent?types=message", "unknown-event"),
    ],
)
def test_events_that_do_not_exist_are_refused(daemon: RunningDaemon, path: str, code: str | None) -> None:
    if code is None:
        Reader(daemon, path).close()
        return
    status, view = request(daemon, "GET", path)
    assert (status, view["code"]) == (422, code)


def test_recent_events_are_the_newest_of_what_is_remembered(daemon: RunningDaemon) -> None:
    for count in range(5):
        publish(daemon, MessageReceived(count=count))
        publish(daemon, TrustChanged(state="trusted", reason=""))
    status, view = request(daemon, "GET", "/v1/events/recent?types=message.*&limit=2")
    assert (status, [each["count"] for each in view["items"]]) == (200, [3, 4])


def test_slow_reader_costs_no_memory_and_is_told(daemon: RunningDaemon) -> None:
    reader = Reader(daemon)
    big = TrustChanged(state="pending", reason="x" * 4000)

    async def flood() -> None:
        for _ in range(20):  # far more than the kernel's buffers hold
            for _ in range(RING):
                daemon.node.bus.publish(big, 1.0)
            await asyncio.sleep(0)

    daemon.call(flood)
    kinds = []
    while not kinds or kinds[-1] != "gap":
        kinds.append(reader.data()["event"])
    assert len(daemon.node.bus.recent().items) == RING
    reader.close()


def test_events_end_when_the_daemon_stops(daemon: RunningDaemon) -> None:
    reader = Reader(daemon)
    daemon.loop.call_soon_threadsafe(daemon.daemon.stop)
    assert reader.response.read() == b""
    reader.close()


def test_events_of_a_reader_that_left_are_not_kept(daemon: RunningDaemon) -> None:
    reader = Reader(daemon)

    def waiters() -> int:
        return int(daemon.call(lambda: len(daemon.node.bus._waiters)))

    while waiters() != 1:
        pass
    reader.close()
    while waiters() != 0:
        pass


def test_inbox_is_followed_from_the_last_message_seen(daemon: RunningDaemon) -> None:
    daemon.call(lambda: daemon.node.receive("one"))
    reader = Reader(daemon, "/v1/inbox/follow")
    assert reader.data()["body"] == "one"
    daemon.call(lambda: daemon.node.receive("two"))
    frame = reader.frame()
    assert (frame["event"], json.loads(frame["data"])["body"]) == ("message", "two")
    reader.close()
    daemon.call(daemon.node.reader_left.wait)
    again = Reader(daemon, "/v1/inbox/follow", last=frame["id"])
    daemon.call(lambda: daemon.node.receive("three"))
    assert again.data()["body"] == "three"
    again.close()


def test_silent_stream_is_kept_alive() -> None:
    async def silence() -> AsyncIterator[Push]:
        yield Push("1-0")
        await asyncio.sleep(2.5 * sse.KEEPALIVE_SECONDS)
        yield Push("1-1", "tick", {"a": 1})

    async def scenario() -> None:
        found = [line async for line in sse.lines(silence())]
        assert found == [
            b": subscribed\nid: 1-0\n\n",
            b": still here\n\n",
            b": still here\n\n",
            b'id: 1-1\nevent: tick\ndata: {"a":1}\n\n',
        ]

    run(scenario())
