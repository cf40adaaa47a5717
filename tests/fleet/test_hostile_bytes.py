"""Bytes over which a JSON reader may fall in its own way: each of ours has one error for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from covey.base.errors import CoveyError
from covey.fleet.prices import aws, azure, gcp
from covey.fleet.providers.kubernetes.api import Api
from covey.fleet.providers.kubernetes.objects import Listed, Pod
from covey.fleet.providers.local.records import Directory
from covey.fleet.providers.registry import Surroundings
from covey.fleet.signals.command import CommandSource
from covey.fleet.signals.prometheus import PrometheusSource
from covey.fleet.signals.queue import QueueSource
from covey.fleet.simulate.traces import parse_trace_untrusted
from covey.fleet.spec.types import Target

_FIELDS = ("items", "products", "Items", "skus", "backlog", "status")


def _each(value: str) -> bytes:
    return b"{%s}" % b", ".join(b'"%s": "%s"' % (name.encode(), value.encode("latin-1")) for name in _FIELDS)


BYTES = {
    "nothing": b"",
    "no text": _each("\xff"),
    "half a pair": _each("\\ud800"),
    "deep": b'{"x": ' + b"[" * 60_000,
    "deep list": b"[" * 60_000,
    "truth": b"true",
}

AROUND = Surroundings(home=Path())
TARGET = Target(signal="queue", source="x", command=("x",), query="up", rate_per_agent=1.0)

READERS: dict[str, Callable[[bytes], object]] = {
    "aws": lambda data: aws.read_offer_json(data, 1.0),
    "azure": lambda data: azure.read_pages([data], 1.0),
    "gcp": lambda data: gcp.read_pages([data], 1.0),
    "gcp machines": gcp.read_machine_types,
    "kubernetes": lambda data: Api(None, "default", "eks")._parse(data, Listed[Pod]),
    "queue": QueueSource(TARGET, AROUND)._parse_untrusted,
    "command": CommandSource(TARGET, AROUND)._parse_untrusted,
    "prometheus": lambda data: PrometheusSource(TARGET)._parse_untrusted(data, "up"),
    "trace": lambda data: parse_trace_untrusted("x.json", data.decode(errors="surrogateescape")),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", BYTES)
def test_reader_has_one_error(reader: str, name: str) -> None:
    with pytest.raises(CoveyError):
        READERS[reader](BYTES[name])


@pytest.mark.parametrize("name", BYTES)
def test_record_that_cannot_be_read_is_as_good_as_none(tmp_path: Path, name: str) -> None:
    files = Directory(tmp_path / "here")
    files.make()
    (tmp_path / "here" / "agents" / "web-000001.json").write_bytes(BYTES[name])
    (tmp_path / "here" / "agents" / "web-000001.conf").write_bytes(b"")
    (tmp_path / "here" / "pids" / "web-000001").write_bytes(BYTES[name])
    assert (files.wanted(), files.processes()) == ({}, {})


def test_google_prices_without_end_are_none() -> None:
    price = b'{"nanos": ' + b"9" * 400 + b"}"
    kind = b'"category": {"resourceFamily": "Compute", "usageType": "OnDemand"}'
    sku = b'"description": "N2 Instance Core running in X", ' + kind
    rates = b'"pricingInfo": [{"pricingExpression": {"tieredRates": [{"unitPrice": ' + price + b"}]}}]"
    with pytest.raises(CoveyError):
        gcp.read_pages([b'{"skus": [{' + sku + b', "serviceRegions": ["x"], ' + rates + b"}]}"], 1.0)


def test_amazon_tiers_without_end_are_left_out() -> None:
    head = "SKU,TermType,StartingRange,Unit,PricePerUnit,Currency,Product Family,Transfer Type,From Region Code"
    rows = [f"B,OnDemand,{begin},GB,0.09,USD,Data Transfer,AWS Outbound,us-east-1" for begin in ("0", "inf", "1e999")]
    (egress,) = aws.read_offer_csv([head, *rows], 1.0).egress
    assert [tier.from_gb for tier in egress.tiers] == [0.0]
