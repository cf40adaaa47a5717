"""A Covey agent in one file, written from `docs/protocol.md` alone: an example for whoever writes a second one, and
the test that the page is enough for one. Numbers in brackets are its sections.

It needs the standard library and `cryptography`; nothing of `covey` is imported. It begins handshakes and answers none,
keeps one path, sends nothing above 1200 bytes and at most 64 KiB per stream, and must be closed before its keys have to
change (120 s). What it is told of identities is verified; what it can do without (limits, candidates) is ignored.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

INITIATION, RESPONSE, COOKIE_REPLY, PACKET, RECORD_REQUEST, RECORD_RESPONSE = 1, 2, 3, 4, 6, 7  # [3]
PADDING, PING, ACK, CRYPTO, STREAM, RESET, STOP, MAX_DATA, MAX_STREAM_DATA, MAX_STREAMS, DATAGRAM = range(11)  # [6]
PATH_CHALLENGE, PATH_RESPONSE, CLOSE = 11, 12, 13
SIZES = {RESET: 17, STOP: 9, MAX_DATA: 9, MAX_STREAM_DATA: 13, MAX_STREAMS: 5, PATH_RESPONSE: 9}
OFFER, ANSWER, WANT_REKEY, LOG_REQUEST, LOG, CANDIDATES = range(1, 7)  # [8]
SEEN = 11
PIECE = 1100
"""Bytes of CRYPTO or STREAM in one packet: with its header and tag a datagram stays below 1200."""
PROBE_PATH = 255
DAY_US = 24 * 3600 * 10**6


class Refused(Exception):
    """The peer is not who it should be, or broke the protocol."""


# --- conventions [1] --------------------------------------------------------------------------------------------------


def digest(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def hkdf(salt: bytes, ikm: bytes, info: bytes) -> bytes:
    return mac(mac(salt or bytes(32), ikm), info + b"\1")


def block16(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def take16(data: bytes, at: int) -> tuple[bytes, int]:
    """The block that begins at `at`, and where it ends."""
    (size,) = struct.unpack_from(">H", data, at)
    if at + 2 + size > len(data):
        raise Refused("a block is cut short")
    return data[at + 2 : at + 2 + size], at + 2 + size


def sign(key: Ed25519PrivateKey, label: bytes, body: bytes) -> bytes:
    return body + key.sign(b"covey " + label + b" 1\0" + body)


def verify(public: bytes, label: bytes, signed: bytes) -> None:
    """Raises InvalidSignature."""
    body, signature = signed[:-64], signed[-64:]
    Ed25519PublicKey.from_public_bytes(public).verify(signature, b"covey " + label + b" 1\0" + body)


def lives(signed: bytes, at: int, now_us: int) -> bool:
    """Whether `now_us` is in the life whose two times stand at `at`; a clock may be ten minutes behind."""
    from_us, until_us = struct.unpack_from(">QQ", signed, at)
    return bool(from_us - 600 * 10**6 <= now_us < until_us)


def public(key: Ed25519PrivateKey | X25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


# --- identity and signed objects [2] ----------------------------------------------------------------------------------


class Me:
    """Our keys, and the three things we sign about ourselves.

    `seeds`: root, next root, operational and transport key, 32 bytes each; random if not given.
    """

    def __init__(self, now_us: int, seeds: tuple[bytes, ...] = ()) -> None:
        root, following, operational, transport = seeds or [os.urandom(32) for _ in range(4)]
        root_key, self.operational = map(Ed25519PrivateKey.from_private_bytes, (root, operational))
        self.transport = X25519PrivateKey.from_private_bytes(transport)
        next_key = public(Ed25519PrivateKey.from_private_bytes(following))
        inception = b"\1" + public(root_key) + digest(b"covey commitment 1\0", next_key)
        self.identity = digest(b"covey identity 1\0", inception)
        self.log = block16(sign(root_key, b"event", inception))
        body = self.identity + struct.pack(">Q", now_us) + public(self.operational)
        self.delegation = sign(root_key, b"delegation", body + struct.pack(">QQ", now_us, now_us + 30 * DAY_US))
        body = self.identity + public(self.transport) + struct.pack(">QQ", now_us, now_us + 2 * DAY_US)
        self.certificate = sign(self.operational, b"transport", body)

    def payload(self, timestamp: int, half: bytes) -> bytes:
        """What both handshake messages say of their sender [4]. Our log has one event: head and identity are one."""
        head = struct.pack(">Q", timestamp) + half + self.identity + struct.pack(">I", 0) + self.identity
        return head + block16(self.delegation) + block16(self.certificate) + block16(b"")


def read_log(log: bytes, identity: bytes) -> tuple[bytes, bytes]:
    """Follows a key-event log; its head and the root key in force."""
    at, head, root, commitment, number = 0, b"", b"", b"", 0
    while at < len(log):
        event, at = take16(log, at)
        body = event[:-64]
        if number == 0:
            if body[0] != 1 or len(event) != 129 or digest(b"covey identity 1\0", body) != identity:
                raise Refused("not the log of this identity")
            head, root, commitment = identity, body[1:33], body[33:65]
        else:
            if body[0] != 2 or len(event) != 165 or body[1:37] != struct.pack(">I", number) + head:
                raise Refused("revoked, or not the next event")
            head, root = digest(b"covey event 1\0", body), body[37:69]
            if digest(b"covey commitment 1\0", root) != commitment:
                raise Refused("a rotation to a key that was not committed to")
            commitment = body[69:101]
        verify(root, b"event", event)
        number += 1
    return head, root


def check_payload(payload: bytes, identity: bytes, static: bytes, now_us: int) -> bytes:
    """Message 2 is of `identity`, as far as it says so itself [4]. Its delegation, to be followed from the log."""
    delegation, at = take16(payload, 84)
    certificate, _ = take16(payload, at)
    if payload[16:48] != identity or certificate[:64] != identity + static:
        raise Refused("another identity, or a certificate for another key")
    if not lives(certificate, 64, now_us):
        raise Refused("a certificate that does not live")
    verify(delegation[40:72], b"transport", certificate)
    return delegation


def check_delegation(delegation: bytes, log: bytes, identity: bytes, now_us: int) -> None:
    """The other half: the delegation is of the root key that the log leads to."""
    head, root = read_log(log, identity)
    if delegation[:32] != head or not lives(delegation, 72, now_us):
        raise Refused("a delegation of another head, or one that is over")
    verify(root, b"delegation", delegation)


# --- handshake [3, 4] -------------------------------------------------------------------------------------------------


class Noise:
    """What is the same in every pattern: the running hash and chaining key, and the key of the next message."""

    def __init__(self, name: bytes, prologue: bytes) -> None:
        self.hash = self.chain = name  # both names that Covey uses have exactly 32 bytes
        self._key, self._nonce = b"", 0
        self.mix_hash(prologue)

    def mix_hash(self, data: bytes) -> None:
        self.hash = digest(self.hash, data)

    def mix_key(self, ikm: bytes) -> None:
        secret = mac(self.chain, ikm)
        self.chain = mac(secret, b"\1")
        self._key, self._nonce = mac(secret, self.chain + b"\2"), 0

    def mix_psk(self, psk: bytes) -> None:
        secret = mac(self.chain, psk)
        self.chain = mac(secret, b"\1")
        mixed = mac(secret, self.chain + b"\2")
        self.mix_hash(mixed)
        self._key, self._nonce = mac(secret, mixed + b"\3"), 0

    def mix_ephemeral(self, ephemeral: bytes) -> None:
        self.mix_hash(ephemeral)
        self.mix_key(ephemeral)  # as in every pattern with a psk

    def mix_dh(self, key: X25519PrivateKey, remote: bytes) -> None:
        self.mix_key(key.exchange(X25519PublicKey.from_public_bytes(remote)))

    def seal(self, plain: bytes) -> bytes:
        sealed = AESGCM(self._key).encrypt(struct.pack(">4xQ", self._nonce), plain, self.hash)
        self._nonce += 1
        self.mix_hash(sealed)
        return sealed

    def open(self, sealed: bytes) -> bytes:
        """InvalidTag if it is not for this handshake, which is then unusable."""
        plain = AESGCM(self._key).decrypt(struct.pack(">4xQ", self._nonce), sealed, self.hash)
        self._nonce += 1
        self.mix_hash(sealed)
        return plain

    def split(self) -> tuple[bytes, bytes]:
        """The initiator's key for sending, then the responder's."""
        secret = mac(self.chain, b"")
        first = mac(secret, b"\1")
        return first, mac(secret, first + b"\2")


class Handshake(Noise):
    """The initiator of Noise_IKpsk2_25519_AESGCM_SHA256, without a psk."""

    def __init__(self, me: Me, identity: bytes, static: bytes, ephemeral: bytes = b"") -> None:
        super().__init__(b"Noise_IKpsk2_25519_AESGCM_SHA256", b"covey 1\0" + identity)
        self._me, self.static = me, static
        self._ephemeral = X25519PrivateKey.from_private_bytes(ephemeral or os.urandom(32))
        self.mix_hash(static)

    def message_1(self, payload: bytes) -> bytes:
        ephemeral = public(self._ephemeral)
        self.mix_ephemeral(ephemeral)
        self.mix_dh(self._ephemeral, self.static)
        static = self.seal(public(self._me.transport))
        self.mix_dh(self._me.transport, self.static)
        return ephemeral + static + self.seal(payload.ljust(1000, b"\0"))

    def message_2(self, message: bytes) -> bytes:
        """Its payload."""
        ephemeral = message[:32]
        self.mix_ephemeral(ephemeral)
        self.mix_dh(self._ephemeral, ephemeral)
        self.mix_dh(self._me.transport, ephemeral)
        self.mix_psk(bytes(32))
        return self.open(message[32:])


def mac1(known: bytes, datagram: bytes) -> bytes:
    return mac(digest(b"covey mac1 1\0", known), datagram)[:16]


def complete(known: bytes, datagram: bytes, cookie: bytes = b"") -> bytes:
    """A first datagram with mac1 and mac2. `known`: the responder's transport key, or the identity asked for."""
    datagram += mac1(known, datagram)
    return datagram + (mac(cookie, datagram)[:16] if cookie else bytes(16))


