"""Fetches finished media: a client of its own, which has no token and goes to few hosts only."""

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

from mediagate_server.content_encoding import (
    TruncatedContent,
    UndecodableContent,
    decode_content,
    is_encoded,
)
from mediagate_server.internet import is_global
from mediagate_server.outputs.addresses import NotAllowed, is_upstreams, may_fetch
from mediagate_server.outputs.port import CHUNK_BYTES

_USER_AGENT: Final = f"mediagate/{version('mediagate')}"
_MOST_REDIRECTS: Final = 3
_MOST_CONNECTIONS: Final = 64
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAY_PASS: Final = frozenset({404, 408, 425, 429})
"""Statuses that may pass; like every 5xx."""
_NO_HEAD: Final = frozenset({405, 501})


class FetchFailed(Exception):
    """The file did not come. `cause` is one of our own words; `passing`: it may come later.

    `status` is that of HTTP, where there was an answer. `absent`: there is no such file, or none
    yet; if it comes, then soon.
    """

    def __init__(
        self, cause: str, *, passing: bool, absent: bool = False, status: int | None = None
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.passing = passing
        self.absent = absent
        self.status = status


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that is coming, decoded. `size` in bytes, where the server says."""

    media_type: str
    size: int | None
    chunks: AsyncIterator[bytes]


class Fetcher:
    """The token-free client. An async context manager; for one event loop.

    `upstream` is the configured API's base URL: its host and port are allowed besides
    where Replicate keeps outputs. `idle_timeout` (seconds without a byte) is asked anew for each
    file.
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
                limit=_MOST_CONNECTIONS,
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
    async def open(self, link: str) -> AsyncIterator[Fetched]:
        """Begin to fetch. FetchFailed, also while the chunks are read."""
        with _told_as_failures():
            async with await self._follow("GET", link) as answer:
                packing = ",".join(answer.headers.getall("Content-Encoding", ()))
                yield Fetched(
                    answer.headers.get("Content-Type", ""),
                    None if is_encoded(packing) else answer.content_length,
                    decode_content(answer.content.iter_chunked(CHUNK_BYTES), packing),
                )

    async def is_there(self, link: str) -> bool:
        """Whether the link still leads to the file. Nothing is fetched.

        True also where the server does not say: it answers no such question.
        """
        try:
            with _told_as_failures():
                async with await self._follow("HEAD", link):
                    return True
        except FetchFailed as failed:
            return failed.status in _NO_HEAD

    async def _follow(self, method: str, link: str) -> aiohttp.ClientResponse:
        """The answer with the file; redirects are followed where they lead to an allowed host."""
        url = may_fetch(link, self._upstream)
        timeout = aiohttp.ClientTimeout(
            total=None, connect=self._connect_timeout, sock_read=self._idle_timeout()
        )
        for _ in range(_MOST_REDIRECTS + 1):
            answer = await self._session.request(
                method, url, allow_redirects=False, timeout=timeout
            )
            if answer.status == 200:
                return answer
            answer.release()
            target = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or target is None:
                passing = answer.status in _MAY_PASS or answer.status >= 500
                cause = f"http status {answer.status}"
                raise FetchFailed(
                    cause, passing=passing, absent=answer.status == 404, status=answer.status
                )
            url = may_fetch(target, self._upstream, seen_from=url)
        raise FetchFailed("too many redirects", passing=False)


@contextmanager
def _told_as_failures() -> Iterator[None]:
    """Whatever a fetch may raise, as FetchFailed."""
    try:
        yield
    except (NotAllowed, aiohttp.InvalidURL) as error:
        raise FetchFailed("its host is not one to fetch from", passing=False) from error
    except TimeoutError as error:
        raise FetchFailed("nothing more came", passing=True) from error
    except TruncatedContent as error:
        raise FetchFailed("the file is cut off", passing=True, absent=True) from error
    except UndecodableContent as error:
        # A server that encodes what nobody asked for may do so by turns: it is asked a few times.
        raise FetchFailed(str(error), passing=True, absent=True) from error
    except aiohttp.ClientConnectorDNSError as error:
        if isinstance(error.os_error, _NotPublic):
            cause = "its host leads to an address that is not public"
            raise FetchFailed(cause, passing=False) from error
        raise FetchFailed("the connection broke", passing=True) from error
    except (aiohttp.ClientError, OSError) as error:
        raise FetchFailed("the connection broke", passing=True) from error


class _NotPublic(OSError):
    """Nothing that is tried again may become something else: a name of Replicate's that leads
    inside is somebody's doing, or the operator's network.
    """


class _PublicResolver(AbstractResolver):
    """Names of other places than upstream's lead to addresses of the public internet only.

    The address that was looked at is the one that is connected to.
    """

    def __init__(self, upstream: URL) -> None:
        self._upstream = upstream
        self._inner = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The name's addresses. OSError where one of them is not public."""
        found = await self._inner.resolve(host, port, family)
        own = is_upstreams(host, port, self._upstream)
        if not own and not all(is_global(result["host"]) for result in found):
            raise _NotPublic(None, "the name leads to an address that is not public")
        return found

    async def close(self) -> None:
        """Close the resolver behind it."""
        await self._inner.close()
