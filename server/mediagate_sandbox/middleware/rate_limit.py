"""Lets requests through at the rate their account may have, and tells every answer what is left.

It stands behind the front door: who has no token gets 401 without being counted.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from mediagate_sandbox.api_errors import ApiError, insufficient_credit, throttled
from mediagate_sandbox.clock import Clock
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
    """Counts requests by account, which is to say by token."""

    def __init__(self, rates: RateLimits, clock: Clock) -> None:
        """Every account begins with full budgets."""
        self._first_rates = rates
        self._clock = clock
        self.rates = rates
        self._buckets: OrderedDict[tuple[str, Budget], TokenBucket | None] = OrderedDict()

    def change(self, rates: RateLimits) -> None:
        """Put other limits in force; every account has full budgets again."""
        self.rates = rates
        self._buckets.clear()

    def restore(self) -> None:
        """Go back to the limits the sandbox started with."""
        self.change(self._first_rates)

    def middleware(self) -> Middleware:
        """The middleware around all handlers, inside the front door."""

        @web.middleware
        async def turnstile(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not is_rate_limited(request):
                return await handler(request)
            taken = self._take(request)
            headers = {} if taken is None or _is_silent(request) else _headers(taken)
            if taken is not None and not taken.allowed:
                raise self._refusal(request, taken, headers)
            try:
                if _budget(request) == "create" and self.rates.credit == "none":
                    raise insufficient_credit()
                response = await handler(request)
            except ApiError as problem:
                problem.headers.update(headers)
                raise
            if headers and response.status == _TOO_MANY:
                headers = _ordered(response)
            if not response.prepared:
                response.headers.update(headers)
            return response

        return turnstile

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

    def _refusal(self, request: web.Request, taken: TokenUse, headers: dict[str, str]) -> ApiError:
        low = _budget(request) == "create" and self.rates.credit == "low"
        return throttled(taken.reset, _LOW_CREDIT if low else "", headers)


def is_rate_limited(request: web.Request) -> bool:
    """Whether it is for the API; streams and downloads are served elsewhere."""
    path = request.path
    return path.startswith("/v1/") and not (
        path.startswith("/v1/streams/") or path.endswith("/download")
    )


def _is_silent(request: web.Request) -> bool:
    """Recorded answers about files tell nothing of limits."""
    return request.path == "/v1/files" or request.path.startswith("/v1/files/")


def _budget(request: web.Request) -> Budget:
    creates = request.method == "POST" and request.path.endswith("/predictions")
    return "create" if creates else "other"


def _account(request: web.Request) -> str:
    """A token's digest: the token itself is kept nowhere."""
    token = request.headers.get("Authorization", "").partition(" ")[2].strip()
    return hashlib.sha256(token.encode()).hexdigest()


def _headers(taken: TokenUse) -> dict[str, str]:
    return {"ratelimit-remaining": str(taken.remaining), "ratelimit-reset": str(taken.reset)}


def _ordered(response: web.StreamResponse) -> dict[str, str]:
    """What a 429 tells that the fault plan ordered: its own hint, not what is really left."""
    told = {"ratelimit-remaining": "0"}
    if "Retry-After" in response.headers:
        told["ratelimit-reset"] = response.headers["Retry-After"]
    return told
