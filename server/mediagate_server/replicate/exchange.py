"""One HTTP exchange without the SDK between: what every paid call waits for, and nothing else.

Create and get go this way because the SDK's half of them cost more than all of our own work, and
the library's half of the rest (docs/decisions/0006). Connecting, TLS, the pool of connections and
the reading of answers stay aiohttp's; the request is put together here. What an answer means is
decided in the same places as for the SDK's way.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import aiohttp
from aiohttp.connector import Connection as Borrowed
from aiohttp.http import HttpProcessingError, RawResponseMessage
from yarl import URL

from mediagate_server import failpoints
from mediagate_server.replicate.bodies import LARGEST_ERROR, read_body, receive_body
from mediagate_server.replicate.large_bodies import MOST_INLINE, Body, LargeBodies
from mediagate_server.replicate.port import NoAnswer, Refusal, Refused, UpstreamError
from mediagate_server.replicate.refusals import failure_of, unanswered, unreachable
from mediagate_server.replicate.settings import ReplicateSettings, api_root

_PATH: Final = re.compile(r"/[!-~]*")
_BUFFER: Final = 64 * 1024
"""Bytes of an answer that are held before upstream has to wait; twice that at the most."""


class Exchange:
    """Sends to paths of the API, exactly once each: no retry, no redirect, no cookie.

    The token goes with every request, so an address is only ever made of the base URL and a path.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: ReplicateSettings,
        headers: Mapping[str, str],
        large: LargeBodies,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if session.connector is None:
            raise ValueError("the session is closed")
        root = URL(api_root(settings.base_url))
        # Never sent: it is by what a request looks like that the pool knows where to connect to.
        self._like = aiohttp.ClientRequest(
            "GET", root, loop=asyncio.get_running_loop(), session=session
        )
        self._pool = session.connector
        self._large = large
        self._root = root.raw_path
        self._head = "".join(
            f"{name}: {value}\r\n"
            for name, value in {"Host": self._like.headers["Host"], **headers}.items()
        )
        self._now = now
        # Overall time is bounded in `send`; these are the phases before a byte is sent.
        self._phases = aiohttp.ClientTimeout(
            total=None, connect=settings.connect_timeout, sock_connect=settings.connect_timeout
        )
        self._tells = failpoints.is_armed("after_send")

    async def send(
        self,
        method: str,
        path: str,
        *,
        within: float,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        may_send: Callable[[], bool] | None = None,
    ) -> Body:
        """The body of a 2xx that came within so many seconds. Raises Refused or NoAnswer.

        `path` begins with a slash and is sent as it is: what is in it is quoted already; so are
        the values of `headers`, which are ours.

        `may_send` has the last word before the first byte goes. Between the decision to send and
        that byte lies the wait for a connection. A process can stand still in it for as long as its
        machine likes, and what was right before may be wrong after: another process may have taken
        over and declared that the request was never sent.
        """
        request = self._request(method, path, content, headers or {})
        try:
            async with asyncio.timeout(within) as timer:
                connection = await self._connected()
                try:
                    if may_send is not None and not may_send():
                        raise Refused(Refusal.UNREACHABLE)
                    body = await self._answer(connection, request, timer)
                except BaseException:
                    connection.close()
                    raise
                _give_back(connection)
                return body
        except TimeoutError as late:
            raise NoAnswer("timeout") from late

    def _request(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]
    ) -> bytes:
        """All bytes of it."""
        if not _PATH.fullmatch(path):
            raise ValueError("a path must be quoted")
        own = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if content is not None:
            own += f"Content-Length: {len(content)}\r\n"
        head = f"{method} {self._root}{path} HTTP/1.1\r\n{self._head}{own}\r\n"
        return head.encode("ascii") + (content or b"")

    async def _connected(self) -> Borrowed:
        """A connection out of the pool, or a new one."""
        started = asyncio.get_running_loop().time()
        try:
            return await self._pool.connect(self._like, traces=[], timeout=self._phases)
        except (aiohttp.ClientError, OSError) as failure:
            took = asyncio.get_running_loop().time() - started
            if isinstance(failure, TimeoutError):
                raise unreachable(took) from failure
            raise unanswered(failure, took) from failure

    async def _answer(self, connection: Borrowed, request: bytes, timer: asyncio.Timeout) -> Body:
        """Send, once, and read what is answered."""
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None or transport.is_closing():
            raise NoAnswer("the connection broke")
        protocol.set_response_params(
            read_until_eof=True, auto_decompress=False, read_bufsize=_BUFFER
        )
        transport.write(request)
        if self._tells:
            # By then the loop has handed the bytes over.
            asyncio.get_running_loop().call_soon(failpoints.hit, "after_send")
        try:
            message, payload = await protocol.read()
            while 100 <= message.code < 200 and message.code != 101:
                message, payload = await protocol.read()
        except (aiohttp.ClientError, OSError, HttpProcessingError) as failure:
            raise NoAnswer("the connection broke") from failure
        if not 200 <= message.code < 300:
            raise await self._failure(message, payload)
        packing = message.headers.get("Content-Encoding")
        if packing is None and payload.is_eof() and payload.exception() is None:
            # Most are there with their heads: those need no reader that waits.
            body = payload.read_nowait()
            if len(body) <= MOST_INLINE:
                return body
            return await self._large.receive(body, payload.iter_any(), message.code, timer)
        chunks = payload.iter_any()
        return await receive_body(chunks, message.code, packing, self._large, timer)

    async def _failure(
        self, message: RawResponseMessage, payload: aiohttp.StreamReader
    ) -> UpstreamError:
        """The status alone decides what happened; the body, if it comes, only adds to it."""
        try:
            packing = message.headers.get("Content-Encoding")
            body = await read_body(payload.iter_any(), message.code, packing, LARGEST_ERROR)
        except NoAnswer:
            body = b""
        return failure_of(message.code, message.headers, body, self._now())


def _give_back(connection: Borrowed) -> None:
    """To the pool, unless there is more to come, or still something of the request to go."""
    transport = connection.transport
    if transport is not None and transport.get_write_buffer_size():
        connection.close()
    else:
        connection.release()
