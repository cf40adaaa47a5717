"""`send-message --lines`: one message per line, in batches, with ids that make repeating it safe."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

import msgspec

from covey.base import errors
from covey.base.errors import CoveyError, LimitError, RefusedError, UsageError
from covey.base.schema import Items, MessageType, SendView
from covey.cli import bodies, render
from covey.cli.client import Client
from covey.cli.command import Call, Outcome

__all__ = ["BATCH_BYTES", "BATCH_MESSAGES", "LineSender", "Summary", "line_id"]

BATCH_MESSAGES = 256
"""Messages in one request; the API takes no more."""

BATCH_BYTES = 8 * 1024 * 1024
"""Bytes of bodies in one request; in base64 they stay below the API's 16 MiB."""


class Summary(msgspec.Struct, frozen=True):
    """What `--lines` prints as data."""

    sent: int
    delivered: int
    queued: int
    refused: int
    expired: int
    batch_id: str
    """Running the same command with `--id` of this value sends nothing twice."""


@dataclass
class _Tally:
    counts: dict[str, int] = field(default_factory=dict)
    reason: str = ""

    @property
    def sent(self) -> int:
        return sum(self.counts.values())

    def add(self, results: list[SendView]) -> None:
        for view in results:
            self.counts[view.result] = self.counts.get(view.result, 0) + 1
            self.reason = view.reason or self.reason

    def summary(self, batch_id: str) -> Summary:
        count = self.counts.get
        return Summary(
            sent=self.sent,
            delivered=count("delivered", 0),
            queued=count("queued", 0),
            refused=count("refused", 0),
            expired=count("expired", 0),
            batch_id=batch_id,
        )


class LineSender:
    """Sends the lines of a file in batches, in order, each with an id made from the batch's id and its
    number.

    A batch that ends entirely `queued` shows that the peer is away; those after it do not wait for
    deliveries.
    """

    def __init__(self, call: Call, peer: str, kind: MessageType, batch_id: str, ttl: float | None, wait: float) -> None:
        self._call = call
        self._peer = peer
        self._kind = kind
        self._batch_id = batch_id
        self._ttl = ttl
        self._wait = wait
        self._tally = _Tally()

    def send_all(self, file: BinaryIO, *, require_delivered: bool) -> Outcome:
        problem: CoveyError | None = None
        try:
            with self._call.client(at_least=self._wait) as client:
                for batch in self._batches(file):
                    self._send(client, batch)
        except CoveyError as error:
            problem = error
        finally:
            self._end_progress()
        summary = self._tally.summary(self._batch_id)
        problem = problem or self._problem(summary, require_delivered=require_delivered)
        if problem is not None and not problem.next_step:
            problem.next_step = f"correct it, then repeat with --id {self._batch_id}: nothing is sent twice"
        return Outcome(summary, partial(_show_summary, summary), error=problem)

    def _batches(self, file: BinaryIO) -> Iterator[list[tuple[int, bytes]]]:
        batch: list[tuple[int, bytes]] = []
        size = 0
        for number, body in bodies.read_lines(file):
            try:
                bodies.check_body(body, self._kind, where=f"line {number}")
            except (UsageError, LimitError):
                if batch:
                    yield batch
                raise
            if batch and (len(batch) == BATCH_MESSAGES or size + len(body) > BATCH_BYTES):
                yield batch
                batch, size = [], 0
            batch.append((number, body))
            size += len(body)
        if batch:
            yield batch

    def _send(self, client: Client, batch: list[tuple[int, bytes]]) -> None:
        answer = client.post(
            "/v1/messages/batch",
            Items[SendView],
            peer=self._peer,
            type=self._kind,
            messages=[
                {"body_b64": bodies.to_base64(body), "id": line_id(self._batch_id, number)} for number, body in batch
            ],
            ttl=self._ttl,
            wait=self._wait,
        )
        self._tally.add(answer.items)
        if all(view.result == "queued" for view in answer.items):
            self._wait = 0.0
        if sys.stderr.isatty():
            print(f"\r{self._tally.sent:,} sent", end="", file=sys.stderr, flush=True)

    def _end_progress(self) -> None:
        if sys.stderr.isatty() and self._tally.sent:
            print(file=sys.stderr)

    def _problem(self, summary: Summary, *, require_delivered: bool) -> CoveyError | None:
        if summary.refused:
            return RefusedError(
                f"{self._peer} refused {summary.refused} messages: {self._tally.reason or 'no reason given'}",
                code="message-refused",
            )
        if summary.expired:
            return errors.TimeoutError(f"{summary.expired} messages expired before they were delivered", code="expired")
        if summary.queued and require_delivered:
            return errors.TimeoutError(f"{summary.queued} messages are queued, not delivered", code="not-delivered")
        return None


def _show_summary(summary: Summary) -> None:
    parts = [f"{summary.sent} sent", f"{summary.delivered} delivered", f"{summary.queued} queued"]
    parts += [
        f"{count} {word}" for count, word in ((summary.refused, "refused"), (summary.expired, "expired")) if count
    ]
    render.line(", ".join(parts))


def line_id(batch_id: str, number: int) -> str:
    return hashlib.sha256(f"covey line 1\0{batch_id}\0{number}".encode()).hexdigest()[:32]
