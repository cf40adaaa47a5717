from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
from typing import Any

import pytest

from covey.base import errors
from covey.base.errors import CoveyError
from covey.base.failures import error_status
from covey.daemon.api import BATCH_BODY_LIMIT, BODY_LIMIT, ROUTES
from tests.daemon.memory import PEER_NAME, RunningDaemon


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: os.PathLike[str]) -> None:
        super().__init__("covey", timeout=20)
        self.path = os.fspath(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self.path)


def request(
    daemon: RunningDaemon,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, Any]:
    connection = UnixConnection(daemon.home.api_socket)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


@pytest.mark.parametrize("cls", [getattr(errors, name) for name in errors.__all__], ids=lambda cls: cls.__name__)
def test_error_of_every_class_is_an_error_view_with_its_status(daemon: RunningDaemon, cls: type[CoveyError]) -> None:
    daemon.node.failures["ping"] = cls("it went wrong", code="some-code", next_step="do this")
    status, view = request(daemon, "POST", "/v1/ping", b'{"peer": "azure-processor"}')
    assert status == error_status(cls("x"))
    assert view == {"code": "some-code", "message": "it went wrong", "next_step": "do this"}


def test_unforeseen_error_is_internal_and_keeps_its_details(
    daemon: RunningDaemon, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.node.failures["ping"] = ZeroDivisionError("the secret detail")
    status, view = request(daemon, "POST", "/v1/ping", b'{"peer": "azure-processor"}')
    assert status == 500
    assert view["code"] == "internal"
    assert "secret" not in json.dumps(view)
    assert "the secret detail" in caplog.text + capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/v1/nothing", None, 404, "not-found"),
        ("GET", "/", None, 404, "not-found"),
        ("PUT", "/v1/ping", b"{}", 405, "usage"),
        ("POST", "/v1/status", b"{}", 405, "usage"),
        ("POST", "/v1/ping", b"{", 400, "malformed"),
        ("POST", "/v1/ping", b"\xff", 400, "malformed"),
        ("POST", "/v1/ping", b'{"peer": "\xff"}', 400, "malformed"),
        ("POST", "/v1/ping", b"", 422, "usage"),
        ("POST", "/v1/ping", b"[]", 422, "usage"),
        ("POST", "/v1/ping", b'{"peer": 3}', 422, "usage"),
        ("POST", "/v1/ping", b'{"peer": ""}', 422, "usage"),
        ("POST", "/v1/ping", b'{"peer": "a", "misspelt": 1}', 422, "usage"),
        ("GET", "/v1/inbox?limit=0", None, 422, "usage"),
        ("GET", "/v1/inbox?limit=many", None, 422, "usage"),
        ("GET", "/v1/inbox?lmit=1", None, 422, "usage"),
        ("GET", "/v1/inbox/none", None, 422, "usage"),
        ("GET", "/v1/inbox/17", None, 404, "no-message"),
        ("GET", "/v1/find/nobody", None, 404, "unknown-peer"),
        ("GET", "/v1/peers/nobody", None, 404, "unknown-peer"),
    ],
)
def test_bad_request_is_answered_with(
    daemon: RunningDaemon, method: str, path: str, body: bytes | None, status: int, code: str
) -> None:
    found, view = request(daemon, method, path, body)
    assert (found, view["code"]) == (status, code)


def test_body_over_the_limit_is_refused_by_its_announced_length(daemon: RunningDaemon) -> None:
    status, view = request(daemon, "POST", "/v1/messages", b"x" * (BODY_LIMIT + 1))
    assert (status, view["code"]) == (429, "body-too-large")


def test_body_over_the_limit_is_refused_while_it_arrives(daemon: RunningDaemon) -> None:
    connection = UnixConnection(daemon.home.api_socket)
    connection.putrequest("POST", "/v1/messages")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    chunk = b"%x\r\n%b\r\n" % (1 << 20, b"x" * (1 << 20))
    for _ in range(3):
        connection.send(chunk)
    connection.send(b"0\r\n\r\n")
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["code"]) == (429, "body-too-large")
    connection.close()


def test_batch_route_alone_takes_large_bodies() -> None:
    limits = {route.path: route.limit for route in ROUTES}
    assert limits.pop("/v1/messages/batch") == BATCH_BODY_LIMIT
    assert set(limits.values()) == {BODY_LIMIT}


def test_timeout_header_bounds_the_request(daemon: RunningDaemon) -> None:
    daemon.node.gates["ping"] = asyncio.Event()
    headers = {"Covey-Timeout": "0.05"}
    status, view = request(daemon, "POST", "/v1/ping", b'{"peer": "azure-processor"}', headers)
    assert (status, view["code"]) == (504, "timeout")


@pytest.mark.parametrize("text", ["", "soon", "-1", "nan", "inf"])
def test_timeout_header_that_says_nothing_is_ignored(daemon: RunningDaemon, text: str) -> None:
    assert request(daemon, "GET", "/v1/status", headers={"Covey-Timeout": text})[0] == 200


def test_path_argument_may_need_quoting(daemon: RunningDaemon) -> None:
    status, view = request(daemon, "GET", "/v1/find/a%20b%3Fc")
    assert (status, view["message"]) == (404, "nobody is called 'a b?c'")


def test_keep_alive_connection_serves_several_requests(daemon: RunningDaemon) -> None:
    connection = UnixConnection(daemon.home.api_socket)
    for _ in range(3):
        connection.request("GET", f"/v1/find/{PEER_NAME}")
        assert json.loads(connection.getresponse().read())["name"] == PEER_NAME
    connection.close()


def test_connection_of_another_user_is_closed_unanswered(
    daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = os.getuid() + 1
    monkeypatch.setattr("covey.daemon.peercred.os.getuid", lambda: other)
    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        request(daemon, "GET", "/v1/status")
