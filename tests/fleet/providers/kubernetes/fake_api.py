"""An API server that answers as it is told: for what its refusals mean, and for APIs that Debian's has not."""

from __future__ import annotations

import http.server
import json
import threading
from pathlib import Path
from typing import Any

Answer = tuple[int, dict[str, str], bytes]


class Fake:
    """An API server that answers as it is told, and what it was asked."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[str] = []
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fake.asked.append(f"{self.command} {self.path}")
                code, headers, body = fake.answers.pop(0)
                self.send_response(code)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def kubeconfig_for(fake: Fake, tmp_path: Path) -> Path:
    """With one context, `c`."""
    path = tmp_path / "config"
    config = {
        "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": fake.url}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "agents"}}],
    }
    path.write_text(json.dumps(config))
    return path
