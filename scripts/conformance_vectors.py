"""Writes `tests/vectors/conformance.json`: numbered cases of the protocol for any implementation.

    PYTHONPATH=src python -m scripts.conformance_vectors > new.json && mv new.json tests/vectors/conformance.json

`docs/protocol.md`, section 17, says how to run them. What is expected was written down from that document, not
recorded; `tests/core/test_conformance.py` holds this implementation to it. The same bytes each time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from covey.base.types import Identity
from covey.crypto.mac import MAC_SIZE, mac1, mac1_key
from covey.crypto.packet import NONCE
from covey.wire import control, frames
from covey.wire.datagram import (
    COOKIE_REPLY,
    HEADER,
    PACKET,
    RECORD_RESPONSE,
    RELAY_HEADER,
    RELAYED,
    RESPONSE,
    RecordRequest,
)
from tests.core import mallory
from tests.core.mallory import Lone, credentials

VECTORS: Final = Path(__file__).parent.parent / "tests/vectors"
Case = dict[str, Any]
PEER_PARITY: Final = 0 if credentials("mallory").identity < credentials("one").identity else 1
"""Bit 0 of the stream ids that the peer opens: 0 for the lower identity."""
PROTOCOL_ERROR: Final = 2
WINDOW, ALL_WINDOW, STREAMS = 65_536, 262_144, 8
CRYPTO_WINDOW: Final = 16_384
REPLAY_WINDOW: Final = 8_192


def theirs(index: int) -> int:
    """The id of the peer's stream number `index`."""
    return index << 1 | PEER_PARITY


def ours(index: int) -> int:
    return index << 1 | (1 - PEER_PARITY)


def stream(number: int, offset: int, data: bytes, *, fin: bool = False) -> bytes:
    return frames.STREAM_HEAD.pack(frames.STREAM, fin, number, offset, len(data)) + data


def crypto(offset: int, data: bytes) -> bytes:
    return frames.CRYPTO_HEAD.pack(frames.CRYPTO, offset, len(data)) + data


NAME: Final = b"\4echo"
FIRST: Final = theirs(0)


# --- packets to a session ---------------------------------------------------------------------------------------------


def sealed(plain: bytes, counter: int, path: int = 0, epoch: int = 0, index: int = mallory.LOCAL_INDEX) -> bytes:
    """A packet of the peer's, with epoch 0's key whatever epoch it names."""
    head = HEADER.pack(PACKET, path, epoch, index, counter)
    key = Lone().epochs.key
    return head + key.aead.encrypt(NONCE.pack(path, counter), plain, head)


def packets(*plains: bytes) -> list[dict[str, Any]]:
    """One packet after the other on path 0; counter 0 was the PING that confirmed the session."""
    return [
        {
            "receive": sealed(plain, counter).hex(),
            "counter": counter,
            **({"plain": plain.hex()} if len(plain) < 2_000 else {}),
        }
        for counter, plain in enumerate(plains, 1)
    ]


