"""CORS: browsers of any origin may read output files, downloads and event streams.

The API itself has no CORS, as Replicate's has none: a token has no place in a browser.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from mediagate_sandbox.public_paths import is_output_file, is_stream, is_upload_download

_ANY_ORIGIN = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": (
        "Accept-Ranges, Content-Length, Content-Range, Content-Type, ETag, Last-Modified"
    ),
}
_METHODS = ("GET", "HEAD")
_MAX_AGE_SECONDS = 3600


def cors_middleware() -> Middleware:
    """Return the middleware that answers preflight requests for public URLs."""

    @web.middleware
    async def cors(request: web.Request, handler: Handler) -> web.StreamResponse:
        requested_method = request.headers.get("Access-Control-Request-Method")
        is_preflight = request.method == "OPTIONS" and requested_method is not None
        if not (is_preflight and "Origin" in request.headers and _is_public(request.path)):
            return await handler(request)
        headers = {
            "Access-Control-Allow-Methods": ", ".join(_METHODS),
            "Access-Control-Allow-Headers": request.headers.get(
                "Access-Control-Request-Headers", ""
            ),
            "Access-Control-Max-Age": str(_MAX_AGE_SECONDS),
        }
        return web.Response(status=204, headers=headers)

    return cors


async def add_cors_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add CORS headers before a response is sent: a stream's are sent by its handler."""
    if _is_public(request.path):
        response.headers.update(_ANY_ORIGIN)


def _is_public(path: str) -> bool:
    return is_output_file(path) or is_stream(path) or is_upload_download(path)
