"""Endpoint of event streams (SSE), and their interruption by cuts.

No token is asked for: the path is the credential. A reader that leaves cancels nothing.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from aiohttp import web

from mediagate_sandbox.api_errors import ApiError, not_found
from mediagate_sandbox.clock import Clock
from mediagate_sandbox.faults.actions import CutStream, Garbage
from mediagate_sandbox.faults.http_faults import fired_faults, random_bytes
from mediagate_sandbox.middleware.auth import origin_of
from mediagate_sandbox.prediction_json import file_url, prediction_json
from mediagate_sandbox.predictions import Prediction
from mediagate_sandbox.public_paths import STREAM_KEY
from mediagate_sandbox.request_log import RequestLog
from mediagate_sandbox.settings import SandboxSettings
from mediagate_sandbox.store import Store
from mediagate_sandbox.stream_cuts import StreamCut, StreamCuts
from mediagate_sandbox.stream_dialects import ENDS, REPLICATE_OPENING, CogDialect, ReplicateDialect
from mediagate_sandbox.streams import StreamDialect, StreamLog

_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store"}


class StreamRoutes:
    """Handler for `/v1/streams/{key}`, and `/v1/files/{key}` for models that stream no tokens."""

    def __init__(
        self,
        settings: SandboxSettings,
        clock: Clock,
        store: Store,
        cuts: StreamCuts,
        request_log: RequestLog,
    ) -> None:
        """Create the handler."""
        self._settings = settings
        self._retention = timedelta(seconds=settings.stream_retention)
        self._idle_seconds = settings.stream_idle_timeout
        self._linger = settings.stream_linger
        self._clock = clock
        self._store = store
        self._cuts = cuts
        self._request_log = request_log

    def routes(self) -> list[web.RouteDef]:
        """Paths and their handlers; a stream answers GET only."""
        return [
            web.get("/v1/streams/{key}", self.follow, allow_head=False),
            web.get(f"/v1/files/{{key:{STREAM_KEY}}}", self.follow, allow_head=False),
        ]

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/streams/{key}`: all events after `Last-Event-ID`, live."""
        prediction, stream = self._find(request)
        dialect = self._dialect(request, prediction)
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        reader = _Reader(request, response, self._cuts)
        if isinstance(dialect, ReplicateDialect) and not await reader.send(REPLICATE_OPENING):
            return response
        seen = request.headers.get("Last-Event-ID")
        async for event in stream.follow(dialect, seen, self._clock, self._idle_seconds):
            if not await reader.send(event):
                return response
            if event.startswith(ENDS):
                await asyncio.sleep(self._linger)
        return response

    def _dialect(self, request: web.Request, prediction: Prediction) -> StreamDialect:
        """Return the dialect for this reader. Raises ApiError (406) if the model has not got it."""
        origin = origin_of(request, self._settings)
        if self._settings.stream_dialect == "replicate":
            return ReplicateDialect(lambda number: file_url(prediction, number, origin))
        if not prediction.request.model.cog_streaming:
            raise ApiError(406, "This model does not support streaming responses.")
        return CogDialect(
            prediction.id,
            lambda: prediction_json(prediction, origin),
            self._settings.stream_history,
        )

    def _find(self, request: web.Request) -> tuple[Prediction, StreamLog]:
        prediction = self._store.by_stream(request.match_info["key"])
        if prediction is None or prediction.stream is None or prediction.data_removed:
            raise not_found()
        if not request.path.startswith(f"{prediction.request.model.stream_path}/"):
            raise not_found()
        ended = prediction.completed_at
        if ended is not None and self._clock.now() > ended + self._retention:
            raise not_found()
        self._request_log.streams[prediction.id] += 1
        return prediction, prediction.stream


class _Reader:
    """One reader of a stream, with the faults on its bytes."""

    def __init__(
        self, request: web.Request, response: web.StreamResponse, cuts: StreamCuts
    ) -> None:
        self._request = request
        self._response = response
        self._cuts = cuts
        self._own_cut: StreamCut | None = None
        self._noise: list[tuple[int, bytes]] = []
        self._sent = 0
        for firing in fired_faults():
            match firing.fault.action:
                case CutStream(after_bytes=count, how=how):
                    self._own_cut = StreamCut(count, how=how)
                case Garbage(after_bytes=count) as action:
                    self._noise.append((count, random_bytes(firing, action)))

    async def send(self, event: bytes) -> bool:
        """Write one event, and garbage before it if due. False if the stream was cut."""
        due = [each for each in self._noise if each[0] <= self._sent]
        self._noise = [each for each in self._noise if each[0] > self._sent]
        for _, junk in due:
            await self._response.write(junk + b"\n\n")
        cut = self._own_cut or self._cuts.active
        if cut is None or self._sent + len(event) < cut.after_bytes:
            await self._response.write(event)
            self._sent += len(event)
            return True
        if cut is not self._own_cut:
            self._cuts.use()
        rest = event[: max(0, cut.after_bytes - self._sent)]
        if rest:
            await self._response.write(rest)
        if cut.how == "abrupt" and self._request.transport is not None:
            self._request.transport.abort()
        return False
