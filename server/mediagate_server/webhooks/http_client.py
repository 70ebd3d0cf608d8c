"""Posts to where callers say, and to no place that they have no business with.

A client of its own: no token, no cookies, no proxy, no redirects. A name is resolved for each post,
and every socket is made for one address, which is looked at right there: what was looked at is what
is connected to, however the URL was written and whatever a name leads to by the next look. The name
stays in Host and in TLS. Nothing of an answer is read but its status.

Standard Webhooks: signatures of the webhooks that are sent, by the library of the standard.
"""

import asyncio
import base64
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from standardwebhooks import Webhook

from mediagate_server.context import caller
from mediagate_server.network.egress_policy import EgressPolicy
from mediagate_server.network.request_url import parse_request_url
from mediagate_server.workers.worker_pool import FairSemaphore, QueueFull

_USER_AGENT: Final = f"mediagate/{version('mediagate')}"
_CONNECT_SECONDS: Final = 5.0
_MOST_CONNECTIONS: Final = 300
"""More than are posted at once: who posts has a place already, and waits for no other."""
_Addresses = list[tuple[Any, Any, int, str, tuple[Any, ...]]]
NO_RESPONSE: Final = 0
"""In place of a status."""
_LOOKUP_THREADS: Final = 64
_OF_ONE_TENANT: Final = 16
_MOST_LOOKUPS: Final = 256
"""Names of one tenant that wait to be looked up."""


class AddressNotAllowed(OSError):
    """The address is none that may be connected to."""


class WebhookHttpClient:
    """An async context manager, for one event loop. `timeout`: seconds for one post, as a whole.

    `resolver` takes the place of the system's, for tests.
    """

    def __init__(
        self,
        reach: EgressPolicy,
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
        self._names = _EgressResolver()

    async def __aenter__(self) -> Self:
        tls = self._tls or httpx.create_ssl_context()
        # Two, because a socket does not know what will be spoken over it.
        for scheme, plainly in (("https", False), ("http", True)):
            self._sessions[scheme] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=_MOST_CONNECTIONS,
                    ssl=tls,
                    resolver=self._resolver() if self._resolver else self._names,
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
        self._names.end()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """The status of the answer; NO_RESPONSE where there was none, or where nothing was sent."""
        session = self._session(url)
        if session is None:
            return NO_RESPONSE
        try:
            # Letter for letter: a receiver's URL may be signed.
            target = parse_request_url(url)
            async with session.post(
                target, headers=headers, data=body, allow_redirects=False
            ) as answer:
                return answer.status
        except (aiohttp.ClientError, OSError, ValueError):
            # ValueError: a URL that nothing can be sent to.
            return NO_RESPONSE

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
        named = self._reach.allows_host(host, plaintext=parts.scheme != "https")
        return session if named and user is None else None


class _EgressResolver(AbstractResolver):
    """Looks names up in threads of its own: a name server that does not answer holds a thread for
    half a minute, and the threads that all share have other work. A part of them is all that one
    tenant's names get, for as long as the lookups take: posts that wait for them give up earlier.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOKUP_THREADS, "webhook-names")
        self._places = FairSemaphore(_LOOKUP_THREADS, _OF_ONE_TENANT)
        self._lookups: set[asyncio.Task[_Addresses]] = set()

    async def close(self) -> None:
        """See aiohttp.abc.AbstractResolver. It serves more than one session: see `end`."""

    def end(self) -> None:
        """Wait for no name any more."""
        for lookup in self._lookups:
            lookup.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See aiohttp.abc.AbstractResolver."""
        find = partial(socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM)
        lookup = asyncio.create_task(self._look_up(find, caller.current_tenant()))
        self._lookups.add(lookup)
        lookup.add_done_callback(self._ended)
        found = await asyncio.shield(lookup)
        return [
            ResolveResult(
                hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol, flags=0
            )
            for kind, _, protocol, _, address in found
        ]

    async def _look_up(self, find: Callable[[], _Addresses], tenant: str) -> _Addresses:
        """In a place that is given back when the thread is, whoever has left meanwhile."""
        try:
            async with self._places.acquire(tenant, _MOST_LOOKUPS):
                return await asyncio.get_running_loop().run_in_executor(self._threads, find)
        except QueueFull:
            raise OSError("too many names of this tenant wait to be looked up") from None

    def _ended(self, lookup: "asyncio.Task[_Addresses]") -> None:
        self._lookups.discard(lookup)
        if not lookup.cancelled():
            lookup.exception()  # Who waited for it has it, if anybody does still.


def _sockets(reach: EgressPolicy, *, plainly: bool) -> Callable[[Any], socket.socket]:
    """Makes the socket for one resolved address, if it may be connected to."""

    def make(info: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
        family, kind, protocol, _, address = info
        if not reach.allows_address(address[0], plaintext=plainly):
            raise AddressNotAllowed(None, "the address is not one to send to")
        return socket.socket(family, kind, protocol)

    return make


def signed_headers(
    callback_id: str, at: datetime, body: bytes, secrets: Sequence[bytes]
) -> dict[str, str]:
    """The headers of one try, with a signature by each secret: receivers take any that they know.

    `at` is when it is sent: receivers refuse what is older than a few minutes. `body` is UTF-8.
    """
    text, at = body.decode(), at.astimezone(UTC)  # The library takes any zone for UTC.
    return {
        "webhook-id": callback_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(
            Webhook(secret).sign(callback_id, at, text) for secret in secrets
        ),
    }


def format_secret(secret: bytes) -> str:
    """A secret as it is shown, and as every library of Standard Webhooks takes it."""
    return f"whsec_{base64.b64encode(secret).decode()}"
