"""File responses with HTTP range support."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from mediagate_sandbox.api_errors import ApiError


class StoredFile(web.FileResponse):
    """File response from disk, not read into memory, with ranges."""

    def __init__(self, path: Path, headers: Mapping[str, str]) -> None:
        """Create the response of the file at `path`."""
        super().__init__(path, headers=headers)
        self._file = path

    async def read(self, request: web.Request) -> web.Response:
        """Return the same response with its bytes read, for faults that change them."""
        content = await asyncio.to_thread(self._file.read_bytes)
        return requested_range(request, content, self.headers)


def requested_range(
    request: web.Request, content: bytes, headers: Mapping[str, str]
) -> web.Response:
    """Return a response with `content`, or with the requested range of it.

    Raises ApiError (416) if there is nothing of that range.
    """
    status, body, all_headers = 200, content, {**headers, "Accept-Ranges": "bytes"}
    requested = _range(request, len(content))
    if requested is not None:
        status, body = 206, content[requested]
        all_headers["Content-Range"] = (
            f"bytes {requested.start}-{requested.stop - 1}/{len(content)}"
        )
    return web.Response(body=body, status=status, headers=all_headers)


def _range(request: web.Request, length: int) -> slice | None:
    """Return the requested range; None without one. Raises ApiError (416) outside the file."""
    try:
        start, stop, _ = request.http_range.indices(length)
    except ValueError:
        return None
    if "Range" not in request.headers:
        return None
    if start >= stop:
        headers = {"Content-Range": f"bytes */{length}"}
        raise ApiError(416, "The requested range is not in this file.", headers=headers)
    return slice(start, stop)
