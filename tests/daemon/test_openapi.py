from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from covey.base.events import EVENTS
from covey.daemon import openapi
from covey.daemon.api import ROUTES


def document() -> dict[str, Any]:
    result: dict[str, Any] = json.loads(msgspec.json.encode(openapi.document(ROUTES, version="1.2.3")))
    return result


def test_document_describes_every_route_and_no_other() -> None:
    described = {(method.upper(), path) for path, operations in document()["paths"].items() for method in operations}
    assert described == {(route.method, route.path) for route in ROUTES}


def test_document_resolves_every_reference() -> None:
    text = json.dumps(document())
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert names <= set(document()["components"]["schemas"])
    assert {"NodeView", "PeerView", "SendView", "ErrorView"} <= names


def test_parameters_are_in_the_path_or_the_query() -> None:
    inbox = document()["paths"]["/v1/inbox"]["get"]["parameters"]
    assert {each["name"]: each["in"] for each in inbox} == dict.fromkeys(("all", "limit", "after", "bodies"), "query")
    peer = document()["paths"]["/v1/peers/{peer}"]["get"]["parameters"]
    assert [(each["name"], each["in"], each["required"]) for each in peer] == [("peer", "path", True)]


def test_body_is_described_where_there_is_one() -> None:
    paths = document()["paths"]
    body = paths["/v1/approve"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/PeerRequest"}
    assert "requestBody" not in paths["/v1/stop"]["post"]


def test_events_are_described_as_a_stream() -> None:
    answers = document()["paths"]["/v1/events"]["get"]["responses"]["200"]["content"]
    assert list(answers) == ["text/event-stream"]


def test_every_type_of_event_is_described_with_its_fields() -> None:
    paths, schemas = document()["paths"], document()["components"]["schemas"]
    schema = paths["/v1/events"]["get"]["responses"]["200"]["content"]["text/event-stream"]["schema"]
    described = {name: reference.rpartition("/")[2] for name, reference in schema["discriminator"]["mapping"].items()}
    assert set(described) == set(EVENTS)
    for name, component in described.items():
        assert set(schemas[component]["properties"]) == {"event", *EVENTS[name].__struct_fields__}
