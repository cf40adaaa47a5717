"""Reading over HTTP from this machine, as the command does."""

from __future__ import annotations

import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from covey.base.errors import UnreachableError, UsageError
from covey.fleet.prices.catalog import Catalog
from covey.fleet.prices.refresh import GCP_KEY, Addresses, refresh
from covey.fleet.prices.web import get
from tests.fleet.prices import samples
from tests.fleet.prices.samples import AT

Answer = Callable[[str, dict[str, list[str]]], tuple[int, bytes]]


class Clouds:
    """All three price APIs."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.keys: list[str | None] = []
        clouds = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                clouds.asked.append(urllib.parse.unquote(self.path))
                clouds.keys.append(self.headers.get("X-Goog-Api-Key"))
                status, body = clouds.answer(urllib.parse.unquote(self.path))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", f"{clouds.url}/aws/AmazonEC2/current/us-east-1/index.csv")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def answer(self, path: str) -> tuple[int, bytes]:
        if path == "/aws/AmazonEC2/current/us-east-1/index.csv":
            return 200, samples.EC2_CSV.encode()
        if path == "/aws/AWSDataTransfer/current/us-east-1/index.csv":
            return 200, samples.TRANSFER_CSV.encode()
        if path.startswith("/azure"):
            if "Bandwidth" in path:
                return 200, samples.azure_page(*samples.AZURE_BANDWIDTH)
            if "page=2" in path:
                return 200, samples.azure_page(*samples.AZURE_MACHINES[1:])
            return 200, samples.azure_page(samples.AZURE_MACHINES[0], following=f"{self.url}/azure?page=2")
        if path.startswith("/gcp"):
            return 200, json.dumps(samples.GCP_SECOND if "second" in path else samples.GCP_FIRST).encode()
        return (302, b"") if path == "/moved" else (503, b"")

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def clouds() -> Iterator[Clouds]:
    found = Clouds()
    yield found
    found.close()


def test_refresh_fills_the_catalog_and_tells_what_failed(
    clouds: Clouds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(GCP_KEY, "secret-key")
    catalog = Catalog(tmp_path / "prices.db")
    addresses = Addresses(aws=f"{clouds.url}/aws", azure=f"{clouds.url}/azure", gcp=f"{clouds.url}/gcp")
    regions = {"aws": ["us-east-1", "eu-west-9"], "azure": ["westeurope"]}
    outcomes = refresh(catalog, ("aws", "azure", "gcp"), regions, AT, addresses=addresses)
    assert [(each.cloud, each.region, bool(each.problem)) for each in outcomes] == [
        ("aws", "us-east-1", False),
        ("aws", "us-east-1", False),
        ("aws", "eu-west-9", True),
        ("aws", "eu-west-9", True),
        ("azure", "westeurope", False),
        ("azure", "westeurope", False),
        ("gcp", "", False),
    ]
    assert "HTTP 503" in outcomes[2].problem
    found = {each.cloud: (each.on_demand, each.spot, each.egress) for each in catalog.summaries()}
    assert found["aws"] == (3, 0, 2)
    assert found["azure"] == (1, 1, 1)
    assert found["gcp"][2] == 1
    assert clouds.keys[-1] == "secret-key"
    assert not [path for path in clouds.asked if "secret" in path]

    before = len(clouds.asked)
    refresh(catalog, ("aws",), {"aws": ["us-east-1"]}, AT + 3600, addresses=addresses, needed=True)
    assert len(clouds.asked) == before
    refresh(catalog, ("aws",), {"aws": ["us-east-1"]}, AT + 13 * 3600, addresses=addresses, needed=True)
    assert len(clouds.asked) == before + 2
    catalog.close()


def test_nothing_but_https_or_this_machine_is_asked_and_no_redirect_followed(clouds: Clouds) -> None:
    for url in ("http://prices.example/x", "file:///etc/passwd", "ftp://127.0.0.1/x"):
        with pytest.raises(UsageError):
            get(url)
    with pytest.raises(UnreachableError, match="HTTP 302"):
        get(f"{clouds.url}/moved")


def test_without_a_key_or_region_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(GCP_KEY, raising=False)
    catalog = Catalog(tmp_path / "prices.db")
    (outcome,) = refresh(catalog, ("gcp",), {}, AT)
    assert "asks for a key" in outcome.problem
    with pytest.raises(UsageError, match="no pool names a region of azure"):
        refresh(catalog, ("azure",), {}, AT)
    catalog.close()
