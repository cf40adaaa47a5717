"""One run: set up, send and kill, drain, check."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from scripts.kill_test.checks import Checks
from scripts.kill_test.client import Client
from scripts.kill_test.killer import Killer
from scripts.kill_test.plan import LANES, Plan, Result
from scripts.kill_test.stage import Stage
from scripts.processes import Gone, eventually

__all__ = ["Round", "run"]

DRAIN_SECONDS: Final = 120.0
"""From the last restart until both outboxes must be empty."""


class Round:
    """One run: set up, send and kill, drain, check."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.result = Result(plan.seed)
        self.ended = threading.Event()
        self._say = say
        self._lock = threading.Lock()
        directory = Path(tempfile.mkdtemp(prefix="covey-kill-"))
        self.stage = Stage(directory)
        self.killer = Killer(self.stage, plan, self.result, self.violation)
        self.begun = 0.0
        self._threads: list[threading.Thread] = []

    def violation(self, text: str) -> None:
        with self._lock:
            self.result.violations.append(text)
        self.stage.log(f"VIOLATION {text}")
        if len(self.result.violations) > 50:
            self.ended.set()

    def count(self, what: str, number: int) -> None:
        with self._lock:
            self.result.counts[what] += number

    def run(self) -> Result:
        result = self.result
        try:
            self.stage.set_up()
            self.begun = time.monotonic()
            clients = self._send()
            result.seconds = time.monotonic() - self.begun
            self._drain()
            checks = Checks(self.stage, result, self.violation, self.count)
            checks.check([message for client in clients for message in client.ledger])
        except (AssertionError, Gone, RuntimeError) as error:
            self.violation(f"{type(error).__name__}: {error}")
        finally:
            with _uninterrupted():
                self.ended.set()
                self.killer.stop()
                for thread in self._threads:
                    thread.join()  # before the end: one of them may be about to start a daemon
                self.stage.end()
                self._clean_up()
        return result

    def _send(self) -> list[Client]:
        shares = _shares(self.plan.messages, 2 * LANES)
        places = [(side, lane) for side in "AB" for lane in range(LANES)]
        clients = [Client(self, *place, share) for place, share in zip(places, shares, strict=True)]
        threads = [threading.Thread(target=client.run, daemon=True) for client in clients]
        self.killer.start()
        for thread in threads:
            thread.start()
            self._threads.append(thread)
        last = 0.0
        while any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(0.1)
            if time.monotonic() - last > 5:
                last = time.monotonic()
                self._progress(clients)
        self.killer.stop()
        self._progress(clients)
        return clients

    def _progress(self, clients: list[Client]) -> None:
        sent = sum(len(client.ledger) for client in clients)
        kills = sum(self.result.kills.values())
        seconds = time.monotonic() - self.begun
        self._say(f"  {seconds:5.1f} s  {sent:5} of {self.plan.messages} sent  {kills:3} kills")

    def _drain(self) -> None:
        """Everything runs; both outboxes become empty."""
        begun = time.monotonic()
        for name in self.stage.victims:
            self.killer.restart(name)
        for name, agent in self.stage.agents.items():
            eventually(
                lambda agent=agent: agent.api.get("/v1/status").data["outbox_queued"] == 0,
                f"{name}'s outbox is empty",
                DRAIN_SECONDS,
                0.05,
            )
        self.result.drain_seconds = time.monotonic() - begun
        self.stage.is_down("R1")  # closes the last stretch
        self.result.together = self.stage.seconds_together()

    def _clean_up(self) -> None:
        if self.result.violations or self.plan.keep:
            self.result.kept = self.stage.directory
        else:
            shutil.rmtree(self.stage.directory, ignore_errors=True)


def run(plan: Plan, say: Callable[[str], None] = print) -> Result:
    """One round. Leaves nothing running, also when it is interrupted."""
    return Round(plan, say).run()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """A second Ctrl-C must not cut the cleaning up that the first began."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _shares(total: int, parts: int) -> list[int]:
    return [total // parts + (part < total % parts) for part in range(parts)]
