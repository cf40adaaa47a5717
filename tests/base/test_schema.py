from __future__ import annotations

import msgspec
import pytest

from covey.base import schema
from covey.base.schema import ErrorView, MessageView, PathView, PeerView, PingView, SendView

PATH = PathView(kind="relay", remote="192.0.2.1:4040", active=True, rtt_ms=1.5, reason="probing")
EXAMPLES: list[msgspec.Struct] = [
    ErrorView(code="not-found", message="no such peer", next_step="covey peers"),
    PATH,
    PeerView(identity="a", address="7f3a.91c0.d2e4", name="n", trust="trusted", safety_number="1", paths=[PATH]),
    MessageView(number=1, id="0" * 32, sender="a", sender_name="n", type="json", received=1.5, size=2, body="{}"),
    SendView(id="0" * 32, peer="a", name="n", result="queued"),
    PingView(identity="a", name="n", rtt_ms=0.1, path=PATH),
]


@pytest.mark.parametrize("view", EXAMPLES, ids=lambda view: type(view).__name__)
def test_view_survives_json(view: msgspec.Struct) -> None:
    assert msgspec.json.decode(msgspec.json.encode(view), type=type(view)) == view


@pytest.mark.parametrize("view", EXAMPLES, ids=lambda view: type(view).__name__)
def test_view_ignores_fields_of_a_newer_schema(view: msgspec.Struct) -> None:
    newer = {**msgspec.to_builtins(view), "added_later": 1}
    assert msgspec.convert(newer, type=type(view)) == view


def test_unknown_states_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"id": "0", "peer": "a", "name": "n", "result": "perhaps"}, type=SendView)


def test_every_view_is_public_and_frozen() -> None:
    views = {name for name, kind in vars(schema).items() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)}
    assert views <= set(schema.__all__)
    assert all(getattr(schema, name).__struct_config__.frozen for name in views)
