"""One open stream: a GET without the token, read as it comes. Parsing is in `sse_parser.py`.

Which hosts may be asked is decided in `url_rules.py` before this is called.

Streams from which nothing comes any more: found by one look at all of them, now and then.

A timer for each would be set anew with each read, which is with each token, or cost half a KiB for
each stream; a stream that is silent a little longer than it may is none the worse for it.
"""

import asyncio
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Final, Protocol, cast

import aiohttp
from yarl import URL

from mediagate_server.context import caller
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
"""How often to look within the time that a stream may be silent."""


class MonitoredStream(Protocol):
    """A stream that is read. `last` is when something came, by the event loop's time."""

    last: float

    def on_idle_timeout(self) -> None:
        """Nothing has come for too long. It is looked at no more."""
        ...


class IdleStreamMonitor:
    """Watches those that are listened to. `longest` in seconds: how long each may be silent."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._streams: set[MonitoredStream] = set()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, stream: MonitoredStream) -> None:
        """It is listened to from now on."""
        self._streams.add(stream)
        if self._timer is None:
            self._schedule_check()

    def forget(self, stream: MonitoredStream) -> None:
        """It is not listened to any more; nothing where it was not."""
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
"""In which the end of a body comes behind its last event."""
_MAX_UNCHARGED_BYTES = 32 * 1024
"""Bytes that are parsed within half a millisecond; of tokens there are seldom so many waiting."""


class SseStream:
    """See `port.Upstream.stream`. Leaving it closes the connection at once, read or not.

    Where upstream has said that the stream is done, the end of the body is on its way: the
    connection is kept for it, and serves the next stream. To make one costs more than a token.

    No generator: a thousand silent streams may be open, and each would keep its frame.
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
    """Only a 200 that says it is an event stream is one."""
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
    """Streams whose last event has come, for as long as the end of the body is on its way."""

    def __init__(self) -> None:
        self._closing: dict[aiohttp.ClientResponse, asyncio.TimerHandle] = {}

    def add(self, response: aiohttp.ClientResponse) -> None:
        """Until the body ends, when aiohttp takes the connection back, or does not in time."""
        loop = asyncio.get_running_loop()
        self._closing[response] = loop.call_later(_END_SECONDS, self._close, response)
        response.content.on_eof(partial(self._forget, response))

    def close(self) -> None:
        """Close all of them, at the end of the client."""
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
    """The body of an open stream, handed on as it comes; see `port.EventStream`.

    The end of the connection and a silence that lasts too long look the same, as they do to any
    reader. Implements silence.Listening.
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
        # Asked for here: what a connection calls later runs as whoever opened it.
        self._tenant = caller.current_tenant()
        self._pause: asyncio.TimerHandle | None = None
        """Until its tenant may hold the event loop again. What comes meanwhile waits upstream."""
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
        """Upstream has said that nothing will follow."""
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
        """Nothing is taken from the connection any more, which may serve another request."""
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
        """Take what has come."""
        self.last = self._loop.time()
        if self._pause is not None:
            return
        content, handler = self._content, self._handler
        held = True
        try:
            while held:
                # What is taken from a reader that was full lets more of what has come into it.
                held = handler is not None and handler.is_paused
                read = content.read_nowait()
                take = self._parse_charged if len(read) > _MAX_UNCHARGED_BYTES else self._parse
                if take(read):
                    return
        except EventTooLarge:
            self._finish(NoResponse("the stream holds an event without an end"))
        except (aiohttp.ClientError, OSError):
            self._finish(NoResponse("the stream broke"))
        except Exception as failure:  # noqa: BLE001 - it belongs to whoever waits for the end
            self._finish(failure)
        else:
            if content.is_eof():
                self._finish()

    def _parse(self, read: bytes) -> bool:
        """Take what has come; whether that was all that is wanted."""
        batch = self._parser.feed(read)
        if batch and self._take(batch):
            self.is_done = isinstance(batch[-1], DoneEvent)
            self._finish()
            return True
        return False

    def _parse_charged(self, read: bytes) -> bool:
        """The same with what may hold the event loop for long; also true where it is to wait."""
        tenant, started = self._tenant, self._share.clock()
        if self._parse(read):
            return True
        # Each is short, and a flood has thousands of them.
        self._share.record_usage(tenant, self._share.clock() - started, least=0.0)
        delay = self._share.delay(tenant)
        if delay:
            self._pause = self._loop.call_later(delay, self._resume)
        return delay > 0

    def _resume(self) -> None:
        self._pause = None
        self._read()
