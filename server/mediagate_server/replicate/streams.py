"""One open stream: a GET without the token, read as it comes. Parsing is in `events.py`.

Which hosts may be asked is decided in `addresses.py` before this is called.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import TracebackType

import aiohttp
from yarl import URL

from mediagate_server.replicate.events import EventParser, EventTooLarge
from mediagate_server.replicate.port import DoneEvent, NoAnswer, Refusal, Refused, StreamEvent
from mediagate_server.replicate.refusals import failure_of, unanswered
from mediagate_server.replicate.settings import ReplicateSettings

_LARGEST_ERROR = 64 * 1024


class OpenStream:
    """See `port.Upstream.stream`. Leaving it closes the connection at once, read or not.

    No generator: a thousand silent streams may be open, and each would keep its frame.
    """

    __slots__ = ("_last_event_id", "_reads", "_response", "_session", "_settings", "_url")

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: URL,
        last_event_id: str | None,
        settings: ReplicateSettings,
    ) -> None:
        self._session = session
        self._url = url
        self._last_event_id = last_event_id
        self._settings = settings
        self._response: aiohttp.ClientResponse | None = None
        self._reads: StreamReads | None = None

    async def __aenter__(self) -> AsyncIterator[tuple[StreamEvent, ...]]:
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
        if self._last_event_id:
            headers["Last-Event-ID"] = self._last_event_id
        try:
            async with asyncio.timeout(self._settings.read_timeout):
                response = await _get(self._session, self._url, headers, self._settings)
                self._response = response
                await _check(response)
        except TimeoutError as late:
            self._close()
            raise NoAnswer("the stream did not open in time") from late
        except BaseException:
            self._close()
            raise
        self._reads = StreamReads(
            response.content,
            EventParser(self._settings.max_event_bytes),
            self._settings.stream_idle_timeout,
        )
        return self._reads

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._reads is not None:
            self._reads.close()
        if self._response is not None:
            self._response.close()


async def _get(
    session: aiohttp.ClientSession, url: URL, headers: dict[str, str], settings: ReplicateSettings
) -> aiohttp.ClientResponse:
    timeouts = aiohttp.ClientTimeout(
        total=None,
        connect=settings.connect_timeout,
        sock_connect=settings.connect_timeout,
    )
    try:
        return await session.get(url, headers=headers, allow_redirects=False, timeout=timeouts)
    except ValueError as unsendable:  # a Last-Event-ID that no header can hold
        raise Refused(Refusal.OTHER) from unsendable
    except aiohttp.ClientError as failure:
        raise unanswered(failure) from failure


async def _check(response: aiohttp.ClientResponse) -> None:
    """Only a 200 that says it is an event stream is one."""
    if not 200 <= response.status < 300:
        try:
            body = await response.content.read(_LARGEST_ERROR)
        except (aiohttp.ClientError, OSError):
            body = b""
        raise failure_of(response.status, response.headers, body, datetime.now(UTC))
    if response.status != 200 or response.content_type != "text/event-stream":
        raise NoAnswer("the stream's address answers something else", http_status=response.status)


class StreamReads:
    """The events of each socket read. Ends after `done`, at the end of the connection or when
    nothing came for the idle time; the three look the same, as they do to any reader.

    The idle time is kept by one timer that looks now and then when the last read was: aiohttp's
    own is set anew at every read, which is at every token.
    """

    __slots__ = ("_content", "_idle", "_last", "_loop", "_over", "_parser", "_timer")

    def __init__(self, content: aiohttp.StreamReader, parser: EventParser, idle: float) -> None:
        self._content = content
        self._parser = parser
        self._over = False
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer = self._loop.call_later(idle, self._look)

    def close(self) -> None:
        """Nobody reads any more."""
        self._timer.cancel()

    def _look(self) -> None:
        left = self._last + self._idle - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._content.set_exception(aiohttp.SocketTimeoutError("nothing came"))

    def __aiter__(self) -> "StreamReads":
        return self

    async def __anext__(self) -> tuple[StreamEvent, ...]:
        """What the next read completed; reads on until that is something."""
        while not self._over:
            read = await self._read()
            self._over = not read
            try:
                batch = self._parser.feed(read)
            except EventTooLarge as endless:
                self._over = True
                raise NoAnswer("the stream holds an event without an end") from endless
            for place, event in enumerate(batch):
                if isinstance(event, DoneEvent):
                    self._over = True
                    return batch[: place + 1]
            if batch:
                return batch
        raise StopAsyncIteration

    async def _read(self) -> bytes:
        """All bytes that have come, as one; empty at the end."""
        try:
            read = await self._content.readany()
            self._last = self._loop.time()
            return read
        except aiohttp.SocketTimeoutError:
            return b""
        except (aiohttp.ClientError, OSError) as broken:
            self._over = True
            raise NoAnswer("the stream broke") from broken
