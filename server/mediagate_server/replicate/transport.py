"""Between the SDK and the sockets: every HTTP exchange becomes a whole body or our exception.

The SDK's own errors lose headers, `retry_after` and `invalid_fields`, and break on bodies that
are not objects; so no failure reaches it. Knows HTTP and nothing of predictions.
"""

import zlib
from collections.abc import Callable
from datetime import UTC, datetime

import aiohttp
import httpx

from mediagate_server.replicate.port import NoAnswer, Refusal, Refused, UpstreamError
from mediagate_server.replicate.refusals import failure_of

_LARGEST_ERROR = 64 * 1024


class AnswerTransport(httpx.AsyncBaseTransport):
    """Answers 200-299 with their body read; anything else is Refused or NoAnswer.

    `largest` bounds a body in bytes, packed and unpacked. Redirects are never followed.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        *,
        largest: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._inner = inner
        self._largest = largest
        self._now = now

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One exchange, sent once."""
        try:
            response = await self._inner.handle_async_request(request)
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as failure:
            raise unanswered(failure) from failure
        try:
            if not response.is_success:
                raise await self._failure(response)
            body = await self._body(response)
        finally:
            await response.aclose()
        return httpx.Response(response.status_code, content=body, request=request)

    async def aclose(self) -> None:
        """Close the transport that was handed in."""
        await self._inner.aclose()

    async def _failure(self, response: httpx.Response) -> UpstreamError:
        """The status alone decides what happened; the body, if it comes, only adds to it."""
        try:
            body = await _read(response, _LARGEST_ERROR)
        except NoAnswer:
            body = b""
        return failure_of(response.status_code, response.headers, body, self._now())

    async def _body(self, response: httpx.Response) -> bytes:
        body = await _read(response, self._largest)
        packing = response.headers.get("Content-Encoding", "identity").strip().lower()
        if packing in ("", "identity"):
            return body
        if packing not in ("gzip", "x-gzip", "deflate"):
            raise NoAnswer("the answer is packed in an unknown way")
        return _unpacked(body, self._largest)


def unanswered(failure: Exception) -> UpstreamError:
    """Was anything sent? Only a failure to connect proves that nothing was.

    The adapter between httpx and aiohttp calls every broken connection a connect timeout, also
    one that broke after the request was written, so aiohttp's own exception is looked at.
    """
    told = failure if isinstance(failure, aiohttp.ClientError) else failure.__cause__
    if isinstance(told, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return Refused(Refusal.UNREACHABLE)
    return NoAnswer("the connection broke")


async def _read(response: httpx.Response, largest: int) -> bytes:
    """The body as sent. One that breaks off is given as far as it came.

    JSON says itself whether it is whole, and a prediction whose id was read is no doubt any more.
    """
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in response.stream:  # type: ignore[union-attr]
            size += len(chunk)
            if size > largest:
                raise NoAnswer("the answer is too large", http_status=response.status_code)
            chunks.append(chunk)
    except (httpx.HTTPError, aiohttp.ClientError, OSError):
        if not chunks:
            raise NoAnswer("the connection broke in the answer") from None
    return b"".join(chunks)


def _unpacked(body: bytes, largest: int) -> bytes:
    """Asked for identity, some servers pack all the same. The bound holds while unpacking."""
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        unpacked = unpacker.decompress(body, largest)
    except zlib.error as broken:
        raise NoAnswer("the answer cannot be unpacked") from broken
    if unpacker.unconsumed_tail:
        raise NoAnswer("the answer is too large")
    return unpacked
