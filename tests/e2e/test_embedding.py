"""`covey.Node` in a program of the user's own, talking to a daemon: the example of the README."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.e2e.stage import Stage, accepted, eventually, trust

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
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, script.ticket],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=script.environment,
    ) as program:
        try:
            eventually(lambda: trust(azure, script) == "pending", "it asks")
            accepted(azure, "approve", "aws-orchestrator")
            (message,) = eventually(lambda: accepted(azure, "inbox")["items"], "its message arrives")
            assert json.loads(message["body"]) == {"command": "process_batch", "id": "8492"}
            assert (
                accepted(azure, "send-message", "aws-orchestrator", "--data", "done")["result"] == "delivered"
            )
            output, errors = program.communicate(timeout=20)
        finally:
            program.kill()
    assert (program.returncode, errors) == (0, "")
    assert output.splitlines() == ["delivered", "azure done", "5"]
