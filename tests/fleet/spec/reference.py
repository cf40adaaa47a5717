"""Writes `docs/fleet/spec.md` and `docs/fleet/fleet.schema.json` from the table of fields.

    .venv/bin/python -m tests.fleet.spec.reference

`test_schema.py` fails while the pages and the program disagree.
"""
# ruff: noqa: E501 - the page's own lines

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from covey.fleet.spec.fields import SPEC
from covey.fleet.spec.kinds import Field, Kind, ListOf, MapOf, Named, Table
from covey.fleet.spec.schema import schema

DOCS = Path(__file__).parents[3] / "docs" / "fleet"

HEAD = """\
# The spec

What a fleet is to be: **pools**, where agents can run, and **workloads**, what is scaled. One file, TOML, YAML (1.2) or JSON.
`covey fleet init` writes one that runs on this machine as it is; [commands](commands.md) has what to do with it.

```toml
[budget]
hourly_usd = 40

[pools.eks-use1]
provider = "kubernetes"
context = "prod-eks"
labels = { cloud = "aws", region = "us-east-1", jurisdiction = "us" }

[pools.aks-weu]
provider = "kubernetes"
context = "prod-aks"
labels = { cloud = "azure", region = "westeurope", jurisdiction = "eu" }

[workloads.fraud]
mode = "act"
image = "registry.example.com/fraud:1.4"
resources = { cpu = 1, memory = "2Gi" }
replicas = { min = 2, max = 200 }
targets = [
  { signal = "cpu", value = 0.7 },
  { signal = "queue", rate_per_agent = "50/s", drain_within = "30s" },
]
[workloads.fraud.place]
survive = { clouds = 1, keep = "min" }
spot = { max_share = 0.5, base_on_demand = 2 }
```

## How it is read

- **Every fault is told at once**, with its line, the value and what was expected; an unknown field with the nearest known one:
  `line 9: workloads.fraud.coldstart is not a field: expected one of ... (did you mean "cold_start"?)`. A file with a fault changes nothing.
- **Units**: a duration is `"300ms"`, `"60s"`, `"1h30m"` or seconds; a size `"512Mi"` (1024s), `"2G"` (1000s) or bytes; a rate `"50/s"`,
  `"3000/min"` or a number per second; a share `0.7` or `"70%"`.
- **Names** of pools and workloads are lower-case letters, digits and `-`, at most 63 characters.
- **What only the whole file tells** is checked too: pools and workloads that are named exist, `min` is not above `max`, a target has exactly
  one of `value`, `rate_per_agent` and `queue_length`, `survive` has pools in two clouds, something is left of the pools after labels and
  jurisdictions, a workload that may run on a local pool has a `command` and one that may run on Kubernetes an `image`.
- **Paths** (`prices.overrides`, `secrets` by `file:`) are found from the folder of the spec. Values of secrets never enter the store;
  those of `env` do.
- **A change of what agents are made of** (image, command, env, secrets, volumes, port, resources) starts a rollout; of anything else it
  does not touch running agents. `covey fleet diff` says which it is before `apply` does it.
- **Bounds**: 1 MiB, 100,000 values (what a YAML alias stands for counts each time), 32 levels; no YAML tags, no duplicate fields.

In an editor: `covey fleet schema > fleet.schema.json`, then `#:schema ./fleet.schema.json` as the first line of a TOML file, or
`# yaml-language-server: $schema=./fleet.schema.json` of a YAML one. The schema of this version is [here](fleet.schema.json).

## Fields

Made from the table that the reader uses, by `python -m tests.fleet.spec.reference`. What has no "required" may be left out.
"""


def page() -> str:
    return HEAD + "".join(_tables("", SPEC))


def schema_text() -> str:
    return json.dumps(schema(), indent=1) + "\n"


def _tables(path: str, table: Table) -> Iterator[str]:
    if path:
        yield f"\n### `{path}`\n\n"
        yield _rows(table.fields)
        for word, fields in table.settings.items():
            if fields:
                yield f'\nWith `{table.chooser} = "{word}"`:\n\n{_rows(fields)}'
    for name, field in table.fields.items():
        for there, inner in _inner(f"{path}.{name}" if path else name, field.kind):
            yield from _tables(there, inner)


def _inner(path: str, kind: Kind) -> Iterator[tuple[str, Table]]:
    if isinstance(kind, Table):
        yield path, kind
    elif isinstance(kind, Named):
        yield f"{path}.NAME", kind.table
    elif isinstance(kind, ListOf) and isinstance(kind.kind, Table):
        yield f"{path}[]", kind.kind


def _rows(fields: dict[str, Field] | object) -> str:
    assert hasattr(fields, "items")
    text = "| field | is | for |\n| --- | --- | --- |\n"
    for name, field in fields.items():
        required = " (required)" if field.required else ""
        text += f"| `{name}` | {_kind(field.kind)} | {field.doc}{required} |\n"
    return text


def _kind(kind: Kind) -> str:
    if isinstance(kind, Table | Named):
        return "table, below"
    if isinstance(kind, ListOf) and isinstance(kind.kind, Table):
        return "list of tables, below"
    if isinstance(kind, MapOf):
        return f"table of your names, each {_kind(kind.kind)}"
    return kind.expected.replace("|", "\\|")


if __name__ == "__main__":
    (DOCS / "spec.md").write_text(page())
    (DOCS / "fleet.schema.json").write_text(schema_text())
