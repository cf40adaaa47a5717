"""What an agent and a rendezvous say to each other on a stream of the service `rendezvous`.

Frames as in `wire.framing`. Requests carry a number that the answer repeats; pushes carry 0. Everything a rendezvous
says about an agent is that agent's own signed record and log; the rest is advice.

====== =========== ==============================================================================================
kind   name        body after the request number (4)
====== =========== ==============================================================================================
0x01   PUBLISH     record block16, log block32                                    -> PUBLISHED
0x02   LOOKUP      by 1 (1 identity, 2 address, 3 name), key block8               -> FOUND
0x03   INTRODUCE   identity 32                                                    -> INTRODUCED
0x04   WATCH       identity 32; asks for one PRESENT when it is there             -> DONE
0x05   VOUCH       identity 32, IP address text8                                  -> VOUCHED
0x08   OPENBOX     mailbox key block16: the client's own, for whoever seals to it -> DONE
0x09   ASKBOX      identity 32                                                    -> BOX
0x0a   DEPOSIT     id 16, recipient 32, sealed block32                            -> STORED
0x0b   COLLECT     after 8: the number of the last letter that was collected      -> LETTERS
0x0c   CLEAR       count 1, then {number 8}: they are on the recipient's disk     -> DONE
0x11   PUBLISHED   name outcome 1 (0 none, 1 held, 2 taken by another identity)
0x12   FOUND       count 1, then {record block16, log block32}
0x13   INTRODUCED  circuit 4 (0: the agent is not connected here)
0x14   DONE        empty
0x15   VOUCHED     seen 1 (1: that agent is connected here from that address now, and asked about us lately)
0x18   BOX         mailbox key block16, empty: there is none
0x19   STORED      empty
0x1a   LETTERS     more 1, count 1, then {number 8, sealed block32}, ascending; more: 1 if there are
0x1f   FAILED      code text8, message text16
0x21   OBSERVED    push: endpoint text8, an IP address and port, as the rendezvous sees us
0x22   PRESENT     push: identity 32
0x23   RESTARTING  push: after 4 (ms), for 4 (ms): the rendezvous is about to stop; once it has, come back after
                   so long, and try for so long
0x28   MAIL        push: a letter was stored for us
====== =========== ==============================================================================================
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Final

from covey.base.codec import Reader, Writer
from covey.base.constants import LOG_LIMIT, MAILBOX_KEY_LIMIT, RECORD_LIMIT, SEALED_LIMIT
from covey.base.errors import ParseError
from covey.base.types import ADDRESS_SIZE, IDENTITY_SIZE, Identity, parse_endpoint
from covey.wire.framing import encode_frame

__all__ = [
    "BY_ADDRESS",
    "BY_IDENTITY",
    "BY_NAME",
    "DEPOSIT_ID_SIZE",
    "FRAME_LIMIT",
    "LETTERS_LIMIT",
    "NAME_HELD",
    "NAME_NONE",
    "NAME_OUTCOMES",
    "NAME_TAKEN",
    "SERVICE",
    "AskBox",
    "Box",
    "Clear",
    "Collect",
    "Deposit",
    "Done",
    "Failed",
    "Found",
    "Introduce",
    "Introduced",
    "Letters",
    "Lookup",
    "Mail",
    "Message",
    "Observed",
    "OpenBox",
    "Present",
    "Publish",
    "Published",
    "Restarting",
    "Signed",
    "Stored",
    "Vouch",
    "Vouched",
    "Watch",
    "encode",
    "parse",
]

SERVICE: Final = "rendezvous"
FRAME_LIMIT: Final = 512 * 1024
"""Largest body of a frame, bytes: a FOUND with several claims and their logs."""

BY_IDENTITY: Final = 1
BY_ADDRESS: Final = 2
BY_NAME: Final = 3
NAME_NONE: Final = 0
NAME_HELD: Final = 1
NAME_TAKEN: Final = 2
NAME_OUTCOMES: Final = ("none", "held", "taken")
"""The words for them, by number."""
_CLAIMS_LIMIT: Final = 16
_HOST_LIMIT: Final = 64
"""Bytes of an IP address in text."""
_CODE: Final = re.compile(r"[a-z0-9-]{1,64}")
"""Of a FAILED: programs act on it and people see it."""
DEPOSIT_ID_SIZE: Final = 16
LETTERS_LIMIT: Final = 128
"""Letters in one LETTERS, and numbers in one CLEAR."""
_KEY_SIZES: Final = {
    BY_IDENTITY: (IDENTITY_SIZE, IDENTITY_SIZE),
    BY_ADDRESS: (ADDRESS_SIZE, ADDRESS_SIZE),
    BY_NAME: (1, 63),
}


@dataclass(frozen=True, slots=True)
class Signed:
    """An agent's own words: its record and its key-event log, as signed, unverified."""

    record: bytes
    log: bytes

    def write(self, writer: Writer) -> None:
        writer.block16(self.record).block32(self.log)

    @classmethod
    def read(cls, reader: Reader) -> Signed:
        return cls(reader.block16(RECORD_LIMIT), reader.block32(LOG_LIMIT))


