"""An upstream that says exactly what a test tells it to, over real HTTP, and notes what it got."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.media.file_server import FileServer

ID = "q9h6x3m1wdrgp0cjy5fvt8k2ne"
NAMED = web.RequestKey("named", str)
"""The prediction that an answer is about."""
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class ScriptedUpstream:
    """`creates` and `gets` are answered in order, the last one for ever; `streams` likewise.

    Each create makes a prediction of its own: the first is ID, and what is said later of another
    has that one's id wherever ID stands.
    """

    url: str = ""
    creates: list[Answer] = field(default_factory=list)
    gets: list[Answer] = field(default_factory=list)
    streams: list[Answer] = field(default_factory=list)
    posted: list[dict[str, Any]] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    """Of what was posted."""
    headers: list[dict[str, str]] = field(default_factory=list)
    last_event_ids: list[str | None] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    get_count: int = 0
    on_cancel: Answer | None = None
    """What answers a cancel instead."""
    listed: list[dict[str, Any]] | None = None
    """What its list of predictions holds; None: it has none."""
    models: dict[str, Any] = field(default_factory=dict)
    model_requested: asyncio.Event = field(default_factory=asyncio.Event)
    models_answered: asyncio.Event | None = None
    """Until when a model is not shown; None: it is at once."""
    files: FileServer = field(default_factory=FileServer)
    """What it serves besides: the files that its predictions point at."""

    async def create(self, request: web.Request) -> web.StreamResponse:
        """POST of a prediction."""
        self.posted.append(await request.json())
        self.headers.append(dict(request.headers))
        number = len(self.posted)
        request[NAMED] = ID if number == 1 else f"{ID}{number}"
        answer = self._next(self.creates)
        async with self.news:
            self.news.notify_all()
        return await answer(request)

    async def received(self, creates: int) -> None:
        """Wait until so many creates have come."""
        async with self.news:
            await self.news.wait_for(lambda: len(self.posted) >= creates)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """GET of a prediction."""
        self.get_count += 1
        request[NAMED] = request.match_info["id"]
        return await self._next(self.gets)(request)

    async def predictions(self, request: web.Request) -> web.StreamResponse:
        """GET of the list of predictions, all on one page."""
        if self.listed is None:
            return web.Response(status=404)
        return await says({"results": self.listed, "next": None})(request)

    async def model(self, request: web.Request) -> web.StreamResponse:
        """GET of a model."""
        self.model_requested.set()
        if self.models_answered is not None:
            await self.models_answered.wait()
        model = self.models.get("{owner}/{name}".format(**request.match_info))
        return await says(model or {"detail": "nowhere"}, 200 if model else 404)(request)

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """POST of a cancel: from then on the prediction is canceled."""
        request[NAMED] = request.match_info["id"]
        if self.on_cancel is not None:
            return await self.on_cancel(request)
        self.gets = [says({"id": ID, "status": "canceled", "metrics": {}})]
        self.cancelled.set()
        return await self.gets[0](request)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """GET of the stream."""
        self.last_event_ids.append(request.headers.get("Last-Event-ID"))
        return await self._next(self.streams)(request)

    @staticmethod
    def _next(script: list[Answer]) -> Answer:
        return script.pop(0) if len(script) > 1 else script[0]


def says(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """Answer with a JSON document."""

    async def answer(request: web.Request) -> web.StreamResponse:
        text = document if isinstance(document, str) else json.dumps(document)
        return web.Response(
            status=status,
            text=text.replace(ID, request.get(NAMED, ID)),
            content_type="application/json",
            headers=headers,
        )

    return answer


def hangs_up() -> Answer:
    """Take the request and close the connection without a word."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    return answer


def streams(*pieces: str) -> Answer:
    """Answer with server-sent events, byte for byte, then close."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece.encode())
        return response

    return answer


def stays_open(*pieces: str, until: asyncio.Event) -> Answer:
    """Like `streams`, but the connection stays open until the event is set."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece.encode())
        await until.wait()
        return response

    return answer


def token(text: str, number: int) -> str:
    """One output event."""
    return f"event: output\nid: 1690212292:{number}\ndata: {text}\n\n"


@asynccontextmanager
async def open_scripted_upstream() -> AsyncIterator[ScriptedUpstream]:
    """Run it on a free port of loopback."""
    upstream = ScriptedUpstream()
    app = web.Application()
    app.router.add_post("/v1/predictions", upstream.create)
    app.router.add_post("/v1/models/{owner}/{name}/predictions", upstream.create)
    app.router.add_get("/v1/predictions", upstream.predictions)
    app.router.add_get("/v1/predictions/{id}", upstream.get)
    app.router.add_post("/v1/predictions/{id}/cancel", upstream.cancel)
    app.router.add_get("/v1/models/{owner}/{name}", upstream.model)
    app.router.add_get("/v1/streams/{id}", upstream.stream)
    app.router.add_route("*", "/{path:.*}", upstream.files.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    upstream.url = upstream.files.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield upstream
    finally:
        await runner.cleanup()


def prediction(upstream: ScriptedUpstream, status: str, **fields: Any) -> dict[str, Any]:
    """A prediction that streams from this upstream."""
    return {
        "id": ID,
        "status": status,
        "model": "replicate-internal/llama-3-70b-instruct-triton",
        "version": "hidden",
        "urls": {"stream": f"{upstream.url}/v1/streams/{ID}"},
        **fields,
    }
