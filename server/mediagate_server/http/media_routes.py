"""Kept media on the web port: who has a link that was minted here reads one file, until it expires.

Whole or in ranges (RFC 9110), so that players can seek. What models make is hostile until proven
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
from mediagate_server.media.port import MediaStore, StorageFailed, StoredFile, output_key
from mediagate_server.media.signed_links import MEDIA_PATH, MediaLinkSigner
from mediagate_server.observability import metrics
from mediagate_server.runtime.fair_scheduler import FairScheduler, StreamBandwidth

_MOST_AT_ONCE: Final = 256
_PATIENCE: Final = 60.0
"""Seconds that a reader may take for one piece."""
_PATIENCE_WHEN_FULL: Final = 3.0
"""The same while others wait for its place: readers that take nothing keep nobody else out."""
_READERS: Final = "readers of links"
"""Who reads here shows no key: all of them share the event loop's time as one tenant."""
_EXPIRES: Final = re.compile(r"[0-9]{1,12}")
_INDEX: Final = re.compile(r"[0-9]{1,4}")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_RANGE: Final = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
_SHOWN: Final = ("image/", "video/", "audio/")
_log = structlog.get_logger()


class MediaRoutes:
    """GET and HEAD of `/media/{generation}/{index}`. `now` gives the time of day, aware."""

    def __init__(
        self,
        links: MediaLinkSigner,
        store: MediaStore,
        now: Callable[[], datetime],
        share: FairScheduler,
    ) -> None:
        self._links = links
        self._share = share
        self._store = store
        self._now = now
        self._reading = 0
        self._pieces: dict[asyncio.Transport, float] = {}
        """Since when each reader's piece is on its way, the oldest first."""

    def routes(self) -> list[web.RouteDef]:
        """The one path, for the web port."""
        return [web.get(f"{MEDIA_PATH}/{{generation}}/{{index}}", self.read)]

    async def read(self, request: web.Request) -> web.StreamResponse:
        """One file, or a part of it."""
        if self._reading >= _MOST_AT_ONCE and not self._cut_slowest():
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

    def _cut_slowest(self) -> bool:
        """End the reader that has taken nothing for longest. False: all of them do read."""
        slowest, since = next(iter(self._pieces.items()), (None, 0.0))
        late = asyncio.get_running_loop().time() - since >= _PATIENCE_WHEN_FULL
        if slowest is None or not late:
            return False
        del self._pieces[slowest]
        slowest.abort()
        return True

    async def _read(self, request: web.Request) -> web.StreamResponse:
        generation_id, index = request.match_info["generation"], request.match_info["index"]
        status = self._refusal(generation_id, index, request.query)
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
        part = _part(request, stored.size, etag)
        if part is None:
            headers = {hdrs.CONTENT_RANGE: f"bytes */{stored.size}"}
            return web.Response(status=416, headers=headers)
        is_whole = part == range(stored.size)
        if not is_whole:
            headers[hdrs.CONTENT_RANGE] = f"bytes {part.start}-{part.stop - 1}/{stored.size}"
        response = web.StreamResponse(status=200 if is_whole else 206, headers=headers)
        response.content_length = len(part)
        await response.prepare(request)
        if request.method != hdrs.METH_HEAD:
            await self._send(request, response, key, part)
        return response

    def _refusal(self, generation_id: str, index: str, query: Mapping[str, str]) -> int:
        """The status for a link that is none of ours, or is over; 0: it is good."""
        expires, signature = query.get("expires", ""), query.get("signature", "")
        written = _NAME.fullmatch(generation_id) and _INDEX.fullmatch(index)
        if not (written and _EXPIRES.fullmatch(expires)):
            return 404
        if not self._links.is_valid(generation_id, index, expires, signature):
            return 404
        return 410 if int(expires) <= self._now().timestamp() else 0

    async def _send(
        self, request: web.Request, response: web.StreamResponse, key: str, part: range
    ) -> None:
        """The bytes. What breaks off is seen as such: the connection ends before its length."""
        transport = request.transport
        if transport is None:
            return  # The reader has gone already.
        transfer = StreamBandwidth(self._share, _READERS)
        try:
            async for piece in self._store.read(key, part.start, len(part)):
                if transfer.add(len(piece)):
                    await transfer.turn()
                self._pieces.pop(transport, None)
                self._pieces[transport] = asyncio.get_running_loop().time()
                async with asyncio.timeout(_PATIENCE):
                    await response.write(piece)
            await response.write_eof()
        except ConnectionError:
            return  # The reader has gone: that is theirs to decide.
        except (StorageFailed, TimeoutError) as error:
            _log.warning("media_read_interrupted", output=key, error=type(error).__name__)
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._pieces.pop(transport, None)


def _headers(stored: StoredFile, name: str) -> dict[str, str]:
    media_type = stored.metadata.get("media_type", "application/octet-stream")
    shown = media_type.startswith(_SHOWN) and not media_type.startswith("image/svg")
    headers = {
        hdrs.CONTENT_TYPE: media_type,
        hdrs.ACCEPT_RANGES: "bytes",
        hdrs.CONTENT_DISPOSITION: f'{"inline" if shown else "attachment"}; filename="{name}"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    if sha256 := stored.metadata.get("sha256"):
        headers[hdrs.ETAG] = f'"{sha256}"'
    return headers


def _part(request: web.Request, size: int, etag: str | None) -> range | None:
    """Which bytes were asked for; None: none that there are.

    All of them where several ranges are asked for, or the range is of another file or none.
    """
    whole = range(size)
    asked = _RANGE.fullmatch(request.headers.get(hdrs.RANGE, "").replace(" ", ""))
    if not asked or asked[0] == "bytes=-":
        return whole
    if request.headers.get(hdrs.IF_RANGE, etag) != etag:
        return whole
    first, last = asked.groups()
    if not first:
        part = range(max(size - int(last), 0), size)
    elif last and int(last) < int(first):
        return whole  # Not a range by the rules, so as if there were none.
    else:
        part = range(int(first), min(int(last) + 1, size) if last else size)
    return part or None
