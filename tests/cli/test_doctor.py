"""`doctor`, `store check` and `key show`, which need no daemon: the real examination of a real profile."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import msgspec
import pytest

from covey.base.paths import Home
from covey.base.schema import FindingView
from covey.cli.judgement import judgement
from covey.node.storage import Store, load_or_create, prepare
from tests.cli.conftest import Covey
from tests.daemon.memory import RunningDaemon


@pytest.fixture
def home(environment: Path) -> Home:
    """A profile whose daemon ran once."""
    home = Home.locate("default", {"COVEY_HOME": str(environment)}, uid=os.getuid())
    prepare(home)
    now_us = time.time_ns() // 1000
    load_or_create(home, random.Random(1).randbytes, now_us)
    Store.open(home, random.Random(2).randbytes, now_us, durable=False).close()
    return home


def test_doctor_works_without_a_daemon_and_says_what_to_do(covey: Covey, home: Home) -> None:
    result = covey("doctor", "--json")
    document = result.document
    assert (result.code, document["error"]["code"]) == (11, "warnings-found")
    codes = [each["code"] for each in document["data"]["findings"]]
    assert {"not-running", "no-network", "recovery-file-here"} <= set(codes)
    assert codes.index("recovery-file-here") > codes.index("no-network"), "notes come last"
    people = covey("doctor")
    assert people.code == 11
    assert people.out.startswith("degraded: found 2 warnings")
    assert "do: covey up\n" in people.out


def test_doctor_tells_of_an_error_with_another_code(covey: Covey, home: Home) -> None:
    home.identity_file.chmod(0o644)
    result = covey("doctor", "--json")
    assert (result.code, result.document["error"]["code"]) == (12, "errors-found")
    assert result.document["error"]["next_step"] == f"chmod 600 {home.identity_file}"


def test_doctor_compares_versions_and_takes_the_daemons_word(covey: Covey, home: Home, daemon: RunningDaemon) -> None:
    view = msgspec.structs.replace(
        daemon.node.view(), version="0.0.1", findings=[FindingView("no-network", "warning", "so it says", "")]
    )
    daemon.node.view = lambda: view  # type: ignore[method-assign]
    findings = covey("doctor", "--json").document["data"]["findings"]
    assert {"version-skew"} <= {each["code"] for each in findings}
    assert [each["what"] for each in findings if each["code"] == "no-network"] == ["so it says"]


def test_store_check_of_a_whole_profile_is_ok(covey: Covey, home: Home) -> None:
    result = covey("store", "check")
    assert (result.code, result.out, result.err) == (0, f"ok: {home.state_dir}: nothing to say\n", "")
    assert covey("store", "check", "--json").document["data"] == {"items": []}


def test_store_check_of_a_damaged_database_is_an_error_and_changes_nothing(covey: Covey, home: Home) -> None:
    home.database.write_bytes(b"not a database" * 1000)
    result = covey("store", "check", "--json")
    assert (result.code, result.document["error"]["code"]) == (12, "errors-found")
    assert [each["code"] for each in result.document["data"]["items"]] == ["store-corrupt"]
    assert home.database.read_bytes() == b"not a database" * 1000
    assert "store-corrupt" in covey("store", "check").out


def test_key_show_works_without_a_daemon(covey: Covey, home: Home) -> None:
    data = covey("key", "show", "--json").document["data"]
    assert (data["witnesses"], data["keys"]["log_sequence"], data["keys"]["root_here"]) == (None, 0, True)
    result = covey("key", "show")
    assert result.out.startswith(data["keys"]["identity"])
    assert "unknown: the daemon does not run" in result.out
    assert f"mv {home.recovery_file}" in result.out


def test_key_show_asks_the_daemon_for_its_witnesses(covey: Covey, home: Home, daemon: RunningDaemon) -> None:
    assert covey("key", "show", "--json").document["data"]["witnesses"] == {"connected": 0, "rendezvous": 0}


def test_key_show_without_an_identity_is_an_error(covey: Covey) -> None:
    result = covey("key", "show", "--json")
    assert (result.code, result.document["error"]["code"]) == (9, "identity-missing")


@pytest.mark.parametrize("noun", ["key", "store"])
def test_noun_alone_says_what_there_is(covey: Covey, noun: str) -> None:
    result = covey(noun, "--json")
    assert (result.code, result.document["error"]["code"]) == (2, "usage")


def test_judgement_is_the_worst() -> None:
    note, warning, error = (FindingView(each, each, each, each) for each in ("note", "warning", "error"))  # type: ignore[arg-type]
    assert judgement([]) is None
    assert judgement([note]) is None
    for items, code in (([note, warning], "warnings-found"), ([warning, error], "errors-found")):
        found = judgement(items)
        assert found is not None
        assert (found.code, found.next_step) == (code, items[-1].hint)
