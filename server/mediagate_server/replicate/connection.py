"""The sockets to upstream: who owns them, how many there may be, what they never carry.

Knows addresses and limits, no predictions. Sessions keep no cookies, read no environment (a proxy
or a netrc entry could add credentials) and hold no token: it is set by the SDK's client and by
`Exchange`, on requests to the API alone.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from replicate.client import Client as Sdk

from mediagate_server.replicate.exchange import Exchange
from mediagate_server.replicate.large_bodies import LargeBodies
from mediagate_server.replicate.pushing import PushingConnector
from mediagate_server.replicate.settings import ReplicateSettings, api_root
from mediagate_server.replicate.transport import AnswerTransport

USER_AGENT = f"mediagate/{version('mediagate')}"
_STREAM_BUFFER = 64 * 1024  # a stream nobody reads holds twice this, then upstream has to wait


@dataclass(frozen=True, slots=True)
class Connection:
    """What is open while the client is: the API over one pool, streams over another.

    `exchange` is for what every call waits for, `sdk` for the rest.
    """

    sdk: Sdk
    exchange: Exchange
    streams: aiohttp.ClientSession


@asynccontextmanager
async def connect(settings: ReplicateSettings, large: LargeBodies) -> AsyncIterator[Connection]:
    """Open the pools (no connection is made yet) and close them, with all they hold, at the end."""
    tls = httpx.create_ssl_context()  # certifi's authorities, or SSL_CERT_FILE's where it is set
    async with (
        _session(aiohttp.TCPConnector, settings.max_connections, settings, tls) as api,
        _session(PushingConnector, settings.max_streams, settings, tls) as streams,
    ):
        transport = AnswerTransport(
            # Given a session it makes none; given the context it does not load another.
            AiohttpTransport(client=api, verify=tls),
            large=large,
        )
        sdk = _sdk(settings, transport)
        yield Connection(sdk, Exchange(api, settings, _headers(settings), large), streams)


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
    """What every request to the API says of us."""
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
    """The SDK's client with what it does on its own switched off."""
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
    # `AnswerTransport` already turns every answer it would retry into an exception.
    client._transport.max_attempts = 1  # type: ignore[attr-defined]  # noqa: SLF001
    return sdk
