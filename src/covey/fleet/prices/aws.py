"""AWS: the public Price List (offer files, CSV or JSON, no account needed) and the spot history of EC2.

An offer file of one region has 0.3 GB, nearly all of it about Windows, licences and reservations: the CSV is read line
by line. Its first five lines are metadata, the sixth names the columns.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import Any, Final

import msgspec

from covey.base.errors import ParseError
from covey.fleet.prices.tables import usd
from covey.fleet.prices.types import Egress, Machine, Price, Tables, Tier

__all__ = ["OFFERS", "offer_url", "read_offer_csv", "read_offer_json", "read_spot"]

OFFERS: Final = "https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws"

_SOURCE: Final = "aws price list"
_FAMILIES: Final = frozenset({"Compute Instance", "Compute Instance (bare metal)"})
_ARM = re.compile(r"(a1|[a-z]+\d+g[a-z]*)[.-]")
"""Families with Graviton have a g after the generation: m7g, c6gn, im4gn."""


def offer_url(service: str, region: str, *, base: str = OFFERS) -> str:
    """`AmazonEC2` or `AWSDataTransfer`, as CSV."""
    return f"{base}/{service}/current/{region}/index.csv"


def read_offer_csv(lines: Iterable[str], at: float) -> Tables:
    """An offer file of AmazonEC2 or AWSDataTransfer. Raises `ParseError`."""
    try:
        return _tables(_csv_rows(lines), at)
    except csv.Error as error:
        raise ParseError(f"the offer file is no CSV: {error}", code="price-api") from None


def read_offer_json(data: bytes, at: float) -> Tables:
    """The same as JSON, which is only for files that fit into memory. Raises `ParseError`."""
    try:
        offer = msgspec.json.decode(data, type=_Offer)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ParseError(f"the offer file is not as AWS writes it: {error}", code="price-api") from None
    return _tables(_json_rows(offer), at)


def read_spot(client: Any, region: str, at: float, shapes: Iterable[str] = ()) -> Tables:
    """The newest Linux spot price of each shape and zone, by EC2's `DescribeSpotPriceHistory` (a client of boto3).

    Raises what `client` raises.
    """
    found: dict[tuple[str, str], Price] = {}
    wanted = {"InstanceTypes": list(shapes)} if shapes else {}
    start = datetime.fromtimestamp(at, tz=timezone.utc)  # noqa: UP017 - one spelling for all Pythons
    pages = client.get_paginator("describe_spot_price_history").paginate(
        ProductDescriptions=["Linux/UNIX"], StartTime=start, **wanted
    )
    for page in pages:
        for each in page.get("SpotPriceHistory", []):
            try:
                price = Price(
                    cloud="aws",
                    region=region,
                    shape=each["InstanceType"],
                    zone=each["AvailabilityZone"],
                    usd=usd(each["SpotPrice"]),
                    # It holds until it changes, however long ago it was set: it is as fresh as this reading.
                    at=at,
                    spot=True,
                    source="aws spot history",
                )
            except (KeyError, ValueError, TypeError):
                raise ParseError("the spot history is not as EC2 writes it", code="price-api") from None
            found.setdefault((price.shape, price.zone), price)
    return Tables(prices=tuple(found.values()))


# --- rows: the CSV's columns, by the names that the JSON's attributes have -------------------------------------------

_COLUMNS: Final = {
    "TermType": "term",
    "StartingRange": "begin",
    "Unit": "unit",
    "PricePerUnit": "price",
    "Currency": "currency",
    "Product Family": "family",
    "Instance Type": "instanceType",
    "vCPU": "vcpu",
    "Memory": "memory",
    "GPU": "gpu",
    "Tenancy": "tenancy",
    "Operating System": "operatingSystem",
    "License Model": "licenseModel",
    "CapacityStatus": "capacitystatus",
    "Pre Installed S/W": "preInstalledSw",
    "Region Code": "regionCode",
    "Transfer Type": "transferType",
    "From Region Code": "fromRegionCode",
    "To Region Code": "toRegionCode",
    "To Location": "toLocation",
}

_Row = dict[str, str]


def _csv_rows(lines: Iterable[str]) -> Iterator[_Row]:
    reader = csv.reader(lines)
    head: list[str] = []
    for number, cells in enumerate(reader):
        if number > 20:
            break
        if cells and cells[0] == "SKU":
            head = cells
            break
    if not {"SKU", "TermType", "PricePerUnit", "Product Family"} <= set(head):
        raise ParseError("the offer file has no line that names its columns", code="price-api")
    places = [(index, _COLUMNS[name]) for index, name in enumerate(head) if name in _COLUMNS]
    width = len(head)
    for cells in reader:
        if len(cells) == width:
            yield {name: cells[index] for index, name in places}


class _Product(msgspec.Struct):
    productFamily: str = ""  # noqa: N815 - AWS' own name
    attributes: dict[str, str] = {}


class _Dimension(msgspec.Struct):
    unit: str = ""
    beginRange: str = "0"  # noqa: N815
    pricePerUnit: dict[str, str] = {}  # noqa: N815


class _Term(msgspec.Struct):
    priceDimensions: dict[str, _Dimension] = {}  # noqa: N815


class _Offer(msgspec.Struct):
    products: dict[str, _Product]
    terms: dict[str, dict[str, dict[str, _Term]]]


def _json_rows(offer: _Offer) -> Iterator[_Row]:
    for sku, terms in offer.terms.get("OnDemand", {}).items():
        product = offer.products.get(sku)
        if product is None:
            continue
        for term in terms.values():
            for dimension in term.priceDimensions.values():
                if "USD" in dimension.pricePerUnit:
                    yield product.attributes | {
                        "family": product.productFamily,
                        "term": "OnDemand",
                        "unit": dimension.unit,
                        "begin": dimension.beginRange,
                        "price": dimension.pricePerUnit["USD"],
                        "currency": "USD",
                    }


def _tables(rows: Iterable[_Row], at: float) -> Tables:
    prices: list[Price] = []
    machines: dict[str, Machine] = {}
    tiers: dict[tuple[str, str], dict[float, float]] = {}
    for row in rows:
        if row.get("term") != "OnDemand" or row.get("currency") != "USD":
            continue
        try:
            if row.get("family") in _FAMILIES and _plain_linux(row):
                prices.append(_price(row, at))
                machines[row["instanceType"]] = _machine(row)
            elif row.get("family") == "Data Transfer":
                _add_tier(row, tiers)
        except (KeyError, ValueError):
            raise ParseError(
                f"the offer file has a line that cannot be read: {str(row)[:200]}", code="price-api"
            ) from None
    egress = tuple(
        Egress(
            cloud="aws",
            region=region,
            to=to,
            tiers=tuple(Tier(begin, found[begin]) for begin in sorted(found)),
            at=at,
            source=_SOURCE,
        )
        for (region, to), found in tiers.items()
        if 0.0 in found
    )
    return Tables(prices=tuple(prices), machines=tuple(machines.values()), egress=egress)


def _plain_linux(row: _Row) -> bool:
    """What an agent is started on; the same shape has dozens of other lines."""
    return (
        row.get("operatingSystem") == "Linux"
        and row.get("tenancy") == "Shared"
        and row.get("preInstalledSw") == "NA"
        and row.get("capacitystatus") == "Used"
        and row.get("licenseModel") in ("No License required", "NA", "")
        and row.get("unit") == "Hrs"
        and bool(row.get("instanceType"))
    )


def _price(row: _Row, at: float) -> Price:
    return Price(
        cloud="aws", region=row["regionCode"], shape=row["instanceType"], usd=usd(row["price"]), at=at, source=_SOURCE
    )


def _machine(row: _Row) -> Machine:
    gib = row.get("memory", "").replace(",", "").removesuffix("GiB").strip()
    gpu = row.get("gpu", "")
    return Machine(
        cloud="aws",
        shape=row["instanceType"],
        vcpu=usd(row.get("vcpu") or "0"),
        memory=round(usd(gib) * (1 << 30)) if gib and gib != "NA" else 0,
        gpu=int(gpu) if gpu.isdecimal() else 0,
        arch="arm64" if _ARM.match(row["instanceType"]) else "amd64",
    )


_MOST_GB: Final = 1e12
"""Where a tier may begin: AWS' last begins at 150 TB, and JSON has no infinity."""


def _add_tier(row: _Row, tiers: dict[tuple[str, str], dict[float, float]]) -> None:
    region = row.get("fromRegionCode") or row.get("regionCode") or ""
    if not region or row.get("unit") != "GB":
        return
    kind = row.get("transferType")
    if kind == "AWS Outbound" and row.get("toLocation", "External") == "External":
        to = "internet"
    elif kind == "InterRegion Outbound" and row.get("toRegionCode"):
        to = row["toRegionCode"]
    else:
        return
    begin = float(row.get("begin") or "0")
    if 0 <= begin <= _MOST_GB:
        tiers.setdefault((region, to), {})[begin] = usd(row["price"])
