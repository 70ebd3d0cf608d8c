"""HTTP exchanges: raw create and get, response bodies, and the transport of the SDK.

`HttpExchange` sends create and get without the SDK, because its part of them cost more than all of
our own work, and the library's part the half of the rest (docs/decisions/0006). Connecting, TLS,
pooling and reading stay aiohttp's. `ResponseTransport` is below the SDK for all other requests: it
turns each exchange into a whole body or our exception, because the SDK's own errors lose headers,
`retry_after` and `invalid_fields`, and fail on bodies that are no objects.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Final, cast

import aiohttp
import httpx
from aiohttp.connector import Connection as Borrowed
from aiohttp.http import HttpProcessingError, RawResponseMessage
from yarl import URL

from mediagate_server.network.content_encoding import (
    TruncatedContent,
    UndecodableContent,
    decode_content,
    is_encoded,
)
from mediagate_server.runtime import failpoints
from mediagate_server.upstream.port import NoResponse, RefusalReason, RequestRefused, UpstreamError
from mediagate_server.upstream.replicate.error_mapping import (
    connect_error,
    error_for_exception,
    error_for_response,
)
from mediagate_server.upstream.replicate.large_responses import (
    MAX_MEMORY_BYTES,
    Body,
    LargeResponses,
)
from mediagate_server.upstream.settings import ReplicateSettings, api_root

MAX_ERROR_BYTES = 64 * 1024
"""Largest error body that is read, in bytes."""


async def read_success_body(
    chunks: AsyncIterator[bytes],
    status: int,
    encoding: str | None,
    large: LargeResponses,
    within: asyncio.Timeout | None,
) -> Body:
    """Read the body of a 2xx, decoded: as bytes where it is small, else into a file.

    A small one that breaks off is returned as far as it came.
    """
    chunks = _decode_if_encoded(chunks, encoding)
    read: list[bytes] = []
    size = 0
    try:
        async for chunk in chunks:
            size += len(chunk)
            read.append(chunk)
            if size > MAX_MEMORY_BYTES:
                start = b"".join(read)
                read.clear()
                return await large.receive(start, chunks, status, within)
    except (httpx.HTTPError, aiohttp.ClientError, OSError):
        if not read:
            raise NoResponse("the connection broke in the answer") from None
    return b"".join(read)


async def read_error_body(
    chunks: AsyncIterator[bytes], status: int, encoding: str | None, largest: int
) -> bytes:
    """Read a body, decoded. One that breaks off is returned as far as it came.

    JSON says itself whether it is complete. Raises NoResponse where nothing came before it broke,
    or more than `largest` bytes.
    """
    read: list[bytes] = []
    size = 0
    try:
        async for chunk in _decode_if_encoded(chunks, encoding):
            size += len(chunk)
            if size > largest:
                raise NoResponse("the answer is too large", http_status=status)
            read.append(chunk)
    except (httpx.HTTPError, aiohttp.ClientError, OSError):
        if not read:
            raise NoResponse("the connection broke in the answer") from None
    return b"".join(read)


def _decode_if_encoded(chunks: AsyncIterator[bytes], encoding: str | None) -> AsyncIterator[bytes]:
    """Decode where needed: some servers encode in spite of `identity`."""
    return _decode(chunks, encoding) if is_encoded(encoding) else chunks


async def _decode(chunks: AsyncIterator[bytes], encoding: str | None) -> AsyncIterator[bytes]:
    """Decode; a truncated body counts as far as it came."""
    try:
        async for chunk in decode_content(chunks, encoding):
            yield chunk
    except TruncatedContent:
        return
    except UndecodableContent as undecodable:
        raise NoResponse(f"the answer cannot be read: {undecodable}") from None


_PATH: Final = re.compile(r"/[!-~]*")
_BUFFER: Final = 64 * 1024
"""Bytes that are buffered before upstream has to wait; twice that at most."""


class HttpExchange:
    """Sends requests to the API, exactly once each: no retry, no redirect, no cookie.

    The token goes with every request, so a URL is always the base URL and a path.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: ReplicateSettings,
        headers: Mapping[str, str],
        large: LargeResponses,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if session.connector is None:
            raise ValueError("the session is closed")
        root = URL(api_root(settings.base_url))
        # Never sent: the pool takes the address of a connection from a request.
        self._template = aiohttp.ClientRequest(
            "GET", root, loop=asyncio.get_running_loop(), session=session
        )
        self._pool = session.connector
        self._large = large
        self._root = root.raw_path
        self._head = "".join(
            f"{name}: {value}\r\n"
            for name, value in {"Host": self._template.headers["Host"], **headers}.items()
        )
        self._now = now
        # `send` limits the overall time; this is for the phases before a byte is sent.
        self._connect_timeout = aiohttp.ClientTimeout(
            total=None, connect=settings.connect_timeout, sock_connect=settings.connect_timeout
        )
        self._has_failpoint = failpoints.is_armed("after_send")

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
        """The body of a 2xx within so many seconds. Raises RequestRefused or NoResponse.

        `path` begins with a slash and is sent as it is: it must be quoted already; so must the
        values of `headers`.

        `may_send` is called right before the first byte. Between the decision to send and that byte
        lies the wait for a connection, in which the process may be paused for any time, and another
        process may have taken over and declared that the request was never sent.
        """
        request = self._request(method, path, content, headers or {})
        try:
            async with asyncio.timeout(within) as timer:
                connection = await self._connect()
                try:
                    if may_send is not None and not may_send():
                        raise RequestRefused(RefusalReason.UNREACHABLE)
                    body = await self._exchange(connection, request, timer)
                except BaseException:
                    connection.close()
                    raise
                _return_to_pool(connection)
                return body
        except TimeoutError as error:
            raise NoResponse("timeout") from error

    def _request(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]
    ) -> bytes:
        """The bytes of a request."""
        if not _PATH.fullmatch(path):
            raise ValueError("a path must be quoted")
        own = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if content is not None:
            own += f"Content-Length: {len(content)}\r\n"
        head = f"{method} {self._root}{path} HTTP/1.1\r\n{self._head}{own}\r\n"
        return head.encode("ascii") + (content or b"")

    async def _connect(self) -> Borrowed:
        """A connection from the pool, or a new one."""
        started = asyncio.get_running_loop().time()
        try:
            return await self._pool.connect(
                self._template, traces=[], timeout=self._connect_timeout
            )
        except (aiohttp.ClientError, OSError) as failure:
            took = asyncio.get_running_loop().time() - started
            if isinstance(failure, TimeoutError):
                raise connect_error(took) from failure
            raise error_for_exception(failure, took) from failure

    async def _exchange(self, connection: Borrowed, request: bytes, timer: asyncio.Timeout) -> Body:
        """Send once, and read the response."""
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None or transport.is_closing():
            raise NoResponse("the connection broke")
        protocol.set_response_params(
            read_until_eof=True, auto_decompress=False, read_bufsize=_BUFFER
        )
        transport.write(request)
        if self._has_failpoint:
            # By then the bytes are with the operating system.
            asyncio.get_running_loop().call_soon(failpoints.hit, "after_send")
        try:
            message, payload = await protocol.read()
            while 100 <= message.code < 200 and message.code != 101:
                message, payload = await protocol.read()
        except (aiohttp.ClientError, OSError, HttpProcessingError) as failure:
            raise NoResponse("the connection broke") from failure
        if not 200 <= message.code < 300:
            raise await self._failure(message, payload)
        encoding = message.headers.get("Content-Encoding")
        if encoding is None and payload.is_eof() and payload.exception() is None:
            # Most bodies come with their heads: those need no waiting reader.
            body = payload.read_nowait()
            if len(body) <= MAX_MEMORY_BYTES:
                return body
            return await self._large.receive(body, payload.iter_any(), message.code, timer)
        chunks = payload.iter_any()
        return await read_success_body(chunks, message.code, encoding, self._large, timer)

    async def _failure(
        self, message: RawResponseMessage, payload: aiohttp.StreamReader
    ) -> UpstreamError:
        """The exception of an error response: by its status, with details of its body, if any."""
        try:
            encoding = message.headers.get("Content-Encoding")
            body = await read_error_body(
                payload.iter_any(), message.code, encoding, MAX_ERROR_BYTES
            )
        except NoResponse:
            body = b""
        return error_for_response(message.code, message.headers, body, self._now())


