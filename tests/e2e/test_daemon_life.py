"""Starting, stopping and dying: what a daemon keeps, and what it says when it cannot start."""

from __future__ import annotations

import os
import stat

from covey.base.paths import SOCKET_PATH_LIMIT
from tests.e2e.stage import (
    Agent,
    Stage,
    accepted,
    bodies,
    eventually,
    online,
    refused,
    said,
    send,
    trust,
)


def test_commands_without_a_daemon_exit_with_3(stage: Stage) -> None:
    aws = stage.agent("aws", ticket="")
    code, error = refused(aws, "status")
    assert (code, error.code, error.next_step) == (3, "not-running", "covey daemon start")
    assert accepted(aws, "daemon", "stop") == {"was_running": False, "pid": None}


def test_daemon_start_twice_is_one_daemon(stage: Stage) -> None:
    (aws,) = stage.started("aws")
    pid = aws.pid
    assert "was already up" in said(aws, "daemon", "start")
    assert accepted(aws, "up", "--hostname", "aws")["pid"] == pid
    code, error = refused(aws, "daemon", "start", "--hostname", "other")
    assert (code, error.code) == (1, "profile-in-use")
    assert error.next_step == "covey daemon start --profile other --hostname other"
    code, error = refused(aws, "up", "--network", "covey1nonsense")
    assert (code, error.code) == (1, "already-running")
    assert accepted(aws, "status")["pid"] == pid


def test_two_profiles_are_two_agents(stage: Stage) -> None:
    aws, azure = stage.started("aws", "azure")
    one, other = accepted(aws, "status"), accepted(azure, "status")
    assert (one["profile"], other["profile"]) == ("aws", "azure")
    assert one["identity"] != other["identity"]
    assert accepted(aws, "status", "--profile", "azure")["pid"] == other["pid"]
    assert accepted(aws, "find", "azure")["identity"] == other["identity"]


def test_stop_and_start_keep_identity_trust_inbox_and_queue(stage: Stage) -> None:
    aws, azure = stage.trusting("aws", "azure")
    assert send(aws, azure, "first")["result"] == "delivered"
    before = accepted(azure, "status")
    azure.stop()
    assert send(aws, azure, "second", wait=0)["result"] == "queued"
    aws.stop()
    ticket, aws.ticket = aws.ticket, ""  # given once, remembered
    aws.start()
    assert accepted(aws, "status")["network"] == ticket
    assert accepted(aws, "status")["outbox_queued"] == 1
    azure.start()
    after = accepted(azure, "status")
    for kept in ("identity", "address", "name", "network", "profile", "peers_trusted"):
        assert after[kept] == before[kept]
    assert after["pid"] != before["pid"]
    eventually(lambda: bodies(azure) == ["first", "second"], "the queue is delivered")
    eventually(lambda: accepted(aws, "status")["outbox_queued"] == 0, "the queue is empty")


def test_message_to_a_stopped_peer_is_queued_and_delivered_when_it_starts(stage: Stage) -> None:
    aws, azure = stage.trusting("aws", "azure")
    azure.stop()
    view = accepted(aws, "send-message", "azure", "--data", "for later", "--wait", "0.1")
    assert view["result"] == "queued"
    code, error = refused(aws, "send-message", "azure", "--data", "now!", "--wait", "0.1", "--require-delivered")
    assert (code, error.code) == (8, "not-delivered")
    assert "it is on disk here" in said(aws, "send-message", "azure", "--data", "third", "--wait", "0")
    assert bodies(aws) == []
    azure.start()
    eventually(lambda: bodies(azure) == ["for later", "now!", "third"], "all arrive, in order")