def frame_effects() -> Iterator[Case]:
    """Section 6: every frame, as it should be and as it may not be."""
    yield case("PING is acknowledged", 6, packets(b"\1"), acknowledged={"0": [[0, 1]]})
    yield case("PADDING behind a frame is zeros", 6, packets(b"\1" + bytes(30)), acknowledged={"0": [[0, 1]]})
    yield case("PADDING alone is not acknowledged", 6, packets(bytes(30)), acknowledged={})
    yield case("PADDING that is not zero", 6, packets(b"\1\0\0\1"), closed=PROTOCOL_ERROR)
    yield case("a packet without a frame", 5, packets(b""), closed=PROTOCOL_ERROR)
    for kind in (0x0E, 0x20, 0xFF):
        yield case(f"unknown frame {kind:02x}", 5, packets(bytes([kind]) + bytes(20)), closed=PROTOCOL_ERROR)
    yield case("an unknown frame behind a good one", 5, packets(b"\1\x0e"), closed=PROTOCOL_ERROR)
    whole = {
        "ACK": frames.encode_ack(0, 0, [(0, 0)]),
        "ACK with a second range": frames.encode_ack(0, 0, [(9, 9), (3, 4)]),
        "CRYPTO": crypto(0, b"abc"),
        "STREAM": stream(FIRST, 0, NAME),
        "RESET": frames.encode_reset(FIRST, 0, 0),
        "STOP": frames.encode_stop(FIRST, 0),
        "MAX_DATA": frames.encode_limit(frames.MAX_DATA, 0, 1),
        "MAX_STREAM_DATA": frames.encode_limit(frames.MAX_STREAM_DATA, FIRST, 1),
        "MAX_STREAMS": frames.encode_limit(frames.MAX_STREAMS, 0, 1),
        "DATAGRAM": frames.DATAGRAM_HEAD.pack(frames.DATAGRAM, FIRST, 3) + b"abc",
        "PATH_CHALLENGE": frames.encode_path(frames.PATH_CHALLENGE, bytes(8)),
        "PATH_RESPONSE": frames.encode_path(frames.PATH_RESPONSE, bytes(8)),
        "CLOSE": frames.encode_close(0, "done"),
    }
    for name, raw in whole.items():
        yield case(f"{name}, a byte short", 6, packets(raw[:-1]), closed=PROTOCOL_ERROR)
        yield case(f"{name}, its type alone", 6, packets(raw[:1]), closed=PROTOCOL_ERROR)
    yield case("STREAM with an unknown flag", 6, packets(b"\4\2" + stream(FIRST, 0, NAME)[2:]), closed=PROTOCOL_ERROR)
    yield case("CLOSE whose reason is not UTF-8", 6, packets(b"\x0d" + bytes(4) + b"\1\xff"), closed=PROTOCOL_ERROR)
    for code, name in enumerate(("DONE", "IDLE", "PROTOCOL", "NOT_VERIFIED", "LOST_STATE", "SUPERSEDED", "SHUTDOWN")):
        yield case(f"CLOSE {name} ends the session, and is not answered", 9, packets(frames.encode_close(code, name)),
                   over=True, sends_nothing=True)  # fmt: skip


def acknowledgements() -> Iterator[Case]:
    head = frames.ACK_HEAD
    never = head.pack(frames.ACK, 0, 0, 0, 500, 1)
    yield case("ACK of a counter that was never sent", 6, packets(never), closed=PROTOCOL_ERROR)
    yield case("ACK of no counter", 6, packets(head.pack(frames.ACK, 0, 0, 0, 0, 0)), closed=PROTOCOL_ERROR)
    yield case(
        "ACK whose range begins below 0", 6, packets(head.pack(frames.ACK, 0, 0, 0, 3, 5)), closed=PROTOCOL_ERROR
    )
    for gap, length in ((0, 1), (1, 0), (3, 9)):
        raw = head.pack(frames.ACK, 0, 0, 1, 9, 1) + gap.to_bytes(4, "big") + length.to_bytes(4, "big")
        yield case(f"ACK whose second range has gap {gap} and length {length}", 6, packets(raw), closed=PROTOCOL_ERROR)
    many = head.pack(frames.ACK, 0, 0, 32, 900, 1) + (b"\0\0\0\1" * 2) * 32
    yield case("ACK of more than 32 ranges", 6, packets(many), closed=PROTOCOL_ERROR)
    yield case("ACK of path 255 is ignored", 6, packets(head.pack(frames.ACK, 255, 0, 0, 9, 1)), acknowledged={})
    yield case("ACK of a path that is not there is ignored", 6, packets(head.pack(frames.ACK, 9, 0, 0, 9, 1)),
               acknowledged={})  # fmt: skip
    plain = b"\1"
    for title, counters, ranges in (
        ("a gap is acknowledged as two ranges, newest first", [1, 2, 5, 6], [[5, 6], [0, 2]]),
        ("what comes late closes the gap", [1, 3, 2], [[0, 3]]),
        ("packets out of order", [4, 2, 1, 3], [[0, 4]]),
        ("every second packet lost", [2, 4, 6, 8], [[8, 8], [6, 6], [4, 4], [2, 2], [0, 0]]),
    ):
        steps = [{"receive": sealed(plain, each).hex(), "plain": plain.hex(), "counter": each} for each in counters]
        yield case(title, 6, steps, acknowledged={"0": ranges})
    for path in (1, 7, 126):
        steps = [{"receive": sealed(plain, 0, path).hex(), "plain": plain.hex(), "path": path, "counter": 0}]
        yield case(f"path {path} has counters of its own", 5, steps, acknowledged={str(path): [[0, 0]]})