@dataclass(frozen=True, slots=True)
class Publish:
    KIND: ClassVar[int] = 0x01
    number: int
    signed: Signed

    def write(self, writer: Writer) -> None:
        self.signed.write(writer)

    @classmethod
    def read(cls, number: int, reader: Reader) -> Publish:
        return cls(number, Signed.read(reader))


@dataclass(frozen=True, slots=True)
class Lookup:
    KIND: ClassVar[int] = 0x02
    number: int
    by: int
    key: bytes

    def write(self, writer: Writer) -> None:
        writer.u8(self.by).block8(self.key)

    @classmethod
    def read(cls, number: int, reader: Reader) -> Lookup:
        by, key = reader.u8(), reader.block8()
        shortest, longest = _KEY_SIZES.get(by, (1, 0))
        if not shortest <= len(key) <= longest:
            raise ParseError("a look-up of nothing we know")
        return cls(number, by, key)


@dataclass(frozen=True, slots=True)
class Introduce:
    KIND: ClassVar[int] = 0x03
    number: int
    identity: Identity

    def write(self, writer: Writer) -> None:
        writer.raw(self.identity)

    @classmethod
    def read(cls, number: int, reader: Reader) -> Introduce:
        return cls(number, Identity(reader.take(IDENTITY_SIZE)))


@dataclass(frozen=True, slots=True)
class Watch:
    KIND: ClassVar[int] = 0x04
    number: int
    identity: Identity

    def write(self, writer: Writer) -> None:
        writer.raw(self.identity)

    @classmethod
    def read(cls, number: int, reader: Reader) -> Watch:
        return cls(number, Identity(reader.take(IDENTITY_SIZE)))


@dataclass(frozen=True, slots=True)
class Vouch:
    KIND: ClassVar[int] = 0x05
    number: int
    identity: Identity
    host: str

    def write(self, writer: Writer) -> None:
        writer.raw(self.identity).text8(self.host)

    @classmethod
    def read(cls, number: int, reader: Reader) -> Vouch:
        identity, host = Identity(reader.take(IDENTITY_SIZE)), reader.text8(_HOST_LIMIT)
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ParseError("no IP address") from None
        return cls(number, identity, host)


@dataclass(frozen=True, slots=True)
class OpenBox:
    KIND: ClassVar[int] = 0x08
    number: int
    key: bytes

    def write(self, writer: Writer) -> None:
        writer.block16(self.key)

    @classmethod
    def read(cls, number: int, reader: Reader) -> OpenBox:
        return cls(number, reader.block16(MAILBOX_KEY_LIMIT))


@dataclass(frozen=True, slots=True)
class AskBox:
    KIND: ClassVar[int] = 0x09
    number: int
    identity: Identity

    def write(self, writer: Writer) -> None:
        writer.raw(self.identity)

    @classmethod
    def read(cls, number: int, reader: Reader) -> AskBox:
        return cls(number, Identity(reader.take(IDENTITY_SIZE)))


