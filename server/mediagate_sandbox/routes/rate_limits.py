"""Control endpoints of rate limits and credit."""

from __future__ import annotations

from dataclasses import asdict, replace

import orjson
from aiohttp import web

from mediagate_sandbox.api_errors import bad_request
from mediagate_sandbox.json_response import respond_json
from mediagate_sandbox.middleware.rate_limit import RateLimitMiddleware
from mediagate_sandbox.token_bucket import RateLimits

_LIMITS = ("creates_per_minute", "requests_per_minute", "gets_per_minute")
_FIELDS = (*_LIMITS, "credit")


class RateLimitRoutes:
    """Handlers for `/sandbox/limits`."""

    def __init__(self, turnstile: RateLimitMiddleware) -> None:
        """Keep what the handlers need."""
        self._turnstile = turnstile

    def routes(self) -> list[web.RouteDef]:
        """Paths and their handlers."""
        return [
            web.get("/sandbox/limits", self.show),
            web.post("/sandbox/limits", self.change),
            web.delete("/sandbox/limits", self.restore),
        ]

    async def show(self, request: web.Request) -> web.Response:
        """`GET /sandbox/limits`: current limits."""
        return respond_json(asdict(self._turnstile.rates))

    async def change(self, request: web.Request) -> web.Response:
        """`POST /sandbox/limits`: change the given ones; all buckets are full again.

        Body: `{"creates_per_minute": N or null, "requests_per_minute": N or null,
        "gets_per_minute": N or null, "credit": "enough", "low" or "none"}`, each optional; null
        does not limit.
        """
        self._turnstile.change(_read(await request.read(), self._turnstile.rates))
        return await self.show(request)

    async def restore(self, request: web.Request) -> web.Response:
        """`DELETE /sandbox/limits`: restore the first limits."""
        self._turnstile.restore()
        return await self.show(request)


def _read(raw: bytes, rates: RateLimits) -> RateLimits:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise bad_request("The request body is not valid JSON.") from None
    if not isinstance(body, dict) or not set(body) <= set(_FIELDS):
        raise bad_request(f"The body takes {', '.join(_FIELDS)}.")
    for name in _LIMITS:
        limit = body.get(name)
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float)):
            raise bad_request(f"{name} must be a number, or null for no limit.")
    try:
        return replace(rates, **body)
    except (TypeError, ValueError) as error:
        raise bad_request(f"{error}.") from None
