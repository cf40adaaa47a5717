"""Every command against a daemon whose node lives in memory: what is asked, said and exited with."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from covey.base.errors import RefusedError, UnreachableError
from covey.base.schema import FindingView, NodeView, PathView, PingView, RendezvousView
from tests.cli.conftest import Covey
from tests.daemon.memory import OWN_IDENTITY, PEER_NAME, SAFETY_NUMBER, RunningDaemon


def test_status_shows_this_agent(covey: Covey, daemon: RunningDaemon) -> None:
    result = covey("status")
    assert result.code == 0
    assert result.out.startswith("ok: aws-orchestrator is up, nothing is degraded\n")
    assert "7f3a.91c0.d2e4" in result.out
    assert OWN_IDENTITY in result.out


def test_status_begins_with_the_verdict_and_says_what_to_do(covey: Covey, daemon: RunningDaemon) -> None:
    view = msgspec.structs.replace(
        daemon.node.view(),
        rendezvous=[RendezvousView("r" * 52, "192.0.2.1:4040", False, problem="no answer")],
        findings=[
            FindingView("rendezvous-away", "error", "the rendezvous is \x1b[31maway", "covey doctor"),
            FindingView("single-rendezvous", "note", "there is one only"),
        ],
    )
    daemon.node.view = lambda: view  # type: ignore[method-assign]
    out = covey("status").out
    assert out.splitlines()[:4] == [
        "degraded: aws-orchestrator is up, with 1 error",
        "  error  the rendezvous is \\x1b[31maway (rendezvous-away)",
        "         do: covey doctor",
        "  note   there is one only (single-rendezvous)",
    ]
    assert "192.0.2.1:4040" in out
    assert "no answer" in out


def test_status_json_is_the_node_view(covey: Covey, daemon: RunningDaemon) -> None:
    document = covey("status", "--json").document
    assert (document["schema"], document["ok"]) == (1, True)
    assert msgspec.convert(document["data"], NodeView) == daemon.node.view()


def test_id_is_what_others_need(covey: Covey, daemon: RunningDaemon) -> None:
    assert covey("id", "--json").document["data"] == {
        "name": "aws-orchestrator",
        "address": "7f3a.91c0.d2e4",
        "identity": OWN_IDENTITY,
    }


def test_find_suggests_the_handshake(covey: Covey, daemon: RunningDaemon) -> None:
    result = covey("find", PEER_NAME)
    assert PEER_NAME in result.out
    assert result.err == f"next: covey handshake {PEER_NAME}\n"


def test_find_of_nobody_is_not_found(covey: Covey, daemon: RunningDaemon) -> None:
    result = covey("find", "nobody", "--json")
    assert (result.code, result.document["error"]["code"]) == (4, "unknown-peer")


@pytest.mark.parametrize("text", ["a/../b?c=d#é%20", "/", "..", " "])
def test_find_takes_any_text(covey: Covey, daemon: RunningDaemon, text: str) -> None:
    result = covey("find", text, "--json")
    assert (result.code, result.document["error"]["message"]) == (4, f"nobody is called {text!r}")


@pytest.mark.parametrize(("text", "code"), [("", "usage"), ("\udcff", "bad-text")])
def test_find_refuses_what_is_no_text(covey: Covey, daemon: RunningDaemon, text: str, code: str) -> None:
    result = covey("find", text, "--json")
    assert (result.code, result.document["error"]["code"]) == (2, code)


def test_peers_are_a_table(covey: Covey, daemon: RunningDaemon) -> None:
    header, row = covey("peers").out.splitlines()
    assert header.split()[:3] == ["NAME", "ADDRESS", "TRUST"]
    assert row.split()[:3] == [PEER_NAME, "1111.2222.3333", "unknown"]


def test_handshake_asks_with_the_reason(covey: Covey, daemon: RunningDaemon) -> None:
    result = covey("handshake", PEER_NAME, "--reason", "to process batches")
    assert result.code == 0
    assert daemon.node.reason == "to process batches"
    assert SAFETY_NUMBER in result.out
    assert "has to approve" in result.err


@pytest.mark.parametrize(
    ("answer", "code", "error"),
    [("trusted", 0, None), ("requested", 7, "no-answer-yet"), ("rejected", 5, "trust-rejected")],
)
def test_handshake_that_waits_ends_with_the_answer(
    covey: Covey, daemon: RunningDaemon, answer: str, code: int, error: str | None
) -> None:
    daemon.node.answer = answer
    result = covey("handshake", PEER_NAME, "--wait", "1", "--json")
    assert result.code == code
    assert result.document["data"]["trust"] == answer
    assert result.document.get("error", {}).get("code") == error


def test_pending_lists_who_asks(covey: Covey, daemon: RunningDaemon) -> None:
    assert covey("pending").err == "nobody is waiting for an answer\n"
    daemon.node.trust = "pending"
    result = covey("pending")
    assert SAFETY_NUMBER in result.out
    assert result.err == f"next: covey approve {PEER_NAME}\n"


@pytest.mark.parametrize("name", [PEER_NAME, SAFETY_NUMBER])
def test_approve_takes_a_name_or_a_safety_number(covey: Covey, daemon: RunningDaemon, name: str) -> None:
    assert covey("approve", name, "--json").document["data"]["trust"] == "trusted"


def test_trust_shows_one_peer(covey: Covey, daemon: RunningDaemon) -> None:
    daemon.node.trust = "pending"
    result = covey("trust", PEER_NAME)
    assert SAFETY_NUMBER in result.out
    assert result.err == f"next: covey approve {PEER_NAME}\n"


@pytest.mark.parametrize("command", ["reject", "untrust"])
def test_trust_can_be_ended(covey: Covey, daemon: RunningDaemon, command: str) -> None:
    daemon.node.trust = "trusted"
    assert covey(command, PEER_NAME).code == 0
    assert daemon.node.trust == "unknown"


def test_ping_measures_as_often_as_asked(covey: Covey, daemon: RunningDaemon) -> None:
    result = covey("ping", PEER_NAME, "-c", "3", "--interval", "0")
    assert result.out.count("12.50 ms  direct 192.0.2.1:4040") == 3
    assert result.out.endswith("3 of 3 answered, 0 % lost  min 12.50  avg 12.50  max 12.50 ms\n")
    data = covey("ping", PEER_NAME, "-c", "2", "--interval", "0", "--json").document["data"]
    assert (len(data["items"]), data["avg_ms"]) == (2, 12.5)


def test_ping_of_a_silent_peer_is_unreachable(covey: Covey, daemon: RunningDaemon) -> None:
    daemon.node.failures["ping"] = UnreachableError("azure-processor does not answer", next_step="covey peers")
    result = covey("ping", PEER_NAME)
    assert result.code == 6
    assert result.err == "error: azure-processor does not answer (unreachable)\nnext: covey peers\n"


def relayed(daemon: RunningDaemon) -> None:
    direct = PathView(kind="direct", remote="198.51.100.7:4040", active=False, reason="suspect", loss=0.034)
    daemon.node.why = "hard-hard"
    daemon.node.paths = [PathView("relay", "192.0.2.9:443", True, 30.0, 1408, reason="hard-hard"), direct]
    daemon.node.trust = "trusted"


def test_ping_says_which_way_it_went_why_and_what_to_change(covey: Covey, daemon: RunningDaemon) -> None:
    relayed(daemon)
    lines = covey("ping", PEER_NAME, "-c", "1").out.splitlines()
    assert lines[0] == "azure-processor: 12.50 ms  relay 192.0.2.9:443  (hard-hard)"
    assert lines[1].split()[:2] == ["USED", "PATH"]
    assert lines[2].split() == [
        "yes",
        "relay",
        "192.0.2.9:443",
        "30.0",
        "0",
        "%",
        "1408",
        "-",
        "0",
        "B",
        "0",
        "B",
        "hard-hard",
    ]
    assert "3.4 %" in lines[3]
    assert lines[4].startswith("azure-processor: the NATs of both sides")
    assert "(hard-hard). Change: give one of the two IPv6" in lines[4]


def test_ping_until_direct_stops_at_the_first_direct_path_and_fails_without(
    covey: Covey, daemon: RunningDaemon
) -> None:
    assert len(covey("ping", PEER_NAME, "--until-direct", "--json").document["data"]["items"]) == 1
    relayed(daemon)
    result = covey("ping", PEER_NAME, "--until-direct", "--interval", "0", "--json")
    assert (result.code, result.document["error"]["code"]) == (6, "hard-hard")
    assert len(result.document["data"]["items"]) == 4


def test_lost_pings_are_counted_once_one_was_answered(covey: Covey, daemon: RunningDaemon) -> None:
    answers = iter([True, False, True])
    plain = daemon.node.ping

    async def ping(peer: str) -> PingView:
        if next(answers):
            return await plain(peer)
        raise UnreachableError("no answer", code="no-answer")

    daemon.node.ping = ping  # type: ignore[method-assign]
    result = covey("ping", PEER_NAME, "-c", "3", "--interval", "0")
    assert result.code == 0
    assert "azure-processor: no answer\n" in result.out
    assert "2 of 3 answered, 33 % lost" in result.out


def test_peers_says_in_a_line_why_one_is_relayed(covey: Covey, daemon: RunningDaemon) -> None:
    relayed(daemon)
    table = covey("peers").out.splitlines()
    assert table[1].split()[3:6] == ["relay", "hard-hard", "30.0"]
    assert table[2].startswith("azure-processor: ")
    daemon.node.why = "direct"
    assert len(covey("peers").out.splitlines()) == 2
    assert "USED" in covey("peers", PEER_NAME).out


def test_timeout_is_the_daemons_to_keep(covey: Covey, daemon: RunningDaemon) -> None:
    daemon.node.gates["ping"] = asyncio.Event()
    result = covey("ping", PEER_NAME, "--timeout", "0.05", "--json")
    assert (result.code, result.document["error"]["code"]) == (7, "timeout")


def test_send_message_in_the_words_of_the_readme(covey: Covey, daemon: RunningDaemon) -> None:
    body = '{"command":"process_batch","id":"8492"}'
    result = covey("send-message", PEER_NAME, "--data", body, "--type", "json")
    assert result.code == 0
    assert result.out.startswith("delivered to azure-processor in 3 ms  id ")
    ((peer, sent, kind, message_id, ttl, wait),) = daemon.node.sent
    assert (peer, sent, kind, ttl, wait) == (PEER_NAME, body.encode(), "json", None, 5.0)
    assert message_id is not None
    assert len(bytes.fromhex(message_id)) == 16


def test_send_message_makes_a_new_id_each_time(covey: Covey, daemon: RunningDaemon) -> None:
    for _ in range(2):
        covey("send-message", PEER_NAME, "--data", "x")
    assert daemon.node.sent[0][3] != daemon.node.sent[1][3]


def test_send_message_passes_its_options_on(covey: Covey, daemon: RunningDaemon) -> None:
    covey("send-message", PEER_NAME, "--data", "x", "--id", "ab" * 16, "--ttl", "60", "--wait", "2")
    assert daemon.node.sent == [(PEER_NAME, b"x", "text", "ab" * 16, 60.0, 2.0)]


def test_send_message_waits_no_longer_than_the_timeout(covey: Covey, daemon: RunningDaemon) -> None:
    covey("send-message", PEER_NAME, "--data", "x", "--timeout", "1")
    assert daemon.node.sent[0][5] < 1.0


@pytest.mark.parametrize(
    ("result", "options", "code", "error"),
    [
        ("delivered", [], 0, None),
        ("delivered", ["--require-delivered"], 0, None),
        ("queued", [], 0, None),
        ("queued", ["--require-delivered"], 8, "not-delivered"),
        ("refused", [], 5, "message-refused"),
        ("expired", [], 7, "expired"),
        ("cancelled", [], 1, "cancelled"),
    ],
)
def test_send_message_exits_with_the_truth(
    covey: Covey, daemon: RunningDaemon, result: Any, options: list[str], code: int, error: str | None
) -> None:
    daemon.node.result = result
    answer = covey("send-message", PEER_NAME, "--data", "x", "--json", *options)
    assert answer.code == code
    assert answer.document["data"]["result"] == result
    assert answer.document.get("error", {}).get("code") == error
    assert answer.document["ok"] == (error is None)
    assert covey("send-message", PEER_NAME, "--data", "x", *options).out.startswith(result)


def test_send_message_that_lost_the_daemon_says_how_to_repeat(covey: Covey, daemon: RunningDaemon) -> None:
    daemon.node.gates["send"] = asyncio.Event()
    result = covey("send-message", PEER_NAME, "--data", "x", "--id", "ab" * 16, "--timeout", "0.05")
    assert result.code == 7
    assert "repeat the command with --id " + "ab" * 16 in result.err


def test_inbox_lists(covey: Covey, daemon: RunningDaemon) -> None:
    assert covey("inbox").err == "no messages\n"
    daemon.node.receive('{"command":"process_batch","id":"8492"}', "json")
    daemon.node.receive("AAE=", "binary")
    for arguments in (["inbox"], ["inbox", "list"]):
        _, first, second = covey(*arguments).out.splitlines()
        assert first.split()[:3] == ["1", PEER_NAME, "json"]
        assert first.endswith('{"command":"process_batch","id":"8492"}')
        assert second.endswith("(binary)")


def test_inbox_pages(covey: Covey, daemon: RunningDaemon) -> None:
    for number in range(3):
        daemon.node.receive(str(number))
    result = covey("inbox", "--limit", "2")
    assert result.err == "next: covey inbox --after 2\n"
    assert [item["number"] for item in covey("inbox", "--after", "2", "--json").document["data"]["items"]] == [3]


def test_inbox_show_prints_the_whole_body(covey: Covey, daemon: RunningDaemon) -> None:
    daemon.node.receive("line one\n\tline two " + "x" * 200)
    result = covey("inbox", "show", "1")
    assert result.out.endswith("\nline one\n\tline two " + "x" * 200 + "\n")
    assert result.err == "next: covey inbox ack 1\n"


def test_inbox_shows_nothing_that_moves_the_terminal(covey: Covey, daemon: RunningDaemon) -> None:
    daemon.node.receive("\x1b[2J\u202eevil\r\nbell\x07")
    for arguments in (["inbox"], ["inbox", "show", "1"]):
        out = covey(*arguments).out
        assert set(out) & set("\x1b\x07\r\u202e") == set()


@pytest.mark.parametrize(
    ("body", "kind", "raw"),
    [("h\u00e9\x1b", "text", "h\u00e9\x1b".encode()), ("AAH/", "binary", b"\x00\x01\xff")],
)
def test_inbox_show_raw_is_the_body_alone(
    daemon: RunningDaemon, capsysbinary: pytest.CaptureFixture[bytes], body: str, kind: Any, raw: bytes
) -> None:
    from covey.cli.main import run

    daemon.node.receive(body, kind)
    assert run(["inbox", "show", "1", "--raw"]) == 0
    assert capsysbinary.readouterr().out == raw


def test_inbox_show_of_a_missing_message_is_not_found(covey: Covey, daemon: RunningDaemon) -> None:
    assert covey("inbox", "show", "9").code == 4


def test_inbox_ack_and_clear_count(covey: Covey, daemon: RunningDaemon) -> None:
    for number in range(3):
        daemon.node.receive(str(number))
    assert covey("inbox", "ack", "1", "2").out == "2 acknowledged\n"
    assert covey("inbox", "clear", "--json").document["data"] == {"count": 3}


def test_daemon_status_says_where_things_are(covey: Covey, daemon: RunningDaemon) -> None:
    data = covey("daemon", "status", "--json").document["data"]
    assert data["api_socket"] == str(daemon.home.api_socket)
    assert data["node"]["name"] == "aws-orchestrator"


def test_daemon_stop_without_one_is_done(covey: Covey) -> None:
    result = covey("daemon", "stop", "--json")
    assert (result.code, result.document["data"]["was_running"]) == (0, False)


@pytest.mark.parametrize("words", [["up"], ["daemon", "start"]], ids=" ".join)
def test_start_of_a_running_daemon_is_done(covey: Covey, daemon: RunningDaemon, words: list[str]) -> None:
    result = covey(*words, "--hostname", "aws-orchestrator", "--network", "covey1test")
    assert result.code == 0
    assert result.out.startswith("aws-orchestrator was already up\n")


def test_start_of_a_second_name_in_a_profile_is_refused(covey: Covey, daemon: RunningDaemon) -> None:
    error = covey("up", "--hostname", "azure", "--json").document["error"]
    assert error["code"] == "profile-in-use"
    assert error["next_step"] == "covey daemon start --profile azure --hostname azure"


def test_start_in_another_network_is_refused(covey: Covey, daemon: RunningDaemon) -> None:
    error = covey("up", "--network", "covey1other", "--json").document["error"]
    assert error["code"] == "already-running"


def test_text_from_the_daemon_cannot_move_the_terminal(covey: Covey, daemon: RunningDaemon) -> None:
    daemon.node.failures["ping"] = RefusedError("\x1b[2Jno", next_step="\x1b[2J")
    assert "\x1b" not in covey("ping", PEER_NAME).err
