"""Google Cloud: the Billing Catalog's SKUs. A machine has no price there: its cores and its memory have.

    price of n2-standard-4 = 4 x "N2 Instance Core running in ..." + 16 GiB x "N2 Instance Ram running in ..."

What a machine has comes from the Compute API's list of machine types (`read_machine_types`), or from `FAMILIES`, for
families whose every size has the same memory for each core.
"""

from __future__ import annotations

import math
import re
import urllib.parse
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from covey.base.errors import ParseError
from covey.fleet.prices.types import Egress, Machine, Price, Tables, Tier
from covey.fleet.prices.web import Get

__all__ = ["API", "FAMILIES", "first_url", "known_machines", "read_catalog", "read_machine_types", "read_pages"]

API: Final = "https://cloudbilling.googleapis.com/v1/services/6F81-5844-456A/skus"
"""The SKUs of Compute Engine. Asks for a key: X-Goog-Api-Key."""

_SOURCE: Final = "gcp billing catalog"
_MOST_PAGES: Final = 200
_GIB: Final = 1 << 30


FAMILIES: Final[dict[str, tuple[dict[str, float], tuple[int, ...]]]] = {
    "c2": ({"standard": 4}, (4, 8, 16, 30, 60)),
    "c2d": ({"standard": 4, "highmem": 8, "highcpu": 2}, (2, 4, 8, 16, 32, 56, 112)),
    "c3": ({"standard": 4, "highmem": 8, "highcpu": 2}, (4, 8, 22, 44, 88, 176)),
    "c3d": ({"standard": 4, "highmem": 8, "highcpu": 2}, (4, 8, 16, 30, 60, 90, 180, 360)),
    "c4a": ({"standard": 4, "highmem": 8, "highcpu": 2}, (1, 2, 4, 8, 16, 32, 48, 64, 72)),
    "e2": ({"standard": 4, "highmem": 8, "highcpu": 1}, (2, 4, 8, 16, 32)),
    "n1": ({"standard": 3.75, "highmem": 6.5, "highcpu": 0.9}, (1, 2, 4, 8, 16, 32, 64, 96)),
    "n2": ({"standard": 4, "highmem": 8, "highcpu": 1}, (2, 4, 8, 16, 32, 48, 64, 80, 96, 128)),
    "n2d": ({"standard": 4, "highmem": 8, "highcpu": 1}, (2, 4, 8, 16, 32, 48, 64, 80, 96, 128, 224)),
    "n4": ({"standard": 4, "highmem": 8, "highcpu": 2}, (2, 4, 8, 16, 32, 48, 64, 80)),
    "t2a": ({"standard": 4}, (1, 2, 4, 8, 16, 32, 48)),
    "t2d": ({"standard": 4}, (1, 2, 4, 8, 16, 32, 48, 60)),
}
"""By family: GiB for each core by class, and sizes."""

_ABSENT: Final = frozenset(
    {"e2-highmem-32", "n1-highcpu-1", "n1-highmem-1", "n2-highcpu-128", *(f"n2d-highmem-{n}" for n in (128, 224))}
)

_EXACT: Final = {
    "c3d-highcpu-30": 59,
    "c3d-highcpu-60": 118,
    "c3d-highcpu-90": 177,
    "c3d-highcpu-180": 354,
    "c3d-highcpu-360": 708,
    "n2-highmem-128": 864,
}
"""GiB of those that are not what their class says."""

_ARM: Final = frozenset({"c4a", "n4a", "t2a"})

_NAMES: Final = {"Compute optimized": "c2", "N1 Predefined": "n1"}
"""What a description says in place of a family's name."""

_COMPUTE = re.compile(
    r"(?P<spot>Spot Preemptible |Preemptible )?"
    r"(?P<family>Compute optimized|N1 Predefined|[A-Z][0-9][A-Z]?)(?: AMD| Arm)?(?: Instance)? "
    r"(?P<what>Core|Ram) running in .*"
)
_INTERNET = re.compile(r"Network (?:Internet Egress|Internet Data Transfer Out) from (?P<place>.+) to (?P=place)")


class _Money(msgspec.Struct, rename="camel"):
    currency_code: str = "USD"
    units: str = "0"
    nanos: int = 0

    @property
    def usd(self) -> float:
        return float(self.units) + self.nanos / 1e9


class _Rate(msgspec.Struct, rename="camel"):
    start_usage_amount: float = 0.0
    unit_price: _Money = msgspec.field(default_factory=_Money)


class _Expression(msgspec.Struct, rename="camel"):
    usage_unit: str = ""
    tiered_rates: list[_Rate] = []


class _Info(msgspec.Struct, rename="camel"):
    pricing_expression: _Expression = msgspec.field(default_factory=_Expression)


class _Category(msgspec.Struct, rename="camel"):
    resource_family: str = ""
    usage_type: str = ""


class _Sku(msgspec.Struct, rename="camel"):
    description: str = ""
    category: _Category = msgspec.field(default_factory=_Category)
    service_regions: list[str] = []
    pricing_info: list[_Info] = []


class _Page(msgspec.Struct, rename="camel"):
    skus: list[_Sku] = []
    next_page_token: str = ""


class _MachineType(msgspec.Struct, rename="camel"):
    name: str
    guest_cpus: int
    memory_mb: int
    architecture: str = ""


class _InZone(msgspec.Struct, rename="camel"):
    machine_types: list[_MachineType] = []


class _MachinePage(msgspec.Struct):
    items: dict[str, _InZone] | list[_MachineType] = {}


