from __future__ import annotations

from pathlib import Path

import pytest

from covey.base.paths import Home
from tests.cli.conftest import Covey
from tests.daemon.memory import RunningDaemon, running_daemon


@pytest.fixture
def file(environment: Path) -> Path:
    """Where `config.toml` is; its directory exists."""
    path = Home.locate("default", {"COVEY_HOME": str(environment)}, uid=0).config_file
    path.parent.mkdir(parents=True)
    return path


def test_config_without_a_daemon_is_what_it_would_start_with(
    covey: Covey, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text('log_level = "debug"\nhostname = "from-file"\n')
    monkeypatch.setenv("COVEY_HOSTNAME", "from-environment")
    data = covey("config", "show", "--json").document["data"]
    assert (data["file"], data["exists"], data["running"], data["findings"]) == (str(file), True, False, [])
    assert [(each["key"], each["value"], each["origin"], each["where"]) for each in data["settings"]] == [
        ("hostname", "from-environment", "environment", "COVEY_HOSTNAME"),
        ("network", "", "remembered", ""),
        ("listen", "0.0.0.0:0", "default", ""),
        ("log_level", "debug", "file", f"{file}:1"),
        ("congestion", "cubic", "default", ""),
        ("port_mapping", "on", "default", ""),
        ("keep_read_days", "30", "default", ""),
        ("keep_read_messages", "10000", "default", ""),
        ("birthday", "off", "default", ""),
        ("relay", "off", "default", ""),
        ("relay_rate", "0", "default", ""),
        ("jurisdiction", "", "default", ""),
        ("relay_jurisdictions", "", "default", ""),
        ("addresses", "", "default", ""),
        ("interconnects", "", "default", ""),
        ("paths", "", "default", ""),
    ]
    assert [(each["key"], each["origin"], each["where"]) for each in data["places"]] == [
        ("profile", "default", ""),
        *((key, "environment", "COVEY_HOME") for key in ("config", "state", "recovery", "run")),
    ]


def test_config_tells_what_is_unset_from_what_is_remembered(covey: Covey, file: Path) -> None:
    shown = {line.split()[0]: line for line in covey("config", "show").out.splitlines() if line.strip()}
    assert "what the daemon remembers" in shown["hostname"]
    assert shown["jurisdiction"].split()[1] == "(none)"


def test_config_of_a_running_daemon_is_what_it_runs_with(
    environment: Path, covey: Covey, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COVEY_LOG_LEVEL", "error")
    with running_daemon(environment):
        monkeypatch.delenv("COVEY_LOG_LEVEL")
        file.write_text('log_level = "debug"\n')
        data = covey("config", "show", "--json").document["data"]
        shown = covey("config", "show", "--origin")
    settings = {each["key"]: (each["value"], each["origin"]) for each in data["settings"]}
    assert data["running"] is True
    assert settings["log_level"] == ("error", "environment")
    assert settings["hostname"] == ("aws-orchestrator", "remembered")
    (finding,) = data["findings"]
    assert (finding["code"], finding["hint"]) == ("takes-a-restart", "covey daemon stop && covey up")
    assert f"log_level will be debug ({file}:1)" in finding["what"]
    assert "environment: COVEY_LOG_LEVEL" in shown.out


def test_config_tells_what_is_wrong_with_the_file_and_never_what_is_in_it(covey: Covey, file: Path) -> None:
    file.write_text('hostname = "aws"\n\npassword = "hunter2"\nlisten = 5\n')
    result = covey("config", "show", "--json")
    assert result.code == 2
    document = result.document
    assert document["error"]["code"] == "bad-config"
    assert f"{file}:3" in document["error"]["message"]
    assert document["error"]["next_step"] == f"edit {file}"
    assert [each["code"] for each in document["data"]["findings"]] == ["unknown-setting", "bad-value"]
    assert document["data"]["settings"][0]["value"] == "aws"
    people = covey("config", "show", "--origin")
    assert (people.code, "hunter2" in result.out + people.out + people.err) == (2, False)
    assert f"{file}:4" in people.out


def test_config_tells_of_misspelt_variables(covey: Covey, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVEY_HOSTNAM", "hunter2")
    monkeypatch.setenv("COVEY_LISTEN", "nowhere")
    result = covey("config", "show", "--json")
    assert (result.code, result.document["error"]["code"]) == (2, "bad-listen")
    assert [each["code"] for each in result.document["data"]["findings"]] == ["unknown-variable", "bad-listen"]
    assert "hunter2" not in result.out


def test_config_without_a_file_says_what_it_may_hold(covey: Covey, environment: Path) -> None:
    result = covey("config", "show")
    assert (result.code, result.out.splitlines()[0].split()) == (0, ["SETTING", "VALUE"])
    assert "it may set hostname, network, listen, log_level, congestion, port_mapping" in result.err


def test_config_file_that_is_a_directory_is_an_error(covey: Covey, file: Path) -> None:
    file.mkdir()
    result = covey("config", "show", "--json")
    assert (result.code, result.document["error"]["code"]) == (2, "bad-config")


def test_profile_origin_is_the_flag(covey: Covey, daemon: RunningDaemon) -> None:
    data = covey("config", "show", "--profile", "work", "--json").document["data"]
    assert (data["places"][0]["value"], data["places"][0]["where"], data["running"]) == ("work", "--profile", False)


def test_config_alone_says_what_there_is(covey: Covey) -> None:
    result = covey("config", "--json")
    assert (result.code, result.document["error"]["next_step"]) == (2, "covey config show --origin")
