"""Files that callers upload: on disk in a folder of the sandbox's own, for a day, found by id.

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
    """One file, as it was taken in."""

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
    """More bytes than a file may have."""


class IncomingUpload:
    """A file that is being written. It is gone at the end, unless it was kept."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        """Write to `path`, at most so many bytes."""
        self.path = path
        self.size = 0
        self.sha256 = hashlib.sha256()
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.kept = False
        self._most_bytes = most_bytes
        self._buffer = bytearray()
        self._file = path.open("wb")

    async def write(self, chunk: bytes) -> None:
        """Add bytes. Raises FileTooLargeError before it keeps too many."""
        self.size += len(chunk)
        if self.size > self._most_bytes:
            raise FileTooLargeError
        self._buffer += chunk
        if len(self._buffer) >= _WRITE_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Put on disk what was collected, off the event loop."""
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
        if not self.kept:
            self.path.unlink()


class Uploads:
    """All uploaded files of one sandbox."""

    def __init__(self, folder: Path, clock: Clock, settings: SandboxSettings) -> None:
        """Keep files in `folder`, which belongs to the caller."""
        self._folder = folder
        self._clock = clock
        self._lifetime = timedelta(seconds=settings.upload_retention)
        self._most_bytes = settings.max_upload_bytes
        self._keep_bytes = settings.keep_upload_bytes
        self._key = secrets.token_bytes(32)
        self._kept: dict[str, Upload] = {}
        self._last = 0

    @contextmanager
    def incoming(self) -> Iterator[IncomingUpload]:
        """A file to write to."""
        with IncomingUpload(self._folder / uuid.uuid4().hex, self._most_bytes) as incoming:
            yield incoming

    async def keep(
        self, incoming: IncomingUpload, name: str, content_type: str, metadata: Mapping[str, Any]
    ) -> Upload:
        """Make an upload of what was written. The oldest ones go if there is too much."""
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
        incoming.kept = True
        self._kept[upload.id] = upload
        self._forget()
        return upload

    def find(self, upload_id: str) -> Upload | None:
        """The file with this id, if it is there and has not expired."""
        self._forget()
        return self._kept.get(upload_id)

    def newest_first(self) -> list[Upload]:
        """All files, the last one first."""
        self._forget()
        return list(reversed(self._kept.values()))

    def delete(self, upload: Upload) -> None:
        """Forget a file, and its bytes."""
        del self._kept[upload.id]
        upload.path.unlink()

    def clear(self) -> None:
        """Forget all files, and their bytes."""
        for upload in list(self._kept.values()):
            self.delete(upload)

    def signature(self, upload_id: str, owner: str, expiry: int) -> str:
        """What a download link must carry."""
        signed = f"{owner} {upload_id} {expiry}".encode()
        return base64.b64encode(hmac.digest(self._key, signed, hashlib.sha256)).decode()

    def _forget(self) -> None:
        """Drop what has expired, then the oldest until the rest has room. Oldest come first."""
        now, room = self._clock.now(), self._keep_bytes
        total = sum(each.size for each in self._kept.values())
        for upload in list(self._kept.values()):
            if now < upload.expires_at and (total <= room or len(self._kept) == 1):
                return
            total -= upload.size
            self.delete(upload)
