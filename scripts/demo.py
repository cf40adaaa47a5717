"""`make demo`: three agents meet, trust each other and talk, on this machine, in real processes.

Every step shows the command line that a person would type, runs exactly that, and checks what came of it.
The first step that does not hold ends the demo with exit code 1. Nothing is left behind: all files are in one
temporary directory, and every process is ended.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from demo.api import Api, ApiError, Events, sha256
from demo.display import Display
from demo.processes import Failed, Stage, resident_megabytes

AWS, AZURE, GCP = "aws", "azure", "gcp"
NAMES = {AWS: "aws-orchestrator", AZURE: "azure-processor", GCP: "gcp-archive"}
TASK = '{"command":"process_batch","id":"8492"}'

STREAM_BLOCKS, BLOCK_SIZE = 100, 1_000_000
MANY_MESSAGES = 2_000
CRASH_MESSAGES, CRASH_BATCH, KILL_AFTER = 600, 20, 150
SAMPLES = 50
PEOPLE_SECONDS = 20.0
"""Anything that should happen by itself happens within this time, or the step has failed."""


class Demo:
    """What the steps share. Each step is a method; its docstring is what the reader is told."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.display = stage.display
        self.api: dict[str, Api] = {machine: stage.api(machine) for machine in NAMES}
        self.figures: list[tuple[str, str, str]] = []
        self.ticket = ""
        self.rendezvous_pid = 0

    def steps(self) -> list[tuple[str, Callable[[], None]]]:
        return [
            ("A rendezvous", self.start_rendezvous),
            ("Three agents", self.start_daemons),
            ("aws asks azure for trust", self.ask),
            ("azure compares and approves", self.approve),
            ("aws and gcp ask each other", self.mutual),
            ("A message", self.message),
            ("First relayed, then direct", self.direct),
            ("100 MB through a stream", self.stream),
            ("Many messages", self.many),
            ("The rendezvous dies", self.lose_rendezvous),
            ("The rendezvous comes back", self.rendezvous_again),
            ("An agent is killed while messages are on their way", self.crash),
            ("The end", self.stop),
        ]

    def start_rendezvous(self) -> None:
        """A rendezvous helps agents find each other and relays for them until they have a direct path. It is
        trusted with nothing: what it relays is encrypted end to end. The line it prints is the network's ticket."""
        self.ticket = self.stage.rendezvous("--listen", "127.0.0.1:0")
        holder = self.stage.holder("rendezvous")
        expect(holder is not None, "a rendezvous process", "none")
        self.rendezvous_pid = holder or 0

    def start_daemons(self) -> None:
        """Three agents, as if each were on a machine of its own ("aws $" stands for COVEY_PROFILE=aws, and
        COVEY_NETWORK holds the ticket). Each makes its own keys; its permanent address follows from them."""
        times = []
        for machine, name in NAMES.items():
            began = time.perf_counter()
            self.stage.covey(machine, "daemon", "start", "--hostname", name, COVEY_NETWORK=self.ticket)
            times.append(time.perf_counter() - began)
            expect_equal("the agent's name", name, self.api[machine].status()["name"])
        for machine in NAMES:
            until(
                f"{machine} to be connected to the rendezvous", lambda machine=machine: self._online(machine)
            )
        self.measured(
            "agent started",
            f"{statistics.median(times) * 1000:.0f} ms",
            "covey daemon start, until it serves",
        )
        self._measure_memory("daemon memory, just started")

    def ask(self) -> None:
        """Nobody can talk to an agent that does not trust it. aws asks for trust; nothing but the question gets
        through. Both sides now see the same safety number."""
        with Events(self.api[AZURE]) as events:
            began = time.time()
            self.stage.covey(AWS, "handshake", NAMES[AZURE], "--reason", "the nightly batches")
            asked = events.wait(
                lambda event: event["event"] == "trust.changed" and event["state"] == "pending"
            )
        expect(asked is not None, "the request to arrive at azure", f"nothing in {PEOPLE_SECONDS:g} s")
        assert asked is not None
        expect_equal("aws's view of azure", "requested", self.api[AWS].peer(NAMES[AZURE])["trust"])
        self.measured(
            "first contact",
            f"{(asked['time'] - began) * 1000:.0f} ms",
            "covey handshake, until the other side has the request",
        )

    def approve(self) -> None:
        """The owners compare the safety numbers over the phone: equal numbers mean that nobody is in between. Here
        the demo compares. Until then everything goes over the rendezvous, so that no stranger learns an IP address."""
        self.stage.covey(AZURE, "pending")
        self.stage.covey(AWS, "trust", NAMES[AZURE])
        there, here = self.api[AZURE].peer(NAMES[AWS]), self.api[AWS].peer(NAMES[AZURE])
        expect_equal("azure's safety number", here["safety_number"], there["safety_number"])
        expect_equal("the path of a stranger", "relay", active_path(there)["kind"])
        self.display.say(f"Both show {here['safety_number']}: equal.")
        with Events(self.api[AWS]) as events:
            began = time.time()
            self.stage.covey(AZURE, "approve", NAMES[AWS])
            trusted = events.wait(
                lambda event: event["event"] == "trust.changed" and event["state"] == "trusted"
            )
            expect(
                trusted is not None, "aws to learn that azure approved", f"nothing in {PEOPLE_SECONDS:g} s"
            )
            direct = events.wait(lambda event: event["event"] == "peer.path" and event["direct"])
            expect(direct is not None, "a direct path after the approval", "none")
        assert trusted is not None and direct is not None
        self.measured(
            "trust", f"{(trusted['time'] - began) * 1000:.0f} ms", "covey approve, until both sides trust"
        )
        self.measured(
            "direct path",
            f"{(direct['time'] - trusted['time']) * 1000:.0f} ms",
            "after that; until then relayed",
        )

    def mutual(self) -> None:
        """If both sides ask, both have said yes: no approval is needed."""
        self.stage.covey(AWS, "handshake", NAMES[GCP])
        until("the request to arrive at gcp", lambda: bool(self.api[GCP].get("/v1/pending")["items"]))
        self.stage.covey(GCP, "handshake", NAMES[AWS])
        until("aws and gcp to trust each other", lambda: self.api[AWS].peer(NAMES[GCP])["trust"] == "trusted")
        expect_equal("gcp's view of aws", "trusted", self.api[GCP].peer(NAMES[AWS])["trust"])

    def message(self) -> None:
        """ "delivered" means that the message is on the other side's disk. Were azure away, it would say "queued" and
        go on trying until it has arrived, once."""
        output = self.stage.covey(AWS, "send-message", NAMES[AZURE], "--data", TASK, "--type", "json")
        expect(output.startswith("delivered"), "`delivered`", output)
        self.stage.covey(AZURE, "inbox")
        arrived = self.api[AZURE].inbox()
        expect_equal(
            "azure's inbox",
            [(NAMES[AWS], "json", TASK)],
            [(m["sender_name"], m["type"], m["body"]) for m in arrived],
        )
        times = [self._send(AWS, GCP, f"number {number}")["elapsed_ms"] for number in range(SAMPLES)]
        self.measured(
            "message",
            f"{statistics.median(times):.1f} ms",
            f"stored on both disks and confirmed, median of {SAMPLES}",
        )

    def direct(self) -> None:
        """The first packets went over the rendezvous, so nobody waited; meanwhile the two found a direct path. Both
        stay open, and the better one carries the data."""
        self.stage.covey(AWS, "peers")
        self.stage.covey(AWS, "ping", NAMES[AZURE], "--count", "3", "--interval", "0.1")
        peer = self.api[AWS].peer(NAMES[AZURE])
        expect_equal("the path in use", "direct", active_path(peer)["kind"])
        relayed = sum(path["sent_bytes"] for path in peer["paths"] if path["kind"] == "relay")
        expect(relayed > 0, "bytes that went over the relay first", "none")
        times = [self.api[AWS].post("/v1/ping", peer=NAMES[AZURE])["rtt_ms"] for _ in range(SAMPLES)]
        self.measured(
            "round trip",
            f"{statistics.median(times) * 1000:.0f} µs",
            f"covey ping, between the daemons, median of {SAMPLES}",
        )

    def stream(self) -> None:
        """A stream is a reliable pipe to a service of a peer; a program attaches to it on a Unix socket. The service
        `sink` swallows the bytes and answers with their SHA-256, so nothing can be lost or changed unnoticed."""
        seconds = self._pour(AWS, GCP)
        size = STREAM_BLOCKS * BLOCK_SIZE
        gigabits = size * 8 / seconds / 1e9
        paths = {path["kind"]: path["sent_bytes"] for path in self.api[AWS].peer(NAMES[GCP])["paths"]}
        self.display.say(
            f"{size:,} bytes in {seconds:.2f} s, SHA-256 equal; over the direct path {paths['direct']:,} bytes, "
            f"over the rendezvous {paths.get('relay', 0):,} since the start."
        )
        self.measured(
            "100 MB stream", f"{gigabits:.2f} Gbit/s", "one stream through two daemons, encrypted, one way"
        )
        self._measure_memory("daemon memory, after it")

    def many(self) -> None:
        """Messages in bulk: one per line of a file. They are written to both disks like any other."""
        file = self.stage.home / "lines"
        file.write_text("".join(f"line {number}\n" for number in range(MANY_MESSAGES)))
        before = len(self.api[GCP].inbox())
        began = time.perf_counter()
        output = self.stage.covey(AWS, "send-message", NAMES[GCP], "--lines", str(file))
        seconds = time.perf_counter() - began
        expect(f"{MANY_MESSAGES} delivered" in output, f"{MANY_MESSAGES} delivered", output)
        arrived = [message["body"] for message in self.api[GCP].inbox()[before:]]
        expect(
            arrived == file.read_text().splitlines(), "every line once, in order", f"{len(arrived)} messages"
        )
        self.measured(
            "messages",
            f"{MANY_MESSAGES / seconds:,.0f} /s",
            f"{MANY_MESSAGES:,} lines, stored on both disks, command included",
        )
        times = [self._timed_status() for _ in range(7)]
        self.measured(
            "a command's answer",
            f"{statistics.median(times) * 1000:.0f} ms",
            "covey status, from return to prompt, median of 7",
        )

    def lose_rendezvous(self) -> None:
        """Who trusts each other already does not need the rendezvous: messages and streams go on without it."""
        self.stage.kill("anywhere", self.rendezvous_pid)
        output = self.stage.covey(
            AWS, "send-message", NAMES[AZURE], "--data", "the rendezvous is dead, we go on"
        )
        expect(output.startswith("delivered"), "`delivered`", output)
        seconds = self._pour(AWS, GCP)
        self.display.say(
            f"And {STREAM_BLOCKS * BLOCK_SIZE:,} bytes through a stream to gcp in {seconds:.2f} s, SHA-256 equal."
        )

    def rendezvous_again(self) -> None:
        """It takes its port and identity from disk, so that the ticket stays valid. The agents return by themselves."""
        ticket = self.stage.rendezvous()
        expect_equal("the ticket", self.ticket, ticket)
        for machine in NAMES:
            until(
                f"{machine} to be connected to the rendezvous", lambda machine=machine: self._online(machine)
            )

    def crash(self) -> None:
        """aws sends without a pause; azure is killed in the middle, with no chance to say goodbye, and started again.
        What was under way is sent again, what had arrived is recognised: each message is there once, in order."""
        before = len(self.api[AZURE].inbox())
        bodies = [f"task {number}" for number in range(CRASH_MESSAGES)]
        sending = Sender(self.api[AWS], NAMES[AZURE], bodies)
        with Events(self.api[AWS]) as events:
            sending.start()
            events.wait_count("message.delivered", KILL_AFTER)
            pid = self.api[AZURE].status()["pid"]
            self.stage.kill(AZURE, pid)
            killed = time.time()
            delivered = events.wait_count("message.delivered", 0)
            self.stage.covey(AZURE, "daemon", "start")
            first = events.wait(
                lambda event: event["event"] == "message.delivered" and event["time"] > killed
            )
            sending.join()
            events.wait_count("message.delivered", CRASH_MESSAGES)
        expect(not sending.problem, "aws's daemon to accept every message", sending.problem)
        expect(delivered < CRASH_MESSAGES, "messages still under way at the kill", "all had arrived")
        expect(first is not None, "messages to arrive again", f"none in {PEOPLE_SECONDS:g} s")
        assert first is not None
        until("the outbox to be empty", lambda: self.api[AWS].status()["outbox_queued"] == 0)
        arrived = [message["body"] for message in self.api[AZURE].inbox()[before:]]
        lost, twice = len(set(bodies) - set(arrived)), len(arrived) - len(set(arrived))
        expect(
            arrived == bodies,
            "every message once, in order",
            f"{lost} lost, {twice} twice, in order: {arrived == sorted(arrived, key=bodies.index)}",
        )
        self.display.say(
            f"{delivered} of {CRASH_MESSAGES} had been delivered when azure died. Now its inbox has all "
            f"{len(arrived)}: {lost} lost, {twice} twice, order kept."
        )
        self.measured(
            "recovery",
            f"{(first['time'] - killed) * 1000:.0f} ms",
            "kill -9 until the next delivery, start of the daemon included",
        )

    def stop(self) -> None:
        """Stopping finishes what is under way; identity, trust and messages stay on disk for the next start."""
        for machine in NAMES:
            self.stage.covey(machine, "daemon", "stop")
            expect(self.stage.holder(machine) is None, f"{machine}'s daemon to be gone", "it still runs")

    def measured(self, what: str, value: str, how: str) -> None:
        self.figures.append((what, value, how))

    def _online(self, machine: str) -> bool:
        return all(each["connected"] for each in self.api[machine].status()["rendezvous"])

    def _send(self, sender: str, recipient: str, body: str) -> dict[str, Any]:
        sent: dict[str, Any] = self.api[sender].post("/v1/messages", peer=NAMES[recipient], body=body)
        expect_equal("the message's result", "delivered", sent["result"])
        return sent

    def _pour(self, sender: str, recipient: str) -> float:
        expected = sha256(blocks())
        size, digest, seconds = self.api[sender].pour(NAMES[recipient], "sink", blocks)
        expect_equal("bytes received", STREAM_BLOCKS * BLOCK_SIZE, size)
        expect_equal("the SHA-256 of what was received", expected.hex(), digest.hex())
        return seconds

    def _timed_status(self) -> float:
        began = time.perf_counter()
        self.stage.quietly(AWS, "status")
        return time.perf_counter() - began

    def _measure_memory(self, what: str) -> None:
        sizes = [resident_megabytes(self.api[machine].status()["pid"]) for machine in NAMES]
        known = [size for size in sizes if size is not None]
        if known:
            self.measured(what, f"{max(known):.0f} MB", "resident, the largest of the three")


