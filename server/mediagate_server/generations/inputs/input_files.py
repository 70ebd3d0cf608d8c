"""Upload of input files to upstream, so that models can read them: small ones within the request,
others by its files API, once for as long as upstream keeps them.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self
from weakref import WeakValueDictionary

from mediagate_server.catalog.planning.request_media import MAX_DATA_URI_BYTES, to_data_uri
from mediagate_server.errors import (
    MediaTooLarge,
    UpstreamAccountError,
    UpstreamUnavailable,
    Violation,
)
from mediagate_server.upstream.port import (
    FileToUpload,
    NoResponse,
    RefusalReason,
    RequestRefused,
    UploadedFile,
    Upstream,
)

MAX_FILE_BYTES: Final = 100_000_000
"""Bytes that Replicate's files API takes."""

_LARGEST_WITHIN: Final = 3 * 1024 * 1024
"""Bytes that may go within the request where upstream has no files API."""

_LEAST_LIFE: Final = timedelta(hours=1)
"""What is handed over must be readable for so long: a run may wait in more than one queue."""

_SURE_LIFE: Final = timedelta(hours=2)
"""How long a file is counted on where upstream does not say."""

_MOST_REMEMBERED: Final = 10_000
_ENDINGS: Final = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/gif": "gif",
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/webm": "webm",
    "audio/wav": "wav",
    "audio/mpeg": "mp3",
    "audio/flac": "flac",
    "audio/ogg": "ogg",
    "audio/mp4": "m4a",
}


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to hand over. `key` names its content: the same key is never other bytes."""

    key: str
    size: int
    media_type: str
    content: Callable[[], AsyncIterator[bytes]]

    @classmethod
    def of_bytes(cls, data: bytes, media_type: str) -> Self:
        """A file that is in memory."""

        async def content() -> AsyncIterator[bytes]:
            yield data

        return cls(f"sha256/{hashlib.sha256(data).hexdigest()}", len(data), media_type, content)


class InputFileUploader:
    """Remembers what upstream has. For one event loop and one upstream account."""

    def __init__(self, upstream: Upstream, now: Callable[[], datetime]) -> None:
        self._upstream = upstream
        self._now = now
        self._handed: OrderedDict[str, UploadedFile] = OrderedDict()
        self._under_way: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def link(self, file: InputFile) -> str:
        """A link, or a data URI, that models can read.

        Raises MediaTooLarge, UpstreamUnavailable, UpstreamAccountError.
        """
        if file.size <= MAX_DATA_URI_BYTES:
            return await _within(file)
        if file.size > MAX_FILE_BYTES:
            raise MediaTooLarge(
                Violation("", f"is over the {MAX_FILE_BYTES:,} bytes a model may get")
            )
        # Many requests may want the same file at once: it is sent by the first.
        lock = self._under_way.setdefault(file.key, asyncio.Lock())
        async with lock:
            handed = self._handed.get(file.key)
            if handed is None or self._is_old(handed):
                try:
                    handed = await self._hand_over(file)
                except RequestRefused as refused:
                    if file.size <= _LARGEST_WITHIN and refused.refusal in _NO_FILES:
                        return await _within(file)
                    raise _told(refused) from refused
                except NoResponse as none:
                    raise UpstreamUnavailable(
                        "upstream did not take a file", retry_after=5.0
                    ) from none
                self._remember(file.key, handed)
        return handed.link

    async def _hand_over(self, file: InputFile) -> UploadedFile:
        name = f"input.{_ENDINGS.get(file.media_type, 'bin')}"
        return await self._upstream.upload_file(
            FileToUpload(name, file.media_type, file.size, file.content)
        )

    def _remember(self, key: str, handed: UploadedFile) -> None:
        if handed.expires_at is None:
            handed = UploadedFile(handed.link, self._now() + _SURE_LIFE)
        self._handed[key] = handed
        self._handed.move_to_end(key)
        while len(self._handed) > _MOST_REMEMBERED:
            self._handed.popitem(last=False)

    def _is_old(self, handed: UploadedFile) -> bool:
        return handed.expires_at is not None and handed.expires_at - self._now() < _LEAST_LIFE


_NO_FILES: Final = frozenset({RefusalReason.NOT_FOUND, RefusalReason.OTHER})
"""How an upstream answers that has no files API."""


async def _within(file: InputFile) -> str:
    return to_data_uri(b"".join([piece async for piece in file.content()]), file.media_type)


def _told(refused: RequestRefused) -> MediaTooLarge | UpstreamUnavailable | UpstreamAccountError:
    """What callers are told; never upstream's words."""
    match refused.refusal:
        case RefusalReason.ACCOUNT:
            return UpstreamAccountError("upstream refuses the server's account", retry_after=60.0)
        case RefusalReason.INPUT | RefusalReason.NOT_FOUND | RefusalReason.OTHER:
            return MediaTooLarge(Violation("", "is not taken by upstream; give a URL instead"))
        case RefusalReason.UNREACHABLE:
            return UpstreamUnavailable.unreachable()
        case RefusalReason.THROTTLED:
            return UpstreamUnavailable(
                "upstream takes no files now", retry_after=refused.retry_after or 5.0
            )
