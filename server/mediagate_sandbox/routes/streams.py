"""Event streams, each event sent by itself the moment it is put out; and their cutting off.

No token is asked for: the path is the credential. A reader that leaves cancels nothing.
"""

from __future__ import annotations

from datetime import timedelta

from aiohttp import web

from mediagate_sandbox.clock import Clock
from mediagate_sandbox.cuts import Cut, StreamCuts
from mediagate_sandbox.observations import Observations
from mediagate_sandbox.problems import not_found
from mediagate_sandbox.settings import SandboxSettings
from mediagate_sandbox.store import Store
from mediagate_sandbox.streams import OPENING, StreamLog

_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store"}


class StreamRoutes:
    """Handler for `/v1/streams/{key}`."""

    def __init__(
        self,
        settings: SandboxSettings,
        clock: Clock,
        store: Store,
        cuts: StreamCuts,
        observations: Observations,
    ) -> None:
        """Keep what the handler needs."""
        self._retention = timedelta(seconds=settings.stream_retention)
        self._clock = clock
        self._store = store
        self._cuts = cuts
        self._observations = observations

    def routes(self) -> list[web.RouteDef]:
        """Paths and their handlers; a stream answers GET only."""
        return [web.get("/v1/streams/{key}", self.follow, allow_head=False)]

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/streams/{key}`: all events after `Last-Event-ID`, as they come."""
        stream = self._find(request)
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        sent = await self._send(request, response, OPENING, 0)
        if sent is None:
            return response
        async for event in stream.follow(request.headers.get("Last-Event-ID")):
            sent = await self._send(request, response, event, sent)
            if sent is None:
                break
        return response

    def _find(self, request: web.Request) -> StreamLog:
        prediction = self._store.by_stream(request.match_info["key"])
        if prediction is None or prediction.stream is None:
            raise not_found()
        ended = prediction.completed_at
        if ended is not None and self._clock.now() > ended + self._retention:
            raise not_found()
        self._observations.streams[prediction.id] += 1
        return prediction.stream

    async def _send(
        self, request: web.Request, response: web.StreamResponse, event: bytes, sent: int
    ) -> int | None:
        """Write one event; how many bytes were sent by now, or None if the stream was cut."""
        cut = self._cuts.order
        if cut is None or sent + len(event) < cut.after_bytes:
            await response.write(event)
            return sent + len(event)
        await self._cut_off(request, response, event[: max(0, cut.after_bytes - sent)], cut)
        return None

    async def _cut_off(
        self, request: web.Request, response: web.StreamResponse, rest: bytes, cut: Cut
    ) -> None:
        self._cuts.spend()
        if rest:
            await response.write(rest)
        if cut.how == "abrupt" and request.transport is not None:
            request.transport.abort()
