from __future__ import annotations

from pathlib import Path

import pytest

from covey.cli import lines
from tests.cli.conftest import Covey
from tests.daemon.memory import PEER_NAME, RunningDaemon

BATCH_ID = "ab" * 16


def write(path: Path, count: int) -> str:
    path.write_text("".join(f'{{"n": {number}}}\n' for number in range(count)))
    return str(path)


def test_lines_are_sent_in_order_in_batches(covey: Covey, daemon: RunningDaemon, tmp_path: Path) -> None:
    name = write(tmp_path / "lines", 600)
    result = covey("send-message", PEER_NAME, "--lines", name, "--type", "json")
    assert (result.code, result.out) == (0, "600 sent, 600 delivered, 0 queued\n")
    assert [body for _, body, *_ in daemon.node.sent] == [b'{"n": %d}' % number for number in range(600)]
    assert [size for size, _ in daemon.node.batches] == [256, 256, 88]


def test_lines_are_batched_by_size_too(
    covey: Covey, daemon: RunningDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "BATCH_BYTES", 20)
    name = write(tmp_path / "lines", 4)
    covey("send-message", PEER_NAME, "--lines", name)
    assert [size for size, _ in daemon.node.batches] == [2, 2]


def test_summary_is_data(covey: Covey, daemon: RunningDaemon, tmp_path: Path) -> None:
    name = write(tmp_path / "lines", 3)
    data = covey("send-message", PEER_NAME, "--lines", name, "--id", BATCH_ID, "--json").document["data"]
    assert data == {
        "sent": 3,
        "delivered": 3,
        "queued": 0,
        "refused": 0,
        "expired": 0,
        "batch_id": BATCH_ID,
    }


def test_repeating_with_the_same_id_repeats_the_message_ids(
    covey: Covey, daemon: RunningDaemon, tmp_path: Path
) -> None:
    name = write(tmp_path / "lines", 3)
    for _ in range(2):
        covey("send-message", PEER_NAME, "--lines", name, "--id", BATCH_ID)
    ids = [each[3] for each in daemon.node.sent]
    assert ids[:3] == ids[3:]
    assert len(set(ids)) == 3


def test_wrong_line_is_named_and_those_before_it_are_sent(covey: Covey, daemon: RunningDaemon, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text('{"n": 1}\n\n{"n": 2}\n{"n": }\n{"n": 3}\n')
    result = covey("send-message", PEER_NAME, "--lines", str(path), "--type", "json", "--json")
    assert result.code == 2
    assert "line 4 is not JSON" in result.document["error"]["message"]
    assert result.document["data"]["sent"] == 2


def test_peer_that_is_away_is_waited_for_once(covey: Covey, daemon: RunningDaemon, tmp_path: Path) -> None:
    daemon.node.result = "queued"
    name = write(tmp_path / "lines", 600)
    result = covey("send-message", PEER_NAME, "--lines", name, "--wait", "3")
    assert (result.code, result.out) == (0, "600 sent, 0 delivered, 600 queued\n")
    assert [wait for _, wait in daemon.node.batches] == [3.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("result", "options", "code", "error"),
    [
        ("queued", ["--require-delivered"], 8, "not-delivered"),
        ("refused", [], 5, "message-refused"),
        ("expired", [], 7, "expired"),
    ],
)
def test_lines_exit_with_the_truth(
    covey: Covey,
    daemon: RunningDaemon,
    tmp_path: Path,
    result: str,
    options: list[str],
    code: int,
    error: str,
) -> None:
    daemon.node.result = result  # type: ignore[assignment]
    answer = covey("send-message", PEER_NAME, "--lines", write(tmp_path / "lines", 2), "--json", *options)
    assert (answer.code, answer.document["error"]["code"]) == (code, error)
    assert answer.document["data"][result] == 2


def test_empty_input_sends_nothing(covey: Covey, daemon: RunningDaemon, tmp_path: Path) -> None:
    result = covey("send-message", PEER_NAME, "--lines", write(tmp_path / "lines", 0))
    assert (result.code, result.out) == (0, "0 sent, 0 delivered, 0 queued\n")
    assert daemon.node.batches == []
