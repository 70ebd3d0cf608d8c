"""HTTP client of the recorder: upstream's API, and downloads of output files from other hosts.

Files are fetched over https from public addresses only, or from upstream itself: an output must not
be able to direct the recorder at machines of the network it runs in.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import uuid
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from mediagate_sandbox.cassettes.cassette_file import MediaFile, MediaFolder

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_ATTEMPTS = 3
_READ_SECONDS = 300
"""How long upstream may be silent; a synchronous create is for a minute."""
_CHUNK = 256 * 1024
_NOT_FORWARDED = frozenset(
    {"host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
    | {"proxy-authorization", "proxy-connection", "content-length", "accept-encoding", "expect"}
    | {"content-encoding"}
)
_STREAM_DOMAINS = (".replicate.com", ".replicate.net")
_DOWNLOAD_HEADERS = (
    "Content-Type",
    "Content-Disposition",
    "ETag",
    "Last-Modified",
    "Cache-Control",
)


class DownloadRefused(Exception):
    """The link leads where the recorder does not go."""


@dataclass(frozen=True, slots=True)
class UpstreamResponse:
    """A whole response of upstream's."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Download:
    """The response of a download; `file` where there is one."""

    status: int
    headers: Mapping[str, str]
    file: MediaFile | None


class UpstreamClient:
    """Client of one upstream. An async context manager."""

    def __init__(self, origin: str, max_file_bytes: int) -> None:
        """`origin` is upstream's; files that are larger are not kept."""
        self.origin = origin
        self._max_file_bytes = max_file_bytes
        self._stack = AsyncExitStack()
        self._api: aiohttp.ClientSession
        self._files: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_READ_SECONDS)
        plain: dict[str, Any] = {
            "cookie_jar": aiohttp.DummyCookieJar(),
            "timeout": timeout,
            "skip_auto_headers": ("User-Agent", "Content-Type"),
        }
        connector = aiohttp.TCPConnector(limit=0)
        self._api = await self._stack.enter_async_context(
            aiohttp.ClientSession(connector=connector, **plain)
        )
        checked = aiohttp.TCPConnector(limit=16, resolver=_PublicResolver(URL(self.origin)))
        self._files = await self._stack.enter_async_context(
            aiohttp.ClientSession(connector=checked, **plain)
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def send(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> UpstreamResponse:
        """Send one request to the API. Raises aiohttp.ClientError and OSError."""
        async with self.request(method, self.origin + target, headers, body) as response:
            return UpstreamResponse(response.status, response.headers, await response.read())

    def request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes = b""
    ) -> aiohttp.client._RequestContextManager:
        """Open a request to the API or to a stream; redirects are the caller's.

        The token goes to upstream and to Replicate's own streaming hosts, and to no other.
        """
        sent = {k: v for k, v in headers.items() if k.lower() not in _NOT_FORWARDED}
        sent["Accept-Encoding"] = "identity"
        is_own = url.startswith(f"{self.origin}/")
        if not is_own and not (URL(url).host or "").endswith(_STREAM_DOMAINS):
            sent = {k: v for k, v in sent.items() if k.lower() not in ("authorization", "cookie")}
        return (self._api if is_own else self._files).request(
            method,
            URL(url, encoded=True),
            headers=sent,
            data=body or None,
            allow_redirects=False,
        )

    async def download(self, link: str, media: MediaFolder) -> Download:
        """Download a file, without a token; what fails in passing is tried again.

        Raises DownloadRefused, aiohttp.ClientError and OSError.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                download = await self._download(link, media)
            except (aiohttp.ClientError, OSError):
                if attempt == _ATTEMPTS:
                    raise
            else:
                if download.status < 500 or attempt == _ATTEMPTS:
                    return download
            await asyncio.sleep(0.2 * attempt)
        raise AssertionError

    async def _download(self, link: str, media: MediaFolder) -> Download:
        url = self._checked(link)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
        headers = {"Accept-Encoding": "identity"}
        for _ in range(_MOST_REDIRECTS + 1):
            async with self._files.get(
                url, headers=headers, allow_redirects=False, timeout=timeout
            ) as response:
                if response.status not in _REDIRECTS:
                    return await self._stored(response, media)
                location = response.headers.get("Location", "")
            url = self._checked(str(url.join(URL(location, encoded=True))))
        raise DownloadRefused("too many redirects")

    async def _stored(self, response: aiohttp.ClientResponse, media: MediaFolder) -> Download:
        kept = {
            name: response.headers[name] for name in _DOWNLOAD_HEADERS if name in response.headers
        }
        if response.status != 200:
            return Download(response.status, kept, None)
        digest, size = hashlib.sha256(), 0
        partial = media.partial_path(uuid.uuid4().hex)
        try:
            with partial.open("wb") as file:
                async for chunk in response.content.iter_chunked(_CHUNK):
                    size += len(chunk)
                    if size > self._max_file_bytes:
                        raise DownloadRefused("the file is too large")
                    digest.update(chunk)
                    await asyncio.to_thread(file.write, chunk)
            return Download(200, kept, media.adopt(partial, digest.hexdigest(), size))
        finally:
            partial.unlink(missing_ok=True)

    def may_download(self, link: str) -> bool:
        """Whether a link leads to where files are fetched from, as far as it says itself."""
        try:
            self._checked(link)
        except DownloadRefused:
            return False
        return True

    def _checked(self, link: str) -> URL:
        """Parse a link. Raises DownloadRefused unless it is upstream's own, or public and https."""
        try:
            url = URL(link, encoded=True)
            host = url.host or ""
            is_upstream = url.origin() == URL(self.origin).origin()
        except ValueError:
            raise DownloadRefused("it is no link") from None
        if not is_upstream and (url.scheme != "https" or not _may_be_public(host)):
            raise DownloadRefused("it is not https to a public host")
        return url


def _may_be_public(host: str) -> bool:
    """Whether a host is a public address, or a name that may have one."""
    try:
        return is_public(host)
    except ValueError:
        # An IPv4 address has other forms (2130706433, 0x7f.1), which no resolver needs to see.
        last = host.rstrip(".").rpartition(".")[2].lower()
        return "." in host and not last[:1].isdigit() and last not in ("localhost", "local")


def is_public(address: str) -> bool:
    """Whether an IP address is public. Raises ValueError for what is none."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip.sixtofour or ip.teredo or ip not in _GLOBAL_UNICAST:
            return False
    return ip.is_global and not ip.is_multicast


class _PublicResolver(AbstractResolver):
    """Resolver that refuses names that lead to addresses that are not public, but upstream's."""

    def __init__(self, upstream: URL) -> None:
        self._upstream = upstream
        self._inner = aiohttp.DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve a name. Raises OSError where one of its addresses is not public."""
        addresses = await self._inner.resolve(host, port, family)
        is_upstream = (host, port) == (self._upstream.raw_host, self._upstream.port)
        if not is_upstream and not all(is_public(each["host"]) for each in addresses):
            raise OSError("the name leads to an address that is not public")
        return addresses

    async def close(self) -> None:
        """Close the resolver behind it."""
        await self._inner.close()
