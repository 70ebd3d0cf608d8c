"""HTTP faults: errors, delays, garbage and broken connections on requests and responses.

Faults within an endpoint (a run that fails, a stream that is cut) are applied by the endpoint
itself, by `fired_faults()`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from mediagate_sandbox.api_errors import ApiError
from mediagate_sandbox.clock import Clock
from mediagate_sandbox.faults import connection_faults
from mediagate_sandbox.faults.actions import (
    AcceptLate,
    Delay,
    Error,
    Garbage,
    Hang,
    LoseAnswer,
    Redirect,
    Refuse,
    ResetBody,
    Throttle,
)
from mediagate_sandbox.faults.engine import FaultEngine, FiredFault
from mediagate_sandbox.faults.fault_context import RequestClassifier, endpoint_of
from mediagate_sandbox.range_responses import StoredFile

_FIRED: ContextVar[Sequence[FiredFault]] = ContextVar("fired", default=())
"""Of the request that is being answered, for whatever answers it."""

_NOISE_BYTES = 64
_PROXY_ERRORS = (502, 504)
_PROXY_PAGE = "<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"


def fired_faults() -> Sequence[FiredFault]:
    """Return the faults that fired on the current request."""
    return _FIRED.get()


def random_bytes(firing: FiredFault, action: Garbage) -> bytes:
    """Return the bytes of a garbage fault."""
    if action.text is not None:
        return action.text.encode()
    return firing.random.randbytes(_NOISE_BYTES)


class FaultMiddleware:
    """Middleware that applies faults to requests and responses."""

    def __init__(self, engine: FaultEngine, classifier: RequestClassifier, clock: Clock) -> None:
        """Create the middleware."""
        self._engine = engine
        self._classifier = classifier
        self._clock = clock
        self._late: set[asyncio.Task[None]] = set()

    async def stop(self, _application: web.Application) -> None:
        """Cancel creates that were to be accepted later."""
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)

    def middleware(self) -> Middleware:
        """The middleware around all endpoints."""

        @web.middleware
        async def door(request: web.Request, handler: Handler) -> web.StreamResponse:
            endpoint = endpoint_of(request)
            if endpoint is None or not self._engine.may_fire_at(endpoint):
                # One connection answers many requests in one context.
                _FIRED.set(())
                return await handler(request)
            firings = self._engine.fire_faults(await self._classifier.classify(request, endpoint))
            _FIRED.set(firings)
            for each in firings:
                instead = await self._before(request, each, handler)
                if instead is not None:
                    return instead
            return await self._after_all(request, await _answer(request, handler), firings)

        return door

    async def _before(
        self, request: web.Request, firing: FiredFault, handler: Handler
    ) -> web.StreamResponse | None:
        """Apply the faults before the request is processed; return a response instead, or None."""
        match firing.fault.action:
            case Refuse():
                return connection_faults.reset(request)
            case Delay(ms=ms, at="request"):
                await self._wait(ms)
            case Hang(at="request"):
                await asyncio.Event().wait()
            case Throttle(retry_after=seconds):
                return throttled(seconds)
            case Error(status=status, at="request"):
                return failure(status)
            case AcceptLate(ms=ms, status=status):
                await request.read()  # While its connection is there.
                task = asyncio.create_task(self._accept(request, handler, ms))
                self._late.add(task)
                task.add_done_callback(self._late.discard)
                return failure(status)
            case Redirect(location=location, status=status):
                return web.Response(status=status, headers={"Location": location})
        return None

    async def _accept(self, request: web.Request, handler: Handler, ms: float) -> None:
        await self._wait(ms)
        await _answer(request, handler)

    async def _after_all(
        self, request: web.Request, response: web.StreamResponse, firings: Sequence[FiredFault]
    ) -> web.StreamResponse:
        for each in firings:
            if response.prepared:
                break
            response = await self._after(request, response, each)
        return response

    async def _after(
        self, request: web.Request, response: web.StreamResponse, firing: FiredFault
    ) -> web.StreamResponse:
        """Apply the faults to the response of a processed request."""
        match firing.fault.action:
            case Delay(ms=ms, at="answer"):
                await self._wait(ms)
            case Hang(at="answer"):
                await asyncio.Event().wait()
            case Error(status=status, at="answer"):
                return failure(status)
            case LoseAnswer():
                return connection_faults.close(request)
            case ResetBody(after_bytes=count):
                return await connection_faults.send_partially(
                    request, await _read_response(request, response), count
                )
            case Garbage() as action:
                complete = await _read_response(request, response)
                return web.Response(
                    body=random_bytes(firing, action),
                    status=complete.status,
                    content_type=complete.content_type,
                )
        return response

    async def _wait(self, ms: float) -> None:
        await self._clock.sleep_until(self._clock.monotonic() + ms / 1000)


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Return the endpoint's response; its errors are responses too."""
    try:
        return await handler(request)
    except ApiError as problem:
        return problem.response()


async def _read_response(request: web.Request, response: web.StreamResponse) -> web.Response:
    """Return the response with its body read, as it would have been sent."""
    if isinstance(response, web.Response):
        return response
    if not isinstance(response, StoredFile):
        raise TypeError(f"nothing can be done to the body of {type(response).__name__}")
    try:
        return await response.read(request)
    except ApiError as problem:
        return problem.response()


def throttled(retry_after: int | None) -> web.Response:
    """429 in Replicate's format; without `retry_after` only the text has the time."""
    seconds = 1 if retry_after is None else retry_after
    detail = f"Request was throttled. Your rate limit resets in ~{seconds}s."
    if retry_after is None:
        return ApiError(429, detail).response()
    headers = {"Retry-After": str(retry_after)}
    return ApiError(429, detail, headers=headers, retry_after=retry_after).response()


def failure(status: int) -> web.Response:
    """Return an error of the server, or of a proxy in front of it."""
    if status in _PROXY_ERRORS:
        title = f"{status} {'Bad Gateway' if status == 502 else 'Gateway Time-out'}"
        return web.Response(text=_PROXY_PAGE.format(title), status=status, content_type="text/html")
    return ApiError(status, "An error was ordered by the fault plan.").response()