def replays() -> Iterator[Case]:
    """Section 5: what is dropped without a trace."""
    first = stream(FIRST, 0, NAME + b"once")
    good = sealed(first, 1)
    twice = [{"receive": good.hex()}, {"receive": good.hex()}]
    yield case("a packet that comes twice counts once", 5, twice, delivered=[said(FIRST, b"once")])
    raw = bytearray(good)
    for title, at in (("path", 1), ("epoch", 3), ("receiver index", 7), ("counter", 15), ("sealed part", 20),
                      ("tag", len(raw) - 1)):  # fmt: skip
        broken = bytes(raw[:at]) + bytes([raw[at] ^ 1]) + bytes(raw[at + 1 :])
        yield case(f"a bit of its {title} is another one", 5, [{"receive": broken.hex()}], dropped=True)
    yield case("a packet cut short", 5, [{"receive": good[:-1].hex()}], dropped=True)
    yield case("a packet of a header alone", 5, [{"receive": good[:16].hex()}], dropped=True)
    yield case("a packet with a byte behind it", 5, [{"receive": (good + b"\0").hex()}], dropped=True)
    yield case("an epoch without a key", 5, [{"receive": sealed(first, 1, epoch=1).hex()}], dropped=True)
    yield case("an index that nobody has", 5, [{"receive": sealed(first, 1, index=1).hex()}], dropped=True)
    jump = 3 * REPLAY_WINDOW
    old = [{"receive": sealed(b"\1", jump).hex()}, {"receive": sealed(b"\1", 5).hex()}]
    yield case("what lies far below the replay window", 5, old, not_acknowledged={"0": [5]})
    near = [{"receive": sealed(b"\1", jump).hex()}, {"receive": sealed(b"\1", jump - 8_000).hex()}]
    yield case("what lies within the replay window", 5, near, acknowledged={"0": [[jump, jump], [jump - 8_000] * 2]})
    wrapped = RELAY_HEADER.pack(RELAYED, 0, 0, 77) + good
    yield case("RELAYED from an address that is no relay of ours", 12, [{"receive": wrapped.hex()}], dropped=True)
    for title, datagram in (
        ("an unknown first byte", b"\x0b" + bytes(60)),
        ("one byte", b"\4"),
        ("no packet", b"\4\0"),
    ):
        yield case(f"a datagram of {title}", 3, [{"receive": datagram.hex()}], dropped=True)


