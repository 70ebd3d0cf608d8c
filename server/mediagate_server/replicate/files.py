"""Files for models: the multipart body that uploads one, and what upstream answers to it.

The body is written here, by hand, because the SDK would read the whole file into memory, on the
event loop, and then fail on answers that lack fields which Replicate no longer sends.
"""

import secrets
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urlsplit

from mediagate_server.replicate.decoding import instant_of
from mediagate_server.replicate.json_parsing import parse_object
from mediagate_server.replicate.port import FileToUpload, NoAnswer, UploadedFile

_LONGEST_LINK: Final = 2_048


class Multipart:
    """The body of one upload. `length` in bytes and `content_type` belong into its headers."""

    def __init__(self, file: FileToUpload) -> None:
        boundary = secrets.token_hex(16)
        self._file = file
        self._head = (
            f"--{boundary}\r\n"
            f'Content-Disposition: form-data; name="content"; filename="{file.name}"\r\n'
            f"Content-Type: {file.media_type}\r\n\r\n"
        ).encode("ascii")
        self._tail = f"\r\n--{boundary}--\r\n".encode("ascii")
        self.length = len(self._head) + file.size + len(self._tail)
        self.content_type = f"multipart/form-data; boundary={boundary}"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._head
        async for piece in self._file.content():
            yield piece
        yield self._tail


def decode_file(body: bytes) -> UploadedFile:
    """Where models find the file. NoAnswer where the answer does not say."""
    try:
        document = parse_object(body).members
        link = document["urls"]["get"]
        expires_at = document.get("expires_at")
        parts = urlsplit(link if isinstance(link, str) else "")
    except (ValueError, TypeError, KeyError) as unreadable:
        raise NoAnswer("the answer names no file") from unreadable
    if parts.scheme not in ("http", "https") or not parts.hostname or len(link) > _LONGEST_LINK:
        raise NoAnswer("the answer names no file")
    return UploadedFile(link, instant_of(expires_at))
