"""The clouds' price lists, in their formats."""

from __future__ import annotations

import json
from typing import Any

import pytest

from covey.base.errors import ParseError
from covey.fleet.prices import aws, azure, gcp
from covey.fleet.prices.types import Price, Tables, Tier
from tests.fleet.prices import samples
from tests.fleet.prices.samples import AT


def usd(tables: Tables) -> dict[tuple[str, str, bool], float]:
    return {(price.region, price.shape, price.spot): round(price.usd, 9) for price in tables.prices}


# --- AWS -------------------------------------------------------------------------------------------------------------


def test_aws_csv_gives_plain_shared_linux_alone() -> None:
    tables = aws.read_offer_csv(samples.EC2_CSV.splitlines(keepends=True), AT)
    assert usd(tables) == {
        ("us-east-1", "m5.large", False): 0.096,
        ("us-east-1", "m7g.24xlarge", False): 3.9168,
        ("us-east-1", "p4d.24xlarge", False): 32.7726,
    }
    machines = {machine.shape: machine for machine in tables.machines}
    assert (machines["m5.large"].vcpu, machines["m5.large"].memory, machines["m5.large"].arch) == (2, 8 << 30, "amd64")
    assert machines["m7g.24xlarge"].arch == "arm64"
    assert machines["p4d.24xlarge"].gpu == 8
    assert {price.at for price in tables.prices} == {AT}


def test_aws_json_says_the_same() -> None:
    tables = aws.read_offer_json(samples.EC2_JSON, AT)
    from_csv = aws.read_offer_csv(samples.EC2_CSV.splitlines(), AT)
    assert tables.prices == from_csv.prices[:1]
    assert tables.machines == from_csv.machines[:1]


def test_aws_transfer_has_tiers_by_destination() -> None:
    found = {each.to: each for each in aws.read_offer_csv(samples.TRANSFER_CSV.splitlines(), AT).egress}
    assert found["internet"].tiers == (Tier(0.0, 0.09), Tier(10240.0, 0.085))
    assert found["eu-west-1"].tiers == (Tier(0.0, 0.02),)
    assert list(found) == ["internet", "eu-west-1"]
    assert [found["internet"].usd_per_gb(gb) for gb in (0, 10239, 10240, 1e9)] == [0.09, 0.09, 0.085, 0.085]


def test_aws_spot_is_as_fresh_as_it_was_read() -> None:
    class Ec2:
        def get_paginator(self, name: str) -> Ec2:
            assert name == "describe_spot_price_history"
            return self

        def paginate(self, **asked: Any) -> list[dict[str, Any]]:
            assert asked["ProductDescriptions"] == ["Linux/UNIX"]
            return [
                {
                    "SpotPriceHistory": [
                        {"InstanceType": "m5.large", "AvailabilityZone": f"us-east-1{z}", "SpotPrice": p}
                    ]
                }
                for z, p in (("a", "0.0350"), ("b", "0.0410"), ("a", "0.0990"))
            ]

    tables = aws.read_spot(Ec2(), "us-east-1", AT)
    assert [(price.zone, price.usd, price.at) for price in tables.prices] == [
        ("us-east-1a", 0.035, AT),
        ("us-east-1b", 0.041, AT),
    ]


@pytest.mark.slow  # moto takes 4 s
def test_aws_spot_by_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3
    from moto import mock_aws

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with mock_aws():
        client = boto3.client("ec2", region_name="us-east-1")
        tables = aws.read_spot(client, "us-east-1", AT, ["m5.large", "c5.xlarge"])
    assert {price.shape for price in tables.prices} == {"m5.large", "c5.xlarge"}
    assert len({price.zone for price in tables.prices}) > 1


# --- Azure -----------------------------------------------------------------------------------------------------------


def test_azure_pages_are_followed_and_give_linux_machines_that_hold_now() -> None:
    url = azure.first_url("Virtual Machines", "westeurope", base="https://prices.example/api")
    pages = {
        url: samples.azure_page(*samples.AZURE_MACHINES[:2], following="https://prices.example/api?$skip=1000"),
        "https://prices.example/api?$skip=1000": samples.azure_page(*samples.AZURE_MACHINES[2:]),
    }
    tables = azure.read_retail(url, AT, pages.__getitem__)
    assert usd(tables) == {
        ("westeurope", "Standard_D4s_v5", False): 0.23,
        ("westeurope", "Standard_D4s_v5", True): 0.046,
    }


def test_azure_meter_that_began_last_holds() -> None:
    pages = [
        samples.azure_page(
            samples.azure_item(effectiveStartDate="2026-06-01T00:00:00Z", retailPrice=0.25), samples.azure_item()
        )
    ]
    assert usd(azure.read_pages(pages, AT)) == {("westeurope", "Standard_D4s_v5", False): 0.25}


