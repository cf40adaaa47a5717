"""Who may speak for whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from covey.fleet.loop.tokens import Speaker, Tokens


def test_tokens_say_whose_they_are_and_outlive_the_controller(tmp_path: Path) -> None:
    first = Tokens(tmp_path / "token", tmp_path / "tokens")
    path = Path(first.file("here", "web"))
    again = Tokens(tmp_path / "token", tmp_path / "tokens")
    assert again.speaker(path.read_text()) == Speaker("here", "web")
    assert again.file("here", "web") == str(path)
    assert [each.stat().st_mode & 0o777 for each in (tmp_path / "token", path.parent, path)] == [0o600, 0o700, 0o600]


def test_tokens_cannot_be_made_for_others(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "token", tmp_path / "tokens")
    mine = tokens.of(Speaker("here", "web"))
    secret = (tmp_path / "token").read_text()
    wrong = [
        "",
        ".",
        "..",
        secret,
        mine[:-1],
        mine + "=",
        mine.replace("here", "there"),
        mine.replace("web", "other"),
        "\udce9",
    ]
    for given in wrong:
        assert tokens.speaker(given) is None, given


@pytest.mark.parametrize("other", ["Other", "one more"], ids=str)
def test_tokens_of_another_fleet_are_none_of_ours(tmp_path: Path, other: str) -> None:
    ours = Tokens(tmp_path / "token", tmp_path / "tokens")
    theirs = Tokens(tmp_path / other, tmp_path / "tokens")
    assert ours.speaker(theirs.of(Speaker("here", "web"))) is None
