"""One HTTP exchange without the SDK between: what every paid call waits for, and nothing else.

Create and get go this way because the SDK's half of them cost more than all of our own work
(docs/decisions/0020). What an answer means is decided in the same places as for the SDK's way.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import aiohttp
from yarl import URL

from mediagate_server.replicate.bodies import LARGEST_ERROR, read_body, unpacked
from mediagate_server.replicate.last_look import last_look
from mediagate_server.replicate.port import NoAnswer, UpstreamError
from mediagate_server.replicate.refusals import failure_of, unanswered
from mediagate_server.replicate.settings import ReplicateSettings, api_root


class Exchange:
    """Sends to paths of the API, exactly once each: no retry, no redirect, no cookie.

    The token goes with every request, so an address is only ever made of the base URL and a path.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: ReplicateSettings,
        headers: Mapping[str, str],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._session = session
        self._root = api_root(settings.base_url)
        self._largest = settings.max_body_bytes
        self._headers = dict(headers)
        self._now = now
        # Overall time is bounded in `send`; these are the phases before a byte is sent.
        self._phases = aiohttp.ClientTimeout(
            total=None, connect=settings.connect_timeout, sock_connect=settings.connect_timeout
        )

    async def send(
        self,
        method: str,
        path: str,
        *,
        within: float,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        may_send: Callable[[], bool] | None = None,
    ) -> bytes:
        """The body of a 2xx that came within so many seconds. Raises Refused or NoAnswer.

        `path` begins with a slash and is sent as it is: what is in it is quoted already.
        `may_send` has the last word before `content` goes.
        """
        try:
            with last_look(may_send):
                async with asyncio.timeout(within):
                    return await self._answer(method, path, content, headers)
        except TimeoutError as late:
            raise NoAnswer("timeout") from late

    async def _answer(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str] | None
    ) -> bytes:
        try:
            response = await self._session.request(
                method,
                URL(self._root + path, encoded=True),
                data=content,
                headers=self._headers if headers is None else {**self._headers, **headers},
                allow_redirects=False,
                auto_decompress=False,
                timeout=self._phases,
            )
        except (aiohttp.ClientError, OSError) as failure:
            raise unanswered(failure) from failure
        try:
            if not 200 <= response.status < 300:
                raise await self._failure(response)
            body = await read_body(response.content.iter_any(), response.status, self._largest)
            return unpacked(body, response.headers.get("Content-Encoding"), self._largest)
        finally:
            # A body that was read to its end has given the connection back already.
            response.close()

    async def _failure(self, response: aiohttp.ClientResponse) -> UpstreamError:
        """The status alone decides what happened; the body, if it comes, only adds to it."""
        try:
            body = await read_body(response.content.iter_any(), response.status, LARGEST_ERROR)
        except NoAnswer:
            body = b""
        return failure_of(response.status, response.headers, body, self._now())
