from __future__ import annotations

from pathlib import Path

import pytest

from covey.cli.app import HELP_ORDER
from tests.cli import reference
from tests.cli.conftest import Covey

PROMISED = [
    *("up", "daemon start", "daemon stop", "daemon status", "daemon logs", "status", "doctor", "netcheck"),
    *("id", "key show", "name", "find", "peers", "handshake", "pending"),
    *("approve", "reject", "trust", "untrust", "introduce", "ping"),
    *("send-message", "inbox", "inbox list", "inbox show", "inbox ack", "inbox clear"),
    *(
        "events",
        "bench",
        "config show",
        "store check",
        "completion install",
        "completion show",
        "rendezvous",
        "fleet",
        "version",
        *(f"lab {verb}" for verb in ("up", "show", "exec", "cut", "heal", "uplink", "forget", "kinds", "down")),
    ),
]

GROUPS = ["daemon", "key", "config", "store", "completion", "lab"]


def test_every_promised_command_exists_and_no_other() -> None:
    assert sorted(reference.command_names()) == sorted([f"covey {name}" for name in [*PROMISED, *GROUPS]])


def test_help_order_names_every_command() -> None:
    top = [name.split()[1] for name in reference.command_names() if name.count(" ") == 1]
    assert top == list(HELP_ORDER)


@pytest.mark.parametrize("name", [name for name in reference.command_names() if name != "covey fleet"])
def test_command_explains_itself_and_has_the_common_options(covey: Covey, name: str) -> None:
    words = name.split()[1:]
    result = covey(*words, "--help")
    assert (result.code, result.err) == (0, "")
    assert "--json" in result.out
    if words[0] not in ("rendezvous", "lab"):  # programs of their own: no daemon to wait for, and no profile
        assert "--timeout" in result.out
        assert "--profile" in result.out


def test_reference_page_is_what_the_parser_says() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference-cli.md"
    assert page.read_text() == reference.page(), "python -m tests.cli.reference > docs/reference-cli.md"
