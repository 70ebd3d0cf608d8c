"""Uploaded files: on disk in a temporary folder, for a day, by id.

They are written as they come in, so that a large one costs no memory.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mediagate_sandbox.clock import Clock
from mediagate_sandbox.settings import SandboxSettings

OWNER = "sandbox"
"""Who owns every file, by the name that its download link carries."""

_WRITE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Upload:
    """One uploaded file."""

    number: int
    id: str
    name: str
    content_type: str
    size: int
    sha256: str
    md5: str
    metadata: Mapping[str, Any]
    created_at: datetime
    expires_at: datetime
    path: Path


class FileTooLargeError(Exception):
    """The file is over the size limit."""


class IncomingUpload:
    """A file being written. It is deleted at the end unless it was stored."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        """Write to `path`, at most so many bytes."""
        self.path = path
        self.size = 0
        self.sha256 = hashlib.sha256()
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.is_stored = False
        self._most_bytes = most_bytes
        self._buffer = bytearray()
        self._file = path.open("wb")

    async def write(self, chunk: bytes) -> None:
        """Write bytes. Raises FileTooLargeError before the limit is exceeded."""
        self.size += len(chunk)
        if self.size > self._most_bytes:
            raise FileTooLargeError
        self._buffer += chunk
        if len(self._buffer) >= _WRITE_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Write the buffer to disk, off the event loop."""
        collected, self._buffer = bytes(self._buffer), bytearray()
        await asyncio.to_thread(self._store, collected)

    def _store(self, content: bytes) -> None:
        self._file.write(content)
        self._file.flush()
        self.sha256.update(content)
        self.md5.update(content)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        if not self.is_stored:
            self.path.unlink()


class Uploads:
    """All uploaded files of one sandbox."""

    def __init__(self, folder: Path, clock: Clock, settings: SandboxSettings) -> None:
        """Store files in `folder`, which belongs to the caller."""
        self._folder = folder
        self._clock = clock
        self._lifetime = timedelta(seconds=settings.upload_retention)
        self._most_bytes = settings.max_upload_bytes
        self._max_stored_bytes = settings.keep_upload_bytes
        self._key = secrets.token_bytes(32)
        self._uploads: dict[str, Upload] = {}
        self._last = 0

    @contextmanager
    def incoming(self) -> Iterator[IncomingUpload]:
        """Context manager: a new file to write to."""
        with IncomingUpload(self._folder / uuid.uuid4().hex, self._most_bytes) as incoming:
            yield incoming

    async def store(
        self, incoming: IncomingUpload, name: str, content_type: str, metadata: Mapping[str, Any]
    ) -> Upload:
        """Store a written file as an upload. The oldest ones are deleted over the limit."""
        await incoming.flush()
        now = self._clock.now()
        self._last += 1
        upload = Upload(
            number=self._last,
            # The ids of recorded answers are UUIDs, their text in base64.
            id=base64.b64encode(str(uuid.uuid4()).encode()).decode(),
            name=name,
            content_type=content_type,
            size=incoming.size,
            sha256=incoming.sha256.hexdigest(),
            md5=incoming.md5.hexdigest(),
            metadata=metadata,
            created_at=now,
            expires_at=now + self._lifetime,
            path=incoming.path,
        )
        incoming.is_stored = True
        self._uploads[upload.id] = upload
        self._forget()
        return upload

    def find(self, upload_id: str) -> Upload | None:
        """Find a file by id, unless it has expired."""
        self._forget()
        return self._uploads.get(upload_id)

    def newest_first(self) -> list[Upload]:
        """Return all files, the last one first."""
        self._forget()
        return list(reversed(self._uploads.values()))

    def delete(self, upload: Upload) -> None:
        """Delete a file."""
        del self._uploads[upload.id]
        upload.path.unlink()

    def clear(self) -> None:
        """Delete all files."""
        for upload in list(self._uploads.values()):
            self.delete(upload)

    def signature(self, upload_id: str, owner: str, expiry: int) -> str:
        """Return the signature of a download link."""
        signed = f"{owner} {upload_id} {expiry}".encode()
        return base64.b64encode(hmac.digest(self._key, signed, hashlib.sha256)).decode()

    def _forget(self) -> None:
        """Delete expired files, then the oldest ones over the limit. Oldest come first."""
        now, room = self._clock.now(), self._max_stored_bytes
        total = sum(each.size for each in self._uploads.values())
        for upload in list(self._uploads.values()):
            if now < upload.expires_at and (total <= room or len(self._uploads) == 1):
                return
            total -= upload.size
            self.delete(upload)
