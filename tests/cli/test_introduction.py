"""`covey introduce` against a daemon whose node lives in memory."""

from __future__ import annotations

import io
import json

import pytest

from covey.base.errors import UnreachableError
from tests.cli.conftest import Covey
from tests.daemon.memory import CODE, PEER_NAME, SAFETY_NUMBER, RunningDaemon

INVITATION = f"{CODE}@192.0.2.1:4040"


def test_introduce_prints_the_code_and_what_the_other_side_types_then_who_came(
    covey: Covey, daemon: RunningDaemon
) -> None:
    result = covey("introduce")
    assert result.code == 0
    assert CODE in result.out
    assert f"  covey introduce {INVITATION}\n" in result.out
    assert result.out.index(CODE) < result.out.index(SAFETY_NUMBER)
    assert "same safety number" in result.err
    assert result.err.endswith(f"next: covey send-message {PEER_NAME} --data hello\n")
    assert daemon.node.window == (600.0, False)


def test_introduce_json_is_two_documents_the_code_and_what_came_of_it(covey: Covey, daemon: RunningDaemon) -> None:
    result = covey("introduce", "--json", "--ask", "--window", "30")
    opened, ended = (json.loads(line) for line in result.out.splitlines())
    assert (opened["data"]["state"], opened["data"]["code"]) == ("open", CODE)
    assert (ended["data"]["state"], ended["data"]["peer"]["name"]) == ("introduced", PEER_NAME)
    assert daemon.node.window == (30.0, True)


def test_introduce_need_not_wait(covey: Covey, daemon: RunningDaemon) -> None:
    assert covey("introduce", "--no-wait", "--json").document["data"]["invitation"] == INVITATION
    assert "waiting" not in covey("introduce", "--no-wait").err
    assert daemon.node.introduction == "introduced"


@pytest.mark.parametrize(
    ("state", "code", "error"),
    [("expired", 7, "window-expired"), ("failed", 5, "too-many-tries"), ("open", 7, "timeout")],
)
def test_introduce_exits_with_what_came_of_it(
    covey: Covey, daemon: RunningDaemon, state: str, code: int, error: str
) -> None:
    daemon.node.introduction = state
    result = covey("introduce")
    assert result.code == code
    assert f"({error})" in result.err
    assert "next: covey introduce" in result.err
    assert result.out.count(CODE) == 2  # shown once, with the command line; not again with the error
    assert daemon.node.introduction == ("closed" if state == "open" else state)


def test_wait_that_breaks_makes_the_code_worthless(covey: Covey, daemon: RunningDaemon) -> None:
    daemon.node.failures["await_introduction"] = UnreachableError("gone", code="daemon-gone")
    result = covey("introduce")
    assert "(daemon-gone)" in result.err
    assert daemon.node.introduction == "closed"


def test_introduce_enters_an_invitation(covey: Covey, daemon: RunningDaemon) -> None:
    result = covey("introduce", INVITATION)
    assert result.code == 0
    assert daemon.node.entered_codes == [(INVITATION, 20.0, False)]
    assert SAFETY_NUMBER in result.out
    assert result.err.endswith(f"next: covey send-message {PEER_NAME} --data hello\n")


def test_introduce_asks_when_told_to(covey: Covey, daemon: RunningDaemon) -> None:
    result = covey("introduce", INVITATION, "--ask", "--timeout", "10")
    assert daemon.node.entered_codes == [(INVITATION, 9.0, True)]
    assert result.err.endswith(f"next: covey approve {PEER_NAME}\n")


def test_invitation_is_read_from_standard_input(
    covey: Covey, daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"  {INVITATION} \nmore\n"))
    assert covey("introduce", "-", "--json").document["data"]["name"] == PEER_NAME
    assert daemon.node.entered_codes == [(INVITATION, 20.0, False)]


def test_empty_invitation_is_told(covey: Covey, daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    result = covey("introduce", "-", "--json")
    assert (result.code, result.document["error"]["code"]) == (2, "bad-invitation")


def test_wrong_code_says_what_to_do(covey: Covey, daemon: RunningDaemon) -> None:
    daemon.node.failures["introduce"] = UnreachableError("nobody answers", code="no-answer", next_step="another code")
    result = covey("introduce", INVITATION)
    assert (result.code, result.err) == (6, "error: nobody answers (no-answer)\nnext: another code\n")


@pytest.mark.parametrize("seconds", ["0", "3601", "-5", "soon"])
def test_window_of_no_sensible_length_is_refused(covey: Covey, daemon: RunningDaemon, seconds: str) -> None:
    assert covey("introduce", "--window", seconds).code == 2