def _return_to_pool(connection: Borrowed) -> None:
    """Return a connection to the pool, unless bytes of the request are still unsent."""
    transport = connection.transport
    if transport is not None and transport.get_write_buffer_size():
        connection.close()
    else:
        connection.release()


FILE_EXTENSION: Final = "mediagate.file"
"""Response extension with the file of a large body."""
TIMER_EXTENSION: Final = "mediagate.timer"
"""Request extension with its timeout."""


class ResponseTransport(httpx.AsyncBaseTransport):
    """Transport that returns a 2xx with its body read, and raises RequestRefused or NoResponse.

    A large body is in the extension FILE_EXTENSION instead of the content. Redirects are never
    followed.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        *,
        large: LargeResponses,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._inner = inner
        self._large = large
        self._now = now

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send once, and read the response."""
        started = asyncio.get_running_loop().time()
        try:
            response = await self._inner.handle_async_request(request)
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as failure:
            took = asyncio.get_running_loop().time() - started
            raise error_for_exception(failure, took) from failure
        try:
            if not response.is_success:
                raise await self._failure(response)
            body = await self._body(response, request.extensions.get(TIMER_EXTENSION))
        finally:
            await response.aclose()
        if isinstance(body, bytes):
            return httpx.Response(response.status_code, content=body, request=request)
        return httpx.Response(
            response.status_code, extensions={FILE_EXTENSION: body}, request=request
        )

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    async def _failure(self, response: httpx.Response) -> UpstreamError:
        """The exception of an error response: by its status, with details of its body, if any."""
        try:
            body = await read_error_body(
                _chunks(response),
                response.status_code,
                response.headers.get("Content-Encoding"),
                MAX_ERROR_BYTES,
            )
        except NoResponse:
            body = b""
        return error_for_response(response.status_code, response.headers, body, self._now())

    async def _body(self, response: httpx.Response, timer: asyncio.Timeout | None) -> Body:
        encoding = response.headers.get("Content-Encoding")
        chunks = _chunks(response)
        return await read_success_body(chunks, response.status_code, encoding, self._large, timer)


def _chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    """The raw body: not decoded, and not kept by httpx."""
    return aiter(cast("httpx.AsyncByteStream", response.stream))
