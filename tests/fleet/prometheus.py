"""Debian's Prometheus, for tests: unpacked by `scripts/prometheus_unpack.sh`, or on the PATH."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; the test is skipped where there is none."""
    found = shutil.which(name)
    if found is None:
        said = subprocess.run(
            ["sh", str(ROOT / "scripts/prometheus_unpack.sh"), "--path"], capture_output=True, text=True, check=False
        )
        if said.returncode:
            pytest.skip("no Prometheus: sh scripts/prometheus_unpack.sh")
        found = str(Path(said.stdout.strip()) / name)
    return found


class Prometheus:
    """A running one."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, path: str, **fields: str) -> Any:
        status, body = get(f"{self.address}{path}?{urllib.parse.urlencode(fields)}")
        answer = json.loads(body)
        assert status == 200, answer
        return answer["data"]

    def until(self, query: str) -> list[Any]:
        """What the query gives, once it gives anything."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            result = self.ask("/api/v1/query", query=query)["result"]
            if result:
                return list(result)
        raise AssertionError(f"nothing for {query}")


def get(url: str) -> tuple[int, bytes]:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}")
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@contextlib.contextmanager
def prometheus(
    directory: Path, scraped: str = "", *, rules: Path | None = None, every: str = "200ms"
) -> Iterator[Prometheus]:
    """One that scrapes `scraped` (HOST:PORT)."""
    configuration = directory / "prometheus.yml"
    configuration.write_text(
        f"global: {{scrape_interval: {every}, scrape_timeout: {every}, evaluation_interval: {every}}}\n"
        + (f"rule_files: ['{rules}']\n" if rules else "")
        + (f"scrape_configs: [{{job_name: fleet, static_configs: [{{targets: ['{scraped}']}}]}}]\n" if scraped else "")
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={configuration}",
                f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=error",
            ],
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, "GOMAXPROCS": "2"},
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/-/ready", process)
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, "Prometheus ended"
        with contextlib.suppress(OSError, http.client.HTTPException):
            if get(url)[0] == 200:
                return
    raise AssertionError("Prometheus is not ready")


def known(directory: Path, samples: str) -> None:
    """Let a Prometheus that is started in `directory` know these samples (lines of OpenMetrics, with their times): it
    scrapes nothing during its first five seconds."""
    text = directory / "samples.txt"
    text.write_text(f"{samples.rstrip()}\n# EOF\n")
    subprocess.run(
        [program("promtool"), "tsdb", "create-blocks-from", "openmetrics", str(text), str(directory / "data")],
        check=True,
        capture_output=True,
    )
