"""Secrets are compared in time that does not depend on where they differ, or not at all.

By running: what makes tags, cookies and codes gives bytes that refuse every comparison but `hmac.compare_digest`. By
reading: nothing in the sources compares what is called a secret, but for what the table below excuses.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from covey.crypto import cookie, mac
from covey.crypto.one_time_code import CodeKeys
from tests.core import test_floods, test_introduction, test_relay_filter

SOURCES = Path(__file__).parents[2] / "src"
MAKERS = {"mac1": mac, "mac2": cookie, "psk_tag": mac, "open_cookie": cookie, "_cookie": cookie}
"""Functions whose result an attacker must not learn byte by byte."""


class Secret(bytes):
    """Bytes that nobody may compare, look up or sort by."""

    def _refuse(self, *_: object) -> NoReturn:
        raise AssertionError("a secret was compared in time that tells where it differs")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = _refuse  # type: ignore[assignment]
    __hash__ = _refuse  # type: ignore[assignment]
    startswith = endswith = find = index = count = _refuse  # type: ignore[assignment]


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every maker gives `Secret`s, wherever it was imported. The names of what was called, `same` among them."""
    called: list[str] = []

    def replace_everywhere(real: Any, new: Any) -> None:
        for name, module in list(sys.modules.items()):
            if name.startswith(("covey.", "tests.core.")):
                for attribute, value in list(vars(module).items()):
                    if value is real:
                        monkeypatch.setattr(module, attribute, new)

    def tainted(name: str, real: Callable[..., bytes]) -> Callable[..., bytes]:
        def maker(*args: Any) -> bytes:
            called.append(name)
            return Secret(real(*args))

        return maker

    for name, module in MAKERS.items():
        real = getattr(module, name)
        replace_everywhere(real, tainted(name, real))
    real_same = mac.same

    def same(left: bytes, right: bytes) -> bool:
        called.append("same")
        return real_same(left, right)

    replace_everywhere(real_same, same)
    return called


@pytest.mark.parametrize(
    ("flow", "makers"),
    [
        (test_floods.test_initiator_answers_a_cookie_at_once_with_a_fresh_message, {"mac1", "mac2", "_cookie"}),
        (test_floods.test_record_is_served_under_load_to_whoever_answers_the_cookie, {"mac1", "mac2", "open_cookie"}),
        (test_introduction.test_introduction_gives_each_side_the_others_record, {"mac1"}),
        (test_introduction.test_lost_confirmation_is_repeated_for_the_same_proof_only, {"mac1"}),
        (test_relay_filter.test_initiations_for_a_known_key_pass_at_the_rate_of_a_source, {"mac1"}),
    ],
)
def test_nothing_compares_a_secret_byte_by_byte(
    flow: Callable[[], None], makers: set[str], compared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret_keys = CodeKeys(Secret(b"\1" * 32), Secret(b"\2" * 32))
    monkeypatch.setattr(test_introduction.open_window, "__defaults__", (secret_keys, 600.0))
    monkeypatch.setattr(test_introduction.enter, "__defaults__", (secret_keys, 30.0, test_introduction.A))
    flow()
    assert makers <= set(compared)
    assert "same" in compared


def test_secret_of_the_test_refuses_what_it_should() -> None:
    secret = Secret(b"x" * 16)
    for compare in (lambda: secret == b"x" * 16, lambda: secret != b"x" * 16, lambda: {secret: 1}):
        with pytest.raises(AssertionError):
            compare()
    assert mac.same(secret, b"x" * 16)


# --- by reading -----------------------------------------------------------------------------------------------------

SECRET_NAME = re.compile(r"(^|_)(mac[12]?|tags?|psk|cookies?|secrets?|tokens?|proofs?|private|password|code_keys)$")
EXCUSED = {
    ("core/handshake.py", "message.psk_tag != NO_PSK_TAG"): "zeros, which are public: no psk is meant",
    ("crypto/cookie.py", "tag == NO_PROOF"): "zeros, which are public: no cookie is shown",
    ("fleet/providers/azure/scale_sets.py", "WORKLOAD_TAG in (each.tags or {})"): "a cloud's tags: words for people",
    ("fleet/providers/kubernetes/provider.py", "token == self._tokens.get(workload)"): "our own file, read again",
    ("core/introduction.py", "kind == PROOF"): "a kind of datagram",
    ("core/introduction.py", "datagram == used.proof"): "a datagram that was on the wire, sealed",
    ("core/sender.py", "token in self._pings"): "the number of a ping",
    ("node/storage/generation.py", "token in tokens"): "names a database file; whoever reads it has the file",
}


def test_no_source_compares_what_is_called_a_secret() -> None:
    found = {
        (path.relative_to(SOURCES / "covey").as_posix(), ast.unparse(node))
        for path in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Compare)
        and any(isinstance(operator, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for operator in node.ops)
        and any(SECRET_NAME.search(last_name(each).lower()) for each in (node.left, *node.comparators))
    }
    assert found == set(EXCUSED)


@pytest.mark.parametrize(
    ("source", "name"), [("a.mac1[:4]", "mac1"), ("psk_tag(x)", "psk_tag"), ("self._token", "_token"), ("1 + 2", "")]
)
def test_last_name_of_an_operand_is_found(source: str, name: str) -> None:
    assert last_name(ast.parse(source, mode="eval").body) == name


def last_name(node: ast.expr) -> str:
    match node:
        case ast.Call(func=inner) | ast.Subscript(value=inner):
            return last_name(inner)
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""
