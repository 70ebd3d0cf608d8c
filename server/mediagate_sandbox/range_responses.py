"""File responses with HTTP ranges, validators (ETag, Last-Modified) and conditional requests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime
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


def conditional_response(
    request: web.Request,
    content: bytes,
    headers: Mapping[str, str],
    *,
    etag: str,
    last_modified: datetime,
) -> web.Response:
    """Return the file, a range of it, or what the request's preconditions ask for (RFC 9110).

    `etag` is without quotes. 304: the caller has this file (`If-None-Match`, which goes before
    `If-Modified-Since`). Raises ApiError: 412 if it wants another file, 416 as `requested_range`.
    """
    # HTTP dates have whole seconds.
    modified = last_modified.replace(microsecond=0)
    validators = {"ETag": f'"{etag}"', "Last-Modified": format_datetime(modified, usegmt=True)}
    if _is_another_file(request, etag, modified):
        raise ApiError(412, "The file is not the one that is asked for.", headers=validators)
    all_headers = {**headers, **validators}
    if _is_not_modified(request, etag, modified):
        return web.Response(status=304, headers=all_headers)
    if_range = request.headers.get("If-Range")
    if if_range is not None and if_range not in (validators["ETag"], validators["Last-Modified"]):
        return web.Response(body=content, headers={**all_headers, "Accept-Ranges": "bytes"})
    return requested_range(request, content, all_headers)


def _is_another_file(request: web.Request, etag: str, modified: datetime) -> bool:
    """Whether `If-Match`, or else `If-Unmodified-Since`, rules this file out."""
    wanted = request.if_match
    if wanted is not None:
        return not any(each.value in ("*", etag) and not each.is_weak for each in wanted)
    since = request.if_unmodified_since
    return since is not None and modified > since


def _is_not_modified(request: web.Request, etag: str, modified: datetime) -> bool:
    known = request.if_none_match
    if known is not None:
        return any(each.value in ("*", etag) for each in known)
    since = request.if_modified_since
    return since is not None and modified <= since


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
