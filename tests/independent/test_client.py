"""`docs/protocol.md` is enough: a client written from it alone agrees with the vectors and talks to a real daemon."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from covey.base.types import Identity, identity_text, parse_identity
from scripts.processes import Agent, eventually
from tests.independent import client, introduction
from tests.independent.client import Handshake, Me, Session, service_frame, service_frames

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "protocol.json").read_text())
SOURCES = [Path(client.__file__), Path(introduction.__file__)]


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


def me_of(side: dict[str, str]) -> Me:
    names = ("root_seed", "next_root_seed", "operational_seed", "transport_private")
    return Me(VECTORS["wall_us"], tuple(raw(side[name]) for name in names))


# --- it is independent ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_sources_import_the_standard_library_cryptography_and_each_other(source: Path) -> None:
    names = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add(str(node.module))
        elif isinstance(node, ast.Name):
            assert node.id not in ("__import__", "exec", "eval", "importlib")
    packages = {name.split(".")[0] for name in names if name != "tests.independent.client"}
    assert packages - sys.stdlib_module_names == {"cryptography"}


def test_sources_load_no_module_of_covey() -> None:
    root = SOURCES[0].parents[2]
    loaded = "[name for name in sys.modules if name.split('.')[0] == 'covey']"
    code = f"import sys; sys.path.insert(0, {str(root)!r}); import tests.independent.introduction; print({loaded})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout == "[]\n"


# --- it agrees with the vectors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["initiator", "responder"])
def test_signed_objects_are_those_of_the_vectors(side: str) -> None:
    expected, me = VECTORS[side], me_of(VECTORS[side])
    assert me.identity.hex() == expected["identity"]
    assert me.log.hex() == expected["log"]
    assert me.delegation.hex() == expected["delegation"]
    assert me.certificate.hex() == expected["transport_certificate"]


def test_every_datagram_of_the_vectors_is_written_or_opened() -> None:
    responder, keys = VECTORS["responder"], VECTORS["keys"]
    datagrams = [raw(each["bytes"]) for each in VECTORS["datagrams"]]
    identity, static = raw(responder["identity"]), raw(responder["transport_public"])
    me = me_of(VECTORS["initiator"])
    handshake = Handshake(me, identity, static, raw(VECTORS["handshake"]["initiator_ephemeral_private"]))
    said = raw(keys["payload_1"])
    (timestamp,) = struct.unpack_from(">Q", said)
    payload = me.payload(timestamp, said[8:16])
    assert client.initiation(handshake, datagrams[0][4:8], payload) == datagrams[0]

    answer = handshake.message_2(datagrams[1][12:])
    delegation = client.check_payload(answer, identity, static, VECTORS["wall_us"])
    client.check_delegation(delegation, raw(responder["log"]), identity, VECTORS["wall_us"])
    assert (handshake.hash.hex(), handshake.chain.hex()) == (keys["handshake_hash"], keys["chaining_key"])
    assert [key.hex() for key in handshake.split()] == [keys["epoch_0_initiator"], keys["epoch_0_responder"]]

    offer, reply = raw(keys["offer"]), raw(keys["answer"])
    exchange = X25519PrivateKey.from_private_bytes(raw(keys["offer_x25519_private"]))
    dh = exchange.exchange(X25519PublicKey.from_public_bytes(reply[1096:]))
    ss = MLKEM768PrivateKey.from_seed_bytes(raw(keys["offer_kem_seed"])).decapsulate(reply[8:1096])
    chain = client.next_chain(client.hkdf(b"", handshake.chain, b"covey chain"), dh + ss, handshake.hash, offer, reply)
    assert chain.hex() == keys["chain_1"]

    opener = {
        (who, epoch): AESGCM(key)
        for epoch, pair in enumerate((handshake.split(), client.epoch_keys(chain)))
        for who, key in zip(("initiator", "responder"), pair, strict=True)
    }
    for each, packet in zip(VECTORS["datagrams"][2:], datagrams[2:], strict=True):
        aead = opener[each["from"], each["epoch"]]
        assert aead.decrypt(client.nonce_of(packet), packet[16:], packet[:16]).hex() == each["plain"]


def test_every_datagram_of_an_introduction_is_written_or_read() -> None:
    vector = json.loads((Path(__file__).parents[1] / "vectors" / "covey.json").read_text())["introduction"]
    keys = introduction.code_keys(introduction.read_code(vector["code"].upper()))
    assert [key.hex() for key in keys] == [vector["mac1_key"], vector["psk"]]
    static = X25519PrivateKey.from_private_bytes(raw(vector["enters_static"]))
    entering = introduction.Entering(static, keys, raw(vector["enters_ephemeral"]), raw(vector["greeting"])[4:8])
    assert entering.greeting.hex() == vector["greeting"]
    record, theirs = entering.read_reply(raw(vector["reply"]))
    assert record.hex() == vector["window_record"]
    assert theirs == client.public(X25519PrivateKey.from_private_bytes(raw(vector["window_static"])))
    assert entering.proof(raw(vector["enters_record"])).hex() == vector["proof"]
    entering.confirmed(raw(vector["confirmation"]))


# --- what it refuses --------------------------------------------------------------------------------------------------


def test_claims_that_do_not_hold_are_refused() -> None:
    me, now = Me(VECTORS["wall_us"]), VECTORS["wall_us"]
    static = client.public(me.transport)
    payload = me.payload(0, bytes(8))
    delegation = client.check_payload(payload, me.identity, static, now)
    client.check_delegation(delegation, me.log, me.identity, now)
    other = Me(now)
    with pytest.raises(client.Refused):
        client.check_payload(payload, other.identity, static, now)
    with pytest.raises(client.Refused):
        client.check_payload(payload, me.identity, bytes(32), now)
    with pytest.raises(client.Refused):
        client.check_payload(payload, me.identity, static, now + 3 * client.DAY_US)
    with pytest.raises(InvalidSignature):
        client.check_payload(payload[:-3] + bytes((payload[-3] ^ 1,)) + payload[-2:], me.identity, static, now)
    with pytest.raises(client.Refused):
        client.check_delegation(delegation, other.log, me.identity, now)
    with pytest.raises(client.Refused):
        client.check_delegation(other.delegation, me.log, me.identity, now)


def test_pieces_are_read_in_their_order_however_they_come() -> None:
    pieces = client.Pieces()
    for offset, data, last in [(6, b"ghi", True), (3, b"def", False), (3, b"de", False), (0, b"abcd", False)]:
        assert not pieces.ended
        pieces.add(offset, data, last)
    assert (bytes(pieces.data), pieces.ended) == (b"abcdefghi", True)


def test_forged_cookie_is_refused() -> None:
    asked = client.complete(b"k" * 32, b"\1" * 100)
    with pytest.raises(InvalidTag):
        client.open_cookie(b"k" * 32, asked, bytes(56))


# --- it talks to a daemon ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """A daemon of no network: all that the client knows of it is its identity and its port."""
    agent = Agent(tmp_path_factory.mktemp("independent"), "aws", "aws", "")
    try:
        agent.start()
        yield agent
    finally:
        agent.end()


@pytest.fixture
def sock(daemon: Agent) -> Iterator[socket.socket]:
    port = int(daemon.api.get("/v1/status").data["listen"][0].rpartition(":")[2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.connect(("127.0.0.1", port))
        yield opened


def identity_of(daemon: Agent) -> bytes:
    return bytes(parse_identity(daemon.api.get("/v1/status").data["identity"]))


def text_of(me: Me) -> str:
    return identity_text(Identity(me.identity))


def session_with(daemon: Agent, sock: socket.socket) -> tuple[Me, Session]:
    me, identity = Me(time.time_ns() // 1000), identity_of(daemon)
    session = Session(me, sock, identity, client.fetch_key(sock, identity))
    session.wait(lambda: session.verified and session.epoch == 1)
    return me, session


def trusted_session(daemon: Agent, sock: socket.socket) -> tuple[Me, Session]:
    """Asks for trust, is approved, and acknowledges that on the stream that the daemon opens."""
    me, session = session_with(daemon, sock)
    number = struct.pack(">Q", time.time_ns() // 1000)
    asking = session.open(b"trust", service_frame(1, number + b"\5indep" + client.block16(b"a word")), last=True)
    session.wait(lambda: asking.received.ended)
    assert service_frames(asking.received.data) == [(0x81, b"\2")]  # pending: their user has to say yes
    (shown,) = [each for each in daemon.api.get("/v1/pending").data["items"] if each["identity"] == text_of(me)]
    assert shown["reason"] == "a word"
    assert daemon.api.post("/v1/approve", peer=text_of(me)).data["trust"] == "trusted"
    told = offered(session, b"trust")
    session.wait(lambda: told.received.ended)
    assert [kind for kind, _ in service_frames(told.received.data[6:])] == [2]
    session.send(told, service_frame(0x81, b"\3"), last=True)
    return me, session


def offered(session: Session, service: bytes) -> client.Stream:
    """The stream that the daemon opens for this service; bytes 0 to len(service) of it are its name."""
    head = bytes((len(service),)) + service

    def found() -> list[client.Stream]:
        theirs = [each for each in session.streams.values() if each.number not in ours]
        return [each for each in theirs if each.received.data.startswith(head)]

    ours = {number for number in session.streams if session.is_ours(number)}
    session.wait(lambda: bool(found()))
    return found()[0]


def test_stranger_gets_the_handshake_the_ratchet_and_the_log_and_no_service_but_trust(
    daemon: Agent, sock: socket.socket
) -> None:
    _, session = session_with(daemon, sock)
    refused = session.open(b"sink", b"bytes", last=True)
    session.wait(lambda: refused.reset is not None)
    assert refused.reset == 1
    session.close()


def test_trusted_client_sends_a_message_that_is_settled_once(daemon: Agent, sock: socket.socket) -> None:
    me, session = trusted_session(daemon, sock)
    message = struct.pack(">QQ", 1, 1) + os.urandom(16) + b"\1" + bytes(8) + b"hello from elsewhere"
    opening = service_frame(0x01, os.urandom(8))
    stream = session.open(b"message", opening + service_frame(0x02, message) + service_frame(0x02, message))
    settled = (0x11, struct.pack(">Q", 1))
    session.wait(lambda: settled in service_frames(stream.received.data))
    assert service_frames(stream.received.data)[0] == (0x13, bytes(8))
    received = [each for each in daemon.api.get("/v1/inbox").data["items"] if each["sender"] == text_of(me)]
    assert [each["body"] for each in received] == ["hello from elsewhere"]
    session.close()


def test_trusted_client_writes_a_stream_that_is_counted_and_hashed(daemon: Agent, sock: socket.socket) -> None:
    _, session = trusted_session(daemon, sock)
    data = os.urandom(40_000)
    stream = session.open(b"sink", data, last=True)
    session.wait(lambda: stream.received.ended)
    assert bytes(stream.received.data) == struct.pack(">Q", len(data)) + hashlib.sha256(data).digest()
    session.close()


def test_client_echoes_a_stream_that_the_daemon_opens(daemon: Agent, sock: socket.socket) -> None:
    me, session = trusted_session(daemon, sock)
    offer = daemon.api.post("/v1/streams", peer=text_of(me), service="echo").data
    data = os.urandom(20_000)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as local:
        local.settimeout(30)
        local.connect(offer["socket"])
        local.sendall(offer["token"].encode() + b"\n" + data)
        local.shutdown(socket.SHUT_WR)
        stream = offered(session, b"echo")
        session.wait(lambda: stream.received.ended)
        session.send(stream, bytes(stream.received.data[5:]), last=True)
        back = b""
        while len(back) < len(b"ok\n") + len(data):
            session.poll(0.01)
            back += receive_ready(local)
    assert back == b"ok\n" + data
    session.close()


def receive_ready(local: socket.socket) -> bytes:
    try:
        return local.recv(65536, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""


def test_daemon_sees_the_client_leave(daemon: Agent, sock: socket.socket) -> None:
    me, session = trusted_session(daemon, sock)

    def seen() -> dict[str, Any]:
        return dict(daemon.api.get(f"/v1/peers/{text_of(me)}").data)

    assert (seen()["connected"], seen()["trust"]) == (True, "trusted")
    session.close()
    eventually(lambda: not seen()["connected"], "the session is over")


def test_client_answers_a_cookie_of_a_daemon_under_load(daemon: Agent, sock: socket.socket) -> None:
    identity, heard = identity_of(daemon), list[int]()
    static = client.fetch_key(sock, identity)

    class Listening(socket.socket):
        """Notes the kinds of what it receives."""

        def recv(self, size: int, flags: int = 0) -> bytes:
            datagram = super().recv(size, flags)
            heard.append(datagram[0])
            return datagram

    others = [Me(time.time_ns() // 1000) for _ in range(4)]
    flood = [
        client.initiation(Handshake(me, identity, static), os.urandom(4), me.payload(time.time_ns() // 1000, bytes(8)))
        for me in others * 75
    ]
    with Listening(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.connect(sock.getpeername())
        for datagram in flood:
            sock.send(datagram)
        session = Session(Me(time.time_ns() // 1000), listening, identity, static)
        session.wait(lambda: session.verified and session.epoch == 1)
        session.close()
    assert client.COOKIE_REPLY in heard


def test_client_is_introduced_by_a_code_and_trusted(daemon: Agent, sock: socket.socket) -> None:
    """All it is given is the code and where to knock. The daemon asks it for trust, and its own request is the yes."""
    now_us = time.time_ns() // 1000
    me = Me(now_us)
    opened = daemon.api.post("/v1/introduction").data
    identity, static = introduction.enter(sock, me, introduction.record_of(me, "indep", now_us), opened["code"])
    assert identity == identity_of(daemon)
    session = Session(me, sock, identity, static)
    session.wait(lambda: session.verified and session.epoch == 1)
    asked = offered(session, b"trust")
    session.wait(lambda: asked.received.ended)
    assert [kind for kind, _ in service_frames(asked.received.data[6:])] == [1]
    session.send(asked, service_frame(0x81, b"\2"), last=True)
    number = struct.pack(">Q", time.time_ns() // 1000)
    asking = session.open(b"trust", service_frame(1, number + b"\0" + client.block16(b"")), last=True)
    session.wait(lambda: asking.received.ended)
    assert service_frames(asking.received.data) == [(0x81, b"\3")]  # trusted: nobody had to approve
    ended = daemon.api.post("/v1/introduction/wait", wait=10).data
    assert (ended["state"], ended["peer"]["name"], ended["peer"]["trust"]) == ("introduced", "indep", "trusted")
    with pytest.raises(TimeoutError):
        introduction.enter(sock, Me(now_us), b"", opened["code"])
    session.close()
