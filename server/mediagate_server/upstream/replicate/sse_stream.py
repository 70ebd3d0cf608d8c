"""SSE streams: one GET without the API token, read as it arrives; with a shared idle timeout.

Events are parsed in `sse_parser.py`; `api_urls.py` decides which hosts are allowed. The timeout
has one timer for all streams: one for each would be reset with each token, or cost half a KiB per
stream. So a stream may be silent a little longer than the timeout.
"""

import asyncio
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Final, Protocol, cast

import aiohttp
from yarl import URL

from mediagate_server import rpc_context
from mediagate_server.runtime.fair_scheduler import FairScheduler
from mediagate_server.upstream.port import (
    DoneEvent,
    EventSink,
    EventStream,
    NoResponse,
    RefusalReason,
    RequestRefused,
)
from mediagate_server.upstream.replicate.connection import PushResponseHandler
from mediagate_server.upstream.replicate.error_mapping import (
    error_for_exception,
    error_for_response,
)
from mediagate_server.upstream.replicate.sse_parser import EventTooLarge, SseParser
from mediagate_server.upstream.settings import ReplicateSettings

_CHECKS_PER_TIMEOUT: Final = 10
"""Checks per timeout."""


class MonitoredStream(Protocol):
    """A stream with an idle timeout. `last` is the loop time of its last data."""

    last: float

    def on_idle_timeout(self) -> None:
        """Called once when the timeout is over."""
        ...