@dataclass(frozen=True, slots=True)
class Deposit:
    """Of two deposits for one recipient under one id the later one stays: a repeat, or newer words, take no room."""

    KIND: ClassVar[int] = 0x0A
    number: int
    id: bytes
    recipient: Identity
    sealed: bytes

    def write(self, writer: Writer) -> None:
        writer.raw(self.id).raw(self.recipient).block32(self.sealed)

    @classmethod
    def read(cls, number: int, reader: Reader) -> Deposit:
        deposit_id = reader.take(DEPOSIT_ID_SIZE)
        return cls(number, deposit_id, Identity(reader.take(IDENTITY_SIZE)), reader.block32(SEALED_LIMIT))


@dataclass(frozen=True, slots=True)
class Collect:
    KIND: ClassVar[int] = 0x0B
    number: int
    after: int

    def write(self, writer: Writer) -> None:
        writer.u64(self.after)

    @classmethod
    def read(cls, number: int, reader: Reader) -> Collect:
        return cls(number, reader.u64())


@dataclass(frozen=True, slots=True)
class Clear:
    KIND: ClassVar[int] = 0x0C
    number: int
    letters: tuple[int, ...]

    def write(self, writer: Writer) -> None:
        writer.u8(len(self.letters))
        for each in self.letters:
            writer.u64(each)

    @classmethod
    def read(cls, number: int, reader: Reader) -> Clear:
        return cls(number, tuple(reader.u64() for _ in range(_letter_count(reader))))


@dataclass(frozen=True, slots=True)
class Published:
    KIND: ClassVar[int] = 0x11
    number: int
    name: int

    def write(self, writer: Writer) -> None:
        writer.u8(self.name)

    @classmethod
    def read(cls, number: int, reader: Reader) -> Published:
        name = reader.u8()
        if name > NAME_TAKEN:
            raise ParseError("unknown name outcome")
        return cls(number, name)


@dataclass(frozen=True, slots=True)
class Found:
    KIND: ClassVar[int] = 0x12
    number: int
    claims: tuple[Signed, ...]

    def write(self, writer: Writer) -> None:
        writer.u8(len(self.claims))
        for claim in self.claims:
            claim.write(writer)

    @classmethod
    def read(cls, number: int, reader: Reader) -> Found:
        count = reader.u8()
        if count > _CLAIMS_LIMIT:
            raise ParseError("too many claims")
        return cls(number, tuple(Signed.read(reader) for _ in range(count)))


@dataclass(frozen=True, slots=True)
class Introduced:
    KIND: ClassVar[int] = 0x13
    number: int
    circuit: int

    def write(self, writer: Writer) -> None:
        writer.u32(self.circuit)

    @classmethod
    def read(cls, number: int, reader: Reader) -> Introduced:
        return cls(number, reader.u32())


@dataclass(frozen=True, slots=True)
class Vouched:
    KIND: ClassVar[int] = 0x15
    number: int
    seen: bool

    def write(self, writer: Writer) -> None:
        writer.u8(self.seen)

    @classmethod
    def read(cls, number: int, reader: Reader) -> Vouched:
        seen = reader.u8()
        if seen > 1:
            raise ParseError("neither yes nor no")
        return cls(number, seen == 1)


@dataclass(frozen=True, slots=True)
class Done:
    KIND: ClassVar[int] = 0x14
    number: int

    def write(self, writer: Writer) -> None:
        pass

    @classmethod
    def read(cls, number: int, reader: Reader) -> Done:
        return cls(number)


@dataclass(frozen=True, slots=True)
class Box:
    KIND: ClassVar[int] = 0x18
    number: int
    key: bytes
    """Unverified; empty for an agent that has no mailbox here."""

    def write(self, writer: Writer) -> None:
        writer.block16(self.key)

    @classmethod
    def read(cls, number: int, reader: Reader) -> Box:
        return cls(number, reader.block16(MAILBOX_KEY_LIMIT))


@dataclass(frozen=True, slots=True)
class Stored:
    KIND: ClassVar[int] = 0x19
    number: int

    def write(self, writer: Writer) -> None:
        pass

    @classmethod
    def read(cls, number: int, reader: Reader) -> Stored:
        return cls(number)


