from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from covey.base import events
from covey.base.errors import UsageError
from covey.base.events import EVENTS, AnyEvent, Event, PeerEvent, TrustChanged, chosen_types, kind

REFERENCE = Path(__file__).parents[2] / "docs" / "reference-api.md"


def test_every_type_of_event_is_in_the_table() -> None:
    concrete = {
        value
        for value in vars(events).values()
        if isinstance(value, type) and issubclass(value, Event) and value not in (Event, PeerEvent)
    }
    assert concrete == set(EVENTS.values()) == set(get_args(AnyEvent))
    assert all(re.fullmatch(r"[a-z]+(\.[a-z]+)?", name) for name in EVENTS)


def test_reference_page_lists_every_type_with_its_own_fields() -> None:
    rows = re.findall(r"^\| `([a-z.]+)` \| ([^|]*) \|", REFERENCE.read_text().partition("### Events")[2], re.MULTILINE)
    listed = {name: re.findall(r"`(\w+)`", fields) for name, fields in rows}
    common = set(Event.__struct_fields__)
    assert listed == {
        name: [field for field in each.__struct_fields__ if field not in common] for name, each in EVENTS.items()
    }


def test_event_is_one_json_object_with_its_type() -> None:
    event = TrustChanged(id="1-2", time=3.0, peer="p", name="n", state="trusted", reason="")
    raw = msgspec.json.encode(event)
    assert raw.startswith(b'{"event":"trust.changed","schema":1,"id":"1-2","time":3.0,')
    assert msgspec.json.decode(raw, type=AnyEvent) == event
    assert kind(event) == "trust.changed"


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        ([], set(EVENTS)),
        (["*"], set(EVENTS)),
        (["name.changed"], {"name.changed", "gap"}),
        (["message.*"], {"message.received", "message.delivered", "message.refused", "message.expired", "gap"}),
        (["gap"], {"gap"}),
    ],
)
def test_types_are_chosen_by_name_or_family(patterns: list[str], chosen: set[str]) -> None:
    assert chosen_types(patterns) == chosen


@pytest.mark.parametrize("pattern", ["", "message", "messages.*", "message.receive", "**"])
def test_type_that_names_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError) as caught:
        chosen_types([pattern])
    assert caught.value.code == "unknown-event"