class IdleStreamMonitor:
    """Idle timeout of streams, in seconds, with one timer for all."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._streams: set[MonitoredStream] = set()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, stream: MonitoredStream) -> None:
        """Start watching a stream."""
        self._streams.add(stream)
        if self._timer is None:
            self._schedule_check()

    def forget(self, stream: MonitoredStream) -> None:
        """Stop watching a stream; no-op where it is not watched."""
        self._streams.discard(stream)
        if not self._streams and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule_check(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._timeout / _CHECKS_PER_TIMEOUT, self._check)

    def _check(self) -> None:
        self._schedule_check()
        latest = asyncio.get_running_loop().time() - self._timeout
        for stream in [each for each in self._streams if each.last <= latest]:
            self.forget(stream)
            stream.on_idle_timeout()


_LARGEST_ERROR = 64 * 1024
_END_SECONDS = 1.0
"""Seconds in which the body must end after the last event."""
_MAX_UNCHARGED_BYTES = 32 * 1024
"""Bytes that are parsed in half a millisecond; token streams seldom have more."""


class SseStream:
    """One event stream of a prediction. Leaving it closes the connection immediately.

    After a DoneEvent the body is about to end: the connection is kept for that, and serves the next
    stream, because a new one costs more than a token.

    No generator: a thousand idle streams may be open, and each would keep its frame.
    """

    __slots__ = (
        "_done",
        "_last_event_id",
        "_opened",
        "_response",
        "_session",
        "_settings",
        "_share",
        "_silence",
        "_url",
    )

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: URL,
        last_event_id: str | None,
        settings: ReplicateSettings,
        silence: IdleStreamMonitor,
        share: FairScheduler,
        done: "ClosingStreams",
    ) -> None:
        self._share = share
        self._done = done
        self._session = session
        self._url = url
        self._last_event_id = last_event_id
        self._settings = settings
        self._silence = silence
        self._response: aiohttp.ClientResponse | None = None
        self._opened: SseReader | None = None

    async def __aenter__(self) -> EventStream:
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
            raise NoResponse("the stream did not open in time") from late
        except BaseException:
            self._close()
            raise
        self._opened = SseReader(
            response, self._silence, self._share, self._settings.max_event_bytes
        )
        return self._opened

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        response = self._response
        if kind is None and response and self._opened and self._opened.is_done:
            self._done.add(response)
        else:
            self._close()

    def _close(self) -> None:
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
        raise RequestRefused(RefusalReason.OTHER) from unsendable
    except aiohttp.ClientError as failure:
        raise error_for_exception(failure) from failure


async def _check(response: aiohttp.ClientResponse) -> None:
    """Check that the response is 200 and an event stream."""
    if not 200 <= response.status < 300:
        try:
            body = await response.content.read(_LARGEST_ERROR)
        except (aiohttp.ClientError, OSError):
            body = b""
        raise error_for_response(response.status, response.headers, body, datetime.now(UTC))
    # aiohttp's own reading of it keeps 1.5 KiB for as long as the stream is open.
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if response.status != 200 or kind != "text/event-stream":
        raise NoResponse("the stream's address answers something else", http_status=response.status)


class ClosingStreams:
    """Responses that wait for the end of their body after the last event."""

    def __init__(self) -> None:
        self._closing: dict[aiohttp.ClientResponse, asyncio.TimerHandle] = {}

    def add(self, response: aiohttp.ClientResponse) -> None:
        """Wait for the end of the body, when aiohttp reuses the connection; else close it."""
        loop = asyncio.get_running_loop()
        self._closing[response] = loop.call_later(_END_SECONDS, self._close, response)
        response.content.on_eof(partial(self._forget, response))

    def close(self) -> None:
        """Close all, at the end of the client."""
        for response in tuple(self._closing):
            self._close(response)

    def _close(self, response: aiohttp.ClientResponse) -> None:
        self._forget(response)
        response.close()

    def _forget(self, response: aiohttp.ClientResponse) -> None:
        closing = self._closing.pop(response, None)
        if closing is not None:
            closing.cancel()


class SseReader:
    """Reader of an open stream, which pushes events; see `port.EventStream`.

    A closed connection and an idle timeout look the same to the caller. A MonitoredStream.
    """

    __slots__ = (
        "_content",
        "_end",
        "_failure",
        "_handler",
        "_loop",
        "_parser",
        "_pause",
        "_share",
        "_silence",
        "_take",
        "_tenant",
        "is_done",
        "last",
    )

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        silence: IdleStreamMonitor,
        share: FairScheduler,
        max_event_bytes: int,
    ) -> None:
        self._share = share
        # Read here: calls by the connection run in the context of whoever opened it.
        self._tenant = rpc_context.current_tenant()
        self._pause: asyncio.TimerHandle | None = None
        """Until its tenant may use the event loop again. Data waits upstream meanwhile."""
        self._content = response.content
        connection = response.connection
        # None where all of the body came with the headers: then it is in `content`.
        self._handler = cast("PushResponseHandler", connection.protocol) if connection else None
        self._parser = SseParser(max_event_bytes)
        self._silence = silence
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[None] = self._loop.create_future()
        self._failure: Exception | None = None
        self._take: EventSink
        self.is_done = False
        """Whether a DoneEvent came."""
        self.last = self._loop.time()

    async def forward_to(self, take: EventSink) -> None:
        """Give all events to `take` as they come, those of one socket read together."""
        self._take = take
        if self._handler is not None:
            self._handler.on_read = self._read
        self._silence.watch(self)
        self._read()
        try:
            await self._end
        finally:
            self._detach()
        failure, self._failure = self._failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                # It refers to this frame. Did the frame refer to it, all that is here, a quarter of
                # a MiB, would wait for the collector of cycles.
                del failure

    def on_idle_timeout(self) -> None:
        """End the stream: nothing came for the idle timeout."""
        self._finish()

    def _detach(self) -> None:
        """Stop reading: the connection may serve another request."""
        self._silence.forget(self)
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._handler is not None:
            self._handler.on_read = None
            self._handler = None

    def _finish(self, failure: Exception | None = None) -> None:
        self._detach()
        if self._end.done():
            return
        self._failure = failure
        self._end.set_result(None)

    def _read(self) -> None:
        """Read and push all data that has arrived."""
        self.last = self._loop.time()
        if self._pause is not None:
            return
        content, handler = self._content, self._handler
        was_paused = True
        try:
            while was_paused:
                # A read from a full buffer lets more arrived data into it.
                was_paused = handler is not None and handler.is_paused
                read = content.read_nowait()
                take = self._parse_charged if len(read) > _MAX_UNCHARGED_BYTES else self._parse
                if take(read):
                    return
        except EventTooLarge:
            self._finish(NoResponse("the stream holds an event without an end"))
        except (aiohttp.ClientError, OSError):
            self._finish(NoResponse("the stream broke"))
        except Exception as failure:  # noqa: BLE001 - re-raised by forward_to
            self._finish(failure)
        else:
            if content.is_eof():
                self._finish()

    def _parse(self, read: bytes) -> bool:
        """Parse and push what was read. True where the receiver wants no more."""
        batch = self._parser.feed(read)
        if batch and self._take(batch):
            self.is_done = isinstance(batch[-1], DoneEvent)
            self._finish()
            return True
        return False

    def _parse_charged(self, read: bytes) -> bool:
        """Parse a large read, and charge its tenant. Also true where the tenant has to wait."""
        tenant, started = self._tenant, self._share.clock()
        if self._parse(read):
            return True
        # Charged from 0 s on: each is short, and a flood has thousands of them.
        self._share.record_usage(tenant, self._share.clock() - started, least=0.0)
        delay = self._share.delay(tenant)
        if delay:
            self._pause = self._loop.call_later(delay, self._resume)
        return delay > 0

    def _resume(self) -> None:
        self._pause = None
        self._read()
