"""Writes `corpus/`: for every target, a few inputs that go far, made from what Covey itself writes.

    python -m tests.fuzz.seeds

Inputs that once failed lie beside them as `found-*`. After a change of what Covey writes the old ones are still good
inputs; write them anew when a format is another one.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any, Final

import msgspec

from covey.core.handshake import own_payload
from covey.crypto.credentials import Credentials, dump_recovery
from covey.crypto.events import commitment, incept, revoke, rotate
from covey.crypto.keys import SigningKey
from covey.crypto.mailbox import MailboxKeys
from covey.crypto.record import Home, Record
from covey.daemon.api import ROUTES
from covey.wire import control, frames, messages, relay, rendezvous, trust
from covey.wire.birthday import Birthday, Word
from covey.wire.datagram import MirrorRequest, MirrorResponse, RecordRequest, RecordResponse
from covey.wire.framing import encode_frame
from covey.wire.ticket import Ticket, TicketEntry
from tests.core.mallory import HALVES, credentials
from tests.core.pair import WALL_START
from tests.fuzz import websocket

__all__ = ["seeds"]

CORPUS: Final = Path(__file__).parent / "corpus"
VECTORS: Final = Path(__file__).parents[1] / "vectors"
WHOLE: Final = b"\xff"
"""In front of what is fed in pieces: pieces as large as they come."""


def seeds() -> dict[str, list[bytes]]:
    """By target."""
    protocol = json.loads((VECTORS / "protocol.json").read_text())
    ours = json.loads((VECTORS / "covey.json").read_text())
    own, other = credentials("one"), credentials("mallory")
    noise = random.Random("seeds").randbytes
    every_frame = [
        b"\1",
        frames.encode_ack(0, 3, [(10, 20), (4, 7), (0, 1)]),
        frames.CRYPTO_HEAD.pack(frames.CRYPTO, 0, 4) + control.encode_control(control.WANT_REKEY).ljust(4, b"\0"),
        frames.STREAM_HEAD.pack(frames.STREAM, 1, 2, 0, 6) + b"\4echo!",
        frames.encode_reset(2, 1, 6),
        frames.encode_stop(2, 1),
        frames.encode_limit(frames.MAX_DATA, 0, 1_000_000),
        frames.encode_limit(frames.MAX_STREAM_DATA, 2, 100_000),
        frames.encode_limit(frames.MAX_STREAMS, 0, 300),
        frames.DATAGRAM_HEAD.pack(frames.DATAGRAM, 2, 3) + b"abc",
        frames.encode_path(frames.PATH_CHALLENGE, bytes(8)),
        frames.encode_path(frames.PATH_RESPONSE, bytes(8)),
        frames.encode_close(1, "enough"),
    ]
    record = bytes.fromhex(ours["signed"]["record"])
    mailbox = MailboxKeys().rotated(own, bytes(32), WALL_START)
    return {
        "datagram": [
            *(bytes.fromhex(each["bytes"]) for each in protocol["datagrams"][:2]),
            *(bytes.fromhex(ours["introduction"][name]) for name in ("greeting", "reply", "proof", "confirmation")),
            *_datagrams(own.identity, record),
        ],
        "packet": [*every_frame, b"".join(every_frame), bytes(20), every_frame[1] + bytes(40)],
        "handshake-payload": [
            own_payload(own, own.current, WALL_START, HALVES[0]).encode(),
            own_payload(other, other.current, 0, HALVES[1]).encode(1_000),
        ],
        "control": [
            WHOLE
            + control.encode_control(control.CANDIDATES, _candidates())
            + control.encode_control(control.SEEN, control.encode_seen(("192.0.2.1", 4040)))
            + control.encode_control(control.LOG_REQUEST),
            b"\5" + control.encode_control(control.OFFER, bytes.fromhex(ours["session"]["offer"])[:60]),
            WHOLE + control.encode_control(control.RELAYING, relay.Relaying(True, 1_000_000, "eu").encode()),
            WHOLE + control.encode_control(control.RELAYS, relay.encode_relays({b"a tag ..": 20, b"and more": 7})),
            WHOLE + control.encode_control(control.GONE, relay.encode_gone(77)),
            WHOLE + control.encode_control(control.BIRTHDAY, Birthday(Word.ASK, "203.0.113.7").encode()),
        ],
        "relay": [WHOLE + relay.encode_open(own.identity), WHOLE + relay.encode_opened(77)],
        "router": _routers(),
        "trust": [WHOLE + each for each in _trust()],
        "messages": [WHOLE + each for each in _messages()],
        "rendezvous": [WHOLE + encode_frame(kind, noise(40)) for kind in sorted(rendezvous._KINDS)],
        "rendezvous-body": [
            bytes([kind]) + body for kind in sorted(rendezvous._KINDS) for body in (bytes(60), noise(90))
        ],
        "key-log": _logs(),
        "signed": [record, own.delegation.raw, own.current.certificate.raw, mailbox.current.raw, _record(own)],
        "private-files": [own.dump_secrets(), mailbox.dump(), _recovery()],
        "letter": [bytes.fromhex(protocol["letter"]["sealed"]), mailbox.current.id + bytes(80)],
        "texts": [
            *(b"203.0.113.9:4040", b"[2001:db8::1]:4040", b"laptop.example.com:1", b"0a52.338b.cc60", b"my-agent"),
            *(b"k7mp-3xqd-9vhr", bytes.fromhex("61" * 32), own.identity.hex().encode()),
            str(Ticket((TicketEntry(own.identity, ("203.0.113.9:4040",)),))).encode(),
        ],
        "config": [
            b'hostname = "laptop"\nlisten = "0.0.0.0:4040"\nlog_level = "debug"\nkeep_read_days = 3\n',
            b'[table]\nx = 1\nname = """\n', b'{"hostname": "laptop", "network": null, "trust_clock": true}',
        ],
        "codec": [bytes(range(30)) + bytes(30), bytes([5, 6, 7, 8]) + b"\0\1a\1b", noise(80)],
        "api": [bytes([number]) + _request(route) for number, route in enumerate(ROUTES)],
        "stream-request": [WHOLE + b"token\nbytes", b"\3" + b"x" * 43 + b"\n", WHOLE + b"y" * 300],
        "stranger": [*_strangers(), *(noise(120) for _ in range(6))],
        "peer": [*_peers(), *(noise(150) for _ in range(6))],
        "websocket": [*websocket.seeds()],
    }  # fmt: skip


