"""`make demo`: three agents meet, trust each other and talk, on this machine, in real processes.

Every step shows the command line that a person would type, runs exactly that, and checks what came of it. The
first step that does not hold ends the demo with exit code 1. Nothing is left behind: all files are in one
temporary directory, and every process is ended. The parts that are not steps are beside this file.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from scripts.demo.api import Api, ApiError, Events
from scripts.demo.checks import Failed, expect, expect_equal, until
from scripts.demo.display import Display
from scripts.demo.load import STREAM_SIZE, Sender, blocks, digest_of_blocks
from scripts.demo.processes import Stage, resident_megabytes

AWS, AZURE, GCP = "aws", "azure", "gcp"
NAMES = {AWS: "aws-orchestrator", AZURE: "azure-processor", GCP: "gcp-archive"}
TASK = '{"command":"process_batch","id":"8492"}'

SAMPLES = 50
MANY_MESSAGES = 2_000
CRASH_MESSAGES = 600
KILL_AFTER = 150
"""Deliveries before the kill: early enough that the rest is still on its way."""


class Demo:
    """What the steps share. Each step is a method; its docstring is what the reader of the demo is told."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.display = stage.display
        self.api: dict[str, Api] = {machine: stage.api(machine) for machine in NAMES}
        self.figures: list[tuple[str, str, str]] = []
        self.ticket = ""

    def steps(self) -> list[tuple[str, Callable[[], None]]]:
        return [
            ("A rendezvous", self.start_rendezvous),
            ("Three agents", self.start_daemons),
            ("aws asks azure for trust", self.ask),
            ("azure compares and approves", self.approve),
            ("aws and gcp ask each other", self.ask_mutually),
            ("A message", self.send_message),
            ("First relayed, then direct", self.show_path),
            ("100 MB through a stream", self.stream),
            ("Many messages", self.send_many),
            ("The rendezvous is killed", self.lose_rendezvous),
            ("The rendezvous comes back", self.restart_rendezvous),
            ("An agent is killed while messages are on their way", self.crash),
            ("The end", self.stop),
        ]

    def start_rendezvous(self) -> None:
        """A rendezvous helps agents find each other, and relays for them until they have a direct path. It
        is trusted with nothing: what it relays is encrypted end to end. The line it prints is the network's
        ticket."""
        self.ticket = self.stage.rendezvous("--listen", "127.0.0.1:0")

    def start_daemons(self) -> None:
        """Three agents, as if each were on a machine of its own: "aws $" stands for COVEY_PROFILE=aws, and
        COVEY_NETWORK holds the ticket. Each makes its own keys; its permanent address follows from them."""
        times = []
        for machine, name in NAMES.items():
            began = time.perf_counter()
            self.stage.covey(machine, "daemon", "start", "--hostname", name, COVEY_NETWORK=self.ticket)
            times.append(time.perf_counter() - began)
            expect_equal("the agent's name", name, self.api[machine].status()["name"])
        self._await_rendezvous()
        self.measured("agent started", milliseconds(times), "covey daemon start, until it serves, median of 3")
        self._measure_memory("daemon memory, new")

    def ask(self) -> None:
        """Nobody can talk to an agent that does not trust it. aws asks azure for trust, and nothing but that
        question gets through. Both sides are shown the same safety number."""
        with Events(self.api[AZURE]) as events:
            began = time.time()
            self.stage.covey(AWS, "handshake", NAMES[AZURE])
            asked = events.expect("aws's request at azure", "trust.changed", state="pending")
        expect_equal("aws's view of azure", "requested", self.api[AWS].peer(NAMES[AZURE])["trust"])
        self.measured("first contact", milliseconds([asked - began]), "covey handshake, until the other side is asked")

    def approve(self) -> None:
        """The owners compare the safety numbers, over the phone for example: equal numbers mean that nobody
        is in between. Here the demo compares them. Until azure approves, everything goes over the
        rendezvous, so that no stranger learns an IP address."""
        self.stage.covey(AZURE, "pending")
        self.stage.covey(AWS, "trust", NAMES[AZURE])
        there, here = self.api[AZURE].peer(NAMES[AWS]), self.api[AWS].peer(NAMES[AZURE])
        expect_equal("azure's safety number", here["safety_number"], there["safety_number"])
        expect_equal("the path of a stranger", "relay", active_path(there))
        self.display.say(f"Both show {here['safety_number']}: equal.")
        with Events(self.api[AWS]) as events:
            began = time.time()
            self.stage.covey(AZURE, "approve", NAMES[AWS])
            trusted = events.expect("azure's approval at aws", "trust.changed", state="trusted")
            direct = events.expect("a direct path", "peer.path", direct=True)
        self.measured("trust", milliseconds([trusted - began]), "covey approve, until both sides trust")
        self.measured("direct path", milliseconds([direct - trusted]), "after that; relayed until then")

    def ask_mutually(self) -> None:
        """If both sides ask, both have said yes, and no approval is needed."""
        self.stage.covey(AWS, "handshake", NAMES[GCP])
        until("aws's request at gcp", lambda: bool(self.api[GCP].get("/v1/pending")["items"]))
        self.stage.covey(GCP, "handshake", NAMES[AWS])
        expect_equal("gcp's view of aws", "trusted", self.api[GCP].peer(NAMES[AWS])["trust"])
        until("aws to trust gcp", lambda: self.api[AWS].peer(NAMES[GCP])["trust"] == "trusted")

    def send_message(self) -> None:
        """It says "delivered" once the message is on the other side's disk. Were azure away, it would say
        "queued", and the message would be sent again until it is there, once."""
        output = self.stage.covey(AWS, "send-message", NAMES[AZURE], "--data", TASK, "--type", "json")
        expect(output.startswith("delivered"), "`delivered`", output)
        self.stage.covey(AZURE, "inbox")
        arrived = [(each["sender_name"], each["type"], each["body"]) for each in self.api[AZURE].inbox()]
        expect_equal("azure's inbox", [(NAMES[AWS], "json", TASK)], arrived)
        times = [self._send(AWS, GCP, f"number {number}") for number in range(SAMPLES)]
        self.measured("message", milliseconds(times), f"on both disks and confirmed, median of {SAMPLES}")

    def show_path(self) -> None:
        """The first packets went over the rendezvous, so that nobody had to wait; as soon as there was trust
        the two found a direct path. Both stay open, and the better one carries the data."""
        self.stage.covey(AWS, "peers")
        self.stage.covey(AWS, "ping", NAMES[AZURE], "--count", "3", "--interval", "0.1")
        peer = self.api[AWS].peer(NAMES[AZURE])
        expect_equal("the path in use", "direct", active_path(peer))
        expect(sent_bytes(peer, "relay") > 0, "the first bytes to have gone over the relay", "none went there")
        times = [self.api[AWS].post("/v1/ping", peer=NAMES[AZURE])["rtt_ms"] for _ in range(SAMPLES)]
        microseconds = f"{statistics.median(times) * 1000:.0f} µs"
        self.measured("round trip", microseconds, f"as covey ping tells it, median of {SAMPLES}")

    def stream(self) -> None:
        """A stream is a reliable pipe to a service of a peer; programs attach to it on a Unix socket. The
        service `sink` swallows what comes and answers with its SHA-256, so nothing can be lost or changed
        unnoticed."""
        seconds = self._pour(AWS, GCP)
        peer = self.api[AWS].peer(NAMES[GCP])
        self.display.say(
            f"{STREAM_SIZE:,} bytes in {seconds:.2f} s, SHA-256 equal. gcp was sent since the start: "
            f"directly {sent_bytes(peer, 'direct'):,} bytes, by rendezvous {sent_bytes(peer, 'relay'):,}."
        )
        gigabits = f"{STREAM_SIZE * 8 / seconds / 1e9:.2f} Gbit/s"
        self.measured("100 MB stream", gigabits, "one stream, program to program through two daemons")
        self._measure_memory("daemon memory, then")

    def send_many(self) -> None:
        """Messages in bulk, one per line of a file. They are written to both disks like any other."""
        file = self.stage.home / "lines.txt"
        file.write_text("".join(f"line {number}\n" for number in range(MANY_MESSAGES)))
        before = len(self.api[GCP].inbox())
        began = time.perf_counter()
        output = self.stage.covey(AWS, "send-message", NAMES[GCP], "--lines", str(file))
        seconds = time.perf_counter() - began
        expect(f"{MANY_MESSAGES} delivered" in output, f"{MANY_MESSAGES} delivered", output)
        arrived = [message["body"] for message in self.api[GCP].inbox()[before:]]
        expect(arrived == file.read_text().splitlines(), "every line once, in order", f"{len(arrived)} messages")
        rate = f"{MANY_MESSAGES / seconds:,.0f} /s"
        self.measured("messages", rate, f"{MANY_MESSAGES:,} lines on both disks, the command's start included")
        times = [self._time_status() for _ in range(7)]
        self.measured("a command's answer", milliseconds(times), "covey status, median of 7")

    def lose_rendezvous(self) -> None:
        """Agents that trust each other do not need it: messages and streams go on without a rendezvous."""
        self.stage.kill("rendezvous")
        output = self.stage.covey(AWS, "send-message", NAMES[AZURE], "--data", "no rendezvous, no matter")
        expect(output.startswith("delivered"), "`delivered`", output)
        seconds = self._pour(AWS, GCP)
        self.display.say(f"And {STREAM_SIZE:,} bytes through a stream to gcp in {seconds:.2f} s, SHA-256 equal.")

    def restart_rendezvous(self) -> None:
        """It finds its port and identity on its disk, so that the ticket stays valid, and the agents return
        by themselves."""
        expect_equal("the ticket", self.ticket, self.stage.rendezvous())
        self._await_rendezvous()

    def crash(self) -> None:
        """aws sends without a pause; azure is killed in the middle, with no chance to say goodbye, and is
        started again. What was on its way is sent again, and what had arrived is recognised: every message
        is there once, in order."""
        before = len(self.api[AZURE].inbox())
        bodies = [f"task {number}" for number in range(CRASH_MESSAGES)]
        sender = Sender(self.api[AWS], NAMES[AZURE], bodies)
        with Events(self.api[AWS]) as events:
            sender.start()
            events.wait_count("message.delivered", KILL_AFTER)
            self.stage.kill(AZURE)
            killed = time.time()
            delivered = events.count("message.delivered")
            expect(delivered < CRASH_MESSAGES, "messages on their way at the kill", "all had arrived")
            self.stage.covey(AZURE, "daemon", "start")
            started = self.api[AZURE].status()["started"]
            again = events.expect("deliveries after the restart", "message.delivered", since=started)
            events.wait_count("message.delivered", CRASH_MESSAGES)
        sender.join()
        expect(not sender.problem, "aws's daemon to take every message", sender.problem)
        arrived = [message["body"] for message in self.api[AZURE].inbox()[before:]]
        lost, twice = len(set(bodies) - set(arrived)), len(arrived) - len(set(arrived))
        order = "order kept" if arrived == sorted(arrived, key=bodies.index) else "out of order"
        found = f"{len(arrived)} messages: {lost} lost, {twice} twice, {order}"
        expect(arrived == bodies, f"all {CRASH_MESSAGES} messages once, in order", found)
        self.display.say(f"When azure died, {delivered} of {CRASH_MESSAGES} were delivered. Its inbox has {found}.")
        self.measured("recovery", milliseconds([again - killed]), "kill -9, start, until the next delivery")

    def stop(self) -> None:
        """To stop is to finish what is under way. Identity, trust and messages stay on disk for the next
        start."""
        for machine in NAMES:
            self.stage.covey(machine, "daemon", "stop")
            expect(self.stage.holder(machine) is None, f"{machine}'s daemon to be gone", "it still runs")

    def measured(self, what: str, value: str, how: str) -> None:
        self.figures.append((what, value, how))

    def _await_rendezvous(self) -> None:
        for machine, api in self.api.items():

            def online(api: Api = api) -> bool:
                return all(each["connected"] for each in api.status()["rendezvous"])

            until(f"{machine} to be connected to the rendezvous", online)

    def _send(self, sender: str, recipient: str, body: str) -> float:
        """Seconds until it was delivered."""
        sent = self.api[sender].post("/v1/messages", peer=NAMES[recipient], body=body)
        expect_equal("the message's result", "delivered", sent["result"])
        return float(sent["elapsed_ms"]) / 1000

    def _pour(self, sender: str, recipient: str) -> float:
        """Seconds for 100 MB, from the first byte until the receipt was back."""
        expected = digest_of_blocks()
        size, digest, seconds = self.api[sender].pour(NAMES[recipient], blocks())
        expect_equal("the number of bytes received", STREAM_SIZE, size)
        expect_equal("the SHA-256 of what was received", expected.hex(), digest.hex())
        return seconds

    def _time_status(self) -> float:
        began = time.perf_counter()
        self.stage.quietly(AWS, "status")
        return time.perf_counter() - began

    def _measure_memory(self, what: str) -> None:
        sizes = [resident_megabytes(api.status()["pid"]) for api in self.api.values()]
        known = [size for size in sizes if size is not None]
        if known:
            self.measured(what, f"{max(known):.0f} MB", "resident, the largest of the three")


