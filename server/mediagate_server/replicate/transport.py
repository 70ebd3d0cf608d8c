"""Between the SDK and the sockets: every HTTP exchange becomes a whole body or our exception.

The SDK's own errors lose headers, `retry_after` and `invalid_fields`, and break on bodies that
are not objects; so no failure reaches it. Knows HTTP and nothing of predictions.
"""

from collections.abc import AsyncIterable, Callable
from datetime import UTC, datetime
from typing import cast

import aiohttp
import httpx

from mediagate_server.replicate.bodies import LARGEST_ERROR, read_body, unpacked
from mediagate_server.replicate.port import NoAnswer, UpstreamError
from mediagate_server.replicate.refusals import failure_of, unanswered


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
            body = await read_body(_chunks(response), response.status_code, LARGEST_ERROR)
        except NoAnswer:
            body = b""
        return failure_of(response.status_code, response.headers, body, self._now())

    async def _body(self, response: httpx.Response) -> bytes:
        body = await read_body(_chunks(response), response.status_code, self._largest)
        return unpacked(body, response.headers.get("Content-Encoding"), self._largest)


def _chunks(response: httpx.Response) -> AsyncIterable[bytes]:
    """The body as it comes: not unpacked, and not kept by httpx."""
    return cast("httpx.AsyncByteStream", response.stream)
