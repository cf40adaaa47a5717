"""The catalog, tables, overrides, and what the loop asks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from covey.base.errors import ParseError, StorageError
from covey.fleet.model import STALE_ON_DEMAND, STALE_SPOT, Agent, Offering, PoolView
from covey.fleet.prices.catalog import Catalog
from covey.fleet.prices.overrides import load_overrides
from covey.fleet.prices.quotes import PREEMPTIONS, Quotes
from covey.fleet.prices.tables import read_table
from covey.fleet.prices.types import Egress, Machine, Price, Tables, Tier
from covey.fleet.simulate.traces import load_trace
from covey.fleet.spec.load import parse
from covey.fleet.spec.source import SpecError
from covey.fleet.spec.types import PriceSources
from tests.fleet.prices.samples import AT


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    found = Catalog(tmp_path / "prices.db")
    yield found
    found.close()


def price(usd: float, at: float = AT, **more: object) -> Price:
    given = {"cloud": "aws", "region": "us-east-1", "shape": "m5.large"} | more
    return Price(usd=usd, at=at, **given)  # type: ignore[arg-type]


def test_newest_price_holds_whatever_comes_later(catalog: Catalog) -> None:
    catalog.put(Tables(prices=(price(0.1),)))
    catalog.put(Tables(prices=(price(0.09, AT - 10),)))
    found = catalog.price("AWS", "us-east-1", "M5.large", spot=False)
    assert found is not None
    assert (found.usd, found.at) == (0.1, AT)
    assert catalog.price("aws", "us-east-1", "m5.large", spot=True) is None


def test_spot_of_zones_is_their_mean_as_old_as_the_oldest(catalog: Catalog) -> None:
    catalog.put(Tables(prices=(price(0.03, spot=True, zone="a"), price(0.05, AT - 60, spot=True, zone="b"))))
    found = catalog.price("aws", "us-east-1", "m5.large", spot=True)
    assert found is not None
    assert (found.usd, found.at) == (0.04, AT - 60)


def test_spot_history_is_kept_and_forgotten(catalog: Catalog) -> None:
    days = 86_400.0
    catalog.put(Tables(prices=tuple(price(0.03 + n / 100, AT - n * 40 * days, spot=True) for n in range(3))))
    assert [round(p.usd, 2) for p in catalog.spot_history("aws", "us-east-1", "m5.large")] == [0.05, 0.04, 0.03]
    catalog.forget(AT + 20 * days)
    assert len(catalog.spot_history("aws", "us-east-1", "m5.large")) == 2


def test_all_of_a_reading_or_nothing(catalog: Catalog) -> None:
    broken = Tables(
        prices=(price(0.1), price(0.2, shape=None)), machines=(Machine(cloud="aws", shape=None, vcpu=1, memory=1),)
    )  # type: ignore[arg-type]
    with pytest.raises(StorageError):
        catalog.put(broken)
    assert catalog.summaries() == []


def test_two_programs_share_it(catalog: Catalog, tmp_path: Path) -> None:
    other = Catalog(tmp_path / "prices.db")
    other.put(Tables(prices=(price(0.1),), machines=(Machine(cloud="aws", shape="m5.large", vcpu=2, memory=8 << 30),)))
    other.close()
    machine = catalog.machine("aws", "m5.large")
    assert machine is not None
    assert machine.memory == 8 << 30
    assert (tmp_path / "prices.db").stat().st_mode & 0o077 == 0


# --- tables ----------------------------------------------------------------------------------------------------------

ON_DEMAND = """\
cloud,region,instance_type,vcpu,mem_gib,gpu,arch,price_usd_h,spot_usd_h
aws,us-east-1,m5.large,2,8.0,0,amd64,0.096,
gcp,us-east4,n2-standard-4,4,16.0,0,,0.2188,0.0501
"""
SPOT = """\
commit_time,region,instance_type,on_demand,spot
2026-05-05T10:39:28+02:00,us-east4,n2-standard-4,0.2188,0.05
2026-05-16T17:26:03+04:00,us-east4,n2-standard-4,0.2188,0.06
"""
EGRESS = "src,dst,cost\nus-east-1,internet,0.09\nus-east-1,eu-west-1,0.02\n"


def table(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


def test_tables_are_known_by_their_first_line(tmp_path: Path, catalog: Catalog) -> None:
    for text, cloud in ((ON_DEMAND, ""), (SPOT, "gcp"), (EGRESS, "aws")):
        catalog.put(read_table(table(tmp_path, text), AT, cloud=cloud))
    listed = catalog.price("gcp", "us-east4", "n2-standard-4", spot=True)
    assert listed is not None
    assert (listed.usd, listed.at) == (0.0501, AT)  # the history is older
    assert [p.usd for p in catalog.spot_history("gcp", "us-east4", "n2-standard-4")] == [0.05, 0.06, 0.0501]
    egress = catalog.egress("aws", "us-east-1", "eu-west-1")
    assert egress is not None
    assert egress.usd_per_gb(10) == 0.02
    assert catalog.egress("aws", "us-east-1", "ap-south-1") is None
    free = catalog.egress("aws", "us-east-1", "us-east-1")
    assert free is not None
    assert free.usd_per_gb(1) == 0.0


WRONG_TABLES = {
    "no format": "a,b\n1,2\n",
    "empty": "",
    "short line": ON_DEMAND + "aws,us-east-1\n",
    "no number": ON_DEMAND.replace("0.096", "cheap"),
    "infinite": ON_DEMAND.replace("0.096", "inf"),
    "negative": ON_DEMAND.replace("0.096", "-1"),
    "endless line": "x" * 100_000,
    "long": ON_DEMAND.replace("m5.large", "x" * 300),
    "no date": SPOT.replace("2026-05-16T17:26:03+04:00", "yesterday"),
}


@pytest.mark.parametrize("name", WRONG_TABLES)
def test_wrong_table_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ParseError):
        read_table(table(tmp_path, WRONG_TABLES[name]), AT, cloud="gcp")


def test_what_is_no_file_is_refused() -> None:
    with pytest.raises(ParseError, match="no file"):
        read_table(Path("/dev/zero"), AT)
    with pytest.raises(ParseError, match="no file"):
        load_trace(Path("/dev/zero"))


def test_table_that_does_not_say_whose_it_is_asks(tmp_path: Path) -> None:
    with pytest.raises(ParseError) as caught:
        read_table(table(tmp_path, SPOT), AT)
    assert caught.value.next_step == "--cloud gcp"


# --- overrides and quotes --------------------------------------------------------------------------------------------

OWN = """\
[[discount]]
cloud = "aws"
share = "12.5%"
[[price]]
cloud = "aws"
region = "us-east-1"
shape = "m7g.large"
usd = 0.0714
[[egress]]
cloud = "aws"
region = "us-east-1"
usd_per_gb = 0.05
"""


def test_overrides_win_and_never_get_old(tmp_path: Path, catalog: Catalog) -> None:
    catalog.put(
        Tables(
            prices=(price(0.08), price(0.0816, shape="m7g.large"), price(0.03, spot=True)),
            egress=(Egress(cloud="aws", region="us-east-1", to="internet", tiers=(Tier(0.0, 0.09),), at=AT),),
        )
    )
    own = table(tmp_path, OWN)
    quotes = Quotes(tmp_path, PriceSources(overrides=str(own)))
    assert quotes.quote("aws", "us-east-1", "m7g.large", False) == (0.0714, None)
    assert quotes.quote("aws", "us-east-1", "m5.large", False) == (0.07, AT)
    assert quotes.quote("aws", "us-east-1", "m5.large", True) == (0.03, AT)  # the market gives no discount
    assert quotes.quote("aws", "us-east-1", "m5.huge", False) is None
    assert quotes.traffic("aws", "us-east-1", "internet", 0.0) == 0.05

    own.write_text(OWN.replace("0.0714", "0.06"))
    os.utime(own, ns=(1, 1))
    assert quotes.quote("aws", "us-east-1", "m7g.large", False) == (0.06, None)
    own.write_text("nonsense = 1")
    assert quotes.quote("aws", "us-east-1", "m7g.large", False) == (0.06, None)  # what it last said
    assert "nonsense is not a field" in quotes.problem
    quotes.close()


def test_wrong_override_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_overrides(table(tmp_path, OWN.replace("usd = 0.0714", 'usd = "cheap"')))
    assert [(fault.line, fault.field) for fault in caught.value.faults] == [(8, "price.0.usd")]


SPEC = """\
[pools.east]
provider = "aws"
region = "us-east-1"
[workloads.declared]
[workloads.declared.place]
egress_gb_hour = 20
[workloads.silent]
"""


def test_egress_is_the_declared_traffic_at_the_price_of_its_tier(tmp_path: Path, catalog: Catalog) -> None:
    tiers = (Tier(0.0, 0.09), Tier(20_000.0, 0.05))
    catalog.put(Tables(egress=(Egress(cloud="aws", region="us-east-1", to="internet", tiers=tiers, at=AT),)))
    spec = parse(SPEC)
    quotes = Quotes(tmp_path)

    def usd(agents: int) -> dict[str, float | None]:
        offering = Offering(pool="east", shape="m5.large", cloud="aws", region="us-east-1", price=0.1)
        there = tuple(
            Agent(id=f"i-{n}", workload="declared", pool="east", offering=offering.key, state="ready", started_at=AT)
            for n in range(agents)
        )
        view = PoolView(pool="east", at=AT, agents=there, offerings={"declared": (offering,), "silent": (offering,)})
        priced = quotes.priced({"east": view}, spec)["east"]
        return {workload: offered[0].egress for workload, offered in priced.offerings.items()}

    assert usd(1) == {"declared": 20 * 0.09, "silent": None}  # 14,600 GB a month
    assert usd(2) == {"declared": 20 * 0.05, "silent": None}  # 29,200
    quotes.close()


def test_spot_is_taken_to_be_preempted_now_and_then(tmp_path: Path) -> None:
    offered = tuple(
        Offering(pool="east", shape="m5.large", spot=spot, price=0.1, preemptions=known)
        for spot, known in ((True, 0.0), (True, 0.2), (False, 0.0))
    )
    quotes = Quotes(tmp_path)
    view = PoolView(pool="east", at=AT, offerings={"silent": offered})
    priced = quotes.priced({"east": view}, parse(SPEC))["east"].offerings["silent"]
    assert [each.preemptions for each in priced] == [PREEMPTIONS, 0.2, 0.0]
    quotes.close()


def test_a_catalog_that_cannot_be_used_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "prices.db").write_text("this is no database, and it is long enough to be looked at" * 20)
    quotes = Quotes(tmp_path)
    assert quotes.quote("aws", "us-east-1", "m5.large", False) is None
    assert "cannot be used" in quotes.problem
    quotes.close()


AGES = {
    "list price of a day": (False, STALE_ON_DEMAND, False),
    "older list price": (False, STALE_ON_DEMAND + 1, True),
    "spot price of an hour": (True, STALE_SPOT, False),
    "older spot price": (True, STALE_SPOT + 1, True),
    "declared": (False, None, False),
}


@pytest.mark.parametrize("name", AGES)
def test_stale(name: str) -> None:
    spot, age, expected = AGES[name]
    priced_at = None if age is None else AT - age
    assert Offering(pool="p", shape="s", price=1.0, spot=spot, priced_at=priced_at).stale(AT) is expected
