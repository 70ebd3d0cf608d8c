"""HTTP client for webhooks to callers: egress policy, DNS pinning, signatures, no redirects.

A client of its own: no token, no cookies, no proxy, no redirects. A name is resolved for each post,
and every socket is made for one address, which is checked right there: what was checked is what is
connected to, however the URL was written and whatever a name resolves to the next time. The name
stays in Host and in TLS. Nothing of an answer is read but its status. Webhooks are signed as
Standard Webhooks has it, by its library.
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
from typing import Any, Final, Self
from urllib.parse import urlsplit

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from standardwebhooks import Webhook

from mediagate_server import rpc_context
from mediagate_server.network.egress_policy import EgressPolicy
from mediagate_server.network.request_url import parse_request_url
from mediagate_server.workers.worker_pool import FairSemaphore, QueueFull

_USER_AGENT: Final = f"mediagate/{version('mediagate')}"
_CONNECT_SECONDS: Final = 5.0
_MAX_CONNECTIONS: Final = 300
"""More than are posted at once: a post has its slot already, and waits for no other."""
_Addresses = list[tuple[Any, Any, int, str, tuple[Any, ...]]]
NO_RESPONSE: Final = 0
"""In place of a status."""
_LOOKUP_THREADS: Final = 64
_LOOKUPS_PER_TENANT: Final = 16
_MAX_QUEUED_LOOKUPS: Final = 256
"""Host names of one tenant that wait to be resolved."""


class AddressNotAllowed(OSError):
    """The resolved address is not allowed by the egress policy."""


class WebhookHttpClient:
    """Posts one webhook and returns its HTTP status. An async context manager, for one event loop.

    `timeout`: seconds for one post in all.

    `resolver` takes the place of the system's, for tests.
    """

    def __init__(
        self,
        egress_policy: EgressPolicy,
        *,
        timeout: float = 15.0,
        resolver: Callable[[], AbstractResolver] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._egress_policy = egress_policy
        self._timeout = aiohttp.ClientTimeout(total=timeout, connect=_CONNECT_SECONDS)
        self._resolver = resolver
        self._tls = tls
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._dns = _EgressResolver()

    async def __aenter__(self) -> Self:
        tls = self._tls or httpx.create_ssl_context()
        # Two, because a socket does not know what will be spoken over it.
        for scheme, plaintext in (("https", False), ("http", True)):
            self._sessions[scheme] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=_MAX_CONNECTIONS,
                    ssl=tls,
                    resolver=self._resolver() if self._resolver else self._dns,
                    use_dns_cache=False,
                    force_close=True,
                    socket_factory=_checked_socket_factory(
                        self._egress_policy, plaintext=plaintext
                    ),
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": _USER_AGENT, "Content-Type": "application/json"},
                timeout=self._timeout,
                trust_env=False,
                auto_decompress=False,
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in self._sessions.values():
            await session.close()
        self._dns.shut_down()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """Post once; the HTTP status, or NO_RESPONSE where there was none or nothing was sent."""
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
        """The session for the URL's scheme; None where the URL is not allowed.

        Checked again: what the operator allows may have changed since it was accepted.
        """
        try:
            target = urlsplit(url)
            host, user = target.hostname or "", target.username or target.password
        except ValueError:
            return None
        session = self._sessions.get(target.scheme)
        is_allowed = self._egress_policy.allows_host(host, plaintext=target.scheme != "https")
        return session if is_allowed and user is None else None


class _EgressResolver(AbstractResolver):
    """DNS resolver with threads of its own, a limited number of them for each tenant.

    A name server that does not answer holds a thread for half a minute, and the threads that all
    share have other work. Posts that wait for a name give up earlier than its lookup.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOKUP_THREADS, "webhook-names")
        self._lookup_slots = FairSemaphore(_LOOKUP_THREADS, _LOOKUPS_PER_TENANT)
        self._lookups: set[asyncio.Task[_Addresses]] = set()

    async def close(self) -> None:
        """Does nothing: it serves more than one session. See `shut_down`."""

    def shut_down(self) -> None:
        """Cancel all lookups."""
        for lookup in self._lookups:
            lookup.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve a host name. Raises OSError."""
        resolve = partial(socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM)
        lookup = asyncio.create_task(self._look_up(resolve, rpc_context.current_tenant()))
        self._lookups.add(lookup)
        lookup.add_done_callback(self._ended)
        addresses = await asyncio.shield(lookup)
        return [
            ResolveResult(
                hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol, flags=0
            )
            for kind, _, protocol, _, address in addresses
        ]

    async def _look_up(self, resolve: Callable[[], _Addresses], tenant: str) -> _Addresses:
        """Resolve in a slot that is released with the thread, not when the waiting post ends."""
        try:
            async with self._lookup_slots.acquire(tenant, _MAX_QUEUED_LOOKUPS):
                return await asyncio.get_running_loop().run_in_executor(self._threads, resolve)
        except QueueFull:
            raise OSError("too many names of this tenant wait to be looked up") from None

    def _ended(self, lookup: "asyncio.Task[_Addresses]") -> None:
        self._lookups.discard(lookup)
        if not lookup.cancelled():
            lookup.exception()  # Who waited for it has it, if anybody does still.


def _checked_socket_factory(
    egress_policy: EgressPolicy, *, plaintext: bool
) -> Callable[[Any], socket.socket]:
    """A socket factory that refuses addresses which the egress policy does not allow."""

    def make(info: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
        family, kind, protocol, _, address = info
        if not egress_policy.allows_address(address[0], plaintext=plaintext):
            raise AddressNotAllowed(None, "the address is not one to send to")
        return socket.socket(family, kind, protocol)

    return make


def signed_headers(
    event_id: str, at: datetime, body: bytes, secrets: Sequence[bytes]
) -> dict[str, str]:
    """The headers of one attempt, with a signature by each secret: receivers accept any of them.

    `at` is when it is sent: receivers refuse what is older than a few minutes. `body` is UTF-8.
    """
    text, at = body.decode(), at.astimezone(UTC)  # The library takes any zone for UTC.
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(
            Webhook(secret).sign(event_id, at, text) for secret in secrets
        ),
    }


def format_secret(secret: bytes) -> str:
    """A secret in the text form of Standard Webhooks."""
    return f"whsec_{base64.b64encode(secret).decode()}"
