"""Trust between agents that are never up together, as a person sees it, with everything killed in between."""

from __future__ import annotations

from tests.e2e.stage import Stage, accepted, bodies, eventually, online, said, send, trust


def test_handshake_with_an_agent_that_is_down(stage: Stage) -> None:
    aws, azure = stage.started("aws", "azure")
    azure.stop()

    text = said(aws, "handshake", "azure", "--reason", "the weekly report")
    assert "our word waits, sealed, at 127.0.0.1:" in text
    assert "azure is away and finds the request when it is up" in text
    shown = accepted(aws, "trust", "azure")
    assert (shown["trust"], shown["told"], len(shown["told_at"])) == ("requested", "sealed", 1)
    assert "what was said about trust waits, sealed, until they are up: azure" in said(aws, "status")
    assert "requested, sealed" in said(aws, "peers")

    aws.kill()
    stage.rendezvous.kill()
    stage.rendezvous.start()
    azure.start()
    online(azure)
    eventually(lambda: trust(azure, aws) == "pending", "the request was waiting")
    (request,) = accepted(azure, "pending")["items"]
    assert (request["name"], request["reason"]) == ("aws", "the weekly report")
    assert request["safety_number"] == shown["safety_number"]

    approved = accepted(azure, "approve", "aws")
    assert (approved["trust"], approved["told"]) == ("trusted", "sealed")
    azure.kill()
    aws.start()
    online(aws)
    eventually(lambda: trust(aws, azure) == "trusted", "the answer was waiting")
    assert accepted(aws, "trust", "azure")["told"] == "delivered"
    assert send(aws, azure, "hello", wait=0)["result"] == "queued"
    azure.start()
    eventually(lambda: bodies(azure) == ["hello"], "they meet at last")


def test_refusal_finds_an_asker_that_is_down(stage: Stage) -> None:
    aws, azure = stage.started("aws", "azure")
    accepted(aws, "handshake", "azure")
    eventually(lambda: trust(azure, aws) == "pending", "the request arrives")
    aws.stop()
    assert accepted(azure, "reject", "aws", "--reason", "not today")["told"] == "sealed"
    azure.stop()
    aws.start()
    eventually(lambda: trust(aws, azure) == "rejected", "the refusal was waiting")
