"""How long each command of `covey` takes from pressing return to its end, against the budget of 250 ms.

    python benchmarks/cli_answer.py [--runs 15] [--budget-ms 250] [--json]

Whole processes, as a shell would start them: interpreter, imports, the daemon's answer, output. Two daemons
and a rendezvous run on this machine and trust each other; the peer is connected, as it usually is.
`python -c pass` is the floor that no command can go below. `daemon start` and `daemon stop` start and end a
process and are shown without a budget. A command is over the budget if its median is; then the exit status
is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.processes import Agent, RendezvousProcess, eventually

FREE = frozenset(("python -c pass", "daemon start", "daemon stop"))
"""Rows without a budget."""


def main() -> int:
    """The exit status."""
    options = parsed()
    with tempfile.TemporaryDirectory(prefix="covey-cli-") as directory:
        rendezvous = RendezvousProcess(Path(directory) / "rendezvous")
        agents: list[Agent] = []
        try:
            ticket = rendezvous.start()
            agents += [Agent(Path(directory), name, name, ticket) for name in ("aws", "azure", "gcp")]
            for agent in agents:
                agent.start()
            befriend(*agents[:2])
            rows = measure(agents[0], agents[1], agents[2], options.runs)
        finally:
            for process in (*agents, rendezvous):
                process.end()
    return report(rows, options.budget_ms, as_json=options.json)


def befriend(a: Agent, b: Agent) -> None:
    for one, other in ((a, b), (b, a)):
        eventually(lambda one=one, other=other: one.api.post("/v1/handshake", peer=other.name).ok, "it asks")
    eventually(lambda: b.api.post("/v1/messages", peer=a.name, body="hello").ok, "they trust each other")
    eventually(lambda: a.api.post("/v1/messages", peer=b.name, body="hello").ok, "they trust each other")


def measure(aws: Agent, azure: Agent, gcp: Agent, runs: int) -> dict[str, list[float]]:
    """Milliseconds of each run, by command."""
    commands: dict[str, tuple[str, ...]] = {
        "--help": ("--help",),
        "version": ("version",),
        "up": ("up",),
        "daemon status": ("daemon", "status"),
        "daemon logs": ("daemon", "logs"),
        "status": ("status",),
        "status --json": ("status", "--json"),
        "id": ("id",),
        "find": ("find", gcp.name),
        "peers": ("peers",),
        "pending": ("pending",),
        "handshake": ("handshake", gcp.name),
        "trust": ("trust", azure.name),
        "untrust": ("untrust", gcp.name),
        "ping": ("ping", azure.name, "--count", "1"),
        "send-message": ("send-message", azure.name, "--data", '{"a": 1}', "--type", "json"),
        "inbox": ("inbox",),
        "inbox show": ("inbox", "show", "NUMBER"),
        "inbox ack": ("inbox", "ack", "NUMBER"),
        "inbox clear": ("inbox", "clear"),
    }
    rows: dict[str, list[float]] = {"python -c pass": []}
    rows.update({name: [] for name in commands})
    rows.update({"approve": [], "reject": [], "daemon stop": [], "daemon start": []})
    for turn in range(runs):
        rows["python -c pass"].append(timed(lambda: run([sys.executable, "-c", "pass"], dict(os.environ))))
        azure.api.post("/v1/messages", peer=aws.name, body="hello")
        number = str(aws.api.get("/v1/inbox").data["items"][-1]["number"])
        for name, words in commands.items():
            given = [number if word == "NUMBER" else word for word in words]
            rows[name].append(timed(lambda given=given: covey(aws, *given)))
        if turn == 0:  # a stranger may ask three times at once, then once in 10 s
            for name in ("reject", "approve"):
                gcp.api.post("/v1/handshake", peer=aws.name)
                eventually(lambda: aws.api.get("/v1/pending").data["items"], "the request arrives")
                rows[name].append(timed(lambda name=name: covey(aws, name, gcp.name)))
            covey(aws, "untrust", gcp.name)
        rows["daemon stop"].append(timed(gcp.stop))
        rows["daemon start"].append(timed(gcp.start))
        eventually(lambda: aws.api.get(f"/v1/find/{gcp.name}").ok, "it is on the network again")
    return rows


def covey(agent: Agent, *words: str) -> None:
    run([str(Path(sys.executable).with_name("covey")), *words], agent.environment)


def run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")


def timed(call: Callable[[], None]) -> float:
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1000


def report(rows: dict[str, list[float]], budget: float, *, as_json: bool) -> int:
    over = [name for name, times in rows.items() if name not in FREE and statistics.median(times) > budget]
    if as_json:
        for name, times in rows.items():
            print(json.dumps({"command": name, "ms": [round(each, 1) for each in times]}))
        return 1 if over else 0
    print(f"{'command':<16} {'runs':>5} {'median ms':>10} {'90 % ms':>10} {'longest ms':>10}")
    for name, times in rows.items():
        ordered = sorted(times)
        figures = (statistics.median(ordered), ordered[int(0.9 * (len(ordered) - 1))], ordered[-1])
        mark = "  OVER" if name in over else ""
        print(f"{name:<16} {len(times):5} {' '.join(f'{each:10.0f}' for each in figures)}{mark}")
    print(f"{len(rows) - len(FREE)} commands, budget {budget:.0f} ms, {len(over)} over it")
    return 1 if over else 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=15, help="of each command (15)")
    parser.add_argument("--budget-ms", type=float, default=250.0, help="for the median (250)")
    parser.add_argument("--json", action="store_true", help="one object per command")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
