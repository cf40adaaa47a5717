"""`tests/vectors/conformance.json`, numbered cases for every implementation, and what this one does in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from covey.base.errors import ParseError, VerifyError
from covey.core.events import StreamOffered, StreamReset
from covey.core.stream import Stream
from covey.crypto.certificates import Delegation, TransportCertificate
from covey.crypto.events import KeyLog
from covey.crypto.mailbox import MailboxKey
from covey.crypto.record import Record
from covey.wire import introduction
from covey.wire.datagram import Initiation, Response
from covey.wire.frames import (
    CRYPTO,
    CRYPTO_HEAD,
    AckFrame,
    CloseFrame,
    CryptoFrame,
    LimitFrame,
    PathFrame,
    ResetFrame,
    encode_limit,
    encode_path,
    encode_reset,
)
from covey.wire.handshake import HandshakePayload
from scripts.conformance_vectors import suite
from scripts.protocol_vectors import Side
from tests.core.mallory import Heard, Lone

FILE = Path(__file__).parents[1] / "vectors/conformance.json"
ACK_SECONDS = 0.006
"""An acknowledgement may wait 5 ms."""

STRUCTURES: dict[str, Callable[[bytes], object]] = {
    "initiation": Initiation.parse,
    "response": Response.parse,
    "payload": HandshakePayload.parse,
    "log": KeyLog.parse,
    "delegation": Delegation.parse,
    "certificate": TransportCertificate.parse,
    "record": Record.parse,
    "mailbox-key": MailboxKey.parse,
    "greeting": introduction.Greeting.parse,
    "reply": introduction.Reply.parse,
    "proof": introduction.Proof.parse,
    "confirmation": introduction.Confirmation.parse,
}


@cache
def cases() -> dict[str, dict[str, Any]]:
    return {each["id"]: each for each in json.loads(FILE.read_text())["cases"]}


class Run:
    """A case against this implementation: what it delivered, sent and did."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.expect = case["expect"]
        self.lone = Lone()
        self.heard: list[Heard] = self.lone.wait(ACK_SECONDS)  # the acknowledgement of the PING that confirmed it
        self.heard.clear()
        self.lone.events.clear()
        self.streams: dict[int, Stream] = {}
        self.read: dict[int, bytes] = {}
        for step in case["steps"]:
            self.lone.deliver(bytes.fromhex(step["receive"]))
            self._program()
            self.heard += self.lone.heard()
        self.heard += self.lone.wait(ACK_SECONDS)

    def _program(self) -> None:
        """Accepts every stream and, unless the case says otherwise, reads at once."""
        for event in self.lone.events:
            if isinstance(event, StreamOffered):
                self.streams.setdefault(event.stream.id, event.stream)
        if self.expect.get("reads", True):
            for number, stream in self.streams.items():
                self.read[number] = self.read.get(number, b"") + stream.read()

    def frames(self, kind: type) -> list[Any]:
        return [frame for each in self.heard for frame in each.frames if isinstance(frame, kind)]

    def acknowledged(self) -> dict[str, list[list[int]]]:
        """The last acknowledgement of each path."""
        return {str(frame.path): [list(each) for each in frame.ranges] for frame in self.frames(AckFrame)}

    def written(self) -> list[str]:
        """The frames that a case may ask for."""
        limits = [encode_limit(each.kind, each.stream, each.limit) for each in self.frames(LimitFrame)]
        resets = [encode_reset(each.stream, each.code, each.final) for each in self.frames(ResetFrame)]
        answers = [encode_path(each.kind, each.data) for each in self.frames(PathFrame)]
        crypto = [CRYPTO_HEAD.pack(CRYPTO, e.offset, len(e.data)) + e.data for e in self.frames(CryptoFrame)]
        return [each.hex() for each in (*limits, *resets, *answers, *crypto)]


def check(run: Run) -> None:
    expect, lone = run.expect, run.lone
    assert lone.session.ended is expect["over"]
    closes = [frame.code for frame in run.frames(CloseFrame)]
    assert closes == ([expect["closed"]] if "closed" in expect else [])
    delivered = [
        {"stream": n, "service": s.service, "bytes": run.read.get(n, b"").hex(), "end": s.at_end}
        for n, s in run.streams.items()
    ]
    if "delivered" in expect:
        assert delivered == expect["delivered"]
    if "waiting" in expect:
        assert {str(n): s.incoming.available for n, s in run.streams.items()} == expect["waiting"]
    if "reset" in expect:
        resets = {str(each.stream.id): each.code for each in lone.events if isinstance(each, StreamReset)}
        assert resets == expect["reset"]
    if "acknowledged" in expect:
        assert run.acknowledged() == expect["acknowledged"]
    for path, counters in expect.get("not_acknowledged", {}).items():
        for counter in counters:
            assert not any(low <= counter <= high for low, high in run.acknowledged().get(path, []))
    if expect.get("dropped"):
        assert (delivered, run.heard, lone.events) == ([], [], [])
    if expect.get("sends_nothing"):
        assert not run.heard
    written = run.written()
    assert set(expect.get("sends", [])) <= set(written)
    assert not set(expect.get("never", [])) & set(written)
    if "sends_once" in expect:
        assert written.count(expect["sends_once"]) == 1
    if "sends_sizes" in expect:
        assert [len(each.raw) for each in run.heard if each.path == 255] == expect["sends_sizes"]


def check_answers(case: dict[str, Any]) -> None:
    """The responder of `protocol.json`, to whom nobody has spoken yet."""
    side, out = Side("responder", ("192.0.2.2", 4040), lambda: 0.0), memoryview(bytearray(65_536))
    side.endpoint.record = b"record"
    answers = []
    for each in case["to_responder"]:
        raw = bytearray.fromhex(each)
        side.endpoint.receive(0.0, memoryview(raw), len(raw), 0, ("192.0.2.1", 4040))
        side.endpoint.expire(0.0)
        while (train := side.endpoint.transmit(0.0, out)) is not None:
            answers.append(bytes(out[: train.size]))
            assert train.size <= len(raw)
    assert [each[0] for each in answers] == case["answers"]
    assert not case["same"] or len(set(answers)) == 1


@pytest.mark.parametrize("number", cases())
def test_conformance(number: str) -> None:
    case = cases()[number]
    if "steps" in case:
        check(Run(case))
        return
    if "to_responder" in case:
        check_answers(case)
        return
    try:
        STRUCTURES[case["structure"]](bytes.fromhex(case["bytes"]))
    except (ParseError, VerifyError):
        assert not case["accepted"], case["title"]
    else:
        assert case["accepted"], case["title"]


def test_conformance_vectors_are_what_the_script_writes() -> None:
    assert FILE.read_text() == json.dumps(suite(), indent=1) + "\n"