def test_killed_daemon_is_replaced_with_everything_it_promised(stage: Stage) -> None:
    aws, azure = stage.trusting("aws", "azure")
    azure.stop()
    assert send(aws, azure, "promised", wait=0)["result"] == "queued"
    aws.kill()
    sockets = (aws.home.api_socket, aws.home.stream_socket)
    assert [stat.S_ISSOCK(os.lstat(path).st_mode) for path in sockets] == [True, True]
    assert refused(aws, "status")[1].code == "not-running"
    aws.start()
    azure.start()
    eventually(lambda: bodies(azure) == ["promised"], "it arrives")
    aws.stop()
    assert not any(path.exists() for path in sockets)


def test_wrong_ticket_is_a_clear_error_and_nothing_starts(stage: Stage) -> None:
    aws = stage.agent("aws", ticket="")
    code, error = refused(aws, "up", "--hostname", "aws", "--network", "covey1thisisnoticket")
    assert (code, error.code) == (2, "bad-ticket")
    assert error.next_step
    assert refused(aws, "status")[0] == 3


def test_bad_hostname_is_a_clear_error(stage: Stage) -> None:
    aws = stage.agent("aws", ticket="")
    code, error = refused(aws, "up", "--hostname", "No Such Name!")
    assert code == 2
    assert "No Such Name!" in error.message


def test_damaged_identity_is_a_clear_error_and_never_a_new_identity(stage: Stage) -> None:
    aws = stage.agent("aws", ticket="")
    aws.start()
    identity = accepted(aws, "id")["identity"]
    aws.stop()
    file = aws.home.identity_file
    good = file.read_bytes()
    middle = len(good) // 2
    for bad in (good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :], good[:-9], b""):
        file.write_bytes(bad)
        code, error = refused(aws, "daemon", "start")
        assert (code, error.code) == (9, "identity-damaged")
        assert str(file) in error.message
        assert file.read_bytes() == bad
    file.unlink()
    code, error = refused(aws, "daemon", "start")
    assert (code, error.code) == (9, "identity-missing")
    assert not file.exists()
    file.touch(0o600)
    file.write_bytes(good)
    aws.start()
    assert accepted(aws, "id")["identity"] == identity


def test_long_home_moves_the_sockets_only(stage: Stage) -> None:
    stage.directory = stage.directory / ("long-" * 20)
    aws = stage.agent("aws", ticket="")
    aws.start()
    status = accepted(aws, "daemon", "status")
    assert len(status["api_socket"]) <= SOCKET_PATH_LIMIT < len(str(aws.home.state_dir))
    assert aws.home.database.exists()
    aws.stop()


def test_rendezvous_killed_leaves_trusted_peers_talking(stage: Stage) -> None:
    aws, azure = stage.trusting("aws", "azure")
    assert send(aws, azure, "before")["result"] == "delivered"
    for agent in (aws, azure):
        eventually(lambda agent=agent: _on_direct_path(agent), f"{agent.name} is on a direct path")
    stage.rendezvous.kill()
    assert send(aws, azure, "without it")["result"] == "delivered"
    assert send(azure, aws, "and back")["result"] == "delivered"
    # Asking it is how its absence is noticed at once; the keepalive would take 20 s.
    code, error = refused(aws, "find", "somebody-else", "--timeout", "0.5")
    assert (code, error.code) == (7, "timeout")
    assert "trying again" in eventually(lambda: _problem(aws), "the status says so")
    assert send(aws, azure, "still")["result"] == "delivered"
    stage.rendezvous.start()
    eventually(lambda: not _problem(aws), "it is found again", 30.0)
    assert trust(aws, azure) == "trusted"
    online(aws)
    assert bodies(azure) == ["before", "without it", "still"]


def _on_direct_path(agent: Agent) -> bool:
    peers = agent.api.get("/v1/peers").data["items"]
    return any(path["kind"] == "direct" and path["active"] for peer in peers for path in peer["paths"])


def _problem(agent: Agent) -> str:
    findings = agent.api.get("/v1/status").data["findings"]
    return next((each["what"] for each in findings if each["code"] == "rendezvous-away"), "")
