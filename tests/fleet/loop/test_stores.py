"""Which store a home has."""

from __future__ import annotations

from pathlib import Path

import pytest

from covey.base.errors import UsageError
from covey.fleet.home import FleetHome
from covey.fleet.loop.stores import open_store, remember_store, store_url


def home(folder: Path) -> FleetHome:
    return FleetHome(folder / "home").make()


def test_home_has_sqlite_until_a_spec_says_otherwise(tmp_path: Path) -> None:
    here = home(tmp_path)
    assert store_url(here, {}) == ""
    open_store(here, {}).close()
    assert here.database.exists()
    assert here.database.stat().st_mode & 0o777 == 0o600
    remember_store(here, f"sqlite:{tmp_path}/elsewhere.db")
    open_store(here, {}).close()
    assert (tmp_path / "elsewhere.db").exists()
    assert here.store.stat().st_mode & 0o777 == 0o600
    remember_store(here, "")
    assert store_url(here, {}) == ""


def test_environment_wins_over_what_the_home_remembers(tmp_path: Path) -> None:
    here = home(tmp_path)
    remember_store(here, "postgresql://a")
    assert store_url(here, {"COVEY_FLEET_STORE": "sqlite:b.db"}) == "sqlite:b.db"


def test_store_of_an_unknown_kind_is_an_error_that_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="postgresql"):
        remember_store(home(tmp_path), "mysql://a")