def open_cookie(known: bytes, asked: bytes, reply: bytes) -> bytes:
    """The cookie in a COOKIE_REPLY to the datagram `asked`. InvalidTag if it is forged."""
    return AESGCM(hkdf(b"", known, b"covey cookie 1")).decrypt(reply[12:24], reply[24:], asked[-32:-16])


def initiation(handshake: Handshake, index: bytes, payload: bytes, cookie: bytes = b"") -> bytes:
    head = bytes((INITIATION, 1, 0, 0)) + index + bytes(8)
    return complete(handshake.static, head + handshake.message_1(payload), cookie)


def receive(sock: socket.socket, seconds: float) -> bytes:
    """The next datagram; b"" if none comes in time."""
    return sock.recv(65536) if select.select([sock], [], [], seconds)[0] else b""


def ask(sock: socket.socket, known: bytes, make: Callable[[bytes], bytes], answer: Callable[[bytes], bool]) -> bytes:
    """Sends what `make(cookie)` gives until `answer` finds the answer. TimeoutError after ten tries."""
    cookie = b""
    for _ in range(10):
        sock.send(asked := make(cookie))
        until = time.monotonic() + 0.5
        while (left := until - time.monotonic()) > 0:
            datagram = receive(sock, left)
            if answer(datagram):
                return datagram
            if not cookie and datagram[:12] == bytes((COOKIE_REPLY, 1, 0, 0)) + asked[4:12]:
                cookie = open_cookie(known, asked, datagram)
                break  # asked again at once
    raise TimeoutError("no answer")


