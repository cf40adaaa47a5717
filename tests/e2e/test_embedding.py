"""`covey.Node` in a program of the user's own, talking to a daemon."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from tests.e2e.stage import Agent, Stage, accepted, eventually, trust

README = Path(__file__).parents[2] / "README.md"

PROGRAM = """
import asyncio
import sys

import covey


async def main() -> None:
    async with covey.Node("aws-orchestrator", network=sys.argv[1]) as node:
        await node.handshake("azure", reason="the example", wait=20)
        print((await node.send("azure", {"command": "process_batch", "id": "8492"})).result, flush=True)
        async for message in node.inbox():
            print(message.sender_name, message.body, flush=True)
            break
        stream = await node.open("azure", "sink")
        await stream.write(b"12345")
        await stream.finish()
        print(int.from_bytes((await stream.read_exactly(40))[:8], "big"), flush=True)


asyncio.run(main())
"""


def test_program_with_a_node_of_its_own_talks_to_a_daemon(stage: Stage) -> None:
    (azure,) = stage.started("azure")
    script = stage.agent("script", "aws-orchestrator")  # its files and environment; no daemon of it ever runs
    with _running(PROGRAM, script) as program:
        try:
            eventually(lambda: trust(azure, script) == "pending", "it asks")
            accepted(azure, "approve", "aws-orchestrator")
            (message,) = eventually(lambda: accepted(azure, "inbox")["items"], "its message arrives")
            assert json.loads(message["body"]) == {"command": "process_batch", "id": "8492"}
            sent = accepted(azure, "send-message", "aws-orchestrator", "--data", "done")
            assert sent["result"] == "delivered"
            output, errors = program.communicate(timeout=20)
        finally:
            program.kill()
    assert (program.returncode, errors) == (0, "")
    assert output.splitlines() == ["delivered", "azure done", "5"]


def test_example_of_the_readme_does_what_it_says(stage: Stage) -> None:
    example = README.read_text().split("```python\n", 1)[1].split("```", 1)[0]
    (aws,) = stage.started("aws-orchestrator")
    worker = stage.agent("worker", "gcp-worker", COVEY_NETWORK=aws.ticket)
    with _running(example, worker) as program:
        try:
            eventually(lambda: trust(aws, worker) == "pending", "it asks")
            accepted(aws, "approve", "gcp-worker")
            accepted(aws, "send-message", "gcp-worker", "--data", '{"id": "8492"}', "--type", "json")
            (answer,) = eventually(lambda: accepted(aws, "inbox")["items"], "it answers")
            assert json.loads(answer["body"]) == {"done": "8492"}
            program.send_signal(signal.SIGINT)
            output, errors = program.communicate(timeout=20)
        finally:
            program.kill()
    assert (program.returncode, errors) == (0, "")
    assert "task 8492 from aws-orchestrator" in output


def _running(program: str, agent: Agent) -> subprocess.Popen[str]:
    """A Python program with an agent's environment, warnings as errors; its argument is the ticket."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, agent.ticket],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=agent.environment,
    )
