"""The kill test in small: `make kill-test` is the long one."""

from __future__ import annotations

from scripts.kill_test import Plan, run


def test_daemons_killed_in_the_middle_of_their_work_keep_every_promise() -> None:
    said: list[str] = []
    result = run(Plan(messages=200, seed=8492, seconds=4.0, kill_pause=1.0, restart_seconds=0.3), said.append)
    assert result.violations == [], f"seed {result.seed}, kept in {result.kept}"
    assert sum(result.answers.values()) == 200
    assert sum(result.kills.values()) > 0
