"""Replicate behind the port: each method is one HTTP exchange, built here and decoded elsewhere.

The `replicate` SDK is used through one entry, `_async_request`: it adds the base URL and the
token, takes headers and gives back the raw answer. Its typed methods drop headers and fail on
predictions that are fine, its `run` and `stream` lose text and send the token to other hosts.
Create and get, which every call waits for, go past it: see `exchange.py`.
"""

import asyncio
import math
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import httpx
import orjson
from yarl import URL

from mediagate_server.loop_share import LoopShare
from mediagate_server.replicate import addresses
from mediagate_server.replicate.connection import Connection, connect
from mediagate_server.replicate.decoding import decode_page, decode_prediction, decode_secret
from mediagate_server.replicate.files import Multipart, decode_file
from mediagate_server.replicate.large_bodies import Body, LargeBodies, is_dense
from mediagate_server.replicate.port import (
    CreateRequest,
    EventStream,
    FileToUpload,
    NoAnswer,
    Prediction,
    PredictionPage,
    PublishedDeployment,
    PublishedModel,
    PublishedVersion,
    Refusal,
    Refused,
    UnreadableAnswer,
    UploadedFile,
    Upstream,
)
from mediagate_server.replicate.published import (
    decode_deployment,
    decode_model,
    decode_version,
)
from mediagate_server.replicate.settings import ReplicateSettings, api_root
from mediagate_server.replicate.silence import Silence
from mediagate_server.replicate.streams import DoneStreams, OpenStream
from mediagate_server.replicate.transport import FILE, TIMER
from mediagate_server.worker_processes import WorkerProcesses

_SHORTEST_CANCEL_AFTER = 5


