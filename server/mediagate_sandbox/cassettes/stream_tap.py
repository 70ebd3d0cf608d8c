"""Recording of an event stream: read from upstream once, for any number of clients.

It is read to its end even if its clients leave, so that it is recorded whole.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping

import aiohttp

from mediagate_sandbox.broadcast_event import BroadcastEvent
from mediagate_sandbox.cassettes.links import event_name
from mediagate_sandbox.cassettes.upstream_client import UpstreamClient, UpstreamResponse

STREAM_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store"}

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_ID = re.compile(rb"(?m)^id: ?(.*?)\r?$")
_FINAL_EVENTS = (b"done", b"completed")
_LARGEST_BLOCK = 64 * 1024 * 1024


def event_id(block: bytes) -> str | None:
    """Return the id of a server-sent event."""
    match = _ID.search(block)
    return match.group(1).decode("utf-8", "replace") if match else None


def is_final(block: bytes) -> bool:
    """Whether an event is the last one of its stream."""
    return event_name(block) in _FINAL_EVENTS


def resume_index(blocks: list[bytes], last_event_id: str | None) -> int:
    """Return where a reader goes on that has seen an id; 0 for an id that is not there."""
    for index, block in enumerate(blocks):
        if last_event_id is not None and event_id(block) == last_event_id:
            # Who already has the last event gets it again rather than waiting for ever.
            return index if is_final(block) else index + 1
    return 0


class StreamTap:
    """One stream of upstream's: its events so far, and a task that reads on."""

    def __init__(self, url: str, record: Callable[[bytes], None]) -> None:
        """`record` is called with each event as it comes."""
        self.url = url
        self._record = record
        self._blocks: list[bytes] = []
        self._ids: set[str] = set()
        self._again: list[bytes] = []
        self._grown = BroadcastEvent()
        self._opening = asyncio.Lock()
        self._is_open = False

    @property
    def count(self) -> int:
        """How many events have come."""
        return len(self._blocks)

    @property
    def is_done(self) -> bool:
        """Whether the last event has come."""
        return bool(self._blocks) and is_final(self._blocks[-1])

    async def open(
        self,
        client: UpstreamClient,
        headers: Mapping[str, str],
        spawn: Callable[..., object],
    ) -> UpstreamResponse | None:
        """Connect, unless it is connected or done; what upstream answers if it is no stream.

        Raises aiohttp.ClientError and OSError.
        """
        async with self._opening:
            if self._is_open or self.is_done:
                return None
            sent = {k: v for k, v in headers.items() if k.lower() != "last-event-id"}
            last = next((i for i in map(event_id, reversed(self._blocks)) if i), None)
            if last is not None:
                sent["Last-Event-ID"] = last
            response = await client.request("GET", self.url, sent)
            if response.status != 200 or response.content_type != "text/event-stream":
                async with response:
                    return UpstreamResponse(
                        response.status, response.headers, await response.read()
                    )
            # Without ids a stream cannot be resumed: it begins again.
            self._again = [] if last else [each for each in self._blocks if event_name(each)]
            self._is_open = True
            spawn(self._read(response))
            return None

    async def follow(self, last_event_id: str | None) -> AsyncGenerator[bytes, None]:
        """Iterate over the events after an id, live, until the connection ends."""
        index = resume_index(self._blocks, last_event_id)
        while True:
            while index < len(self._blocks):
                yield self._blocks[index]
                index += 1
            if not self._is_open:
                return
            await self._grown.wait()

    async def wait_until_closed(self) -> None:
        """Wait for the end of the connection to upstream."""
        while self._is_open:
            await self._grown.wait()

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        is_first_connection = not self._blocks
        buffer = b""
        try:
            async with response:
                async for chunk in response.content.iter_any():
                    buffer += chunk
                    while (end := _END.search(buffer)) is not None:
                        block, buffer = buffer[: end.end()], buffer[end.end() :]
                        self._take(block, with_comments=is_first_connection)
                    if len(buffer) > _LARGEST_BLOCK:
                        return
        except (aiohttp.ClientError, OSError):
            pass  # It ends here for the clients, too: they connect again.
        finally:
            self._is_open = False
            self._grown.notify()

    def _take(self, block: bytes, *, with_comments: bool) -> None:
        identifier = event_id(block)
        if not event_name(block):
            if not with_comments:
                return
        elif identifier is not None:
            if identifier in self._ids:
                return
            self._ids.add(identifier)
        elif self._again:
            expected = self._again.pop(0)
            if expected == block:
                return
            self._again = []
        self._blocks.append(block)
        self._record(block)
        self._grown.notify()
