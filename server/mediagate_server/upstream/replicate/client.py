"""Replicate client: the upstream port over Replicate's HTTP API.

The `replicate` SDK is used through one entry, `_async_request`: it adds the base URL and the token,
takes headers and returns the raw response. Its typed methods drop headers and fail on valid
predictions; its `run` and `stream` lose text and send the token to other hosts. Create and get,
which every call waits for, go past it: see `http_exchange.py`. The multipart body of uploads is
written here, as the SDK would read the whole file into memory on the event loop, and then fail on
responses that lack fields which Replicate no longer sends.
"""

import asyncio
import math
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx
import orjson
from yarl import URL

from mediagate_server.runtime.fair_scheduler import FairScheduler
from mediagate_server.upstream.documents.json_parser import parse_object
from mediagate_server.upstream.port import (
    CreateRequest,
    CreateReservation,
    EventStream,
    FileToUpload,
    NoResponse,
    Prediction,
    PredictionPage,
    PublishedDeployment,
    PublishedModel,
    PublishedVersion,
    RefusalReason,
    RequestRefused,
    UnreadableResponse,
    UploadedFile,
    Upstream,
)
from mediagate_server.upstream.replicate import api_urls
from mediagate_server.upstream.replicate.connection import UpstreamConnection, open_connection
from mediagate_server.upstream.replicate.http_exchange import FILE_EXTENSION, TIMER_EXTENSION
from mediagate_server.upstream.replicate.large_responses import (
    Body,
    LargeResponses,
    has_many_values,
)
from mediagate_server.upstream.replicate.model_decoding import (
    decode_deployment,
    decode_model,
    decode_version,
)
from mediagate_server.upstream.replicate.prediction_decoding import (
    decode_page,
    decode_prediction,
    decode_secret,
    parse_instant,
)
from mediagate_server.upstream.replicate.sse_stream import (
    ClosingStreams,
    IdleStreamMonitor,
    SseStream,
)
from mediagate_server.upstream.settings import ReplicateSettings, api_root
from mediagate_server.workers.worker_pool import WorkerPool

_MAX_URL_LENGTH: Final = 2_048


class MultipartUpload:
    """Multipart body of an upload. `length` in bytes and `content_type` belong into its headers."""

    def __init__(self, file: FileToUpload) -> None:
        boundary = secrets.token_hex(16)
        self._file = file
        self._head = (
            f"--{boundary}\r\n"
            f'Content-Disposition: form-data; name="content"; filename="{file.name}"\r\n'
            f"Content-Type: {file.media_type}\r\n\r\n"
        ).encode("ascii")
        self._tail = f"\r\n--{boundary}--\r\n".encode("ascii")
        self.length = len(self._head) + file.size + len(self._tail)
        self.content_type = f"multipart/form-data; boundary={boundary}"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._head
        async for piece in self._file.content():
            yield piece
        yield self._tail


def decode_file(body: bytes) -> UploadedFile:
    """Decode the response of an upload. Raises NoResponse where it has no URL."""
    try:
        document = parse_object(body).members
        link = document["urls"]["get"]
        expires_at = document.get("expires_at")
        url = urlsplit(link if isinstance(link, str) else "")
    except (ValueError, TypeError, KeyError) as unreadable:
        raise NoResponse("the answer names no file") from unreadable
    if url.scheme not in ("http", "https") or not url.hostname or len(link) > _MAX_URL_LENGTH:
        raise NoResponse("the answer names no file")
    return UploadedFile(link, parse_instant(expires_at))


_MIN_CANCEL_AFTER = 5