def milliseconds(seconds: list[float]) -> str:
    """The median."""
    value = statistics.median(seconds) * 1000
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def active_path(peer: dict[str, Any]) -> str:
    return next((path["kind"] for path in peer["paths"] if path["active"]), "none")


def sent_bytes(peer: dict[str, Any], kind: str) -> int:
    return sum(path["sent_bytes"] for path in peer["paths"] if path["kind"] == kind)


def run(stage: Stage) -> int:
    """All steps; 1 at the first that fails."""
    display, demo = stage.display, Demo(stage)
    steps = demo.steps()
    load = f"{os.getloadavg()[0]:.1f}"  # of others, before our own
    began = time.monotonic()
    for number, (title, step) in enumerate(steps, 1):
        display.title(f"{number}/{len(steps)}  {title}")
        display.say(" ".join((step.__doc__ or "").split()))
        step_began = time.monotonic()
        try:
            step()
        except BrokenPipeError:
            raise  # nobody reads us any more
        except (Failed, ApiError, OSError) as error:
            problem = error if isinstance(error, Failed) else Failed("an answer of the daemon", str(error))
            display.failed(f"step {number}: {title}", problem.expected, problem.instead)
            display.line(f"  logs:     {stage.keep_logs()}")
            return 1
        display.passed(time.monotonic() - step_began)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, load {load} before"
    display.title(f"Measured here ({machine}; Python {platform.python_version()}; loopback)")
    display.table(demo.figures)
    display.line(f"\nall {len(steps)} steps passed in {time.monotonic() - began:.0f} s")
    return 0


def main() -> int:
    stage = Stage(Display())
    try:
        stage.open()
        return run(stage)
    except KeyboardInterrupt:
        stage.display.line("\ninterrupted; everything that was started is being ended")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    finally:
        stage.close()


if __name__ == "__main__":
    sys.exit(main())
