"""The user's ten minutes, word for word: for a person, and for a program."""

from __future__ import annotations

import json
import re

from covey.base.schema import MessageView, NodeView, PeerView, PingView, SendView
from tests.e2e.stage import Agent, Stage, accepted, eventually, lines_of, said, shaped

COMMAND = '{"command":"process_batch","id":"8492"}'


def _two(stage: Stage) -> tuple[Agent, Agent]:
    """Each finds its network in COVEY_NETWORK; neither was ever started."""
    ticket = stage.rendezvous.start()
    aws = stage.agent("aws", "aws-orchestrator", ticket="", COVEY_NETWORK=ticket)
    azure = stage.agent("azure", "azure-processor", ticket="", COVEY_NETWORK=ticket)
    return aws, azure


def test_ten_minutes_as_a_person_reads_them(stage: Stage) -> None:
    aws, azure = _two(stage)

    up = said(aws, "daemon", "start", "--hostname", "aws-orchestrator")
    aws.adopt()
    assert up.startswith("aws-orchestrator is up\n")
    assert "next: covey handshake PEER" in lines_of(up)
    assert said(azure, "up", "--hostname", "azure-processor").startswith("azure-processor is up\n")
    azure.adopt()
    eventually(lambda: aws.cli("find", "azure-processor").returncode == 0, "azure is on the network")

    asked = said(aws, "handshake", "azure-processor")
    assert "trust          requested" in asked
    assert "azure-processor has to approve" in asked
    number = _safety_number(asked)

    waiting = eventually(lambda: _shows(azure, "aws-orchestrator", "pending"), "the request arrives")
    assert number in waiting
    assert "next: covey approve aws-orchestrator" in lines_of(waiting)
    approved = said(azure, "approve", "aws-orchestrator")
    assert _safety_number(approved) == number
    assert "trust          trusted" in approved
    eventually(lambda: "trusted" in said(aws, "trust", "azure-processor"), "the approval arrives")

    sent = said(aws, "send-message", "azure-processor", "--data", COMMAND, "--type", "json")
    assert re.match(r"delivered to azure-processor in \d+ ms  id [0-9a-f]{32}\n$", sent)
    listed = said(azure, "inbox")
    assert "aws-orchestrator" in listed
    assert COMMAND in listed
    assert "next: covey inbox show 1" in lines_of(listed)
    assert COMMAND in lines_of(said(azure, "inbox", "show", "1"))
    assert azure.cli("inbox", "show", "1", "--raw").stdout == COMMAND


def test_ten_minutes_as_a_program_reads_them(stage: Stage) -> None:
    aws, azure = _two(stage)

    up = shaped(accepted(aws, "daemon", "start", "--hostname", "aws-orchestrator"), NodeView)
    aws.adopt()
    assert (up.name, up.profile, up.pid) == ("aws-orchestrator", "aws", aws.pid)
    assert up.network == stage.rendezvous.ticket
    shaped(accepted(azure, "daemon", "start", "--hostname", "azure-processor"), NodeView)
    azure.adopt()
    eventually(lambda: aws.cli("find", "azure-processor").returncode == 0, "azure is on the network")
    found = shaped(accepted(aws, "find", "azure-processor"), PeerView)
    assert (found.name, found.trust) == ("azure-processor", "unknown")

    asked = shaped(accepted(aws, "handshake", "azure-processor", "--reason", "batch jobs"), PeerView)
    assert asked.trust == "requested"
    (waiting,) = eventually(lambda: accepted(azure, "pending")["items"], "the request arrives")
    request = shaped(waiting, PeerView)
    assert (request.name, request.trust, request.reason) == ("aws-orchestrator", "pending", "batch jobs")
    assert request.safety_number == asked.safety_number
    assert len(request.safety_number.split()) == 12
    assert shaped(accepted(azure, "approve", request.safety_number), PeerView).trust == "trusted"
    eventually(lambda: accepted(aws, "trust", "azure-processor")["trust"] == "trusted", "the approval arrives")

    sent = shaped(accepted(aws, "send-message", "azure-processor", "--data", COMMAND, "--type", "json"), SendView)
    assert (sent.result, sent.name) == ("delivered", "azure-processor")
    (item,) = accepted(azure, "inbox")["items"]
    message = shaped(item, MessageView)
    assert (message.id, message.sender, message.type) == (sent.id, up.identity, "json")
    assert json.loads(message.body) == {"command": "process_batch", "id": "8492"}
    ping = accepted(aws, "ping", "azure-processor", "--count", "2", "--interval", "0.01")
    assert [shaped(each, PingView).path.active for each in ping["items"]] == [True, True]
    (peer,) = accepted(azure, "peers")["items"]
    assert shaped(peer, PeerView).connected
    assert set(accepted(aws, "id")) == {"name", "address", "identity"}
    assert set(accepted(aws, "version")) == {"version"}


def _shows(agent: Agent, word: str, *command: str) -> str:
    text = said(agent, *command)
    return text if word in text else ""


def _safety_number(text: str) -> str:
    found = re.search(r"\d{5}(?: \d{5}){11}", text)
    assert found is not None, text
    return found.group()