def streams() -> Iterator[Case]:
    """Section 10."""
    first = stream(FIRST, 0, NAME + b"hello")
    yield case("a stream's name and bytes", 10, packets(first), delivered=[said(FIRST, b"hello")])
    yield case("FIN ends it", 10, packets(stream(FIRST, 0, NAME + b"bye", fin=True)),
               delivered=[said(FIRST, b"bye", end=True)])  # fmt: skip
    apart = packets(stream(FIRST, 0, NAME + b"ab"), stream(FIRST, 7, b"cd"), stream(FIRST, 9, b"", fin=True))
    yield case("bytes in three packets, FIN alone", 10, apart, delivered=[said(FIRST, b"abcd", end=True)])
    early = packets(stream(FIRST, 9, b"!", fin=True), stream(FIRST, 5, b"four"), stream(FIRST, 0, NAME))
    yield case("bytes in the wrong order", 10, early, delivered=[said(FIRST, b"four!", end=True)])
    gap = packets(stream(FIRST, 0, NAME + b"ab"), stream(FIRST, 8, b"later"))
    yield case("bytes behind a gap wait", 10, gap, delivered=[said(FIRST, b"ab")])
    over = packets(stream(FIRST, 0, NAME + b"abc"), stream(FIRST, 6, b"bcde"), stream(FIRST, 5, b"a"))
    yield case("bytes that overlap", 10, over, delivered=[said(FIRST, b"abcde")])
    again = packets(stream(FIRST, 0, NAME + b"x", fin=True), stream(FIRST, 0, NAME + b"x", fin=True))
    yield case("the same bytes and FIN in another packet", 10, again, delivered=[said(FIRST, b"x", end=True)])
    late = packets(stream(theirs(3), 0, NAME + b"d"), stream(theirs(1), 0, NAME + b"b"))
    yield case("streams need not appear in order", 10, late, delivered=[said(theirs(3), b"d"), said(theirs(1), b"b")])
    nothing = packets(stream(FIRST, 0, b""))
    yield case("STREAM without bytes", 10, nothing, acknowledged={"0": [[0, 1]]})
    for title, name in (
        ("of no byte", b"\0"), ("of 129 bytes", b"\x81" + b"a" * 129), ("with a space", b"\3a b"),
        ("with a control character", b"\2a\n"), ("that is not ASCII", b"\2\xc3\xa9"),
    ):  # fmt: skip
        yield case(f"a service name {title}", 10, packets(stream(FIRST, 0, name)), closed=PROTOCOL_ERROR)
    longest = b"\x80" + b"a" * 128
    yield case("a service name of 128 bytes", 10, packets(stream(FIRST, 0, longest + b"!")),
               delivered=[said(FIRST, b"!", service="a" * 128)])  # fmt: skip
    yield case(
        "FIN before the name is complete", 10, packets(stream(FIRST, 0, b"\4ec", fin=True)), closed=PROTOCOL_ERROR
    )
    ended = stream(FIRST, 0, NAME + b"abc", fin=True)
    for title, frame in (
        ("bytes beyond the final size", stream(FIRST, 8, b"d")),
        ("another final size", stream(FIRST, 8, b"d", fin=True)),
        ("a lower final size", stream(FIRST, 0, NAME, fin=True)),
    ):
        # The reader has not read, so the stream is still there.
        yield case(title, 10, packets(ended, frame), closed=PROTOCOL_ERROR, reads=False)
    lower = packets(stream(FIRST, 0, NAME + b"abc"), stream(FIRST, 0, NAME, fin=True))
    yield case("a final size below what arrived", 10, lower, closed=PROTOCOL_ERROR)
    yield case("a stream of the receiver's that it never opened", 10, packets(stream(ours(0), 0, b"x")),
               closed=PROTOCOL_ERROR)  # fmt: skip
    for kind, frame in (
        ("RESET", frames.encode_reset(ours(2), 0, 0)), ("STOP", frames.encode_stop(ours(2), 0)),
        ("MAX_STREAM_DATA", frames.encode_limit(frames.MAX_STREAM_DATA, ours(2), 99_999)),
    ):  # fmt: skip
        yield case(
            f"{kind} of a stream of the receiver's that it never opened", 10, packets(frame), closed=PROTOCOL_ERROR
        )


def resets() -> Iterator[Case]:
    first = stream(FIRST, 0, NAME + b"hello")
    yield case("RESET of a stream that was read", 10, packets(first, frames.encode_reset(FIRST, 5, 10)),
               delivered=[said(FIRST, b"hello")], reset={str(FIRST): 5})  # fmt: skip
    yield case("RESET of a stream that never appeared", 10, packets(frames.encode_reset(FIRST, 5, 10)),
               acknowledged={"0": [[0, 1]]})  # fmt: skip
    yield case("RESET twice", 10, packets(first, *[frames.encode_reset(FIRST, 5, 10)] * 2), reset={str(FIRST): 5})
    yield case("RESET with a final size below what arrived", 10, packets(first, frames.encode_reset(FIRST, 5, 9)),
               closed=PROTOCOL_ERROR)  # fmt: skip
    yield case("RESET beyond the stream's window", 10, packets(first, frames.encode_reset(FIRST, 5, WINDOW + 11)),
               closed=PROTOCOL_ERROR)  # fmt: skip
    fin = stream(FIRST, 0, NAME + b"hello", fin=True)
    yield case("RESET behind FIN, with another final size", 10, packets(stream(FIRST, 10, b"", fin=True),
               frames.encode_reset(FIRST, 5, 11)), closed=PROTOCOL_ERROR)  # fmt: skip
    yield case("RESET of what has arrived completely is ignored", 10, packets(fin, frames.encode_reset(FIRST, 5, 10)),
               delivered=[said(FIRST, b"hello", end=True)])  # fmt: skip
    yield case("STOP is answered with RESET of the same code", 10, packets(first, frames.encode_stop(FIRST, 6)),
               delivered=[said(FIRST, b"hello")], sends=[frames.encode_reset(FIRST, 6, 0).hex()])  # fmt: skip
    yield case("STOP of a stream that never appeared is answered too", 10, packets(frames.encode_stop(FIRST, 6)),
               sends=[frames.encode_reset(FIRST, 6, 0).hex()])  # fmt: skip


