"""One real control plane for the tests of the provider."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lightkube import Client, KubeConfig
from lightkube.resources.core_v1 import Node

from tests.fleet.kubernetes.plane import Plane, programs


@pytest.fixture(scope="session")
def kubernetes() -> Path:
    """The programs, built."""
    where = programs()
    if where is None:
        pytest.skip("no control plane is built: make kubernetes")
    return where


@pytest.fixture(scope="module")
def plane(kubernetes: Path) -> Iterator[Plane]:
    """Up, with two nodes of eight agents' room each (4 CPUs)."""
    with tempfile.TemporaryDirectory(prefix="covey-") as directory:
        plane = Plane("eks", Path(directory) / "eks", kubernetes)
        try:
            plane.start()
            wait(plane.is_ready, plane)
            plane.start_node([node("n1"), node("n2")])
            with Client(KubeConfig.from_file(plane.admin).get(), trust_env=False) as admin:
                wait(lambda: len([each for each in admin.list(Node) if each.status.conditions]) == 2, plane)
            yield plane
        finally:
            plane.close()


def wait(call: Callable[[], bool], plane: Plane) -> None:
    deadline = time.monotonic() + 60
    while not call():
        assert time.monotonic() < deadline, plane.log("kube-apiserver")[-2000:]
        asyncio.run(asyncio.sleep(0.1))


def node(name: str, *, cpu: int = 4, shape: str = "m7.large", zone: str = "a", **labels: str) -> dict[str, Any]:
    about = {
        "node.kubernetes.io/instance-type": shape,
        "topology.kubernetes.io/zone": zone,
        "topology.kubernetes.io/region": "us-east-1",
    }
    return {"name": name, "cpu": cpu, "memory": "16Gi", "labels": {**about, **labels}}
