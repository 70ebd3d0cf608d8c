"""Rate-limit middleware: 429 over the limit, `ratelimit-*` headers on every response.

It runs after authentication: a request without a token gets 401 and is not counted.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from mediagate_sandbox.api_errors import ApiError, insufficient_credit, throttled
from mediagate_sandbox.clock import Clock
from mediagate_sandbox.public_paths import is_stream, is_upload_download
from mediagate_sandbox.token_bucket import (
    LOW_CREDIT_BURST,
    LOW_CREDIT_PER_MINUTE,
    Budget,
    RateLimits,
    TokenBucket,
    TokenUse,
)

_MOST_ACCOUNTS = 1000
_TOO_MANY = 429
_LOW_CREDIT = (
    f"Your rate limit for creating predictions is reduced to {LOW_CREDIT_PER_MINUTE:g} requests "
    f"per minute with a burst of {LOW_CREDIT_BURST} requests while you have less than $5.0 in "
    "credit. "
)


class RateLimitMiddleware:
    """Rate-limit middleware, by account (token)."""

    def __init__(self, rates: RateLimits, clock: Clock) -> None:
        """Create the middleware; every account starts with full buckets."""
        self._first_rates = rates
        self._clock = clock
        self.rates = rates
        self._buckets: OrderedDict[tuple[str, Budget], TokenBucket | None] = OrderedDict()

    def change(self, rates: RateLimits) -> None:
        """Change the limits; every account has full buckets again."""
        self.rates = rates
        self._buckets.clear()

    def restore(self) -> None:
        """Restore the first limits."""
        self.change(self._first_rates)

    def middleware(self) -> Middleware:
        """Return the middleware, which runs inside that of authentication."""

        @web.middleware
        async def rate_limit(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not is_rate_limited(request):
                return await handler(request)
            token_use = self._take(request)
            headers = {} if token_use is None or _is_silent(request) else _headers(token_use)
            if token_use is not None and not token_use.allowed:
                raise self._refusal(request, token_use, headers)
            try:
                if _budget(request) == "create" and self.rates.credit == "none":
                    raise insufficient_credit()
                response = await handler(request)
            except ApiError as problem:
                problem.headers.update(headers)
                raise
            if headers and response.status == _TOO_MANY:
                headers = _fault_headers(response)
            if not response.prepared:
                response.headers.update(headers)
            return response

        return rate_limit

    def _take(self, request: web.Request) -> TokenUse | None:
        now, key = self._clock.monotonic(), (_account(request), _budget(request))
        if key in self._buckets:
            self._buckets.move_to_end(key)
        else:
            self._buckets[key] = self.rates.bucket(key[1], now)
            if len(self._buckets) > _MOST_ACCOUNTS:
                self._buckets.popitem(last=False)
        bucket = self._buckets[key]
        return None if bucket is None else bucket.take(now)

    def _refusal(
        self, request: web.Request, token_use: TokenUse, headers: dict[str, str]
    ) -> ApiError:
        low = _budget(request) == "create" and self.rates.credit == "low"
        why = _LOW_CREDIT if low else ""
        return throttled(token_use.reset, token_use.retry_after, why, headers)


def is_rate_limited(request: web.Request) -> bool:
    """Whether the path is rate limited: the API without streams and downloads."""
    path = request.path
    return path.startswith("/v1/") and not (is_stream(path) or is_upload_download(path))


def _is_silent(request: web.Request) -> bool:
    """Whether the response has no rate-limit headers: those of files have none."""
    return request.path == "/v1/files" or request.path.startswith("/v1/files/")


def _budget(request: web.Request) -> Budget:
    if request.method == "POST" and request.path.endswith("/predictions"):
        return "create"
    is_get = request.method == "GET" and request.path.startswith("/v1/predictions/")
    return "get" if is_get else "other"


def _account(request: web.Request) -> str:
    """Return the token's digest: the token itself is stored nowhere."""
    token = request.headers.get("Authorization", "").partition(" ")[2].strip()
    return hashlib.sha256(token.encode()).hexdigest()


def _headers(token_use: TokenUse) -> dict[str, str]:
    return {
        "ratelimit-remaining": str(token_use.remaining),
        "ratelimit-reset": str(token_use.reset),
    }


def _fault_headers(response: web.StreamResponse) -> dict[str, str]:
    """Return the headers of a 429 by a fault: those of the fault, not of the real limit."""
    headers = {"ratelimit-remaining": "0"}
    if "Retry-After" in response.headers:
        headers["ratelimit-reset"] = response.headers["Retry-After"]
    return headers
