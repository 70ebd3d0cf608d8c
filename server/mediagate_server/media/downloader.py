"""Media downloader: an HTTP client without a token, limited to an allowlist of hosts."""

import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from types import TracebackType
from typing import Final, Self

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver
from yarl import URL

from mediagate_server.media.media_store import CHUNK_BYTES
from mediagate_server.network.content_encoding import (
    TruncatedContent,
    UndecodableContent,
    decode_content,
    is_encoded,
)
from mediagate_server.network.egress_policy import is_public_address
from mediagate_server.network.request_url import parse_request_url, resolve_redirect
from mediagate_server.upstream.documents.media_references import is_delivery_host

_USER_AGENT: Final = f"mediagate/{version('mediagate')}"
_MAX_REDIRECTS: Final = 3
_MAX_CONNECTIONS: Final = 64
_REDIRECT_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
_TRANSIENT_STATUSES: Final = frozenset({404, 408, 425, 429})
"""Transient statuses, besides every 5xx."""
_HEAD_UNSUPPORTED_STATUSES: Final = frozenset({405, 501})


class DownloadNotAllowed(Exception):
    """The link leads to a host that is not on the allowlist."""


class DownloadFailed(Exception):
    """Download error. `cause` is one of our own words; `is_transient`: a retry may succeed.

    `status` is that of HTTP, where there was a response. `is_absent`: there is no such file, or
    none yet; if it appears, then soon.
    """

    def __init__(
        self, cause: str, *, is_transient: bool, is_absent: bool = False, status: int | None = None
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.is_transient = is_transient
        self.is_absent = is_absent
        self.status = status


@dataclass(frozen=True, slots=True)
class Download:
    """An open download, decoded. `size` in bytes, where the server says."""

    media_type: str
    size: int | None
    chunks: AsyncIterator[bytes]


class MediaDownloader:
    """HTTP client for media, without a token. An async context manager; for one event loop.

    `upstream` is the configured API's base URL: its host and port are allowed besides where
    Replicate keeps outputs. `idle_timeout` (seconds without a byte) is read anew for each file.
    """

    def __init__(
        self, upstream: str, *, idle_timeout: Callable[[], float], connect_timeout: float = 10.0
    ) -> None:
        self._upstream = URL(upstream)
        self._idle_timeout = idle_timeout
        self._connect_timeout = connect_timeout
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        tls: ssl.SSLContext = httpx.create_ssl_context()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=_MAX_CONNECTIONS,
                ssl=tls,
                resolver=_PublicResolver(self._upstream),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"},
            trust_env=False,
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    @asynccontextmanager
    async def open(self, link: str) -> AsyncIterator[Download]:
        """Open a download. Raises DownloadFailed, also while the chunks are read."""
        with _translate_errors():
            async with await self._request("GET", link) as response:
                content_encoding = ",".join(response.headers.getall("Content-Encoding", ()))
                yield Download(
                    response.headers.get("Content-Type", ""),
                    None if is_encoded(content_encoding) else response.content_length,
                    decode_content(response.content.iter_chunked(CHUNK_BYTES), content_encoding),
                )

    async def exists(self, link: str) -> bool:
        """Whether the file of a link exists, by a HEAD request.

        True also where the server does not support HEAD.
        """
        try:
            with _translate_errors():
                async with await self._request("HEAD", link):
                    return True
        except DownloadFailed as failed:
            return failed.status in _HEAD_UNSUPPORTED_STATUSES

    async def _request(self, method: str, link: str) -> aiohttp.ClientResponse:
        """The response with the file; redirects are followed to allowed hosts."""
        url = check_download_url(link, self._upstream)
        timeout = aiohttp.ClientTimeout(
            total=None, connect=self._connect_timeout, sock_read=self._idle_timeout()
        )
        for _ in range(_MAX_REDIRECTS + 1):
            response = await self._session.request(
                method, url, allow_redirects=False, timeout=timeout
            )
            if response.status == 200:
                return response
            response.release()
            target = response.headers.get("Location")
            if response.status not in _REDIRECT_STATUSES or target is None:
                is_transient = response.status in _TRANSIENT_STATUSES or response.status >= 500
                cause = f"http status {response.status}"
                raise DownloadFailed(
                    cause,
                    is_transient=is_transient,
                    is_absent=response.status == 404,
                    status=response.status,
                )
            url = check_download_url(target, self._upstream, redirected_from=url)
        raise DownloadFailed("too many redirects", is_transient=False)


def check_download_url(link: str, upstream: URL, *, redirected_from: URL | None = None) -> URL:
    """Parse and check a link; a redirect from `redirected_from` may be relative. Raises
    DownloadNotAllowed.

    Path and query are not normalised: links may be signed.

    Allowed: https on replicate.delivery and its subdomains, in the Google bucket where Replicate
    keeps files, and the configured upstream itself: that host, port and scheme. A model's output
    must not be able to direct the server to other machines, nor to other services on upstream's.
    """
    try:
        url = (
            resolve_redirect(redirected_from, link) if redirected_from else parse_request_url(link)
        )
        host, port = url.raw_host or "", url.port
    except ValueError as unreadable:
        raise DownloadNotAllowed from unreadable
    if not port:
        raise DownloadNotAllowed
    is_delivery = url.scheme == "https" and is_delivery_host(host, port, url.raw_path)
    is_upstream = url.scheme == upstream.scheme and is_upstream_host(host, port, upstream)
    if not is_delivery and not is_upstream:
        raise DownloadNotAllowed
    return url


def is_upstream_host(host: str, port: int, upstream: URL) -> bool:
    """Whether host and port are the configured upstream's; `host` in ASCII, as it is resolved."""
    return (host.lower(), port) == ((upstream.raw_host or "").lower(), upstream.port)


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Convert any error of a download to DownloadFailed."""
    try:
        yield
    except (DownloadNotAllowed, aiohttp.InvalidURL) as error:
        raise DownloadFailed("its host is not one to fetch from", is_transient=False) from error
    except TimeoutError as error:
        raise DownloadFailed("nothing more came", is_transient=True) from error
    except TruncatedContent as error:
        raise DownloadFailed("the file is cut off", is_transient=True, is_absent=True) from error
    except UndecodableContent as error:
        # A server may send an unrequested encoding only sometimes: retried a few times.
        raise DownloadFailed(str(error), is_transient=True, is_absent=True) from error
    except aiohttp.ClientConnectorDNSError as error:
        if isinstance(error.os_error, _AddressNotPublic):
            cause = "its host leads to an address that is not public"
            raise DownloadFailed(cause, is_transient=False) from error
        raise DownloadFailed("the connection broke", is_transient=True) from error
    except (aiohttp.ClientError, OSError) as error:
        raise DownloadFailed("the connection broke", is_transient=True) from error


class _AddressNotPublic(OSError):
    """An allowed name resolves to a private address. Not transient: it is DNS tampering, or the
    operator's network.
    """


class _PublicResolver(AbstractResolver):
    """Resolver that rejects private addresses of all hosts but upstream's.

    The address that was checked is the one that is connected to.
    """

    def __init__(self, upstream: URL) -> None:
        self._upstream = upstream
        self._inner = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve a name. OSError where one of its addresses is not public."""
        addresses = await self._inner.resolve(host, port, family)
        is_upstream = is_upstream_host(host, port, self._upstream)
        if not is_upstream and not all(is_public_address(result["host"]) for result in addresses):
            raise _AddressNotPublic(None, "the name leads to an address that is not public")
        return addresses

    async def close(self) -> None:
        """Close the resolver behind it."""
        await self._inner.close()
