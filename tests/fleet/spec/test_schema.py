"""The JSON Schema, and the pages that are made from the same table."""

from __future__ import annotations

import tomllib
from typing import Any

import jsonschema
import pytest

from covey.fleet.spec.load import parse
from covey.fleet.spec.schema import schema
from covey.fleet.spec.source import SpecError
from covey.fleet.spec.starter import starter
from tests.fleet.spec import reference
from tests.fleet.spec.test_load import FLEET

VALIDATOR = jsonschema.Draft202012Validator(schema())


def good(text: str) -> bool:
    document: Any = tomllib.loads(text)
    return bool(VALIDATOR.is_valid(document))


def test_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


def test_schema_and_reader_take_the_starter_and_the_specifications_example() -> None:
    for text in (FLEET, starter()):
        assert good(text)
        parse(text)


def test_starter_with_every_comment_taken_away_is_still_a_spec_but_for_pools_that_are_not_there() -> None:
    lines = [line.removeprefix("# ") for line in starter().splitlines()]
    start = lines.index("[pools.here]")
    with pytest.raises(SpecError) as caught:
        parse("\n".join(line for line in lines[start:] if not line.startswith(("Several", "covey"))))
    words = {fault.field.rpartition(".")[2] for fault in caught.value.faults}
    assert words <= {"image", "jurisdictions", "weights"}, caught.value


WRONG = {
    "below a bound": ("min = 2,", "min = -2,"),
    "unit": ('"2Gi"', '"2 long cows"'),
    "wrong kind": ("priority = 10", 'priority = "high"'),
    "unknown field": ("weights =", "wieghts ="),
    "field of another provider": ("context =", "subscription ="),
    "field of another signal": ('signal = "cpu",', 'signal = "cpu", address = "http://x",'),
    "missing": ("hourly_usd = 40", ""),
    "bad name": ("[pools.aks-weu]", "[pools.AKS]"),
    "required by the provider": ('provider = "kubernetes"\nlabels', 'provider = "gcp"\nlabels'),
}


@pytest.mark.parametrize("name", WRONG)
def test_schema_refuses_what_the_reader_refuses(name: str) -> None:
    old, new = WRONG[name]
    text = FLEET.replace(old, new, 1)
    assert text != FLEET
    assert not good(text)
    with pytest.raises(SpecError):
        parse(text)


def test_pages_are_what_the_table_says() -> None:
    said = "python -m tests.fleet.spec.reference"
    assert (reference.DOCS / "spec.md").read_text() == reference.page(), said
    assert (reference.DOCS / "fleet.schema.json").read_text() == reference.schema_text(), said
