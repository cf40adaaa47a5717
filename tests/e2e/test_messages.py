"""Messages between two agents that trust each other: what is taken, what is said, and the inbox."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from covey.base.constants import MESSAGE_LIMIT
from tests.e2e.stage import Agent, accepted, eventually, lines_of, refused, said, send

Pair = tuple[Agent, Agent]


@pytest.fixture(autouse=True)
def _empty_inboxes(pair: Pair) -> None:
    for agent in pair:
        agent.api.post("/v1/inbox/clear", all=True)


def test_largest_message_arrives_and_one_byte_more_is_refused(pair: Pair, tmp_path: Path) -> None:
    aws, azure = pair
    file = tmp_path / "body"
    file.write_bytes(bytes(range(256)) * (MESSAGE_LIMIT // 256))
    sent = accepted(aws, "send-message", "azure", "--file", str(file), "--type", "binary", "--wait", "20")
    assert sent["result"] == "delivered"
    (item,) = accepted(azure, "inbox")["items"]
    assert base64.b64decode(item["body"]) == file.read_bytes()
    with file.open("ab") as more:
        more.write(b"!")
    code, error = refused(aws, "send-message", "azure", "--file", str(file), "--type", "binary")
    assert (code, error.code) == (10, "message-too-large")
    assert "1,048,576" in error.message
    answer = aws.api.post("/v1/messages", peer="azure", body="x" * (MESSAGE_LIMIT + 1))
    assert (answer.status, answer.code) == (429, "message-too-large")


def test_bad_json_is_said_before_anything_is_sent(pair: Pair) -> None:
    aws, azure = pair
    code, error = refused(aws, "send-message", "azure", "--data", '{"command": process}', "--type", "json")
    assert (code, error.code) == (2, "bad-json")
    assert "line 1, column 13" in error.message
    answer = aws.api.post("/v1/messages", peer="azure", body='{"command": process}', type="json")
    assert (answer.status, answer.code) == (422, "bad-json")
    assert send(aws, azure, "good")["result"] == "delivered"
    assert [item["body"] for item in accepted(azure, "inbox")["items"]] == ["good"]


@pytest.mark.parametrize(
    ("peer", "exit_code", "code"),
    [("nobody-at-all", 4, "unknown-peer"), ("aws", 2, "self"), ("No Name", 2, "bad-name")],
)
def test_message_to_nobody_is_an_error(pair: Pair, peer: str, exit_code: int, code: str) -> None:
    found, error = refused(pair[0], "send-message", peer, "--data", "hello")
    assert (found, error.code) == (exit_code, code)


def test_same_id_is_the_same_message(pair: Pair) -> None:
    aws, azure = pair
    words = ("send-message", "azure", "--id", "ab" * 16, "--data", "once")
    assert accepted(aws, *words)["result"] == "delivered"
    assert accepted(aws, *words)["result"] == "delivered"
    code, error = refused(aws, *words[:-1], "another")
    assert (code, error.code) == (2, "id-reused")
    assert [item["body"] for item in accepted(azure, "inbox")["items"]] == ["once"]


def test_many_lines_arrive_in_order_and_only_once(pair: Pair) -> None:
    aws, azure = pair
    text = "".join(f"line {number}\n" + "\n" * (number % 2) for number in range(600))
    first = accepted(aws, "send-message", "azure", "--lines", "-", stdin=text)
    assert first["sent"] == 600 == first["delivered"] + first["queued"]
    again = accepted(aws, "send-message", "azure", "--lines", "-", "--id", first["batch_id"], stdin=text)
    assert (again["sent"], again["refused"]) == (600, 0)
    eventually(lambda: len(_all(azure)) == 600, "all lines arrive")
    assert [item["body"] for item in _all(azure)] == [f"line {number}" for number in range(600)]


def test_bad_line_is_named_and_those_before_it_are_sent(pair: Pair) -> None:
    aws, azure = pair
    done = aws.cli("send-message", "azure", "--lines", "-", "--type", "json", "--json", stdin="1\n{}\nnope\n4\n")
    document = json.loads(done.stdout)
    assert (done.returncode, document["error"]["code"]) == (2, "bad-json")
    assert "line 3" in document["error"]["message"]
    assert document["data"]["sent"] == 2
    eventually(lambda: [item["body"] for item in _all(azure)] == ["1", "{}"], "those before it arrive")


def test_inbox_is_listed_shown_acknowledged_and_cleared(pair: Pair) -> None:
    aws, azure = pair
    for body in ("one", "two", "three"):
        assert send(aws, azure, body)["result"] == "delivered"
    first, second, third = (item["number"] for item in accepted(azure, "inbox")["items"])
    assert "two" in lines_of(said(azure, "inbox", "show", str(second)))
    shown = accepted(azure, "inbox", "show", str(second))
    assert accepted(azure, "inbox", "show", shown["id"]) == shown
    assert accepted(azure, "inbox", "ack", str(first), str(third)) == {"count": 2}
    assert accepted(azure, "inbox", "ack", str(first)) == {"count": 0}
    assert [item["body"] for item in accepted(azure, "inbox")["items"]] == ["two"]
    assert [item["number"] for item in accepted(azure, "inbox", "--all", "--after", str(first))["items"]] == [
        second,
        third,
    ]
    assert accepted(azure, "inbox", "clear") == {"count": 2}
    assert accepted(azure, "inbox", "clear", "--all") == {"count": 1}
    assert "no messages" in said(azure, "inbox")
    code, error = refused(azure, "inbox", "show", str(second))
    assert (code, error.code) == (4, "no-such-message")


def test_binary_from_a_file_comes_out_byte_for_byte(pair: Pair, tmp_path: Path) -> None:
    aws, azure = pair
    body = bytes(range(256)) * 40
    (tmp_path / "body").write_bytes(body)
    said(aws, "send-message", "azure", "--file", str(tmp_path / "body"), "--type", "binary")
    (item,) = accepted(azure, "inbox")["items"]
    assert (item["type"], item["size"]) == ("binary", len(body))
    data = azure.api.get(f"/v1/inbox/{item['number']}").data
    assert hashlib.sha256(base64.b64decode(data["body"])).digest() == hashlib.sha256(body).digest()


def _all(agent: Agent) -> list[dict[str, object]]:
    return list(agent.api.get("/v1/inbox?all=true&limit=1000").data["items"])
