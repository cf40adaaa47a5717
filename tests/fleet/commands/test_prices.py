"""`covey fleet prices`."""

from __future__ import annotations

from pathlib import Path

from tests.fleet.commands.conftest import Fleet
from tests.fleet.prices.test_catalog import EGRESS, ON_DEMAND, SPOT


def test_tables_are_imported_and_shown_with_their_age(fleet: Fleet) -> None:
    for name, text in (("list.csv", ON_DEMAND), ("spot.csv", SPOT), ("egress.csv", EGRESS)):
        Path(name).write_text(text)
    assert "no prices are known" in fleet("prices").out
    assert fleet("prices", "import", "list.csv", "spot.csv", "egress.csv", "--cloud", "gcp").code == 0
    clouds = {each["cloud"]: each for each in fleet("prices", "--json").data["clouds"]}
    assert (clouds["gcp"]["on_demand"], clouds["gcp"]["spot"], clouds["gcp"]["egress"]) == (1, 1, 2)
    assert "$0.0501" in fleet("prices", "--shape", "n2-standard-4", "--spot").out
    history = fleet("prices", "history", "--cloud", "gcp", "--region", "us-east4", "--shape", "n2-standard-4")
    assert "3 in all, from $0.0500 to $0.0600" in history.out


def test_bill_far_from_the_journal_is_an_error(applied: Fleet) -> None:
    Path("bill.csv").write_text("day,cloud,usd\n2026-01-01,a,5\n")
    said = applied("prices", "billed", "bill.csv")
    assert (said.code, "not judged" in said.out) == (0, True)


def test_wrong_use_is_told(fleet: Fleet) -> None:
    for words in (("import",), ("show", "x.csv"), ("billed",), ("history",), ("refresh",)):
        assert fleet("prices", *words, "--json").error["code"] == "usage"
    assert fleet("prices", "import", "none.csv", "--json").error["code"] == "price-table"
