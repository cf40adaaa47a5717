"""Reading the public price APIs of the clouds into the catalog. Nobody is called unless the user asks for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from covey.base.errors import CoveyError, UsageError
from covey.fleet.model import STALE_ON_DEMAND
from covey.fleet.prices import aws, azure, gcp
from covey.fleet.prices.catalog import Catalog
from covey.fleet.prices.types import Tables
from covey.fleet.prices.web import get, stream

__all__ = ["CLOUDS", "GCP_KEY", "Addresses", "Outcome", "refresh"]

CLOUDS: Final = ("aws", "azure", "gcp")

_HEAVY: Final = ("AmazonEC2", "AWSDataTransfer")

GCP_KEY: Final = "COVEY_FLEET_GCP_API_KEY"
"""The environment variable with a key of the Cloud Billing API, which is free and which Google alone asks for."""


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where the APIs are; a mirror or a test says otherwise."""

    aws: str = aws.OFFERS
    azure: str = azure.API
    gcp: str = gcp.API


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one reading gave."""

    cloud: str
    region: str
    what: str
    prices: int = 0
    egress: int = 0
    problem: str = ""


_Read = Callable[[], Tables]


def refresh(
    catalog: Catalog,
    clouds: Sequence[str],
    regions: dict[str, Sequence[str]],
    at: float,
    *,
    addresses: Addresses | None = None,
    told: Callable[[Outcome], None] = lambda _: None,
    ec2: Callable[[str], Any] | None = None,
    needed: bool = False,
) -> list[Outcome]:
    """Read what `clouds` publish about `regions` (by cloud). One that fails is told and does not stop the others.
    With `needed` an offer file of AWS, which has 0.3 GB, is left alone while its prices are fresh.

    `ec2` makes a client of EC2 for a region, for spot prices; without it AWS has none. Raises `StorageError`.
    """
    outcomes = []
    fresh = {region for region in regions.get("aws", ()) if at - catalog.read_at("aws", region) < STALE_ON_DEMAND / 2}
    for cloud, region, what, read in _readings(clouds, regions, at, addresses or Addresses(), ec2):
        if needed and what in _HEAVY and region in fresh:
            continue
        try:
            tables = read()
            catalog.put(tables)
            outcome = Outcome(
                cloud=cloud, region=region, what=what, prices=len(tables.prices), egress=len(tables.egress)
            )
        except CoveyError as error:
            outcome = Outcome(cloud=cloud, region=region, what=what, problem=error.message)
        outcomes.append(outcome)
        told(outcome)
    catalog.forget(at)
    return outcomes


def _readings(
    clouds: Sequence[str],
    regions: dict[str, Sequence[str]],
    at: float,
    addresses: Addresses,
    ec2: Callable[[str], Any] | None,
) -> Iterable[tuple[str, str, str, _Read]]:
    for cloud in clouds:
        if cloud not in CLOUDS:
            raise UsageError(f"{cloud} has no price API that we know", next_step=f"one of {', '.join(CLOUDS)}")
        if cloud != "gcp" and not regions.get(cloud):
            raise UsageError(
                f"no pool names a region of {cloud}",
                next_step=f"covey fleet prices refresh --cloud {cloud} --region ...",
            )
    for region in regions.get("aws", ()) if "aws" in clouds else ():
        for service in ("AmazonEC2", "AWSDataTransfer"):
            yield "aws", region, service, partial(_offer, aws.offer_url(service, region, base=addresses.aws), at)
        if ec2 is not None:
            yield "aws", region, "spot", partial(_spot, ec2, region, at)
    for region in regions.get("azure", ()) if "azure" in clouds else ():
        for service in ("Virtual Machines", "Bandwidth"):
            url = azure.first_url(service, region, base=addresses.azure)
            yield "azure", region, service, partial(azure.read_retail, url, at, get)
    if "gcp" in clouds:
        yield "gcp", "", "Compute Engine", partial(_billing_catalog, gcp.first_url(base=addresses.gcp), at)


def _offer(url: str, at: float) -> Tables:
    with stream(url) as lines:
        return aws.read_offer_csv(lines, at)


def _spot(ec2: Callable[[str], Any], region: str, at: float) -> Tables:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return aws.read_spot(ec2(region), region, at)
    except (BotoCoreError, ClientError) as error:
        raise UsageError(f"EC2 gives no spot prices: {error}", code="price-api") from None


def _billing_catalog(url: str, at: float) -> Tables:
    key = os.environ.get(GCP_KEY, "")
    if not key:
        raise UsageError("Google's billing catalog asks for a key", next_step=f"export {GCP_KEY}=...")
    return gcp.read_catalog(url, at, partial(get, headers={"X-Goog-Api-Key": key}))