def fetch_key(sock: socket.socket, identity: bytes) -> bytes:
    """The transport key an agent says it has [3]: a claim, until a session has its log."""
    nonce = os.urandom(8)
    request = (bytes((RECORD_REQUEST, 1, 0, 0)) + nonce + identity).ljust(1168, b"\0")
    expected = bytes((RECORD_RESPONSE, 1, 0, 0)) + nonce
    answer = ask(sock, identity, lambda cookie: complete(identity, request, cookie), lambda each: each[:12] == expected)
    record, _ = take16(answer, 12)
    _, at = take16(record, 69)
    certificate, _ = take16(record, at)
    if record[:32] != identity or certificate[:32] != identity:
        raise Refused("the record of another agent")
    return certificate[32:64]


# --- session [5 to 10] ------------------------------------------------------------------------------------------------


def next_chain(chain: bytes, shared: bytes, handshake_hash: bytes, offer: bytes, answer: bytes) -> bytes:
    return hkdf(chain, shared, b"covey ratchet 1" + handshake_hash + offer[:8] + digest(offer, answer))


def epoch_keys(chain: bytes) -> tuple[bytes, bytes]:
    """Of epoch 1 and later: the initiator's for sending, then the responder's."""
    return hkdf(b"", chain, b"covey keys 1 initiator"), hkdf(b"", chain, b"covey keys 1 responder")


