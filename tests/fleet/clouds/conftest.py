"""Moto's server, once for a worker; and a pool of each cloud."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.fleet.clouds.harness import CREDENTIALS, Aws, Azure, Cloud, Gcp


@pytest.fixture(scope="session")
def moto() -> Iterator[tuple[str, int]]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture(params=["aws", "azure", "gcp"])
def cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    made: Cloud
    if request.param == "aws":
        made = Aws(request.getfixturevalue("moto"), group=f"group-{abs(hash(request.node.nodeid))}")
    else:
        made = Azure() if request.param == "azure" else Gcp()
    yield made
    made.close()