def _candidates() -> bytes:
    places = (("192.0.2.1", 4040), ("2001:db8::1", 4040))
    kinds = (control.CandidateKind.REFLEXIVE, control.CandidateKind.INTERCONNECT)
    items = tuple(control.Candidate(kind, place, 7, "azure-1") for kind, place in zip(kinds, places, strict=True))
    hard = control.Mapping.ADDRESS_AND_PORT_DEPENDENT, control.Filtering.ADDRESS_DEPENDENT
    return control.Candidates(items, control.NatTraits(*hard, control.Ports.SEQUENTIAL, -2), True).encode()


def _routers() -> list[bytes]:
    """Answers of PCP, NAT-PMP and SSDP, and two tables of routes."""
    ours = bytes(10) + b"\xff\xff" + bytes((203, 0, 113, 5))
    device = b"urn:schemas-upnp-org:device:InternetGatewayDevice:1"
    return [
        bytes((2, 128)) + bytes(22),
        bytes((2, 129, 0, 0)) + bytes(32) + bytes((17, 0, 0, 0, 16, 146, 35, 40)) + ours,
        bytes((0, 128, 0, 0, 0, 0, 0, 9, 203, 0, 113, 5)),
        bytes((0, 129, 0, 0, 0, 0, 0, 9, 16, 146, 35, 40, 0, 0, 2, 88)),
        b"HTTP/1.1 200 OK\r\nST: " + device + b"\r\nLOCATION: http://192.168.1.1:5000/root.xml\r\n\r\n",
        b"Iface\tDestination\nlo\t00000000\t0109A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n",
        b" ".join((b"0" * 32, b"00", b"0" * 32, b"00", b"fe80" + b"0" * 27 + b"1", b"400", b"1", b"0", b"3", b"lo")),
    ]


