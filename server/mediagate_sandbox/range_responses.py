"""Answers that hold a file's bytes: all of them, or the range that was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from mediagate_sandbox.api_errors import ApiError


class StoredFile(web.FileResponse):
    """A file on disk, sent without being read into memory, by ranges as well."""

    def __init__(self, path: Path, headers: Mapping[str, str]) -> None:
        """Send the file at `path`."""
        super().__init__(path, headers=headers)
        self._place = path

    async def read(self, request: web.Request) -> web.Response:
        """The same answer with its bytes in hand, for who does not want them sent as they are."""
        content = await asyncio.to_thread(self._place.read_bytes)
        return requested_range(request, content, self.headers)


def requested_range(
    request: web.Request, content: bytes, headers: Mapping[str, str]
) -> web.Response:
    """The answer with `content`, or with the range of it that the request asks for.

    Raises Problem (416) if there is nothing of that range.
    """
    status, part, told = 200, content, {**headers, "Accept-Ranges": "bytes"}
    asked = _range(request, len(content))
    if asked is not None:
        status, part = 206, content[asked]
        told["Content-Range"] = f"bytes {asked.start}-{asked.stop - 1}/{len(content)}"
    return web.Response(body=part, status=status, headers=told)


def _range(request: web.Request, length: int) -> slice | None:
    """The part asked for, or None for the whole. Raises Problem (416) if there is none of it."""
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
