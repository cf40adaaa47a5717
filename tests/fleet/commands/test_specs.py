"""`init`, `check`, `diff`, `apply`, `rollback`, `schema`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.fleet.commands.conftest import SPEC, Fleet


def test_init_writes_a_spec_that_is_good_and_keeps_what_is_there(fleet: Fleet) -> None:
    assert fleet("init").code == 0
    assert fleet("check", "--json").data["workloads"] == ["worker", "load"]
    Path("fleet.toml").write_text("mine")
    again = fleet("init")
    assert (again.code, Path("fleet.toml").read_text()) == (1, "mine")
    assert "covey fleet init --force" in again.err
    assert fleet("init", "--force").code == 0


def test_check_tells_every_fault_and_exits_with_usage(fleet: Fleet) -> None:
    Path("fleet.toml").write_text(SPEC.replace("min = 1", "min = -1").replace("mode =", "mood ="))
    said = fleet("check")
    assert said.code == 2
    assert "line 8: workloads.work.mood is not a field" in said.err
    assert "line 10: workloads.work.replicas.min is -1" in said.err
    assert fleet("check", "--json").error["code"] == "spec"


def test_apply_makes_versions_and_says_what_changed(applied: Fleet) -> None:
    assert applied("apply", "--json").data == {"version": 1, "changes": []}
    Path("fleet.toml").write_text(SPEC.replace("max = 8", "max = 9").replace('["serve"]', '["other"]'))
    changes = applied("diff", "--json").data
    assert [(each["field"], each["before"], each["after"]) for each in changes["changes"]] == [
        ("workloads.work.command", '["serve"]', '["other"]'),
        ("workloads.work.replicas.max", "8", "9"),
    ]
    assert changes["changes"][0]["effect"] == "a rollout replaces its agents"
    said = applied("apply", "--note", "more room")
    assert "~ workloads.work.replicas.max: 8 -> 9" in said.out
    assert "No controller runs here" in said.out
    assert "version 2 of fleet.toml: more room" in applied("history").out


def test_defaults_are_no_difference(applied: Fleet) -> None:
    Path("fleet.toml").write_text(SPEC + 'grace = "30s"\n[controller]\ntick = 5\n[prices]\n')
    assert applied("diff", "--json").data["changes"] == []
    Path("other.toml").write_text(SPEC)
    assert applied("--json", "diff").data["changes"] == []  # also before the command
    assert applied("--home", str(Path("home").absolute()), "--json", "diff").data["against"] == 1
    assert "next: covey fleet diff --help" in applied("diff", "--jsn").err
    fields = [each["field"] for each in applied("diff", "--home", "none", "--json").data["changes"]]
    assert "workloads.work.command" in fields
    assert "workloads.work.grace" not in fields


def test_diff_says_what_becomes_of_what_goes(applied: Fleet) -> None:
    Path("fleet.toml").write_text('[pools.a]\nprovider = "local"\nlabels = { cloud = "a" }\n[workloads]\n')
    changes = applied("diff", "--json").data["changes"]
    effects = {each["effect"] for each in changes if each["field"].startswith("pools.b")}
    assert "it is emptied, new before old" in effects
    assert [each["effect"] for each in changes if each["field"].startswith("workloads.work")].count(
        "its agents are drained and end"
    ) == 1


def test_diff_does_not_tell_passwords(applied: Fleet) -> None:
    text = Path("fleet.toml").read_text()
    Path("fleet.toml").write_text(text + '[controller]\nstore = "postgresql://covey:secret@127.0.0.1/fleet"\n')
    said = applied("diff")
    assert '+ controller.store = "postgresql://covey:***@127.0.0.1/fleet"' in said.out


def test_rollback_is_a_new_version_with_the_old_words(applied: Fleet) -> None:
    assert applied("rollback", "--json").error["code"] == "no-spec"
    Path("fleet.toml").write_text(SPEC.replace("max = 8", "max = 9"))
    applied("apply")
    said = applied("rollback", "--json").data
    assert (said["version"], said["changes"][0]["after"]) == (3, "8")
    assert applied("rollback", "7", "--json").error["code"] == "no-spec"
    Path("fleet.toml").write_text(SPEC)
    assert applied("diff", "--json").data == {"against": 3, "changes": []}


def test_a_wrong_spec_changes_nothing(applied: Fleet) -> None:
    Path("fleet.toml").write_text(SPEC + "nonsense = 1\n")
    assert applied("apply").code == 2
    assert applied("status", "--json").data["spec_version"] == 1


def test_home_is_ours_alone(applied: Fleet) -> None:
    home = Path("home")
    assert home.stat().st_mode & 0o777 == 0o700
    home.chmod(0o755)
    assert applied("status", "--json").error["code"] == "bad-permissions"


def test_foreign_words_do_not_steer_the_terminal(fleet: Fleet) -> None:
    Path("fleet.toml").write_text(SPEC.replace('"serve"', '"\\u001b]0;x\\u0007"').replace("mode =", '"\\u001b[2J" ='))
    said = fleet("check")
    assert said.code == 2
    assert "\x1b" not in said.err
    assert "\\x1b[2J" in said.err


def test_schema_is_json_for_people_and_programs(fleet: Fleet) -> None:
    assert json.loads(fleet("schema").out) == fleet("schema", "--json").data


def test_covey_fleet_becomes_the_fleets_own_program() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "covey.cli", "fleet", "check", "--spec", "none.toml", "--json"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (said.returncode, json.loads(said.stdout)["error"]["code"]) == (4, "no-spec")


def test_help_names_every_command(fleet: Fleet) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "covey.cli", "fleet"], capture_output=True, text=True, check=False, timeout=60
    )
    for verb in ("init", "check", "apply", "diff", "plan", "status", "explain", "history", "drain", "approve"):
        assert f"    {verb} " in said.stdout
    assert "covey fleet apply" in fleet("aply").err
