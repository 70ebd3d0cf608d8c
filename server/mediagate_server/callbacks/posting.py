"""Posts to where callers say, and to no place that they have no business with.

A client of its own: no token, no cookies, no proxy, no redirects. A name is resolved for each post,
and every socket is made for one address, which is looked at right there: what was looked at is what
is connected to, however the URL was written and whatever a name leads to by the next look. The name
stays in Host and in TLS. Nothing of an answer is read but its status.
"""

import socket
import ssl
from collections.abc import Callable, Mapping
from importlib.metadata import version
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver

from mediagate_server.internet import Reach

_USER_AGENT: Final = f"mediagate/{version('mediagate')}"
_CONNECT_SECONDS: Final = 5.0
_MOST_CONNECTIONS: Final = 64
NO_ANSWER: Final = 0
"""In place of a status."""


class NotReachable(OSError):
    """The address is none that may be connected to."""


class Poster:
    """An async context manager, for one event loop. `timeout`: seconds for one post, as a whole.

    `resolver` takes the place of the system's, for tests.
    """

    def __init__(
        self,
        reach: Reach,
        *,
        timeout: float = 15.0,
        resolver: Callable[[], AbstractResolver] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._reach = reach
        self._timeout = aiohttp.ClientTimeout(total=timeout, connect=_CONNECT_SECONDS)
        self._resolver = resolver
        self._tls = tls
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Self:
        tls = self._tls or httpx.create_ssl_context()
        # Two, because a socket does not know what will be spoken over it.
        for scheme, plainly in (("https", False), ("http", True)):
            self._sessions[scheme] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=_MOST_CONNECTIONS,
                    ssl=tls,
                    resolver=self._resolver() if self._resolver else None,
                    use_dns_cache=False,
                    force_close=True,
                    socket_factory=_sockets(self._reach, plainly=plainly),
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": _USER_AGENT, "Content-Type": "application/json"},
                timeout=self._timeout,
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
        for session in self._sessions.values():
            await session.close()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """The status of the answer; NO_ANSWER where there was none, or where nothing was sent."""
        session = self._session(url)
        if session is None:
            return NO_ANSWER
        try:
            async with session.post(
                url, headers=headers, data=body, allow_redirects=False
            ) as answer:
                return answer.status
        except (aiohttp.ClientError, OSError, ValueError):
            # ValueError: a URL that the library cannot make anything of.
            return NO_ANSWER

    def _session(self, url: str) -> aiohttp.ClientSession | None:
        """The one for the URL's scheme; None where the URL itself says that it may not be sent to.

        Looked at again: what the operator lets in may have changed since it was accepted.
        """
        try:
            parts = urlsplit(url)
            host, user = parts.hostname or "", parts.username or parts.password
        except ValueError:
            return None
        session = self._sessions.get(parts.scheme)
        named = self._reach.may_name(host, plainly=parts.scheme != "https")
        return session if named and user is None else None


def _sockets(reach: Reach, *, plainly: bool) -> Callable[[Any], socket.socket]:
    """Makes the socket for one resolved address, if it may be connected to."""

    def make(info: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
        family, kind, protocol, _, address = info
        if not reach.includes(address[0], plainly=plainly):
            raise NotReachable(None, "the address is not one to send to")
        return socket.socket(family, kind, protocol)

    return make