class ReplicateClient(Upstream):
    """One account of Replicate, or of any server with the same API.

    async with ReplicateClient(settings) as upstream: ...

    Sends every request exactly once; retries, pacing and metrics are policies around it.
    """

    def __init__(
        self,
        settings: ReplicateSettings,
        workers: WorkerPool | None = None,
        scheduler: FairScheduler | None = None,
    ) -> None:
        """`workers` read large responses; None: a pool of its own. So with the fair `scheduler`."""
        self._scheduler = scheduler or FairScheduler()
        self._settings = settings
        self._root = URL(api_root(settings.base_url))
        # `_send` limits the overall time; this is for the phases before a byte is sent.
        self._connect_timeout = httpx.Timeout(
            None, connect=settings.connect_timeout, pool=settings.connect_timeout
        )
        self._idle_monitor = IdleStreamMonitor(settings.stream_idle_timeout)
        self._closing_streams = ClosingStreams()
        self._workers = workers
        self._stack = AsyncExitStack()
        self._connection: UpstreamConnection
        self._large: LargeResponses

    async def __aenter__(self) -> Self:
        workers = self._workers
        if workers is None:
            workers = await self._stack.enter_async_context(WorkerPool())
        folder = self._settings.body_folder
        if folder is None:
            folder = Path(self._stack.enter_context(TemporaryDirectory())) / "bodies"
        self._large = LargeResponses(folder, workers)
        connection = open_connection(self._settings, self._large)
        self._connection = await self._stack.enter_async_context(connection)
        self._stack.callback(self._closing_streams.close)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def create(
        self, request: CreateRequest, *, model: str = "", turn: CreateReservation | None = None
    ) -> Prediction:
        """Send exactly one POST. NoResponse leaves the create unconfirmed."""
        path, version = api_urls.create_endpoint(request.target)
        seconds = max(_MIN_CANCEL_AFTER, math.ceil(request.cancel_after))
        response = await self._connection.exchange.send(
            "POST",
            path,
            within=self._settings.create_timeout,
            content=_create_body(request, version),
            headers={"Content-Type": "application/json", "Cancel-After": f"{seconds}s"},
            may_send=request.may_send,
        )
        if isinstance(response, bytes) and not has_many_values(response):
            return decode_prediction(response)
        return await self._large.prediction(response)

    async def get(self, prediction_id: str, *, model: str = "") -> Prediction:
        """The current state of a prediction."""
        path = api_urls.prediction_path(prediction_id)
        within = self._settings.read_timeout
        response = await self._connection.exchange.send("GET", path, within=within)
        if isinstance(response, bytes) and not has_many_values(response):
            prediction = decode_prediction(response)
        else:
            prediction = await self._large.prediction(response)
        if prediction.id != prediction_id:
            # A cache that mixes up two responses would show what somebody else has paid for.
            raise UnreadableResponse("it is about another prediction")
        return prediction

    async def cancel(self, prediction_id: str, *, model: str = "") -> Prediction | None:
        """Cancel a prediction. None where the response does not say its state: use `get` then.

        Replicate does not document the response for an ended prediction, so every 4xx that is about
        the prediction counts as that; so does a 2xx without a prediction.
        """
        path = f"{api_urls.prediction_path(prediction_id)}/cancel"
        try:
            response = await self._read("POST", path)
        except RequestRefused as refused:
            if refused.refusal in (
                RefusalReason.NOT_FOUND,
                RefusalReason.INPUT,
                RefusalReason.OTHER,
            ):
                return None
            raise
        try:
            if isinstance(response, bytes) and not has_many_values(response):
                return decode_prediction(response)
            return await self._large.prediction(response)
        except NoResponse:
            return None

    async def list_predictions(
        self,
        *,
        cursor: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> PredictionPage:
        """One page of the account's predictions, newest first."""
        query: dict[str, str] = {}
        if created_after is not None:
            query["created_after"] = api_urls.format_instant(created_after)
        if created_before is not None:
            query["created_before"] = api_urls.format_instant(created_before)
        if cursor is not None:
            query["cursor"] = cursor
        response = await self._read("GET", "/predictions", query)
        if isinstance(response, bytes) and not has_many_values(response):
            return decode_page(response)
        return await self._large.page(response)

    async def upload_file(self, file: FileToUpload) -> UploadedFile:
        """Upload a file for models to read; it is read while it is sent."""
        body = MultipartUpload(file)
        response = await self._document(
            "POST",
            "/files",
            within=self._settings.upload_timeout,
            content=body,
            headers={"Content-Type": body.content_type, "Content-Length": str(body.length)},
        )
        return decode_file(response)

    async def webhook_secret(self) -> str:
        """The signing secret of the account's webhooks."""
        return decode_secret(await self._get_document("/webhooks/default/secret"))

    async def get_model(self, slug: str) -> PublishedModel:
        """A model, with its latest version."""
        return decode_model(await self._get_document(api_urls.model_path(slug)))

    async def get_version(self, slug: str, version: str) -> PublishedVersion:
        """One version of a model."""
        return decode_version(await self._get_document(api_urls.version_path(slug, version)))

    async def get_deployment(self, name: str) -> PublishedDeployment:
        """A deployment by its name."""
        return decode_deployment(await self._get_document(api_urls.deployment_path(name)))

    def stream(
        self, stream_url: str, *, last_event_id: str | None = None, model: str = ""
    ) -> AbstractAsyncContextManager[EventStream]:
        """Open a stream once; see the port."""
        url = api_urls.parse_stream_url(stream_url, self._root)
        return SseStream(
            self._connection.streams,
            url,
            last_event_id,
            self._settings,
            self._idle_monitor,
            self._scheduler,
            self._closing_streams,
        )

    async def _read(self, method: str, path: str, query: Mapping[str, str] | None = None) -> Body:
        return await self._send(method, path, within=self._settings.read_timeout, params=query)

    async def _get_document(self, path: str) -> bytes:
        return await self._document("GET", path, within=self._settings.read_timeout)

    async def _document(self, method: str, path: str, *, within: float, **options: Any) -> bytes:
        """The body of any other response, without large unused values."""
        response = await self._send(method, path, within=within, **options)
        if isinstance(response, bytes) and not has_many_values(response):
            return response
        return await self._large.document(response)

    async def _send(self, method: str, path: str, *, within: float, **options: Any) -> Body:
        """Send through the SDK, with a timeout of `within` seconds; the body of a 2xx."""
        try:
            async with asyncio.timeout(within) as timer:
                response = await self._connection.sdk._async_request(  # noqa: SLF001 - pinned, a test holds it
                    method,
                    path,
                    timeout=self._connect_timeout,
                    extensions={TIMER_EXTENSION: timer},
                    **options,
                )
        except TimeoutError as error:
            raise NoResponse("timeout") from error
        # Removed, as the library's response refers to itself and would keep the file.
        file: Body | None = response.extensions.pop(FILE_EXTENSION, None)
        return file or response.content


def _create_body(request: CreateRequest, version: str | None) -> bytes:
    """Encode the request body. Raises RequestRefused (INPUT) for what JSON cannot express."""
    body: dict[str, Any] = {"input": request.input}
    if version is not None:
        body["version"] = version
    if request.webhook is not None:
        body["webhook"] = request.webhook
        if request.webhook_events:
            body["webhook_events_filter"] = request.webhook_events
    try:
        return orjson.dumps(body, default=_to_json_type)
    except orjson.JSONEncodeError as error:  # a lone surrogate, an integer beyond 64 bits
        raise RequestRefused(RefusalReason.INPUT) from error


def _to_json_type(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"no JSON for {type(value).__name__}")