def flow() -> Iterator[Case]:
    """Section 10: limits, overrun by one byte and met exactly. Bytes behind a gap use up a window as others do."""

    def full(index: int) -> bytes:
        return stream(theirs(index), WINDOW - 1, b"x")

    yield case("a stream's window, used up", 10, packets(full(0)), acknowledged={"0": [[0, 1]]})
    yield case("a byte beyond a stream's window", 10, packets(stream(FIRST, WINDOW, b"x")), closed=PROTOCOL_ERROR)
    yield case(
        "FIN beyond a stream's window", 10, packets(stream(FIRST, WINDOW + 1, b"", fin=True)), closed=PROTOCOL_ERROR
    )
    yield case("a byte far beyond a stream's window", 10, packets(stream(FIRST, 2**62, b"x")), closed=PROTOCOL_ERROR)
    yield case("offset and length beyond 64 bits", 10, packets(stream(FIRST, 2**64 - 1, b"xy")), closed=PROTOCOL_ERROR)
    four = [full(index) for index in range(ALL_WINDOW // WINDOW)]
    yield case("the connection's window, used up", 10, packets(*four), acknowledged={"0": [[0, 4]]})
    yield case("a byte beyond the connection's window", 10, packets(*four, stream(theirs(4), 0, b"\4")),
               closed=PROTOCOL_ERROR)  # fmt: skip
    yield case("RESET beyond the connection's window", 10, packets(*four, frames.encode_reset(theirs(4), 0, 1)),
               closed=PROTOCOL_ERROR)  # fmt: skip
    half = [stream(FIRST, at, (NAME + bytes(WINDOW))[at : at + 8_192]) for at in range(0, WINDOW // 2, 8_192)]
    yield case("who has read half of a window widens it", 10, packets(*half),
               sends=[frames.encode_limit(frames.MAX_STREAM_DATA, FIRST, WINDOW + WINDOW // 2).hex()])  # fmt: skip
    yield case("who has not read does not", 10, packets(*half), reads=False, acknowledged={"0": [[0, 4]]},
               waiting={str(FIRST): WINDOW // 2 - len(NAME)})  # fmt: skip
    last = theirs(STREAMS - 1)
    yield case("the eighth stream", 10, packets(stream(last, 0, NAME + b"8")), delivered=[said(last, b"8")])
    yield case("the ninth stream", 10, packets(stream(theirs(STREAMS), 0, NAME)), closed=PROTOCOL_ERROR)
    small = [frames.encode_limit(frames.MAX_DATA, 0, 1), frames.encode_limit(frames.MAX_STREAMS, 0, 0)]
    yield case(
        "limits that are lower than before are ignored", 10, packets(b"".join(small)), acknowledged={"0": [[0, 1]]}
    )
    unknown = frames.DATAGRAM_HEAD.pack(frames.DATAGRAM, FIRST, 3) + b"abc"
    yield case("DATAGRAM of an unknown stream is dropped and acknowledged", 10, packets(unknown),
               acknowledged={"0": [[0, 1]]})  # fmt: skip


def candidates(endpoint: bytes, *, kind: int = 1, label: bytes = b"", count: int = 1) -> bytes:
    """A CANDIDATES body that says that there are `count`, and has one."""
    return bytes((0, 0, 0, 0, 0, 0, count, kind, 0, len(label))) + label + endpoint


def control_stream() -> Iterator[Case]:
    """Section 8, and the ratchet of section 7 as far as nothing is drawn."""
    ask = control.encode_control(control.LOG_REQUEST)
    log = credentials("one").log.raw
    answer = crypto(0, control.encode_control(control.LOG, b"\1" + log))
    yield case("LOG_REQUEST is answered with the log", 8, packets(crypto(0, ask)), sends=[answer.hex()])
    yield case("LOG_REQUEST in three pieces, in the wrong order", 8,
               packets(crypto(2, ask[2:]), crypto(0, ask[:1]), crypto(1, ask[1:2])), sends=[answer.hex()])  # fmt: skip
    yield case(
        "a second LOG_REQUEST is not answered", 8, packets(crypto(0, ask), crypto(3, ask)), sends_once=answer.hex()
    )
    yield case("CRYPTO bytes up to the end of the buffer", 8, packets(crypto(CRYPTO_WINDOW - 1, b"x")),
               acknowledged={"0": [[0, 1]]})  # fmt: skip
    yield case("CRYPTO bytes beyond the buffer", 8, packets(crypto(CRYPTO_WINDOW, b"x")), closed=PROTOCOL_ERROR)
    bad = {
        "an unknown control message": (0x7F, b""),
        "a LOG that nobody asked for": (control.LOG, b"\1" + log),
        "an ANSWER to no OFFER": (control.ANSWER, bytes(1_128)),
        "an OFFER of nothing": (control.OFFER, b""),
        "an OFFER for epoch 2 in epoch 0": (control.OFFER, (2).to_bytes(8, "big") + bytes(1_216)),
        "an OFFER a byte short": (control.OFFER, (1).to_bytes(8, "big") + bytes(1_215)),
        "CANDIDATES of more than there are": (control.CANDIDATES, candidates(b"\4\xc0\0\2\1\x0f\xc8", count=2)),
        "CANDIDATES of port 0": (control.CANDIDATES, candidates(b"\4\xc0\0\2\1\0\0")),
        "CANDIDATES of a family that is none": (control.CANDIDATES, candidates(b"\5\xc0\0\2\1\x0f\xc8")),
        "CANDIDATES of a multicast address": (control.CANDIDATES, candidates(b"\4\xe0\0\0\1\x0f\xc8")),
        "CANDIDATES of a kind that is none": (control.CANDIDATES, candidates(b"\4\xc0\0\2\1\x0f\xc8", kind=6)),
        "CANDIDATES with a label that is no word": (
            control.CANDIDATES,
            candidates(b"\4\xc0\0\2\1\x0f\xc8", label=b"a b"),
        ),
        "CANDIDATES behind a NAT that is none": (control.CANDIDATES, b"\6\0\0\0\0\0\0"),
        "SEEN at port 0": (control.SEEN, b"\4\xc0\0\2\1\0\0"),
        "CANDIDATES with a step of ports in no sequence": (control.CANDIDATES, b"\0\0\1\0\1\0\0"),
        "CANDIDATES with an unknown flag": (control.CANDIDATES, b"\0\0\0\0\0\2\0"),
    }
    for title, (kind, body) in bad.items():
        raw = control.encode_control(kind, body)
        pieces = [crypto(at, raw[at : at + 1_000]) for at in range(0, len(raw), 1_000)]
        yield case(title, 8, packets(*pieces), closed=PROTOCOL_ERROR)
    yield case("a control message of more than 8 KiB", 8, packets(crypto(0, b"\5\x20\1")), closed=PROTOCOL_ERROR)
    want = crypto(0, control.encode_control(control.WANT_REKEY))
    yield case("WANT_REKEY to the responder is ignored", 8, packets(want), acknowledged={"0": [[0, 1]]})


def paths() -> Iterator[Case]:
    """Section 11."""
    challenge = frames.encode_path(frames.PATH_CHALLENGE, b"12345678")
    response = frames.encode_path(frames.PATH_RESPONSE, b"12345678")

    def probe(plain: bytes, size: int = 0) -> list[dict[str, Any]]:
        padded = plain.ljust(size, b"\0")
        return [{"receive": sealed(padded, 0, 255).hex(), "plain": padded.hex(), "path": 255, "counter": 0}]

    yield case("PATH_CHALLENGE is answered on path 255, in a datagram of its length", 11, probe(challenge, 1_168),
               sends=[response.hex()], sends_sizes=[1_200])  # fmt: skip
    yield case("a ping is answered unpadded", 11, probe(challenge), sends=[response.hex()], sends_sizes=[41])
    other = frames.encode_path(frames.PATH_CHALLENGE, b"another!")
    yield case("of two challenges in a packet the first is answered", 11, probe(challenge + other),
               sends=[response.hex()], never=[frames.encode_path(frames.PATH_RESPONSE, b"another!").hex()])  # fmt: skip
    yield case("PATH_RESPONSE to no challenge is ignored", 11, probe(response), acknowledged={}, sends_nothing=True)
    yield case("packets of path 255 are not acknowledged", 5, probe(b"\1"), acknowledged={})


def said(number: int, data: bytes, *, end: bool = False, service: str = "echo") -> dict[str, Any]:
    return {"stream": number, "service": service, "bytes": data.hex(), "end": end}


def case(title: str, section: int, steps: list[dict[str, Any]], **expect: Any) -> Case:
    """A case whose expectations are `expect`; unless it says otherwise the session goes on."""
    over = expect.get("over") or expect.get("closed") is not None
    return {"title": title, "section": section, "steps": steps, "expect": {"over": bool(over), **expect}}


# --- structures -------------------------------------------------------------------------------------------------------


def structures() -> Iterator[Case]:
    """Bytes that are, or are not, what they say: sections 2, 3, 4, 8."""
    protocol = json.loads((VECTORS / "protocol.json").read_text())
    covey = json.loads((VECTORS / "covey.json").read_text())
    initiation, response = (bytes.fromhex(each["bytes"]) for each in protocol["datagrams"][:2])
    one = credentials("one")
    good: dict[str, tuple[int, str, bytes]] = {
        "INITIATION": (3, "initiation", initiation),
        "RESPONSE": (3, "response", response),
        "a handshake payload": (4, "payload", bytes.fromhex(protocol["keys"]["payload_1"])),
        "a key-event log of INCEPT": (2, "log", bytes.fromhex(covey["identity"]["log_incept"])),
        "a key-event log of INCEPT and ROTATE": (2, "log", bytes.fromhex(covey["identity"]["log_incept_rotate"])),
        "a key-event log that ends in REVOKE": (2, "log", bytes.fromhex(covey["identity"]["log_incept_rotate_revoke"])),
        "a delegation": (2, "delegation", bytes.fromhex(covey["signed"]["delegation"])),
        "a transport certificate": (2, "certificate", bytes.fromhex(covey["signed"]["transport_certificate"])),
        "a record": (2, "record", bytes.fromhex(covey["signed"]["record"])),
        "a mailbox key": (2, "mailbox-key", bytes.fromhex(protocol["letter"]["mailbox_key"])),
        "GREETING": (4, "greeting", bytes.fromhex(covey["introduction"]["greeting"])),
        "REPLY": (4, "reply", bytes.fromhex(covey["introduction"]["reply"])),
        "PROOF": (4, "proof", bytes.fromhex(covey["introduction"]["proof"])),
        "CONFIRMATION": (4, "confirmation", bytes.fromhex(covey["introduction"]["confirmation"])),
    }  # fmt: skip
    for title, (section, kind, raw) in good.items():
        yield structure(title, section, kind, raw, accepted=True)
        yield structure(f"{title}: nothing of it", section, kind, b"", accepted=False)
        yield structure(f"{title}, cut at its tenth byte", section, kind, raw[:10], accepted=False)
        if kind != "response":  # its Noise message has any length
            yield structure(f"{title}, a byte behind it", section, kind, raw + b"\1", accepted=False)
        if kind not in ("response", "payload"):  # and a payload may be padded
            yield structure(f"{title}, a byte short", section, kind, raw[:-1], accepted=False)
    for title in ("INITIATION", "RESPONSE"):
        section, kind, raw = good[title]
        yield structure(f"{title} of another version", section, kind, raw[:1] + b"\2" + raw[2:], accepted=False)
        yield structure(f"{title} with a reserved bit", section, kind, raw[:3] + b"\1" + raw[4:], accepted=False)
    log = bytearray(one.log.raw)
    for at, what in ((2, "kind"), (3, "root"), (40, "commitment"), (len(log) - 1, "signature")):
        broken = bytes(log[:at]) + bytes([log[at] ^ 0x40]) + bytes(log[at + 1 :])
        yield structure(f"a log with another {what}", 2, "log", broken, accepted=False)


# --- handshakes -------------------------------------------------------------------------------------------------------


def handshakes() -> Iterator[Case]:
    """Sections 3 and 4: what the responder of `protocol.json` answers, without load and before it has any session."""
    protocol = json.loads((VECTORS / "protocol.json").read_text())
    responder = protocol["responder"]
    good = bytes.fromhex(protocol["datagrams"][0]["bytes"])
    key, identity = (bytes.fromhex(responder[name]) for name in ("transport_public", "identity"))

    def marked(body: bytes, by: bytes = key) -> bytes:
        return body + mac1(mac1_key(by), body) + bytes(MAC_SIZE)

    body = good[: -2 * MAC_SIZE]
    yield answered("INITIATION", 4, [good], [RESPONSE])
    yield answered("INITIATION twice: the same answer, byte for byte", 4, [good, good], [RESPONSE] * 2, same=True)
    silent = {
        "mac1 is wrong": body + bytes(2 * MAC_SIZE),
        "mac1 of another key": marked(body, bytes(32)),
        "another version": marked(body[:1] + b"\2" + body[2:]),
        "a reserved bit": marked(body[:2] + b"\1" + body[3:]),
        "a psk tag that nobody knows": marked(body[:8] + b"\1" + body[9:]),
        "another ephemeral key": marked(body[:16] + bytes([body[16] ^ 1]) + body[17:]),
        "an ephemeral key of low order": marked(body[:16] + bytes(32) + body[48:]),
        "another static key": marked(body[:60] + bytes([body[60] ^ 1]) + body[61:]),
        "another payload": marked(body[:-1] + bytes([body[-1] ^ 1])),
        "a byte short": good[:-1],
        "a byte behind it": good + b"\0",
        "the first byte alone": good[:1],
    }
    for what, raw in silent.items():
        yield answered(f"INITIATION, {what}: silence", 4, [raw], [])
    opening = RecordRequest.prefix(bytes(8), Identity(identity))
    yield answered("RECORD_REQUEST", 3, [marked(opening, identity)], [RECORD_RESPONSE])
    other = RecordRequest.prefix(bytes(8), Identity(bytes(32)))
    yield answered("RECORD_REQUEST for another identity: silence", 3, [marked(other, bytes(32))], [])
    yield answered("RECORD_REQUEST with a wrong mac1: silence", 3, [marked(opening, key)], [])
    yield answered("RECORD_REQUEST a byte short: silence", 3, [marked(opening, identity)[:-1]], [])
    second = bytes.fromhex(protocol["datagrams"][1]["bytes"])
    yield answered("RESPONSE to no INITIATION: silence", 4, [second], [])
    cookie = bytes([COOKIE_REPLY, 1]) + bytes(54)
    yield answered("COOKIE_REPLY to nothing: silence", 3, [cookie], [])


def answered(title: str, section: int, datagrams: list[bytes], answers: list[int], *, same: bool = False) -> Case:
    return {
        "title": title,
        "section": section,
        "to_responder": [each.hex() for each in datagrams],
        "answers": answers,
        "same": same,
    }


def structure(title: str, section: int, kind: str, raw: bytes, *, accepted: bool) -> Case:
    return {"title": title, "section": section, "structure": kind, "bytes": raw.hex(), "accepted": accepted}


GROUPS: Final = {
    "A": acknowledgements,
    "C": control_stream,
    "F": frame_effects,
    "H": handshakes,
    "L": flow,
    "P": paths,
    "R": replays,
    "S": streams,
    "T": resets,
    "W": structures,
}


def suite() -> dict[str, Any]:
    """The whole file."""
    one, other = credentials("one"), credentials("mallory")
    cases = []
    for letter, group in GROUPS.items():
        for number, each in enumerate(group(), 1):
            cases.append({"id": f"{letter}{number:02}", **each})
    return {
        "source": "Covey: scripts/conformance_vectors.py",
        "session": {
            "role": "responder",
            "identity": one.identity.hex(),
            "log": one.log.raw.hex(),
            "peer_identity": other.identity.hex(),
            "peer_log": other.log.raw.hex(),
            "peer_address": list(mallory.THERE),
            "epoch_0_initiator": mallory.KEYS[0].hex(),
            "epoch_0_responder": mallory.KEYS[1].hex(),
            "chaining_key": mallory.CHAINING_KEY.hex(),
            "handshake_hash": mallory.HANDSHAKE_HASH.hex(),
            "receiver_index": mallory.LOCAL_INDEX,
            "peer_index": mallory.PEER_INDEX,
        },
        "cases": cases,
    }


if __name__ == "__main__":
    json.dump(suite(), sys.stdout, indent=1)
    sys.stdout.write("\n")