class ReplicateClient(Upstream):
    """One account of Replicate, or of any server that speaks its API.

    async with ReplicateClient(settings) as upstream: ...

    Sends everything exactly once; retrying, pacing and counting are around it, not in it.
    """

    def __init__(
        self,
        settings: ReplicateSettings,
        workers: WorkerProcesses | None = None,
        share: LoopShare | None = None,
    ) -> None:
        """`workers` read large answers; None: some of its own. So with the `share` of the loop."""
        self._share = share or LoopShare()
        self._settings = settings
        self._root = URL(api_root(settings.base_url))
        # Overall time is bounded in `_send`; these are the phases before a byte is sent.
        self._phases = httpx.Timeout(
            None, connect=settings.connect_timeout, pool=settings.connect_timeout
        )
        self._silence = Silence(settings.stream_idle_timeout)
        self._done = DoneStreams()
        self._workers = workers
        self._open = AsyncExitStack()
        self._connection: Connection
        self._large: LargeBodies

    async def __aenter__(self) -> Self:
        workers = self._workers
        if workers is None:
            workers = await self._open.enter_async_context(WorkerProcesses())
        folder = self._settings.body_folder
        if folder is None:
            folder = Path(self._open.enter_context(TemporaryDirectory())) / "bodies"
        self._large = LargeBodies(folder, workers)
        connection = connect(self._settings, self._large)
        self._connection = await self._open.enter_async_context(connection)
        self._open.callback(self._done.close)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._open.aclose()

    async def create(self, request: CreateRequest) -> Prediction:
        """Send exactly one POST. NoAnswer leaves it in doubt."""
        path, version = addresses.create_route(request.target)
        seconds = max(_SHORTEST_CANCEL_AFTER, math.ceil(request.cancel_after))
        answer = await self._connection.exchange.send(
            "POST",
            path,
            within=self._settings.create_timeout,
            content=_create_body(request, version),
            headers={"Content-Type": "application/json", "Cancel-After": f"{seconds}s"},
            may_send=request.may_send,
        )
        if isinstance(answer, bytes) and not is_dense(answer):
            return decode_prediction(answer)
        return await self._large.prediction(answer)

    async def get(self, prediction_id: str) -> Prediction:
        """The prediction as it stands."""
        path = addresses.prediction_path(prediction_id)
        within = self._settings.read_timeout
        answer = await self._connection.exchange.send("GET", path, within=within)
        if isinstance(answer, bytes) and not is_dense(answer):
            prediction = decode_prediction(answer)
        else:
            prediction = await self._large.prediction(answer)
        if prediction.id != prediction_id:
            # A cache that mixes up two answers shows what somebody else has paid for.
            raise UnreadableAnswer("it is about another prediction")
        return prediction

    async def cancel(self, prediction_id: str) -> Prediction | None:
        """Ask for the end. None where the answer does not tell how it stands: ask with `get`.

        Replicate does not say what it answers once the prediction has ended, so every 4xx that
        is about the prediction counts as that; so does a 2xx without one in it.
        """
        path = f"{addresses.prediction_path(prediction_id)}/cancel"
        try:
            answer = await self._read("POST", path)
        except Refused as refused:
            if refused.refusal in (Refusal.NOT_FOUND, Refusal.INPUT, Refusal.OTHER):
                return None
            raise
        try:
            if isinstance(answer, bytes) and not is_dense(answer):
                return decode_prediction(answer)
            return await self._large.prediction(answer)
        except NoAnswer:
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
            query["created_after"] = addresses.instant(created_after)
        if created_before is not None:
            query["created_before"] = addresses.instant(created_before)
        if cursor is not None:
            query["cursor"] = cursor
        answer = await self._read("GET", "/predictions", query)
        if isinstance(answer, bytes) and not is_dense(answer):
            return decode_page(answer)
        return await self._large.page(answer)

    async def upload_file(self, file: FileToUpload) -> UploadedFile:
        """Hand a file over, for models to read; it is read while it is sent."""
        body = Multipart(file)
        answer = await self._document(
            "POST",
            "/files",
            within=self._settings.upload_timeout,
            content=body,
            headers={"Content-Type": body.content_type, "Content-Length": str(body.length)},
        )
        return decode_file(answer)

    async def webhook_secret(self) -> str:
        """The secret that the account's webhooks are signed with now."""
        return decode_secret(await self._published("/webhooks/default/secret"))

    async def get_model(self, slug: str) -> PublishedModel:
        """A model, with its latest version."""
        return decode_model(await self._published(addresses.model_path(slug)))

    async def get_version(self, slug: str, version: str) -> PublishedVersion:
        """One version of a model."""
        return decode_version(await self._published(addresses.version_path(slug, version)))

    async def get_deployment(self, name: str) -> PublishedDeployment:
        """What a deployment runs."""
        return decode_deployment(await self._published(addresses.deployment_path(name)))

    def stream(
        self, stream_url: str, *, last_event_id: str | None = None
    ) -> AbstractAsyncContextManager[EventStream]:
        """Open the stream once; see the port."""
        url = addresses.may_stream(stream_url, self._root)
        return OpenStream(
            self._connection.streams,
            url,
            last_event_id,
            self._settings,
            self._silence,
            self._share,
            self._done,
        )

    async def _read(self, method: str, path: str, query: Mapping[str, str] | None = None) -> Body:
        return await self._send(method, path, within=self._settings.read_timeout, params=query)

    async def _published(self, path: str) -> bytes:
        return await self._document("GET", path, within=self._settings.read_timeout)

    async def _document(self, method: str, path: str, *, within: float, **parts: Any) -> bytes:
        """The body of what is no prediction, without what is large in it."""
        answer = await self._send(method, path, within=within, **parts)
        if isinstance(answer, bytes) and not is_dense(answer):
            return answer
        return await self._large.document(answer)

    async def _send(self, method: str, path: str, *, within: float, **parts: Any) -> Body:
        """One exchange through the SDK, at most `within` seconds; the body of a 2xx."""
        try:
            async with asyncio.timeout(within) as timer:
                answer = await self._connection.sdk._async_request(  # noqa: SLF001 - pinned, a test holds it
                    method, path, timeout=self._phases, extensions={TIMER: timer}, **parts
                )
        except TimeoutError as late:
            raise NoAnswer("timeout") from late
        # Taken out: an answer of the library's refers to itself, and would keep the file.
        file: Body | None = answer.extensions.pop(FILE, None)
        return file or answer.content


def _create_body(request: CreateRequest, version: str | None) -> bytes:
    """The closed set of fields that upstream takes. Refused INPUT for what JSON cannot say."""
    body: dict[str, Any] = {"input": request.input}
    if version is not None:
        body["version"] = version
    if request.webhook is not None:
        body["webhook"] = request.webhook
        if request.webhook_events:
            body["webhook_events_filter"] = request.webhook_events
    try:
        return orjson.dumps(body, default=_plain)
    except orjson.JSONEncodeError as unsayable:  # a lone surrogate, an integer beyond 64 bits
        raise Refused(Refusal.INPUT) from unsayable


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"no JSON for {type(value).__name__}")
