"""A file becomes a `Spec`, or every fault in it is told at once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, Literal

import msgspec

from covey.base.errors import NotFoundError, StorageError
from covey.fleet.spec.checks import check
from covey.fleet.spec.fields import SPEC
from covey.fleet.spec.kinds import BAD, Reading
from covey.fleet.spec.source import MAX_BYTES, Fault, Node, SpecError
from covey.fleet.spec.toml import read_toml
from covey.fleet.spec.types import PriceSources, Spec, Target, Workload
from covey.fleet.spec.yaml import read_yaml

__all__ = ["PROMETHEUS", "load", "load_with_text", "parse", "version_of"]

PROMETHEUS: Final = "http://127.0.0.1:9090"
"""Where Prometheus listens unless told otherwise."""


def load(path: Path) -> Spec:
    """The spec in a `.toml`, `.yaml`, `.yml` or `.json` file. What it names beside itself is found from its folder.

    Raises `SpecError` with every fault, `NotFoundError`, `StorageError`.
    """
    return load_with_text(path)[0]


def load_with_text(path: Path) -> tuple[Spec, str]:
    """The same, and what it was made from: the file may change between two looks."""
    try:
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise SpecError(path.name, [Fault(0, "", "", f"at most {MAX_BYTES} bytes")])
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no spec at {path}", code="no-spec", next_step="covey fleet init, or name it: --spec FILE"
        ) from None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}", code="spec-unreadable") from None
    spec = parse(data, "toml" if path.suffix.lower() == ".toml" else "yaml", name=path.name)
    return _beside(spec, path.absolute().parent), data.decode()


def parse(data: bytes | str, form: Literal["toml", "yaml"] = "toml", *, name: str = "the spec") -> Spec:
    """The spec in a document. JSON is YAML. Raises `SpecError` and nothing else."""
    try:
        text = data if isinstance(data, str) else data.decode()
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SpecError(name, [Fault(line, "", "", "UTF-8")]) from None
    text = text.removeprefix("\ufeff")  # as some editors begin a file
    if len(text) > MAX_BYTES:
        raise SpecError(name, [Fault(0, "", "", f"at most {MAX_BYTES} bytes")])
    root = (read_toml if form == "toml" else read_yaml)(text, name)
    return read(root, name)


def read(root: Node, name: str) -> Spec:
    """The spec in a tree."""
    reading = Reading()
    spec = SPEC.read(root, "", reading)
    if spec is not BAD:
        check(spec, reading)
    if reading.faults:
        raise SpecError(name, reading.faults)
    assert isinstance(spec, Spec)
    workloads = {
        key: msgspec.structs.replace(
            one, version=version_of(one), targets=tuple(_completed(target) for target in one.targets)
        )
        for key, one in spec.workloads.items()
    }
    return msgspec.structs.replace(spec, workloads=workloads)


def _completed(target: Target) -> Target:
    """A queue that nobody else knows is the one that agents report; Prometheus is where it is by default."""
    if target.signal == "queue" and not target.source:
        return msgspec.structs.replace(target, signal="agents")
    if target.signal == "prometheus" and "address" not in target.settings:
        return msgspec.structs.replace(target, settings={**target.settings, "address": PROMETHEUS})
    return target


def version_of(workload: Workload) -> str:
    """The digest of what a running agent is made of; a change of anything else leaves agents as they are."""
    made_of = (
        workload.image,
        workload.command,
        workload.env,
        workload.secrets,
        workload.volumes,
        workload.port,
        workload.resources,
    )
    return hashlib.sha256(msgspec.json.encode(made_of, order="deterministic")).hexdigest()[:12]


def _beside(spec: Spec, folder: Path) -> Spec:
    """Paths in a spec are found from where the spec is, whoever reads them later and wherever."""

    def there(path: str) -> str:
        return str(folder / Path(path).expanduser()) if path else ""

    prices = PriceSources(
        catalog=there(spec.prices.catalog), overrides=there(spec.prices.overrides), refresh=spec.prices.refresh
    )
    workloads = {}
    for name, workload in spec.workloads.items():
        secrets = {
            key: f"file:{there(where[5:])}" if where.startswith("file:") else where
            for key, where in workload.secrets.items()
        }
        replaced = msgspec.structs.replace(workload, secrets=secrets)
        workloads[name] = msgspec.structs.replace(replaced, version=version_of(replaced)) if secrets else workload
    store = spec.controller.store
    if store.startswith("sqlite:"):
        store = f"sqlite:{there(store[7:])}"
    controller = msgspec.structs.replace(spec.controller, store=store)
    return msgspec.structs.replace(spec, prices=prices, workloads=workloads, controller=controller)
