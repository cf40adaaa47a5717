"""Two daemons of no common network meet by a one-time code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.e2e.stage import Agent, Stage, accepted, bodies, eventually, refused, said, send, trust


def lonely(stage: Stage, *profiles: str) -> list[Agent]:
    """Agents without a network, started."""
    agents = [stage.agent(profile, ticket="") for profile in profiles]
    with ThreadPoolExecutor(len(agents)) as pool:
        list(pool.map(Agent.start, agents))
    return agents


def begin(agent: Agent, *words: str) -> subprocess.Popen[str]:
    """A command of this agent's user that goes on."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "covey.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=agent.environment,
    )


def test_two_daemons_without_a_network_meet_by_a_code(stage: Stage) -> None:
    aws, azure = lonely(stage, "aws", "azure")
    waiting = begin(aws, "introduce", "--json")
    assert waiting.stdout is not None
    opened = json.loads(waiting.stdout.readline())["data"]
    assert opened["state"] == "open"

    met = azure.cli("introduce", "-", "--json", stdin=opened["invitation"] + "\n")
    assert met.returncode == 0, met.stderr
    peer = json.loads(met.stdout)["data"]
    rest, problem = waiting.communicate(timeout=30)
    assert (waiting.returncode, problem) == (0, "")
    ended = json.loads(rest)["data"]
    assert (ended["state"], ended["peer"]["name"], ended["peer"]["trust"]) == ("introduced", "azure", "trusted")
    assert (peer["name"], peer["trust"]) == ("aws", "trusted")
    assert peer["safety_number"] == ended["peer"]["safety_number"]

    assert send(aws, azure, "hello")["result"] == "delivered"
    assert send(azure, aws, "hello too")["result"] == "delivered"
    assert (bodies(aws), bodies(azure)) == (["hello too"], ["hello"])

    code, error = refused(azure, "introduce", opened["invitation"], "--timeout", "5")
    assert (code, error.code) == (6, "no-answer")

    plain = opened["code"].replace("-", "")
    for file in stage.directory.rglob("*"):
        if file.is_file():
            raw = file.read_bytes()
            assert opened["code"].encode() not in raw, file
            assert plain.encode() not in raw, file


def test_members_of_one_network_meet_without_believing_its_names(stage: Stage) -> None:
    aws, azure = stage.started("aws", "azure")
    opened = accepted(aws, "introduce", "--no-wait", "--ask")
    assert accepted(azure, "introduce", f"{opened['code']}@aws")["trust"] == "requested"
    eventually(lambda: trust(aws, azure) == "pending", "the request arrives")
    assert "trusted" in said(aws, "approve", "azure")
    eventually(lambda: trust(azure, aws) == "trusted", "the answer arrives")


def test_slip_of_the_tongue_is_told_before_anything_is_sent(stage: Stage) -> None:
    (azure,) = lonely(stage, "azure")
    code, error = refused(azure, "introduce", "4567-89ab-cden@127.0.0.1:9")
    assert (code, error.code) == (2, "bad-code")


def test_interrupt_makes_the_code_worthless(stage: Stage) -> None:
    (aws,) = lonely(stage, "aws")
    waiting = begin(aws, "introduce", "--json")
    assert waiting.stdout is not None
    assert json.loads(waiting.stdout.readline())["data"]["state"] == "open"
    waiting.send_signal(signal.SIGINT)
    waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert aws.api.post("/v1/introduction/wait", wait=0).data["state"] == "closed"