def test_azure_bandwidth_has_tiers() -> None:
    (egress,) = azure.read_pages([samples.azure_page(*samples.AZURE_BANDWIDTH)], AT).egress
    assert (egress.region, egress.to) == ("westeurope", "internet")
    assert egress.tiers == (Tier(0.0, 0.0), Tier(100.0, 0.087), Tier(10335.0, 0.083))


def test_azure_may_not_send_us_to_another_host() -> None:
    page = samples.azure_page(following="https://elsewhere.example/api")
    with pytest.raises(ParseError, match="another host"):
        azure.read_retail("https://prices.example/api", AT, lambda _: page)


# --- Google ----------------------------------------------------------------------------------------------------------


def test_gcp_machines_are_sums_of_cores_and_memory() -> None:
    asked: list[str] = []

    def get(url: str) -> bytes:
        asked.append(url)
        return json.dumps(samples.GCP_SECOND if "pageToken=second" in url else samples.GCP_FIRST).encode()

    tables = gcp.read_catalog(gcp.first_url(base="https://billing.example/skus"), AT, get)
    prices = usd(tables)
    assert len(asked) == 2
    assert prices["europe-west4", "n2-standard-4", False] == round(4 * 0.0348 + 16 * 0.004664, 9)
    assert prices["europe-west4", "n2-highmem-128", False] == round(128 * 0.0348 + 864 * 0.004664, 9)
    assert prices["europe-west4", "n2-standard-4", True] == round(4 * 0.008 + 16 * 0.001, 9)
    assert prices["europe-west4", "c2-standard-8", False] == round(8 * 0.037 + 32 * 0.005, 9)
    assert not [shape for _, shape, _ in prices if shape.startswith(("n1-", "t2a-"))]  # their memory has no price
    (egress,) = tables.egress
    assert egress.tiers == (Tier(0.0, 0.12), Tier(1024.0, 0.11))


def test_gcp_machine_types_of_the_compute_api_are_priced_too() -> None:
    listed = [{"name": "n2-standard-6", "guestCpus": 6, "memoryMb": 24576, "kind": "compute#machineType"}]
    for page in ({"items": listed}, {"items": {"zones/a": {"machineTypes": listed}, "zones/b": {"warning": {}}}}):
        machines = gcp.read_machine_types(json.dumps(page).encode())
        prices = usd(gcp.read_pages([json.dumps(samples.GCP_FIRST).encode()], AT, machines))
        assert prices["europe-west4", "n2-standard-6", False] == round(6 * 0.0348 + 24 * 0.004664, 9)


# --- what is no price list -------------------------------------------------------------------------------------------

HOSTILE = {
    "azure: no JSON": lambda: azure.read_pages([b"<html>"], AT),
    "azure: deep": lambda: azure.read_pages([b"[" * 100_000], AT),
    "azure: date": lambda: azure.read_pages([samples.azure_page(samples.azure_item(effectiveStartDate="soon"))], AT),
    "gcp: no JSON": lambda: gcp.read_pages([b"{"], AT),
    "gcp: units": lambda: gcp.read_pages(
        [json.dumps({"skus": [samples.gcp_sku("N2 Instance Core running in X", -5)]}).encode()], AT
    ),
    "gcp: machine types": lambda: gcp.read_machine_types(b'{"items": [{"name": "x"}]}'),
    "aws: no JSON": lambda: aws.read_offer_json(b"[]", AT),
    "aws: no columns": lambda: aws.read_offer_csv(["a,b\n"] * 100, AT),
    "aws: price": lambda: aws.read_offer_csv(samples.EC2_CSV.replace("0.0960000000", "cheap").splitlines(), AT),
    "aws: huge cell": lambda: aws.read_offer_csv([*samples.EC2_CSV.splitlines(), '"' + "x" * 200_000], AT),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_price_list_is_refused_with_one_error(name: str) -> None:
    with pytest.raises(ParseError):
        HOSTILE[name]()


def test_absurd_prices_are_left_out() -> None:
    items = [samples.azure_item(retailPrice=-1.0), samples.azure_item(retailPrice=1e12, armSkuName="X")]
    assert azure.read_pages([samples.azure_page(*items)], AT).prices == ()


def test_price_has_all_its_words() -> None:
    assert azure.read_pages([samples.azure_page(samples.azure_item())], AT).prices == (
        Price(
            cloud="azure", region="westeurope", shape="Standard_D4s_v5", usd=0.23, at=AT, source="azure retail prices"
        ),
    )
