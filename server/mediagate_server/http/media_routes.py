"""Media links on the public port: a signed link reads one stored file until it expires.

In full or in ranges (RFC 9110), so that players can seek. What models make is hostile until proven
otherwise: nothing of it may run as a page on this host.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

import structlog
from aiohttp import hdrs, web

from mediagate_server.http.servers import mark_recognized
from mediagate_server.media.media_store import MediaStore, StorageFailed, StoredFile, output_key
from mediagate_server.media.signed_links import MEDIA_PATH, MediaLinkSigner
from mediagate_server.observability import metrics
from mediagate_server.runtime.fair_scheduler import FairScheduler, StreamBandwidth

_MAX_READERS: Final = 256
_WRITE_TIMEOUT: Final = 60.0
"""Seconds that a reader may take for one chunk."""
_WRITE_TIMEOUT_WHEN_FULL: Final = 3.0
"""The same while all reader slots are in use: stalled readers keep nobody else out."""
_READERS: Final = "readers of links"
"""Readers show no key: all of them scheduler the event loop's time as one tenant."""
_EXPIRES: Final = re.compile(r"[0-9]{1,12}")
_INDEX: Final = re.compile(r"[0-9]{1,4}")
_GENERATION_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_RANGE: Final = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
_INLINE_TYPES: Final = ("image/", "video/", "audio/")
_log = structlog.get_logger()


class MediaRoutes:
    """Routes of media links: GET and HEAD of `/media/{generation}/{index}`.

    `now` gives the time of day, aware.
    """

    def __init__(
        self,
        links: MediaLinkSigner,
        store: MediaStore,
        now: Callable[[], datetime],
        scheduler: FairScheduler,
    ) -> None:
        self._links = links
        self._scheduler = scheduler
        self._store = store
        self._now = now
        self._reading = 0
        self._pending_writes: dict[asyncio.Transport, float] = {}
        """Since when each reader's chunk is being written, the oldest first."""

    def routes(self) -> list[web.RouteDef]:
        """The route, for the public port."""
        return [web.get(f"{MEDIA_PATH}/{{generation}}/{{index}}", self.read)]

    async def read(self, request: web.Request) -> web.StreamResponse:
        """Serve one file, or a range of it."""
        if self._reading >= _MAX_READERS and not self._abort_slowest():
            return web.Response(status=503, headers={hdrs.RETRY_AFTER: "1"})
        self._reading += 1
        try:
            response = await self._read(request)
        except StorageFailed:
            response = web.Response(status=503)
        finally:
            self._reading -= 1
        metrics.media_reads.labels(str(response.status)).inc()
        return response

    def _abort_slowest(self) -> bool:
        """Abort the reader that has been stalled for longest. False: none is stalled."""
        slowest, since = next(iter(self._pending_writes.items()), (None, 0.0))
        late = asyncio.get_running_loop().time() - since >= _WRITE_TIMEOUT_WHEN_FULL
        if slowest is None or not late:
            return False
        del self._pending_writes[slowest]
        slowest.abort()
        return True

    async def _read(self, request: web.Request) -> web.StreamResponse:
        generation_id, index = request.match_info["generation"], request.match_info["index"]
        status = self._refused_status(generation_id, index, request.query)
        if status:
            return web.Response(status=status)
        mark_recognized(request)
        key = output_key(generation_id, int(index))
        stored = await self._store.find(key)
        if stored is None:
            return web.Response(status=404)
        headers = _headers(stored, f"{generation_id}-{index}")
        left = int(request.query["expires"]) - int(self._now().timestamp())
        headers[hdrs.CACHE_CONTROL] = f"private, max-age={left}"
        etag = headers.get(hdrs.ETAG)
        if etag and etag in request.headers.get(hdrs.IF_NONE_MATCH, ""):
            return web.Response(status=304, headers=headers)
        requested = _requested_range(request, stored.size, etag)
        if requested is None:
            headers = {hdrs.CONTENT_RANGE: f"bytes */{stored.size}"}
            return web.Response(status=416, headers=headers)
        is_full = requested == range(stored.size)
        if not is_full:
            headers[hdrs.CONTENT_RANGE] = (
                f"bytes {requested.start}-{requested.stop - 1}/{stored.size}"
            )
        response = web.StreamResponse(status=200 if is_full else 206, headers=headers)
        response.content_length = len(requested)
        await response.prepare(request)
        if request.method != hdrs.METH_HEAD:
            await self._send(request, response, key, requested)
        return response

    def _refused_status(self, generation_id: str, index: str, query: Mapping[str, str]) -> int:
        """HTTP status for a link that is not valid or has expired; 0: it is valid."""
        expires, signature = query.get("expires", ""), query.get("signature", "")
        written = _GENERATION_ID.fullmatch(generation_id) and _INDEX.fullmatch(index)
        if not (written and _EXPIRES.fullmatch(expires)):
            return 404
        if not self._links.is_valid(generation_id, index, expires, signature):
            return 404
        return 410 if int(expires) <= self._now().timestamp() else 0

    async def _send(
        self, request: web.Request, response: web.StreamResponse, key: str, requested: range
    ) -> None:
        """Send the bytes. A read that fails ends the connection before its announced length."""
        transport = request.transport
        if transport is None:
            return  # The reader has gone already.
        transfer = StreamBandwidth(self._scheduler, _READERS)
        try:
            async for piece in self._store.read(key, requested.start, len(requested)):
                if transfer.add(len(piece)):
                    await transfer.turn()
                self._pending_writes.pop(transport, None)
                self._pending_writes[transport] = asyncio.get_running_loop().time()
                async with asyncio.timeout(_WRITE_TIMEOUT):
                    await response.write(piece)
            await response.write_eof()
        except ConnectionError:
            return  # The reader has gone: that is theirs to decide.
        except (StorageFailed, TimeoutError) as error:
            _log.warning("media_read_interrupted", output=key, error=type(error).__name__)
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._pending_writes.pop(transport, None)


def _headers(stored: StoredFile, name: str) -> dict[str, str]:
    media_type = stored.metadata.get("media_type", "application/octet-stream")
    is_inline = media_type.startswith(_INLINE_TYPES) and not media_type.startswith("image/svg")
    headers = {
        hdrs.CONTENT_TYPE: media_type,
        hdrs.ACCEPT_RANGES: "bytes",
        hdrs.CONTENT_DISPOSITION: f'{"inline" if is_inline else "attachment"}; filename="{name}"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    if sha256 := stored.metadata.get("sha256"):
        headers[hdrs.ETAG] = f'"{sha256}"'
    return headers


def _requested_range(request: web.Request, size: int, etag: str | None) -> range | None:
    """The requested byte range; None: it lies outside the file.

    The full file where there is no range, where there are several, or If-Range names another file.
    """
    full = range(size)
    header = _RANGE.fullmatch(request.headers.get(hdrs.RANGE, "").replace(" ", ""))
    if not header or header[0] == "bytes=-":
        return full
    if request.headers.get(hdrs.IF_RANGE, etag) != etag:
        return full
    first, last = header.groups()
    if not first:
        requested = range(max(size - int(last), 0), size)
    elif last and int(last) < int(first):
        return full  # Not a range by the rules, so as if there were none.
    else:
        requested = range(int(first), min(int(last) + 1, size) if last else size)
    return requested or None