@dataclass(frozen=True, slots=True)
class Letters:
    KIND: ClassVar[int] = 0x1A
    number: int
    more: bool
    letters: tuple[tuple[int, bytes], ...]
    """(number at this rendezvous, sealed)."""

    def write(self, writer: Writer) -> None:
        writer.u8(self.more).u8(len(self.letters))
        for number, sealed in self.letters:
            writer.u64(number).block32(sealed)

    @classmethod
    def read(cls, number: int, reader: Reader) -> Letters:
        more = reader.u8()
        letters = tuple((reader.u64(), reader.block32(SEALED_LIMIT)) for _ in range(_letter_count(reader)))
        numbers = [each for each, _ in letters]
        if more > 1 or any(later <= earlier for earlier, later in pairwise(numbers)):
            raise ParseError("letters out of order")
        return cls(number, bool(more), letters)


@dataclass(frozen=True, slots=True)
class Failed:
    KIND: ClassVar[int] = 0x1F
    number: int
    code: str
    message: str

    def write(self, writer: Writer) -> None:
        writer.text8(self.code).text16(self.message)

    @classmethod
    def read(cls, number: int, reader: Reader) -> Failed:
        code, text = reader.text8(), reader.text16(1000)
        if _CODE.fullmatch(code) is None:
            raise ParseError("a failure without a code")
        return cls(number, code, text)


@dataclass(frozen=True, slots=True)
class Observed:
    KIND: ClassVar[int] = 0x21
    number: int
    endpoint: str

    def write(self, writer: Writer) -> None:
        writer.text8(self.endpoint)

    @classmethod
    def read(cls, number: int, reader: Reader) -> Observed:
        endpoint = reader.text8()
        host, port = parse_endpoint(endpoint)
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            raise ParseError("an observed endpoint without an IP address") from None
        if port == 0 or address.is_unspecified or address.is_multicast:
            raise ParseError("an endpoint nobody can be seen at")
        return cls(number, endpoint)


@dataclass(frozen=True, slots=True)
class Present:
    KIND: ClassVar[int] = 0x22
    number: int
    identity: Identity

    def write(self, writer: Writer) -> None:
        writer.raw(self.identity)

    @classmethod
    def read(cls, number: int, reader: Reader) -> Present:
        return cls(number, Identity(reader.take(IDENTITY_SIZE)))


@dataclass(frozen=True, slots=True)
class Restarting:
    KIND: ClassVar[int] = 0x23
    number: int
    after_ms: int
    for_ms: int

    def write(self, writer: Writer) -> None:
        writer.u32(self.after_ms).u32(self.for_ms)

    @classmethod
    def read(cls, number: int, reader: Reader) -> Restarting:
        return cls(number, reader.u32(), reader.u32())


@dataclass(frozen=True, slots=True)
class Mail:
    KIND: ClassVar[int] = 0x28
    number: int

    def write(self, writer: Writer) -> None:
        pass

    @classmethod
    def read(cls, number: int, reader: Reader) -> Mail:
        return cls(number)


def _letter_count(reader: Reader) -> int:
    count = reader.u8()
    if count > LETTERS_LIMIT:
        raise ParseError("too many letters")
    return count


Message = (
    Publish
    | Lookup
    | Introduce
    | Watch
    | Vouch
    | Vouched
    | OpenBox
    | AskBox
    | Deposit
    | Collect
    | Clear
    | Published
    | Found
    | Introduced
    | Done
    | Box
    | Stored
    | Letters
    | Failed
    | Observed
    | Present
    | Restarting
    | Mail
)

_KINDS: Final[dict[int, type[Message]]] = {
    each.KIND: each
    for each in (
        Publish,
        Lookup,
        Introduce,
        Watch,
        Vouch,
        Vouched,
        OpenBox,
        AskBox,
        Deposit,
        Collect,
        Clear,
        Published,
        Found,
        Introduced,
        Done,
        Box,
        Stored,
        Letters,
        Failed,
        Observed,
        Present,
        Restarting,
        Mail,
    )
}


def encode(message: Message) -> bytes:
    """The frame of a message."""
    writer = Writer().u32(message.number)
    message.write(writer)
    return encode_frame(message.KIND, writer.bytes())


def parse(kind: int, body: bytes) -> Message:
    """The message of a frame. Raises `ParseError`."""
    known = _KINDS.get(kind)
    if known is None:
        raise ParseError("unknown kind of rendezvous message")
    reader = Reader(body)
    message = known.read(reader.u32(), reader)
    reader.done()
    return message