def header(path: int, epoch: int, index: bytes, counter: int) -> bytes:
    return struct.pack(">BBH", PACKET, path, epoch & 0xFFFF) + index + struct.pack(">Q", counter)


def nonce_of(packet: bytes) -> bytes:
    return bytes(3) + packet[1:2] + packet[8:16]


class Pieces:
    """Bytes that arrive in any order, and are read in theirs."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False
        self._waiting: list[tuple[int, bytes, bool]] = []

    def add(self, offset: int, data: bytes, last: bool = False) -> None:
        self._waiting.append((offset, data, last))
        for piece in sorted(self._waiting):
            offset, data, last = piece
            if offset <= len(self.data):
                self._waiting.remove(piece)
                self.data += data[len(self.data) - offset :]
                self.ended = self.ended or last


@dataclass
class Stream:
    number: int
    received: Pieces = field(default_factory=Pieces)
    sent: int = 0
    reset: int | None = None


class Session:
    """A handshake's keys, and the streams over them. `poll` does all the work; the rest only asks for it.

    Streams may be opened once the peer is `verified` and `epoch` is 1: before, some services refuse them.
    """

    def __init__(self, me: Me, sock: socket.socket, identity: bytes, static: bytes) -> None:
        self._me, self._socket, self.peer = me, sock, identity
        half, tries = os.urandom(8), list[Handshake]()

        def make(cookie: bytes) -> bytes:
            # Each try with fresh keys and a fresh index; an answer to an older one is ignored.
            tries.append(Handshake(me, identity, static))
            self._index = os.urandom(4)
            return initiation(tries[-1], self._index, me.payload(time.time_ns() // 1000, half), cookie)

        response = ask(sock, static, make, lambda each: each[:4] == b"\2\1\0\0" and each[8:12] == self._index)
        handshake = tries[-1]
        payload = handshake.message_2(response[12:])
        self._delegation = check_payload(payload, identity, static, time.time_ns() // 1000)
        self._peer_index, self._hash = response[4:8], handshake.hash
        self._chain = hkdf(b"", handshake.chain, b"covey chain")
        sending, receiving = handshake.split()
        self.epoch, self._sealer, self._openers = 0, AESGCM(sending), {0: AESGCM(receiving)}
        self._counters = {0: 0, PROBE_PATH: 0}
        self._opened: set[tuple[int, int]] = set()  # all of them: a session of this client is short
        self._unacknowledged: dict[int, tuple[float, bytes]] = {}
        self._crypto, self._crypto_sent, self._crypto_read, self._log = Pieces(), 0, 0, b""
        self.streams: dict[int, Stream] = {}
        self._parity = 0 if me.identity < identity else 1
        self._opened_streams = 0
        self.verified = False
        self.closed: tuple[int, str] | None = None
        self._kem, self._exchange = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
        self._offer = struct.pack(">Q", 1) + self._kem.public_key().public_bytes_raw() + public(self._exchange)
        self._control(OFFER, self._offer)
        self._control(LOG_REQUEST, b"")

    # sending

    def open(self, service: bytes, data: bytes = b"", *, last: bool = False) -> Stream:
        stream = self.streams.setdefault(number := self._opened_streams << 1 | self._parity, Stream(number))
        self._opened_streams += 1
        self.send(stream, bytes((len(service),)) + service + data, last=last)
        return stream

    def is_ours(self, number: int) -> bool:
        """Whether we opened the stream: bit 0 is 0 for the side with the lower identity."""
        return number & 1 == self._parity

    def send(self, stream: Stream, data: bytes, *, last: bool = False) -> None:
        for at in range(0, max(len(data), 1), PIECE):
            piece = data[at : at + PIECE]
            end = last and at + PIECE >= len(data)
            self._packet(struct.pack(">BBIQH", STREAM, end, stream.number, stream.sent, len(piece)) + piece)
            stream.sent += len(piece)

    def close(self) -> None:
        self._packet(struct.pack(">BIB", CLOSE, 0, 0), repeat=False)

    def _control(self, kind: int, body: bytes) -> None:
        message = bytes((kind,)) + block16(body)
        for at in range(0, len(message), PIECE):
            piece = message[at : at + PIECE]
            self._packet(struct.pack(">BIH", CRYPTO, self._crypto_sent, len(piece)) + piece)
            self._crypto_sent += len(piece)

    def _packet(self, frames: bytes, path: int = 0, *, repeat: bool = True) -> None:
        counter = self._counters[path]
        self._counters[path] += 1
        head = header(path, self.epoch, self._peer_index, counter)
        self._socket.send(head + self._sealer.encrypt(nonce_of(head), frames, head))
        if repeat:
            self._unacknowledged[counter] = (time.monotonic(), frames)

    # receiving

    def wait(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Polls until `condition()`. TimeoutError, and ConnectionError if the peer closes the session."""
        until = time.monotonic() + seconds
        while not condition():
            if self.closed is not None:
                raise ConnectionError(f"closed by the peer: {self.closed}")
            if time.monotonic() > until:
                raise TimeoutError("the peer does not do what was waited for")
            self.poll()

    def poll(self, seconds: float = 0.1) -> None:
        """Repeats what was not acknowledged for a second, then waits for one datagram and acts on it."""
        for counter, (at, frames) in list(self._unacknowledged.items()):
            if time.monotonic() - at > 1.0:
                del self._unacknowledged[counter]
                self._packet(frames)
        packet = receive(self._socket, seconds)
        if len(packet) < 33 or packet[0] != PACKET or packet[4:8] != self._index:
            return
        _, path, epoch, _, counter = struct.unpack_from(">BBHIQ", packet)
        if epoch not in self._openers or (path, counter) in self._opened:
            return
        try:
            frames = self._openers[epoch].decrypt(nonce_of(packet), packet[16:], packet[:16])
        except InvalidTag:
            return
        acknowledge = self._frames(frames, len(packet))
        if acknowledge is None:
            return  # left as if it had not come: it is sent again
        self._opened.add((path, counter))
        if acknowledge and path != PROBE_PATH:
            self._packet(struct.pack(">BBHBQI", ACK, path, 0, 0, counter, 1), repeat=False)

    def _frames(self, frames: bytes, size: int) -> bool | None:
        """Acts on the frames of a packet. Whether it must be acknowledged; None: not before the peer is verified."""
        at, eliciting, early = 0, False, False
        while at < len(frames):
            kind = frames[at]
            if kind == PADDING:
                break
            if kind == PING:
                at, eliciting = at + 1, True
            elif kind == ACK:
                at = self._on_ack(frames, at)
            elif kind == CRYPTO:
                _, offset, length = struct.unpack_from(">BIH", frames, at)
                self._crypto.add(offset, frames[at + 7 : at + 7 + length])
                at, eliciting = at + 7 + length, True
                self._on_crypto()
            elif kind == STREAM:
                _, last, number, offset, length = struct.unpack_from(">BBIQH", frames, at)
                if self.verified:
                    stream = self.streams.setdefault(number, Stream(number))
                    stream.received.add(offset, frames[at + 16 : at + 16 + length], bool(last))
                at, eliciting, early = at + 16 + length, True, early or not self.verified
            elif kind == DATAGRAM:
                at, eliciting = at + 7 + struct.unpack_from(">H", frames, at + 5)[0], True
            elif kind == PATH_CHALLENGE:
                answer = bytes((PATH_RESPONSE,)) + frames[at + 1 : at + 9]
                self._packet(answer.ljust(size - 32, b"\0"), PROBE_PATH, repeat=False)
                at += 9
            elif kind == CLOSE:
                _, code, length = struct.unpack_from(">BIB", frames, at)
                self.closed = (code, frames[at + 6 : at + 6 + length].decode())
                return False
            elif kind in SIZES:
                if kind == RESET and self.verified:
                    _, number, code, _ = struct.unpack_from(">BIIQ", frames, at)
                    self.streams.setdefault(number, Stream(number)).reset = code
                at, eliciting = at + SIZES[kind], eliciting or kind != PATH_RESPONSE
            else:
                raise Refused(f"frame {kind:#x}")
        return None if early else eliciting

    def _on_ack(self, frames: bytes, at: int) -> int:
        _, path, _, more, high, length = struct.unpack_from(">BBHBQI", frames, at)
        at += 17
        for number in range(more + 1):
            if number:
                gap, length = struct.unpack_from(">II", frames, at)
                at, high = at + 8, high - gap
            for counter in [each for each in self._unacknowledged if path == 0 and high - length < each <= high]:
                del self._unacknowledged[counter]
            high -= length
        return at

    def _on_crypto(self) -> None:
        data = self._crypto.data
        while len(data) >= self._crypto_read + 3:
            kind, size = struct.unpack_from(">BH", data, self._crypto_read)
            start = self._crypto_read + 3
            if len(data) < start + size:
                return
            self._crypto_read = start + size
            self._on_control(kind, bytes(data[start : start + size]))

    def _on_control(self, kind: int, body: bytes) -> None:
        if kind == ANSWER and self.epoch == 0:
            dh = self._exchange.exchange(X25519PublicKey.from_public_bytes(body[1096:]))
            self._chain = next_chain(
                self._chain, dh + self._kem.decapsulate(body[8:1096]), self._hash, self._offer, body
            )
            sending, receiving = epoch_keys(self._chain)
            self.epoch, self._sealer, self._openers[1] = 1, AESGCM(sending), AESGCM(receiving)
        elif kind == LOG_REQUEST:
            self._control(LOG, b"\1" + self._me.log)
        elif kind == LOG and not self.verified:
            self._log += body[1:]
            if body[0]:
                check_delegation(self._delegation, self._log, self.peer, time.time_ns() // 1000)
                self.verified = True
        elif kind not in (WANT_REKEY, CANDIDATES, SEEN):
            raise Refused(f"control message {kind}")


# --- services [14] ----------------------------------------------------------------------------------------------------


def service_frame(kind: int, body: bytes) -> bytes:
    return struct.pack(">IB", 1 + len(body), kind) + body


def service_frames(data: bytes) -> list[tuple[int, bytes]]:
    """The frames in `data` that are complete."""
    found, at = [], 0
    while at + 4 <= len(data) and at + 4 + (size := struct.unpack_from(">I", data, at)[0]) <= len(data):
        found.append((data[at + 4], bytes(data[at + 5 : at + 4 + size])))
        at += 4 + size
    return found
