"""Temporary files for incoming media: written off the event loop, size-limited and hashed.

A file that no store took is deleted when its block ends, and what a crash left at the next start.
"""

import asyncio
import hashlib
import os
import secrets
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from mediagate_server.media.media_store import CHUNK_BYTES, storage_failed
from mediagate_server.media_type import HEAD_BYTES
from mediagate_server.runtime.private_files import make_private_folder


class FileTooLarge(Exception):
    """A file exceeds its size limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"over {limit} bytes")
        self.limit = limit


class TempFiles:
    """Folder of temporary files. One process at a time."""

    def __init__(self, folder: Path) -> None:
        """Deletes what an earlier process left. OSError where the folder cannot be used."""
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        make_private_folder(folder)

    @asynccontextmanager
    async def create(self, limit: int) -> AsyncIterator["TempFile"]:
        """A new file of at most `limit` bytes; deleted at the end unless a store took it."""
        try:
            temp_file = TempFile(self._folder / secrets.token_hex(16), limit)
        except OSError:
            raise storage_failed("the disk does not take it") from None
        try:
            yield temp_file
        finally:
            await temp_file.close()

    @asynccontextmanager
    async def path(self) -> AsyncIterator[Path]:
        """A new path for a file that others write, and for files whose names begin so.

        Deleted at the end unless they were taken.
        """
        path = self._folder / secrets.token_hex(16)
        try:
            yield path
        finally:
            await asyncio.shield(asyncio.to_thread(_delete_all, path))


class TempFile:
    """Temporary file that is hashed while it is written."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.size = 0
        self.head = b""
        """First bytes, for media type sniffing."""
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._is_open = True
        # A caller may be cancelled while a thread writes: closing waits for it.
        self._file_lock = threading.Lock()
        self.limit = limit
        self._digest = hashlib.sha256()
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    @property
    def sha256(self) -> str:
        """Digest of the content, in lower-case hexadecimal, once `finish` has returned."""
        return self._digest.hexdigest()

    async def write(self, data: bytes) -> None:
        """Append bytes. Raises FileTooLarge, or StorageFailed where the disk does not take them."""
        self.size += len(data)
        if self.size > self.limit:
            raise FileTooLarge(self.limit)
        if len(self.head) < HEAD_BYTES:
            self.head += data[: HEAD_BYTES - len(self.head)]
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes >= CHUNK_BYTES:
            await _in_thread(self._flush)

    async def finish(self) -> None:
        """Flush and sync the complete file. Raises StorageFailed."""
        await _in_thread(lambda: self._flush(sync=True))

    async def close(self) -> None:
        """Close and delete the file, unless a store took it."""
        # Shielded: a cancelled caller must not leave a file behind.
        await asyncio.shield(asyncio.to_thread(self._close))

    def _flush(self, *, sync: bool = False) -> None:
        with self._file_lock:
            if not self._is_open:
                return
            pending, self._pending, self._pending_bytes = self._pending, [], 0
            for data in pending:
                self._digest.update(data)
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(self._file, rest) :]
            if sync:
                os.fsync(self._file)

    def _close(self) -> None:
        with self._file_lock:
            if self._is_open:
                self._is_open = False
                os.close(self._file)
            self.path.unlink(missing_ok=True)


def _delete_all(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink(missing_ok=True)


async def _in_thread(work: Callable[[], None]) -> None:
    try:
        await asyncio.to_thread(work)
    except OSError:
        raise storage_failed("the disk does not take it") from None