def first_url(*, base: str = API) -> str:
    """Of the pages."""
    return f"{base}?{urllib.parse.urlencode({'currencyCode': 'USD', 'pageSize': 5000})}"


def read_catalog(url: str, at: float, get: Get, machines: Iterable[Machine] = ()) -> Tables:
    """All pages from `url` on. Raises `ParseError` and what `get` raises."""

    def pages() -> Iterator[bytes]:
        token = ""
        for _ in range(_MOST_PAGES):
            data = get(f"{url}&{urllib.parse.urlencode({'pageToken': token})}" if token else url)
            yield data
            token = _page(data).next_page_token
            if not token:
                return
        raise ParseError(f"the billing catalog has more than {_MOST_PAGES} pages", code="price-api")

    return read_pages(pages(), at, machines)


def read_pages(pages: Iterable[bytes], at: float, machines: Iterable[Machine] = ()) -> Tables:
    """What pages say of `machines`, and of those of `FAMILIES`."""
    parts: dict[tuple[str, str, bool, str], float] = {}
    tiers: dict[str, tuple[Tier, ...]] = {}
    for data in pages:
        for sku in _page(data).skus:
            _take(sku, parts, tiers)
    known = {machine.shape: machine for machine in (*known_machines(), *machines)}
    places = {(region, spot) for _, region, spot, _ in parts}
    prices = tuple(
        Price(cloud="gcp", region=region, shape=machine.shape, usd=usd, at=at, spot=spot, source=_SOURCE)
        for machine in known.values()
        for region, spot in sorted(places)
        if (usd := _usd(machine, region, spot, parts)) is not None
    )
    egress = tuple(
        Egress(cloud="gcp", region=region, to="internet", tiers=found, at=at, source=_SOURCE)
        for region, found in tiers.items()
    )
    return Tables(prices=prices, machines=tuple(known.values()), egress=egress)


def read_machine_types(data: bytes) -> tuple[Machine, ...]:
    """A page of the Compute API's `machineTypes`, of one zone or aggregated. Raises `ParseError`."""
    try:
        page = msgspec.json.decode(data, type=_MachinePage)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ParseError(f"the machine types are not as Google writes them: {error}", code="price-api") from None
    listed = (
        page.items
        if isinstance(page.items, list)
        else [each for zone in page.items.values() for each in zone.machine_types]
    )
    found = {
        each.name: Machine(
            cloud="gcp",
            shape=each.name,
            vcpu=each.guest_cpus,
            memory=each.memory_mb << 20,
            arch="arm64" if each.architecture == "ARM64" or each.name.partition("-")[0] in _ARM else "amd64",
        )
        for each in listed
        if 0 < each.guest_cpus < 10_000 and 0 < each.memory_mb < 1 << 30
    }
    return tuple(found.values())


def known_machines() -> Iterator[Machine]:
    """Those of `FAMILIES`."""
    for family, (classes, sizes) in FAMILIES.items():
        for kind, ratio in classes.items():
            for size in sizes:
                shape = f"{family}-{kind}-{size}"
                if shape not in _ABSENT:
                    memory = round(_EXACT.get(shape, size * ratio) * _GIB)
                    arch = "arm64" if family in _ARM else "amd64"
                    yield Machine(cloud="gcp", shape=shape, vcpu=size, memory=memory, arch=arch)


def _usd(machine: Machine, region: str, spot: bool, parts: dict[tuple[str, str, bool, str], float]) -> float | None:
    """None for machines of which a part has no price: shared cores, GPUs, local disks."""
    words = machine.shape.split("-")
    if len(words) != 3 or machine.gpu or not words[2].isdecimal():
        return None
    core = parts.get((words[0], region, spot, "Core"))
    memory = parts.get((words[0], region, spot, "Ram"))
    if core is None or memory is None:
        return None
    return machine.vcpu * core + machine.memory / _GIB * memory


def _take(sku: _Sku, parts: dict[tuple[str, str, bool, str], float], tiers: dict[str, tuple[Tier, ...]]) -> None:
    rates = sku.pricing_info[-1].pricing_expression.tiered_rates if sku.pricing_info else []
    if not rates:
        return
    if sku.category.resource_family == "Compute" and sku.category.usage_type in ("OnDemand", "Preemptible"):
        found = _COMPUTE.fullmatch(sku.description)
        if found is None:
            return
        spot = sku.category.usage_type == "Preemptible"
        family = _NAMES.get(found["family"], found["family"].lower())
        for region in sku.service_regions:
            parts[family, region, spot, found["what"]] = _rate(rates[-1])
    elif sku.category.resource_family == "Network" and _INTERNET.fullmatch(sku.description):
        by_begin = {rate.start_usage_amount: _rate(rate) for rate in rates}
        for region in sku.service_regions:
            if 0.0 in by_begin:
                tiers[region] = tuple(Tier(begin, by_begin[begin]) for begin in sorted(by_begin))


def _rate(rate: _Rate) -> float:
    try:
        usd = rate.unit_price.usd
    except (ValueError, OverflowError):
        usd = math.nan
    if rate.unit_price.currency_code != "USD" or not 0 <= usd <= 1e6 or not 0 <= rate.start_usage_amount < math.inf:
        raise ParseError("the billing catalog has a price that is none", code="price-api")
    return usd


def _page(data: bytes) -> _Page:
    try:
        return msgspec.json.decode(data, type=_Page)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ParseError(f"the billing catalog is not as Google writes it: {error}", code="price-api") from None
