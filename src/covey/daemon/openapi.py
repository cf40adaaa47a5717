"""The OpenAPI 3.1 description of the local API, made from the same table that serves it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from covey.base.schema import ErrorView

if TYPE_CHECKING:
    from covey.daemon.api import Route

__all__ = ["document"]

_REFERENCE = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"\{(\w+)\}")


def document(routes: Sequence[Route], *, version: str) -> dict[str, Any]:
    """The whole document, ready to be encoded as JSON."""
    types = [route.request for route in routes] + [route.answer for route in routes] + [ErrorView]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    requests, answers, error = schemas[: len(routes)], schemas[len(routes) : -1], schemas[-1]
    paths: dict[str, dict[str, Any]] = {}
    for route, request, answer in zip(routes, requests, answers, strict=True):
        operation: dict[str, Any] = {
            "summary": route.summary,
            "operationId": route.handle.__name__,
            "responses": {
                "200": {
                    "description": "Done.",
                    "content": {"text/event-stream" if route.pushes else "application/json": {"schema": answer}},
                },
                "default": {
                    "description": "It failed; `code` is stable.",
                    "content": {"application/json": {"schema": error}},
                },
            },
        }
        fields = components.get(request.get("$ref", "").rpartition("/")[2], request)
        if route.method == "GET":
            operation["parameters"] = _parameters(route.path, fields)
        elif fields.get("properties"):
            operation["requestBody"] = {
                "required": True,
                "content": {"application/json": {"schema": request}},
            }
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Covey local API", "version": version},
        "paths": paths,
        "components": {"schemas": components},
    }


def _parameters(path: str, fields: dict[str, Any]) -> list[dict[str, Any]]:
    in_path = set(_PARAMETER.findall(path))
    return [
        {
            "name": name,
            "in": "path" if name in in_path else "query",
            "required": name in in_path,
            "schema": schema,
        }
        for name, schema in fields.get("properties", {}).items()
    ]