def _datagrams(identity: bytes, record: bytes) -> list[bytes]:
    request = RecordRequest.prefix(bytes(8), identity)  # type: ignore[arg-type]
    mirror = MirrorRequest.prefix(bytes(range(8)), elsewhere=True, port=4040) + bytes(16)
    image = [MirrorResponse(bytes(range(8)), 4041, (host, 4040)).encode() for host in ("192.0.2.1", "2001:db8::1")]
    return [request + bytes(32), RecordResponse(bytes(8), record, b"").encode(), mirror, *image]


def _trust() -> list[bytes]:
    actions = [trust.TrustAction(action, 7, "agent", "because").encode() for action in trust.ACTIONS]
    letter = trust.TrustLetter("request", "agent", "the weekly report", 3).encode()
    return [*actions, trust.encode_receipt(trust.STATES[0]), encode_frame(1, letter)]


def _messages() -> list[bytes]:
    message = messages.MessageFrame(9, 3, bytes(16), "text", WALL_START, b"hello").encode()
    numbers = messages.encode_number(messages.RESUME, 9) + messages.encode_skip(3, [5, 6, 8])
    return [message, numbers, messages.encode_refused(7, "full")]


def _recovery() -> bytes:
    first, second = (SigningKey(bytes([number]) * 32) for number in (1, 2))
    return dump_recovery(incept(first, commitment(second.public)), second)


def _logs() -> list[bytes]:
    first, second, third = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3))
    log = incept(first, commitment(second.public))
    rotated = rotate(log, second, commitment(third.public))
    return [log.raw, rotated.raw, revoke(rotated, second).raw]


def _record(own: Credentials) -> bytes:
    homes = (Home(own.identity, ("203.0.113.9:4040",)),)
    return Record.make(
        own.operational,
        own.log,
        own.delegation,
        own.current.certificate,
        address_nonce=3,
        sequence=WALL_START,
        expires_us=WALL_START + 3_600_000_000,
        homes=homes,
        name="laptop",
        tags=("gpu", "linux"),
    ).raw


def _request(route: Any) -> bytes:
    """A request with a value for every field that has to be there."""
    fields = {}
    for each in msgspec.structs.fields(route.request):
        fields[each.encode_name] = "a" if each.required else each.default
    if route.method == "GET":
        return "&".join(f"{name}={value}" for name, value in fields.items() if isinstance(value, str)).encode()
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not msgspec.NODEFAULT})


def _strangers() -> list[bytes]:
    """Programs for `sessions.stranger`: flags, then steps of (what, route, ...)."""
    genuine = [bytes([2, route, which]) for route in range(5) for which in range(6)]
    waits = bytes([20, 0]) + bytes([28, 0])
    return [b"\0" + b"".join(genuine) + waits, b"\3" + waits + b"".join(genuine) + waits, b"\1" + waits * 4]


def _peers() -> list[bytes]:
    """Programs for `sessions.peer`: flags, then a step and what it reads."""
    stream = bytes([0, 0, frames.STREAM, 0, 1, 9, 0, 0])
    crypto = bytes([0, 0, frames.CRYPTO, 0, 3]) + control.encode_control(control.LOG_REQUEST)
    offer, wait, program = bytes([9]), bytes([4, 3]), bytes([5, 0, 0, 0, 5, 1, 0, 200])
    return [
        bytes([6]) + offer + wait + stream + program + wait + offer + wait + stream,
        bytes([1]) + program + crypto + wait * 3 + program,
        bytes([2]) + stream * 4 + bytes([10, 0, 0, 50, 9]) + wait + bytes([7, 0, 1, 0]) + wait * 4,
    ]


def write(directory: Path = CORPUS) -> None:
    for target, inputs in seeds().items():
        folder = directory / target
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("seed-*"):
            path.unlink()
        for number, data in enumerate(inputs):
            (folder / f"seed-{number:02}").write_bytes(data)
    for folder in directory.iterdir():
        if folder.name not in seeds():
            shutil.rmtree(folder)


if __name__ == "__main__":
    write()
