"""Between the SDK and the sockets: every HTTP exchange becomes a whole body or our exception.

The SDK's own errors lose headers, `retry_after` and `invalid_fields`, and break on bodies that
are not objects; so no failure reaches it. Knows HTTP and nothing of predictions.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Final, cast

import aiohttp
import httpx

from mediagate_server.replicate.bodies import LARGEST_ERROR, read_body, receive_body
from mediagate_server.replicate.large_bodies import Body, LargeBodies
from mediagate_server.replicate.port import NoAnswer, UpstreamError
from mediagate_server.replicate.refusals import failure_of, unanswered

FILE: Final = "mediagate.file"
"""The extension of an answer whose body is a file."""
TIMER: Final = "mediagate.timer"
"""The extension of a request that holds its time limit."""


class AnswerTransport(httpx.AsyncBaseTransport):
    """Answers 200-299 with their body read; anything else is Refused or NoAnswer.

    A large body is in the extension FILE instead of the content. Redirects are never followed.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        *,
        large: LargeBodies,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._inner = inner
        self._large = large
        self._now = now

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One exchange, sent once."""
        started = asyncio.get_running_loop().time()
        try:
            response = await self._inner.handle_async_request(request)
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as failure:
            took = asyncio.get_running_loop().time() - started
            raise unanswered(failure, took) from failure
        try:
            if not response.is_success:
                raise await self._failure(response)
            body = await self._body(response, request.extensions.get(TIMER))
        finally:
            await response.aclose()
        if isinstance(body, bytes):
            return httpx.Response(response.status_code, content=body, request=request)
        return httpx.Response(response.status_code, extensions={FILE: body}, request=request)

    async def aclose(self) -> None:
        """Close the transport that was handed in."""
        await self._inner.aclose()

    async def _failure(self, response: httpx.Response) -> UpstreamError:
        """The status alone decides what happened; the body, if it comes, only adds to it."""
        try:
            body = await read_body(
                _chunks(response),
                response.status_code,
                response.headers.get("Content-Encoding"),
                LARGEST_ERROR,
            )
        except NoAnswer:
            body = b""
        return failure_of(response.status_code, response.headers, body, self._now())

    async def _body(self, response: httpx.Response, timer: asyncio.Timeout | None) -> Body:
        packing = response.headers.get("Content-Encoding")
        chunks = _chunks(response)
        return await receive_body(chunks, response.status_code, packing, self._large, timer)


def _chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it comes: not unpacked, and not kept by httpx."""
    return aiter(cast("httpx.AsyncByteStream", response.stream))
