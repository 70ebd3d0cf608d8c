"""Responses with the files of a cassette."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

from aiohttp import web

from mediagate_sandbox.api_errors import ApiError
from mediagate_sandbox.cassettes.cassette_file import MediaFile
from mediagate_sandbox.range_responses import StoredFile, conditional_response, requested_range

_LARGE = 64 * 1024 * 1024


async def file_response(
    request: web.Request, status: int, headers: Mapping[str, str], file: MediaFile | None
) -> web.StreamResponse:
    """Return the response with a file, or with a part of it; one that is large is not read.

    Raises ApiError where there is no file: its download had another status.
    """
    if file is None:
        raise ApiError(status, "The file could not be downloaded when it was recorded.")
    headers = {**headers, "Access-Control-Allow-Origin": "*"}
    if file.size > _LARGE:
        return StoredFile(file.path, headers)
    content = await asyncio.to_thread(file.path.read_bytes)
    etag, modified = headers.get("ETag", ""), _parse_date(headers.get("Last-Modified", ""))
    if not etag.startswith('"') or modified is None:
        return requested_range(request, content, headers)
    return conditional_response(
        request, content, headers, etag=etag.strip('"'), last_modified=modified
    )


def _parse_date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except ValueError:
        return None
