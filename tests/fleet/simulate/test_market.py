"""Pools out of price tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from covey.base.errors import ParseError
from covey.fleet.simulate.market import load_market


def test_market_takes_like_shapes_of_one_place_in_each_cloud(prices: Path) -> None:
    market = load_market(prices, preemptions=0.05)
    assert {offering.key: offering.price for offering in market.offerings} == {
        "aws-us-east-1/m5a.xlarge/on-demand": 0.172,
        "azure-eastus/Standard_D4as_v5/on-demand": 0.172,
        "gcp-us-east4/e2-standard-4/on-demand": 0.151,
        "gcp-us-east4/n2-standard-4/on-demand": 0.2,
        "gcp-us-east4/n2-standard-4/spot@us-east4a": 0.045,
        "gcp-us-east4/n2-standard-4/spot@us-east4b": 0.045,
        "gcp-us-east4/e2-standard-4/spot@us-east4a": 0.08,
        "gcp-us-east4/e2-standard-4/spot@us-east4b": 0.08,
    }
    assert market.cheapest().key == "gcp-us-east4/e2-standard-4/on-demand"
    assert {offering.preemptions for offering in market.offerings if offering.spot} == {0.05}


def test_spot_prices_follow_their_history_from_the_storys_beginning(prices: Path) -> None:
    market = load_market(prices, preemptions=0.05)
    assert [(change.at, change.offering, change.price) for change in market.changes] == [
        (3600.0, "gcp-us-east4/n2-standard-4/spot@us-east4a", 0.048),
        (3600.0, "gcp-us-east4/n2-standard-4/spot@us-east4b", 0.048),
    ]
    assert market.of(spot=False).changes == ()


def test_market_reads_further_places_when_asked(prices: Path) -> None:
    market = load_market(prices, preemptions=0.05, places=[("aws", "eu-west-1"), ("aws", "mars-1")])
    assert "aws-eu-west-1" in market.pools
    assert market.of(clouds=["aws"]).pools == ("aws-eu-west-1", "aws-us-east-1")


@pytest.mark.parametrize(
    ("old", "new"),
    [("0.172", "cheap"), ("0.172", "-1"), ("0.172", "nan"), ("4,16.0", "four,16.0"), ("price_usd_h", "price")],
)
def test_market_refuses_what_is_no_price(prices: Path, old: str, new: str) -> None:
    table = prices / "ondemand.csv"
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(ParseError):
        load_market(prices, preemptions=0.05)


def test_market_without_fitting_prices_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ParseError) as caught:
        load_market(tmp_path, preemptions=0.05)
    assert "instance_type" in caught.value.next_step


def test_egress_is_what_the_table_says_else_the_first_tier_else_unknown(prices: Path) -> None:
    market = load_market(prices, preemptions=0.05)
    by_cloud = {offering.cloud: offering for offering in market.offerings}
    assert market.egress_per_gb(by_cloud["aws"], "internet") == 0.09
    assert market.egress_per_gb(by_cloud["gcp"], "internet") == 0.12
    assert market.egress_per_gb(by_cloud["gcp"], "us-east4") == 0.0
    assert market.egress_per_gb(by_cloud["gcp"], "eu-west-1") is None
