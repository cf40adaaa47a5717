from __future__ import annotations

import pytest

from covey.base.errors import StateError
from covey.base.schema import NameView
from covey.cli import name, render
from tests.cli.conftest import Covey
from tests.daemon.memory import RunningDaemon


def test_name_is_shown_with_who_holds_it(covey: Covey, daemon: RunningDaemon) -> None:
    result = covey("name")
    assert (result.code, result.out.splitlines()[0]) == (0, "aws-orchestrator")


def test_name_is_taken_and_given_up(covey: Covey, daemon: RunningDaemon) -> None:
    assert covey("name", "renamed", "--json").document["data"]["name"] == "renamed"
    assert daemon.node.name == "renamed"
    released = covey("name", "--release")
    assert released.code == 0
    assert "made up from the identity" in released.out
    assert released.err == "next: covey name NEW\n"


def test_name_of_another_agent_is_refused(covey: Covey, daemon: RunningDaemon) -> None:
    daemon.node.failures["set_name"] = StateError(
        "it belongs to another", code="name-taken", next_step="choose another"
    )
    result = covey("name", "renamed", "--json")
    assert (result.code, result.document["error"]["code"]) == (1, "name-taken")


def test_name_and_release_exclude_each_other(covey: Covey, daemon: RunningDaemon) -> None:
    result = covey("name", "renamed", "--release", "--json")
    assert (result.code, result.document["error"]["code"]) == (2, "usage")


@pytest.mark.parametrize(
    ("view", "lines"),
    [
        (NameView("a", True, 0, 0, 0), ["a", "  this agent belongs to no network, so nobody holds the name for it"]),
        (NameView("a", True, 2, 2, 0), ["a", "  held by 2 of 2 rendezvous"]),
        (
            NameView("a", True, 3, 1, 1),
            [
                "a",
                "  held by 1 of 3 rendezvous",
                "  1 of them lease it to another agent, who came first",
                "  1 not reached or not asked yet; told as soon as possible",
            ],
        ),
    ],
)
def test_name_says_how_far_it_is_known(view: NameView, lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    name._show(view)
    render.flush()
    assert capsys.readouterr().out.splitlines() == lines
