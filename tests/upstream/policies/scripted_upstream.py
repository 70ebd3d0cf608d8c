"""A scripted upstream, the chain around it, and one request of each kind."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from random import Random
from typing import Any

from mediagate_server.upstream.policies.resilient_upstream import ResilientUpstream
from mediagate_server.upstream.port import (
    CreateRequest,
    CreateReservation,
    DoneEvent,
    EventStream,
    FileToUpload,
    NoResponse,
    Prediction,
    PredictionPage,
    PredictionStatus,
    PublishedDeployment,
    PublishedModel,
    PublishedVersion,
    RefusalReason,
    RequestRefused,
    StreamEvent,
    UploadedFile,
    Upstream,
)
from mediagate_server.upstream.settings import UpstreamLimits
from tests.sse_batches import SseBatches, collect_batches

RunOnVirtualLoop = Callable[[Coroutine[Any, Any, Any]], Any]

REQUEST = CreateRequest("meta/llama", {"prompt": "hi"}, cancel_after=60)
PREDICTION = Prediction("p1", PredictionStatus.STARTING)


async def content() -> AsyncIterator[bytes]:
    yield b"bytes"


FILE = FileToUpload("input.png", "image/png", 5, content)
UPLOADED = UploadedFile("https://upstream/files/1", None)
MODEL = PublishedModel("o/n", is_official=True)
NO_RESPONSE = NoResponse("timeout")
DOWN = RequestRefused(RefusalReason.UNREACHABLE)
INPUT = RequestRefused(RefusalReason.INPUT, http_status=422)


def throttled(seconds: float | None) -> RequestRefused:
    return RequestRefused(RefusalReason.THROTTLED, http_status=429, retry_after=seconds)


class Scripted(Upstream):
    """Ends each request as the script says, then well; keeps what was asked and when."""

    def __init__(self, *ends: BaseException) -> None:
        self.ends: Iterator[BaseException] = iter(ends)
        self.requests: list[tuple[str, float]] = []
        self.closed = 0

    def ask(self, endpoint: str) -> None:
        self.requests.append((endpoint, asyncio.get_running_loop().time()))
        end = next(self.ends, None)
        if end is not None:
            raise end

    async def create(
        self, request: CreateRequest, *, model: str = "", turn: CreateReservation | None = None
    ) -> Prediction:
        assert request is REQUEST
        self.ask("create")
        return PREDICTION

    async def get(self, prediction_id: str, *, model: str = "") -> Prediction:
        assert prediction_id == "p1"
        self.ask("get")
        return PREDICTION

    async def cancel(self, prediction_id: str, *, model: str = "") -> Prediction | None:
        assert prediction_id == "p1"
        self.ask("cancel")
        return None

    async def list_predictions(
        self,
        *,
        cursor: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> PredictionPage:
        assert (cursor, created_after, created_before) == ("c", None, None)
        self.ask("list")
        return PredictionPage((PREDICTION,), None)

    async def upload_file(self, file: FileToUpload) -> UploadedFile:
        assert file is FILE
        self.ask("upload")
        return UPLOADED

    async def webhook_secret(self) -> str:
        self.ask("secret")
        return "whsec_"

    async def get_model(self, slug: str) -> PublishedModel:
        assert slug == "o/n"
        self.ask("model")
        return MODEL

    async def get_version(self, slug: str, version: str) -> PublishedVersion:
        assert (slug, version) == ("o/n", "v")
        self.ask("model")
        return PublishedVersion(version)

    async def get_deployment(self, name: str) -> PublishedDeployment:
        assert name == "o/d"
        self.ask("model")
        return PublishedDeployment(name, "o/n", "v")

    @asynccontextmanager
    async def stream(
        self, stream_url: str, *, last_event_id: str | None = None, model: str = ""
    ) -> AsyncIterator[EventStream]:
        assert (stream_url, last_event_id) == ("http://s", "7")
        self.ask("stream")

        async def batches() -> AsyncIterator[tuple[StreamEvent, ...]]:
            yield (DoneEvent(),)

        try:
            yield SseBatches(batches())
        finally:
            self.closed += 1

    def times(self) -> list[float]:
        return [at - 1_000 for _, at in self.requests]


def outbound(upstream: Upstream, **rates: int) -> ResilientUpstream:
    loop = asyncio.get_running_loop()
    return ResilientUpstream(upstream, UpstreamLimits(**rates), random=Random(5), clock=loop.time)


async def ask(out: ResilientUpstream, endpoint: str) -> object:
    match endpoint:
        case "create":
            return await out.create(REQUEST, model="llama-70b")
        case "get":
            return await out.get("p1", model="llama-70b")
        case "cancel":
            return await out.cancel("p1", model="llama-70b")
        case "upload":
            return await out.upload_file(FILE)
        case "list":
            return await out.list_predictions(cursor="c")
        case "model":
            return await out.get_model("o/n")
        case _:
            async with out.stream("http://s", last_event_id="7", model="llama-70b") as stream:
                return (await collect_batches(stream)).batches


ANSWERS = {
    "create": PREDICTION,
    "get": PREDICTION,
    "cancel": None,
    "list": PredictionPage((PREDICTION,), None),
    "upload": UPLOADED,
    "model": MODEL,
    "stream": [(DoneEvent(),)],
}
