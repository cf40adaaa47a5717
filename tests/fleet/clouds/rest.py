"""A small REST server for the fakes of clouds, and a proxy that puts faults before a real one."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Request:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body or b"{}")


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def answer(value: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})


Fault = Callable[[Request], Answer | None]


class Server:
    """Serves `handle` on a port of loopback; before it, `faults` in order: the first that answers wins."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.dead = False
        """Connections that are open, or come, get no answer."""
        self._lock = threading.RLock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                path, _, query = self.path.partition("?")
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = Request(self.command, path, query, dict(self.headers), body)
                reply = fake._reply(request)
                if reply is None:
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):  # one method serves every verb
                    return self._serve
                raise AttributeError(name)

            def log_message(self, *_: Any) -> None:
                """What was asked is in `requests`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def _reply(self, request: Request) -> Answer | None:
        if self.dead:
            return None
        with self._lock:
            self.requests.append(request)
            faults = list(self.faults)
        for fault in faults:
            reply = fault(request)
            if reply is not None:
                return reply
        return self.handle(request)

    def handle(self, request: Request) -> Answer:
        raise NotImplementedError

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Proxy(Server):
    """Passes everything on to `target` (host, port)."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        super().__init__()

    def handle(self, request: Request) -> Answer:
        connection = http.client.HTTPConnection(*self.target, timeout=10)
        try:
            path = f"{request.path}?{request.query}" if request.query else request.path
            connection.request(request.method, path, body=request.body, headers=request.headers)
            reply = connection.getresponse()
            kept = {"content-type", "x-amzn-requestid"}
            headers = {name: value for name, value in reply.getheaders() if name.lower() in kept}
            return Answer(reply.status, reply.read(), headers)
        finally:
            connection.close()
