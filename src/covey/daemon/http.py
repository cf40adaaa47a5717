"""The mechanics of the local API: a Starlette application that serves the table of `api.py`.

Every failure leaves as an `ErrorView` with the HTTP status of its class (`base.failures`); what was not foreseen is
logged with its traceback and leaves as `internal`, without details. Bodies are bounded while they are read. A
client may send `Covey-Timeout: SECONDS`: what takes longer is given up with `timeout`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route as StarletteRoute

from covey.base import errors
from covey.base.errors import CoveyError
from covey.base.failures import error_status, error_view
from covey.base.schema import ErrorView
from covey.daemon import sse
from covey.daemon.api import ROUTES, Route, Service
from covey.daemon.logs import get_logger

__all__ = ["TIMEOUT_HEADER", "application"]

TIMEOUT_HEADER = "covey-timeout"
"""Request header: seconds the client is willing to wait."""

_LAST_EVENT_ID = "last_event_id"
"""The field of a request that the `Last-Event-ID` header fills, since browsers send it by themselves."""

_log = get_logger("covey.daemon.http")


def application(service: Service) -> Starlette:
    """The ASGI application over a running service."""
    return Starlette(
        routes=[
            StarletteRoute(
                _pattern(route.path),
                _endpoint(service, route),
                methods=[route.method],
                name=route.handle.__name__,
            )
            for route in ROUTES
        ],
        exception_handlers={HTTPException: _no_such_route},
    )


def _pattern(path: str) -> str:
    """Starlette's pattern: a parameter ends its path and may contain slashes, since people may type
    anything."""
    return path.replace("}", ":path}")


def _endpoint(service: Service, route: Route) -> Callable[[Request], Awaitable[Response]]:
    encode = msgspec.json.Encoder().encode

    async def respond(request: Request) -> Response:
        try:
            async with asyncio.timeout(_allowed_seconds(request)):
                arguments = await _read_request(request, route)
                answer = await route.handle(service, arguments)
            if route.pushes:
                return StreamingResponse(
                    sse.lines(answer),
                    media_type="text/event-stream",
                    headers={"cache-control": "no-store"},
                )
            return _json(200, encode(answer))
        except CoveyError as error:
            return _json(error_status(error), encode(error_view(error)))
        except TimeoutError:
            over = errors.TimeoutError(
                "the time allowed for this request is over; what it began may still complete",
                next_step="try again with a longer --timeout",
            )
            return _json(error_status(over), encode(error_view(over)))
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:
            _log.exception("request failed", method=route.method, path=route.path)
            return _json(error_status(error), encode(error_view(error)))

    return respond


async def _read_request(request: Request, route: Route) -> Any:
    try:
        if route.method == "GET":
            fields: dict[str, str] = {**request.query_params, **request.path_params}
            last = request.headers.get("last-event-id")
            if last is not None and _LAST_EVENT_ID in route.request.__struct_fields__:
                fields[_LAST_EVENT_ID] = last
            return msgspec.convert(fields, route.request, strict=False)
        return msgspec.json.decode(await _bounded_body(request, route.limit) or b"{}", type=route.request)
    except msgspec.ValidationError as error:
        raise errors.UsageError(f"{route.method} {route.path}: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.ParseError(f"the request body is not JSON: {error}") from error


async def _bounded_body(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limit:
        raise _body_too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _body_too_large(limit)
    return bytes(body)


def _body_too_large(limit: int) -> errors.LimitError:
    return errors.LimitError(f"the request body is larger than {limit:,} bytes", code="body-too-large")


def _allowed_seconds(request: Request) -> float | None:
    text = request.headers.get(TIMEOUT_HEADER)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 < seconds < float("inf") else None


def _json(status: int, body: bytes) -> Response:
    return Response(body, status, media_type="application/json")


async def _no_such_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 405:
        view = ErrorView("usage", f"{request.url.path} does not answer {request.method}", "see /v1/openapi.json")
    else:
        view = ErrorView("not-found", f"the local API has no {request.url.path}", "see /v1/openapi.json")
    return _json(status, msgspec.json.encode(view))
