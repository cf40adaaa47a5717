"""Who trusts whom: asking, agreeing, declining, taking it back; what those who are not trusted are told."""

from __future__ import annotations

from tests.e2e.stage import (
    Stage,
    accepted,
    befriend,
    bodies,
    eventually,
    refused,
    said,
    send,
    trust,
)


def test_not_trusted_names_the_next_step_at_every_stage(stage: Stage) -> None:
    aws, azure = stage.started("aws", "azure")

    code, error = refused(aws, "send-message", "azure", "--data", "hello")
    assert (code, error.code, error.next_step) == (5, "not-trusted", "covey handshake azure")
    accepted(aws, "handshake", "azure")
    eventually(lambda: trust(azure, aws) == "pending", "the request arrives")
    code, error = refused(aws, "send-message", "azure", "--data", "hello")
    assert (code, error.code) == (5, "not-trusted")
    assert "covey approve aws" in error.next_step
    code, error = refused(azure, "send-message", "aws", "--data", "hello")
    assert (code, error.code, error.next_step) == (5, "not-trusted", "covey approve aws")
    answer = aws.api.post("/v1/streams", peer="azure", service="sink")
    assert (answer.status, answer.code) == (403, "not-trusted")
    assert refused(aws, "ping", "azure")[1].code == "not-trusted"
    assert bodies(azure) == []


def test_requests_that_cross_approve_themselves(stage: Stage) -> None:
    aws, azure = stage.started("aws", "azure")
    assert accepted(aws, "handshake", "azure")["trust"] == "requested"
    eventually(lambda: trust(azure, aws) == "pending", "the request arrives")
    assert accepted(azure, "handshake", "aws")["trust"] == "trusted"
    eventually(lambda: trust(aws, azure) == "trusted", "the answer arrives")
    assert accepted(azure, "pending") == {"items": []}


def test_reject_tells_the_asker_who_may_ask_again(stage: Stage) -> None:
    aws, azure = stage.started("aws", "azure")
    accepted(aws, "handshake", "azure")
    eventually(lambda: trust(azure, aws) == "pending", "the request arrives")
    assert "unknown" in said(azure, "reject", "aws", "--reason", "not today")
    eventually(lambda: trust(aws, azure) == "rejected", "the refusal arrives")
    code, error = refused(azure, "reject", "aws")
    assert (code, error.code) == (1, "nothing-pending")
    accepted(aws, "handshake", "azure")
    eventually(lambda: trust(azure, aws) == "pending", "it may ask again")
    accepted(azure, "approve", "aws")
    eventually(lambda: trust(aws, azure) == "trusted", "and be trusted")


def test_untrust_cuts_both_ways_and_refuses_what_is_queued(stage: Stage) -> None:
    aws, azure = stage.trusting("aws", "azure")
    assert send(aws, azure, "hello")["result"] == "delivered"
    azure.stop()
    assert send(aws, azure, "late", wait=0)["result"] == "queued"
    azure.start()
    eventually(lambda: len(bodies(azure)) == 2, "it arrives")

    assert accepted(azure, "untrust", "aws")["trust"] == "unknown"
    code, error = refused(azure, "send-message", "aws", "--data", "from the one who left")
    assert (code, error.code) == (5, "not-trusted")
    eventually(lambda: trust(aws, azure) == "rejected", "the other side hears of it")
    code, error = refused(aws, "send-message", "azure", "--data", "from the one who was left")
    assert (code, error.code, error.next_step) == (5, "not-trusted", "covey handshake azure")
    assert bodies(azure) == ["hello", "late"]
    assert bodies(aws) == []

    azure.stop()
    azure.start()
    assert trust(azure, aws) in ("", "unknown")
    befriend(aws, azure)
    assert send(aws, azure, "again")["result"] == "delivered"


def test_untrust_of_an_absent_peer_refuses_what_is_queued_for_it(stage: Stage) -> None:
    aws, azure = stage.trusting("aws", "azure")
    azure.stop()
    assert send(aws, azure, "never", wait=0)["result"] == "queued"
    accepted(aws, "untrust", "azure")
    eventually(lambda: accepted(aws, "status")["outbox_queued"] == 0, "the queue is refused")
    azure.start()
    eventually(lambda: trust(azure, aws) == "rejected", "it hears of it")
    assert bodies(azure) == []


def test_name_taken_by_another_is_a_problem_of_the_second_only(stage: Stage) -> None:
    (first,) = stage.started("aws")
    second = stage.agent("other", "aws")
    second.start()
    findings = eventually(lambda: _about_name(second.api.get("/v1/status").data["findings"]), "it sees the problem")
    assert findings[0]["hint"] == "choose another: covey name NAME"
    assert _about_name(first.api.get("/v1/status").data["findings"]) == []
    (third,) = stage.started("azure")
    identity = accepted(first, "id")["identity"]
    assert accepted(third, "find", "aws")["identity"] == identity
    assert accepted(third, "find", accepted(second, "id")["identity"])["name"] == ""


def _about_name(findings: list[dict[str, str]]) -> list[dict[str, str]]:
    return [each for each in findings if each["code"] == "name-taken"]
