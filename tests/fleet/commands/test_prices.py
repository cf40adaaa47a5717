"""`covey fleet prices`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from covey.fleet.prices.fresh import keep_fresh
from covey.fleet.prices.refresh import GCP_KEY
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


def test_check_reads_the_users_own_prices_too(applied: Fleet) -> None:
    text = Path("fleet.toml").read_text()
    Path("fleet.toml").write_text(text + '[prices]\noverrides = "own.toml"\n')
    assert applied("check", "--json").error["code"] == "price-overrides"
    Path("own.toml").write_text('[[price]]\ncloud = "aws"\n')
    said = applied("check")
    assert "own.toml has 3 errors" in said.err
    assert "line 1: price.0.region is missing" in said.err


def test_controller_keeps_prices_fresh_and_hears_what_went_wrong(
    applied: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(GCP_KEY, raising=False)
    text = Path("fleet.toml").read_text()
    Path("fleet.toml").write_text(text + '[prices]\nrefresh = ["gcp"]\n')
    applied("apply")

    home = Path("home").absolute()

    async def first_problem() -> str:
        heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(keep_fresh(home, wanted=lambda: True, told=heard.set_result))
        try:
            return await heard
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    assert "first gcp: Google's billing catalog asks for a key" in asyncio.run(first_problem())


def test_wrong_use_is_told(fleet: Fleet) -> None:
    for words in (("import",), ("show", "x.csv"), ("billed",), ("history",), ("refresh",)):
        assert fleet("prices", *words, "--json").error["code"] == "usage"
    assert fleet("prices", "import", "none.csv", "--json").error["code"] == "price-table"
