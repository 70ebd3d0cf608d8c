"""Connections to upstream: the pools of the API and of streams, and the SDK's client.

Sessions have no cookies, ignore the environment (a proxy or a netrc entry could add credentials)
and hold no token: the SDK's client and `HttpExchange` set it, for requests to the API only.

Connections for streams push: aiohttp wakes a task for each chunk of a body, which costs more than
the chunk of a stream that is one token, a fifth of all work for it (docs/decisions/0010). So these
call a function when data has come, which takes it out of the reader immediately. aiohttp has no
public way to use a connection class, so one private attribute is set here, which a test checks.
"""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from httpx_aiohttp import AiohttpTransport
from replicate.client import Client as Sdk

from mediagate_server.upstream.replicate.http_exchange import HttpExchange, ResponseTransport
from mediagate_server.upstream.replicate.large_responses import LargeResponses
from mediagate_server.upstream.settings import ReplicateSettings, api_root


class PushResponseHandler(ResponseHandler):
    """One connection. `on_read` is called whenever bytes of a body, or its end, may be there."""

    def __init__(self, loop: Any) -> None:
        super().__init__(loop)
        self.on_read: Callable[[], None] | None = None
        self.is_paused = False
        """Whether reading is paused, because the buffer is full."""

    def data_received(self, data: bytes) -> None:
        """Feed the parser, then call `on_read`."""
        super().data_received(data)
        # Without data it was called by the reader within a read.
        if data and self.on_read is not None:
            self.on_read()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the body, then call `on_read`."""
        super().connection_lost(exc)
        if self.on_read is not None:
            self.on_read()

    def pause_reading(self) -> None:
        """Called by the reader where its buffer is full."""
        self.is_paused = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's
        """Called by the reader after each read, paused or not; no-op where not paused."""
        if self.is_paused:
            self.is_paused = False
            super().resume_reading(resume_parser)


class PushConnector(aiohttp.TCPConnector):
    """TCP connector that opens push connections."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # A partial of the library's own class, by its annotation.
        self._factory = partial(PushResponseHandler, loop=self._loop)  # type: ignore[assignment]


USER_AGENT = f"mediagate/{version('mediagate')}"
_STREAM_BUFFER = 64 * 1024  # an unread stream buffers twice this, then upstream has to wait


@dataclass(frozen=True, slots=True)
class UpstreamConnection:
    """Open pools of a client: one for the API and one for streams.

    `exchange` is for create and get, `sdk` for all other requests.
    """

    sdk: Sdk
    exchange: HttpExchange
    streams: aiohttp.ClientSession


@asynccontextmanager
async def open_connection(
    settings: ReplicateSettings, large: LargeResponses
) -> AsyncIterator[UpstreamConnection]:
    """Open the pools (no connection yet) and close them, with all connections, at the end."""
    tls = httpx.create_ssl_context()  # certifi's authorities, or SSL_CERT_FILE's where it is set
    async with (
        _session(aiohttp.TCPConnector, settings.max_connections, settings, tls) as api,
        _session(PushConnector, settings.max_streams, settings, tls) as streams,
    ):
        transport = ResponseTransport(
            # Given a session it makes none; given the context it does not load another.
            AiohttpTransport(client=api, verify=tls),
            large=large,
        )
        sdk = _sdk(settings, transport)
        yield UpstreamConnection(
            sdk, HttpExchange(api, settings, _headers(settings), large), streams
        )


def _session(
    connections: type[aiohttp.TCPConnector],
    limit: int,
    settings: ReplicateSettings,
    tls: ssl.SSLContext,
) -> aiohttp.ClientSession:
    connector = connections(limit=limit, ssl=tls, keepalive_timeout=settings.keepalive)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": USER_AGENT},
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,
        read_bufsize=_STREAM_BUFFER,
    )


def _headers(settings: ReplicateSettings) -> dict[str, str]:
    """Headers of every request to the API."""
    headers = {
        "User-Agent": USER_AGENT,
        "Accept": "application/json",
        # Bodies are small or hold media that does not shrink; unpacking costs more.
        "Accept-Encoding": "identity",
    }
    if settings.token is not None:
        headers["Authorization"] = f"Bearer {settings.token}"
    return headers


def _sdk(settings: ReplicateSettings, transport: httpx.AsyncBaseTransport) -> Sdk:
    """The SDK's client, with its own retries and token look-up switched off."""
    sdk = Sdk(
        base_url=api_root(settings.base_url),  # else it would read REPLICATE_BASE_URL
        transport=transport,
        # Authorization always set: without it the SDK looks for a token in the environment and
        # in `cog`, and would send it to an upstream that was configured to get none.
        headers={"Authorization": "none", **_headers(settings)},
    )
    client = sdk._async_client  # noqa: SLF001 - the SDK shows it in no other way
    if settings.token is None:
        del client.headers["Authorization"]
    # The SDK would send reads again up to ten times, sleeping as long as upstream says.
    # `ResponseTransport` already turns every answer it would retry into an exception.
    client._transport.max_attempts = 1  # type: ignore[attr-defined]  # noqa: SLF001
    return sdk
