"""Authentication and error middleware around every request.

It also logs requests, and does not parse them.
"""

from __future__ import annotations

import hmac
import logging

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from mediagate_sandbox.api_errors import ApiError, not_found, unauthenticated
from mediagate_sandbox.public_paths import is_stream, is_upload_download
from mediagate_sandbox.request_log import RequestLog
from mediagate_sandbox.settings import SandboxSettings

log = logging.getLogger("mediagate.sandbox")

_SCHEMES = ("bearer", "token")
_FIRST_REFUSAL = 400
_UNKNOWN_ROUTE = "(unknown)"
_CALLER_LEFT = 499
"""What nginx writes for a caller who did not wait for the answer. Never sent: nobody is there."""


def auth_middleware(settings: SandboxSettings, request_log: RequestLog) -> Middleware:
    """Return the middleware around all handlers."""

    @web.middleware
    async def door(request: web.Request, handler: Handler) -> web.StreamResponse:
        authorization = request.headers.get("Authorization", "")
        route = _route(request)
        request_log.request(request.host, request.method, route, authorized=bool(authorization))
        try:
            if _needs_token(request.path) and not _accepted(settings, authorization):
                raise unauthenticated()
            response = await handler(request)
        except ApiError as problem:
            response = problem.response()
        except web.HTTPException as failure:
            response = _as_problem(failure).response()
        except ConnectionResetError:
            if not _has_left(request):
                raise
            response = web.Response(status=_CALLER_LEFT)
        quiet = request.method == "GET" and response.status < _FIRST_REFUSAL
        level = logging.DEBUG if quiet else logging.INFO
        log.log(level, "%s %s %d", request.method, route, response.status)
        return response

    return door


def origin_of(request: web.Request, settings: SandboxSettings) -> str:
    """Return the origin that the caller used, without a trailing slash."""
    if settings.public_url is not None:
        return settings.public_url.rstrip("/")
    return f"{request.scheme}://{request.host}"


def _route(request: web.Request) -> str:
    """Return the route pattern: the path itself may hold keys and is never logged or counted."""
    resource = request.match_info.route.resource
    return _UNKNOWN_ROUTE if resource is None else resource.canonical


def _has_left(request: web.Request) -> bool:
    """Whether the caller has closed the connection."""
    return request.transport is None or request.transport.is_closing()


def _needs_token(path: str) -> bool:
    """Whether a token is required: not for streams, signed links and search."""
    if path == "/v1/search" or is_upload_download(path) or is_stream(path):
        return False
    return path.startswith("/v1/")


def _accepted(settings: SandboxSettings, authorization: str) -> bool:
    if settings.auth != "token":
        return settings.auth == "open"
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() not in _SCHEMES or not token.strip():
        return False
    if settings.token is None:
        return True
    return hmac.compare_digest(token.strip().encode(), settings.token.encode())


def _as_problem(failure: web.HTTPException) -> ApiError:
    match failure.status:
        case 404:
            return not_found()
        case 413:
            return ApiError(413, "The request body is too large.")
        case 405:
            headers = {"Allow": failure.headers.get("Allow", "")}
            return ApiError(405, "This method is not allowed here.", headers=headers)
        case status:
            return ApiError(status, failure.reason)
