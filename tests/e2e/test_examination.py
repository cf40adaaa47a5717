"""`doctor`, `store check`, `key show`, `config show`, `name` and `status`, with everything real."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.stage import Agent, Stage, accepted, eventually, refused, send


def judged(agent: Agent, *words: str) -> tuple[int, Any]:
    """Exit code and data of a command that judges."""
    done = agent.cli(*words, "--json")
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)["data"]


def codes(findings: list[dict[str, Any]], *severities: str) -> set[str]:
    return {each["code"] for each in findings if each["severity"] in severities}


def test_healthy_agents_are_told_so_and_sick_ones_what_to_do(stage: Stage) -> None:
    aws, azure = stage.trusting("aws", "azure")
    send(aws, azure, "hello")
    for agent in (aws, azure):
        assert judged(agent, "store", "check") == (0, {"items": []})
        code, report = judged(agent, "doctor")
        assert codes(report["findings"], "error", "warning") == set(), report["findings"]
        assert code == 0
        assert " ms" in next(each for each in report["checks"] if each["name"] == "rendezvous")["detail"]
    assert agent.cli("status").stdout.startswith("ok: azure is up")

    keys = accepted(aws, "key", "show")
    assert keys["keys"]["identity"] == accepted(aws, "id")["identity"]
    assert keys["witnesses"] == {"connected": 1, "rendezvous": 1}

    azure.kill()  # its database is as a crash leaves it, its socket too
    assert judged(azure, "store", "check") == (0, {"items": []})
    code, report = judged(azure, "doctor")
    assert (code, codes(report["findings"], "error", "warning")) == (11, {"not-running"})
    assert "leftover-socket" in codes(report["findings"], "note")
    azure.start()

    stage.rendezvous.kill()
    eventually(lambda: aws.cli("status").stdout.startswith("degraded: aws is up"), "it is noticed", 60.0)
    code, report = judged(aws, "doctor")
    assert code == 12
    assert {"rendezvous-away", "rendezvous-silent"} <= codes(report["findings"], "error")


def test_settings_and_name_of_a_real_agent(stage: Stage) -> None:
    (aws,) = stage.started("aws")
    data = accepted(aws, "config", "show", "--origin")
    settings = {each["key"]: each for each in data["settings"]}
    assert data["running"] is True
    assert (settings["hostname"]["value"], settings["hostname"]["origin"]) == ("aws", "flag")
    assert settings["network"]["value"] == stage.rendezvous.ticket
    assert data["findings"] == []
    assert accepted(aws, "name", "renamed")["held"] == 1
    assert accepted(aws, "status")["name"] == "renamed"
    assert accepted(aws, "name", "--release")["chosen"] is False
    aws.home.config_file.write_text("hostnam = 'x'\n")
    code, error = refused(aws, "config", "show")
    assert (code, error.code) == (2, "bad-config")
    aws.stop()
    code, error = refused(aws, "up")
    assert (code, error.code) == (2, "bad-config")
    assert f"{aws.home.config_file}:1" in error.message


def test_netcheck_finds_the_same_with_and_without_the_daemon(stage: Stage) -> None:
    aws, _ = stage.trusting("aws", "azure")
    direct = accepted(aws, "ping", "azure", "--until-direct")
    assert (direct["items"][-1]["path"]["kind"], direct["peer"]["why"]) == ("direct", "direct")
    code, found = judged(aws, "netcheck")
    assert (code, found["daemon"], found["nat"], found["network"]["udp"]) == (0, True, "none", True)
    assert [(each["name"], each["expected"], each["path"]) for each in found["peers"]] == [
        ("azure", "direct", "direct")
    ]
    aws.stop()
    code, alone = judged(aws, "netcheck")
    assert (code, alone["daemon"], alone["nat"]) == (0, False, "none")
    assert [each["endpoint"] for each in alone["rendezvous"]] == [each["endpoint"] for each in found["rendezvous"]]
    assert alone["elapsed_ms"] < 4500
