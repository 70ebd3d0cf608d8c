"""Resilient upstream client: retry, circuit breaker, pacing and metrics around each request.

The server uses it in place of the bare client. Knows no rpc and no generation.
"""

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import partial
from random import Random
from types import TracebackType

from mediagate_server.observability import metrics
from mediagate_server.observability.metrics import OTHER_MODEL
from mediagate_server.upstream.policies.circuit_breaker import CircuitBreaker
from mediagate_server.upstream.policies.create_admission import CreateAdmission
from mediagate_server.upstream.policies.create_retry_policy import CreateRetryPolicy
from mediagate_server.upstream.policies.idempotent_retry import RetryPolicy
from mediagate_server.upstream.policies.pacing_policy import Pacer
from mediagate_server.upstream.policies.policy import Endpoint, T, UpstreamPolicy, UpstreamRequest
from mediagate_server.upstream.policies.request_metrics import RequestMetrics
from mediagate_server.upstream.port import (
    CreateRequest,
    CreateReservation,
    EventStream,
    FileToUpload,
    Prediction,
    PredictionPage,
    PublishedDeployment,
    PublishedModel,
    PublishedVersion,
    StreamLimitReached,
    UploadedFile,
    Upstream,
)
from mediagate_server.upstream.settings import UpstreamLimits


class StreamLimit:
    """Limit of open streams.

    Counted before anything is sent: if it were left to the connection pool, an opening would wait
    for a free connection and then look like an unreachable upstream, which stops the model for all.
    """

    __slots__ = ("_most", "open")

    def __init__(self, most: int) -> None:
        self._most = most
        self.open = 0

    def acquire(self) -> None:
        """Count an open stream. Raises StreamLimitReached."""
        if self.open >= self._most:
            metrics.streams_not_opened.inc()
            raise StreamLimitReached
        self.open += 1
        metrics.streams_open.set(self.open)

    def release(self) -> None:
        """A stream was closed."""
        self.open -= 1
        metrics.streams_open.set(self.open)


class ResilientUpstream(Upstream):
    """One upstream account, for one event loop: a decorator of another Upstream.

    Its creates are reserved by `admission` before they are sent.
    """

    def __init__(
        self,
        upstream: Upstream,
        settings: UpstreamLimits,
        *,
        random: Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        label: Callable[[str], str] = str,
    ) -> None:
        random = random or Random()
        self._upstream = upstream
        breaker = CircuitBreaker(settings, clock, label=label)
        pacer = Pacer(
            creates_per_minute=settings.creates_per_minute,
            reads_per_minute=settings.reads_per_minute,
        )
        self._policies: tuple[UpstreamPolicy, ...] = (
            RetryPolicy(random),
            breaker,
            pacer,
            RequestMetrics(),
        )
        self.admission = CreateAdmission(breaker, pacer, CreateRetryPolicy(random))
        self._streams = StreamLimit(settings.max_streams)

    async def create(
        self,
        request: CreateRequest,
        *,
        model: str = OTHER_MODEL,
        turn: CreateReservation | None = None,
    ) -> Prediction:
        """Send exactly one POST, immediately. `turn` is a reservation of the admission."""
        send = partial(self._upstream.create, request, model=model, turn=turn)
        if turn is None:
            return await self._run("create", model, send)
        turn.use()
        try:
            return await self._run("create", model, send)
        finally:
            turn.release_unused()

    async def get(self, prediction_id: str, *, model: str = OTHER_MODEL) -> Prediction:
        """The current state of a prediction."""
        return await self._run("get", model, lambda: self._upstream.get(prediction_id, model=model))

    async def cancel(self, prediction_id: str, *, model: str = OTHER_MODEL) -> Prediction | None:
        """Cancel a prediction; see the port."""
        return await self._run(
            "cancel", model, lambda: self._upstream.cancel(prediction_id, model=model)
        )

    async def list_predictions(
        self,
        *,
        cursor: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        model: str = OTHER_MODEL,
    ) -> PredictionPage:
        """One page of the account's predictions, newest first."""
        return await self._run(
            "list",
            model,
            lambda: self._upstream.list_predictions(
                cursor=cursor, created_after=created_after, created_before=created_before
            ),
        )

    async def upload_file(self, file: FileToUpload) -> UploadedFile:
        """Upload a file for models to read."""
        return await self._run("upload", OTHER_MODEL, lambda: self._upstream.upload_file(file))

    async def webhook_secret(self) -> str:
        """The signing secret of the account's webhooks."""
        return await self._run("secret", OTHER_MODEL, self._upstream.webhook_secret)

    async def get_model(self, slug: str) -> PublishedModel:
        """A model with its latest version. Its circuit is not affected: nothing is run."""
        return await self._run("model", OTHER_MODEL, lambda: self._upstream.get_model(slug))

    async def get_version(self, slug: str, version: str) -> PublishedVersion:
        """One version of a model."""
        return await self._run(
            "model", OTHER_MODEL, lambda: self._upstream.get_version(slug, version)
        )

    async def get_deployment(self, name: str) -> PublishedDeployment:
        """A deployment."""
        return await self._run("model", OTHER_MODEL, lambda: self._upstream.get_deployment(name))

    def stream(
        self, stream_url: str, *, last_event_id: str | None = None, model: str = OTHER_MODEL
    ) -> AbstractAsyncContextManager[EventStream]:
        """Open a stream; only the opening is retried. See the port.

        Raises StreamLimitReached where too many are open.
        """
        return _StreamOpening(
            self._streams,
            lambda: self._upstream.stream(stream_url, last_event_id=last_event_id, model=model),
            lambda send: self._run("stream", model, send),
        )

    async def _run(self, endpoint: Endpoint, model: str, send: Callable[[], Awaitable[T]]) -> T:
        call = UpstreamRequest(endpoint, model)
        call_next = send
        for policy in reversed(self._policies):
            call_next = partial(policy, call, call_next)
        return await call_next()


_Stream = AbstractAsyncContextManager[EventStream]


class _StreamOpening:
    """A stream whose opening passes the policies as any request does.

    No generator and no exit stack, for the memory of a thousand idle streams.
    """

    __slots__ = ("_limit", "_opened", "_run", "_stream")

    def __init__(
        self,
        limit: StreamLimit,
        stream: Callable[[], _Stream],
        run: Callable[[Callable[[], Awaitable[EventStream]]], Awaitable[EventStream]],
    ) -> None:
        self._limit = limit
        self._stream = stream
        self._run = run
        self._opened: _Stream

    async def __aenter__(self) -> EventStream:
        self._limit.acquire()
        try:
            opened = await self._run(self._open)
        except BaseException:
            self._limit.release()
            raise
        del self._stream, self._run  # Not needed any more, and half a KiB.
        return opened

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        try:
            return await self._opened.__aexit__(kind, error, trace)
        finally:
            self._limit.release()

    async def _open(self) -> EventStream:
        """One attempt, with a new stream."""
        stream = self._stream()
        opened = await stream.__aenter__()
        self._opened = stream
        return opened
