"""Azure: the Retail Prices API, pages of JSON without an account."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable
from datetime import datetime
from typing import Final

import msgspec

from covey.base.errors import ParseError
from covey.fleet.prices.types import Egress, Price, Tables, Tier
from covey.fleet.prices.web import Get

__all__ = ["API", "first_url", "read_pages", "read_retail"]

API: Final = "https://prices.azure.com/api/retail/prices"

_SOURCE: Final = "azure retail prices"
_MOST_PAGES: Final = 2_000
"""Of 1,000 prices each at most; a region's machines have about ten."""


class _Item(msgspec.Struct, rename="camel"):
    """One meter, as far as it matters."""

    currency_code: str = ""
    retail_price: float = -1.0
    tier_minimum_units: float = 0.0
    arm_region_name: str = ""
    arm_sku_name: str = ""
    sku_name: str = ""
    product_name: str = ""
    meter_name: str = ""
    service_name: str = ""
    unit_of_measure: str = ""
    type: str = ""
    effective_start_date: str = ""


class _Page(msgspec.Struct):
    Items: list[_Item]
    NextPageLink: str | None = None


def first_url(service: str, region: str, *, base: str = API) -> str:
    """Of the pages about `Virtual Machines` or `Bandwidth` in a region."""
    wanted = f"serviceName eq '{service}' and armRegionName eq '{region}' and priceType eq 'Consumption'"
    query = urllib.parse.urlencode(
        {"api-version": "2023-01-01-preview", "$filter": wanted}, quote_via=urllib.parse.quote
    )
    return f"{base}?{query}"


def read_retail(url: str, at: float, get: Get) -> Tables:
    """All pages from `url` on. Raises `ParseError` and what `get` raises."""
    host = urllib.parse.urlsplit(url)[:2]

    def pages() -> Iterable[bytes]:
        following: str | None = url
        for _ in range(_MOST_PAGES):
            if not following:
                return
            if urllib.parse.urlsplit(following)[:2] != host and following != url:
                raise ParseError("the price API sends us to another host", code="price-api")
            data = get(following)
            yield data
            following = _page(data).NextPageLink
        raise ParseError(f"the price API has more than {_MOST_PAGES} pages", code="price-api")

    return read_pages(pages(), at)


def read_pages(pages: Iterable[bytes], at: float) -> Tables:
    """What pages say. Windows, low priority (which is no more) and cloud services are left out."""
    machines: dict[tuple[str, str, bool], tuple[str, Price]] = {}
    tiers: dict[str, dict[float, float]] = {}
    for data in pages:
        for item in _page(data).Items:
            if item.currency_code != "USD" or item.type != "Consumption" or not 0 <= item.retail_price <= 1e6:
                continue
            if not _holds(item, at):
                continue
            if item.service_name == "Bandwidth":
                if item.meter_name == "Standard Data Transfer Out" and item.unit_of_measure == "1 GB":
                    tiers.setdefault(item.arm_region_name, {})[item.tier_minimum_units] = item.retail_price
            elif _is_machine(item):
                spot = item.sku_name.endswith(" Spot")
                key = (item.arm_region_name, item.arm_sku_name, spot)
                price = Price(
                    cloud="azure",
                    region=item.arm_region_name,
                    shape=item.arm_sku_name,
                    usd=item.retail_price,
                    at=at,
                    spot=spot,
                    source=_SOURCE,
                )
                # A shape may have two meters, one of which is about to go: the one that began last holds.
                if key not in machines or machines[key][0] < item.effective_start_date:
                    machines[key] = (item.effective_start_date, price)
    egress = tuple(
        Egress(
            cloud="azure",
            region=region,
            to="internet",
            tiers=tuple(Tier(begin, found[begin]) for begin in sorted(found)),
            at=at,
            source=_SOURCE,
        )
        for region, found in tiers.items()
        if 0.0 in found and region
    )
    return Tables(prices=tuple(price for _, price in machines.values()), egress=egress)


def _page(data: bytes) -> _Page:
    try:
        return msgspec.json.decode(data, type=_Page)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ParseError(f"the retail prices are not as Azure writes them: {error}", code="price-api") from None


def _is_machine(item: _Item) -> bool:
    return (
        item.service_name == "Virtual Machines"
        and bool(item.arm_sku_name and item.arm_region_name)
        and item.unit_of_measure == "1 Hour"
        and item.tier_minimum_units == 0
        and "Windows" not in item.product_name
        and "CloudServices" not in item.product_name.replace(" ", "")
        and "Low Priority" not in item.sku_name
    )


def _holds(item: _Item, at: float) -> bool:
    """Prices of tomorrow are published today."""
    try:
        return not item.effective_start_date or datetime.fromisoformat(item.effective_start_date).timestamp() <= at
    except (ValueError, OverflowError):
        raise ParseError("the retail prices have a date that is none", code="price-api") from None
