"""Carries out the faults that strike requests and answers, whatever they are about.

What strikes inside an endpoint (a run that fails, a stream that is cut) is left for the endpoint to
carry out: `fired()`.
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


def record_fault() -> Sequence[FiredFault]:
    """The faults that fired on the request that is being answered."""
    return _FIRED.get()


def random_bytes(firing: FiredFault, action: Garbage) -> bytes:
    """What a garbage fault puts on the wire."""
    if action.text is not None:
        return action.text.encode()
    return firing.random.randbytes(_NOISE_BYTES)


class FaultMiddleware:
    """Stands between the front door and the endpoints."""

    def __init__(self, engine: FaultEngine, occasions: RequestClassifier, clock: Clock) -> None:
        """Keep who decides, who knows what a request is about, and the time."""
        self._engine = engine
        self._occasions = occasions
        self._clock = clock
        self._late: set[asyncio.Task[None]] = set()

    async def stop(self, _application: web.Application) -> None:
        """Nothing that was still to be accepted is."""
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)

    def middleware(self) -> Middleware:
        """The middleware around all endpoints."""

        @web.middleware
        async def door(request: web.Request, handler: Handler) -> web.StreamResponse:
            endpoint = endpoint_of(request)
            if endpoint is None or not self._engine.find_fault(endpoint):
                # One connection answers many requests in one context.
                _FIRED.set(())
                return await handler(request)
            firings = self._engine.should_fire(await self._occasions.classify(request, endpoint))
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
        """Strike before anything is done; what is answered instead, if anything is."""
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
        """Strike the answer to something that was done."""
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
                    request, await _whole(request, response), count
                )
            case Garbage() as action:
                whole = await _whole(request, response)
                return web.Response(
                    body=random_bytes(firing, action),
                    status=whole.status,
                    content_type=whole.content_type,
                )
        return response

    async def _wait(self, ms: float) -> None:
        await self._clock.sleep_until(self._clock.monotonic() + ms / 1000)


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What the endpoint answers; its refusals can be struck as well."""
    try:
        return await handler(request)
    except ApiError as problem:
        return problem.response()


async def _whole(request: web.Request, response: web.StreamResponse) -> web.Response:
    """The answer with its body in hand, as it would have been sent."""
    if isinstance(response, web.Response):
        return response
    if not isinstance(response, StoredFile):
        raise TypeError(f"nothing can be done to the body of {type(response).__name__}")
    try:
        return await response.read(request)
    except ApiError as problem:
        return problem.response()


def throttled(retry_after: int | None) -> web.Response:
    """429 as Replicate words it; without `retry_after` only the words say when to come back."""
    seconds = 1 if retry_after is None else retry_after
    detail = f"Request was throttled. Your rate limit resets in ~{seconds}s."
    if retry_after is None:
        return ApiError(429, detail).response()
    headers = {"Retry-After": str(retry_after)}
    return ApiError(429, detail, headers=headers, retry_after=retry_after).response()


def failure(status: int) -> web.Response:
    """An error of the server's own, or of a proxy in front of it."""
    if status in _PROXY_ERRORS:
        title = f"{status} {'Bad Gateway' if status == 502 else 'Gateway Time-out'}"
        return web.Response(text=_PROXY_PAGE.format(title), status=status, content_type="text/html")
    return ApiError(status, "An error was ordered by the fault plan.").response()