class Sender(threading.Thread):
    """Hands messages to a daemon, in batches, without waiting for their delivery."""

    def __init__(self, api: Api, peer: str, bodies: list[str]) -> None:
        super().__init__(daemon=True)
        self._api, self._peer, self._bodies = api, peer, bodies
        self.problem = ""

    def run(self) -> None:
        try:
            for begin in range(0, len(self._bodies), CRASH_BATCH):
                messages = [{"body": body} for body in self._bodies[begin : begin + CRASH_BATCH]]
                self._api.post("/v1/messages/batch", peer=self._peer, messages=messages, wait=0)
        except (ApiError, OSError) as error:
            self.problem = str(error)


def blocks() -> Iterator[bytes]:
    """The 100 MB: no two blocks are equal, so that the hash also tells their order."""
    rest = SEED * (BLOCK_SIZE // len(SEED))
    for number in range(STREAM_BLOCKS):
        yield number.to_bytes(8, "big") + rest[8:]


SEED = os.urandom(1000)


def active_path(peer: dict[str, Any]) -> dict[str, Any]:
    return next((path for path in peer["paths"] if path["active"]), {"kind": "none"})


def expect(holds: bool, expected: str, instead: str) -> None:
    if not holds:
        raise Failed(expected, instead)


def expect_equal(what: str, expected: object, actual: object) -> None:
    expect(expected == actual, f"{what} to be {expected!r}", repr(actual))


def until(what: str, holds: Callable[[], bool]) -> None:
    """Look until it holds; `Failed` when the time is over."""
    deadline = time.monotonic() + PEOPLE_SECONDS
    pause = threading.Event()
    while not holds():
        if time.monotonic() > deadline:
            raise Failed(what, f"not within {PEOPLE_SECONDS:g} s")
        pause.wait(0.02)


def run(stage: Stage) -> int:
    """All steps; 1 at the first that fails."""
    display, demo = stage.display, Demo(stage)
    steps = demo.steps()
    began = time.monotonic()
    for number, (title, step) in enumerate(steps, 1):
        display.title(f"{number}/{len(steps)}  {title}")
        display.say(" ".join((step.__doc__ or "").split()))
        step_began = time.monotonic()
        try:
            step()
        except (Failed, ApiError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            failure = (
                error
                if isinstance(error, Failed)
                else Failed("an answer", f"{type(error).__name__}: {error}")
            )
            display.failed(f"step {number}, {title}", failure.expected, failure.instead)
            display.line(f"  logs:     {stage.keep_logs().resolve()}")
            return 1
        display.passed(time.monotonic() - step_began)
    display.title(
        f"Measured on this machine ({os.cpu_count()} CPUs, loopback, {platform.system()} {platform.release()}, Python {platform.python_version()})"
    )
    display.line()
    display.table(demo.figures)
    display.line(f"\nall {len(steps)} steps passed in {time.monotonic() - began:.0f} s")
    return 0


def main() -> int:
    display = Display()
    stage = Stage(display)
    try:
        stage.open()
        return run(stage)
    except KeyboardInterrupt:
        display.line("\ninterrupted; everything that was started is being ended")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    finally:
        stage.close()


if __name__ == "__main__":
    sys.exit(main())
