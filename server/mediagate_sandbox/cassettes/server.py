"""Cassette servers: a sandbox that records, and one that replays."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp
from aiohttp import web

from mediagate_sandbox.cassettes.cassette import Cassette
from mediagate_sandbox.cassettes.cassette_file import CassetteWriter
from mediagate_sandbox.cassettes.recorder import Recorder
from mediagate_sandbox.cassettes.recording import Recording
from mediagate_sandbox.cassettes.replayed_webhooks import ReplayedWebhooks
from mediagate_sandbox.cassettes.replayer import Replayer
from mediagate_sandbox.cassettes.upstream_client import UpstreamClient
from mediagate_sandbox.cassettes.webhook_relay import WebhookRelay
from mediagate_sandbox.clock import Clock, SystemClock
from mediagate_sandbox.http_listener import open_listener
from mediagate_sandbox.json_response import respond_json
from mediagate_sandbox.middleware.auth import auth_middleware
from mediagate_sandbox.middleware.cors import add_cors_headers, cors_middleware
from mediagate_sandbox.request_log import RequestLog
from mediagate_sandbox.settings import MEBIBYTE, SandboxSettings
from mediagate_sandbox.urls import is_origin
from mediagate_sandbox.webhook_delivery import WebhookDeliverer
from mediagate_sandbox.webhook_signing import WebhookSigner, new_secret

REPLICATE = "https://api.replicate.com"

_MAX_BODY_BYTES = 128 * MEBIBYTE
_MAX_FILE_BYTES = 2048 * MEBIBYTE
_FINISH_SECONDS = 10.0
_API_SUFFIX = re.compile(r"(?:/v1)?/?")


class _Handler(Protocol):
    async def handle(self, request: web.Request) -> web.StreamResponse: ...

    def state(self) -> dict[str, Any]: ...


def api_origin(url: str) -> str:
    """Return the origin of an API's base URL, with or without `/v1`. Raises ValueError."""
    match = re.match(r"https?://[^/]*", url)
    if (
        match is None
        or not is_origin(match.group())
        or not _API_SUFFIX.fullmatch(url[match.end() :])
    ):
        raise ValueError("upstream must be an origin such as https://api.replicate.com")
    return match.group()


class CassetteServer:
    """A running recorder or replayer: `async with replayer(path, settings) as server: ...`."""

    def __init__(
        self,
        settings: SandboxSettings,
        open_handler: Callable[[AsyncExitStack, SandboxSettings, Clock], Awaitable[_Handler]],
        clock: Clock | None = None,
    ) -> None:
        """Create a server; entering it starts it."""
        self.settings = replace(settings, auth="open")
        self._open_handler = open_handler
        self._clock = clock or SystemClock()
        self._stack = AsyncExitStack()
        self._handler: _Handler
        self._url = ""
        self.ca_file: Path | None = None
        """With `tls`, the certificate (PEM) that clients must trust."""

    @property
    def url(self) -> str:
        """Origin it listens on, without a trailing slash."""
        return self._url

    def state(self) -> dict[str, Any]:
        """Return what `/sandbox/cassette` answers."""
        return self._handler.state()

    async def __aenter__(self) -> Self:
        """Listen. Raises OSError, and CassetteError for a file that cannot be used."""
        async with AsyncExitStack() as stack:
            listener = stack.enter_context(open_listener(self.settings))
            self._handler = await self._open_handler(stack, self.settings, self._clock)
            self._url, self.ca_file = listener.url, listener.ca_file
            await stack.enter_async_context(listener.serve(self._application(), RequestLog()))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening; a recording is finished."""
        await self._stack.aclose()

    def _application(self) -> web.Application:
        application = web.Application(
            middlewares=[cors_middleware(), auth_middleware(self.settings, RequestLog())],
            client_max_size=_MAX_BODY_BYTES,
        )
        application.on_response_prepare.append(add_cors_headers)

        async def state(_: web.Request) -> web.Response:
            return respond_json(self._handler.state())

        async def reset(_: web.Request) -> web.Response:
            if isinstance(self._handler, Replayer):
                self._handler.reset()
            return respond_json({})

        if self.settings.control:
            application.router.add_get("/sandbox/cassette", state)
            application.router.add_post("/sandbox/reset", reset)
        application.router.add_route("*", "/{path:.*}", self._handler.handle)
        return application


def recorder(
    path: Path, settings: SandboxSettings, *, upstream: str = REPLICATE, clock: Clock | None = None
) -> CassetteServer:
    """Return a proxy to `upstream` that records into `path`. Raises ValueError for a bad URL."""
    origin = api_origin(upstream)

    async def open_handler(
        stack: AsyncExitStack, settings: SandboxSettings, clock: Clock
    ) -> Recorder:
        writer = CassetteWriter(path, origin)
        stack.callback(writer.close)
        client = await stack.enter_async_context(UpstreamClient(origin, _MAX_FILE_BYTES))
        session = await stack.enter_async_context(_session())
        relay = WebhookRelay(origin, settings, _signer(settings), session)
        begun = clock.monotonic() - writer.begins_at
        recording = Recording(writer, lambda: round(clock.monotonic() - begun, 4))
        handler = Recorder(client, recording, relay, clock, settings)
        stack.push_async_callback(handler.finish, _FINISH_SECONDS)
        return handler

    return CassetteServer(settings, open_handler, clock)


def replayer(
    path: Path, settings: SandboxSettings, *, clock: Clock | None = None
) -> CassetteServer:
    """Return a server that replays `path`."""

    async def open_handler(
        stack: AsyncExitStack, settings: SandboxSettings, clock: Clock
    ) -> Replayer:
        cassette = await asyncio.to_thread(Cassette, path)
        session = await stack.enter_async_context(_session())
        group = await stack.enter_async_context(asyncio.TaskGroup())
        signer = _signer(settings)
        deliverer = WebhookDeliverer(group, session, clock, signer, settings, RequestLog())
        stack.callback(deliverer.stop)
        return Replayer(cassette, settings, clock, signer, ReplayedWebhooks(deliverer))

    return CassetteServer(settings, open_handler, clock)


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())


def _signer(settings: SandboxSettings) -> WebhookSigner:
    return WebhookSigner(settings.webhook_secret or new_secret())
